"""A list in a busy namespace: 2,500 schedules of five agents whose ids begin alike."""

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.stack import clients
from local.stack.endpoints import NAMESPACE, Endpoints
from local.stack.parts import engines
from saga_core.deadlines import Deadline
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from saga_temporal import Temporal, WorkflowService
from tests.api.conftest import Api, eventually
from tests.support.ports import free_port

EACH = 500
AT_ONCE = 100
# One transaction takes 1,000 relationships.
RELATIONSHIPS = 1000
BASE = f"busy-{uuid.uuid4().hex[:8]}"
# Each begins as another one does, up to the place where the separator of the other's schedule ids stands.
AGENTS = [BASE, f"{BASE}-b", f"{BASE}b", f"{BASE}-b-c", f"{BASE}-1"]
NAMES = [f"s-{number}" for number in range(EACH)]
SHARED = ["s-7", "s-8", "s-499"]


@pytest.fixture(scope="module")
def running_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Engines of this module's own: so many schedules keep Temporal busy for a while after they have been made."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with engines(endpoints, tmp_path_factory.mktemp("logs"), persist=None):
        yield endpoints


@pytest.fixture(scope="module")
def _schedules(running_engines: Endpoints) -> None:
    """The schedules, written straight into Temporal: through the machines it takes three times as long."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def connect(_seconds: float) -> WorkflowService:
        return (await clients.temporal(running_engines)).workflow_service

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    temporal = Temporal(connect, NAMESPACE, run)
    deadline = Deadline(time.monotonic() + 300, per_call=60)

    def create(of: tuple[str, str]) -> None:
        agent, name = of
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 86_400}
        request = CreateRequest.parse({"agent_id": agent, "schedule": {**schedule, "paused": name == "s-7"}})
        memo = Memo(registration=uuid.uuid4().hex * 2, creator="user:alice", agent_id=agent, request=request.schedule)
        temporal.create(request, memo, deadline, over_stray=False)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(create, [(agent, name) for agent in AGENTS for name in NAMES]))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def busy(api: Api, _schedules: None) -> Api:
    """The API; alice owns all agents and their schedules, and bob may read three of the first one's."""
    owned = [
        f"agent_schedule:{agent}--{name}#{relation}"
        for agent in AGENTS
        for name in NAMES
        for relation in ("owner@user:alice", f"parent_agent@agent:{agent}")
    ]
    for first in range(0, len(owned), RELATIONSHIPS):
        api.relate(*owned[first : first + RELATIONSHIPS])
    api.relate(
        *(f"agent:{agent}#owner@user:alice" for agent in AGENTS),
        f"agent:{BASE}#viewer@user:bob",
        *(f"agent_schedule:{BASE}--{name}#viewer@user:bob" for name in SHARED),
    )
    for agent in AGENTS:  # what a list shows trails what was written
        path = f"/agents/{agent}/schedules?page_size=1000"
        eventually(lambda path=path: api.call("GET", path).body["total"], lambda total: total == EACH)  # type: ignore[misc] # mypy knows no default in a lambda
    api.calls()
    return api


def walked(api: Api, agent: str, page_size: int, as_: str = "alice") -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    pages: list[list[dict[str, Any]]] = []
    token = ""
    while token is not None:
        after = f"&page_token={token}" if token else ""
        answer = api.call("GET", f"/agents/{agent}/schedules?page_size={page_size}{after}", as_=as_)
        assert answer.status == 200, answer.body
        assert answer.body["total"] == len(answer.body["schedules"]) <= page_size
        pages.append(answer.body["schedules"])
        token = answer.body["next_page_token"]
    return pages


def test_a_list_in_a_busy_namespace(busy: Api) -> None:
    # Each of the agent's own, exactly once, however the pages are cut, and in no more calls than that takes.
    for page_size in (100, 499, 500, 1000):
        busy.calls()
        seen = [entry for page in walked(busy, BASE, page_size) for entry in page]
        asked_spicedb, asked_temporal = busy.calls()

        assert sorted(entry["name"] for entry in seen) == sorted(NAMES)
        assert {entry["agent_id"] for entry in seen} == {BASE}
        assert [entry["name"] for entry in seen if entry["state"] == "PAUSED"] == ["s-7"]
        assert set(asked_temporal) == {"ListSchedules"}
        assert len(asked_temporal) <= math.ceil(EACH / page_size) + 1
        assert set(asked_spicedb) == {"CheckBulkPermissions"}
        assert len(asked_spicedb) <= len(asked_temporal)

    # The other agents' lists are their own too.
    for agent in AGENTS[1:]:
        (entries,) = [page for page in walked(busy, agent, 1000) if page]
        assert {entry["schedule_id"] for entry in entries} == {f"{agent}--{name}" for name in NAMES}

    # Who may read three of them sees those three, wherever they stand.
    pages = walked(busy, BASE, 100, as_="bob")
    assert sorted(entry["name"] for page in pages for entry in page) == sorted(SHARED)
    assert [page for page in walked(busy, BASE, 1000, as_="mallory") if page] == []
    assert [page for page in walked(busy, AGENTS[1], 1000, as_="bob") if page] == []

    # A page token goes on with the list that gave it, and with no other.
    token = busy.call("GET", f"/agents/{BASE}/schedules?page_size=10").body["next_page_token"]
    other = busy.call("GET", f"/agents/{AGENTS[1]}/schedules?page_token={token}")
    assert other.is_problem(422, "page_token: is not a token that a list of this agent has given")
