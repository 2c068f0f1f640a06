"""The HTTP API's specification, as far as the code of the routes does not give it: summaries, examples, every error."""

import json
import re
from functools import cache
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

from saga_api import fields
from saga_api.bodies import GatewayProblem, Problem

SCHEDULES, RUNS, SERVICE = "schedules", "runs", "service"
_TAGS = {
    SCHEDULES: "Create, read and delete the schedules of an agent.",
    RUNS: "Decide when a schedule runs: pause it, unpause it, trigger it.",
    SERVICE: "Whether the API itself works.",
}
EXECUTION = (
    "arn:aws:states:us-east-1:123456789012:express:create-schedule-express:"
    "http-5f0c1a52-2f5e-4a53-9f0a-0f6f3c1f8a11:9d3c1f0e-6a55-4a0e-8d6e-0b7f7a2e4c33"
)
IDEMPOTENCY_KEY = (
    "1 to 128 printable ASCII characters without spaces. The same key with the same request gives the same response "
    "again; repeat a create that ended in 504 with it. It lives as long as the schedule."
)
TRIGGER_KEY = (
    "1 to 128 printable ASCII characters without spaces. With one key the schedule is triggered at most once in 24 "
    "hours. A repeat gets the schedule and the header `Idempotency-Replayed`, or 409 if the outcome of the first is "
    "not known."
)
REPLAYED = "Idempotency-Replayed"
PREVIOUS_PAGE = "`next_page_token` of the previous page, for the same agent and caller; at most 1,024 characters"
PREVIOUS_PAGE_EXAMPLE = "kW0xkYb2oJ8S5y0cYx3hUq8t9m1Jr4pXn6vKd7LwZ2A="
NEW_SCHEDULES: dict[str, Any] = {
    "cron": {
        "summary": "every working day at nine in Lisbon",
        "value": {
            "name": "daily-report",
            "workflow_name": "DailyReport",
            "task_queue": "weather",
            "workflow_params": {"city": "Lisbon"},
            "cron_expression": "0 9 * * MON-FRI",
            "timezone": "Europe/Lisbon",
        },
    },
    "interval": {
        "summary": "every hour, for a year, and paused for now",
        "value": {
            "name": "hourly",
            "workflow_name": "Poll",
            "task_queue": "weather",
            "interval_seconds": 3600,
            "end_at": "2027-12-31T00:00:00Z",
            "paused": True,
        },
    },
}

