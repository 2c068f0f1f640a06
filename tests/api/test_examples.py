"""The examples for callers, run as they are against the running stack."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import machines
from local.stack.endpoints import state_machine_arn
from saga_core import errors
from tests.support.api import Api
from tests.support.proxy import Fault

ROOT = Path(__file__).parents[2]
CREATE, DELETE = state_machine_arn("create-schedule-express"), state_machine_arn("delete-schedule-express")
AWS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}


def new(api: Api, key: str | None = None, **changes: Any) -> dict[str, Any]:
    """The input of a create of alice's."""
    schedule = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
    asked = {"agent_id": api.agent, "principal": {"user_id": "alice"}, "schedule": {**schedule, **changes}}
    return asked if key is None else {**asked, "idempotency_key": key}


def old(api: Api) -> dict[str, Any]:
    """The input of a delete."""
    return {"agent_id": api.agent, "schedule_name": "daily"}


@pytest.fixture
def states(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    client = machines.client(api.aws)
    yield client
    client.close()


def refused(states: Any, machine: str, asked: dict[str, Any]) -> machines.ScheduleError:
    """The error of a request that is not repeated."""
    with pytest.raises(machines.ScheduleError) as raised:
        machines.request(states, machine, asked, patience=0)
    return raised.value


@pytest.mark.parametrize("standard", [False, True], ids=["express", "standard"])
def test_a_service_creates_repeats_and_deletes(standard: bool, api: Api, states: Any) -> None:
    create, delete = (state_machine_arn(name) for name in ("create-schedule", "delete-schedule"))
    if not standard:
        create, delete = CREATE, DELETE

    created = machines.request(states, create, new(api, "key-1"), standard=standard)
    again = machines.request(states, create, new(api, "key-1"), standard=standard)
    assert (created["replayed"], again["replayed"]) == (False, True)
    assert "owner@user:alice" in api.held()

    deleted = machines.request(states, delete, old(api), standard=standard)
    assert deleted["deregistered"] is True
    assert not api.scheduled()


def test_an_error_that_a_repetition_cannot_help_says_stop(api: Api, states: Any) -> None:
    machines.request(states, CREATE, new(api, "key-1"))

    found = {
        error.error: error.advice
        for error in (
            refused(states, CREATE, new(api, "key-2")),
            refused(states, CREATE, new(api, "key-1", interval_seconds=60)),
            refused(states, CREATE, {**new(api, "key-3", name="other"), "principal": {"user_id": "mallory"}}),
            refused(states, CREATE, new(api, "key-4", name="Not a name")),
            refused(states, CREATE, new(api, "key-5", name="never", cron_expression="99 * * * *")),
            refused(states, CREATE + "-of-nobody", new(api, "key-6")),
        )
    }
    assert found == {
        "ScheduleAlreadyExists": "stop",
        "IdempotencyKeyReused": "stop",
        "AgentUpdateDenied": "stop",
        "InvalidRequest": "stop",
        "ScheduleRejected": "stop",
        "StateMachineDoesNotExist": "stop",
    }


def test_an_outage_is_waited_out_and_the_repetition_succeeds(api: Api, states: Any) -> None:
    api.spicedb.inject("WriteRelationships", Fault.REFUSED, times=None)
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        api.spicedb.clear()

    created = machines.request(states, CREATE, new(api), sleep=sleep)

    assert (created["outcome"], waited) == ("created", [machines.SECONDS])


def test_a_name_that_is_held_is_asked_for_again_after_the_seconds_that_the_message_names(api: Api, states: Any) -> None:
    api.interrupted()
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        machines.request(states, DELETE, old(api), patience=0)
        raise TimeoutError

    error = refused(states, CREATE, new(api))
    assert (error.error, error.advice) == ("CreateInProgress", "again")
    with pytest.raises(TimeoutError):
        machines.request(states, CREATE, new(api), patience=10_000, sleep=sleep)
    assert 500 < waited[0] <= 720, "the rest of the lease"


def test_an_outcome_that_is_not_known_is_settled_by_the_same_request(api: Api, states: Any) -> None:
    api.temporal.inject("CreateSchedule", Fault.LOST_REPLY, times=None)
    api.temporal.inject("DescribeSchedule", Fault.REFUSED, times=None)

    error = refused(states, CREATE, new(api, "key-1"))
    assert (error.error, error.advice) == ("TemporalUnavailable", "settle")
    assert api.scheduled(), "it has taken effect"
    api.temporal.clear()
    assert machines.request(states, CREATE, new(api, "key-1"))["replayed"] is True


def test_a_step_functions_that_does_not_answer_leaves_the_outcome_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    client = machines.client("http://127.0.0.1:9")

    error = refused(client, CREATE, {"agent_id": "a", "schedule_name": "b"})
    client.close()

    assert (error.error, error.advice) == ("EndpointConnectionError", "settle")


@pytest.mark.parametrize("status", ["TIMED_OUT", "ABORTED"])
def test_an_execution_that_was_cut_short_is_settled(status: str) -> None:
    with pytest.raises(machines.ScheduleError) as raised:
        machines.output({"status": status, "error": "States.Timeout"})

    assert raised.value.advice == "settle"


def executed(*command: str, words: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """An example that has run with these variables in its environment, and these words as its input."""
    return subprocess.run(
        command, input=words, text=True, capture_output=True, cwd=ROOT, env={**os.environ, **variables}, check=False
    )


def run(api: Api, machine: str, asked: object, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "examples/machines.py", "--endpoint-url", api.aws, *options, machine]
    return executed(*command, words=json.dumps(asked), **AWS)


def test_the_command_prints_the_output_and_tells_by_its_exit_code_whether_a_repetition_may_help(api: Api) -> None:
    created = run(api, CREATE, new(api, "key-1"))
    taken = run(api, CREATE, new(api, "key-2"))
    api.interrupted("held")
    held = run(api, CREATE, new(api, name="held"), "--patience", "0")
    api.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)
    deferred = run(api, DELETE, old(api))

    assert (created.returncode, json.loads(created.stdout)["outcome"]) == (0, "created")
    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr.startswith("ScheduleAlreadyExists: ")
    assert (held.returncode, held.stderr.partition(":")[0]) == (75, "CreateInProgress")
    assert (deferred.returncode, json.loads(deferred.stdout)["deregistered"]) == (75, False)


def test_the_table_of_what_to_repeat_is_the_one_of_the_example_and_has_every_error_of_a_machine() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|$", page, re.MULTILINE))
    documented = (ROOT / "docs" / "machines.md").read_text().partition("### Errors\n")[2].partition("\n## ")[0]
    names = {
        name for row in re.findall(r"^\| (`.*?) \|", documented, re.MULTILINE) for name in re.findall("`(\\w+)`", row)
    }

    assert rows == machines.WHAT_TO_DO
    assert rows.keys() == {name for name in names if hasattr(errors, name)}


def script(api: Api, *command: str, subject: str = "alice") -> "subprocess.CompletedProcess[str]":
    return executed(*command, API_URL=api.url, AGENT=api.agent, TOKEN=api.token(subject))


def test_the_script_with_curl_goes_through_a_schedules_life(api: Api) -> None:
    done = script(api, "examples/http_api.sh")

    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert answers[0] == {"status": "ok"}
    assert answers[1]["created_at"] == answers[2]["created_at"], "the second create is a replay"
    assert [each["name"] for each in answers[3]["schedules"]] == ["daily"]
    assert [each["state"] for each in answers[4:6]] == ["PAUSED", "ACTIVE"]
    assert answers[-1]["message"] == "schedule deleted"
    assert not api.scheduled()


def test_the_script_with_curl_ends_at_an_error_and_shows_it(api: Api) -> None:
    done = script(api, "examples/http_api.sh", subject="mallory")

    assert done.returncode == 22
    assert '"code":403' in done.stdout.replace(" ", "")


def test_the_script_with_the_sdk_goes_through_a_schedules_life(api: Api) -> None:
    """The SDK is no dependency of this project: AGENTEX_PYTHON names an interpreter that has it."""
    if not (interpreter := os.environ.get("AGENTEX_PYTHON")):
        pytest.skip("AGENTEX_PYTHON names no interpreter with agentex-sdk 0.12")
    done = script(api, interpreter, "examples/agentex_client.py")

    assert done.returncode == 0, done.stdout + done.stderr
    name = f"{api.agent}--from-the-sdk"
    assert done.stdout.splitlines() == [
        f"created {name}",
        f"created {name}",
        "refused 409",
        "listed  ['from-the-sdk']",
        f"deleted {name}",
    ]
