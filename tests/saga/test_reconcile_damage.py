"""Two thousand schedules, two hundred of them damaged behind the application's back, while creates and deletes go on.

A report lists exactly the damage, a repair mends exactly that, and after it only what a person has to decide is left.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from local.stack import clients
from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from local.stack.scheduler import Scheduler
from saga_core.deadlines import Deadline
from saga_temporal import temporal
from tests.support import relationships
from tests.support.population import (
    add_schedules,
    aged,
    counts_of,
    delete_schedules,
    kinds_of,
    listed,
    own_stack,
    populate,
    reconcile,
    registration_of,
    settled,
)
from tests.support.ports import free_port
from tests.support.saga_stack import Stack

SCHEDULES = 2000
AGENTS = [f"agent-{number:02}" for number in range(18)]
CLEARED, DISOWNED = "cleared", "disowned"  # agents that lose the relationships of all their schedules; their owner
OF_EACH = 20  # schedules of each of these two
# Longer than a create takes on a busy machine, as a lease has to be.
LEASE_SECONDS = 20
CALLERS = [f"caller-{number}" for number in range(3)]  # agents of schedules that come and go meanwhile
ANOTHER = "f" * 64


@dataclass
class Scene:
    """The engines after the damage.

    Attributes:
        before, damaged, mended: what SpiceDB holds: without damage, with it, and once it is repaired.
        schedules: the ids that Temporal has.
        kinds: what a report has to say, by schedule.
        left: the schedules with relationships that a repair leaves as they are.
        waiting: suspects of which an operation in flight holds the name.
        foreign: ids that are not ours, in both systems together.
    """

    stack: Stack
    before: dict[str, set[str]]
    schedules: set[str]
    mended: dict[str, set[str]]
    damaged: dict[str, set[str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    repairs: int = 0
    waiting: int = 0
    foreign: int = 0

    def found(self, schedule_id: str, kind: str, mended: str) -> None:
        """Note what has to be found, and what a repair makes of the schedule's registration (see `Damage`)."""
        self.kinds[schedule_id] = kind
        if mended == "left":
            self.left.add(schedule_id)
        else:
            self.repairs += 1
        if mended == "gone":
            self.mended.pop(schedule_id, None)

    def remove(self, schedule_id: str, *relations: str) -> None:
        """Take relations away from a schedule."""
        gone = [text for text in self.before[schedule_id] if text.partition("@")[0] in relations]
        relationships.remove(self.stack.authorization, *(f"agent_schedule:{schedule_id}#{text}" for text in gone))

    def touch(self, schedule_id: str, *texts: str, expires_at: datetime | None = None) -> None:
        """Give relations to a schedule."""
        whole = (f"agent_schedule:{schedule_id}#{text}" for text in texts)
        relationships.touch(self.stack.authorization, *whole, expires_at=expires_at)


def all_deleted(scene: Scene, schedule_id: str) -> None:
    relationships.remove_all(scene.stack.authorization, schedule_id=schedule_id)


def parent_deleted(scene: Scene, schedule_id: str) -> None:
    scene.remove(schedule_id, "parent_agent")


def owner_deleted(scene: Scene, schedule_id: str) -> None:
    scene.remove(schedule_id, "owner")


def owner_changed(scene: Scene, schedule_id: str) -> None:
    scene.remove(schedule_id, "owner")
    scene.touch(schedule_id, "owner@user:bob")


def fence_deleted(scene: Scene, schedule_id: str) -> None:
    scene.remove(schedule_id, "registered_by")


def fence_deleted_and_owner_changed(scene: Scene, schedule_id: str) -> None:
    fence_deleted(scene, schedule_id)
    owner_changed(scene, schedule_id)


def fence_of_another(scene: Scene, schedule_id: str) -> None:
    """Halves of two operations: the relationships of one, the schedule of another."""
    fence_deleted(scene, schedule_id)
    scene.touch(schedule_id, f"registered_by@registration:{ANOTHER}", "viewer@user:bob")


def schedule_deleted(scene: Scene, schedule_id: str) -> None:
    """Also what a delete leaves that ends after Temporal has deleted the schedule."""
    scene.touch(schedule_id, "viewer@user:bob")
    delete_schedules([schedule_id])
    scene.schedules.remove(schedule_id)


def fence_and_schedule_deleted(scene: Scene, schedule_id: str) -> None:
    schedule_deleted(scene, schedule_id)
    fence_deleted(scene, schedule_id)


@dataclass(frozen=True)
class Damage:
    """Something done to a number of schedules.

    Attributes:
        kind: what the reconciler calls it.
        mended: whether the registration is as before once it is repaired, gone, or ("left") as it was damaged.
    """

    do: Callable[[Scene, str], None]
    times: int
    kind: str
    mended: str


