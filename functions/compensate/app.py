"""Compensate: the relationships that this operation registered are removed, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.models import CreateStep
from saga_core.observability import Answer, Context, Event, count, logger, saga_step
from saga_core.settings import call_settings
from saga_spicedb import spicedb


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Undo the register of a ``CreateStep``, fenced by its registration.

    Answers ``{schedule_id, removed}``: removed is false where there was nothing of this operation, which is no error.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = CreateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    removed = spicedb().remove(schedule_id, step.registration, deadline)
    logger.warning("create compensated", schedule_id=schedule_id, removed=removed)
    count("Compensated")
    return {"schedule_id": schedule_id, "removed": removed}
