"""Removal at any size: grants in batches, the owner and the fence last, and a later call goes on where one stopped."""

import time

import pytest

from saga_core.deadlines import Deadline
from saga_core.ids import Subject
from saga_spicedb import spicedb
from tests.support.proxy import Fault
from tests.support.saga_stack import Stack

VIEWERS = [f"user:viewer-{number}" for number in range(1300)]
EDITORS = [f"user:editor-{number}" for number in range(1200)]
GRANTS = len(VIEWERS) + len(EDITORS)


def granted(stack: Stack) -> dict[str, str]:
    """Create a schedule and grant it to so many that no transaction deletes them. Returns what holds it besides."""
    created = stack.create()
    stack.grant("viewer", *VIEWERS)
    stack.grant("editor", *EDITORS)
    return stack.registered(by=created)


def owned(stack: Stack) -> tuple[bool, str | None]:
    """Whether alice may delete the schedule, and its fence."""
    schedule_id = f"{stack.agent}--daily"
    deadline = Deadline(time.monotonic() + 10, per_call=5)
    with stack.spicedb.aside():
        held = spicedb().permissions(Subject("user", "alice"), ["delete"], [schedule_id], deadline)
        holder = spicedb().holder(schedule_id, deadline)
    return "delete" in held[schedule_id], holder.registration if holder else None


def besides_grants(stack: Stack) -> dict[str, str]:
    """What SpiceDB holds besides viewers and editors."""
    return {relation: subject for relation, subject in stack.held().items() if relation not in ("viewer", "editor")}


def test_a_delete_removes_thousands_of_grants_and_the_owner_goes_last(stack: Stack) -> None:
    ownership = granted(stack)
    fence = ownership["registered_by"].removeprefix("registration:")
    held: list[tuple[bool, str | None]] = []
    stack.spicedb.clear()
    for call in range(1, 8):
        stack.spicedb.on_call("DeleteRelationships", call, lambda: held.append(owned(stack)))

    deleted = stack.delete()

    assert deleted.output["deregistered"] is True
    assert stack.spicedb.calls == ["DeleteRelationships"] * 7, "refused; two batches, refused, two batches, the rest"
    assert held == [(True, fence)] * 7
    assert stack.held() == {}


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
def test_a_removal_that_is_killed_half_way_leaves_owner_and_fence_and_a_second_delete_finishes_it(
    stack: Stack, fault: Fault
) -> None:
    ownership = granted(stack)
    stack.spicedb.clear()
    stack.spicedb.inject("DeleteRelationships", fault, times=None, at=3)

    killed = stack.delete()

    assert (killed.output["existed"], killed.output["deregistered"]) == (True, False)
    assert killed.states[-2:] == ["DeregisterDeferred", "Deleted"]
    assert 0 < stack.grants() < GRANTS
    assert besides_grants(stack) == ownership
    assert owned(stack)[0]

    stack.spicedb.clear()
    again = stack.delete()
    assert (again.output["existed"], again.output["deregistered"]) == (False, True)
    assert stack.held() == {}


def test_a_removal_goes_on_once_when_time_runs_out(stack: Stack) -> None:
    granted(stack)
    stack.batch_times[:] = [True, False]

    deleted = stack.delete()

    assert deleted.states.count("Deregister") == 2
    assert deleted.output["deregistered"] is True
    assert stack.held() == {}


def test_a_delete_says_so_when_time_runs_out_twice_and_the_next_one_goes_on(stack: Stack) -> None:
    ownership = granted(stack)
    stack.batch_times[:] = [True, False, False]

    unfinished = stack.delete()

    assert unfinished.output["deregistered"] is False
    assert unfinished.states.count("Deregister") == 2
    assert stack.grants() == GRANTS - 1000
    assert besides_grants(stack) == ownership

    assert stack.delete().output["deregistered"] is True
    assert stack.held() == {}


def test_a_compensation_removes_thousands_of_grants(stack: Stack) -> None:
    def grant() -> None:
        stack.grant("viewer", *VIEWERS)
        stack.grant("editor", *EDITORS)

    stack.temporal.on_call("CreateSchedule", 1, grant)

    failed = stack.create(stack.request(cron_expression="nonsense"))

    assert failed.error == "ScheduleRejected"
    assert stack.held() == {}


def test_a_create_clears_thousands_of_grants_that_an_interrupted_one_left(stack: Stack) -> None:
    stack.interrupt(stack.request(), at="CreateSchedule")
    stack.grant("viewer", *VIEWERS)
    stack.end_lease()

    created = stack.create()

    assert created.output["replayed"] is False
    assert stack.held() == stack.registered(by=created)


@pytest.mark.parametrize("viewers", [1, 2500])
def test_grants_that_no_operation_registered_block_neither_a_create_nor_a_delete(stack: Stack, viewers: int) -> None:
    stack.grant("viewer", *(f"user:viewer-{number}" for number in range(viewers)))

    created = stack.create()
    assert created.status == "SUCCEEDED"
    assert stack.held() == stack.registered(by=created), "nobody inherits them"
    stack.delete()

    stack.grant("viewer", *(f"user:viewer-{number}" for number in range(viewers)))
    deleted = stack.delete()
    assert (deleted.output["existed"], deleted.output["deregistered"]) == (False, True)
    assert stack.held() == {}


def test_a_grant_on_a_schedule_without_a_registration_goes_with_it(stack: Stack) -> None:
    stack.create({**stack.request(), "principal": None})
    stack.grant("viewer", "user:bob")

    deleted = stack.delete()

    assert (deleted.output["existed"], deleted.output["deregistered"]) == (True, True)
    assert stack.held() == {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_hundred_thousand_grants_are_removed_by_deletes_that_each_go_on(stack: Stack) -> None:
    grants = 100_000
    created = stack.create()
    began = time.monotonic()
    stack.grant("viewer", *(f"user:viewer-{number}" for number in range(grants // 2)))
    stack.grant("editor", *(f"user:editor-{number}" for number in range(grants // 2)))
    filled = time.monotonic() - began
    stack.spicedb.clear()
    stack.spicedb.inject("DeleteRelationships", Fault.KILLED_AFTER, times=None, at=40)

    killed = stack.delete()

    left = stack.grants()
    assert killed.output["deregistered"] is False
    assert 0 < left < grants
    assert owned(stack) == (True, created.registration)
    print(f"{grants:,} grants, written in {filled:.1f} s; a kill at call 40 leaves {left:,}, the owner and the fence")

    stack.spicedb.clear()
    began = time.monotonic()
    while True:
        deleted = stack.delete()
        seconds, calls, left = time.monotonic() - began, len(stack.spicedb.calls), stack.grants()
        print(f"after {seconds:.1f} s and {calls} calls: {left:,} grants left, {deleted.output}")
        if deleted.output["deregistered"]:
            break
    assert stack.held() == {}