DAMAGES = [
    Damage(all_deleted, 25, "unowned", "before"),
    Damage(parent_deleted, 25, "incomplete", "before"),
    Damage(owner_deleted, 10, "ownerless", "left"),
    Damage(owner_changed, 15, "other_owner", "left"),
    Damage(fence_deleted, 20, "unfenced", "before"),
    Damage(fence_deleted_and_owner_changed, 5, "unfenced", "left"),
    Damage(fence_of_another, 20, "conflicting", "before"),
    Damage(schedule_deleted, 25, "orphan", "gone"),
    Damage(fence_and_schedule_deleted, 5, "unfenced", "gone"),
]


@pytest.fixture
def scene(tmp_path: Path, scheduler: Scheduler) -> Iterator[Scene]:
    """The engines after the damage, which is as old as a lease lasts."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with engines(endpoints, tmp_path, None, scheduler), own_stack(endpoints, LEASE_SECONDS) as stack:
        for agent in (*AGENTS, *CALLERS, CLEARED, DISOWNED):
            for user in ("alice", "bob"):
                relationships.touch(stack.authorization, f"agent:{agent}#owner@user:{user}")
        names = [f"{AGENTS[number % len(AGENTS)]}--s-{number:04}" for number in range(SCHEDULES - 2 * OF_EACH)]
        names += [f"{agent}--s-{number}" for agent in (CLEARED, DISOWNED) for number in range(OF_EACH)]
        made = populate(stack, names)
        before = {id_: registration_of(id_, by) for id_, by in made.items()}
        scene = Scene(stack, before, set(made), mended=dict(before))
        damage(scene, names)
        scene.damaged = relationships.all_of(stack.authorization)
        scene.mended |= {id_: scene.damaged[id_] for id_ in scene.left}
        settled(stack, scene.schedules)
        aged(stack, schedule_id=f"{AGENTS[0]}--nobodys")  # the youngest
        yield scene


def damage(scene: Scene, names: list[str]) -> None:
    """Do two hundred damages and a few more."""
    untouched = iter(names)
    for each in DAMAGES:
        for _ in range(each.times):
            schedule_id = next(untouched)
            each.do(scene, schedule_id)
            scene.found(schedule_id, each.kind, each.mended)
    damage_agents(scene)
    for number in range(5):
        schedule_id = f"{AGENTS[0]}--granted-{number}"
        scene.touch(schedule_id, "viewer@user:bob")
        scene.found(schedule_id, "unfenced", "gone")
    interrupt_creates(scene)
    add_operations_in_flight(scene, [next(untouched), f"{AGENTS[5]}--flying"])
    add_schedules_of_others(scene)


def damage_agents(scene: Scene) -> None:
    """All of an agent: the relationships of its schedules, or its owners."""
    for number in range(OF_EACH):
        all_deleted(scene, f"{CLEARED}--s-{number}")
        scene.found(f"{CLEARED}--s-{number}", "unowned", "before")
        scene.found(f"{DISOWNED}--s-{number}", "revoked", "left")
    owners = (f"agent:{DISOWNED}#owner@user:{user}" for user in ("alice", "bob"))
    relationships.remove(scene.stack.authorization, *owners)


def interrupt_creates(scene: Scene) -> None:
    """Creates that end before their schedules, and their leases are over."""
    for agent in AGENTS[:4]:
        scene.stack.agent = agent
        scene.stack.interrupt(scene.stack.request("half"), at="CreateSchedule")
        scene.stack.end_lease("half")
        scene.found(f"{agent}--half", "orphan", "gone")


def add_operations_in_flight(scene: Scene, schedule_ids: list[str]) -> None:
    """Relationships of creates whose leases are live: where another one's schedule stands, and where there is none."""
    lasts_until = datetime.now(UTC) + timedelta(hours=1)
    for schedule_id in schedule_ids:
        all_deleted(scene, schedule_id)
        scene.touch(schedule_id, *registration_of(schedule_id, ANOTHER))
        scene.touch(schedule_id, f"creating@registration:{ANOTHER}", expires_at=lasts_until)
        scene.left.add(schedule_id)
        scene.waiting += 1


def add_schedules_of_others(scene: Scene) -> None:
    """Schedules of services, which have no creator; of other tools; and ids that are not ours."""
    stack = scene.stack
    of_tools = {f"{agent}--tool" for agent in AGENTS[:3]}
    foreign = {"nightly report", "no-separator", f"{AGENTS[0]}--Upper"}
    schedule = Schedule(ScheduleActionStartWorkflow("Report", id="report", task_queue="reports"), ScheduleSpec())
    for schedule_id in of_tools | foreign:
        stack.loop.run_until_complete(stack.scheduler.create_schedule(schedule_id, schedule))
    unmanaged = of_tools | add_schedules([f"{agent}--nobodys" for agent in AGENTS[:3]], creator=None).keys()
    scene.schedules |= unmanaged | foreign
    scene.kinds |= dict.fromkeys(unmanaged, "unmanaged")
    scene.touch("legacy", "viewer@user:bob")
    scene.left.add("legacy")
    scene.foreign = len(foreign) + 1


