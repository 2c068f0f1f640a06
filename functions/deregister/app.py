"""Deregister: remove the relationships of a deleted schedule, and no other operation's."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import DeregisterStep
from saga_spicedb import Removal, spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Remove every relationship of the schedule of a ``DeregisterStep``; or clear what ``stale`` left.

    Returns ``{removed, more, holder}``: removed says whether this call removed any; more is true where time ran out
    before everything was removed; holder is who else holds the name, null for nobody or where that was not looked at.
    Definitions of release 0.1 read ``{deregistered, again}``.

    Raises:
        InvalidRequest, AuthorizationUnavailable, ConfigurationError.
    """
    step = DeregisterStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    removal, holder = Removal.NOT_OURS, None
    if step.stale:
        removal = spicedb().clear(schedule_id, step.stale.registration, deadline)
        logger.warning("stale registration cleared", schedule_id=schedule_id, stale=step.stale, removal=removal)
        count("StaleCleared")
    elif step.registration:
        removal = spicedb().remove(schedule_id, step.registration, deadline)
    if removal is Removal.NOT_OURS and not step.stale:
        holder = spicedb().holder(schedule_id, deadline)
    return {
        "removed": removal is not Removal.NOT_OURS,
        "more": removal is Removal.MORE,
        "holder": holder.to_json() if holder else None,
        "deregistered": removal is Removal.DONE or (removal is Removal.NOT_OURS and holder is None),
        "again": True,
    }
