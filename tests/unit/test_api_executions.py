"""What the end of an execution means to the caller of the HTTP API."""

import json
from typing import Any

import pytest

from saga_api import executions
from saga_api.executions import ExecutionFailed
from saga_core.errors import SagaError

UNKNOWN_NAMES = ["States.DataLimitExceeded", "States.Runtime", "ValueError", "Exception", "SagaErrors", ""]


def failure(monkeypatch: pytest.MonkeyPatch, **ended: str) -> ExecutionFailed:
    """How `run` fails, if an execution ends like this."""

    class Client:
        @staticmethod
        def start_sync_execution(**_: Any) -> dict[str, str]:
            return {"executionArn": "arn:of-it", **ended}

    monkeypatch.setattr(executions, "_client", Client)
    with pytest.raises(ExecutionFailed) as raised:
        executions.run("arn:machine", {}, None)
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
