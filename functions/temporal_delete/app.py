"""Temporal delete: delete the schedule from Temporal, before its relationships are removed from SpiceDB."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, saga_step
from saga_core.settings import call_settings
from saga_core.steps import DeleteStep
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Delete the schedule of a ``DeleteStep``. A schedule that is not there is not an error.

    An earlier attempt may have deleted it, and another create may have used the name since: a repeated attempt deletes
    only the schedule that the machine has found.

    Returns ``{existed}``: whether this call deleted it.

    Raises:
        InvalidRequest: nothing was called.
        TemporalUnavailable, ConfigurationError: whether it was deleted is unknown.
    """
    step = DeleteStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    only = step.registration if step.attempt else None
    return {"existed": temporal().delete(step.request.schedule_id, deadline, only=only)}
