"""The reconciler on the real engines: each kind of drift is found and repaired, and nothing else is touched."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from tests.support import relationships
from tests.support.api import eventually
from tests.support.proxy import Fault
from tests.support.saga_stack import Stack


@pytest.fixture
def aged(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, with a lease of a second, so that schedules are soon old enough to be repaired."""
    monkeypatch.setenv("LEASE_SECONDS", "1")
    stack.reconnect()
    yield stack
    stack.reconnect()


def reconcile(stack: Stack, schedules: int = 1, **request: Any) -> dict[str, Any]:
    """The output of a run for the stack's agent, once the list has so many schedules, and none is too young."""
    eventually(lambda: _run(stack), lambda report: (report["waiting"], report["seen"]["schedules"]) == (0, schedules))
    return _run(stack, **request)


def _run(stack: Stack, **request: Any) -> dict[str, Any]:
    ended = stack.run("reconcile-schedules", {"agent_id": stack.agent, **request})
    assert ended.status == "SUCCEEDED", (ended.error, ended.cause)
    output: dict[str, Any] = ended.output
    return output


def found(report: dict[str, Any]) -> dict[str, str]:
    """Kind by schedule name."""
    return {item["schedule_id"].partition("--")[2]: item["kind"] for item in report["items"]}


def lost(stack: Stack) -> None:
    stack.remove_all()


def deleted_by_hand(stack: Stack) -> None:
    stack.delete_by_hand()


def without_parent(stack: Stack) -> None:
    relationships.remove(stack.authorization, f"agent_schedule:{stack._id('daily')}#parent_agent@agent:{stack.agent}")


def without_fence(stack: Stack) -> None:
    relationships.remove(
        stack.authorization, f"agent_schedule:{stack._id('daily')}#registered_by@{stack.held()['registered_by']}"
    )


def another_fence(stack: Stack) -> None:
    without_fence(stack)
    relationships.touch(
        stack.authorization, f"agent_schedule:{stack._id('daily')}#registered_by@registration:{'0' * 64}"
    )


def test_what_agrees_is_seen_and_nothing_is_found(aged: Stack) -> None:
    aged.create()

    report = reconcile(aged)

    assert report["seen"] == {"schedules": 1, "registrations": 1}
    assert (report["kinds"], report["items"], report["would_repair"], report["stopped"]) == ({}, [], 0, None)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lost, "unowned"),
        (without_parent, "incomplete"),
        (without_fence, "unfenced"),
        (another_fence, "conflicting"),
    ],
)
def test_a_schedule_that_is_there_gets_its_registration_back(
    aged: Stack, damage: Callable[[Stack], None], kind: str
) -> None:
    aged.create()
    before = aged.held()
    damage(aged)

    report = reconcile(aged)
    assert found(report) == {"daily": kind}
    assert report["would_repair"] == 1
    assert aged.held() != before, "a report writes nothing"

    repaired = reconcile(aged, mode="repair")
    assert repaired["kinds"] == {kind: {"found": 1, "repaired": 1, "left": 0}}
    assert aged.held() == before
    assert reconcile(aged)["kinds"] == {}


def test_relationships_of_a_schedule_that_is_gone_are_removed(aged: Stack) -> None:
    aged.create()
    aged.grant("viewer", "user:bob")
    deleted_by_hand(aged)

    assert found(reconcile(aged, 0)) == {"daily": "orphan"}
    assert reconcile(aged, 0, mode="repair")["kinds"] == {"orphan": {"found": 1, "repaired": 1, "left": 0}}
    assert aged.held() == {}


def test_a_grant_without_a_schedule_and_without_a_fence_is_removed(aged: Stack) -> None:
    aged.grant("viewer", "user:bob")

    assert found(reconcile(aged, 0)) == {"daily": "unfenced"}
    reconcile(aged, 0, mode="repair")
    assert aged.held() == {}


def test_an_owner_who_was_taken_away_is_reported_and_the_one_that_a_person_names_is_adopted(aged: Stack) -> None:
    aged.create()
    relationships.remove(aged.authorization, f"agent_schedule:{aged._id('daily')}#owner@user:alice")

    assert found(reconcile(aged, mode="repair")) == {"daily": "ownerless"}
    assert "owner" not in aged.held()
    reconcile(aged, mode="repair", adopt={aged._id("daily"): "user:alice"})
    assert aged.held()["owner"] == "user:alice"


def test_another_owner_is_reported_and_stays(aged: Stack) -> None:
    aged.create()
    relationships.remove(aged.authorization, f"agent_schedule:{aged._id('daily')}#owner@user:alice")
    aged.grant("owner", "user:bob")
    aged.own_agent("bob")

    assert found(reconcile(aged, mode="repair")) == {"daily": "other_owner"}
    assert aged.held()["owner"] == "user:bob"


