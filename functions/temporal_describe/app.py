"""Temporal describe: what Temporal has under the schedule's name, and whether this operation made it."""

from saga_core.deadlines import Deadline
from saga_core.models import CreateStep, to_json
from saga_core.observability import Answer, Context, Event, saga_step
from saga_core.settings import call_settings
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Describe the schedule of a ``CreateStep``.

    Answers ``{exists, ours, schedule}``: ours tells whether the memo carries this execution's registration; schedule is
    a ``ScheduleView`` as JSON, or null unless it is ours.

    Raises:
        InvalidRequest, TemporalUnavailable, ConfigurationError.
    """
    step = CreateStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    found = temporal().describe(step.request.schedule_id, deadline)
    ours = found is not None and found.memo is not None and found.memo.registration == step.registration
    return {
        "exists": found is not None,
        "ours": ours,
        "schedule": to_json(found.schedule) if found and ours else None,
    }
