"""Every error status of the API over HTTP. The body is always {"message", "code", "data"}, without internals.

tests/unit/test_api_validation.py has every kind of request that is refused before an engine is called.
"""

import json
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from functions.temporal_create import app as temporal_create
from saga_api import deadlines, executions, routes
from saga_api.settings import api_settings
from tests.support.api import NEW_SCHEDULE, Api, HttpResponse, eventually
from tests.support.proxy import Fault
from tests.support.relationships import remove_all


def test_a_bad_cron_expression_is_400_and_leaves_nothing_in_either_system(api: Api) -> None:
    response = api.create(cron_expression="99 * * * *")

    assert response.is_problem(400)
    assert "99 * * * *" in response.body["message"]
    assert api.held() == []
    assert not api.scheduled()


def test_a_create_for_an_agent_that_the_caller_may_not_update_is_403_and_starts_nothing(api: Api) -> None:
    api.relate(f"agent:{api.agent}#viewer@user:bob")

    for stranger in ("bob", "nobody"):
        api.calls()
        response = api.create(as_=stranger)
        assert response.is_problem(403, f"the creator may not update agent {api.agent}")
        assert api.calls() == (["CheckPermission"], [])
    assert api.held() == []


def test_an_unknown_route_is_404(api: Api) -> None:
    assert api.call("POST", f"{api.schedules}/daily/archive", NEW_SCHEDULE).is_problem(404, "no such route")


def test_a_method_that_a_path_does_not_have_is_405_and_the_response_names_those_it_has(api: Api) -> None:
    response = api.call("PUT", api.schedules)

    assert response.is_problem(405, "method not allowed")
    assert response.headers["allow"] == "GET, POST"


def test_a_name_that_is_taken_is_409_and_the_schedule_stays_as_it_was(api: Api) -> None:
    api.create()
    before = api.get().body, api.held()

    assert api.create(interval_seconds=60).is_problem(409, f"schedule {api.id()} exists already")
    assert (api.get().body, api.held()) == before


def test_a_name_that_another_create_holds_is_409(api: Api) -> None:
    api.interrupted()

    response = api.create()

    assert response.is_problem(409)
    said, _, when = response.body["message"].partition("; try again in ")
    assert said == f"another operation holds the name of schedule {api.id()}: it is in flight, or was interrupted"
    seconds, unit = when.split()
    assert (500 < int(seconds) <= 600, unit) == (True, "seconds")


def test_a_name_that_temporal_does_not_free_yet_is_409_that_may_be_repeated(api: Api) -> None:
    """Temporal says that the name exists, and then that there is no such schedule."""
    api.create()
    remove_all(api.authorization, schedule_id=api.id())
    api.temporal.clear()
    api.temporal.on_call("DescribeSchedule", 1, api.delete_by_hand)

    reserved = api.create()

    assert reserved.is_problem(409, f"Temporal does not free the name of schedule {api.id()} yet")
    assert reserved.headers["retry-after"] == "5"
    assert "x-should-retry" not in reserved.headers
    assert (api.held(), api.scheduled()) == ([], False)
    assert api.create().status == 201


def test_a_body_of_more_than_128_kib_is_413(api: Api) -> None:
    response = api.create(workflow_params={"x": "y" * 131_072})

    assert response.is_problem(413, "the body is too large")
    assert api.calls() == ([], [])


def test_a_body_that_is_not_declared_as_json_is_415(api: Api) -> None:
    response = api.call("POST", api.schedules, json.dumps(NEW_SCHEDULE), Content_Type="text/plain")

    assert response.is_problem(415, "the body must be application/json")
    assert api.calls() == ([], [])


@pytest.mark.parametrize("content_type", ["APPLICATION/JSON", "application/json; charset=utf-8"])
def test_the_content_type_json_may_have_any_case_and_parameters(content_type: str, api: Api) -> None:
    response = api.call("POST", api.schedules, json.dumps(NEW_SCHEDULE), Content_Type=content_type)

    assert response.status == 201


def test_a_field_that_does_not_fit_is_422_and_nothing_is_called(api: Api) -> None:
    response = api.create(principal={"user_id": "root"})

    assert response.is_problem(422, "principal: Extra inputs are not permitted")
    assert api.calls() == ([], [])


REQUESTS: dict[str, Callable[[Api], HttpResponse]] = {
    "create": lambda api: api.create("other"),
    "list": lambda api: api.call("GET", api.schedules),
    "get": lambda api: api.get(),
    "pause": lambda api: api.call("POST", f"{api.schedules}/daily/pause"),
    "unpause": lambda api: api.call("POST", f"{api.schedules}/daily/unpause"),
    "trigger": lambda api: api.trigger(),
    "delete": lambda api: api.delete(),
}


def test_without_spicedb_every_route_is_503_and_nothing_has_happened(api: Api) -> None:
    api.create()
    before = api.get().body

    for name, request in REQUESTS.items():
        api.spicedb.cut()
        assert request(api).is_problem(503, "temporarily unavailable; try again"), name
        api.spicedb.clear()
        assert api.get().body == before, name
    assert api.held("other") == []
    assert not api.scheduled("other")


def test_without_temporal_every_route_but_create_and_trigger_is_503_and_nothing_has_happened(api: Api) -> None:
    api.create()
    before = api.get().body

    for name in REQUESTS.keys() - {"create", "trigger"}:
        api.temporal.cut()
        assert REQUESTS[name](api).is_problem(503, "temporarily unavailable; try again"), name
        api.temporal.clear()
        assert api.get().body == before, name


