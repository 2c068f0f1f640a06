"""The contract of the machines with those who start them: both types, every bad input, the answers' shapes."""

import json
import uuid
from typing import Any

import pytest

from local.stack.endpoints import state_machine_arn
from tests.support.saga_stack import Stack


def test_the_express_machines_do_the_same_synchronously(stack: Stack) -> None:
    def start(machine: str, request: dict[str, Any]) -> Any:
        return stack.sfn.start_sync_execution(stateMachineArn=state_machine_arn(machine), input=json.dumps(request))

    created = start("create-schedule-express", stack.request())
    assert created["status"] == "SUCCEEDED"
    output = json.loads(created["output"])
    assert (output["outcome"], output["registered"], output["read_back"]) == ("created", True, True)
    assert stack.held()["owner"] == "user:alice"

    duplicate = start("create-schedule-express", stack.request())
    assert (duplicate["status"], duplicate["error"]) == ("FAILED", "ScheduleAlreadyExists")

    deleted = start("delete-schedule-express", stack.deletion())
    assert json.loads(deleted["output"])["deregistered"] is True
    assert stack.held() == {}


def test_a_standard_execution_started_twice_under_one_name_is_one_operation(stack: Stack) -> None:
    name = str(uuid.uuid4())
    arguments = {"stateMachineArn": state_machine_arn("create-schedule"), "name": name}
    first = stack.sfn.start_execution(**arguments, input=json.dumps(stack.request()))["executionArn"]
    again = stack.sfn.start_execution(**arguments, input=json.dumps(stack.request()))["executionArn"]

    assert again == first
    assert stack.ended(first).status == "SUCCEEDED"


def test_the_answer_tells_the_schedule_as_it_was_asked_for(stack: Stack) -> None:
    created = stack.create(
        stack.request(
            workflow_params={"city": "Lisbon", "ünï": [1, None]},
            cron_expression="0 9 * * MON-FRI",
            timezone="Europe/Lisbon",
            overlap_policy="BUFFER_ONE",
            execution_timeout_seconds=600,
            start_at="2030-01-01T00:00:00Z",
            end_at="2031-01-01T00:00:00+01:00",
            paused=True,
        )
    )

    schedule = created.output["schedule"]
    times = schedule.pop("next_action_times")
    assert schedule.pop("created_at").startswith("20")
    assert schedule == {
        "schedule_id": f"{stack.agent}--daily",
        "name": "daily",
        "agent_id": stack.agent,
        "state": "PAUSED",
        "action": {
            "workflow_name": "Report",
            "workflow_id_prefix": f"{stack.agent}--daily-run",
            "task_queue": "reports",
            "workflow_params": [{"city": "Lisbon", "ünï": [1, None]}],
        },
        "spec": {
            "cron_expressions": ["0 9 * * MON-FRI"],
            "intervals_seconds": [3600],
            "intervals": [],
            "start_at": "2030-01-01T00:00:00Z",
            "end_at": "2030-12-31T23:00:00Z",
        },
        "timezone": "Europe/Lisbon",
        "jitter_seconds": None,
        "overlap_policy": "BUFFER_ONE",
        "catchup_window_seconds": 31_536_000,
        "execution_timeout_seconds": 600,
        "note": None,
        "updated_at": None,
        "warnings": [],
        "num_actions_taken": 0,
        "num_actions_missed": 0,
        "last_action_time": None,
    }
    assert times[0].startswith("2030-01-01T")


def test_an_email_address_may_own_a_schedule(stack: Stack) -> None:
    stack.own_agent("alice@example.com")

    created = stack.create({**stack.request(), "principal": {"user_id": "alice@example.com"}})

    assert created.status == "SUCCEEDED"
    assert stack.held()["owner"] == "user:=alice=40example=2Ecom"


BAD_SCHEDULES: list[tuple[dict[str, Any], str]] = [
    ({"interval_seconds": None}, "schedule: needs cron_expression or interval_seconds"),
    ({"interval_seconds": "60"}, "schedule.interval_seconds: "),
    ({"start_at": "2031-01-01T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}, "end_at must be later than start_at"),
    ({"name": "Daily Report"}, "schedule.name: "),
    ({"timezone": "Mars/Olympus"}, "schedule.timezone: "),
    ({"workflow_params": {"blob": "x" * 1_000_000}}, "schedule.workflow_params: is 1,000,011 bytes of JSON"),
    ({"workflow_nam": "typo"}, "schedule.workflow_nam: "),
]


@pytest.mark.parametrize(("change", "reason"), BAD_SCHEDULES, ids=[reason for _, reason in BAD_SCHEDULES])
def test_a_bad_schedule_is_refused_by_field_before_anything_is_called(
    stack: Stack, change: dict[str, Any], reason: str
) -> None:
    failed = stack.create(stack.request(**change))

    assert (failed.status, failed.error) == ("FAILED", "InvalidRequest")
    assert reason in failed.message
    assert failed.states == ["Accept", "Register", "OriginalError", "Failed"]
    assert stack.spicedb.calls == []
    assert stack.temporal.calls == []


@pytest.mark.parametrize("request_", [{}, [], "create it", None, 7, {"agent_id": "a"}, {"schedule": {}}])
@pytest.mark.parametrize("machine", ["create-schedule", "delete-schedule"])
def test_an_input_of_another_shape_is_refused_before_anything_is_called(
    stack: Stack, machine: str, request_: object
) -> None:
    failed = stack.run(machine, request_)

    assert (failed.status, failed.error) == ("FAILED", "InvalidRequest")
    assert failed.states[-1] == "Failed"
    assert stack.spicedb.calls == []
    assert stack.temporal.calls == []


@pytest.mark.parametrize("cron", ["every other day", "61 * * * *", "* * * *", "0 9 * * FOO"])
def test_a_cron_expression_that_temporal_refuses_is_named_and_nothing_stays(stack: Stack, cron: str) -> None:
    failed = stack.create(stack.request(cron_expression=cron))

    assert (failed.status, failed.error) == ("FAILED", "ScheduleRejected")
    assert "schedule.cron_expression" in failed.message
    assert cron not in (failed.cause or "")
    assert stack.held() == {}
    assert stack.scheduled() is None
