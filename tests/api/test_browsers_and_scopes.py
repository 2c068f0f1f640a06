"""The HTTP API as pages of another origin call it, with tokens that have scopes, and without a token."""

from collections.abc import Iterator

import pytest

from local.stack.endpoints import Endpoints
from local.stack.issuer import issue
from tests.support.api import NEW_SCHEDULE, Api
from tests.support.api_stack import fresh, serving
from tests.support.proxy import Fault

PAGE, OTHER = "https://app.example.com:8443", "https://elsewhere.example"
READ, WRITE = "schedules.read", "schedules.write"


@pytest.fixture(scope="module")
def _module_open(running_engines: Endpoints) -> Iterator[Api]:
    given = {"CorsOrigins": f"{PAGE},http://localhost:3000", "JwtReadScope": READ, "JwtWriteScope": WRITE}
    with serving(running_engines, **given) as api:
        yield api


@pytest.fixture
def open_api(_module_open: Api) -> Iterator[Api]:
    """An API for pages of two origins, and for tokens with scopes."""
    with fresh(_module_open) as api:
        yield api


def token(api: Api, scope: str) -> str:
    return issue(api.key, subject="alice", scope=scope)


def routes(api: Api) -> list[tuple[str, str]]:
    verbs = [("POST", f"/daily/{verb}") for verb in ("pause", "unpause", "trigger")]
    return [(method, api.schedules + path) for method, path in (("POST", ""), *verbs, ("DELETE", "/daily"))]


def test_a_page_asks_first_without_a_token_and_then_creates_and_reads_all_headers(open_api: Api) -> None:
    asked = open_api.call(
        "OPTIONS",
        open_api.schedules,
        token="",
        Origin=PAGE,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,idempotency-key",
    )
    created = open_api.call(
        "POST", open_api.schedules, NEW_SCHEDULE, token=token(open_api, WRITE), Origin=PAGE, Idempotency_Key="one"
    )

    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "POST" in asked.headers["access-control-allow-methods"].split(",")
    allowed = asked.headers["access-control-allow-headers"].split(",")
    assert {"authorization", "content-type", "idempotency-key"} <= {*allowed}
    assert (created.status, created.headers["access-control-allow-origin"]) == (201, PAGE)
    readable = created.headers["access-control-expose-headers"].split(",")
    assert {"location", "apigw-requestid", "retry-after", "x-should-retry", "idempotency-replayed"} <= {*readable}


def test_every_route_is_asked_for_without_a_token(open_api: Api) -> None:
    for method, path in [*routes(open_api), ("GET", f"{open_api.schedules}/daily"), ("GET", "/health")]:
        asked = open_api.call("OPTIONS", path, token="", Origin=PAGE, Access_Control_Request_Method=method)
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, PAGE)
    assert open_api.calls() == ([], [])


def test_a_page_of_another_origin_may_read_nothing(open_api: Api) -> None:
    asked = open_api.call("OPTIONS", open_api.schedules, token="", Origin=OTHER, Access_Control_Request_Method="GET")
    listed = open_api.call("GET", open_api.schedules, token=token(open_api, READ), Origin=OTHER)

    for response in (asked, listed):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_a_page_may_read_when_to_repeat_what_failed(open_api: Api) -> None:
    open_api.spicedb.inject("CheckBulkPermissions", Fault.REFUSED, times=None)

    response = open_api.call("GET", f"{open_api.schedules}/daily", token=token(open_api, READ), Origin=PAGE)

    assert (response.status, response.headers["access-control-allow-origin"]) == (503, PAGE)
    assert response.headers["retry-after"] == "5"
    assert "retry-after" in response.headers["access-control-expose-headers"]


def test_a_token_for_reading_reads_and_changes_nothing(open_api: Api) -> None:
    created = open_api.call("POST", open_api.schedules, NEW_SCHEDULE, token=token(open_api, WRITE))
    open_api.calls()
    for method, path in routes(open_api):
        response = open_api.call(method, path, token=token(open_api, f"openid {READ}"))
        assert (response.status, response.body) == (403, {"message": "Forbidden"}), (method, path)
        assert f'scope="{WRITE}" error="insufficient_scope"' in response.headers["www-authenticate"]
    assert created.status == 201
    assert open_api.calls() == ([], [])
    assert open_api.call("GET", f"{open_api.schedules}/daily", token=token(open_api, READ)).body["state"] == "ACTIVE"


def test_a_token_without_the_scope_of_reading_reads_nothing(open_api: Api) -> None:
    for scope in ("", "openid", WRITE):
        for path in (open_api.schedules, f"{open_api.schedules}/daily", "/no/such/route"):
            assert open_api.call("GET", path, token=token(open_api, scope)).status == 403
    assert open_api.calls() == ([], [])


def test_the_specification_that_is_served_names_the_scopes_of_the_deployment(open_api: Api) -> None:
    paths = open_api.call("GET", "/openapi.json", token="").body["paths"]

    schedules = paths["/agents/{agent_id}/schedules"]
    assert schedules["get"]["security"] == [{"token": [READ]}]
    assert schedules["post"]["security"] == [{"token": [WRITE]}]


def test_health_answers_without_a_token_while_no_engine_does(open_api: Api) -> None:
    for engine in (open_api.spicedb, open_api.temporal):
        engine.cut()

    response = open_api.call("GET", "/health", token="", Origin=PAGE)

    assert (response.status, response.body) == (200, {"status": "ok"})
    assert response.headers["access-control-allow-origin"] == PAGE
    assert open_api.calls() == ([], [])
