"""An engine is emptied, or put back to an earlier state: what a report says, what stops, and what a person may choose.

Yesterday there are sixty schedules, which are alice's, and bob may see some. Today some are deleted, created, and
deleted and created again; an owner changes, a grant is given and another one taken away. Then something is lost.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.stack import parts
from local.stack.endpoints import Endpoints
from local.stack.process import Child
from local.stack.scheduler import Scheduler
from saga_core.deadlines import Deadline
from saga_temporal import temporal
from tests.support import relationships
from tests.support.population import (
    aged,
    counts_of,
    delete_schedules,
    kinds_of,
    own_stack,
    patiently,
    populate,
    reconcile,
    settled,
)
from tests.support.ports import free_port
from tests.support.saga_stack import Stack

pytestmark = pytest.mark.slow

AGENT = "agent"
YESTERDAY = [f"{AGENT}--s-{number:02}" for number in range(60)]
DELETED, RECREATED, TRANSFERRED, SHARED, UNSHARED = (
    YESTERDAY[:12],
    YESTERDAY[12:16],
    YESTERDAY[16],
    YESTERDAY[17],
    YESTERDAY[18],
)
CREATED = [f"{AGENT}--new-{number:02}" for number in range(12)]
TODAY = {*YESTERDAY, *CREATED} - set(DELETED)
ROLES = [f"agent:{AGENT}#owner@user:{user}" for user in ("alice", "bob")]
BOB_SEES = "viewer@user:bob"
Relationships = Mapping[str, set[str]]


class Database:
    """Temporal, and the folder with its database."""

    def __init__(self, start: Callable[[], list[Child]], first: list[Child], folder: Path) -> None:
        """``start`` starts it again after ``first``."""
        self._start, self._running, self._folder = start, first, folder

    def save(self, backup: Path) -> None:
        """Copy it to a folder that does not exist."""
        self._restart(lambda: shutil.copytree(self._folder, backup))

    def replace(self, backup: Path) -> None:
        """Put a copy in its place."""

        def replace() -> None:
            shutil.rmtree(self._folder)
            shutil.copytree(backup, self._folder)

        self._restart(replace)

    def _restart(self, act: Callable[[], object]) -> None:
        for child in self._running:
            child.stop()
        act()
        self._running = self._start()
        patiently(lambda: temporal().describe("agent--nothing", Deadline(time.monotonic() + 2, per_call=2)))


@dataclass
class Days:
    """The engines, and what they held.

    Attributes:
        yesterday, today: the relationships of schedules in SpiceDB.
    """

    stack: Stack
    database: Database
    backup: Path
    empty: Path
    yesterday: Relationships = field(default_factory=dict)
    today: Relationships = field(default_factory=dict)

    def put_spicedb_back(self, to: Relationships) -> None:
        """Let SpiceDB hold these relationships of schedules, and no other ones."""
        relationships.remove_all(self.stack.authorization)
        if texts := [f"agent_schedule:{schedule_id}#{text}" for schedule_id, held in to.items() for text in held]:
            relationships.touch(self.stack.authorization, *texts)

    def put_temporal_back(self) -> None:
        """Let Temporal go on from yesterday's copy of its database."""
        self.database.replace(self.backup)
        settled(self.stack, YESTERDAY)

    def held(self) -> dict[str, set[str]]:
        """What SpiceDB holds for schedules now."""
        return relationships.all_of(self.stack.authorization)

    def report(self) -> dict[str, Any]:
        """A report that lists everything; it writes nothing."""
        before = self.held()
        aged(self.stack)
        report = reconcile(self.stack)
        assert self.held() == before
        return report

    def repair(self, **request: Any) -> dict[str, Any]:
        """A repair."""
        return reconcile(self.stack, mode="repair", **request)

    def stops(self, why: str, **request: Any) -> None:
        """Ask for a repair that stops before it begins."""
        before = self.held()
        stopped = self.repair(**request)
        assert why in stopped["stopped"]
        assert counts_of(stopped, "repaired") == {}
        assert self.held() == before


