"""Schedules that another tool has made or edited: every answer stays true, and nothing fails because of them."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Memo, Payload, Payloads, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import (
    CalendarSpec,
    IntervalSpec,
    Schedule,
    ScheduleAction,
    ScheduleSpec,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DescribeScheduleRequest,
    UpdateScheduleRequest,
)

from local.stack.endpoints import NAMESPACE
from local.stack.scheduler import Scheduler
from saga_temporal import MEMO_KEY
from tests.support.api import Api
from tests.support.relationships import remove_all

FOREIGN = [
    pytest.param(b"binary/encrypted", b"\x00\x01\x02", id="encrypted"),
    pytest.param(b"json/protobuf", b'{"a": 1}', id="protobuf of an unknown type"),
    pytest.param(b"json/plain", b"{broken", id="broken JSON"),
    pytest.param(b"json/plain", b'"\\ud800"', id="half of a surrogate pair"),
    pytest.param(b"json/plain", b"[" * 5000, id="deep JSON"),
    pytest.param(b"", b"{}", id="no encoding"),
    pytest.param(b"binary/plain", b"\xff", id="bytes"),
]


def payload(encoding: bytes, data: bytes) -> Payload:
    return Payload(metadata={"encoding": encoding} if encoding else {}, data=data)


def edit(api: Api, change: Callable[[Schedule], object], name: str = "daily") -> None:
    """Change a schedule as the CLI and the UI do: describe it, and write it back."""

    async def update() -> None:
        service = api.scheduler.workflow_service
        found = await service.describe_schedule(DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=api.id(name)))
        change(found.schedule)
        request = UpdateScheduleRequest(namespace=NAMESPACE, schedule_id=api.id(name), schedule=found.schedule)
        request.request_id = base64.b32encode(api.id(name).encode()).decode()
        await service.update_schedule(request)

    api.in_loop(update())


def make(api: Api, memo: dict[str, Payload], input_: Payload, name: str = "daily") -> None:
    """Create a schedule as another tool does."""
    action = NewWorkflowExecutionInfo(
        workflow_id="foreign", workflow_type=WorkflowType(name="Report"), task_queue=TaskQueue(name="reports")
    )
    action.input.payloads.append(input_)
    request = CreateScheduleRequest(
        namespace=NAMESPACE,
        schedule_id=api.id(name),
        schedule=Schedule(
            spec=ScheduleSpec(interval=[IntervalSpec(interval=Duration(seconds=86_400))]),
            action=ScheduleAction(start_workflow=action),
        ),
        memo=Memo(fields=memo),
        request_id=name,
    )
    api.in_loop(api.scheduler.workflow_service.create_schedule(request))


@pytest.mark.parametrize(("encoding", "data"), FOREIGN)
def test_an_input_that_cannot_be_decoded_is_shown_and_stops_no_operation(
    encoding: bytes, data: bytes, api: Api
) -> None:
    api.create(key="once", paused=True)

    def replace(schedule: Schedule) -> None:
        schedule.action.start_workflow.input.CopyFrom(Payloads(payloads=[payload(encoding, data)]))

    edit(api, replace)

    shown = {"encoding": encoding.decode(), "data": base64.b64encode(data).decode()}
    assert api.get().body["action"]["workflow_params"] == [shown]
    for operation in ("pause", "unpause", "trigger"):
        response = api.call("POST", f"{api.schedules}/daily/{operation}")
        assert (response.status, response.body["action"]["workflow_params"]) == (200, [shown])
    replayed = api.create(key="once", paused=True)
    assert (replayed.status, replayed.body["action"]["workflow_params"]) == (201, [shown])
    assert api.create().status == 409
    assert api.delete().status == 200
    assert (api.held(), api.scheduled()) == ([], False)


def test_an_input_that_is_too_large_for_an_execution_is_shown_and_stops_no_operation(api: Api) -> None:
    api.create(key="once", paused=True)
    large = "x" * 1_000_000

    def replace(schedule: Schedule) -> None:
        schedule.action.start_workflow.input.payloads.append(payload(b"json/plain", f'"{large}"'.encode()))

    edit(api, replace)

    assert api.get().body["action"]["workflow_params"] == [large]
    replayed = api.create(key="once", paused=True)
    assert (replayed.status, replayed.body["action"]["workflow_params"]) == (201, [large])
    assert api.create().status == 409
    assert api.delete().status == 200
    assert (api.held(), api.scheduled()) == ([], False)


@pytest.mark.parametrize(("encoding", "data"), FOREIGN)
def test_a_schedule_of_another_tool_takes_the_name_whatever_its_input_and_memo_hold(
    encoding: bytes, data: bytes, api: Api
) -> None:
    foreign = payload(encoding, data)
    make(api, {"anything": foreign, MEMO_KEY: foreign}, foreign)

    assert api.create().status == 409
    assert (api.held(), api.scheduled()) == ([], True)


def test_several_arguments_are_shown_each_by_itself(api: Api) -> None:
    api.create(workflow_params={"city": "Lisbon"})

    def add(schedule: Schedule) -> None:
        schedule.action.start_workflow.input.payloads.extend([payload(b"binary/null", b""), payload(b"x", b"y")])

    edit(api, add)

    assert api.get().body["action"]["workflow_params"] == [
        {"city": "Lisbon"},
        None,
        {"encoding": "x", "data": "eQ=="},
    ]


def test_a_cron_expression_is_shown_as_it_was_asked_for_until_somebody_edits_the_schedule(api: Api) -> None:
    asked = "0 9 * * MON-FRI # mornings"
    assert api.create(cron_expression=asked, interval_seconds=None).body["spec"]["cron_expressions"] == [asked]
    assert api.get().body["updated_at"] is None

    def later(schedule: Schedule) -> None:
        schedule.spec.structured_calendar[0].hour[0].start = 17
        schedule.spec.structured_calendar[0].hour[0].end = 17

    edit(api, later)

    edited = api.get().body
    assert edited["spec"]["cron_expressions"] == ["0 17 * * 1-5"]
    assert edited["updated_at"] is not None


CRONS = (
    *("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", " 0  9 * * * "),
    *(
        "0 9 * * MON-FRI",
        "0 9 * * sat,sunday",
        "0 9 * * 7",
        "0 9 * * 5-7",
        "0 9 * * 1-7/2",
        "0 9 * * */7",
        "0 9 * * 0-7",
    ),
    *("*/15 8-18/2,23 1,15 jan-mar,SEPT *", "5/20 0 * * *", "59 23 31 12 0", "0 0 * * * 2030-2034/2", "0 0 * * * */10"),
    *("30 0 0 * * * *", "*/7 1 2 3 4 5 2099", "CRON_TZ=Asia/Tokyo 0 6 * * *", "0 6 * * *#", "0 6 * * * # a # b"),
)


def test_a_cron_expression_of_any_form_is_shown_as_it_was_asked_for(api: Api) -> None:
    asked = {f"cron-{number}": cron for number, cron in enumerate(CRONS)}

    created = {name: api.create(name, cron_expression=cron, interval_seconds=None).body for name, cron in asked.items()}

    shown = {name: body["spec"]["cron_expressions"] for name, body in created.items()}
    assert shown == {name: [cron.strip()] for name, cron in asked.items()}


def test_a_cron_expression_is_shown_as_it_was_asked_for_after_a_pause(api: Api) -> None:
    api.create(cron_expression="@hourly", interval_seconds=None)
    api.call("POST", f"{api.schedules}/daily/pause", {"note": "holidays"})

    paused = api.get().body
    assert (paused["note"], paused["spec"]["cron_expressions"]) == ("holidays", ["@hourly"])


def test_a_pause_is_an_update_for_the_chasm_scheduler_alone(api: Api) -> None:
    assert api.create().body["updated_at"] is None
    api.call("POST", f"{api.schedules}/daily/pause")

    assert (api.get().body["updated_at"] is not None) is (api.maker() is Scheduler.CHASM)


def test_a_cron_expression_without_a_calendar_is_shown_as_temporal_has_it(api: Api) -> None:
    created = api.create(cron_expression="@every 90m", interval_seconds=None).body

    assert created["spec"]["cron_expressions"] == []
    assert created["spec"]["intervals_seconds"] == [5400]


def test_a_cron_expression_that_another_tool_replaced_by_an_interval_is_gone(api: Api) -> None:
    api.create(key="once", cron_expression="0 9 * * *", interval_seconds=None)

    def replace(schedule: Schedule) -> None:
        schedule.spec.ClearField("structured_calendar")
        schedule.spec.interval.append(IntervalSpec(interval=Duration(seconds=90, nanos=500_000_000)))
        schedule.spec.interval.append(IntervalSpec(interval=Duration(seconds=60), phase=Duration(seconds=15)))
        schedule.spec.interval.append(IntervalSpec(interval=Duration(seconds=30)))

    edit(api, replace)

    expected = {
        "cron_expressions": [],
        "intervals_seconds": [30],
        "intervals": [
            {"every_seconds": 90.5, "offset_seconds": 0},
            {"every_seconds": 60, "offset_seconds": 15},
        ],
        "start_at": None,
        "end_at": None,
    }
    assert api.get().body["spec"] == expected
    replayed = api.create(key="once", cron_expression="0 9 * * *", interval_seconds=None)
    assert (replayed.status, replayed.body["spec"]) == (201, expected)


def test_every_field_is_what_temporal_has_after_an_edit(api: Api) -> None:
    api.create(timezone="Europe/Lisbon", execution_timeout_seconds=60, overlap_policy="SKIP", jitter_seconds=1)

    def change(schedule: Schedule) -> None:
        schedule.spec.timezone_name = "Asia/Tokyo"
        schedule.spec.jitter.seconds = 30
        schedule.spec.calendar.append(CalendarSpec(hour="6", comment="0 5 * * *"))
        schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL
        schedule.policies.catchup_window.seconds = 120
        schedule.action.start_workflow.workflow_execution_timeout.seconds = 90
        schedule.state.notes = "by hand"

    edit(api, change)

    body: dict[str, Any] = api.get().body
    assert body["spec"]["cron_expressions"] == ["0 6 * * *"], "a comment of another tool is not shown as its text"
    del body["spec"]
    assert {
        "timezone": "Asia/Tokyo",
        "jitter_seconds": 30,
        "overlap_policy": "BUFFER_ALL",
        "catchup_window_seconds": 120,
        "execution_timeout_seconds": 90,
        "note": "by hand",
    }.items() <= body.items()


def test_a_schedule_that_another_tool_has_deleted_can_be_created_again_at_once(api: Api) -> None:
    api.create()
    api.grant("viewer", "bob")
    assert api.get(as_="bob").status == 200
    api.delete_by_hand()
    assert api.get().status == 404

    assert api.create().status == 201

    assert api.get().status == 200
    assert api.get(as_="bob").status == 404, "a grant on the old schedule is none on the new one"


def test_nobody_takes_over_a_schedule_whose_relationships_are_lost(api: Api) -> None:
    first = api.create(key="once").body
    api.call("POST", f"{api.schedules}/daily/pause")
    held = api.held()
    remove_all(api.authorization, schedule_id=api.id())
    api.relate(f"agent:{api.agent}#editor@user:bob")

    taken = api.create(as_="bob")

    message = f"schedule {api.id()} exists already; nobody owns it, and it awaits repair"
    assert taken.is_problem(409, message)
    assert taken.headers["x-should-retry"] == "false"
    assert (api.held(), api.scheduled()) == ([], True)
    assert api.create(key="once", interval_seconds=60).is_problem(409, message)

    restored = api.create(key="once")
    assert (restored.status, restored.body["created_at"]) == (201, first["created_at"])
    assert restored.body["state"] == "PAUSED"
    assert api.held() == held
