"""The events of the tests that call the handler in process are those that the running gateway sends."""

import json
from typing import Any

import pytest

from saga_api.routes import handler
from tests.support.api import NEW_SCHEDULE, Api, encoded
from tests.support.in_process import event

# They differ from request to request, or are only in a request over HTTP.
VARYING_HEADERS = {"authorization", "x-amzn-trace-id", "x-forwarded-port", "host"}
VARYING_CONTEXT = {"requestId", "time", "timeEpoch", "domainName", "domainPrefix", "authorizer"}


def comparable(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what varies; of the authorizer only the subject."""
    authorizer = event["requestContext"].get("authorizer")
    context = {name: value for name, value in event["requestContext"].items() if name not in VARYING_CONTEXT}
    return {
        **event,
        "headers": {name: value for name, value in event["headers"].items() if name not in VARYING_HEADERS},
        "requestContext": context,
        "subject": authorizer and authorizer["jwt"]["claims"]["sub"],
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "", None, {}),
        ("GET", "?page_size=ten&page_token=%C3%A9&page_size=", None, {}),
        ("POST", "", NEW_SCHEDULE, {"Idempotency_Key": "é"}),
        ("POST", "", json.dumps(NEW_SCHEDULE), {"Content_Type": "application/x-www-form-urlencoded"}),
        ("POST", "/daily/pause", b"\xff", {}),
        ("POST", "/daily/pause", "", {}),
        ("POST", "/daily/pause", None, {}),
        ("POST", "/a%0Ab/pause", None, {"Idempotency_Key": " "}),
        ("DELETE", "/a%2Fb", None, {}),
        ("PUT", "", None, {}),
        ("OPTIONS", "/daily/trigger", None, {}),
        ("GET", "/../../openapi.json", None, {}),
    ],
)
def test_an_event_in_process_is_the_one_that_the_gateway_sends(
    method: str, path: str, body: object, headers: dict[str, str], api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []

    def record(event: dict[str, Any], context: Any) -> Any:
        sent.append(event)
        return handler(event, context)

    monkeypatch.setattr("functions.api.app.handler", record)
    api.call(method, api.schedules + path, body, **headers)

    made = event(method, api.schedules + path, *encoded(body, headers), {"sub": "alice"})
    assert [comparable(event) for event in sent] == [comparable(made)]
