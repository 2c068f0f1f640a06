"""A trigger: at most once with an Idempotency-Key, and no response that hides what may have happened."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from authzed.api.v1 import Consistency, ReadRelationshipsRequest, Relationship, RelationshipFilter
from google.rpc.status_pb2 import Status
from temporalio.service import RPCError, RPCStatusCode

from saga_api import triggers
from saga_core import ids
from saga_core.connections import Connected, Connection
from saga_core.errors import TemporalUnavailable
from saga_core.ids import Subject
from saga_temporal import temporal
from tests.support import relationships
from tests.support.api import Api, HttpResponse, eventually
from tests.support.proxy import Fault

ALICE = Subject("user", "alice")
REPLAYED = "idempotency-replayed"
UNKNOWN = "temporarily unavailable and the outcome is not known; "
TRY_AGAIN = "temporarily unavailable; try again"


def records(api: Api, key: str = "once") -> list[Relationship]:
    """What SpiceDB holds of alice's triggers of the schedule with a key."""
    wanted = RelationshipFilter(
        resource_type="trigger_request", optional_resource_id=ids.trigger_request(api.id(), ALICE, key)
    )
    request = ReadRelationshipsRequest(consistency=Consistency(fully_consistent=True), relationship_filter=wanted)
    return [response.relationship for response in api.authorization.ReadRelationships(request, timeout=10)]


def states(api: Api, key: str = "once") -> list[str]:
    return [record.relation for record in records(api, key)]


def runs(api: Api) -> int:
    """How many runs the schedule has started, once it has started one."""
    return int(eventually(lambda: api.get().body, lambda body: body["num_actions_taken"] > 0)["num_actions_taken"])


def patches(api: Api) -> int:
    """How many triggers Temporal was asked for."""
    return api.temporal.calls.count("PatchSchedule")


def is_unconfirmed(response: HttpResponse) -> bool:
    """Whether it is the 409 of a key whose trigger's outcome is not known."""
    assert response.status == 409, response.body
    assert response.headers["x-should-retry"] == "false"
    assert response.body["data"].keys() == {"last_action_time"}
    return "whether it took effect is not known" in response.body["message"]


def test_a_trigger_with_a_key_is_recorded_before_it_is_sent_and_done_after_it(api: Api) -> None:
    api.create(paused=True)
    seen: list[list[str]] = []
    api.temporal.on_call("PatchSchedule", 1, lambda: seen.append(states(api)))
    api.calls()

    response = api.trigger(key="once")

    assert (response.status, response.body["name"]) == (200, "daily")
    assert REPLAYED not in response.headers
    assert (seen, states(api)) == ([["open"]], ["done"])
    ends_in = records(api)[0].optional_expires_at.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < ends_in <= timedelta(hours=24)
    assert api.calls() == (
        ["CheckBulkPermissions", "ReadRelationships", "WriteRelationships", "WriteRelationships"],
        ["PatchSchedule", "DescribeSchedule"],
    )
    assert runs(api) == 1


def test_a_repeat_finds_the_record_done_and_is_replayed_with_the_schedule_as_it_is_now(api: Api) -> None:
    api.create(paused=True)
    first = api.trigger(key="once")
    api.call("POST", f"{api.schedules}/daily/unpause")

    again = api.trigger(key="once")

    assert (first.body["state"], again.body["state"]) == ("PAUSED", "ACTIVE")
    assert (again.status, again.headers[REPLAYED]) == (200, "true")
    assert api.temporal.calls.count("PatchSchedule") == 2  # the trigger and the unpause


