"""A reconciler that dies, is stopped, or meets another one or a delete: the next run ends what is left.

Each test has three schedules that are damaged, each in another way, and one that is gone.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from saga_core import ids
from saga_core.settings import call_settings
from tests.support import relationships
from tests.support.api import eventually
from tests.support.population import counts_of, reconcile
from tests.support.proxy import Fault
from tests.support.saga_stack import Ended, Stack

ANOTHER = f"registration:{'0' * 64}"
KINDS = {"conflicting": 1, "incomplete": 1, "orphan": 1, "unowned": 1}
Held = dict[str, dict[str, str]]


@pytest.fixture
def damaged(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stack, Held]]:
    """The stack with the damage, and what SpiceDB has to hold when it is repaired. Calls wait for what they meet."""
    monkeypatch.setenv("LEASE_SECONDS", "1")
    monkeypatch.setenv("RPC_TIMEOUT_SECONDS", "60")
    call_settings.cache_clear()
    stack.reconnect()
    for name in KINDS:
        assert stack.create(stack.request(name)).status == "SUCCEEDED"
        stack.end_lease(name)
    mended = {name: stack.held(name) for name in KINDS} | {"orphan": {}}
    fence = mended["conflicting"]["registered_by"]
    relationships.remove(stack.authorization, f"{of(stack, 'conflicting')}#registered_by@{fence}")
    relationships.touch(stack.authorization, f"{of(stack, 'conflicting')}#registered_by@{ANOTHER}")
    relationships.remove(stack.authorization, f"{of(stack, 'incomplete')}#parent_agent@agent:{stack.agent}")
    stack.remove_all("unowned")
    handle = stack.scheduler.get_schedule_handle(ids.schedule_id(stack.agent, "orphan"))
    stack.loop.run_until_complete(handle.delete())
    eventually(lambda: counts_of(report(stack)), lambda found: found == KINDS, seconds=60)
    stack.spicedb.clear()
    stack.temporal.clear()
    yield stack, mended
    call_settings.cache_clear()
    stack.reconnect()


def of(stack: Stack, name: str) -> str:
    """A schedule, as relationships name it."""
    return f"agent_schedule:{ids.schedule_id(stack.agent, name)}"


def report(stack: Stack, **request: Any) -> dict[str, Any]:
    """The output of a run for the stack's agent."""
    return reconcile(stack, agent_id=stack.agent, **request)


def assert_mended(stack: Stack, mended: Held) -> None:
    """SpiceDB holds what it has to, and a run has nothing to say."""
    eventually(lambda: {name: stack.held(name) for name in mended}, lambda held: held == mended)
    assert report(stack)["kinds"] == {}


def assert_kept(created: list[Ended], stack: Stack, mended: Held, name: str) -> None:
    """The one schedule that was created again has its registration, by its own fence; the others are mended."""
    (again,) = created
    assert again.status == "SUCCEEDED", (again.error, again.cause)
    memo = stack.scheduled(name)
    assert memo
    fence = {"registered_by": f"registration:{memo['registration']}"}
    assert_mended(stack, {**mended, name: {**mended["unowned"], **fence}})


# The writes of a repair: of conflicting (clear, register), incomplete (add), unowned (register); of orphan (clear).
WRITES = [
    ("DeleteRelationships", 1),
    ("WriteRelationships", 1),
    ("WriteRelationships", 2),
    ("WriteRelationships", 3),
    ("DeleteRelationships", 2),
]


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.LOST_REPLY])
@pytest.mark.parametrize(("method", "number"), WRITES)
def test_a_repair_that_dies_at_a_write_goes_on_in_its_next_attempt(
    damaged: tuple[Stack, Held], method: str, number: int, fault: Fault
) -> None:
    stack, mended = damaged
    stack.spicedb.inject(method, fault, at=number)

    repaired = report(stack, mode="repair")

    assert (repaired["would_repair"], counts_of(repaired, "left"), repaired["stopped"]) == (4, {}, None)
    assert_mended(stack, mended)


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
@pytest.mark.parametrize(("method", "number"), WRITES)
def test_a_repair_that_is_stopped_at_a_write_is_ended_by_the_next_run(
    damaged: tuple[Stack, Held], method: str, number: int, fault: Fault
) -> None:
    stack, mended = damaged
    stack.spicedb.inject(method, fault, at=number)

    stopped = stack.run_until_wait("reconcile-schedules", {"agent_id": stack.agent, "mode": "repair"}, "RepairShard")

    assert stopped.status == "ABORTED"
    report(stack, mode="repair")
    assert_mended(stack, mended)


