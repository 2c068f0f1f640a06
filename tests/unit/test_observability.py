import io
import json
from dataclasses import dataclass
from typing import Any

import pytest

from saga_core import limits
from saga_core.errors import TemporalUnavailable
from saga_core.observability import Context, Event, logger, saga_step
from tests.support.functions import log_lines_to


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


def logged(**values: Any) -> str:
    stream = io.StringIO()
    with log_lines_to(stream):
        logger.info("message", extra=values)
    return stream.getvalue().removesuffix("\n")


@pytest.mark.parametrize("character", ["x", '"', "я", "𝄞", "\n", "\ud800"])
def test_a_log_line_is_bounded_and_says_which_of_its_values_are_cut(character: str) -> None:
    long, longer = f"begin{character * 20_000}end", [f"begin{character * 90_000}", "end"]

    line = logged(long=long, longer=longer, short="s")

    assert len(line.encode()) <= limits.LOG_LINE.most
    kept = json.loads(line)
    assert (kept["message"], kept["short"], kept["cut"][-1]) == ("message", "s", "longer")
    assert kept["longer"].startswith('["begin')
    assert kept["longer"].endswith('"end"]')
    assert kept["long"].startswith("begin")
    assert kept["long"].endswith("end")


def test_a_log_line_within_the_limit_is_whole() -> None:
    room = limits.LOG_LINE.most - len(logged(value="").encode())

    assert "cut" not in json.loads(logged(value="x" * room))
    assert json.loads(logged(value="x" * (room + 1)))["cut"] == ["value"]


def test_an_unexpected_error_is_counted_and_keeps_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    @saga_step
    def handler(_event: Event, _context: Context) -> dict[str, Any]:
        raise KeyError("surprise")

    with pytest.raises(KeyError):
        handler({"execution_id": "arn:x"}, Invocation())

    assert any("UnexpectedError" in line for line in lines(capsys))
