"""What deletions by hand and a SpiceDB without its data lead to: names are free at once, and nobody's to take."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio.api.workflowservice.v1 import DescribeScheduleRequest
from temporalio.client import ScheduleIntervalSpec, ScheduleUpdate, ScheduleUpdateInput

from local.stack.endpoints import NAMESPACE
from saga_core import ids
from tests.support.saga_stack import Stack


def keyed(stack: Stack, user: str = "alice", key: str | None = "key-1", **changes: Any) -> dict[str, Any]:
    return {**stack.request(**changes), "principal": {"user_id": user}, "idempotency_key": key}


def in_temporal(stack: Stack) -> list[bytes]:
    """The schedule, its memo and when it was created and updated, as Temporal has them."""

    async def describe() -> list[bytes]:
        schedule_id = ids.schedule_id(stack.agent, "daily")
        found = await stack.scheduler.workflow_service.describe_schedule(
            DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=schedule_id)
        )
        parts: list[Message] = [found.schedule, found.memo, found.info.create_time, found.info.update_time]
        return [part.SerializeToString(deterministic=True) for part in parts]

    return stack.loop.run_until_complete(describe())


def edit_and_pause(stack: Stack) -> None:
    """Give the schedule another interval, and pause it, as a person with Temporal's tools does."""
    handle = stack.scheduler.get_schedule_handle(ids.schedule_id(stack.agent, "daily"))

    def edited(found: ScheduleUpdateInput) -> ScheduleUpdate:
        found.description.schedule.spec.intervals = [ScheduleIntervalSpec(every=timedelta(hours=7))]
        return ScheduleUpdate(found.description.schedule)

    async def change() -> None:
        await handle.update(edited)
        await handle.pause(note="by hand")

    stack.loop.run_until_complete(change())


def counted(capfd: pytest.CaptureFixture[str], metric: str) -> int:
    return sum(f'"{metric}":[1.0]' in line.replace(" ", "") for line in capfd.readouterr().out.splitlines())


@pytest.mark.parametrize("key", ["key-1", None])
def test_a_schedule_that_was_deleted_by_hand_is_created_again_at_once_and_no_grant_survives(
    stack: Stack, key: str | None
) -> None:
    first = stack.create(keyed(stack, key=key))
    stack.grant("viewer", "user:bob")
    stack.delete_by_hand()

    again = stack.create(keyed(stack, key=key))

    assert (again.output["outcome"], again.output["replayed"]) == ("created", False)
    assert again.registration != first.registration
    assert stack.held() == stack.registered(by=again)


def test_a_delete_removes_what_a_schedule_that_was_deleted_by_hand_has_left(stack: Stack) -> None:
    stack.create()
    stack.grant("viewer", "user:bob")
    stack.delete_by_hand()

    deleted = stack.delete()

    assert (deleted.output["existed"], deleted.output["deregistered"]) == (False, True)
    assert stack.held() == {}


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(lambda stack: keyed(stack, "bob", None), id="another creator"),
        pytest.param(lambda stack: keyed(stack, "bob"), id="another creator, with the same key"),
        pytest.param(lambda stack: keyed(stack, key="key-2"), id="another key"),
        pytest.param(lambda stack: keyed(stack, interval_seconds=60), id="another request, with the same key"),
    ],
)
def test_nobody_takes_over_a_schedule_that_nobody_owns(
    stack: Stack, of: Callable[[Stack], dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    stack.own_agent("bob")
    stack.create(keyed(stack))
    edit_and_pause(stack)
    stack.remove_all()
    before = in_temporal(stack)
    capfd.readouterr()

    refused = stack.create(of(stack))

    assert refused.error == "ScheduleAlreadyExists"
    assert refused.message == f"schedule {stack.agent}--daily exists already; nobody owns it, and it awaits repair"
    assert in_temporal(stack) == before
    assert stack.held() == {}
    assert counted(capfd, "UnownedFound") == 1


def test_the_same_request_with_the_same_key_and_creator_restores_the_registration_and_is_replayed(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    first = stack.create(keyed(stack))
    held = stack.held()
    edit_and_pause(stack)
    stack.remove_all()
    before = in_temporal(stack)
    capfd.readouterr()

    again = stack.create(keyed(stack))

    assert (again.output["outcome"], again.output["replayed"], again.output["registered"]) == ("created", True, True)
    assert again.output["schedule"]["state"] == "PAUSED"
    assert stack.held() == held == stack.registered(by=first), "under the memo's fence, and without a lease"
    assert in_temporal(stack) == before
    assert counted(capfd, "RegistrationRestored") == 1


@pytest.mark.parametrize(
    "delete", [Stack.delete_by_hand, Stack.delete], ids=["by another tool", "by the delete machine"]
)
def test_a_schedule_that_is_deleted_while_its_registration_is_restored_leaves_nothing(
    stack: Stack, delete: Callable[[Stack], object]
) -> None:
    stack.create(keyed(stack))
    stack.remove_all()
    stack.temporal.clear()

    def deleting() -> None:
        with stack.spicedb.aside(), stack.temporal.aside():
            delete(stack)

    stack.temporal.on_call("DescribeSchedule", 3, deleting)

    failed = stack.create(keyed(stack))

    assert failed.states[-5:] == ["RestoreOutcome", "LookAfterRestore", "Restored", "UndoRestore", "NotRestored"]
    assert failed.error == "ScheduleNotFound"
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_a_schedule_without_a_creator_awaits_no_repair(stack: Stack, capfd: pytest.CaptureFixture[str]) -> None:
    stack.create({**keyed(stack), "principal": None})

    refused = stack.create(keyed(stack))

    assert refused.error == "ScheduleAlreadyExists"
    assert refused.message == f"schedule {stack.agent}--daily exists already"
    assert counted(capfd, "UnownedFound") == 0


def test_a_name_that_temporal_does_not_free_is_an_error_of_its_own_and_leaves_nothing(stack: Stack) -> None:
    """Temporal says that the name exists, and then that there is no such schedule."""
    stack.create({**keyed(stack), "principal": None})
    stack.temporal.clear()
    stack.temporal.on_call("DescribeSchedule", 1, stack.delete_by_hand)

    refused = stack.create(keyed(stack))

    assert refused.error == "NameReserved"
    assert json.loads(refused.cause or "")["errorMessage"] == (
        f"Temporal does not free the name of schedule {stack.agent}--daily yet"
    )
    assert stack.waits(refused) == [], "what takes minutes is not tried again"
    assert stack.held() == {}
