"""Every error of the API, by status. Its body is always {"message", "code", "data"}, and holds nothing internal."""

import base64
import json
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from functions.temporal_create import app as temporal_create
from saga_api import executions, routes
from saga_api.settings import api_settings
from saga_core.requests import MAX_WORKFLOW_PARAMS_BYTES
from tests.api.conftest import Answer, Api, eventually
from tests.support.proxy import Fault

VALID = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
NO_JSON = "body: is not JSON"


def test_a_bad_cron_expression_is_400_and_leaves_nothing_in_either_system(api: Api) -> None:
    answer = api.create(cron_expression="99 * * * *")

    assert answer.is_problem(400)
    assert "99 * * * *" in answer.body["message"]
    assert api.held() == []
    assert not api.scheduled()


def test_creating_for_an_agent_that_one_may_not_update_is_403_and_starts_nothing(api: Api) -> None:
    api.relate(f"agent:{api.agent}#viewer@user:bob")

    for stranger in ("bob", "nobody"):
        api.calls()
        answer = api.create(as_=stranger)
        assert answer.is_problem(403, f"the creator may not update agent {api.agent}")
        assert api.calls() == (["CheckPermission"], [])
    assert api.held() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/agents"), ("GET", "/agents/a/schedules/b/c/d"), ("POST", "/agents/a/schedules/b/archive")],
)
def test_an_unknown_route_is_404(method: str, path: str, api: Api) -> None:
    assert api.call(method, path, VALID).is_problem(404, "no such route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/agents/a/schedules", "GET, POST"),
        ("DELETE", "/agents/a/schedules", "GET, POST"),
        ("PATCH", "/agents/a/schedules/b", "DELETE, GET"),
        ("POST", "/agents/a/schedules/b", "DELETE, GET"),
        ("GET", "/agents/a/schedules/b/pause", "POST"),
        ("DELETE", "/agents/a/schedules/b/unpause", "POST"),
        ("OPTIONS", "/agents/a/schedules/b/trigger", "POST"),
        ("POST", "/openapi.json", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_know_is_405_and_told_which_it_knows(
    method: str, path: str, allowed: str, api: Api
) -> None:
    answer = api.call(method, path)

    assert answer.is_problem(405, "method not allowed")
    assert answer.headers["allow"] == allowed


def test_a_name_that_is_taken_is_409_and_the_schedule_stays_as_it_was(api: Api) -> None:
    api.create()
    before = api.get().body, api.held()

    assert api.create(interval_seconds=60).is_problem(409, f"schedule {api.id()} exists already")
    assert (api.get().body, api.held()) == before


def test_a_name_that_another_create_holds_is_409(api: Api) -> None:
    api.interrupted()

    answer = api.create()

    assert answer.is_problem(409)
    assert "is being created" in answer.body["message"]


def test_a_body_of_more_than_128_kib_is_413(api: Api) -> None:
    # Two bytes each in UTF-8, so that the characters alone would fit.
    note = json.dumps({"note": "é" * 70_000}, ensure_ascii=False)

    assert api.call("POST", api.schedules, {**VALID, "workflow_params": {"x": "y" * 131_072}}).is_problem(
        413, "the body is too large"
    )
    assert api.call("POST", f"{api.schedules}/daily/pause", note).is_problem(413, "the body is too large")
    assert api.call("POST", f"{api.schedules}/daily/pause", b"\xff" * 131_073).is_problem(413, "the body is too large")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "x"],
)
def test_a_body_that_does_not_call_itself_json_is_415(content_type: str, api: Api) -> None:
    for path in (api.schedules, f"{api.schedules}/daily/pause", f"{api.schedules}/daily/unpause"):
        answer = api.call("POST", path, json.dumps(VALID), Content_Type=content_type)
        assert answer.is_problem(415, "the body must be application/json")


