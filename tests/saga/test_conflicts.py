"""Operations on one name: none of them touches what another one registered, and nothing is inherited."""

from typing import Any

import pytest

from saga_core import ids
from tests.support.proxy import Fault
from tests.support.saga_stack import Ended, Stack


def test_a_duplicate_create_fails_and_leaves_the_first_as_it_was(stack: Stack) -> None:
    created = stack.create()
    stack.grant("viewer", "user:bob")
    before = (stack.held(), stack.scheduled())

    duplicate = stack.create(stack.request(interval_seconds=60))

    assert (duplicate.status, duplicate.error) == ("FAILED", "ScheduleAlreadyExists")
    assert duplicate.cause == f"schedule {stack.agent}--daily exists already"
    assert "CreateSchedule" not in duplicate.states
    assert "Compensate" not in duplicate.states
    assert (stack.held(), stack.scheduled()) == before
    assert stack.held() == {**stack.registered(by=created), "viewer": "user:bob"}


def test_a_duplicate_that_only_temporal_notices_is_compensated_and_leaves_the_first_as_it_was(stack: Stack) -> None:
    """The first has no creator, so nothing in SpiceDB stops the second."""
    first = stack.create({**stack.request(), "principal": None})

    duplicate = stack.create()

    assert (duplicate.status, duplicate.error) == ("FAILED", "ScheduleAlreadyExists")
    assert duplicate.states[3:] == [
        *("CreateSchedule", "InspectConflict", "ConflictOutcome", "Compensate", "CompensateOutcome"),
        *("OriginalError", "Failed"),
    ]
    assert stack.held() == {}
    memo = stack.scheduled()
    assert memo
    assert memo["registration"] == first.registration


def test_a_delete_does_not_remove_what_another_operation_registered_meanwhile(stack: Stack) -> None:
    """Between the delete's two steps the name is registered anew; its fence is another one."""
    stack.create()
    successor: list[Ended] = []

    def recreate() -> None:
        stack.spicedb.clear()
        stack.remove_all()
        successor.append(stack.create())

    stack.spicedb.inject("DeleteRelationships", Fault.REFUSED)
    stack.on_wait("Deregister", recreate)
    deleted = stack.delete()

    assert deleted.status == "SUCCEEDED"
    assert successor[0].status == "SUCCEEDED"
    assert stack.held() == stack.registered(by=successor[0])
    assert stack.scheduled()


@pytest.mark.parametrize("who", [{}, {"principal": None}], ids=["with creator", "without creator"])
def test_a_repeated_delete_leaves_a_schedule_alone_that_was_created_since(stack: Stack, who: dict[str, Any]) -> None:
    """The reply to the first attempt is lost, and the name is used anew before the second one."""
    stack.create({**stack.request(), **who})
    successor: list[Ended] = []
    stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY)
    stack.on_wait("DeleteSchedule", lambda: successor.append(stack.create({**stack.request(), **who})))

    deleted = stack.delete()

    assert (deleted.output["existed"], deleted.output["deregistered"]) == (True, True)
    assert successor[0].output["outcome"] == "created"
    memo = stack.scheduled()
    assert memo
    assert memo["registration"] == successor[0].registration
    assert stack.held() == ({} if who else stack.registered(by=successor[0]))


@pytest.mark.parametrize("lease", ["live", "over"])
def test_what_an_interrupted_create_left_is_not_taken_for_that_of_a_schedule_without_a_creator(
    stack: Stack, lease: str
) -> None:
    """The name passes from one schedule without a creator to another one while a delete runs."""
    nobodys = {**stack.request(), "principal": None}
    interrupted = stack.interrupt(stack.request(), at="CreateSchedule")
    if lease == "over":
        stack.end_lease()
    left = stack.held()
    stack.create(nobodys)
    successor: list[Ended] = []
    stack.temporal.clear()
    stack.temporal.inject("DescribeSchedule", Fault.REFUSED, at=2)
    stack.on_wait("LookAgain", lambda: successor.append(stack.create(nobodys)))

    deleted = stack.delete()

    assert interrupted.status == "ABORTED"
    assert left
    assert successor[0].output["outcome"] == "created"
    memo = stack.scheduled()
    assert memo
    assert memo["registration"] == successor[0].registration
    assert (deleted.output["deregistered"], stack.held()) == ((True, {}) if lease == "over" else (False, left))


def test_two_executions_never_have_the_same_registration(stack: Stack) -> None:
    """It is not a function of the execution's name: an Express machine may run one execution twice."""
    first = stack.create()
    stack.delete()
    second = stack.create()

    assert first.registration != second.registration
    assert ids.registration(first.arn) != first.registration


def test_a_delete_of_an_absent_schedule_leaves_a_create_in_flight_alone(stack: Stack) -> None:
    deleted: list[Ended] = []
    stack.temporal.inject("CreateSchedule", Fault.REFUSED)
    stack.on_wait("CreateSchedule", lambda: deleted.append(stack.delete()))

    created = stack.create()

    assert deleted[0].output["existed"] is False
    assert deleted[0].output["deregistered"] is False
    assert created.status == "SUCCEEDED"
    assert stack.held() == stack.registered(by=created, leased=True)


def test_a_recreated_schedule_inherits_no_grant(stack: Stack) -> None:
    stack.create()
    stack.grant("viewer", "user:bob")
    stack.delete()

    recreated = stack.create()

    assert stack.held() == stack.registered(by=recreated)
