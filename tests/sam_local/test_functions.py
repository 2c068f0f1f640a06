"""Every function, built by SAM and run in Lambda's container, returns what the same function returns in process.

The tests need Docker, Lambda's image or its stand-in, and the output of `sam build`: `make sam-local` provides the last
two. Other runs of pytest leave this folder out.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from local.aws.resources import Function
from local.aws.template import Template
from local.docker.bridge import bridge
from local.stack import clients
from local.stack.clients import own_agent
from local.stack.endpoints import REGION, Endpoints
from local.stack.parts import engines, parameters, running
from tests.sam_local.sam import NETWORK, sam_local
from tests.support.machines import ROOT
from tests.support.ports import free_port

logger = logging.getLogger(__name__)

EVENTS = ROOT / "events"
LIST_SECONDS = 30

# A schedule's whole life, with a list and a report of drift in it, then a create that is compensated. Each step is a
# verb, which names the function's folder and its event, and a part of the expected result.
LIFE: list[tuple[str, dict[str, Any]]] = [
    ("register", {"outcome": "registered"}),
    ("temporal_create", {"repeated": False}),
    ("temporal_describe", {"match": "ours"}),
    ("api", {"statusCode": 200}),
    ("reconcile", {"position": None}),
    ("temporal_delete", {"existed": True}),
    ("deregister", {"removed": True, "more": False, "holder": None}),
    ("register", {"outcome": "registered"}),
    ("compensate", {"removed": True, "more": False}),
]
VOLATILE = ("created_at", "next_action_times", "next_action_time")

Invoke = Callable[[Function, Path], Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, Any]]:
    """The results of each step of LIFE, of a register of a bad event, and of a request for the API's specification.

    Each is a pair: the result in process, and the result in a container.
    """
    folder = tmp_path_factory.mktemp("events")
    bad, specification = folder / "bad.json", folder / "specification.json"
    event = json.loads((EVENTS / "register.json").read_text())
    event["request"]["agent_id"] = "weather--agent"
    bad.write_text(json.dumps(event))
    event = json.loads((EVENTS / "api.json").read_text())
    event |= {"routeKey": "GET /openapi.json", "rawPath": "/openapi.json"}
    event["requestContext"] |= {"routeKey": event["routeKey"], "http": {"method": "GET", "path": event["rawPath"]}}
    del event["requestContext"]["authorizer"]
    specification.write_text(json.dumps(event))
    events = [*((verb, EVENTS / f"{verb}.json") for verb, _ in LIFE), ("register", bad), ("api", specification)]

    endpoints = Endpoints(*(free_port() for _ in range(5)))
    functions = {f.code.name: f for f in Template(ROOT / "template.yaml", parameters(endpoints)).functions}
    logs = tmp_path_factory.mktemp("logs")

    # Each round has its own engines: Temporal remembers the request id of a deleted schedule, and would take the second
    # create for a repetition of the first.
    logger.info("starting SpiceDB, Temporal and the functions in process …")
    with running(endpoints, logs, persist=None):
        own_agent(clients.spicedb(endpoints), "weather-agent", "alice")
        invoke = _in_process(endpoints)
        in_process = [_once_listed(endpoints, invoke)(functions[verb], path) for verb, path in events]
    logger.info("starting SpiceDB, Temporal and a bridge to them …")
    with engines(endpoints, logs, persist=None), bridge(endpoints, NETWORK):
        own_agent(clients.spicedb(endpoints), "weather-agent", "alice")
        invoke = _in_container
        in_container = [_once_listed(endpoints, invoke)(functions[verb], path) for verb, path in events]
    return list(zip(in_process, in_container, strict=True))


def _in_process(endpoints: Endpoints) -> Invoke:
    client = boto3.client(
        "lambda",
        endpoint_url=endpoints.aws,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )

    def invoke(function: Function, event: Path) -> Any:
        return json.load(client.invoke(FunctionName=function.name, Payload=event.read_bytes())["Payload"])

    return invoke


def _in_container(function: Function, event: Path) -> Any:
    began = time.monotonic()
    sam = sam_local("invoke", function.logical_id, "--event", str(event))
    logger.info("%4.1f s  sam local invoke %s --event %s", time.monotonic() - began, function.logical_id, event.name)
    # Only the result goes to stdout; the function's log and SAM's own messages go to stderr.
    try:
        return json.loads(sam.stdout)
    except ValueError:
        return pytest.fail(f"sam ended with code {sam.returncode} and no result: {sam.stdout!r}\n{sam.stderr}")


def _once_listed(endpoints: Endpoints, invoke: Invoke) -> Invoke:
    """Before a list, wait until Temporal lists the schedule: its lists are eventually consistent."""

    async def listed() -> bool:
        client = await clients.temporal(endpoints)
        return len([entry async for entry in await client.list_schedules()]) == 1

    def wait(function: Function, event: Path) -> Any:
        ends_at = time.monotonic() + LIST_SECONDS
        while event == EVENTS / "api.json" and not asyncio.run(listed()):
            assert time.monotonic() < ends_at
            time.sleep(0.1)
        return invoke(function, event)

    return wait


def _steady(result: Any) -> Any:
    """The result with the times of this run masked, and with the body of an HTTP response decoded."""
    if isinstance(result, dict):
        if "body" in result:
            result = {**result, "body": json.loads(result["body"])}
        return {key: "…" if key in VOLATILE else _steady(value) for key, value in result.items()}
    return [_steady(item) for item in result] if isinstance(result, list) else result


def test_every_function_is_invoked_with_its_own_event() -> None:
    functions = Template(ROOT / "template.yaml", parameters(Endpoints())).functions

    verbs = {verb for verb, _ in LIFE}
    assert verbs == {function.code.name for function in functions}
    assert verbs == {event.stem for event in EVENTS.glob("*.json")}


@pytest.mark.parametrize("step", range(len(LIFE)), ids=[f"{n}-{verb}" for n, (verb, _) in enumerate(LIFE, start=1)])
def test_a_function_returns_in_its_container_what_it_returns_in_process(
    step: int, results: list[tuple[Any, Any]]
) -> None:
    _, expected = LIFE[step]
    in_process, in_container = results[step]

    assert _steady(in_container) == _steady(in_process)
    assert {key: in_container.get(key) for key in expected} == expected


def test_a_bad_event_fails_in_the_container_as_in_process(results: list[tuple[Any, Any]]) -> None:
    in_process, in_container = results[len(LIFE)]

    assert in_container["errorType"] == in_process["errorType"] == "InvalidRequest"
    assert in_container["errorMessage"] == in_process["errorMessage"]


def test_the_api_lists_the_schedule_from_its_container(results: list[tuple[Any, Any]]) -> None:
    _, in_container = results[[verb for verb, _ in LIFE].index("api")]

    body = json.loads(in_container["body"])
    assert [schedule["name"] for schedule in body["schedules"]] == ["daily-report"]


def test_the_api_returns_its_specification_in_the_container_as_in_process(results: list[tuple[Any, Any]]) -> None:
    in_process, in_container = results[len(LIFE) + 1]

    assert in_container["statusCode"] == 200
    assert json.loads(in_container["body"])["info"]["title"] == "Agent schedules"
    assert in_container == in_process