@pytest.mark.parametrize("content_type", ["APPLICATION/JSON", "application/json; charset=utf-8"])
def test_json_may_be_called_so_in_any_spelling(content_type: str, api: Api) -> None:
    answer = api.call("POST", api.schedules, json.dumps(VALID), Content_Type=content_type)

    assert answer.status == 201


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "not json",
        '{"name": NaN}',
        '{"workflow_params": {"x": Infinity}}',
        f'{{"interval_seconds": {"9" * 5000}}}',
        '{"note":' * 10_000,
        "[" * 60_000,
    ],
    ids=["cut off", "text", "NaN", "Infinity", "a number of 5,000 digits", "deep objects", "deep lists"],
)
def test_a_body_that_is_not_json_is_422(body: str, api: Api) -> None:
    assert api.call("POST", api.schedules, body).is_problem(422, NO_JSON)
    assert api.call("POST", f"{api.schedules}/daily/pause", body).is_problem(422, NO_JSON)


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
        ({"workflow_params": {"x": "y" * MAX_WORKFLOW_PARAMS_BYTES}}, "workflow_params: is 65,544 bytes"),
        ({"workflow_params": {"x": "\ud800"}}, "workflow_params: holds what JSON cannot say"),
        ({"interval_seconds": "60"}, "interval_seconds: Input should be a valid integer"),
        ({"interval_seconds": 0}, "interval_seconds: Input should be greater than 0"),
        ({"interval_seconds": True}, "interval_seconds: Input should be a valid integer"),
        ({"interval_seconds": None}, "input: needs cron_expression or interval_seconds, or both"),
        ({"paused": "yes"}, "paused: Input should be a valid boolean"),
        ({"start_at": 1_700_000_000}, "start_at: must be a time in ISO 8601"),
        ({"start_at": "1700000000"}, "start_at: must be a time in ISO 8601"),
        ({"start_at": "0001-01-01T00:00:00+14:00"}, "start_at: must lie in the years 1 to 9999"),
        ({"start_at": "2030-01-01", "end_at": "2029-01-01"}, "input: end_at must be later than start_at"),
        ({"timezone": "Mars/Olympus"}, "timezone: is not a time zone"),
        ({"overlap_policy": "skip"}, "overlap_policy: Input should be"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_field_that_does_not_fit_is_422_and_named_and_nothing_is_called(
    change: dict[str, Any], message: str, api: Api
) -> None:
    answer = api.call("POST", api.schedules, {**VALID, **change})

    assert answer.is_problem(422)
    assert answer.body["message"].startswith(message)
    assert "root" not in answer.body["message"]
    assert api.calls() == ([], [])


@pytest.mark.parametrize("body", ["null", "[]", '"text"', "7", "true", ""])
def test_a_body_that_is_no_object_is_422(body: str, api: Api) -> None:
    assert api.call("POST", api.schedules, body).is_problem(422)


def test_every_field_that_is_wrong_is_named_at_once(api: Api) -> None:
    answer = api.call("POST", api.schedules, {"name": "", "colour": "red"})

    named = {part.partition(":")[0] for part in answer.body["message"].split("; ")}
    assert named == {"name", "workflow_name", "task_queue", "colour"}


@pytest.mark.parametrize("body", [{"note": ""}, {"note": 7}, {"why": "x"}, [], "text"])
def test_a_note_that_does_not_fit_is_422(body: object, api: Api) -> None:
    assert api.call("POST", f"{api.schedules}/daily/pause", json.dumps(body)).is_problem(422)


@pytest.mark.parametrize("path", ["/agents/a--b/schedules", "/agents/-a/schedules", f"/agents/{'a' * 65}/schedules"])
def test_an_agent_id_that_cannot_be_one_is_422(path: str, api: Api) -> None:
    answer = api.call("GET", path)

    assert answer.is_problem(422)
    assert answer.body["message"].startswith("agent_id: ")


@pytest.mark.parametrize("segment", ["Daily", "d_d", "%22", "%C3%A9", "a%2Fb", "%00", "a%0Ab"])
def test_a_schedule_name_that_cannot_be_one_is_422(segment: str, api: Api) -> None:
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
def test_a_query_that_does_not_fit_is_422(query: str, api: Api) -> None:
    answer = api.call("GET", f"{api.schedules}?{query}")

    assert answer.is_problem(422)
    assert answer.body["message"].startswith(query.partition("=")[0] + ": ")


REQUESTS: dict[str, Callable[[Api], Answer]] = {
    "create": lambda api: api.create("other"),
    "list": lambda api: api.call("GET", api.schedules),
    "get": lambda api: api.get(),
    "pause": lambda api: api.call("POST", f"{api.schedules}/daily/pause"),
    "unpause": lambda api: api.call("POST", f"{api.schedules}/daily/unpause"),
    "trigger": lambda api: api.call("POST", f"{api.schedules}/daily/trigger"),
    "delete": lambda api: api.delete(),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_without_spicedb_every_route_is_503_and_nothing_has_happened(
    request_: Callable[[Api], Answer], api: Api
) -> None:
    api.create()
    before = api.get().body
    api.spicedb.cut()

    assert request_(api).is_problem(503, "temporarily unavailable; try again")

    api.spicedb.clear()
    assert api.get().body == before
    assert api.held("other") == []
    assert not api.scheduled("other")


@pytest.mark.parametrize("request_", [REQUESTS[name] for name in REQUESTS if name != "create"])
def test_without_temporal_every_route_is_503_and_nothing_has_happened(
    request_: Callable[[Api], Answer], api: Api
) -> None:
    api.create()
    before = api.get().body
    api.temporal.cut()

    assert request_(api).is_problem(503, "temporarily unavailable; try again")

    api.temporal.clear()
    assert api.get().body == before


def test_a_create_that_could_not_be_looked_up_is_503_and_names_the_execution(api: Api) -> None:
    api.temporal.cut()

    answer = api.create()

    execution_id = answer.body["data"]["execution_id"]
    assert answer.is_problem(
        503,
        "temporarily unavailable and the outcome is not known; repeat the request with the same Idempotency-Key",
        {"execution_id": execution_id},
    )
    assert execution_id.startswith("arn:aws:states:us-east-1:123456789012:express:create-schedule-express:")
    assert api.held() == []
    api.temporal.clear()
    assert api.create().status == 201


def test_an_outage_that_lets_nothing_be_undone_is_503_and_names_the_execution(api: Api) -> None:
    # The permission is still read; from the write on, nothing is.
    api.spicedb.inject("WriteRelationships", Fault.LOST_REPLY)
    api.spicedb.inject("CheckPermission", Fault.REFUSED, times=None, at=3)
    api.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)

    answer = api.create()

    assert answer.status == 503
    assert answer.body["data"]["execution_id"].startswith("arn:")


def test_a_permission_that_goes_between_the_question_and_the_create_is_403(api: Api) -> None:
    api.spicedb.on_call("CheckPermission", 2, lambda: api.unrelate(f"agent:{api.agent}#owner@user:alice"))

    assert api.create().is_problem(403, f"the creator may not update agent {api.agent}")
    assert api.held() == []


def test_a_bug_in_the_function_is_500_without_internals(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def described(_schedule_id: str) -> None:
        raise RuntimeError("the innermost secret of /var/task")

    api.create()
    monkeypatch.setattr(routes, "_described", described)

    assert api.get().is_problem(500, "internal error")
    assert "the innermost secret" in api.log.getvalue()


def test_an_answer_that_does_not_fit_its_model_is_500(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_described", lambda _schedule_id: {"state": "BROKEN"})

    assert api.create().status == 201
    assert api.get().is_problem(500, "internal error")


def test_a_bug_in_a_step_is_500_without_internals_and_compensated(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(_event: object, _context: object) -> None:
        raise RuntimeError("the innermost secret of /var/task")

    monkeypatch.setattr(temporal_create, "handler", handler)

    assert api.create().is_problem(500, "internal error")
    assert api.held() == []


@pytest.mark.parametrize("arn", ["", "no-arn-at-all", "arn:aws:states:us-east-1:123456789012:stateMachine:unheard-of"])
def test_a_misconfigured_function_is_500_without_internals(arn: str, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREATE_SCHEDULE_STATE_MACHINE_ARN", arn)
    api_settings.cache_clear()
    try:
        assert api.create().is_problem(500, "internal error")
    finally:
        api_settings.cache_clear()


@pytest.mark.parametrize(
    ("status", "code", "answered", "settled"),
    [
        (400, "ThrottlingException", 503, True),
        (429, "TooManyRequestsException", 503, True),
        (500, "InternalServerException", 503, False),
        (400, "AccessDeniedException", 500, True),
    ],
)
def test_what_step_functions_refuses_is_503_or_500(
    status: int, code: str, answered: int, settled: bool, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def start_sync_execution(self, **_: object) -> None:
            response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(cast(Any, response), "StartSyncExecution")

    monkeypatch.setattr(executions, "_client", Refusing)

    answer = api.create()

    assert answer.status == answered
    assert (answer.body["data"] is None) is settled
    assert code not in answer.body["message"]


def test_a_create_that_outlives_the_wait_is_504_and_repeating_it_settles_it(
    api: Api, waiting: Callable[[float], None]
) -> None:
    waiting(0.3)
    answered = threading.Event()
    api.temporal.on_call("CreateSchedule", 1, lambda: answered.wait(2))

    answer = api.create(key="once")

    answered.set()
    assert answer.is_problem(
        504,
        "the outcome is not known yet; repeat the request with the same Idempotency-Key",
        {"execution_id": answer.body["data"]["execution_id"]},
    )
    assert answer.body["data"]["execution_id"].startswith("http-")
    waiting(20)
    settled = eventually(lambda: api.create(key="once"), lambda answer: answer.status != 409)
    assert settled.status == 201
    assert settled.body == api.get().body
    assert api.temporal.calls.count("CreateSchedule") == 1
