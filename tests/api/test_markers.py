"""No log and no cause holds what a caller sent: markers are planted in every input, and looked for afterwards."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.stack.endpoints import state_machine_arn
from saga_api import routes
from saga_core import limits
from tests.support.api import NEW_SCHEDULE, Api

MARK = "QzMarker"
# In every field of a body whose value is text, each time in a way that the field accepts.
VALID = {
    **NEW_SCHEDULE,
    "workflow_name": f"{MARK}Workflow",
    "task_queue": f"{MARK}Queue",
    "workflow_params": {f"{MARK}Key": f"{MARK}Value", "list": [f"{MARK}Item"]},
    "cron_expression": f"0 9 * * * # {MARK}Comment",
}
# And in a way that is refused: by the models, by Temporal, or because it is no JSON.
REFUSED: list[Any] = [
    *({**VALID, field: f"{MARK} {field} \u2028"} for field in (*NEW_SCHEDULE, "paused", "start_at", "timezone")),
    {**VALID, "overlap_policy": MARK},
    {**VALID, "end_at": f"2030-01-01T{MARK}"},
    {**VALID, "workflow_params": MARK},
    {**VALID, "workflow_params": {MARK: "\ud800"}},
    {**VALID, "workflow_params": {MARK: MARK * 20_000}},
    {**VALID, "workflow_name": MARK * 1000},
    *({**VALID, "cron_expression": cron} for cron in (f"99 {MARK} * * *", f"@every {MARK}", f"TZ={MARK} 0 9 * * *")),
    {**VALID, "cron_expression": f"{MARK}\n* * * *", "interval_seconds": None},
    {**VALID, "task_queue": f"/_sys/{MARK}"},
    {**VALID, "unknown": MARK},
    {**VALID, **{f"unknown{i}": MARK for i in range(500)}},
    [MARK],
    MARK,
    f'{{"{MARK}": {MARK}',
    "[" * 2000 + MARK,
    MARK * 20_000,
]
# Each under a name of its own, so that none is refused only because its name is taken.
BODIES = [VALID] + [
    {**body, "name": f"body{number}"} if isinstance(body, dict) and body["name"] == VALID["name"] else body
    for number, body in enumerate(REFUSED)
]
VERBS = ("pause", "unpause", "trigger")
# What the functions raise, when the engines are up.
REFUSALS = {"InvalidRequest", "ScheduleRejected"}


def everything(api: Api) -> None:
    """A request of every route with markers in its path, its query, its headers, its token and its body."""
    headers = {"Idempotency_Key": f"{MARK}-key", "X_Marker": MARK, "User_Agent": MARK, "Cookie": f"a={MARK}"}
    for body in BODIES:
        api.call("POST", api.schedules, body, **headers)
    for note in ({"note": f"{MARK} note"}, {"note": [MARK]}, {"note": MARK * 500}, {"why": MARK}, MARK):
        for verb in VERBS:
            api.call("POST", f"{api.schedules}/daily/{verb}", note, **headers)
    for path in (
        f"/{MARK}",
        f"/daily/{MARK}",
        f"/%22{MARK}",
        f"/daily%0A{MARK}",
        f"/{MARK}%2Fdaily",
        f"?page_token={MARK}",
    ):
        for method in ("GET", "POST", "DELETE", "PUT"):
            api.call(method, api.schedules + path, VALID if method == "POST" else None, **headers)
    for query in (f"page_size={MARK}", f"page_token={MARK * 200}", f"{MARK}={MARK}"):
        api.call("GET", f"{api.schedules}?{query}", **headers)
    api.call("GET", f"/agents/{MARK}_/schedules", **headers)
    api.call("GET", f"/{MARK}", **headers)
    api.call("POST", api.schedules, json.dumps(VALID), Content_Type=f"text/{MARK}")
    api.call("GET", api.schedules, token=MARK)
    for token in (api.token(f"{MARK} stranger"), api.token("", f"{MARK}-service"), api.token(f"{MARK}{'x' * 600}")):
        api.call("GET", api.schedules, token=token, **headers)
        api.call("POST", api.schedules, VALID, token=token)
    api.call("GET", api.schedules)
    api.call("DELETE", f"{api.schedules}/daily", **headers)


def inputs(api: Api) -> Iterator[Any]:
    """Inputs of the create machine, with the same markers, and of the delete machine."""
    request = {"agent_id": api.agent, "principal": {"user_id": "alice"}, "schedule": VALID}
    yield from ({**request, "schedule": schedule} for schedule in BODIES)
    yield from (
        {**request, **change}
        for change in (
            {"agent_id": f"{MARK} agent"},
            {"agent_id": [MARK]},
            {"principal": {"user_id": f"{MARK}@b", "account_id": f"{MARK}Account"}},
            {"principal": {"user_id": MARK, "service_account_id": MARK}},
            {"principal": {"service_account_id": f"{MARK}é" * 100}},
            {"principal": {"name": MARK}},
            {"principal": MARK},
            {"idempotency_key": f"{MARK} key"},
            {"idempotency_key": f"{MARK}-key", "schedule": {**VALID, "name": "other"}},
        )
    )
    yield from (MARK, [MARK], {"agent_id": MARK, "schedule_name": f"{MARK} name"}, {"schedule_name": {MARK: MARK}})


def causes(machine: str, request: Any) -> list[str]:
    """What Step Functions logs of an execution, beside names: the causes in its history and its own."""
    sfn = boto3.client("stepfunctions")  # the server of the fixture has set its address
    arn = sfn.start_execution(
        stateMachineArn=state_machine_arn(machine), name=str(uuid.uuid4()), input=json.dumps(request)
    )["executionArn"]
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(0.02)
    events = sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    details = [value for event in events for value in event.values() if isinstance(value, dict)]
    return [str(cause) for found in (*details, described) if (cause := found.get("cause"))]


@pytest.fixture
def logged(
    api: Api, capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """Receives causes; at the end no cause and no log line may have a marker, and none may be too long."""
    found: list[str] = []
    api.access_log.clear()
    yield found
    captured = capfd.readouterr()
    engines = [
        line for log in tmp_path_factory.getbasetemp().glob("logs*/*.log") for line in log.read_text().splitlines()
    ]
    assert engines
    assert len(api.log.getvalue().splitlines()) > 20
    lines = [*api.log.getvalue().splitlines(), *captured.out.splitlines(), *captured.err.splitlines(), *api.access_log]
    head, _, _ = api.token().partition(".")
    assert [line[:600] for line in (*lines, *engines, *found) if MARK.lower() in line.lower() or head in line] == []
    assert max(len(line.encode()) for line in lines) <= limits.LOG_LINE.most
    assert max((len(cause) for cause in found), default=0) <= 32_768


@pytest.mark.parametrize("outage", ["none", "spicedb", "temporal"])
def test_no_log_holds_what_an_http_request_sent(outage: str, api: Api, logged: list[str]) -> None:
    if outage != "none":
        getattr(api, outage).cut()

    everything(api)

    errors = {line.get("error") for line in api.logged()}
    assert errors >= (REFUSALS if outage == "none" else {"InvalidRequest"})
    assert logged == []


def test_no_log_holds_what_a_request_sent_that_met_a_bug(
    api: Api, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_: object) -> None:
        raise RuntimeError("unheard of")

    monkeypatch.setattr(routes, "run", unexpected)
    monkeypatch.setattr(routes, "_described", unexpected)

    everything(api)

    assert "unheard of" in api.log.getvalue()
    assert logged == []


def test_no_log_holds_what_step_functions_says_about_a_refused_request(
    api: Api, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def start_sync_execution(self, **request: str) -> None:
            refusal: Any = {
                "Error": {"Code": "InvalidExecutionInput", "Message": f"Invalid Input: {request['input']}"},
                "ResponseMetadata": {"HTTPStatusCode": 400},
            }
            raise ClientError(refusal, "StartSyncExecution")

    monkeypatch.setattr("saga_api.executions._client", Refusing)

    everything(api)

    assert "InvalidExecutionInput" in api.log.getvalue()
    assert logged == []


@pytest.mark.parametrize("outage", ["none", "temporal"])
def test_no_log_and_no_cause_holds_what_an_input_of_a_machine_has(outage: str, api: Api, logged: list[str]) -> None:
    if outage != "none":
        getattr(api, outage).cut()
    for machine in ("create-schedule", "delete-schedule-express"):
        for request in inputs(api):
            logged += causes(machine, request)

    assert len(logged) > 50
    errors = {line.get("error") for line in api.logged()}
    assert errors >= (REFUSALS if outage == "none" else {"InvalidRequest", "TemporalUnavailable"})


def test_the_response_shows_the_values_that_temporal_rejects_and_the_cause_only_their_fields(api: Api) -> None:
    response = api.create(cron_expression=f"99 {MARK} * * *", timezone="Europe/Lisbon")

    assert response.is_problem(
        400,
        f"Temporal rejects the schedule (it checks task_queue='reports', cron_expression='99 {MARK} * * *', "
        "timezone='Europe/Lisbon'): Minute is not in range [0-59], Hour is not in range [0-23]",
    )
    (failed,) = [line for line in api.logged() if line["message"] == "step failed"]
    assert failed["reason"] == (
        "Temporal rejects the schedule (it checks schedule.task_queue, schedule.cron_expression, schedule.timezone): "
        "Minute is not in range [0-59], Hour is not in range [0-23]"
    )


def test_the_line_of_a_request_names_its_agent_and_schedule_if_they_are_well_formed(api: Api) -> None:
    api.create()
    api.get()
    api.call("GET", f"{api.schedules}/Daily")
    api.call("GET", f"/agents/a--b/schedules/{'x' * 65}")

    lines = [line for line in api.logged() if line["message"] == "request"]
    assert [(line.get("agent_id"), line.get("schedule_name")) for line in lines] == [
        (api.agent, None),
        (api.agent, "daily"),
        (api.agent, None),
        (None, None),
    ]
    assert all("path" not in line for line in lines)