def test_a_schedule_without_a_creator_is_listed_and_adopted_under_its_memo(aged: Stack) -> None:
    aged.create({**aged.request(), "principal": None})

    report = reconcile(aged, mode="repair")
    assert found(report) == {"daily": "unmanaged"}
    assert aged.held() == {}
    reconcile(aged, mode="repair", adopt={aged._id("daily"): "user:alice"})
    memo = aged.scheduled()
    assert memo
    assert aged.held() == {
        "owner": "user:alice",
        "parent_agent": f"agent:{aged.agent}",
        "registered_by": f"registration:{memo['registration']}",
    }
    assert reconcile(aged)["kinds"] == {}
    assert aged.delete().output["deregistered"]
    assert aged.held() == {}


def test_a_schedule_whose_owners_have_lost_the_agent_is_reported_or_paused_once(aged: Stack) -> None:
    aged.create()
    aged.disown("alice")

    assert found(reconcile(aged, mode="repair")) == {"daily": "revoked"}
    paused = reconcile(aged, mode="repair", revoked="pause")
    assert paused["kinds"] == {"revoked": {"found": 1, "repaired": 1, "left": 0}}
    handle = aged.scheduler.get_schedule_handle(aged._id("daily"))
    state = aged.loop.run_until_complete(handle.describe()).schedule.state
    assert state.paused
    assert state.note == "paused by the reconciler: no owner may update the agent"

    aged.loop.run_until_complete(handle.unpause(note="it has to run"))
    again = reconcile(aged, mode="repair", revoked="pause")
    assert again["kinds"] == {"revoked": {"found": 1, "repaired": 0, "left": 1}}
    assert not aged.loop.run_until_complete(handle.describe()).schedule.state.paused


def test_a_pause_that_meets_another_schedule_of_the_name_is_taken_back(aged: Stack) -> None:
    """Temporal has no conditional pause: the schedule may be deleted and created again right before it."""
    aged.create()
    aged.disown("alice")

    def created_again() -> None:
        deleted_by_hand(aged)
        action = ScheduleActionStartWorkflow("Report", id="report", task_queue="reports")
        aged.loop.run_until_complete(
            aged.scheduler.create_schedule(aged._id("daily"), Schedule(action, ScheduleSpec()))
        )

    aged.temporal.on_call("PatchSchedule", 1, created_again)
    report = reconcile(aged, mode="repair", revoked="pause")

    assert report["kinds"] == {"revoked": {"found": 1, "repaired": 0, "left": 1}}
    assert aged.temporal.calls.count("PatchSchedule") == 2
    handle = aged.scheduler.get_schedule_handle(aged._id("daily"))
    assert not aged.loop.run_until_complete(handle.describe()).schedule.state.paused


@pytest.mark.parametrize(
    "memo", [{"creator": "group:admins"}, {"creator": "user:al ice"}, {"registration": "not ours"}]
)
def test_a_memo_that_spicedb_cannot_take_fails_no_run(aged: Stack, memo: dict[str, str]) -> None:
    """Any tool can write a memo."""
    aged.create(aged.request("good"))
    action = ScheduleActionStartWorkflow("Report", id="report", task_queue="reports")
    written = {"agent_schedule": {"version": 2, "registration": "0" * 64, "creator": "user:alice", **memo}}
    created = aged.scheduler.create_schedule(aged._id("odd"), Schedule(action, ScheduleSpec()), memo=written)
    aged.loop.run_until_complete(created)

    report = reconcile(aged, 2, mode="repair")

    assert found(report) == {"odd": "unmanaged"}
    assert report["seen"]["schedules"] == 2


def test_ids_that_are_not_ours_are_counted_and_left_alone(aged: Stack) -> None:
    aged.create()
    aged.grant("viewer", "user:bob", name="Not_Ours")

    report = reconcile(aged, mode="repair")

    assert report["kinds"] == {"foreign": {"found": 1, "repaired": 0, "left": 1}}
    assert aged.held("Not_Ours") == {"viewer": "user:bob"}


def test_a_schedule_that_has_many_grants_is_counted_once(aged: Stack) -> None:
    """They go over the end of a page of relationships."""
    aged.create()
    for number in range(3):
        granted = (f"agent_schedule:{aged._id('daily')}#viewer@user:u{number}-{each}" for each in range(500))
        relationships.touch(aged.authorization, *granted)
    deleted_by_hand(aged)

    report = reconcile(aged, 0)

    assert report["seen"] == {"schedules": 0, "registrations": 1}
    assert report["kinds"] == {"orphan": {"found": 1, "repaired": 0, "left": 1}}
    assert reconcile(aged, 0, mode="repair")["kinds"]["orphan"]["repaired"] == 1
    assert aged.held() == {}


