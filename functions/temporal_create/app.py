"""Temporal create: the schedule is made, with the operation's registration as request id and in its memo."""

from saga_core.deadlines import Deadline
from saga_core.models import CreateStep, Memo
from saga_core.observability import Answer, Context, Event, saga_step
from saga_core.settings import call_settings
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Create the schedule of a ``CreateStep`` in Temporal; a repeat by the same execution is no error.

    Answers ``{schedule_id}``.

    Raises:
        InvalidRequest, ScheduleRejected, ScheduleAlreadyExists: this operation made no schedule.
        TemporalUnavailable, ConfigurationError: whether it did is unknown.
    """
    step = CreateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    temporal().create(step.request, Memo.of(step), deadline)
    return {"schedule_id": step.request.schedule_id}
