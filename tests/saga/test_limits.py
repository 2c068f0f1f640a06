"""What passes the limits fits every later layer of the real stack, also when it is repeated; the rest is refused."""

import json
from typing import Any

import pytest

from saga_core import limits
from tests.support.saga_stack import Ended, Stack

MACHINES = ["create-schedule", "create-schedule-express"]
# Step Functions' own limits: bytes of a state, characters of a cause.
MOST_STATE_BYTES = 262_144
MOST_CAUSE_CHARACTERS = 32_768


def filled(character: str) -> dict[str, Any]:
    """Parameters of exactly the largest size, full of a character."""
    room = limits.PARAMS.most - len('{"x":""}')
    each = len(json.dumps(character, ensure_ascii=False)[1:-1].encode())
    return {"x": character * (room // each) + "y" * (room % each)}


def deep() -> dict[str, Any]:
    """Parameters of exactly the largest size and depth."""
    value: Any = "y" * (limits.PARAMS.most - len('{"a":') * limits.DEPTH.most - len('""') - limits.DEPTH.most)
    for _ in range(limits.DEPTH.most):
        value = {"a": value}
    assert isinstance(value, dict)
    return value


PARAMS = {
    "ascii": filled("y"),
    "two bytes a character": filled("я"),
    "four bytes": filled("𝄞"),
    "quotes": filled('"'),
    "control characters": filled("\u0001"),
    "depth": deep(),
    "many values": {"x": [1] * ((limits.PARAMS.most - len('{"x":[]}')) // 2)},
}


def largest(stack: Stack, params: dict[str, Any]) -> dict[str, Any]:
    """A request in which every field has its largest size."""
    stack.agent = "a" * limits.NAME.most
    user = "@" * (limits.SUBJECT.most // 3)
    stack.own_agent(user)
    most = limits.TEXT.most
    return {
        "agent_id": stack.agent,
        "principal": {"user_id": user, "account_id": "я" * (most // 2)},
        "idempotency_key": "k" * limits.KEY.most,
        "schedule": {
            "name": "n" * limits.NAME.most,
            "workflow_name": "é" * (most // 2),
            "task_queue": "𝄞" * (most // 4),
            "workflow_params": params,
            "cron_expression": "0 " + "1," * ((most - len("0 1 * * *")) // 2) + "1 * * *",
            "interval_seconds": limits.SECONDS.most,
            "execution_timeout_seconds": limits.SECONDS.most,
            "jitter_seconds": limits.SECONDS.most,
            "catchup_window_seconds": limits.CATCHUP.most,
            "start_at": "9998-12-31T23:59:59.999999+00:00",
            "end_at": "9999-12-31T23:59:59.999999+00:00",
            "timezone": "America/Argentina/ComodRivadavia",
            "overlap_policy": "TERMINATE_OTHER",
            "paused": True,
        },
    }


def sizes(stack: Stack, ended: Ended) -> list[int]:
    """Bytes of every input, output and result in the history of an execution."""
    events = stack.sfn.get_execution_history(executionArn=ended.arn, maxResults=1000)["events"]
    texts = [
        value
        for event in events
        for details in event.values()
        if isinstance(details, dict)
        for name, value in details.items()
        if name in ("input", "output", "parameters")
    ]
    return [len(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")).encode()) for text in texts]


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS.keys())
def test_the_largest_request_is_created_and_replayed_and_deleted(params: dict[str, Any], stack: Stack) -> None:
    request = largest(stack, params)
    name = request["schedule"]["name"]
    for first, second in (MACHINES, reversed(MACHINES)):
        runs = [stack.run(first, request), stack.run(second, request)]

        assert [(run.status, run.error) for run in runs] == [("SUCCEEDED", None)] * 2
        assert [(run.output["read_back"], run.output["replayed"]) for run in runs] == [(True, False), (True, True)]
        assert all(run.output["schedule"]["action"]["workflow_params"] == [params] for run in runs)
        assert 2 * limits.PARAMS.most < max(size for run in runs for size in sizes(stack, run)) < MOST_STATE_BYTES * 0.6
        assert stack.run("delete-schedule", stack.deletion(name)).output["existed"]


def unknown(number: int, name: str) -> dict[str, str]:
    return {f"{name}{i}": "" for i in range(number)}


UNKNOWN = [unknown(1000, "x"), unknown(3000, "x"), unknown(12_500, "x"), unknown(600, "𝄞" * 100)]


@pytest.mark.parametrize("machine", ["create-schedule", "delete-schedule-express"])
@pytest.mark.parametrize("fields", UNKNOWN, ids=["1000", "3000", "12500", "600 with long names"])
def test_any_number_of_unknown_fields_is_an_invalid_request_whose_cause_fits(
    machine: str, fields: dict[str, str], stack: Stack
) -> None:
    request = stack.deletion() if machine.startswith("delete") else stack.request()

    failed = stack.run(machine, {**request, **fields})

    assert failed.error == "InvalidRequest"
    assert len(failed.cause or "") <= MOST_CAUSE_CHARACTERS
    named = failed.message.split("; ")
    assert len(failed.message) <= limits.MESSAGE.most
    assert named[-1] == f"and {len(fields) - len(named) + 1} more"
    assert stack.held() == {}
    assert (stack.spicedb.calls, stack.temporal.calls) == ([], [])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("levels", [limits.DEPTH.most + 1, 199, 255])
def test_what_is_nested_too_deep_is_refused_before_anything_is_called(machine: str, levels: int, stack: Stack) -> None:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}

    failed = stack.run(machine, stack.request(workflow_params=value))

    assert failed.error == "InvalidRequest"
    assert failed.message == f"schedule.workflow_params: is {levels} levels deep; at most 100 are allowed"
    assert (stack.spicedb.calls, stack.temporal.calls) == ([], [])


@pytest.mark.parametrize("levels", [400, 5000, 100_000])
def test_an_input_that_the_laptops_interpreter_cannot_read_starts_nothing(levels: int, stack: Stack) -> None:
    with pytest.raises(stack.sfn.exceptions.InvalidExecutionInput):
        stack.sfn.start_execution(
            stateMachineArn="arn:aws:states:us-east-1:123456789012:stateMachine:create-schedule",
            input="[" * levels + "]" * levels,
        )


@pytest.mark.parametrize("field", ["workflow_name", "task_queue", "cron_expression"])
def test_text_of_more_bytes_than_temporal_takes_is_refused_before_anything_is_called(field: str, stack: Stack) -> None:
    failed = stack.create(stack.request(**{field: "é" * 501}))

    assert failed.error == "InvalidRequest"
    assert failed.message == f"schedule.{field}: is 1,002 bytes in UTF-8; at most 1,000 are allowed"
    assert (stack.spicedb.calls, stack.temporal.calls) == ([], [])


@pytest.mark.parametrize("comment", ["c" * 150, "c" * 600, "é" * 400])
def test_a_comment_of_any_length_is_no_reason_to_refuse_a_cron_expression(comment: str, stack: Stack) -> None:
    asked = f"0 9 * * * # {comment}"

    created = stack.create(stack.request(cron_expression=asked, interval_seconds=None))

    assert created.status == "SUCCEEDED"
    shown = created.output["schedule"]["spec"]["cron_expressions"]
    assert shown == [asked if limits.size(asked) <= limits.CRON_TEXT.most else "0 9 * * *"]
