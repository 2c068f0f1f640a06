"""Starts the Express machines and waits for their end. boto3 is imported at the first call."""

import json
import uuid
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from saga_core import errors
from saga_core.deadlines import Deadline, within
from saga_core.errors import OutcomeUnknown, SagaError
from saga_core.observability import logger

# Longer than the machines take while the engines respond. A request that has less time left waits for less.
WAIT_SECONDS = 25.0
# An execution that could not be waited for even this long is not started.
START_SECONDS = 2.0


class ExecutionFailed(Exception):
    """An execution failed.

    Attributes:
        execution_id: its ARN, or the name it was given where no ARN came back.
        error: an error of ours where its name is one; OutcomeUnknown where the wait or the execution timed out; else
            None.
        settled: False where it may have left something behind, or may still be running.
    """

    def __init__(self, execution_id: str, error: SagaError | None, *, settled: bool = True) -> None:
        super().__init__(f"{execution_id}: {error!r}")
        self.execution_id = execution_id
        self.error = error
        self.settled = settled


def run(machine_arn: str, request: Mapping[str, Any], trace: str | None, deadline: Deadline) -> dict[str, Any]:
    """Run an Express machine to its end and return its output.

    ``trace`` is the X-Ray header that the execution continues. Whatever Step Functions does, this ends by ``deadline``.

    Raises:
        ExecutionFailed: it failed, or did not end in time.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

    name = f"http-{uuid.uuid4()}"
    arguments = {"traceHeader": trace} if trace else {}
    client = _client()
    seconds = min(WAIT_SECONDS, deadline.left())
    if deadline.left() < START_SECONDS:
        logger.warning("execution not started", execution=name, reason="no time was left")
        raise ExecutionFailed(name, errors.StepFunctionsUnavailable("no time was left to start an execution"))

    def start() -> dict[str, Any]:
        started: dict[str, Any] = client.start_sync_execution(
            stateMachineArn=machine_arn, name=name, input=json.dumps(request), **arguments
        )
        return started

    logger.info("execution started", execution=name, machine=machine_arn)
    try:
        ended = within(seconds, start, thread="execution")
    except ClientError as error:
        logger.warning("execution not started", execution=name, reason=error.response["Error"]["Code"])
        raise _refusal(name, error.response) from None
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        logger.warning("execution not started", execution=name, reason=type(error).__name__)
        raise ExecutionFailed(name, errors.StepFunctionsUnavailable("Step Functions was not reached")) from None
    except (BotoCoreError, TimeoutError) as error:
        logger.warning("execution outcome not known", execution=name, reason=type(error).__name__)
        raise ExecutionFailed(name, OutcomeUnknown("the execution did not end in time"), settled=False) from None
    logger.info("execution ended", execution_id=ended["executionArn"], status=ended["status"], error=ended.get("error"))
    if ended["status"] == "SUCCEEDED":
        output: dict[str, Any] = json.loads(ended["output"])
        return output
    raise _failure(ended["executionArn"], ended["status"], ended.get("error", ""), ended.get("cause", ""))


def _refusal(name: str, response: Mapping[str, Any]) -> ExecutionFailed:
    code, status = response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # It may have started the execution before it failed.
        return ExecutionFailed(name, errors.StepFunctionsUnavailable(f"Step Functions: {code}"), settled=False)
    if status == HTTPStatus.TOO_MANY_REQUESTS or "Throttling" in code:
        return ExecutionFailed(name, errors.StepFunctionsUnavailable(f"Step Functions: {code}"))
    return ExecutionFailed(name, errors.ConfigurationError(f"Step Functions refuses the request: {code}"))


def _failure(execution_id: str, status: str, name: str, cause: str) -> ExecutionFailed:
    if status == "TIMED_OUT" or name in ("States.Timeout", "Sandbox.Timedout"):
        return ExecutionFailed(execution_id, OutcomeUnknown("the execution ran out of time"), settled=False)
    error = _error(name, cause)
    if name == "CompensationFailed":
        # To the caller, an outage that also stopped the compensation is an outage.
        original = json.loads(cause)["original"]
        error = _transient(_error(original["Error"], original.get("Cause", ""))) or error
    elif cause.startswith("outcome unverified"):
        error = _transient(error) or OutcomeUnknown("the outcome could not be looked up")
    else:
        # What a name that is not ours leaves behind is not known: the machine may not have compensated.
        return ExecutionFailed(execution_id, error, settled=error is not None and error.settled)
    return ExecutionFailed(execution_id, error, settled=False)


def _transient(error: SagaError | None) -> SagaError | None:
    return error if error and error.http_status is HTTPStatus.SERVICE_UNAVAILABLE else None


def _error(name: str, cause: str) -> SagaError | None:
    error = getattr(errors, name, None) if name.isidentifier() else None
    if not (isinstance(error, type) and issubclass(error, SagaError)):
        return None
    try:
        return error(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return error(cause)


@cache
def _client() -> Any:
    import boto3
    from botocore.config import Config

    # One attempt: a second one would be a second execution.
    config = Config(connect_timeout=3, read_timeout=WAIT_SECONDS, retries={"total_max_attempts": 1})
    return boto3.client("stepfunctions", config=config)
