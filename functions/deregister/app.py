"""Deregister: the relationships of a deleted schedule go, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.models import DeregisterStep
from saga_core.observability import Answer, Context, Event, count, logger, saga_step
from saga_core.settings import call_settings
from saga_spicedb import spicedb


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Remove every relationship of the schedule of a ``DeregisterStep``.

    With a registration, only where that operation registered it. Without one, only where no create is in flight.
    Answers ``{schedule_id, deregistered}``: deregistered is false where a create in flight holds the name.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = DeregisterStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    if step.registration:
        spicedb().remove(schedule_id, step.registration, deadline)
        deregistered = True
    else:
        deregistered = spicedb().remove_abandoned(schedule_id, deadline)
    if not deregistered:
        logger.warning("not deregistered: a create holds the name", schedule_id=schedule_id)
        count("DeregisterHeldBack")
    return {"schedule_id": schedule_id, "deregistered": deregistered}
