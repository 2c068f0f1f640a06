"""Register: the creator's ownership and the agent edge are written to SpiceDB, before Temporal is touched."""

from saga_core.deadlines import Deadline
from saga_core.models import RegisterStep, to_json
from saga_core.observability import Answer, Context, Event, count, logger, saga_step
from saga_core.settings import call_settings
from saga_spicedb import RegisterOutcome, spicedb


@saga_step
def handler(event: Event, context: Context) -> Answer:
    """Register the schedule of a ``RegisterStep``, or make sure that it is still registered (``repeat``).

    Answers ``{schedule_id, outcome, registered, holder}``: outcome is ``registered``, ``skipped`` (no creator can be
    resolved) or ``occupied`` (another operation's relationships are there; holder tells whose); registered tells
    whether a failure from here on has something to compensate.

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
        "holder": to_json(holder) if holder else None,
    }
