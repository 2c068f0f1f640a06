"""`sam local start-api` and `start-lambda`: routes, and both machines, over functions in Lambda's containers."""

import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws.lambda_runtime import Invocation, LambdaRuntime
from local.aws.server import serve
from local.aws.template import Template
from local.docker.bridge import bridge
from local.stack import clients
from local.stack.clients import own_agent
from local.stack.endpoints import Endpoints, state_machine_arn
from local.stack.parts import engines, parameters
from local.stack.process import HOST
from tests.sam_local.sam import NETWORK, SECONDS, serving
from tests.support.machines import ROOT, SAGAS
from tests.support.ports import free_port

AGENT = "weather-agent"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Both engines, and a bridge to them."""
    ports = Endpoints(*(free_port() for _ in range(5)))
    with engines(ports, tmp_path_factory.mktemp("logs"), persist=None), bridge(ports, NETWORK):
        own_agent(clients.spicedb(ports), AGENT, "alice")
        yield ports


@pytest.fixture(scope="module")
def api(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:  # noqa: ARG001 - it runs
    """The port of `sam local start-api`."""
    with serving("start-api", tmp_path_factory.mktemp("logs")) as port:
        yield port


@pytest.fixture(scope="module")
def machines(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the laptop's Step Functions, whose machines call the functions of `sam local start-lambda`."""
    template = Template(ROOT / "template.yaml", parameters(endpoints))
    names = {function.name: function.logical_id for function in template.functions}
    with serving("start-lambda", tmp_path_factory.mktemp("logs")) as port, pytest.MonkeyPatch.context() as patch:

        def invoke(_: LambdaRuntime, name: str, payload: bytes) -> Invocation:
            plain = name.rpartition("function:")[2].partition(":")[0]
            return _invoked(port, names[plain], payload)

        for logical_id in names.values():  # the start of a container takes longer than a Task may
            _invoked(port, logical_id, b"{}")
        patch.setattr(LambdaRuntime, "invoke", invoke)
        with serve(template) as url:
            yield clients.stepfunctions(Endpoints(aws_port=int(url.rpartition(":")[2])))


def _invoked(port: int, logical_id: str, payload: bytes) -> Invocation:
    """The result of a function, as Lambda gives it.

    `sam local start-lambda` returns an error that a function raised as if it were its result. It is told by its shape.
    """
    status, text = _request(port, "POST", f"/2015-03-31/functions/{logical_id}/invocations", payload)
    assert status == 200, text
    result = json.loads(text)
    failed = isinstance(result, dict) and {"errorType", "errorMessage"} <= result.keys()
    return Invocation(str(uuid.uuid4()), text, "Unhandled" if failed else None)


def _request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def _run(machines: Any, machine: str, request: object) -> Any:
    return machines.start_sync_execution(
        stateMachineArn=state_machine_arn(f"{machine.replace('_', '-')}-express"),
        name=str(uuid.uuid4()),
        input=json.dumps(request),
    )


def test_the_specification_comes_through_start_api(api: int) -> None:
    status, text = _request(api, "GET", "/openapi.json")

    assert (status, json.loads(text)["info"]["title"]) == (200, "Agent schedules")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"/agents/{AGENT}/schedules"), ("DELETE", f"/agents/{AGENT}/schedules/daily-report")],
)
def test_start_api_checks_no_token_so_a_route_that_needs_one_is_refused_by_the_function(
    api: int, method: str, path: str
) -> None:
    status, text = _request(api, method, path)

    assert status == 401
    assert json.loads(text).keys() == {"message", "code", "data"}


def test_a_schedule_is_created_and_deleted_by_functions_in_containers(machines: Any) -> None:
    create, delete = SAGAS
    event = json.loads((ROOT / "events" / "register.json").read_text())["request"]

    created = _run(machines, create, event)
    deleted = _run(machines, delete, {"agent_id": AGENT, "schedule_name": event["schedule"]["name"]})

    assert (created["status"], created.get("cause")) == ("SUCCEEDED", None)
    assert json.loads(created["output"])["read_back"] is True
    assert (deleted["status"], deleted.get("cause")) == ("SUCCEEDED", None)
    assert json.loads(deleted["output"])["deregistered"] is True


def test_an_error_of_a_function_in_a_container_is_the_error_of_its_machine(machines: Any) -> None:
    event = json.loads((ROOT / "events" / "register.json").read_text())["request"]

    denied = _run(machines, SAGAS[0], {**event, "principal": {"user_id": "bob"}})

    assert (denied["status"], denied["error"]) == ("FAILED", "AgentUpdateDenied")
