"""The bodies of HTTP requests and responses, apart from those that `saga_core` has: NewSchedule and ScheduleView."""

import codecs
import json
import re
from base64 import b64decode
from http import HTTPStatus
from typing import Any, Literal, NoReturn

from saga_core import limits
from saga_core.errors import InvalidRequest
from saga_core.observability import Event
from saga_core.requests import Model, Text
from saga_core.views import ScheduleSummary

JSON = "application/json"
# API Gateway's name for requests that no route of template.yaml takes.
NO_ROUTE = "$default"
# The route of template.yaml for the requests that a browser sends before one to another origin.
PREFLIGHT = "OPTIONS /{proxy+}"


class SchedulePage(Model):
    """One page of an agent's schedules: those that the caller may read.

    Attributes:
        total: how many of them are on this page.
        next_page_token: gives the next page; null on the last one. A page may be short or empty and not the last.
    """

    schedules: list[ScheduleSummary]
    total: int
    next_page_token: str | None


class Note(Model):
    """Body of pause and unpause.

    Attributes:
        note: the reason; kept with the schedule in Temporal.
    """

    note: Text | None = None


class Health(Model):
    """Response to a request for the health of the API."""

    status: Literal["ok"] = "ok"


class Deleted(Model):
    """Response to a delete. ``id`` is the schedule's."""

    id: str
    message: str


class Problem(Model):
    """Body of every response that is an error.

    Attributes:
        code: the HTTP status.
        data: ``{"execution_id": …}`` where the outcome of an execution is not known, ``{"last_action_time": …}`` where
            that of an earlier trigger is not, else null.
    """

    message: str
    code: int
    data: dict[str, Any] | None = None


class GatewayProblem(Model):
    """Body of a response of API Gateway itself: the request did not reach the application."""

    message: str


def text(event: Event) -> str:
    """The body of a request, as text, without a byte-order mark.

    UTF-16 is read where a byte-order mark says so. What is not UTF-8 otherwise becomes text that no model accepts.
    """
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return body.removeprefix("\ufeff")
    content = b64decode(body)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            pass  # It is not UTF-16 either.
    return content.decode("utf-8-sig", errors="surrogateescape")


def refusal(event: Event, body: str) -> Problem | None:
    """Why a request is refused before its body is read: too large, or not declared as JSON."""
    content_type = event["headers"].get("content-type", JSON).partition(";")[0].strip().lower()
    if limits.json_size(body) > limits.BODY.most:
        return Problem(message="the body is too large", code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if body and content_type != JSON and event["routeKey"] != NO_ROUTE:
        return Problem(message=f"the body must be {JSON}", code=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    return None


def whole_number(text: object) -> object:
    """Check an integer of the query as JSON has it. Python also reads `+5`, `1_0`, ` 5` and digits of any script.

    Raises:
        ValueError: it is anything else.
    """
    # A parameter that is given twice is a list.
    if not isinstance(text, str) or not re.fullmatch("-?(0|[1-9][0-9]*)", text):
        raise ValueError("must be a whole number in decimal digits")
    return text


def decode(body: str) -> Any:
    """A request's body, decoded.

    Raises:
        InvalidRequest: it is not JSON. Python's parser accepts NaN and Infinity, which are not JSON.
    """

    def refuse(_constant: str) -> NoReturn:
        raise ValueError

    try:
        return json.loads(body, parse_constant=refuse)
    except ValueError:
        raise InvalidRequest("body: is not JSON") from None
    except RecursionError:
        raise InvalidRequest(f"body: is nested deeper than any field may be, {limits.DEPTH.most} levels") from None
