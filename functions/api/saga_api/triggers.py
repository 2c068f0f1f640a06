"""A trigger of a schedule: with an idempotency key it happens at most once.

Temporal cannot be leaned on for that: one of its schedulers forgets the request ids of triggers, another ignores them.
So a trigger with a key is recorded in SpiceDB before it is sent, with the fence of its schedule:

    absent  →  open   before the trigger is sent, if the fence is still the schedule's
    open    →  done   when Temporal has accepted it
    open    →  absent when Temporal has certainly not taken it

A repeat that finds the record done is replayed. One that finds it open sends nothing: the outcome is not known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from saga_api.schedules import described
from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.errors import (
    ConfigurationError,
    IdempotencyKeyReused,
    SagaError,
    ScheduleNotFound,
    TriggerOutcomeUnknown,
    TriggerUnconfirmed,
)
from saga_core.ids import Subject
from saga_core.observability import count, logger
from saga_core.views import ScheduleView
from saga_spicedb import TriggerRequest, spicedb
from saga_temporal import temporal


@dataclass(frozen=True)
class Triggered:
    """The result of a trigger.

    Attributes:
        schedule: as it is now.
        replayed: whether an earlier request with the same key had triggered it, and this one did not.
    """

    schedule: ScheduleView
    replayed: bool


def trigger(schedule_id: str, caller: Subject, key: str | None, deadline: Deadline) -> Triggered:
    """Trigger the schedule; with ``key`` only if this caller has not triggered it with this key in the last day.

    Raises:
        ScheduleNotFound: there is no such schedule. Nothing was triggered.
        IdempotencyKeyReused: the key was used for an earlier schedule of this name. Nothing was triggered.
        TriggerUnconfirmed: an earlier request with the key is in flight, or its outcome is not known. Nothing was
            triggered now.
        TooManyTriggers: Temporal takes no more triggers for now. Nothing was triggered.
        AuthorizationUnavailable: nothing could be recorded, and nothing was triggered.
        TemporalUnavailable: Temporal was not asked. Nothing was triggered.
        TriggerOutcomeUnknown: it may have been triggered. With a key, a repeat is harmless.
        ConfigurationError: SpiceDB has no fence of the schedule, or an engine refuses this application. Nothing was
            triggered.
    """
    if key is None:
        temporal().trigger(schedule_id, None, deadline)
        return Triggered(_read_after(schedule_id, deadline), replayed=False)
    record_id = ids.trigger_request(schedule_id, caller, key)
    fence = _fence(schedule_id, deadline)
    if found := spicedb().open_trigger_request(record_id, schedule_id, fence, deadline):
        return _repeated(schedule_id, fence, found, deadline)
    try:
        temporal().trigger(schedule_id, _request_id(record_id), deadline)
    except TriggerOutcomeUnknown:
        raise  # The record stays open.
    except SagaError:
        _note(spicedb().remove_trigger_request, record_id, fence, deadline)
        raise
    _note(spicedb().finish_trigger_request, record_id, fence, deadline)
    return Triggered(_read_after(schedule_id, deadline), replayed=False)


def _fence(schedule_id: str, deadline: Deadline) -> str:
    """The fence of the schedule.

    Raises:
        ScheduleNotFound: nothing holds its name any more.
        ConfigurationError: something does, without a fence. Only another application can have written that.
    """
    holder = spicedb().holder(schedule_id, deadline)
    if holder is None:
        raise ScheduleNotFound("schedule not found")
    if holder.registration is None:
        raise ConfigurationError(f"schedule {schedule_id} has no fence, so no trigger of it can be recorded")
    return holder.registration


def _request_id(record_id: str) -> str:
    """The request id of a trigger in Temporal: another one each day.

    A key may be used again after a day. A server that still knew the id would then accept the trigger and ignore it.
    """
    return f"{record_id}-{datetime.now(UTC):%Y-%m-%d}"


def _repeated(schedule_id: str, fence: str, found: TriggerRequest, deadline: Deadline) -> Triggered:
    """The result of a request whose key has a record already. Nothing is triggered."""
    if found.registration != fence:
        raise IdempotencyKeyReused("the key was used to trigger an earlier schedule of this name; use another key")
    schedule = described(schedule_id, deadline)
    if not found.done:
        raise TriggerUnconfirmed(
            "a trigger with this key was sent, and whether it took effect is not known. Compare data.last_action_time "
            "with the time of that request; to trigger again, use another key",
            schedule.last_action_time,
        )
    return Triggered(schedule, replayed=True)


def _note(change: Callable[[str, str, Deadline], bool], record_id: str, fence: str, deadline: Deadline) -> None:
    """Change the record of a trigger whose outcome is known now.

    If that fails, the caller still hears the outcome. A repeat then finds the record open.
    """
    try:
        reason = None if change(record_id, fence, deadline) else "the record is not open"
    except SagaError as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        logger.warning("record of a trigger not changed", record=record_id, change=change.__name__, reason=reason)
        count("TriggerLeftOpen")


def _read_after(schedule_id: str, deadline: Deadline) -> ScheduleView:
    """The schedule after it was triggered. That it cannot be read, or is deleted, must not look like a refusal."""
    try:
        return described(schedule_id, deadline)
    except SagaError as error:
        raise TriggerOutcomeUnknown(f"triggered, and not read back: {type(error).__name__}: {error}") from None