@contextmanager
def callers(stack: Stack) -> Iterator[list[str]]:
    """In the block callers create schedules, each under a new name, and delete most of them.

    Gives the ids of the schedules that stay. Every answer has to be the one of an application without a reconciler.
    """
    over = threading.Event()
    kept: list[str] = []

    def call(agent: str) -> int:
        number = 0
        while not over.is_set():
            number += 1
            schedule_id = f"{agent}--n-{number}"
            schedule = {
                "name": f"n-{number}",
                "workflow_name": "Report",
                "task_queue": "reports",
                "interval_seconds": 3600,
            }
            request = {"agent_id": agent, "principal": {"user_id": "alice"}, "schedule": schedule}
            created = stack.run("create-schedule", request)
            assert created.status == "SUCCEEDED", (created.error, created.cause)
            assert created.output["outcome"] == "created"
            found = temporal().describe(schedule_id, Deadline(time.monotonic() + 20, per_call=20))
            assert found
            held = {line.partition("#")[2] for line in clients.relationships(stack.authorization, schedule_id)}
            assert held >= registration_of(schedule_id, found.registration)
            if number % 3 == 0:
                kept.append(schedule_id)
                continue
            deleting = {"agent_id": agent, "schedule_name": f"n-{number}"}
            deleted = stack.run("delete-schedule", deleting)
            while deleted.error == "TemporalUnavailable":  # too busy to answer in time; it may have deleted it
                deleted = stack.run("delete-schedule", deleting)
            assert deleted.status == "SUCCEEDED", (deleted.error, deleted.cause)
            assert deleted.output["deregistered"]
        return number

    with ThreadPoolExecutor(len(CALLERS)) as pool:
        calling = [pool.submit(call, agent) for agent in CALLERS]
        try:
            yield kept
        finally:
            over.set()
        assert all(each.result() > 1 for each in calling)


def of_scene(found: dict[str, Any]) -> dict[str, Any]:
    """What is about schedules of the scene, not of the callers."""
    return {schedule_id: value for schedule_id, value in found.items() if schedule_id.partition("--")[0] not in CALLERS}


def without_deletes_in_flight(counts: dict[str, int], expected: dict[str, int]) -> dict[str, int]:
    """The counts, less the orphans that are deletes in flight: the schedule is deleted, and not deregistered yet."""
    more = counts.get("orphan", 0) - expected["orphan"]
    return {**counts, "orphan": expected["orphan"]} if 0 <= more <= len(CALLERS) else counts


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_report_lists_exactly_the_damage_and_a_repair_mends_exactly_that_while_callers_go_on(scene: Scene) -> None:
    stack = scene.stack
    expected = {**Counter(scene.kinds.values()), "foreign": scene.foreign}
    by_hand = Counter(kind for id_, kind in scene.kinds.items() if id_ in scene.left or kind == "unmanaged")
    repairable = {kind: n for kind in expected if (n := expected[kind] - by_hand[kind]) and kind != "foreign"}

    with callers(stack) as kept:
        report = reconcile(stack)
        assert without_deletes_in_flight(counts_of(report), expected) == expected
        assert (counts_of(report, "repaired"), report["stopped"]) == ({}, None)
        assert report["would_repair"] - counts_of(report)["orphan"] == scene.repairs - expected["orphan"]
        listing: dict[str, str] = {}
        for agent in (*AGENTS, CLEARED, DISOWNED):
            listing |= kinds_of(reconcile(stack, agent_id=agent))
        assert listing == scene.kinds

        assert of_scene(relationships.all_of(stack.authorization)) == scene.damaged, "nothing is written so far"

        repaired = reconcile(stack, mode="repair", confirm=scene.repairs + len(CALLERS), max_repairs=1000)
        assert repaired["stopped"] is None
        assert without_deletes_in_flight(counts_of(repaired, "repaired"), repairable) == repairable
        assert of_scene(relationships.all_of(stack.authorization)) == scene.mended

    settled(stack, {*scene.schedules, *kept})
    assert not any(listed(stack).values()), "none is paused"
    again = reconcile(stack, mode="repair")
    assert counts_of(again) == {**by_hand, "foreign": scene.foreign}
    assert again["waiting"] == scene.waiting
    assert (again["would_repair"], counts_of(again, "repaired"), again["stopped"]) == (0, {}, None)
    held = relationships.all_of(stack.authorization)
    assert of_scene(held) == scene.mended
    assert held.keys() - scene.mended.keys() == set(kept)
