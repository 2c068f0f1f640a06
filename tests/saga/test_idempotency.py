"""The same key and the same request give the same result again, at once or after a crash; a crash is taken over."""

import json
from typing import Any

import pytest

from local.stack.endpoints import state_machine_arn
from tests.support.proxy import Fault
from tests.support.saga_stack import Stack

NOBODY: dict[str, Any] = {"principal": None}
WITH_AND_WITHOUT_CREATOR = pytest.mark.parametrize("who", [{}, NOBODY], ids=["with creator", "without creator"])


def keyed(stack: Stack, who: dict[str, Any], key: str = "key-1", **changes: Any) -> dict[str, Any]:
    return {**stack.request(**changes), **who, "idempotency_key": key}


@WITH_AND_WITHOUT_CREATOR
def test_the_same_key_and_request_give_the_same_result_again(stack: Stack, who: dict[str, Any]) -> None:
    first = stack.create(keyed(stack, who))
    before = (stack.held(), stack.scheduled())

    again = stack.create(keyed(stack, who))

    assert first.output["replayed"] is False
    assert again.output == {**first.output, "replayed": True}
    assert (stack.held(), stack.scheduled()) == before


def test_the_express_machine_replays_what_the_standard_one_made_and_the_other_way_round(stack: Stack) -> None:
    def express(request: dict[str, Any]) -> Any:
        machine = state_machine_arn("create-schedule-express")
        return stack.sfn.start_sync_execution(stateMachineArn=machine, input=json.dumps(request))

    first = stack.create(keyed(stack, {}))
    replayed = json.loads(express(keyed(stack, {}))["output"])
    assert replayed == {**first.output, "replayed": True}

    assert express(keyed(stack, {}, name="other"))["status"] == "SUCCEEDED"
    assert stack.create(keyed(stack, {}, name="other")).output["replayed"] is True


@WITH_AND_WITHOUT_CREATOR
def test_the_same_key_with_another_request_is_refused(stack: Stack, who: dict[str, Any]) -> None:
    stack.create(keyed(stack, who))
    before = (stack.held(), stack.scheduled())

    refused = stack.create(keyed(stack, who, interval_seconds=60))

    assert (refused.status, refused.error) == ("FAILED", "IdempotencyKeyReused")
    assert refused.states[-1] == "KeyReused"
    assert (stack.held(), stack.scheduled()) == before


def test_the_same_key_from_another_creator_is_refused(stack: Stack) -> None:
    stack.own_agent("bob")
    stack.create(keyed(stack, {}))

    refused = stack.create(keyed(stack, {"principal": {"user_id": "bob"}}))

    assert refused.error == "IdempotencyKeyReused"
    assert stack.held()["owner"] == "user:alice"


def test_a_caller_who_may_not_update_the_agent_learns_nothing_from_a_key(stack: Stack) -> None:
    stack.create(keyed(stack, {}))

    assert stack.create(keyed(stack, {"principal": {"user_id": "mallory"}})).error == "AgentUpdateDenied"


@WITH_AND_WITHOUT_CREATOR
@pytest.mark.parametrize("second", ["another-key", None])
def test_with_another_key_or_none_a_live_schedule_exists_already(
    stack: Stack, who: dict[str, Any], second: str | None
) -> None:
    stack.create(keyed(stack, who))

    refused = stack.create({**stack.request(), **who, "idempotency_key": second})

    assert (refused.status, refused.error) == ("FAILED", "ScheduleAlreadyExists")


def test_a_create_that_was_killed_after_it_landed_is_replayed(stack: Stack) -> None:
    killed = stack.interrupt(keyed(stack, {}), at="ReadBack")
    assert killed.status == "ABORTED"

    again = stack.create(keyed(stack, {}))

    assert again.output["replayed"] is True
    assert again.output["registered"] is True
    stack.end_lease()  # whether it ended by itself depends on which branch the stop met
    assert stack.held() == stack.registered(by=killed)


def test_a_create_in_flight_is_said_to_be_with_the_time_its_lease_still_lasts(stack: Stack) -> None:
    interrupted = stack.interrupt(keyed(stack, {}), at="CreateSchedule")

    refused = stack.create(keyed(stack, {}))

    assert (refused.status, refused.error) == ("FAILED", "CreateInProgress")
    words, _, when = (refused.cause or "").partition("; try again in ")
    assert words == (
        f"another operation holds the name of schedule {stack.agent}--daily: it is in flight, or was interrupted"
    )
    seconds, unit = when.split()
    assert 600 < int(seconds) <= 720
    assert unit == "seconds"
    assert stack.held() == stack.registered(by=interrupted, leased=True)


@pytest.mark.parametrize("key", ["key-1", None])
def test_an_interrupted_create_is_taken_over_once_its_lease_is_over_and_no_grant_survives(
    stack: Stack, key: str | None
) -> None:
    interrupted = stack.interrupt(keyed(stack, {}), at="CreateSchedule")
    stack.grant("viewer", "user:bob")
    stack.end_lease()

    created = stack.create({**stack.request(), "idempotency_key": key})

    assert created.status == "SUCCEEDED"
    assert created.output["replayed"] is False
    assert created.states[3:7] == ["InspectExisting", "InspectOutcome", "ClearStale", "Register"]
    assert created.registration != interrupted.registration
    assert stack.held() == stack.registered(by=created)


def test_what_a_lost_outcome_left_in_temporal_is_restored_by_a_repeat(stack: Stack) -> None:
    stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY, times=None)
    stack.on_wait("CreateSchedule", lambda: stack.temporal.inject("DescribeSchedule", Fault.REFUSED, times=None))
    lost = stack.create(keyed(stack, {}))
    assert (lost.cause or "").startswith("outcome unverified")
    assert stack.held() == {}
    assert stack.scheduled()
    stack.temporal.clear()

    again = stack.create(keyed(stack, {}))

    assert again.output["replayed"] is True
    assert stack.held() == stack.registered(by=lost)
    memo = stack.scheduled()
    assert memo
    assert memo["registration"] == lost.registration


def test_a_key_lives_as_long_as_its_schedule(stack: Stack) -> None:
    stack.create(keyed(stack, {}))
    stack.delete()

    assert stack.create(keyed(stack, {}, interval_seconds=60)).output["replayed"] is False
