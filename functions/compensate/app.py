"""Compensate: remove the relationships that this operation registered, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import CompensateStep
from saga_spicedb import spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Undo the register of a ``CompensateStep``, under its own fence; or clear what an interrupted create left.

    Returns ``{removed}``: false where nothing of that operation was left, which is not an error.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = CompensateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    if step.stale:
        removed = spicedb().clear(schedule_id, step.stale.registration, deadline)
        logger.warning("stale registration cleared", schedule_id=schedule_id, stale=step.stale, removed=removed)
        count("StaleCleared")
    else:
        removed = spicedb().remove(schedule_id, step.registration, deadline)
        logger.warning("create compensated", schedule_id=schedule_id, removed=removed)
        count("Compensated")
    return {"removed": removed}
