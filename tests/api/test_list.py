"""Lists of five agents whose ids begin alike."""

import math
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from saga_api.listing import MAX_FETCHES
from saga_core.deadlines import Deadline
from saga_core.ids import Subject
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.support.api import Api, eventually

EACH = 15
AT_ONCE = 10
LARGEST_PAGE = 1000
BASE = f"busy-{uuid.uuid4().hex[:8]}"
# Each id begins like another one, up to the place where the separator stands in the schedule ids of the other.
AGENTS = [BASE, f"{BASE}-b", f"{BASE}b", f"{BASE}-b-c", f"{BASE}-1"]
NAMES = [f"s-{number}" for number in range(EACH)]
PAUSED = "s-7"
SHARED = ["s-1", "s-7", "s-14"]


@pytest.fixture
def busy(api: Api) -> Api:
    """The API; alice owns all agents and their schedules, and bob may read three schedules of the first agent.

    The schedules are written directly into both engines, which is faster than the state machines.
    """
    deadline = Deadline(time.monotonic() + 60, per_call=20)

    def create(of: tuple[str, str]) -> None:
        agent, name = of
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 86_400}
        request = CreateRequest.parse({"agent_id": agent, "schedule": {**schedule, "paused": name == PAUSED}})
        memo = Memo(registration=uuid.uuid4().hex * 2, creator="user:alice")
        temporal().create(request, memo, deadline, holds_name=False)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(create, [(agent, name) for agent in AGENTS for name in NAMES]))
    api.relate(
        *(
            f"agent_schedule:{agent}--{name}#{relation}"
            for agent in AGENTS
            for name in NAMES
            for relation in ("owner@user:alice", f"parent_agent@agent:{agent}")
        ),
        *(f"agent:{agent}#owner@user:alice" for agent in AGENTS),
        f"agent:{BASE}#viewer@user:bob",
        *(f"agent_schedule:{BASE}--{name}#viewer@user:bob" for name in SHARED),
    )
    for agent in AGENTS:  # lists are eventually consistent
        path = f"/agents/{agent}/schedules?page_size={LARGEST_PAGE}"
        eventually(lambda path=path: api.call("GET", path).body["total"], lambda total: total == EACH)  # type: ignore[misc] # mypy knows no default in a lambda
    api.calls()
    return api


def walked(api: Api, agent: str, page_size: int, as_: str = "alice") -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    pages: list[list[dict[str, Any]]] = []
    token = ""
    while token is not None:
        after = f"&page_token={token}" if token else ""
        response = api.call("GET", f"/agents/{agent}/schedules?page_size={page_size}{after}", as_=as_)
        assert response.status == 200, response.body
        assert response.body["total"] == len(response.body["schedules"]) <= page_size
        pages.append(response.body["schedules"])
        token = response.body["next_page_token"]
    return pages


def test_lists_of_agents_whose_ids_begin_alike(busy: Api) -> None:
    # Each schedule of the agent exactly once, at any page size, and in no more calls than necessary.
    for page_size in (EACH // 5, EACH - 1, EACH, 2 * EACH, LARGEST_PAGE):
        busy.calls()
        seen = [entry for page in walked(busy, BASE, page_size) for entry in page]
        calls_of_spicedb, calls_of_temporal = busy.calls()

        assert sorted(entry["name"] for entry in seen) == sorted(NAMES)
        assert {entry["agent_id"] for entry in seen} == {BASE}
        assert [entry["name"] for entry in seen if entry["state"] == "PAUSED"] == [PAUSED]
        assert set(calls_of_temporal) == {"ListSchedules"}
        assert len(calls_of_temporal) <= math.ceil(EACH / page_size) + 1
        assert set(calls_of_spicedb) == {"CheckPermission", "CheckBulkPermissions"}
        assert calls_of_spicedb.count("CheckBulkPermissions") <= len(calls_of_temporal)

    # The lists of the other agents hold only their own schedules too.
    for agent in AGENTS[1:]:
        (entries,) = [page for page in walked(busy, agent, LARGEST_PAGE) if page]
        assert {entry["schedule_id"] for entry in entries} == {f"{agent}--{name}" for name in NAMES}

    # Who may read three schedules sees those three, each once, at any page size. At most five calls fill a page.
    for page_size in (1, 2, EACH // 5, LARGEST_PAGE):
        busy.calls()
        pages = walked(busy, BASE, page_size, as_="bob")
        assert sorted(entry["name"] for page in pages for entry in page) == sorted(SHARED)
        assert len(busy.calls()[1]) <= MAX_FETCHES * len(pages)

    # Who may not read the agent learns nothing: one check, and no call to Temporal, whether it has schedules or not.
    for agent, who in ((BASE, "mallory"), (AGENTS[1], "bob"), (f"{BASE}-none", "alice")):
        busy.calls()
        assert walked(busy, agent, 10, as_=who) == [[]]
        assert busy.calls() == (["CheckPermission"], [])

    # A page token continues the list that returned it, for the caller who got it, and no other.
    token = busy.call("GET", f"/agents/{BASE}/schedules?page_size=10").body["next_page_token"]
    assert busy.call("GET", f"/agents/{BASE}/schedules?page_token={token}").status == 200
    busy.calls()
    altered = ("B" if token[0] == "A" else "A") + token[1:]
    for agent, who, sent in (
        (AGENTS[1], "alice", token),
        (BASE, "bob", token),
        (BASE, "alice", altered),
        (BASE, "alice", token + "AAAA"),
        (BASE, "alice", token[:40]),
        (BASE, "alice", "AAAA"),
        (BASE, "alice", ""),
        (BASE, "alice", "%C3%A9"),
    ):
        other = busy.call("GET", f"/agents/{agent}/schedules?page_token={sent}", as_=who)
        assert other.is_problem(422, "page_token: is not a token that a list of this agent has given to this caller")
    assert busy.calls() == ([], []), "no engine is asked"


def test_the_permissions_on_a_page_of_the_largest_size_are_checked_in_one_call(api: Api) -> None:
    names = [f"s-{number}" for number in range(LARGEST_PAGE)]
    api.relate(
        *(f"agent_schedule:{api.id(name)}#owner@user:alice" for name in ("s-0", "s-999")),
        *(f"agent_schedule:{api.id(name)}#parent_agent@agent:{api.agent}" for name in ("s-0", "s-999")),
    )

    deadline = Deadline(time.monotonic() + 30, per_call=10)
    held = spicedb().permissions(Subject("user", "alice"), ["read"], [api.id(name) for name in names], deadline)

    assert {schedule_id for schedule_id, permissions in held.items() if permissions} == {api.id("s-0"), api.id("s-999")}
    assert api.calls() == (["CheckBulkPermissions"], [])
