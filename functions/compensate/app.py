"""Compensate: remove the relationships that this operation registered, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import CompensateStep
from saga_spicedb import Removal, spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Undo the register of a ``CompensateStep``, under its own fence; or clear what another operation left.

    Returns ``{removed, more}``: removed is false where nothing of that operation was left, which is not an error; more
    is true where time ran out before everything was removed.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = CompensateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    if step.stale:
        removal = spicedb().clear(schedule_id, step.stale.registration, deadline)
        logger.warning("stale registration cleared", schedule_id=schedule_id, stale=step.stale, removal=removal)
        count("StaleCleared")
    else:
        removal = spicedb().remove(schedule_id, step.registration, deadline)
        logger.warning("create compensated", schedule_id=schedule_id, removal=removal)
        count("Compensated")
    return {"removed": removal is not Removal.NOT_OURS, "more": removal is Removal.MORE}