def test_each_key_each_caller_and_each_schedule_has_triggers_of_its_own(api: Api) -> None:
    api.create()
    api.create("hourly")
    api.grant("editor", "bob")

    responses = [
        api.trigger(key="once"),
        api.trigger(key="twice"),
        api.trigger(key="once", as_="bob"),
        api.trigger("hourly", key="once"),
    ]

    assert [response.status for response in responses] == [200] * 4
    assert not any(REPLAYED in response.headers for response in responses)
    assert patches(api) == 4


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.SLOW, Fault.REFUSED])
def test_without_a_key_an_unknown_outcome_is_503_and_no_client_repeats_it_by_itself(fault: Fault, api: Api) -> None:
    api.create(paused=True)
    api.temporal.inject("PatchSchedule", fault)

    response = api.trigger()

    assert response.is_problem(503, UNKNOWN + "look at the schedule before you repeat the request")
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    if fault.takes_effect:
        assert runs(api) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.SLOW])
def test_a_lost_reply_is_503_and_a_repeat_runs_nothing_and_says_when_the_last_run_was(fault: Fault, api: Api) -> None:
    api.create(paused=True, overlap_policy="ALLOW_ALL")
    api.temporal.inject("PatchSchedule", fault)

    response = api.trigger(key="once")
    again = eventually(lambda: api.trigger(key="once"), lambda r: r.body["data"]["last_action_time"] is not None)

    assert response.is_problem(503, UNKNOWN + "repeat the request with the same Idempotency-Key")
    assert not {"x-should-retry", "retry-after"} & response.headers.keys()
    assert is_unconfirmed(again)
    assert again.body["data"]["last_action_time"] == api.get().body["last_action_time"]
    assert (patches(api), runs(api)) == (1, 1)


def test_a_repeat_of_a_trigger_that_never_ran_says_that_there_was_no_run(api: Api) -> None:
    api.create(paused=True)
    api.temporal.inject("PatchSchedule", Fault.REFUSED)

    api.trigger(key="once")
    again = api.trigger(key="once")

    assert is_unconfirmed(again)
    assert again.body["data"] == {"last_action_time": None}
    assert patches(api) == 1
    assert api.trigger(key="another").status == 200


def test_a_request_beside_one_in_flight_with_its_key_triggers_nothing(api: Api) -> None:
    api.create(paused=True)
    begun, answered = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        answered.wait(2)

    api.temporal.on_call("PatchSchedule", 1, hold)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.trigger, key="once")
        assert begun.wait(10)
        found = states(api)
        answered.set()
        assert first.result().status == 200

    assert found == ["open"]


def test_of_many_requests_with_one_key_one_triggers(api: Api) -> None:
    api.create(paused=True, overlap_policy="ALLOW_ALL")

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: api.trigger(key="once"), range(8)))
    refused = [r for r in responses if r.status == 503]  # by a busy Temporal, before it triggered
    if all(r.status in (409, 503) for r in responses):
        responses.append(api.trigger(key="once"))

    first = [r for r in responses if r.status == 200 and REPLAYED not in r.headers]
    assert len(first) == 1
    assert all(REPLAYED in r.headers or is_unconfirmed(r) for r in responses if r not in first + refused)
    assert runs(api) == 1
    assert patches(api) <= 1 + len(refused)


def test_a_key_does_not_trigger_again_after_a_delete_and_a_create(api: Api) -> None:
    api.create()
    assert api.trigger(key="once").status == 200
    api.delete()
    api.create()

    response = api.trigger(key="once")

    assert response.is_problem(409, "the key was used to trigger an earlier schedule of this name; use another key")
    assert patches(api) == 1
    assert api.trigger(key="another").status == 200


def test_a_key_whose_outcome_is_unknown_does_not_trigger_after_a_delete_and_a_create(api: Api) -> None:
    api.create()
    api.temporal.inject("PatchSchedule", Fault.LOST_REPLY)
    api.trigger(key="once")
    api.delete()
    api.create()

    assert api.trigger(key="once").is_problem(409)
    assert patches(api) == 1