def test_a_create_in_flight_is_waited_for(stack: Stack) -> None:
    """Its lease is live, and there is no schedule yet."""
    stack.interrupt(stack.request(), at="CreateSchedule")
    before = stack.held()

    report = stack.run("reconcile-schedules", {"agent_id": stack.agent, "mode": "repair"}).output

    assert (report["waiting"], report["kinds"]) == (1, {})
    assert stack.held() == before


def test_more_repairs_than_expected_stop_before_the_first(aged: Stack) -> None:
    for number in range(22):
        aged.create(aged.request(f"s{number}"))
        aged.remove_all(f"s{number}")
    aged.create()

    stopped = reconcile(aged, 23, mode="repair")
    assert stopped["stopped"].startswith("22 repairs are more than 20")
    assert stopped["kinds"] == {"unowned": {"found": 22, "repaired": 0, "left": 22}}
    some = reconcile(aged, 23, mode="repair", confirm=22, max_repairs=5)
    counts = some["kinds"]["unowned"]
    assert (some["would_repair"], counts["repaired"], counts["found"] - counts["left"]) == (22, 5, 5)
    assert some["stopped"].startswith("max_repairs: 5 of 22")
    # A list may miss one for a moment: then it is found by the next run.
    repaired: list[int] = []
    while (kinds := reconcile(aged, 23, mode="repair")["kinds"]) != {}:
        repaired.append(kinds["unowned"]["repaired"])
    assert sum(repaired) == 17
    assert all(aged.held(f"s{number}") for number in range(22))


def test_a_repair_is_judged_by_the_kinds_that_it_is_asked_for(aged: Stack) -> None:
    for number in range(22):
        aged.create(aged.request(f"s{number}"))
        aged.remove_all(f"s{number}")
    aged.grant("viewer", "user:bob")

    repaired = reconcile(aged, 22, mode="repair", kinds=["unfenced"])

    assert (repaired["would_repair"], repaired["stopped"]) == (1, None)
    assert repaired["kinds"]["unfenced"] == {"found": 1, "repaired": 1, "left": 0}
    assert repaired["kinds"]["unowned"] == {"found": 22, "repaired": 0, "left": 22}


def test_a_wrong_setting_ends_a_run_at_once_and_is_named(aged: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    aged.create()
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "no-such-namespace")
    aged.reconnect()

    ended = aged.run("reconcile-schedules", {"agent_id": aged.agent, "mode": "repair"})

    assert (ended.status, ended.error) == ("FAILED", "ConfigurationError")
    assert "TEMPORAL_NAMESPACE" in (ended.cause or "")
    assert aged.waits(ended) == [], "nothing here gets better by trying again"
    assert "DeleteRelationships" not in aged.spicedb.calls


def test_a_run_for_one_schedule_says_nothing_about_those_whose_ids_begin_alike(aged: Stack) -> None:
    for name in ("daily", "daily-2"):
        aged.create(aged.request(name))
        aged.remove_all(name)

    request = {"agent_id": None, "schedule_id": aged._id("daily")}
    report = eventually(
        lambda: _run(aged, **request), lambda report: (report["waiting"], report["seen"]["schedules"]) == (0, 1)
    )

    assert report["seen"] == {"schedules": 1, "registrations": 0}
    assert report["kinds"] == {"unowned": {"found": 1, "repaired": 0, "left": 1}}


def test_an_engine_that_fails_after_repairs_does_not_make_them_more_than_are_allowed(aged: Stack) -> None:
    names = ["s1", "s2", "s3", "s4"]
    for name in names:
        aged.create(aged.request(name))
        aged.remove_all(name)
    assert reconcile(aged, 4)["would_repair"] == 4
    aged.temporal.clear()
    # The report describes each one. The first two repairs describe twice each; then the third schedule is looked at.
    aged.temporal.inject("DescribeSchedule", Fault.REFUSED, at=4 + 2 * 2 + 1)

    report = _run(aged, mode="repair", max_repairs=2)

    assert report["kinds"] == {"unowned": {"found": 4, "repaired": 2, "left": 2}}
    assert [name for name in names if aged.held(name)] == ["s1", "s2"]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ([], "input"),
        ({"mode": "mend"}, "mode"),
        ({"kinds": ["orphans"]}, "kinds"),
        ({"max_repairs": 0}, "max_repairs"),
        ({"schedule_id": "x"}, "schedule_id"),
        ({"adopt": {"a--b": "bob"}}, "adopt"),
        ({"agent_id": "a", "schedule_id": "a--b"}, "exclude"),
        ({"limit": 3}, "limit"),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(stack: Stack, request_: Any, named: str) -> None:
    ended = stack.run("reconcile-schedules", request_)

    assert (ended.status, ended.error) == ("FAILED", "InvalidRequest")
    assert named in ended.message
