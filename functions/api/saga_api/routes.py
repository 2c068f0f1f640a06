"""The routes of the HTTP API, and the handler of its Lambda function.

A caller who may not read a schedule learns nothing about it: the response is the 404 of an absent one, after the same
work. A caller who may read it gets 403 for what it may not do.
"""

import os
import time
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, cast

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Header, Path, Query
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BeforeValidator

from saga_api import bodies, caller, listing, openapi, paths, problems, schedules, triggers
from saga_api.bodies import JSON, PREFLIGHT, Deleted, Health, Note, SchedulePage
from saga_api.deadlines import response_deadline
from saga_api.executions import ExecutionFailed, run
from saga_api.settings import api_settings
from saga_core import ids, limits
from saga_core.deadlines import Deadline
from saga_core.errors import AgentUpdateDenied, PermissionDenied, SagaError, ScheduleNotFound
from saga_core.observability import Context, Event, Result, correlate, count, is_ping, logger
from saga_core.requests import AgentId, CreateRequest, IdempotencyKey, NewSchedule, ScheduleName
from saga_core.settings import call_settings
from saga_core.views import ScheduleView
from saga_spicedb import spicedb
from saga_temporal import temporal

SCHEDULES = "/agents/<agent_id>/schedules"
DOCS = "/docs"
SCHEDULE = f"{SCHEDULES}/<schedule_name>"

app = APIGatewayHttpResolver(enable_validation=True, json_body_deserializer=bodies.decode)
problems.handle(app)

Agent = Annotated[AgentId, Path(description="the agent that owns the schedules", examples=["weather-agent"])]
Name = Annotated[ScheduleName, Path(description="the schedule's name", examples=["daily-report"])]


@app.post(SCHEDULES, **openapi.CREATE)
def create(
    agent_id: Agent,
    schedule: Annotated[NewSchedule, Body(openapi_examples=openapi.NEW_SCHEDULES)],
    idempotency_key: Annotated[
        IdempotencyKey | None,
        Header(alias="Idempotency-Key", description=openapi.IDEMPOTENCY_KEY, examples=["first-try"]),
    ] = None,
) -> Response[ScheduleView]:
    """Create a schedule, in SpiceDB and in Temporal."""
    who = caller.identify(app.current_event)
    request = CreateRequest.parse(
        {
            "agent_id": agent_id,
            "schedule": schedule,
            "principal": who.principal,
            "idempotency_key": idempotency_key,
        }
    )
    # The machine checks this again. Checked here first, a denial starts no execution. Neither does an outage of
    # SpiceDB, in which a machine could not even undo what it may have done.
    if not spicedb().may_create(who.subject, agent_id, _deadline()):
        raise AgentUpdateDenied(f"the creator may not update agent {agent_id}")
    try:
        output = run(api_settings().create_schedule_state_machine_arn, request.to_json(), _trace(), _deadline())
    except ExecutionFailed as failure:
        raise problems.with_values(failure, schedule) from None
    view = ScheduleView.of_json(output["schedule"]) if output["schedule"] else _read_again(request)
    location = f"{paths.base(app.current_event.raw_event)}/agents/{agent_id}/schedules/{schedule.name}"
    return Response(HTTPStatus.CREATED, JSON, view, headers={"Location": location})


@app.get(SCHEDULES, **openapi.LIST)
def list_(
    agent_id: Agent,
    page_size: Annotated[
        int,
        Query(
            ge=limits.PAGE_SIZE.least,
            le=limits.PAGE_SIZE.most,
            description="the most schedules on a page",
            examples=[100],
        ),
        BeforeValidator(bodies.whole_number),
    ] = 100,
    page_token: Annotated[
        str | None,
        Query(
            max_length=limits.PAGE_TOKEN.most,
            description=openapi.PREVIOUS_PAGE,
            examples=[openapi.PREVIOUS_PAGE_EXAMPLE],
        ),
    ] = None,
) -> SchedulePage:
    """List the agent's schedules that the caller may read, one page at a time."""
    who = caller.identify(app.current_event)
    return listing.page(agent_id, page_size, page_token, who.subject, _deadline())


@app.get(SCHEDULE, **openapi.GET)
def get(agent_id: Agent, schedule_name: Name) -> ScheduleView:
    """Get a schedule."""
    return _described(_permitted("read", agent_id, schedule_name))


@app.post(f"{SCHEDULE}/pause", **openapi.PAUSE)
def pause(agent_id: Agent, schedule_name: Name, note: Annotated[Note | None, Body()] = None) -> ScheduleView:
    """Pause a schedule: it starts nothing until it is unpaused."""
    schedule_id = _permitted("update", agent_id, schedule_name)
    temporal().pause(schedule_id, _reason(note, "paused"), _deadline())
    return _described(schedule_id)


@app.post(f"{SCHEDULE}/unpause", **openapi.UNPAUSE)
def unpause(agent_id: Agent, schedule_name: Name, note: Annotated[Note | None, Body()] = None) -> ScheduleView:
    """Unpause a schedule."""
    schedule_id = _permitted("update", agent_id, schedule_name)
    temporal().unpause(schedule_id, _reason(note, "unpaused"), _deadline())
    return _described(schedule_id)