_ERRORS = {
    HTTPStatus.BAD_REQUEST: (
        "Temporal rejects the schedule",
        "Temporal rejects the schedule (it checks task_queue='weather', cron_expression='99 * * * *')",
    ),
    HTTPStatus.UNAUTHORIZED: (
        "no valid token (`gateway`: the response of the gateway itself), or a token that does not identify the caller",
        "the token's claims do not tell who calls",
    ),
    HTTPStatus.FORBIDDEN: (
        "the caller may not update the agent, or may read the schedule and not do this; `gateway`: the token lacks the "
        "scope",
        "the creator may not update agent weather-agent",
    ),
    HTTPStatus.NOT_FOUND: ("there is no such schedule, or the caller may not read it", "schedule not found"),
    HTTPStatus.CONFLICT: (
        "the name is taken, another create of it is in flight, or the key was used with another request",
        "schedule weather-agent--daily-report exists already",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("the body is larger than 128 KiB", "the body is too large"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("the body is not JSON", "the body must be application/json"),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "the request does not fit the model; the message names every wrong field",
        "name: field required",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "too many triggers of the schedule; without a code: too many requests, which did not reach the application",
        "too many triggers of the schedule; try again later",
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "a fault of the service; if `data.execution_id` names an execution, its outcome is not known",
        "internal error",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "an engine gave no usable response; the message says so if the outcome is not known, and `data.execution_id` "
        "names the execution, if there is one",
        "temporarily unavailable; try again",
    ),
    HTTPStatus.GATEWAY_TIMEOUT: (
        "the outcome is not known yet; `data.execution_id` names the execution",
        "the outcome is not known yet; repeat the request with the same Idempotency-Key",
    ),
}
_TRIGGER_CONFLICT = (
    "an earlier trigger with the key is in flight, or its outcome is not known (`data.last_action_time` helps to "
    "decide), or it was for an earlier schedule of this name; nothing was triggered now",
    "a trigger with this key was sent, and whether it took effect is not known",
    {"last_action_time": "2026-11-25T09:00:00Z"},
)
_ALWAYS = (401, 422, 500, 503)
# Responses of API Gateway itself. 401: the token; 403: its scopes; 413: more than 10 MB; 429: too many requests; 431:
# headers that are too large; 500 and 503: a function that fails or does not respond.
_GATEWAY = {
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Request Entity Too Large",
    HTTPStatus.TOO_MANY_REQUESTS: "Too Many Requests",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Request Header Fields Too Large",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Internal Server Error",
    HTTPStatus.SERVICE_UNAVAILABLE: "Service Unavailable",
}
_GATEWAY_ALONE = {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}
# The operation that anyone may call. It reads nothing of the request and calls nothing.
_HEALTH = "get_health"
# What a success carries besides its body.
_SUCCESS_HEADERS = {
    "create_schedule": {"Location": {"description": "the schedule's path", "schema": {"type": "string"}}},
    "trigger_schedule": {
        REPLAYED: {
            "description": "`true` where an earlier request with the key triggered the schedule; else absent",
            "schema": {"type": "string", "enum": ["true"]},
        }
    },
}
# Served besides the operations.
_UNLISTED = {"/openapi.json": ["get"], "/docs": ["get"]}
_REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')


def head() -> dict[str, Any]:
    """The arguments of the resolver's own functions for a specification: what it says of the API as a whole."""
    # Imported here because its models take long to make, and no other response needs them.
    from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer, Tag

    return {
        "title": "Agent schedules",
        "version": "1.0.0",
        "description": (
            "Schedules of agents, kept in step between Temporal, which runs them, and SpiceDB, which says who may see "
            "and change them."
        ),
        "tags": [Tag(name=name, description=description) for name, description in _TAGS.items()],
        "security_schemes": {
            "token": HTTPBearer(
                bearerFormat="JWT",
                description=(
                    "A JWT of the issuer that the deployment accepts. An operation may name a scope that it needs."
                ),
            )
        },
        "security": [{"token": []}],
    }


def specification(app: APIGatewayHttpResolver, read_scope: str | None = None, write_scope: str | None = None) -> str:
    """The specification of ``app`` as JSON text, OpenAPI 3.1.

    ``read_scope`` and ``write_scope``: what a token needs for a GET and for any other request; None for nothing.
    """
    text = app.get_openapi_json_schema(openapi_version="3.1.0", **head())
    document = json.loads(text, parse_float=lambda limit: int(float(limit)))  # it writes 1000 as 1000.0
    for operations in document["paths"].values():
        for method, operation in operations.items():
            scope = read_scope if method == "get" else write_scope
            if operation["operationId"] == _HEALTH:
                operation["security"] = []
                del operation["responses"]["422"]  # the resolver gives it to every operation
            elif scope:
                operation["security"] = [{"token": [scope]}]
    schemas = document["components"]["schemas"]
    # The resolver adds schemas of its own, which no request or response has.
    used = _referred(document["paths"], schemas)
    document["components"]["schemas"] = {name: schema for name, schema in schemas.items() if name in used}
    fields.describe(document["components"]["schemas"])
    return json.dumps(document, ensure_ascii=False)


def _referred(part: Any, schemas: dict[str, Any]) -> set[str]:
    """The names of the schemas that a part of a specification needs, directly or through another one."""
    used: set[str] = set()
    found = set(_REFERENCE.findall(json.dumps(part)))
    while new := found - used:
        used |= new
        found = {name for schema in new for name in _REFERENCE.findall(json.dumps(schemas[schema]))}
    return used


def methods(app: APIGatewayHttpResolver, path: str) -> list[str]:
    """The methods of a path of ``app``, in capitals; none if it has no such path."""
    return next((methods for pattern, methods in _served(app) if pattern.fullmatch(path)), [])


@cache
def _served(app: APIGatewayHttpResolver) -> list[tuple[re.Pattern[str], list[str]]]:
    paths = {**json.loads(specification(app))["paths"], **_UNLISTED}
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), sorted(method.upper() for method in operations))
        for path, operations in paths.items()
    ]


