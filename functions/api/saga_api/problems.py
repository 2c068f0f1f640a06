"""Errors as HTTP responses. A caller sees no internals; the log has them."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from saga_api import openapi
from saga_api.bodies import JSON, NO_ROUTE, Problem
from saga_api.executions import ExecutionFailed
from saga_core.errors import SagaError
from saga_core.observability import count, logger
from saga_core.requests import describe_errors

# Instead of an error's own words, which are for the operator alone.
_WORDS = {
    HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal error",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily unavailable; try again",
}
_UNSETTLED_WORDS = {
    **_WORDS,
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "temporarily unavailable and the outcome is not known; repeat the request with the same Idempotency-Key"
    ),
    HTTPStatus.GATEWAY_TIMEOUT: "the outcome is not known yet; repeat the request with the same Idempotency-Key",
}


def problem(
    status: HTTPStatus, message: str = "", data: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response[str]:
    """A response that is an error."""
    words = _UNSETTLED_WORDS if data else _WORDS
    body = Problem(message=words.get(status, message), code=status, data=data)
    return Response(status, JSON, body.model_dump_json(), headers=headers)


def execution_failed(failure: ExecutionFailed) -> Response[str]:
    """The response to a failed execution; with the execution's id where the outcome is not known."""
    data = None if failure.settled else {"execution_id": failure.execution_id}
    if failure.error is None:
        logger.error("execution failed unexpectedly", execution_id=failure.execution_id)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, data=data)
    return problem(failure.error.http_status, str(failure.error), data)


def refused(error: SagaError) -> Response[str]:
    """The response to an error of ours."""
    logger.info("refused", error=type(error).__name__, reason=str(error))
    return problem(error.http_status, str(error))


def invalid(error: RequestValidationError) -> Response[str]:
    """The response to a request that does not fit the models. It names every wrong field and repeats no value."""
    if any(wrong["loc"][0] == "response" for wrong in error.errors()):
        # The response does not fit, not the request.
        logger.error("response does not fit", wrong=describe_errors(error.errors()))
        count("UnexpectedError")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, describe_errors(error.errors()))


def unexpected(_error: Exception) -> Response[str]:
    """The response to an error that nobody expected."""
    logger.exception("request failed unexpectedly")
    count("UnexpectedError")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR)


def handle(app: APIGatewayHttpResolver) -> None:
    """Let ``app`` respond to errors with the functions above."""

    def no_route(_error: NotFoundError) -> Response[str]:
        """405 where the path has another method, 422 where an id in the path is malformed, else 404."""
        if app.current_event.route_key != NO_ROUTE:
            return problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, "path: holds what no agent id and no schedule name may hold"
            )
        if methods := openapi.methods(app, app.current_event.path):
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(methods)})
        return problem(HTTPStatus.NOT_FOUND, "no such route")

    app.exception_handler(ExecutionFailed)(execution_failed)
    app.exception_handler(SagaError)(refused)
    app.exception_handler(RequestValidationError)(invalid)
    app.exception_handler(NotFoundError)(no_route)
    app.exception_handler(Exception)(unexpected)
