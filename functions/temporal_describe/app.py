"""Temporal describe: read what Temporal has under the schedule's name, and what that is to this operation."""

from saga_core.deadlines import Deadline
from saga_core.observability import Context, Event, Result, saga_step
from saga_core.settings import call_settings
from saga_core.steps import DescribeStep, Match
from saga_temporal import temporal


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Describe the schedule of a ``DescribeStep``.

    Returns ``{schedule_id, exists, match, registration, registered, schedule}``: match is a ``Match``; registration is
    what tells the schedule from others of its name (`Description.registration`), null where there is none; registered
    says whether the memo names a creator; schedule is a ``ScheduleView`` as JSON, null unless match is ``ours`` or
    ``replay``, and where it is too large.

    Raises:
        InvalidRequest, TemporalUnavailable, ConfigurationError.
    """
    step = DescribeStep.parse(event)
    deadline = Deadline.of(context, call_settings().rpc_timeout_seconds)
    found = temporal().describe(step.request.schedule_id, deadline)
    memo = found.memo if found else None
    match = step.match(memo) if found else Match.ABSENT
    return {
        "schedule_id": step.request.schedule_id,
        "exists": found is not None,
        "match": match,
        "registration": found.registration if found else None,
        "registered": memo is not None and memo.creator is not None,
        "schedule": found.schedule.for_output() if found and match in (Match.OURS, Match.REPLAY) else None,
    }
