"""Logs, metrics and the frame around every saga function.

A log line is JSON. Lines of saga functions carry the execution's ARN as ``correlation_id``, so one search shows one
saga across all functions; lines of the HTTP API carry the HTTP request's id there. A metric is one EMF line. Neither
ever holds a secret, a token, or a value that a caller sent: only names of fields, and ids. A line has at most
`limits.LOG_LINE` bytes.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from saga_core import limits
from saga_core.deadlines import RemainingTime
from saga_core.errors import SagaError


def _line(log: Mapping[str, Any]) -> str:
    """A log line. In one that is too long, the longest values keep their ends, and ``cut`` names their keys."""
    line = _json(log)
    while limits.size(line) > limits.LOG_LINE.most:
        key = max(log, key=lambda key: len(_json(log[key])))
        text = log[key] if isinstance(log[key], str) else _json(log[key])
        quarter = len(text) // 4
        kept = f"{text[:quarter]}…{text[len(text) - quarter :]}"
        log = {**log, key: kept, "cut": sorted({*log.get("cut", ()), key})}
        line = _json(log)
    return line


_encode = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":")).encode


def _json(value: Any) -> str:
    return limits.writable(_encode(value))


# Powertools would try to read every message as JSON.
logger = Logger(json_serializer=_line, json_deserializer=str)

Event = Mapping[str, Any]
Result = Mapping[str, Any]


class Context(RemainingTime, Protocol):
    """The part of a Lambda context that the functions use."""

    function_name: str
    aws_request_id: str


Handler = Callable[[Event, Context], Result]


def count(metric: str, number: int = 1, /, **dimensions: str) -> None:
    """Count occurrences of ``metric`` in the application's namespace, by service and ``dimensions``."""
    with single_metric(name=metric, unit=MetricUnit.Count, value=number) as counted:
        for name, value in dimensions.items():
            counted.add_dimension(name, value)


def correlate(correlation_id: str | None, context: Context) -> None:
    """Put an invocation's ids on all its log lines.

    The keys are in a context variable, so invocations that run side by side in one process (the laptop) stay apart.
    """
    logger.thread_safe_clear_keys()
    logger.thread_safe_append_keys(
        correlation_id=correlation_id,
        function_name=context.function_name,
        function_request_id=context.aws_request_id,
    )


def is_ping(event: Event) -> bool:
    """Whether an event has no other purpose than that the function is invoked, so that Lambda keeps it active."""
    return "ping" in event


def saga_step(run: Handler) -> Handler:
    """Frame a handler: answer pings, correlate log lines, log the result, count failures, let every error through."""

    @functools.wraps(run)
    def handler(event: Event, context: Context) -> Result:
        if is_ping(event):
            return {}
        correlate(event.get("execution_id"), context)
        try:
            result = run(event, context)
        except SagaError as error:
            name = type(error).__name__
            logger.warning("step failed", error=name, reason=str(error))
            count(name)
            raise
        except Exception:
            logger.exception("step failed unexpectedly")
            count("UnexpectedError")
            raise
        logger.info("step done", result={key: value for key, value in result.items() if key != "schedule"})
        return result

    return handler
