"""Register: write the creator's ownership and the agent edge to SpiceDB, before Temporal is touched."""

from saga_core.deadlines import Deadline
from saga_core.errors import AuthorizationUnavailable, unknown_after
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import call_settings
from saga_core.steps import Holder, RegisterStep
from saga_spicedb import RegisterOutcome, spicedb


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Register the schedule of a ``RegisterStep``; or do the one thing about its registration that the step asks for.

    Returns ``{schedule_id, outcome, registered, holder}``: outcome is ``registered``, ``skipped`` (no creator can be
    resolved) or ``occupied`` (relationships of another operation, the holder, are there); registered says whether a
    failure from here on has something to compensate.

    Raises:
        InvalidRequest, AgentUpdateDenied, ConfigurationError: nothing was written.
        AuthorizationUnavailable: whether anything was written is unknown.
    """
    step = RegisterStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    with unknown_after(step.attempt, AuthorizationUnavailable):
        outcome, holder = _registered(step, deadline)
    if outcome is RegisterOutcome.SKIPPED and not step.repeat:
        logger.warning("registration skipped: no creator can be resolved", schedule_id=step.request.schedule_id)
        count("RegistrationSkipped")
    return {
        "schedule_id": step.request.schedule_id,
        "outcome": outcome,
        "registered": outcome is RegisterOutcome.REGISTERED,
        "holder": holder.to_json() if holder else None,
    }


def _registered(step: RegisterStep, deadline: Deadline) -> tuple[RegisterOutcome, Holder | None]:
    schedule_id = step.request.schedule_id
    if step.end_lease:
        spicedb().end_lease(schedule_id, step.registration, deadline)
        return RegisterOutcome.REGISTERED, None
    if step.restore:
        outcome, holder = spicedb().restore(schedule_id, step.registration, step.restore, deadline)
        logger.warning("registration restored", schedule_id=schedule_id, memo=step.restore, outcome=outcome)
        count("RegistrationRestored")
        return outcome, holder
    register = spicedb().register_again if step.repeat else spicedb().register
    return register(step.request, step.registration, step.execution_id, deadline)