def test_a_create_that_could_not_be_looked_up_is_503_and_names_the_execution(api: Api) -> None:
    api.temporal.cut()

    response = api.create()

    execution_id = response.body["data"]["execution_id"]
    assert response.is_problem(
        503,
        "temporarily unavailable and the outcome is not known; look at the schedule before you repeat the request",
        {"execution_id": execution_id},
    )
    assert execution_id.startswith("arn:aws:states:us-east-1:123456789012:express:create-schedule-express:")
    assert api.held() == []
    api.temporal.clear()
    assert api.create().status == 201


def test_an_outage_in_which_compensation_fails_is_503_and_names_the_execution(api: Api) -> None:
    # The permission checks before the write still succeed; after it, no call does.
    api.spicedb.inject("WriteRelationships", Fault.LOST_REPLY)
    api.spicedb.inject("CheckPermission", Fault.REFUSED, times=None, at=3)
    api.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)

    response = api.create()

    assert response.status == 503
    assert response.body["data"]["execution_id"].startswith("arn:")


def test_a_permission_that_is_removed_between_the_check_and_the_create_is_403(api: Api) -> None:
    api.spicedb.on_call("CheckPermission", 2, lambda: api.unrelate(f"agent:{api.agent}#owner@user:alice"))

    assert api.create().is_problem(403, f"the creator may not update agent {api.agent}")
    assert api.held() == []


def test_a_bug_in_the_function_is_500_without_internals(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def described(_schedule_id: str) -> None:
        raise RuntimeError("the innermost secret of /var/task")

    api.create()
    monkeypatch.setattr(routes, "_described", described)

    response = api.get()

    assert response.is_problem(500, "internal error")
    assert "x-should-retry" not in response.headers
    assert "the innermost secret" in api.log.getvalue()


def test_a_response_that_does_not_fit_its_model_is_500(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_described", lambda _schedule_id: {"state": "BROKEN"})

    assert api.create().status == 201
    assert api.get().is_problem(500, "internal error")


def test_a_bug_in_a_step_is_500_that_names_the_execution_without_internals_and_compensated(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(_event: object, _context: object) -> None:
        raise RuntimeError("the innermost secret of /var/task")

    monkeypatch.setattr(temporal_create, "handler", handler)

    response = api.create()

    assert response.is_problem(500, "internal error", {"execution_id": response.body["data"]["execution_id"]})
    assert response.headers["x-should-retry"] == "false"
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
    ("status", "code", "expected", "settled"),
    [
        (400, "ThrottlingException", 503, True),
        (429, "TooManyRequestsException", 503, True),
        (500, "InternalServerException", 503, False),
        (400, "AccessDeniedException", 500, True),
    ],
)
def test_a_refusal_by_step_functions_is_503_or_500(
    status: int, code: str, expected: int, settled: bool, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def start_sync_execution(self, **_: object) -> None:
            refusal = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(cast(Any, refusal), "StartSyncExecution")

    monkeypatch.setattr(executions, "_client", Refusing)

    response = api.create()

    assert response.status == expected
    assert (response.body["data"] is None) is settled
    assert code not in response.body["message"]


def test_a_create_that_outlasts_the_wait_is_504_and_a_repeat_settles_it(
    api: Api, waiting: Callable[[float], None]
) -> None:
    waiting(0.3)
    responded = threading.Event()
    api.temporal.on_call("CreateSchedule", 1, lambda: responded.wait(2))

    response = api.create(key="once")

    responded.set()
    assert response.is_problem(
        504,
        "the outcome is not known yet; repeat the request with the same Idempotency-Key",
        {"execution_id": response.body["data"]["execution_id"]},
    )
    assert response.body["data"]["execution_id"].startswith("http-")
    waiting(20)
    settled = eventually(lambda: api.create(key="once"), lambda response: response.status != 409)
    assert settled.status == 201
    assert settled.body == api.get().body
    assert api.temporal.calls.count("CreateSchedule") == 1


def test_a_create_that_came_late_to_the_machine_is_504_with_its_execution_before_the_gateway_gives_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API Gateway waits for three seconds here. The check before the create takes one of them."""
    monkeypatch.setattr(deadlines, "GATEWAY_SECONDS", 3.0)
    monkeypatch.setattr(executions, "START_SECONDS", 0.1)
    responded, checked = threading.Event(), threading.Event()
    api.spicedb.on_call("CheckPermission", 1, lambda: checked.wait(1))
    api.temporal.on_call("CreateSchedule", 1, lambda: responded.wait(20))

    response = api.create(key="once")

    responded.set()
    assert response.status == 504
    assert response.body["data"]["execution_id"].startswith("http-")
    monkeypatch.undo()
    assert eventually(lambda: api.create(key="once"), lambda response: response.status != 409).status == 201


def test_a_create_whose_check_takes_all_the_time_starts_nothing_and_is_503(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "GATEWAY_SECONDS", 3.5)
    checked = threading.Event()
    api.spicedb.on_call("CheckPermission", 1, lambda: checked.wait(1))

    response = api.create()

    assert response.is_problem(503, "temporarily unavailable; try again")
    assert response.headers["retry-after"] == "5"
    assert api.calls() == (["CheckPermission"], [])
