"""The HTTP API: a principal from verified claims, one permission, then Temporal or an Express machine.

A caller without the permission learns as much as about a schedule that is not there: the same 404, after the same work.
"""

import json
import os
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, NoReturn, cast

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Body, Header, Path, Query
from aws_lambda_powertools.utilities.typing import LambdaContext

from saga_core import ids, openapi
from saga_core.deadlines import Deadline
from saga_core.errors import AgentUpdateDenied, InvalidRequest, SagaError, ScheduleNotFound, Unauthorized
from saga_core.executions import ExecutionFailed, run
from saga_core.models import (
    AgentId,
    CreateRequest,
    Deleted,
    IdempotencyKey,
    NewSchedule,
    Note,
    Principal,
    Problem,
    ScheduleName,
    SchedulePage,
    ScheduleView,
    describe_errors,
    to_json,
)
from saga_core.observability import Answer, Context, Event, count, logger
from saga_core.settings import api_settings, call_settings
from saga_spicedb import spicedb
from saga_temporal import temporal

# A machine's input may be 262,144 bytes; what a valid request needs is less than half.
MAX_BODY_BYTES = 131_072
JSON = "application/json"
SCHEDULES = "/agents/<agent_id>/schedules"
SCHEDULE = f"{SCHEDULES}/<schedule_name>"
# API Gateway's name for what no route of template.yaml takes.
NO_ROUTE = "$default"
CHECKSUM_BYTES = 8
DEFAULT_NOTE = "through the HTTP API"


def json_body(text: str) -> Any:
    """A request's body, decoded.

    Raises:
        InvalidRequest: it is not JSON. Python's parser takes NaN and Infinity for it, and nobody else's does.
    """

    def refuse(_constant: str) -> NoReturn:
        raise ValueError

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise InvalidRequest("body: is not JSON") from None


app = APIGatewayHttpResolver(enable_validation=True, json_body_deserializer=json_body)
# Lambda runs one invocation at a time in a process, and the resolver keeps the request under way where all of the
# process sees it. The laptop stack runs invocations side by side.
_one_at_a_time = threading.Lock()

Agent = Annotated[AgentId, Path(description="whose schedules", examples=["weather-agent"])]
Name = Annotated[ScheduleName, Path(description="the schedule's name", examples=["daily-report"])]


@app.post(SCHEDULES, **openapi.CREATE)
def create(
    agent_id: Agent,
    schedule: Annotated[NewSchedule, Body(openapi_examples=openapi.NEW_SCHEDULES)],
    idempotency_key: Annotated[
        IdempotencyKey | None, Header(alias="Idempotency-Key", description=openapi.IDEMPOTENCY_KEY)
    ] = None,
) -> Response[ScheduleView]:
    """Create a schedule, in SpiceDB and in Temporal."""
    request = CreateRequest.parse(
        {
            "agent_id": agent_id,
            "schedule": schedule,
            "principal": principal(),
            "idempotency_key": idempotency_key,
        }
    )
    # The machine asks again. Asked here first, a denial starts no execution, and neither does an outage of SpiceDB, in
    # which a machine could not even undo what it may have done.
    if not spicedb().may_create(subject(), agent_id, time_left()):
        raise AgentUpdateDenied(f"the creator may not update agent {agent_id}")
    output = run(api_settings().create_schedule_state_machine_arn, to_json(request), trace())
    view = ScheduleView.of_json(output["schedule"]) if output["schedule"] else read_again(request)
    location = f"/agents/{agent_id}/schedules/{schedule.name}"
    return Response(HTTPStatus.CREATED, JSON, view, headers={"Location": location})


@app.get(SCHEDULES, **openapi.LIST)
def list_(
    agent_id: Agent,
    page_size: Annotated[int, Query(ge=1, le=1000, description="schedules looked at for a page")] = 100,
    page_token: Annotated[str | None, Query(max_length=1024, description="from the page before")] = None,
) -> SchedulePage:
    """List the agent's schedules that the caller may read, a page at a time."""
    caller, deadline = subject(), time_left()
    found, following = temporal().page(agent_id, page_size, opened(page_token, agent_id), deadline)
    readable = spicedb().readable(caller, [schedule.schedule_id for schedule in found], deadline)
    schedules = [schedule for schedule in found if schedule.schedule_id in readable]
    token = sealed(following, agent_id) if following else None
    return SchedulePage(schedules=schedules, total=len(schedules), next_page_token=token)


@app.get(SCHEDULE, **openapi.GET)
def get(agent_id: Agent, schedule_name: Name) -> ScheduleView:
    """Get a schedule."""
    return described(permitted("read", agent_id, schedule_name))


