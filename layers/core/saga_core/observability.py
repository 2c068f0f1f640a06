"""Logs, metrics and the frame around every handler.

A log line is JSON and carries the execution's ARN as ``correlation_id``, so that one search shows one saga across all
functions. A metric is one EMF line. Neither ever holds a secret, a token or workflow parameters.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

from saga_core.deadlines import RemainingTime
from saga_core.errors import SagaError

logger = Logger()

Event = Mapping[str, Any]
Answer = Mapping[str, Any]


class Context(RemainingTime, Protocol):
    """The part of a Lambda context that the functions use."""

    function_name: str
    aws_request_id: str


Handler = Callable[[Event, Context], Answer]


def count(metric: str, **dimensions: str) -> None:
    """Count one occurrence of ``metric`` in the application's namespace, by service and ``dimensions``."""
    with single_metric(name=metric, unit=MetricUnit.Count, value=1) as counted:
        for name, value in dimensions.items():
            counted.add_dimension(name, value)


def saga_step(run: Handler) -> Handler:
    """Frame a handler: correlate its log lines, log its outcome, count its failures, let every error through."""

    @functools.wraps(run)
    def handler(event: Event, context: Context) -> Answer:
        # These keys live in a context variable, so invocations that share a process (the local stack) stay apart.
        logger.thread_safe_clear_keys()
        logger.thread_safe_append_keys(
            correlation_id=event.get("execution_id"),
            function_name=context.function_name,
            function_request_id=context.aws_request_id,
        )
        try:
            answer = run(event, context)
        except SagaError as error:
            name = type(error).__name__
            logger.warning("step failed", error=name, reason=str(error))
            count(name)
            raise
        except Exception:
            logger.exception("step failed unexpectedly")
            count("UnexpectedError")
            raise
        logger.info("step done", answer={key: value for key, value in answer.items() if key != "schedule"})
        return answer

    return handler
