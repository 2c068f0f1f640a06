"""The laptop's HTTP API handles requests side by side: none waits for another one, and none sees another one's."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from local.stack.clients import relationships
from local.stack.endpoints import Endpoints
from saga_core import ids
from tests.support.api import NEW_SCHEDULE, Api, HttpResponse
from tests.support.api_stack import fresh, serving
from tests.support.functions import forget_clients
from tests.support.proxy import FaultProxy

MANY = 16
# Of a call to an engine. Longer than whatever a test does while one hangs.
RPC_SECONDS = 20


@pytest.fixture(scope="module")
def _module_api(running_engines: Endpoints) -> Iterator[Api]:
    with serving(running_engines) as api, pytest.MonkeyPatch.context() as environment:
        environment.setenv("RPC_TIMEOUT_SECONDS", str(RPC_SECONDS))
        forget_clients()
        yield api


@pytest.fixture
def api(_module_api: Api) -> Iterator[Api]:
    """The API, without faults, with a new agent that alice owns."""
    with fresh(_module_api) as api:
        yield api


def at_once(calls: Sequence[Callable[[], HttpResponse]]) -> list[HttpResponse]:
    """The responses to requests that are made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [made.result() for made in [pool.submit(call) for call in calls]]


def meet(proxy: FaultProxy, method: str, number: int) -> None:
    """Let none of the next calls of a method go on to the engine until there are this many of them."""
    proxy.clear()
    together = threading.Barrier(number, timeout=RPC_SECONDS / 2)
    for each in range(1, number + 1):
        proxy.on_call(method, each, together.wait)


@contextmanager
def hanging(proxy: FaultProxy, method: str, request: Callable[[], HttpResponse]) -> Iterator["Future[HttpResponse]"]:
    """Make a request whose first call of a method hangs in the engine while the block lasts."""
    proxy.clear()
    arrived, released = threading.Event(), threading.Event()

    def hang() -> None:
        arrived.set()
        released.wait(RPC_SECONDS)

    proxy.on_call(method, 1, hang)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(request)
        try:
            assert arrived.wait(RPC_SECONDS)
            yield made
        finally:
            released.set()


class Owner:
    """A user with an agent, a schedule and a body of its own."""

    def __init__(self, api: Api, number: int) -> None:
        self._api = api
        self.user, self.agent, self.name = f"user-{number}", f"{api.agent}-{number}", f"schedule-{number}"
        self.body = {**NEW_SCHEDULE, "name": self.name, "workflow_params": {"number": number}}
        self.id = ids.schedule_id(self.agent, self.name)
        self.schedules = f"/agents/{self.agent}/schedules"
        self.path = f"{self.schedules}/{self.name}"
        api.relate(f"agent:{self.agent}#owner@user:{self.user}")

    def call(self, method: str, path: str, body: object = None) -> HttpResponse:
        """Make a request as this user."""
        return self._api.call(method, path, body, as_=self.user)

    def create(self) -> HttpResponse:
        """Create the schedule."""
        return self.call("POST", self.schedules, self.body)


@pytest.fixture
def owners(api: Api) -> list[Owner]:
    return [Owner(api, number) for number in range(MANY)]


def lines_of(api: Api, response: HttpResponse) -> list[dict[str, Any]]:
    """The log lines of a request."""
    return [line for line in api.logged() if line["correlation_id"] == response.headers["apigw-requestid"]]


def test_creates_at_once_are_each_executed_answered_logged_and_counted_as_they_were_asked(
    api: Api, owners: list[Owner], capsys: pytest.CaptureFixture[str]
) -> None:
    meet(api.spicedb, "CheckPermission", MANY)

    responses = at_once([owner.create for owner in owners])

    invocations = set()
    for owner, response in zip(owners, responses, strict=True):
        assert (response.status, response.headers["location"]) == (201, owner.path)
        assert response.body["schedule_id"] == owner.id
        assert response.body["action"]["workflow_params"] == [owner.body["workflow_params"]]
        lines = lines_of(api, response)
        assert [line["message"] for line in lines] == ["execution started", "execution ended", "request"]
        assert (f"/agents/{lines[-1]['agent_id']}/schedules", lines[-1]["status"]) == (owner.schedules, 201)
        (invocation,) = {line["function_request_id"] for line in lines}
        invocations.add(invocation)
        (execution_id,) = {line["execution_id"] for line in lines if "execution_id" in line}
        steps = [line for line in api.logged() if line["correlation_id"] == execution_id]
        assert [line["message"] for line in steps] == ["step done"] * 4
        held = {line.partition("#")[2].partition("[")[0] for line in relationships(api.authorization, owner.id)}
        memo = api.memo(owner.id)
        assert memo["execution_id"] == execution_id
        assert held >= {f"owner@user:{owner.user}", f"registered_by@registration:{memo['registration']}"}
    assert len(invocations) == MANY
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [metric["status"] for metric in counted if "Request" in metric] == ["201"] * MANY


def test_requests_of_several_kinds_at_once_are_each_answered_to_their_own_caller(api: Api, owners: list[Owner]) -> None:
    assert [created.status for created in at_once([owner.create for owner in owners])] == [201] * MANY
    asked: list[tuple[Owner, str, str, int, dict[str, str]]] = []
    for got, paused, deleted, refused in zip(*[iter(owners)] * 4, strict=True):
        asked += [
            (got, "GET", got.path, 200, {"schedule_id": got.id}),
            (
                paused,
                "POST",
                f"{paused.path}/pause",
                200,
                {"schedule_id": paused.id, "note": f"paused by {paused.user}"},
            ),
            (deleted, "DELETE", deleted.path, 200, {"id": deleted.id}),
            (refused, "GET", got.path, 404, {"message": "schedule not found"}),
        ]
    meet(api.spicedb, "CheckBulkPermissions", MANY)

    responses = at_once([partial(owner.call, method, path) for owner, method, path, _, _ in asked])

    for (_, _, path, status, expected), response in zip(asked, responses, strict=True):
        assert (response.status, response.body) == (status, {**response.body, **expected})
        last = lines_of(api, response)[-1]
        named = f"/agents/{last['agent_id']}/schedules/{last['schedule_name']}"
        assert (last["message"], path.removesuffix("/pause"), last["status"]) == ("request", named, status)


@pytest.mark.parametrize(("engine", "method"), [("spicedb", "CheckBulkPermissions"), ("temporal", "DescribeSchedule")])
def test_requests_are_answered_while_one_hangs_in_an_engine(api: Api, engine: str, method: str) -> None:
    assert api.create().status == 201

    with hanging(getattr(api, engine), method, api.get) as one:
        others = [api.create("other"), api.get("other"), api.call("GET", api.schedules), api.delete("other")]
        hung = not one.done()

    assert [response.status for response in others] == [201, 200, 200, 200]
    assert hung
    assert one.result().status == 200


def test_requests_are_answered_while_a_saga_waits_for_an_engine(api: Api) -> None:
    assert api.create().status == 201

    with hanging(api.temporal, "CreateSchedule", lambda: api.create("slow")) as slow:
        others = [api.create("other"), api.get("other"), api.call("GET", api.schedules), api.delete("other")]
        waited = not slow.done()

    assert [response.status for response in others] == [201, 200, 200, 200]
    assert waited
    assert (slow.result().status, slow.result().body["schedule_id"]) == (201, api.id("slow"))