@app.post(f"{SCHEDULE}/pause", **openapi.PAUSE)
def pause(agent_id: Agent, schedule_name: Name, note: Annotated[Note | None, Body()] = None) -> ScheduleView:
    """Pause a schedule: it starts nothing until it is unpaused."""
    schedule_id = permitted("update", agent_id, schedule_name)
    there(temporal().pause(schedule_id, (note and note.note) or DEFAULT_NOTE, time_left()))
    return described(schedule_id)


@app.post(f"{SCHEDULE}/unpause", **openapi.UNPAUSE)
def unpause(agent_id: Agent, schedule_name: Name, note: Annotated[Note | None, Body()] = None) -> ScheduleView:
    """Unpause a schedule."""
    schedule_id = permitted("update", agent_id, schedule_name)
    there(temporal().unpause(schedule_id, (note and note.note) or DEFAULT_NOTE, time_left()))
    return described(schedule_id)


@app.post(f"{SCHEDULE}/trigger", **openapi.TRIGGER)
def trigger(agent_id: Agent, schedule_name: Name) -> ScheduleView:
    """Start a schedule's workflow now, by its overlap policy."""
    schedule_id = permitted("update", agent_id, schedule_name)
    there(temporal().trigger(schedule_id, time_left()))
    return described(schedule_id)


@app.delete(SCHEDULE, **openapi.DELETE)
def delete(agent_id: Agent, schedule_name: Name) -> Deleted:
    """Delete a schedule, from Temporal and from SpiceDB."""
    schedule_id = permitted("delete", agent_id, schedule_name)
    request = {"agent_id": agent_id, "schedule_name": schedule_name}
    output = run(api_settings().delete_schedule_state_machine_arn, request, trace())
    rest = "" if output["deregistered"] else "; its relationships are not removed yet: repeat the delete later"
    return Deleted(id=schedule_id, message=f"schedule deleted{rest}")


@app.get("/openapi.json", include_in_schema=False)
def specification() -> Response[str]:
    """This API's specification, OpenAPI 3.1."""
    return Response(HTTPStatus.OK, JSON, openapi.specification(app))


app.enable_swagger(path="/docs", **openapi.HEAD)


def principal() -> Principal:
    """Who calls, by the claims that the authorizer has verified.

    Raises:
        Unauthorized: they name nobody, or two, or somebody blank.
    """
    settings = api_settings()
    authorizer = app.current_event.request_context.authorizer
    claims = (authorizer and authorizer.jwt_claim) or {}
    names = {
        "user_id": settings.user_id_claim,
        "service_account_id": settings.service_account_id_claim,
        "account_id": settings.account_id_claim,
    }
    try:
        caller = Principal.parse({field: claims[name] for field, name in names.items() if name and name in claims})
    except InvalidRequest as refusal:
        raise Unauthorized(f"the token's claims do not tell who calls: {refusal}") from None
    if caller.creator is None:
        raise Unauthorized("the token's claims do not tell who calls")
    return caller


def subject() -> tuple[str, str]:
    """The caller as SpiceDB knows it."""
    creator = principal().creator
    assert creator is not None  # noqa: S101 - principal() has made sure
    return creator


def permitted(permission: str, agent_id: str, schedule_name: str) -> str:
    """The id of the schedule, on which the caller has the permission.

    Raises:
        ScheduleNotFound: the caller has not, or there is no such schedule.
    """
    schedule_id = ids.schedule_id(agent_id, schedule_name)
    there(spicedb().may(subject(), permission, schedule_id, time_left()))
    return schedule_id


def described(schedule_id: str) -> ScheduleView:
    """The schedule as it is now."""
    found = temporal().describe(schedule_id, time_left())
    there(found is not None)
    assert found is not None  # noqa: S101 - the line before has made sure
    return found.schedule


def there(holds: bool) -> None:
    """Answer 404 unless it holds that the schedule is there, and there for the caller."""
    if not holds:
        raise ScheduleNotFound("schedule not found")


def read_again(request: CreateRequest) -> ScheduleView:
    """A schedule that was created and not read back: as it is now, or else as it was asked for."""
    try:
        return described(request.schedule_id)
    except SagaError as error:
        logger.warning("schedule not read back", schedule_id=request.schedule_id, error=type(error).__name__)
        return ScheduleView.as_asked(request)


def sealed(token: bytes, agent_id: str) -> str:
    """A page token that holds the server's, with a checksum of it and of whose list it goes on with.

    What it guards against is a mistake: Temporal answers a token that is none of its own as it does an outage.
    """
    return urlsafe_b64encode(sha256(agent_id.encode() + token).digest()[:CHECKSUM_BYTES] + token).decode()


