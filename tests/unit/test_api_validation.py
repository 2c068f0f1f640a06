"""Requests that the HTTP API refuses before it uses an engine.

tests/api/test_errors.py has one request for each status over HTTP.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from saga_core import limits
from tests.support.api import NEW_SCHEDULE
from tests.support.in_process import InProcessApi


@pytest.fixture(autouse=True)
def _calls_nothing(api: InProcessApi) -> Iterator[None]:
    """No test of this module uses an engine or a state machine."""
    yield
    assert api.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/agents"), ("GET", "/agents/a/schedules/b/c/d"), ("POST", "/agents/a/schedules/b/archive")],
)
def test_an_unknown_route_is_404(method: str, path: str, api: InProcessApi) -> None:
    assert api.call(method, path, NEW_SCHEDULE).is_problem(404, "no such route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/agents/a/schedules", "GET, POST"),
        ("DELETE", "/agents/a/schedules", "GET, POST"),
        ("PATCH", "/agents/a/schedules/b", "DELETE, GET"),
        ("POST", "/agents/a/schedules/b", "DELETE, GET"),
        ("GET", "/agents/a/schedules/b/pause", "POST"),
        ("DELETE", "/agents/a/schedules/b/unpause", "POST"),
        ("POST", "/health", "GET"),
        ("POST", "/openapi.json", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_405_and_the_response_names_those_it_has(
    method: str, path: str, allowed: str, api: InProcessApi
) -> None:
    response = api.call(method, path)

    assert response.is_problem(405, "method not allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/agents/a/schedules", "GET, POST"), ("/agents/a/schedules/b/trigger", "POST"), ("/health", "GET"), ("/x", None)],
)
def test_options_names_the_methods_of_a_path_to_anyone_and_calls_nothing(
    path: str, allowed: str | None, api: InProcessApi
) -> None:
    response = api.call("OPTIONS", path, claims={})

    assert (response.status, response.headers.get("allow"), response.body) == (204, allowed, None)
    assert api.calls == []


def test_health_needs_no_claims_and_calls_nothing(api: InProcessApi) -> None:
    response = api.call("GET", "/health", claims={})

    assert (response.status, response.body) == (200, {"status": "ok"})
    assert api.calls == []


def test_a_body_of_more_than_128_kib_is_413(api: InProcessApi) -> None:
    # Two bytes each in UTF-8, so that the characters alone would fit.
    note = json.dumps({"note": "é" * 70_000}, ensure_ascii=False)
    pause = f"{api.schedules}/daily/pause"

    assert api.create(workflow_params={"x": "y" * 131_072}).is_problem(413, "the body is too large")
    assert api.call("POST", pause, note).is_problem(413, "the body is too large")
    assert api.call("POST", pause, b"\xff" * 131_073).is_problem(413, "the body is too large")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "x"],
)
def test_a_body_that_is_not_declared_as_json_is_415(content_type: str, api: InProcessApi) -> None:
    for path in (api.schedules, f"{api.schedules}/daily/pause", f"{api.schedules}/daily/unpause"):
        response = api.call("POST", path, json.dumps(NEW_SCHEDULE), Content_Type=content_type)
        assert response.is_problem(415, "the body must be application/json")


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "not json",
        '{"name": NaN}',
        '{"workflow_params": {"x": Infinity}}',
        f'{{"interval_seconds": {"9" * 5000}}}',
    ],
    ids=["cut off", "text", "NaN", "Infinity", "a number of 5,000 digits"],
)
def test_a_body_that_is_not_json_is_422(body: str, api: InProcessApi) -> None:
    assert api.call("POST", api.schedules, body).is_problem(422, "body: is not JSON")
    assert api.call("POST", f"{api.schedules}/daily/pause", body).is_problem(422, "body: is not JSON")


@pytest.mark.parametrize("body", ['{"note":' * 10_000, "[" * 60_000], ids=["objects", "lists"])
def test_a_body_that_is_too_deep_to_be_read_is_422(body: str, api: InProcessApi) -> None:
    for path in (api.schedules, f"{api.schedules}/daily/pause"):
        assert api.call("POST", path, body).is_problem(422, "body: is nested deeper than any field may be, 100 levels")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"principal": {"user_id": "root"}}, "principal: Extra inputs are not permitted"),
        ({"agent_id": "other"}, "agent_id: Extra inputs are not permitted"),
        ({"idempotency_key": "k"}, "idempotency_key: Extra inputs are not permitted"),
        ({"name": None}, "name: Input should be a valid string"),
        ({"name": "Daily"}, "name: must be lower-case letters"),
        ({"name": "x" * 65}, "name: String should have at most 64 characters"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"workflow_name": " "}, "workflow_name: must not be blank"),
        ({"workflow_name": "\ud800"}, "workflow_name: Input should be a valid string"),
        ({"workflow_params": []}, "workflow_params: Input should be a valid dictionary"),
        ({"workflow_params": {"x": "y" * limits.PARAMS.most}}, "workflow_params: is 65,544 bytes"),
        ({"workflow_params": {"x": "\ud800"}}, "workflow_params: holds what JSON cannot say"),
        ({"interval_seconds": "60"}, "interval_seconds: Input should be a valid integer"),
        ({"interval_seconds": 0}, "interval_seconds: Input should be greater than or equal to 1"),
        ({"interval_seconds": True}, "interval_seconds: Input should be a valid integer"),
        ({"interval_seconds": None}, "body: needs cron_expression or interval_seconds, or both"),
        ({"paused": "yes"}, "paused: Input should be a valid boolean"),
        ({"start_at": 1_700_000_000}, "start_at: must be a time in ISO 8601"),
        ({"start_at": "1700000000"}, "start_at: must be a time in ISO 8601"),
        ({"start_at": "0001-01-01T00:00:00+14:00"}, "start_at: must lie in the years 1 to 9999"),
        ({"start_at": "2030-01-01", "end_at": "2029-01-01"}, "body: end_at must be later than start_at"),
        ({"timezone": "Mars/Olympus"}, "timezone: is not a time zone"),
        ({"overlap_policy": "skip"}, "overlap_policy: Input should be"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_field_that_does_not_fit_is_422_and_named(change: dict[str, Any], message: str, api: InProcessApi) -> None:
    response = api.create(**change)

    assert response.is_problem(422)
    assert response.body["message"].startswith(message)
    assert "root" not in response.body["message"]


@pytest.mark.parametrize("body", ["null", "[]", '"text"', "7", "true", ""])
def test_a_body_that_is_not_an_object_is_422(body: str, api: InProcessApi) -> None:
    assert api.call("POST", api.schedules, body).is_problem(422)


def test_every_field_that_is_wrong_is_named_at_once(api: InProcessApi) -> None:
    response = api.call("POST", api.schedules, {"name": "", "colour": "red"})

    named = {part.partition(":")[0] for part in response.body["message"].split("; ")}
    assert named == {"name", "workflow_name", "task_queue", "colour"}


@pytest.mark.parametrize("body", [{"note": ""}, {"note": 7}, {"why": "x"}, [], "text"])
def test_a_note_that_does_not_fit_is_422(body: object, api: InProcessApi) -> None:
    assert api.call("POST", f"{api.schedules}/daily/pause", json.dumps(body)).is_problem(422)


@pytest.mark.parametrize("path", ["/agents/a--b/schedules", "/agents/-a/schedules", f"/agents/{'a' * 65}/schedules"])
def test_a_malformed_agent_id_is_422(path: str, api: InProcessApi) -> None:
    response = api.call("GET", path)

    assert response.is_problem(422)
    assert response.body["message"].startswith("agent_id: ")


@pytest.mark.parametrize("segment", ["Daily", "d_d", "%22", "%C3%A9", "a%2Fb", "%00", "a%0Ab"])
def test_a_malformed_schedule_name_is_422(segment: str, api: InProcessApi) -> None:
    for method in ("GET", "DELETE"):
        assert api.call(method, f"{api.schedules}/{segment}").is_problem(422)
    assert api.call("POST", f"{api.schedules}/{segment}/pause").is_problem(422)


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=1001",
        "page_size=ten",
        "page_size=",
        "page_token=",
        "page_token=%2A",
        "page_token=abc",
        f"page_token={base64.urlsafe_b64encode(b'no token of a server').decode()}",
        f"page_token={'A' * 1025}",
        "page_token=%C3%A9",
    ],
)
def test_a_query_that_does_not_fit_is_422(query: str, api: InProcessApi) -> None:
    response = api.call("GET", f"{api.schedules}?{query}")

    assert response.is_problem(422)
    assert response.body["message"].startswith(query.partition("=")[0] + ": ")


@pytest.mark.parametrize("key", ["two words", "x" * 129, "é", " "])
def test_a_malformed_idempotency_key_is_422(key: str, api: InProcessApi) -> None:
    trigger = api.call("POST", f"{api.schedules}/daily/trigger", Idempotency_Key=key)

    for response in (api.create(key=key), trigger):
        assert response.is_problem(422)
        assert response.body["message"].startswith("idempotency-key: ")
    assert api.calls == []


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": ""},
        {"sub": " "},
        {"sub": "alice", "service_account_id": "reporter"},
        {"service_account_id": ""},
        {"sub": "x" * 600},
    ],
    ids=["nobody", "empty", "blank", "two at once", "an empty service account", "too long"],
)
def test_claims_that_do_not_identify_the_caller_are_401(claims: dict[str, str], api: InProcessApi) -> None:
    requests = [("GET", ""), ("GET", "/daily"), ("DELETE", "/daily")]
    requests += [("POST", f"/daily/{verb}") for verb in ("pause", "unpause", "trigger")]

    for response in (
        *(api.call(method, api.schedules + path, claims=claims) for method, path in requests),
        api.create(claims=claims),
    ):
        assert response.is_problem(401)
        assert response.body["message"].startswith("the token's claims do not tell who calls")
