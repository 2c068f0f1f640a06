"""Temporal delete: the schedule goes from Temporal, before its relationships go from SpiceDB."""

from saga_core.deadlines import Deadline
from saga_core.models import DeleteStep
from saga_core.observability import Answer, Context, Event, saga_step
from saga_core.settings import call_settings
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Delete the schedule of a ``DeleteStep``. That it is gone already is no error.

    Answers ``{existed}``: whether this call deleted it.

    Raises:
        InvalidRequest: nothing was called.
        TemporalUnavailable, ConfigurationError: whether it was deleted is unknown.
    """
    step = DeleteStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    return {"existed": temporal().delete(step.request.schedule_id, deadline)}