def test_a_call_that_fails_changes_nothing_about_a_report(damaged: tuple[Stack, Held]) -> None:
    stack, _ = damaged
    undisturbed = report(stack)
    assert undisturbed["seen"] == {"schedules": 3, "registrations": 3}

    for proxy in (stack.spicedb, stack.temporal):
        proxy.clear()
        report(stack)
        calls = Counter(proxy.calls)
        assert calls
        for method, number in [(method, at) for method, times in calls.items() for at in range(1, times + 1)]:
            proxy.clear()
            proxy.inject(method, Fault.REFUSED, at=number)
            assert report(stack) == undisturbed, (method, number)


def test_a_call_that_fails_costs_nothing_of_what_was_looked_at_before(damaged: tuple[Stack, Held]) -> None:
    stack, _ = damaged
    # Of the three suspects in Temporal the last one.
    stack.temporal.inject("DescribeSchedule", Fault.REFUSED, at=3)

    ended = stack.run("reconcile-schedules", {"agent_id": stack.agent})

    assert counts_of(ended.output) == KINDS
    assert stack.waits(ended) == []
    assert stack.temporal.calls.count("DescribeSchedule") == len(KINDS) + 1


@pytest.mark.parametrize("mode", ["report", "repair"])
@pytest.mark.parametrize(
    ("engine", "error"), [("spicedb", "AuthorizationUnavailable"), ("temporal", "TemporalUnavailable")]
)
def test_an_engine_that_is_down_fails_a_run_and_is_no_drift(
    damaged: tuple[Stack, Held], engine: str, error: str, mode: str
) -> None:
    stack, mended = damaged
    before = {name: stack.held(name) for name in mended}
    getattr(stack, engine).cut()

    ended = stack.run("reconcile-schedules", {"agent_id": stack.agent, "mode": mode})

    assert (ended.status, ended.error) == ("FAILED", error)
    assert {name: stack.held(name) for name in mended} == before


@pytest.mark.parametrize(("method", "number"), [("CheckBulkPermissions", 2), *WRITES])
def test_a_second_reconciler_that_mends_all_in_the_middle_of_a_call_does_no_harm(
    damaged: tuple[Stack, Held], method: str, number: int
) -> None:
    stack, mended = damaged
    others: list[dict[str, Any]] = []
    stack.spicedb.on_call(method, number, lambda: others.append(report(stack, mode="repair")))

    report(stack, mode="repair")

    assert [other["stopped"] for other in others] == [None]
    assert_mended(stack, mended)


def test_two_reconcilers_side_by_side_mend_what_one_would_mend(damaged: tuple[Stack, Held]) -> None:
    stack, mended = damaged
    request = {"agent_id": stack.agent, "mode": "repair"}

    both = [stack.ended(arn) for arn in [stack.start("reconcile-schedules", request) for _ in range(2)]]

    assert [each.status for each in both] == ["SUCCEEDED", "SUCCEEDED"]
    assert_mended(stack, mended)


def test_a_delete_in_the_middle_of_a_restore_leaves_nothing(damaged: tuple[Stack, Held]) -> None:
    stack, mended = damaged
    stack.spicedb.on_call("WriteRelationships", 3, lambda: stack.delete("unowned"))

    repaired = report(stack, mode="repair")

    assert repaired["kinds"]["unowned"] == {"found": 1, "repaired": 0, "left": 1}
    assert (stack.scheduled("unowned"), stack.held("unowned")) == (None, {})
    assert_mended(stack, {**mended, "unowned": {}})


def test_a_schedule_that_is_created_again_in_the_middle_of_a_restore_keeps_its_own_registration(
    damaged: tuple[Stack, Held],
) -> None:
    stack, mended = damaged
    created: list[Ended] = []

    def create_again() -> None:
        stack.delete("unowned")
        created.append(stack.create(stack.request("unowned")))

    stack.spicedb.on_call("WriteRelationships", 3, create_again)

    report(stack, mode="repair")

    assert_kept(created, stack, mended, "unowned")


def test_a_create_in_the_middle_of_a_removal_keeps_its_registration(damaged: tuple[Stack, Held]) -> None:
    stack, mended = damaged
    created: list[Ended] = []
    stack.spicedb.on_call("DeleteRelationships", 2, lambda: created.append(stack.create(stack.request("orphan"))))

    report(stack, mode="repair")

    assert_kept(created, stack, mended, "orphan")
