"""Temporal create: create the schedule, with the operation's registration as request id and in its memo."""

from saga_core.deadlines import Deadline
from saga_core.errors import ScheduleAlreadyExists, TemporalUnavailable, unknown_after
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings, memo_settings
from saga_core.steps import Memo, TemporalCreateStep
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Create the schedule of a ``TemporalCreateStep``; a repeat by the same execution is not an error.

    Returns ``{repeated}``: whether there was an earlier attempt, so that a delete may have happened in between.

    Raises:
        InvalidRequest, NameReserved, ScheduleRejected, ScheduleAlreadyExists: this attempt did not create a schedule.
        ConfigurationError: no attempt did.
        TemporalUnavailable: whether one did is unknown.
    """
    step = TemporalCreateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    memo = Memo.of(step, memo_settings().memo_version)
    try:
        with unknown_after(step.attempt, TemporalUnavailable):
            # Between two attempts a delete may have removed the registration.
            temporal().create(step.request, memo, deadline, holds_name=step.registered and not step.attempt)
    except ScheduleAlreadyExists as error:
        if error.unowned:
            logger.warning("a schedule has a creator and no registration", schedule_id=step.request.schedule_id)
            count("UnownedFound")
        raise
    return {"repeated": step.attempt > 0}
