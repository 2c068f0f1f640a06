"""Deregister: remove the relationships of a deleted schedule, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import DeregisterStep
from saga_spicedb import spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Remove every relationship of the schedule of a ``DeregisterStep``.

    Returns ``{deregistered, again}``: deregistered is false where a create in flight holds the name; again is true
    where the create of the deleted schedule may still be in flight, so that the machine must look for it again.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = DeregisterStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    result = spicedb().deregister(schedule_id, step.registration, deadline)
    if not result.done:
        logger.warning("not deregistered: a create holds the name", schedule_id=schedule_id)
        count("DeregisterHeldBack")
    return {"deregistered": result.done, "again": result.again}
