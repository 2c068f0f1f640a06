"""Whether the answers of a storm can be true together."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache

from tests.saga.storm_executions import ExecutionResult

# The errors in the documented table that the requests of a storm can meet.
ERRORS = {
    "AuthorizationUnavailable",
    "CompensationFailed",
    "CreateInProgress",
    "IdempotencyKeyReused",
    "NameReserved",
    "OutcomeUnknown",
    "Sandbox.Timedout",
    "ScheduleAlreadyExists",
    "ScheduleNotFound",
    "ScheduleRejected",
    "States.Timeout",
    "TemporalUnavailable",
}


def is_plausible(answer: ExecutionResult, answers: Iterable[ExecutionResult]) -> bool:
    """Whether another create can be the cause of this answer: it began before this one was over."""
    asked = answer.request.body
    others = [
        other.request.body
        for other in answers
        if other is not answer and other.request.creates and other.began <= answer.ended
    ]
    if answer.error in ("ScheduleAlreadyExists", "CreateInProgress"):
        return bool(others)
    if answer.error == "IdempotencyKeyReused":
        return any(o.get("idempotency_key") == asked["idempotency_key"] and o != asked for o in others)
    if answer.error:
        return True
    if answer.request.creates:
        return not answer.output["replayed"] or asked in others
    return not answer.output["existed"] or bool(others)


def explains(answers: Iterable[ExecutionResult], repeated: Mapping[str, int], last: str | None) -> bool:
    """Whether there is an order of creates and deletes that explains their answers and the end.

    Each acts once, between its beginning and its end. A create that says that it made the schedule acts where there is
    none. One that says that it does not know may have done so, and its schedule stands. No other create counts, since
    its schedule may have come and gone. A delete leaves none. One that failed may have done nothing, and one that asked
    Temporal again (``repeated``: how often, by ARN) may have deleted as often.
    ``last`` is the ARN of the execution that made the schedule that is there in the end.
    """
    # (beginning, end, the ARN of what made the schedule that is there afterwards, whether it surely acted)
    acts: list[tuple[datetime, datetime, str | None, bool]] = []
    for answer in answers:
        if answer.made:
            acts.append((answer.began, answer.ended, answer.arn, True))
        elif answer.request.creates and not answer.finished:
            acts.append((answer.began, answer.ended, answer.arn, False))
        elif not answer.request.creates:
            acts.append((answer.began, answer.ended, None, not answer.error))
            acts += [(answer.began, answer.ended, None, False)] * repeated.get(answer.arn, 0)

    @cache
    def is_explained(done: frozenset[int], there: str | None) -> bool:
        left = [number for number in range(len(acts)) if number not in done]
        if not left:
            return there == last
        first_end = min(acts[number][1] for number in left)
        for number in left:
            began, _, leaves, surely = acts[number]
            if began > first_end:
                continue
            ends = {leaves} if leaves is None or there is None else set()
            if not surely:
                ends.add(there)
            if any(is_explained(done | {number}, end) for end in ends):
                return True
        return False

    return is_explained(frozenset(), None)