def _operation(operation_id: str, summary: str, success: int, meaning: str, *errors: int) -> dict[str, Any]:
    """The arguments of a route's decorator: its name, the response that means success, and every error."""
    responses: dict[int, Any] = {success: {"description": meaning}}
    if header := _SUCCESS_HEADERS.get(operation_id):
        responses[success]["headers"] = header
    own = {HTTPStatus.INTERNAL_SERVER_ERROR} if operation_id == _HEALTH else {*_ALWAYS, *errors}
    for status in sorted(own):
        what, message = _ERRORS[HTTPStatus(status)]
        data = {"execution_id": EXECUTION} if status == HTTPStatus.GATEWAY_TIMEOUT else None
        if (operation_id, status) == ("trigger_schedule", HTTPStatus.CONFLICT):
            what, message, data = _TRIGGER_CONFLICT
        examples = {"example": {"value": {"message": message, "code": status, "data": data}}}
        model: Any = Problem
        if words := _GATEWAY.get(HTTPStatus(status)):
            model = Problem | GatewayProblem
            examples["gateway"] = {"value": {"message": words}}
        responses[status] = _response(what, model, examples)
        responses[status]["headers"] = _retry_headers(HTTPStatus(status))
    alone = {HTTPStatus.SERVICE_UNAVAILABLE, *_GATEWAY_ALONE} - {HTTPStatus.FORBIDDEN}
    for status in (alone if operation_id == _HEALTH else _GATEWAY_ALONE) - own:
        examples = {"gateway": {"value": {"message": _GATEWAY[status]}}}
        responses[status] = _response("the request did not reach the application", GatewayProblem, examples)
    return {
        "operation_id": operation_id,
        "summary": summary,
        "responses": responses,
        "status_code": success,
        "tags": [_tag(operation_id)],
    }


def _tag(operation_id: str) -> str:
    if operation_id == _HEALTH:
        return SERVICE
    return RUNS if operation_id.startswith(("pause", "unpause", "trigger")) else SCHEDULES


def _retry_headers(status: HTTPStatus) -> dict[str, Any]:
    """The headers of an error's response that tell a client whether to repeat the request; each may be absent."""
    unavailable = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
    headers: dict[str, Any] = {
        "x-should-retry": {
            "description": "`false` where a client should not repeat the request by itself",
            "schema": {"type": "string", "enum": ["false"]},
        }
    }
    if unavailable or status in (HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = {
            "description": "seconds after which a repetition may succeed",
            "schema": {"type": "integer", "minimum": 1, "maximum": 60},
        }
    return headers


def _response(what: str, model: Any, examples: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"model": model, "examples": examples}}}


CREATE = _operation(
    "create_schedule", "Create a schedule", 201, "the schedule, created", 400, 403, 404, 409, 413, 415, 504
)
LIST = _operation("list_schedules", "List an agent's schedules", 200, "a page of schedules")
GET = _operation("get_schedule", "Get a schedule", 200, "the schedule", 404)
PAUSE = _operation("pause_schedule", "Pause a schedule", 200, "the schedule, paused", 403, 404, 413, 415)
UNPAUSE = _operation("unpause_schedule", "Unpause a schedule", 200, "the schedule, active", 403, 404, 413, 415)
TRIGGER = _operation("trigger_schedule", "Trigger a schedule", 200, "the schedule, triggered", 403, 404, 409, 429)
HEALTH = _operation("get_health", "Say whether the API works", 200, "it works; no engine was asked")
DELETE = _operation("delete_schedule", "Delete a schedule", 200, "the schedule is deleted", 403, 404, 504)
