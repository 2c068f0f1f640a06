"""Every route, and its response as a client parses it that knows only the documented fields."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.client import ScheduleActionStartWorkflow, ScheduleOverlapPolicy

from saga_api import openapi
from saga_api.routes import app
from tests.support.api import Api, HttpResponse, eventually
from tests.support.proxy import Fault


class Strict(BaseModel):
    """A response as a client parses it; written from the documented fields, not from the models."""

    model_config = ConfigDict(extra="forbid")


class Action(Strict):
    workflow_name: str
    workflow_id_prefix: str
    task_queue: str
    workflow_params: list[Any] | None


class Interval(Strict):
    every_seconds: float
    offset_seconds: float


class Spec(Strict):
    cron_expressions: list[str]
    intervals_seconds: list[int]
    intervals: list[Interval]
    start_at: datetime | None
    end_at: datetime | None


class Schedule(Strict):
    schedule_id: str
    name: str
    agent_id: str
    state: Literal["ACTIVE", "PAUSED"]
    action: Action
    spec: Spec
    timezone: str | None
    jitter_seconds: int | None
    overlap_policy: str | None
    catchup_window_seconds: int | None
    execution_timeout_seconds: int | None
    note: str | None
    num_actions_taken: int
    num_actions_missed: int
    next_action_times: list[datetime]
    last_action_time: datetime | None
    created_at: datetime
    updated_at: datetime | None
    warnings: list[str]


class Entry(Strict):
    schedule_id: str
    name: str
    agent_id: str
    state: Literal["ACTIVE", "PAUSED"]
    workflow_name: str
    next_action_time: datetime | None


class Page(Strict):
    schedules: list[Entry]
    total: int
    next_page_token: str | None


class Gone(Strict):
    id: str
    message: str


def schedule(response: HttpResponse, status: int = 200) -> Schedule:
    assert response.status == status, response.body
    assert response.headers["content-type"] == "application/json"
    return Schedule.model_validate(response.body)


def listed(api: Api, **query: object) -> Page:
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    response = api.call("GET", f"{api.schedules}?{parameters}")
    assert response.status == 200, response.body
    return Page.model_validate(response.body)


def test_a_created_schedule_is_returned_as_it_was_requested(api: Api) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    response = api.create(
        workflow_params={"city": "Lisbon"},
        cron_expression="0 9 * * MON-FRI",
        interval_seconds=None,
        execution_timeout_seconds=600,
        start_at="2030-01-01T00:00:00",
        end_at="2031-01-01T00:00:00+01:00",
        timezone="Europe/Lisbon",
        overlap_policy="BUFFER_ONE",
        catchup_window_seconds=3600,
        paused=False,
    )

    created = schedule(response, 201)
    assert response.headers["location"] == f"{api.schedules}/daily"
    assert created.model_dump(exclude={"created_at", "next_action_times"}) == {
        "schedule_id": f"{api.agent}--daily",
        "name": "daily",
        "agent_id": api.agent,
        "state": "ACTIVE",
        "action": {
            "workflow_name": "Report",
            "workflow_id_prefix": f"{api.agent}--daily-run",
            "task_queue": "reports",
            "workflow_params": [{"city": "Lisbon"}],
        },
        "spec": {
            "cron_expressions": ["0 9 * * MON-FRI"],
            "intervals_seconds": [],
            "intervals": [],
            "start_at": datetime(2030, 1, 1, tzinfo=UTC),
            "end_at": datetime(2030, 12, 31, 23, tzinfo=UTC),
        },
        "timezone": "Europe/Lisbon",
        "jitter_seconds": None,
        "overlap_policy": "BUFFER_ONE",
        "catchup_window_seconds": 3600,
        "execution_timeout_seconds": 600,
        "note": None,
        "num_actions_taken": 0,
        "num_actions_missed": 0,
        "last_action_time": None,
        "updated_at": None,
        "warnings": [],
    }
    assert before < created.created_at < datetime.now(UTC) + timedelta(seconds=5)
    # In winter, Lisbon's time is UTC. The first of January 2030 is a Tuesday.
    assert created.next_action_times[0] == datetime(2030, 1, 1, 9, tzinfo=UTC)
    assert schedule(api.get()) == created
    assert schedule(api.call("GET", response.headers["location"])) == created


def test_the_options_of_a_schedule_are_those_that_temporal_has(api: Api) -> None:
    api.create(
        execution_timeout_seconds=600,
        overlap_policy="TERMINATE_OTHER",
        timezone="Asia/Tokyo",
        catchup_window_seconds=60,
        jitter_seconds=5,
    )

    described = api.in_loop(api.scheduler.get_schedule_handle(api.id()).describe()).schedule
    assert isinstance(described.action, ScheduleActionStartWorkflow)
    assert described.action.execution_timeout == timedelta(minutes=10)
    assert described.policy.overlap is ScheduleOverlapPolicy.TERMINATE_OTHER
    assert described.spec.time_zone_name == "Asia/Tokyo"
    assert described.spec.jitter == timedelta(seconds=5)
    assert described.policy.catchup_window == timedelta(minutes=1)


def test_optional_fields_may_be_null_or_absent(api: Api) -> None:
    optional = ("workflow_params", "cron_expression", "execution_timeout_seconds", "start_at", "end_at", "paused")
    required = {"workflow_name": "Report", "task_queue": "reports", "interval_seconds": 60}
    nulls = dict.fromkeys((*optional, "timezone", "overlap_policy"))

    with_nulls = api.call("POST", api.schedules, {"name": "nulls", **required, **nulls})
    without = api.call("POST", api.schedules, {"name": "absent", **required})

    for response in (with_nulls, without):
        created = schedule(response, 201)
        assert created.state == "ACTIVE"
        assert created.action.workflow_params is None
        assert created.spec == Spec(
            cron_expressions=[], intervals_seconds=[60], intervals=[], start_at=None, end_at=None
        )


def test_a_schedule_may_begin_paused_and_have_both_a_cron_expression_and_an_interval(api: Api) -> None:
    created = schedule(api.create(cron_expression="0 0 1 1 *", paused=True), 201)

    assert created.state == "PAUSED"
    assert created.spec.cron_expressions == ["0 0 1 1 *"]
    assert created.spec.intervals_seconds == [3600]


def test_pause_and_unpause_return_the_schedule_and_keep_the_note(api: Api) -> None:
    created = schedule(api.create(), 201)

    paused = schedule(api.call("POST", f"{api.schedules}/daily/pause", {"note": "the workers are down"}))
    expected = {"state": "PAUSED", "note": "the workers are down", "updated_at": paused.updated_at}
    assert paused == created.model_copy(update=expected)
    state = api.in_loop(api.scheduler.get_schedule_handle(api.id()).describe()).schedule.state
    assert (state.paused, state.note) == (True, "the workers are down")
    assert schedule(api.call("POST", f"{api.schedules}/daily/pause")).state == "PAUSED"

    unpaused = schedule(api.call("POST", f"{api.schedules}/daily/unpause", {"note": "they are back"}))
    assert unpaused.state == "ACTIVE"
    state = api.in_loop(api.scheduler.get_schedule_handle(api.id()).describe()).schedule.state
    assert (state.paused, state.note) == (False, "they are back")


def test_a_note_may_be_left_out(api: Api) -> None:
    api.create()

    for body in (None, "", "null", "{}", '{"note": null}'):
        assert schedule(api.call("POST", f"{api.schedules}/daily/pause", body)).state == "PAUSED", body
        assert schedule(api.call("POST", f"{api.schedules}/daily/unpause", body)).state == "ACTIVE", body


def test_trigger_starts_the_workflow_and_returns_the_schedule(api: Api) -> None:
    api.create(paused=True)

    assert schedule(api.trigger()).name == "daily"

    triggered = eventually(lambda: schedule(api.get()), lambda now: now.num_actions_taken > 0)
    assert triggered.num_actions_taken == 1
    assert triggered.last_action_time is not None
    assert triggered.state == "PAUSED"


def test_delete_returns_the_id_and_leaves_nothing_in_either_system(api: Api) -> None:
    api.create()
    api.grant("viewer", "bob")

    response = api.delete()

    assert response.status == 200
    assert Gone.model_validate(response.body) == Gone(id=f"{api.agent}--daily", message="schedule deleted")
    assert api.held() == []
    assert api.get().is_problem(404, "schedule not found")
    assert api.delete().is_problem(404, "schedule not found")
    assert api.create().status == 201


def test_a_list_shows_the_present_state_of_each_schedule(api: Api) -> None:
    api.create("hourly")
    created = schedule(api.create("paused", paused=True), 201)
    assert created.state == "PAUSED"

    page = eventually(lambda: listed(api), lambda page: page.total == 2)
    entries = {entry.name: entry for entry in page.schedules}
    assert entries.keys() == {"hourly", "paused"}
    assert page.next_page_token is None
    assert entries["paused"].state == "PAUSED"
    hourly = entries["hourly"]
    assert (hourly.schedule_id, hourly.agent_id) == (f"{api.agent}--hourly", api.agent)
    assert (hourly.state, hourly.workflow_name) == ("ACTIVE", "Report")
    assert hourly.next_action_time is not None


def test_an_agent_without_schedules_has_an_empty_list(api: Api) -> None:
    assert listed(api) == Page(schedules=[], total=0, next_page_token=None)


def test_the_specification_is_public_and_the_one_that_the_code_describes(api: Api) -> None:
    response = api.call("GET", "/openapi.json", token="")

    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.body == json.loads(openapi.specification(app))


def test_a_create_and_a_delete_check_a_permission_besides_the_calls_of_their_sagas(api: Api) -> None:
    api.create("warm")  # the functions are connected
    api.calls()

    api.create()
    assert api.calls() == (
        ["CheckPermission", "CheckPermission", "WriteRelationships", "WriteRelationships"],
        ["CreateSchedule", "DescribeSchedule"],
    )
    api.delete()
    assert api.calls() == (
        ["CheckBulkPermissions", "DeleteRelationships"],
        ["DescribeSchedule", "DeleteSchedule", "DescribeSchedule"],
    )
    api.delete()
    assert api.calls() == (["CheckBulkPermissions"], []), "nobody may delete what is not there"


def test_a_delete_of_more_grants_than_fit_one_transaction_may_be_repeated_by_its_caller_until_it_is_done(
    api: Api,
) -> None:
    api.create()
    for first in (0, 800):
        grants = (f"agent_schedule:{api.id()}#viewer@user:viewer-{number}" for number in range(first, first + 800))
        api.relate(*grants)
    api.spicedb.clear()
    api.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None, at=3)

    deleted = api.delete()

    message = "schedule deleted; its relationships are not removed yet: repeat the delete later"
    assert (deleted.status, deleted.body["message"]) == (200, message)
    assert "owner@user:alice" in api.held()
    assert len(api.held()) == 3 + 600, "a batch is gone; owner, parent_agent and fence are there"

    api.spicedb.clear()
    assert api.delete().body["message"] == "schedule deleted"
    assert api.held() == []
    assert api.delete().status == 404
