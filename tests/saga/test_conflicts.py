"""Operations on one name: none of them touches what another one registered, and nothing is inherited."""

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
    assert duplicate.states[3:] == ["CreateSchedule", "Conflict", "Compensate", "OriginalError", "Failed"]
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


def test_a_delete_of_an_absent_schedule_leaves_a_create_in_flight_alone(stack: Stack) -> None:
    deleted: list[Ended] = []
    stack.temporal.inject("CreateSchedule", Fault.REFUSED)
    stack.on_wait("CreateSchedule", lambda: deleted.append(stack.delete()))

    created = stack.create()

    assert deleted[0].output["existed"] is False
    assert deleted[0].output["deregistered"] is False
    assert created.status == "SUCCEEDED"
    assert stack.held() == stack.registered(by=created)


def test_a_recreated_schedule_inherits_no_grant(stack: Stack) -> None:
    stack.create()
    stack.grant("viewer", "user:bob")
    stack.delete()

    recreated = stack.create()

    assert stack.held() == stack.registered(by=recreated)
