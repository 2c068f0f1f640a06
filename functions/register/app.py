"""Register: write the creator's ownership and the agent edge to SpiceDB, before Temporal is touched."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import RegisterStep
from saga_spicedb import RegisterOutcome, spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Register the schedule of a ``RegisterStep``, or ensure that it is still registered (``repeat``).

    Returns ``{schedule_id, outcome, registered, holder}``: outcome is ``registered``, ``skipped`` (no creator can be
    resolved) or ``occupied`` (relationships of another operation, the holder, are there); registered says whether a
    failure from here on has something to compensate.

    Raises:
        InvalidRequest, AgentUpdateDenied: nothing was written.
        AuthorizationUnavailable, ConfigurationError: whether anything was written is unknown.
    """
    step = RegisterStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    register = spicedb().register_again if step.repeat else spicedb().register
    outcome, holder = register(step.request, step.registration, step.execution_id, deadline)
    if outcome is RegisterOutcome.SKIPPED and not step.repeat:
        logger.warning("registration skipped: no creator can be resolved", schedule_id=step.request.schedule_id)
        count("RegistrationSkipped")
    return {
        "schedule_id": step.request.schedule_id,
        "outcome": outcome,
        "registered": outcome is RegisterOutcome.REGISTERED,
        "holder": holder.to_json() if holder else None,
    }
