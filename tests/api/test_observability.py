"""The logs and metrics of a request: they let an operator follow it. test_markers.py shows what they never hold."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from saga_api import routes
from tests.support.api import Api
from tests.support.cloudwatch import answered, fields_read
from tests.support.machines import template


def metrics(capsys: pytest.CaptureFixture[str]) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]


def test_the_log_leads_from_a_request_to_its_execution_and_from_there_to_its_steps(api: Api) -> None:
    response = api.create()

    request_id = response.headers["apigw-requestid"]
    of_request = [line for line in api.logged() if line["correlation_id"] == request_id]
    assert [line["message"] for line in of_request] == ["execution started", "execution ended", "request"]
    (execution_id,) = {line["execution_id"] for line in of_request if "execution_id" in line}
    memo = api.memo()
    assert memo["execution_id"] == execution_id
    assert f"registered_by@registration:{memo['registration']}" in api.held()
    of_execution = [line for line in api.logged() if line["correlation_id"] == execution_id]
    functions = [line["function_name"].rpartition("schedule-")[2] for line in of_execution]
    assert functions[:2] == ["register", "temporal-create"]
    assert sorted(functions[2:]) == ["register", "temporal-describe"], "side by side"
    assert all(line["function_name"] and line["function_request_id"] for line in of_request + of_execution)


def test_the_saved_query_of_one_request_finds_its_lines_and_the_gateways(api: Api) -> None:
    api.access_log.clear()
    response = api.create()
    api.create()
    api.get(as_="mallory")
    api.call("GET", api.schedules, token="alice")
    request_id = response.headers["apigw-requestid"]
    queries = template().properties("AWS::Logs::QueryDefinition").values()
    (query,) = (each["QueryString"] for each in queries if each["Name"].endswith("/one-request"))
    written = [*api.logged(), *map(json.loads, api.access_log)]
    lines = [{**line, "@timestamp": at} for at, line in enumerate(written)]

    rows = answered(query.replace("REQUEST_ID", request_id), lines)

    assert [row["message"] for row in rows] == ["execution started", "execution ended", "request", None]
    assert (rows[1]["execution_id"], rows[2]["status"]) == (api.memo()["execution_id"], 201)
    assert (rows[3]["route"], rows[3]["status"]) == ("POST /agents/{agent_id}/schedules", "201")
    assert fields_read(query) <= {key for line in lines for key in line}, "two requests failed, too"


def test_every_request_is_logged_and_counted_by_route_and_status(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.create()
    api.call("POST", f"{api.schedules}/daily/pause", {"note": 7})
    api.get(as_="mallory")
    api.call("PUT", api.schedules)

    route = "/agents/{agent_id}/schedules"
    expected = [
        (f"POST {route}", 201),
        (f"POST {route}/{{schedule_name}}/pause", 422),
        (f"GET {route}/{{schedule_name}}", 404),
        ("$default", 405),
    ]
    lines = [line for line in api.logged() if line["message"] == "request"]
    assert [(line["route"], line["status"]) for line in lines] == expected
    assert all(0 <= line["seconds"] < 30 for line in lines)
    counted = [metric for metric in metrics(capsys) if "Request" in metric]
    assert [(metric["route"], int(metric["status"])) for metric in counted] == expected
    for metric in counted:
        assert metric["Request"] == [1.0]
        (directive,) = metric["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "AgentSchedules"
        assert directive["Dimensions"] == [["route", "status", "service"]]


def test_the_gateway_logs_every_request_with_the_id_in_the_response(api: Api) -> None:
    api.access_log.clear()

    refused = api.call("GET", api.schedules, token="alice")
    absent = api.get()

    lines = [json.loads(line) for line in api.access_log]
    assert [line["requestId"] for line in lines] == [
        refused.headers["apigw-requestid"],
        absent.headers["apigw-requestid"],
    ]
    assert [int(line["status"]) for line in lines] == [401, 404]


def test_an_unexpected_error_is_logged_with_its_trace_and_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def described(_schedule_id: str) -> None:
        raise RuntimeError("unheard of")

    api.create()
    monkeypatch.setattr(routes, "_described", described)

    response = api.get()

    (line,) = [line for line in api.logged() if line["level"] == "ERROR"]
    assert line["correlation_id"] == response.headers["apigw-requestid"]
    assert "RuntimeError: unheard of" in line["exception"]
    assert [metric for metric in metrics(capsys) if "UnexpectedError" in metric]