@pytest.fixture
def days(tmp_path: Path, scheduler: Scheduler) -> Iterator[Days]:
    """The engines at the end of today, before anything is lost."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    data, empty = tmp_path / "data", tmp_path / "empty"
    for folder in (data, empty):
        folder.mkdir()
    with (
        parts.engines(endpoints, tmp_path, data, scheduler) as children,
        ExitStack() as again,
        own_stack(endpoints, lease_seconds=1) as stack,
    ):

        def start() -> list[Child]:
            return again.enter_context(parts.temporal(endpoints, tmp_path, data, scheduler))

        database = Database(start, [child for child in children if child.name == "Temporal"], data)
        days = Days(stack, database, backup=tmp_path / "backup", empty=empty)
        relationships.touch(stack.authorization, *ROLES)
        populate(stack, YESTERDAY)
        shared = (*YESTERDAY[:3], UNSHARED)
        relationships.touch(stack.authorization, *(f"agent_schedule:{each}#{BOB_SEES}" for each in shared))
        days.yesterday = days.held()
        database.save(days.backup)
        spend_today(days)
        yield days


def spend_today(days: Days) -> None:
    """What happens today, in both engines."""
    authorization = days.stack.authorization
    for schedule_id in (*DELETED, *RECREATED):
        relationships.remove_all(authorization, schedule_id=schedule_id)
    delete_schedules([*DELETED, *RECREATED])
    populate(days.stack, [*RECREATED, *CREATED])
    of_alice = f"agent_schedule:{TRANSFERRED}#owner@user:alice"
    relationships.remove(authorization, of_alice, f"agent_schedule:{UNSHARED}#{BOB_SEES}")
    of_bob = f"agent_schedule:{TRANSFERRED}#owner@user:bob"
    relationships.touch(authorization, of_bob, f"agent_schedule:{SHARED}#{BOB_SEES}")
    days.today = days.held()
    settled(days.stack, TODAY)
    assert kinds_of(days.report()) == {TRANSFERRED: "other_owner"}


def test_an_emptied_spicedb_gets_registrations_back_and_grants_and_new_owners_are_lost(days: Days) -> None:
    days.put_spicedb_back({})
    relationships.remove(days.stack.authorization, *ROLES)

    report = days.report()
    assert kinds_of(report) == dict.fromkeys(TODAY, "unowned")
    assert report["would_repair"] == len(TODAY)
    for not_enough in ({}, {"confirm": len(TODAY)}, {"kinds": ["unowned"]}):
        days.stops("there are no registrations, and 60 in the other system: an outage, or a restore", **not_enough)

    restored = days.repair(kinds=["unowned"], confirm=len(TODAY))
    assert counts_of(restored, "repaired") == {"unowned": len(TODAY)}
    lost = {TRANSFERRED, SHARED}
    held = days.held()
    assert {each: held[each] for each in TODAY - lost} == {each: days.today[each] for each in TODAY - lost}
    assert held[TRANSFERRED] == days.yesterday[TRANSFERRED], "bob's, by now: nobody knows it, and alice has it again"
    assert held[SHARED] == days.yesterday[SHARED], "the grant is lost"

    # Who keeps the roles on agents has to write them again: until then nobody may see his schedules.
    assert counts_of(days.report()) == {"revoked": len(TODAY)}
    relationships.touch(days.stack.authorization, *ROLES)
    assert days.report()["kinds"] == {}


def test_a_spicedb_of_yesterday_is_brought_to_what_temporal_has_and_grants_of_today_are_lost(days: Days) -> None:
    days.put_spicedb_back(days.yesterday)

    assert kinds_of(days.report()) == {
        **dict.fromkeys(DELETED, "orphan"),
        **dict.fromkeys(CREATED, "unowned"),
        **dict.fromkeys(RECREATED, "conflicting"),
    }
    days.stops("28 repairs are more than 20")

    restored = days.repair(confirm=28)
    assert counts_of(restored, "repaired") == {"orphan": 12, "unowned": 12, "conflicting": 4}
    # alice has it again; a grant is lost; one that was taken away is back.
    unknown = {each: days.yesterday[each] for each in (TRANSFERRED, SHARED, UNSHARED)}
    assert days.held() == {**days.today, **unknown}
    assert days.report()["kinds"] == {}


def test_a_temporal_of_yesterday_gives_nobody_a_right_by_itself_and_a_person_ends_what_came_back(days: Days) -> None:
    days.put_temporal_back()

    report = days.report()
    assert kinds_of(report) == {
        **dict.fromkeys(DELETED, "unowned"),
        **dict.fromkeys(CREATED, "orphan"),
        **dict.fromkeys(RECREATED, "conflicting"),
        TRANSFERRED: "other_owner",
    }
    days.stops("28 repairs are more than 20")

    # The schedules of today are lost. Those that came back were deleted, so they are deleted again, not restored.
    assert counts_of(days.repair(kinds=["orphan"]), "repaired") == {"orphan": 12}
    assert days.held() == {each: held for each, held in days.today.items() if each not in CREATED}
    days.stack.agent = AGENT
    for schedule_id in DELETED:
        deleted = days.stack.delete(schedule_id.partition("--")[2])
        assert (deleted.status, deleted.output["existed"]) == ("SUCCEEDED", True)
    # Yesterday's schedule of the same name has taken the place of today's: whoever created it owns it.
    assert counts_of(days.repair(kinds=["conflicting"]), "repaired") == {"conflicting": 4}

    settled(days.stack, set(YESTERDAY) - set(DELETED))
    assert kinds_of(days.report()) == {TRANSFERRED: "other_owner"}
    same = {each: held for each, held in days.today.items() if each not in (*CREATED, *RECREATED)}
    assert days.held() == {**same, **{each: days.yesterday[each] for each in RECREATED}}


def test_an_emptied_temporal_takes_no_registration_with_it_by_itself(days: Days) -> None:
    days.database.replace(days.empty)
    settled(days.stack, set())

    assert counts_of(days.report()) == {"orphan": len(TODAY)}
    for not_enough in ({}, {"confirm": len(TODAY)}, {"kinds": ["orphan"]}):
        days.stops("there are no schedules, and 60 in the other system: an outage, or a restore", **not_enough)

    assert counts_of(days.repair(kinds=["orphan"], confirm=len(TODAY)), "repaired") == {"orphan": len(TODAY)}
    assert days.held() == {}


def test_both_of_yesterday_agree_and_nobody_knows_of_today(days: Days) -> None:
    days.put_spicedb_back(days.yesterday)
    days.put_temporal_back()

    report = days.report()
    assert report["seen"] == {"schedules": len(YESTERDAY), "registrations": len(YESTERDAY)}
    assert report["kinds"] == {}
    assert days.repair()["kinds"] == {}
    assert days.held() == days.yesterday