def test_a_schedule_that_is_made_anew_before_the_record_is_written_is_not_triggered(api: Api) -> None:
    api.create()
    # Only the fence matters; a delete and a create would change it too.
    (fence,) = [line for line in api.held() if line.startswith("registered_by")]

    def make_anew() -> None:
        api.unrelate(f"agent_schedule:{api.id()}#{fence}")
        api.relate(f"agent_schedule:{api.id()}#registered_by@registration:another")

    # The create has made the first write.
    api.spicedb.on_call("WriteRelationships", api.spicedb.calls.count("WriteRelationships") + 1, make_anew)

    response = api.trigger(key="once")

    assert response.is_problem(503, TRY_AGAIN)
    assert "retry-after" in response.headers
    assert (patches(api), states(api)) == (0, [])
    assert api.trigger(key="once").status == 200


def test_a_schedule_that_is_deleted_before_it_is_triggered_is_404_and_its_key_stays_unused(api: Api) -> None:
    api.create()
    handle = api.scheduler.get_schedule_handle(api.id())
    api.temporal.on_call("PatchSchedule", 1, lambda: api.in_loop(handle.delete()))

    assert api.trigger(key="once").is_problem(404, "schedule not found")
    assert states(api) == []


def test_a_schedule_that_is_deleted_after_it_was_triggered_does_not_look_as_if_it_had_not_run(api: Api) -> None:
    api.create()
    handle = api.scheduler.get_schedule_handle(api.id())
    api.temporal.on_call(
        "DescribeSchedule", api.temporal.calls.count("DescribeSchedule") + 1, lambda: api.in_loop(handle.delete())
    )

    response = api.trigger(key="once")

    assert response.is_problem(503, UNKNOWN + "repeat the request with the same Idempotency-Key")
    assert states(api) == ["done"]


def test_a_schedule_whose_relationships_are_gone_is_404(api: Api) -> None:
    api.create()
    api.spicedb.on_call(
        "ReadRelationships", 1, lambda: relationships.remove_all(api.authorization, schedule_id=api.id())
    )

    assert api.trigger(key="once").is_problem(404, "schedule not found")
    assert (patches(api), states(api)) == (0, [])


def test_without_a_fence_nothing_is_triggered_with_a_key(api: Api) -> None:
    api.create()
    (fence,) = [line for line in api.held() if line.startswith("registered_by")]
    api.unrelate(f"agent_schedule:{api.id()}#{fence}")

    assert api.trigger(key="once").is_problem(500, "internal error")
    assert "has no fence" in api.log.getvalue()
    assert patches(api) == 0
    assert api.trigger().status == 200


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
def test_what_cannot_be_recorded_is_503_and_not_triggered(fault: Fault, api: Api) -> None:
    api.create()
    api.spicedb.inject("WriteRelationships", fault)

    response = api.trigger(key="once")

    assert response.is_problem(503, TRY_AGAIN)
    assert "retry-after" in response.headers
    # The record of a lost reply stays: it may as well be that of another request with the key.
    again = api.trigger(key="once")
    assert again.status == 200 if fault is Fault.REFUSED else is_unconfirmed(again)
    assert patches(api) == (1 if fault is Fault.REFUSED else 0)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
