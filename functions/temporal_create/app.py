"""Temporal create: the schedule is made, with the operation's registration as request id and in its memo."""

from saga_core.deadlines import Deadline
from saga_core.models import Memo, TemporalCreateStep
from saga_core.observability import Answer, Context, Event, count, logger, saga_step
from saga_core.settings import call_settings
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Create the schedule of a ``TemporalCreateStep``; a repeat by the same execution is no error.

    A first attempt that holds the name in SpiceDB replaces a stray: a schedule with a creator whose registration is
    gone, so that nobody owns it.

    Answers ``{repeated}``: whether there was an attempt before, so that a delete may have come in between.

    Raises:
        InvalidRequest, ScheduleRejected, ScheduleAlreadyExists: this attempt made no schedule.
        TemporalUnavailable, ConfigurationError: whether it did is unknown.
    """
    step = TemporalCreateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    replaced = temporal().create(step.request, Memo.of(step), deadline, over_stray=step.registered and not step.attempt)
    if replaced:
        logger.warning("an unowned schedule was replaced", schedule_id=step.request.schedule_id, stray=replaced)
        count("StrayReplaced")
    return {"repeated": step.attempt > 0}
