"""What each response of Temporal to a trigger means: it did not take effect, or that is not known."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from temporalio.service import RPCError, RPCStatusCode

from saga_api import triggers
from saga_core.connections import Connected, Connection
from saga_core.deadlines import Deadline
from saga_core.errors import (
    ConfigurationError,
    SagaError,
    ScheduleNotFound,
    TemporalUnavailable,
    TooManyTriggers,
    TriggerOutcomeUnknown,
)
from saga_temporal import Temporal

IN_TIME = Deadline(ends_at=float("inf"), per_call=5)
REFUSALS = {
    RPCStatusCode.NOT_FOUND: ScheduleNotFound,
    RPCStatusCode.INVALID_ARGUMENT: TooManyTriggers,
    RPCStatusCode.RESOURCE_EXHAUSTED: TooManyTriggers,
    RPCStatusCode.FAILED_PRECONDITION: TooManyTriggers,
    RPCStatusCode.PERMISSION_DENIED: ConfigurationError,
    RPCStatusCode.UNIMPLEMENTED: ConfigurationError,
    RPCStatusCode.UNAUTHENTICATED: TemporalUnavailable,
}


class Service:
    """Stands where temporalio's workflow service stands."""

    def __init__(self, code: RPCStatusCode) -> None:
        self.code = code

    async def patch_schedule(self, *_: object, **__: object) -> None:
        raise RPCError("of the server", self.code, Status(code=self.code.value).SerializeToString())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a coroutine waits for something")


def temporal(answer: RPCStatusCode | Exception) -> Temporal:
    """A Temporal that responds with a code, or that cannot be reached."""

    def connect(_timeout: float) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return Connected(Service(answer))

    return Temporal(Connection(connect), "default", run)


@pytest.mark.parametrize("code", [code for code in RPCStatusCode if code is not RPCStatusCode.OK])
def test_a_code_that_is_no_refusal_leaves_the_outcome_of_a_trigger_unknown(code: RPCStatusCode) -> None:
    with pytest.raises(SagaError) as raised:
        temporal(code).trigger("a--x", None, IN_TIME)

    assert raised.type is REFUSALS.get(code, TriggerOutcomeUnknown)


@pytest.mark.parametrize("code", [RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED])
def test_a_pause_is_idempotent_and_its_outage_is_an_outage(code: RPCStatusCode) -> None:
    with pytest.raises(TemporalUnavailable):
        temporal(code).pause("a--x", "note", IN_TIME)


def test_a_trigger_that_does_not_reach_temporal_did_not_take_effect() -> None:
    with pytest.raises(TemporalUnavailable, match="nothing was asked"):
        temporal(TemporalUnavailable("nothing was asked")).trigger("a--x", None, IN_TIME)


def test_a_trigger_without_time_left_is_not_sent() -> None:
    with pytest.raises(TemporalUnavailable):
        temporal(RPCStatusCode.UNAVAILABLE).trigger("a--x", None, Deadline(ends_at=float("-inf"), per_call=5))


def test_the_request_id_of_a_trigger_is_the_same_on_one_day_and_another_after_the_record_has_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clock(datetime):
        at = ""

        @classmethod
        def now(cls, _zone: Any = None) -> "Clock":
            return cls.fromisoformat(cls.at).replace(tzinfo=UTC)

    def request_id(at: str) -> str:
        Clock.at = at
        return triggers._request_id("record")

    monkeypatch.setattr(triggers, "datetime", Clock)
    morning, evening, a_day_later = (
        request_id(at) for at in ("2026-11-26T00:00:00", "2026-11-26T23:59:59", "2026-11-27T00:00:01")
    )

    assert morning == evening != a_day_later