def test_a_trigger_that_cannot_be_marked_as_done_is_a_success_and_is_counted(
    fault: Fault, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.create(paused=True)
    api.spicedb.inject("WriteRelationships", fault, at=api.spicedb.calls.count("WriteRelationships") + 2)

    response = api.trigger(key="once")

    assert response.status == 200
    assert '"TriggerLeftOpen":' in capsys.readouterr().out
    assert "record of a trigger not changed" in api.log.getvalue()
    again = api.trigger(key="once")
    assert is_unconfirmed(again) if fault is Fault.REFUSED else again.headers[REPLAYED] == "true"
    assert (patches(api), runs(api)) == (1, 1)


def test_a_trigger_that_is_not_read_back_does_not_look_as_if_nothing_had_happened(api: Api) -> None:
    api.create(paused=True)
    api.temporal.inject("DescribeSchedule", Fault.REFUSED, times=2)

    without, with_key = api.trigger(), api.trigger(key="once")

    assert without.is_problem(503, UNKNOWN + "look at the schedule before you repeat the request")
    assert without.headers["x-should-retry"] == "false"
    assert with_key.is_problem(503, UNKNOWN + "repeat the request with the same Idempotency-Key")
    assert api.trigger(key="once").headers[REPLAYED] == "true"
    assert patches(api) == 2


def test_a_repeat_that_cannot_read_the_schedule_may_be_repeated(api: Api) -> None:
    api.create()
    api.trigger(key="once")
    api.temporal.cut()

    response = api.trigger(key="once")

    assert response.is_problem(503, TRY_AGAIN)
    assert "retry-after" in response.headers


def test_a_bug_after_a_trigger_is_500_that_no_client_repeats_by_itself_without_a_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def described(*_: object) -> None:
        raise RuntimeError

    api.create()
    monkeypatch.setattr(triggers, "described", described)

    without, with_key = api.trigger(), api.trigger(key="once")

    assert without.is_problem(500, "internal error")
    assert without.headers["x-should-retry"] == "false"
    assert with_key.is_problem(500, "internal error")
    assert "x-should-retry" not in with_key.headers
    monkeypatch.undo()
    assert api.trigger(key="once").headers[REPLAYED] == "true"


def instead_of_temporal(patch: pytest.MonkeyPatch, connect: Callable[[float], Connected[Any]]) -> None:
    """Let the functions connect to something else than Temporal."""
    calls = temporal()._call.__self__  # type: ignore[attr-defined] # it is a bound method
    patch.setattr(calls, "_connection", Connection(connect))


@pytest.mark.parametrize("key", [None, "once"])
def test_a_temporal_that_cannot_be_reached_is_503_that_may_be_repeated(
    key: str | None, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_timeout: float) -> Connected[Any]:
        raise TemporalUnavailable("Temporal cannot be reached")

    api.create(paused=True)
    with monkeypatch.context() as patch:
        instead_of_temporal(patch, connect)
        response = api.trigger(key=key)

    assert response.is_problem(503, TRY_AGAIN)
    assert "retry-after" in response.headers
    again = api.trigger(key=key)
    assert (again.status, REPLAYED in again.headers) == (200, False)
    assert runs(api) == 1


class Refusing:
    """Stands where temporalio's workflow service stands, and refuses triggers with one code."""

    def __init__(self, code: RPCStatusCode) -> None:
        self.code = code

    async def patch_schedule(self, *_: object, **__: object) -> None:
        raise RPCError("of the server", self.code, Status(code=self.code.value).SerializeToString())


@pytest.mark.parametrize("key", [None, "once"])
def test_too_many_triggers_are_429_and_the_key_may_be_used_again(
    key: str | None, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create(paused=True)
    with monkeypatch.context() as patch:
        instead_of_temporal(patch, lambda _: Connected(Refusing(RPCStatusCode.RESOURCE_EXHAUSTED)))
        response = api.trigger(key=key)

    assert response.is_problem(429, "too many triggers of the schedule; try again later")
    assert "retry-after" in response.headers
    assert "x-should-retry" not in response.headers
    assert states(api) == []
    again = api.trigger(key=key)
    assert (again.status, REPLAYED in again.headers) == (200, False)
    assert runs(api) == 1


def test_a_record_that_cannot_be_removed_leaves_the_answer_as_it_is(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api.create()
    api.spicedb.inject("DeleteRelationships", Fault.REFUSED)
    with monkeypatch.context() as patch:
        instead_of_temporal(patch, lambda _: Connected(Refusing(RPCStatusCode.INVALID_ARGUMENT)))
        assert api.trigger(key="once").is_problem(429)

    assert '"TriggerLeftOpen":' in capsys.readouterr().out
    assert is_unconfirmed(api.trigger(key="once"))
    assert patches(api) == 0
