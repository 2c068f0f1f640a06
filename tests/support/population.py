"""Schedules by the hundred, on engines of their own, and what the reconciler says about them.

They are written straight into both engines, which is faster than the state machines.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.parts import ROOT, parameters
from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.errors import TemporalUnavailable
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from saga_temporal import temporal
from tests.support import relationships
from tests.support.api import eventually
from tests.support.proxy import fault_proxy
from tests.support.saga_stack import Stack, fresh, serving

T = TypeVar("T")

_AT_ONCE = 10
_BATCH = 900  # relationships; a write takes a thousand
_SECONDS = 300.0


@contextmanager
def own_stack(endpoints: Endpoints, lease_seconds: int) -> Iterator[Stack]:
    """The machines and functions on these engines, with a lease of so many seconds and the deployed timeouts."""
    with (
        pytest.MonkeyPatch.context() as patch,
        fault_proxy(endpoints.spicedb) as (spicedb_proxy, spicedb_port),
        fault_proxy(endpoints.temporal) as (temporal_proxy, temporal_port),
    ):
        through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
        template = Template(ROOT / "template.yaml", parameters(through))
        with serving(endpoints, (spicedb_proxy, temporal_proxy, template), time_scale=1) as served:
            patch.setenv("LEASE_SECONDS", str(lease_seconds))
            patch.delenv("RPC_TIMEOUT_SECONDS")
            with fresh(served, patch) as stack:
                yield stack


def patiently(ask: Callable[[], T]) -> T:
    """The result of a call to Temporal, which is repeated while Temporal does not answer."""
    ends_at = time.monotonic() + _SECONDS
    while True:
        try:
            return ask()
        except TemporalUnavailable:
            assert time.monotonic() < ends_at, "Temporal does not answer"


def add_schedules(schedule_ids: Iterable[str], creator: str | None = "user:alice") -> dict[str, str]:
    """Make schedules in Temporal alone. Returns their registrations, by id."""
    deadline = Deadline(time.monotonic() + _SECONDS, per_call=60)

    def create(schedule_id: str) -> tuple[str, str]:
        agent, name = ids.split_schedule_id(schedule_id)
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 86_400}
        memo = Memo(version=2, registration=uuid.uuid4().hex * 2, creator=creator)
        request = CreateRequest.parse({"agent_id": agent, "schedule": schedule})
        patiently(lambda: temporal().create(request, memo, deadline, holds_name=False))
        return schedule_id, memo.registration

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made = dict(pool.map(create, schedule_ids))
        # Temporal describes a schedule only when it has begun its work on it, and on all of these before.
        list(pool.map(lambda id_: patiently(lambda: temporal().describe(id_, deadline)), [*made][-_AT_ONCE:]))
        return made


def delete_schedules(schedule_ids: Iterable[str]) -> None:
    """Delete schedules in Temporal alone, as another tool does."""
    deadline = Deadline(time.monotonic() + _SECONDS, per_call=60)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda id_: patiently(lambda: temporal().delete(id_, deadline)), schedule_ids))


def registration_of(schedule_id: str, registration: str, owner: str = "user:alice") -> set[str]:
    """What SpiceDB holds for a schedule of this registration, each ``relation@subject``."""
    agent, _ = ids.split_schedule_id(schedule_id)
    return {f"owner@{owner}", f"parent_agent@agent:{agent}", f"registered_by@registration:{registration}"}


def register(stack: Stack, registrations: Mapping[str, str]) -> None:
    """Write the relationships of schedules in SpiceDB alone; ``registrations`` by id."""
    texts = [
        f"agent_schedule:{schedule_id}#{text}"
        for schedule_id, registration in registrations.items()
        for text in registration_of(schedule_id, registration)
    ]
    for first in range(0, len(texts), _BATCH):
        relationships.touch(stack.authorization, *texts[first : first + _BATCH])


def populate(stack: Stack, schedule_ids: Iterable[str]) -> dict[str, str]:
    """Make schedules that are alice's in both systems. Returns their registrations, by id."""
    made = add_schedules(schedule_ids)
    register(stack, made)
    return made


def listed(stack: Stack) -> dict[str, bool]:
    """What Temporal's list shows now: whether each schedule is paused, by its id. It is eventually consistent."""

    async def ask() -> dict[str, bool]:
        shown = await stack.scheduler.list_schedules(page_size=1000)
        return {each.id: bool(each.schedule and each.schedule.state.paused) async for each in shown}

    return stack.loop.run_until_complete(ask())


def settled(stack: Stack, expected: Iterable[str]) -> None:
    """Wait until Temporal's list shows exactly these schedules."""
    wanted = set(expected)
    eventually(lambda: listed(stack).keys() ^ wanted, lambda differing: not differing, seconds=120)


def reconcile(stack: Stack, **request: Any) -> dict[str, Any]:
    """The output of a run of the reconciler."""
    ended = stack.run("reconcile-schedules", request)
    assert ended.status == "SUCCEEDED", (ended.error, ended.cause)
    output: dict[str, Any] = ended.output
    return output


def aged(stack: Stack, **request: Any) -> None:
    """Wait until a report says of no suspect that it is too young, or in flight."""
    eventually(lambda: reconcile(stack, **request)["waiting"], lambda waiting: waiting == 0, seconds=60)


def kinds_of(report: Mapping[str, Any]) -> dict[str, str]:
    """The kind of each finding of a report, by the id of its schedule."""
    assert report["items_left_out"] == 0
    return {item["schedule_id"]: item["kind"] for item in report["items"]}


def counts_of(report: Mapping[str, Any], count: str = "found") -> dict[str, int]:
    """How many findings of each kind a report counts, as ``found``, ``repaired`` or ``left``; without zeros."""
    return {kind: counts[count] for kind, counts in report["kinds"].items() if counts[count]}
