import json
from dataclasses import dataclass
from typing import Any

import pytest

from saga_core.errors import TemporalUnavailable
from saga_core.observability import Context, Event, saga_step


@dataclass
class Invocation:
    function_name: str = "register"
    aws_request_id: str = "req-1"

    def get_remaining_time_in_millis(self) -> int:
        return 8000


@pytest.fixture(autouse=True)
def _namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "AgentSchedules")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "agent-schedule-saga")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_failed_step_is_logged_and_counted_by_its_errors_name_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    @saga_step
    def handler(_event: Event, _context: Context) -> dict[str, Any]:
        raise TemporalUnavailable("down")

    with pytest.raises(TemporalUnavailable):
        handler({"execution_id": "arn:x"}, Invocation())

    metric = next(line for line in lines(capsys) if "_aws" in line)
    assert metric["TemporalUnavailable"] == [1.0]
    assert metric["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "AgentSchedules"


def test_an_unexpected_error_is_counted_and_keeps_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    @saga_step
    def handler(_event: Event, _context: Context) -> dict[str, Any]:
        raise KeyError("surprise")

    with pytest.raises(KeyError):
        handler({"execution_id": "arn:x"}, Invocation())

    assert any("UnexpectedError" in line for line in lines(capsys))