@app.post(f"{SCHEDULE}/trigger", **openapi.TRIGGER)
def trigger(
    agent_id: Agent,
    schedule_name: Name,
    idempotency_key: Annotated[
        IdempotencyKey | None,
        Header(alias="Idempotency-Key", description=openapi.TRIGGER_KEY, examples=["first-try"]),
    ] = None,
) -> Response[ScheduleView]:
    """Start a schedule's workflow now, by its overlap policy."""
    schedule_id = _permitted("update", agent_id, schedule_name)
    who = caller.identify(app.current_event)
    triggered = triggers.trigger(schedule_id, who.subject, idempotency_key, _deadline())
    headers = {openapi.REPLAYED: "true"} if triggered.replayed else {}
    return Response(HTTPStatus.OK, JSON, triggered.schedule, headers=headers)


@app.delete(SCHEDULE, **openapi.DELETE)
def delete(agent_id: Agent, schedule_name: Name) -> Deleted:
    """Delete a schedule, from Temporal and from SpiceDB."""
    schedule_id = _permitted("delete", agent_id, schedule_name)
    request = {"agent_id": agent_id, "schedule_name": schedule_name}
    output = run(api_settings().delete_schedule_state_machine_arn, request, _trace(), _deadline())
    rest = "" if output["deregistered"] else "; its relationships are not removed yet: repeat the delete later"
    return Deleted(id=schedule_id, message=f"schedule deleted{rest}")


@app.get("/health", **openapi.HEALTH)
def health() -> Health:
    """Say that gateway and function work. It calls no engine, so that an outage of one ends no instance of this."""
    return Health()


@app.get("/openapi.json", include_in_schema=False)
def specification() -> Response[str]:
    """This API's specification, OpenAPI 3.1, with the scopes of the deployment."""
    settings = api_settings()
    text = openapi.specification(app, settings.jwt_read_scope, settings.jwt_write_scope)
    return Response(HTTPStatus.OK, JSON, text)


@cache
def _enable_swagger() -> None:
    """Let the resolver know the route, at the first request for it: what it imports for it takes long."""
    app.enable_swagger(path=DOCS, **openapi.head())


def handler(event: Event, context: Context) -> Result:
    """Respond to an HTTP API request (payload format 2.0); nothing to a ping."""
    if is_ping(event):
        return {}
    began = time.monotonic()
    request = event["requestContext"]
    correlate(request["requestId"], context)
    response = _respond(event, context)
    status = response["statusCode"]
    seconds = round(time.monotonic() - began, 3)
    named = paths.well_formed_ids(event)
    logger.info("request", route=request["routeKey"], status=status, seconds=seconds, extra=named)
    count("Request", route=request["routeKey"], status=str(int(status)))
    return response


def _respond(event: Event, context: Context) -> dict[str, Any]:
    if event["routeKey"] == PREFLIGHT:
        # Where API Gateway has a CORS configuration, it replaces or never asks for this response.
        methods = openapi.methods(app, event["requestContext"]["http"]["path"])
        headers = {"Allow": ", ".join(methods)} if methods else {}
        return {"statusCode": HTTPStatus.NO_CONTENT, "headers": headers}
    if event["routeKey"] == f"GET {DOCS}":
        _enable_swagger()
    body = bodies.text(event)
    if refusal := bodies.refusal(event, body):
        own = {"Content-Type": JSON, **problems.headers_for(HTTPStatus(refusal.code))}
        return {"statusCode": refusal.code, "headers": own, "body": refusal.model_dump_json()}
    headers = {**event["headers"], "content-type": JSON}  # the resolver would accept forms too
    request = {**paths.by_route(event), "headers": headers, "body": body, "isBase64Encoded": False}
    return app.resolve(request, cast(LambdaContext, context))


def _permitted(permission: str, agent_id: str, schedule_name: str) -> str:
    """The id of the schedule, on which the caller has the permission.

    Raises:
        ScheduleNotFound: the caller may not read it, or there is no such schedule.
        PermissionDenied: the caller may read it, and does not have the permission.
    """
    schedule_id = ids.schedule_id(agent_id, schedule_name)
    who = caller.identify(app.current_event)
    # Both in one call, so that a denial takes the same work whether or not there is such a schedule.
    held = spicedb().permissions(who.subject, {"read", permission}, [schedule_id], _deadline())[schedule_id]
    if permission in held:
        return schedule_id
    if "read" in held:
        raise PermissionDenied(f"the caller may not {permission} schedule {schedule_id}")
    raise ScheduleNotFound("schedule not found")


def _reason(note: Note | None, done: str) -> str:
    """The note for Temporal: the caller's, or else who did it."""
    if note and note.note:
        return note.note
    principal = caller.identify(app.current_event).principal
    return limits.cut(f"{done} by {principal.user_id or principal.service_account_id}", limits.TEXT)


def _described(schedule_id: str) -> ScheduleView:
    """The schedule as it is now.

    Raises:
        ScheduleNotFound: there is no such schedule.
    """
    return schedules.described(schedule_id, _deadline())


def _read_again(request: CreateRequest) -> ScheduleView:
    """A schedule that was created and not read back: as it is now, or else as it was asked for."""
    try:
        return _described(request.schedule_id)
    except SagaError as error:
        logger.warning("schedule not read back", schedule_id=request.schedule_id, error=type(error).__name__)
        return ScheduleView.as_asked(request)


def _deadline() -> Deadline:
    """The deadline of the next calls."""
    began = app.current_event.request_context.time_epoch
    return response_deadline(began, app.lambda_context, call_settings().rpc_timeout_seconds)


def _trace() -> str | None:
    """The X-Ray trace header of this invocation."""
    return os.environ.get("_X_AMZN_TRACE_ID") or app.current_event.headers.get("x-amzn-trace-id")
