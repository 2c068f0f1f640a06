"""What the end of an execution means to the caller of the HTTP API."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from saga_api import executions
from saga_api.executions import START_SECONDS, ExecutionFailed
from saga_core.deadlines import Deadline
from saga_core.errors import OutcomeUnknown, SagaError, StepFunctionsUnavailable

UNKNOWN_NAMES = ["States.DataLimitExceeded", "States.Runtime", "ValueError", "Exception", "SagaErrors", ""]


def in_time(seconds: float) -> Deadline:
    return Deadline(time.monotonic() + seconds, per_call=3)


def failure(monkeypatch: pytest.MonkeyPatch, **ended: str) -> ExecutionFailed:
    """How `run` fails, if an execution ends like this."""

    class Client:
        @staticmethod
        def start_sync_execution(**_: Any) -> dict[str, str]:
            return {"executionArn": "arn:of-it", **ended}

    monkeypatch.setattr(executions, "_client", Client)
    with pytest.raises(ExecutionFailed) as raised:
        executions.run("arn:machine", {}, None, in_time(60))
    return raised.value


@pytest.mark.parametrize("name", UNKNOWN_NAMES)
def test_an_error_of_a_name_that_is_not_ours_is_never_settled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failure(monkeypatch, status="FAILED", error=name, cause="whatever")

    assert (failed.error, failed.settled) == (None, False)


def test_an_aborted_execution_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failure(monkeypatch, status="ABORTED").settled


def ours(of: type[SagaError] = SagaError) -> list[type[SagaError]]:
    return [each for sub in of.__subclasses__() for each in (sub, *ours(sub))]


@pytest.mark.parametrize("error", ours())
def test_an_error_of_ours_is_settled_unless_it_says_that_the_outcome_is_unknown(
    error: type[SagaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = {"original": {"Error": error.__name__}}
    failed = failure(monkeypatch, status="FAILED", error=error.__name__, cause=json.dumps(original))

    assert type(failed.error) is error
    assert failed.settled is (error.__name__ not in ("CompensationFailed", "OutcomeUnknown", "TriggerOutcomeUnknown"))


class SilentClient:
    """A Step Functions that answers too late, whatever botocore's own limits are."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.let_go = threading.Event()

    def start_sync_execution(self, *, name: str, **_: Any) -> dict[str, str]:
        self.started.append(name)
        self.let_go.wait(20)
        return {"executionArn": "arn:of-it", "status": "SUCCEEDED", "output": "{}"}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentClient]:
    client = SilentClient()
    monkeypatch.setattr(executions, "_client", lambda: client)
    yield client
    client.let_go.set()


def test_a_wait_ends_by_the_deadline_and_names_the_execution(silent: SilentClient) -> None:
    with pytest.raises(ExecutionFailed) as raised:
        executions.run("arn:machine", {}, None, in_time(START_SECONDS + 0.2))

    assert (raised.value.execution_id, raised.value.settled) == (silent.started[0], False)
    assert isinstance(raised.value.error, OutcomeUnknown)


def test_an_execution_that_nobody_can_wait_for_is_not_started(silent: SilentClient) -> None:
    with pytest.raises(ExecutionFailed) as raised:
        executions.run("arn:machine", {}, None, in_time(START_SECONDS / 2))

    assert silent.started == []
    assert raised.value.settled
    assert isinstance(raised.value.error, StepFunctionsUnavailable)