def opened(page_token: str | None, agent_id: str) -> bytes:
    """The server's token in a page token of ours; empty for the first page."""
    if page_token is None:
        return b""
    try:
        token = b64decode(page_token, altchars=b"-_", validate=True)[CHECKSUM_BYTES:]
    except ValueError:
        token = b""
    if not token or sealed(token, agent_id) != page_token:
        raise InvalidRequest("page_token: is not a token that a list of this agent has given")
    return token


def time_left() -> Deadline:
    """The deadline of the next calls."""
    return Deadline.of(app.lambda_context, call_settings().rpc_timeout_seconds)


def trace() -> str | None:
    """The X-Ray header that this invocation goes by."""
    return os.environ.get("_X_AMZN_TRACE_ID") or app.current_event.headers.get("x-amzn-trace-id")


@app.exception_handler(ExecutionFailed)  # type: ignore[untyped-decorator] # Powertools leaves it untyped
def execution_failed(failure: ExecutionFailed) -> Response[str]:
    """Answer for the error that an execution failed with; where its outcome is open, with the execution's id."""
    data = None if failure.settled else {"execution_id": failure.execution_id}
    if failure.error is None:
        logger.error("execution failed unexpectedly", execution_id=failure.execution_id)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, data=data)
    return problem(failure.error.http_status, str(failure.error), data)


@app.exception_handler(SagaError)  # type: ignore[untyped-decorator] # Powertools leaves it untyped
def refused(error: SagaError) -> Response[str]:
    """Answer for an error of ours."""
    logger.info("refused", error=type(error).__name__, reason=str(error))
    return problem(error.http_status, str(error))


@app.exception_handler(RequestValidationError)  # type: ignore[untyped-decorator] # Powertools leaves it untyped
def invalid(error: RequestValidationError) -> Response[str]:
    """Answer for a request that does not fit: every field that is wrong is named, no value is repeated."""
    if any(wrong["loc"][0] == "response" for wrong in error.errors()):
        # It is the answer that does not fit.
        logger.error("answer does not fit", wrong=describe_errors(error.errors()))
        count("UnexpectedError")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, describe_errors(error.errors()))


@app.exception_handler(NotFoundError)  # type: ignore[untyped-decorator] # Powertools leaves it untyped
def no_route(_error: NotFoundError) -> Response[str]:
    """Answer 405 where the path is served with another method, 422 where an id in it cannot be one, else 404."""
    if app.current_event.route_key != NO_ROUTE:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "path: holds what no agent id and no schedule name may hold")
    if methods := openapi.methods(app, app.current_event.path):
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(methods)})
    return problem(HTTPStatus.NOT_FOUND, "no such route")


@app.exception_handler(Exception)  # type: ignore[untyped-decorator] # Powertools leaves it untyped
def unexpected(_error: Exception) -> Response[str]:
    """Answer for what nobody thought of; the log has it, the caller has not."""
    logger.exception("request failed unexpectedly")
    count("UnexpectedError")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR)


# What is said of an error whose own words are the operator's alone.
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
    """An answer that is an error."""
    words = _UNSETTLED_WORDS if data else _WORDS
    body = Problem(message=words.get(status, message), code=status, data=data)
    return Response(status, JSON, body.model_dump_json(), headers=headers)


def answer_to(event: Event, context: Context) -> dict[str, Any]:
    """The answer to a request: what the routes above answer, unless its body is too large or not said to be JSON."""
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        # What is not UTF-8 becomes what no model takes as text.
        body = b64decode(body).decode(errors="surrogateescape")
    content_type = event["headers"].get("content-type", JSON).partition(";")[0].strip().lower()
    if len(body.encode(errors="replace")) > MAX_BODY_BYTES:
        refusal = Problem(message="the body is too large", code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    elif body and content_type != JSON and event["routeKey"] != NO_ROUTE:
        refusal = Problem(message=f"the body must be {JSON}", code=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    else:
        headers = {**event["headers"], "content-type": JSON}  # the resolver would take forms too
        request = {**event, "headers": headers, "body": body, "isBase64Encoded": False}
        return app.resolve(request, cast(LambdaContext, context))
    return {"statusCode": refusal.code, "headers": {"Content-Type": JSON}, "body": refusal.model_dump_json()}


def handler(event: Event, context: Context) -> Answer:
    """Answer an HTTP API request (payload format 2.0)."""
    began = time.monotonic()
    request = event["requestContext"]
    logger.thread_safe_clear_keys()
    logger.thread_safe_append_keys(
        correlation_id=request["requestId"],
        function_name=context.function_name,
        function_request_id=context.aws_request_id,
    )
    with _one_at_a_time:
        answer = answer_to(event, context)
    status = answer["statusCode"]
    seconds = round(time.monotonic() - began, 3)
    logger.info("request", route=request["routeKey"], path=event["rawPath"], status=status, seconds=seconds)
    count("Request", route=request["routeKey"], status=str(int(status)))
    return answer
