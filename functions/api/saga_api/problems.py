"""Errors as HTTP responses. A caller sees no internals; the log has them."""

import re
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPMethod, HTTPStatus
from types import MappingProxyType

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from saga_api import openapi
from saga_api.bodies import JSON, NO_ROUTE, Problem
from saga_api.executions import ExecutionFailed
from saga_core.errors import CreateInProgress, SagaError, ScheduleRejected
from saga_core.observability import count, logger
from saga_core.requests import NewSchedule, describe_errors

# Instead of an error's own words, which are for the operator alone.
_WORDS = {
    HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal error",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily unavailable; try again",
}
_UNSETTLED_WORDS = {
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily unavailable and the outcome is not known",
    HTTPStatus.GATEWAY_TIMEOUT: "the outcome is not known yet",
}
# Seconds. Clients ignore a longer Retry-After than a minute; an outage that ends soon ends within a few seconds.
MAX_RETRY_AFTER = 60
RETRY_AFTER = 5
# How the machine's CreateInProgress says how long the lease still lasts.
_LEASE_REST = re.compile(r"in (\d+) seconds")


class Repeat(StrEnum):
    """What a repetition of a request does whose outcome is not known."""

    HARMLESS = "repeat the request"
    BY_KEY = "repeat the request with the same Idempotency-Key"
    DECIDED_BY_CALLER = "look at the schedule before you repeat the request"

    @classmethod
    def of(cls, event: APIGatewayProxyEventV2) -> "Repeat":
        """What a repetition of this request does. Only a create and a trigger are not idempotent by nature."""
        if event.request_context.http.method != HTTPMethod.POST or event.route_key.endswith("pause"):
            return cls.HARMLESS
        return cls.BY_KEY if event.headers.get("idempotency-key") else cls.DECIDED_BY_CALLER


def headers_for(status: HTTPStatus, error: SagaError | None = None, unsettled: Repeat | None = None) -> dict[str, str]:
    """When a client that repeats requests by itself may do so.

    ``unsettled``: the outcome is not known, and this is what a repetition does. Without these headers many clients
    repeat every 409 and 5xx.
    """
    headers = {}
    later = error is not None and error.should_retry
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if (is_refusal and not later) or unsettled is Repeat.DECIDED_BY_CALLER:
        headers["x-should-retry"] = "false"
    if isinstance(error, CreateInProgress):
        rest = _LEASE_REST.search(str(error))
        headers["Retry-After"] = str(min(int(rest[1]), MAX_RETRY_AFTER) if rest else MAX_RETRY_AFTER)
    elif later or (not unsettled and status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)):
        headers["Retry-After"] = str(RETRY_AFTER)
    return headers


def problem(
    status: HTTPStatus,
    message: str = "",
    *,
    error: SagaError | None = None,
    unsettled: tuple[Repeat, str | None] | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response[str]:
    """A response that is an error. ``unsettled``: what a repetition does, and the id of the execution, if any."""
    repeat, execution_id = unsettled or (None, None)
    if repeat and status in _UNSETTLED_WORDS:
        message = f"{_UNSETTLED_WORDS[status]}; {repeat}"
    else:
        message = _WORDS.get(status, message)
    data = {"execution_id": execution_id} if execution_id else error.data if error else None
    body = Problem(message=message, code=status, data=data)
    return Response(status, JSON, body.model_dump_json(), headers={**headers_for(status, error, repeat), **headers})


def with_values(failure: ExecutionFailed, schedule: NewSchedule) -> ExecutionFailed:
    """The failure of a create; one that names fields which Temporal rejects, with their values, which no log has."""
    if not isinstance(failure.error, ScheduleRejected):
        return failure
    values = schedule.checked_by_temporal()
    message = re.sub(r"schedule\.(\w+)", lambda name: f"{name[1]}={values.get(name[1])!r}", str(failure.error))
    return ExecutionFailed(failure.execution_id, ScheduleRejected(message), settled=failure.settled)


def execution_failed(failure: ExecutionFailed, repeat: Repeat) -> Response[str]:
    """The response to a failed execution; with the execution's id where the outcome is not known."""
    unsettled = None if failure.settled else (repeat, failure.execution_id)
    if failure.error is None:
        logger.error("execution failed unexpectedly", execution_id=failure.execution_id)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, unsettled=unsettled)
    # A machine's input has the fields of the body under `schedule`.
    message = str(failure.error).removeprefix("schedule.")
    return problem(failure.error.http_status, message, error=failure.error, unsettled=unsettled)


def refused(error: SagaError, repeat: Repeat) -> Response[str]:
    """The response to an error of ours."""
    logger.info("refused", error=type(error).__name__, reason=str(error))
    return problem(error.http_status, str(error), error=error, unsettled=None if error.settled else (repeat, None))


def invalid(error: RequestValidationError, repeat: Repeat) -> Response[str]:
    """The response to a request that does not fit the models. It names every wrong field and repeats no value."""
    if any(wrong["loc"][0] == "response" for wrong in error.errors()):
        # The response does not fit, not the request.
        logger.error("response does not fit", wrong=describe_errors(error.errors()))
        count("UnexpectedError")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, unsettled=(repeat, None))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, describe_errors(error.errors()))


def unexpected(_error: Exception, repeat: Repeat) -> Response[str]:
    """The response to an error that nobody expected. What the request has done is not known."""
    logger.exception("request failed unexpectedly")
    count("UnexpectedError")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, unsettled=(repeat, None))


def handle(app: APIGatewayHttpResolver) -> None:
    """Let ``app`` respond to errors with the functions above."""

    def no_route(_error: NotFoundError) -> Response[str]:
        """422 where the path lacks an id, 405 where it has other methods, else 404."""
        if app.current_event.route_key != NO_ROUTE:
            return problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, "path: holds what no agent id and no schedule name may hold"
            )
        sent = app.current_event.request_context.http
        methods = openapi.methods(app, sent.path)
        if methods and sent.method not in methods:
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(methods)})
        return problem(HTTPStatus.NOT_FOUND, "no such route")

    def repeated() -> Repeat:
        return Repeat.of(app.current_event)

    app.exception_handler(ExecutionFailed)(lambda error: execution_failed(error, repeated()))
    app.exception_handler(SagaError)(lambda error: refused(error, repeated()))
    app.exception_handler(RequestValidationError)(lambda error: invalid(error, repeated()))
    app.exception_handler(NotFoundError)(no_route)
    app.exception_handler(Exception)(lambda error: unexpected(error, repeated()))
