"""Temporal delete: the schedule goes, and its memo tells whose relationships may go after it."""

from saga_core.deadlines import Deadline
from saga_core.models import DeleteStep
from saga_core.observability import Answer, Context, Event, saga_step
from saga_core.settings import call_settings
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Delete the schedule of a ``DeleteStep``; an absent one is no error.

    Answers ``{schedule_id, existed, registration}``: registration is the fence in the memo of the schedule that was
    there; null where there was none, or one that this application did not make.

    Raises:
        InvalidRequest: nothing was called.
        TemporalUnavailable, ConfigurationError: whether it was deleted is unknown.
    """
    step = DeleteStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    schedule_id = step.request.schedule_id
    found = temporal().describe(schedule_id, deadline)
    existed = found is not None and temporal().delete(schedule_id, deadline)
    return {
        "schedule_id": schedule_id,
        "existed": existed,
        "registration": found.memo.registration if found and found.memo else None,
    }
