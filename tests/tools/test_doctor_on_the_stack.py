"""The doctor against the real engines: what it says about damage, what it repairs, and the story of one schedule."""

import json
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.parts import parameters
from saga_core import settings
from tests.support import relationships
from tests.support.api import eventually
from tests.support.machines import ROOT
from tests.support.proxy import Fault, fault_proxy
from tests.support.saga_stack import Ended, Stack, fresh, serving
from tools.doctor.__main__ import main

T = TypeVar("T")


@pytest.fixture(scope="module")
def _module_stack(running_engines: Endpoints) -> Iterator[Stack]:
    with (
        fault_proxy(running_engines.spicedb) as (spicedb_proxy, spicedb_port),
        fault_proxy(running_engines.temporal) as (temporal_proxy, temporal_port),
    ):
        through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
        template = Template(ROOT / "template.yaml", parameters(through))
        with serving(running_engines, (spicedb_proxy, temporal_proxy, template), time_scale=1) as stack:
            yield stack


@pytest.fixture
def stack(_module_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, with a lease of a second, so that schedules are soon old enough to be judged."""
    with fresh(_module_stack, monkeypatch) as stack:
        monkeypatch.setenv("LEASE_SECONDS", "1")
        monkeypatch.setenv("RPC_TIMEOUT_SECONDS", "3")
        settings.call_settings.cache_clear()
        yield stack


class Doctor:
    """The command line, for the schedules of the stack's agent."""

    def __init__(self, stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
        self._stack = stack
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what it prints. The functions, whose log lines are left out, run in this process too."""
        self._capsys.readouterr()
        code = main(arguments)
        printed = self._capsys.readouterr()
        assert code != 1, printed.err
        lines = printed.out.splitlines()
        return code, "\n".join(line for line in lines if not line.startswith('{"'))

    def look(self, *arguments: str) -> tuple[int, str]:
        """Run the machine, once it sees every schedule and none is too young."""
        here = ("--endpoint", self._stack.sfn.meta.endpoint_url, "--agent", self._stack.agent)
        eventually(lambda: json.loads(self.run(*here, "--json")[1])["waiting"], lambda waiting: waiting == 0)
        return self.run(*here, *arguments)

    def explain(self, name: str = "daily") -> dict[str, Any]:
        """The story of a schedule, with its exit code, once it is old enough."""

        def tell() -> dict[str, Any]:
            code, told = self.run("--explain", f"{self._stack.agent}--{name}", "--json")
            return {**json.loads(told), "code": code}

        return eventually(tell, lambda story: "younger" not in story["why"])


@pytest.fixture
def doctor(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(stack, capsys)


def create(stack: Stack, name: str = "daily") -> Ended:
    ended = stack.create(stack.request(name))
    assert ended.status == "SUCCEEDED"
    return ended


def lose(stack: Stack, relation: str, name: str = "daily") -> None:
    """Remove a relation of a schedule behind the application's back."""
    subject = stack.held(name)[relation]
    relationships.remove(stack.authorization, f"agent_schedule:{stack.agent}--{name}#{relation}@{subject}")


def delete_in_temporal(stack: Stack, name: str = "daily") -> None:
    stack.delete_by_hand(name)


def test_damage_behind_its_back_is_shown_repaired_and_gone(stack: Stack, doctor: Doctor) -> None:
    for name in ("fine", "without-parent", "with-another-owner", "gone"):
        create(stack, name)
    whole = stack.held("without-parent")
    lose(stack, "parent_agent", "without-parent")
    lose(stack, "owner", "with-another-owner")
    stack.grant("owner", "user:bob", name="with-another-owner")
    stack.own_agent("bob")
    delete_in_temporal(stack, "gone")

    code, out = doctor.look()
    assert code == 2
    rows = {cells[0].strip(): cells for line in out.splitlines() if len(cells := line.strip("│").split("│")) == 5}
    assert {name.partition("--")[2]: rows[name][1].strip() for name in rows if "--" in name} == {
        "without-parent": "incomplete",
        "with-another-owner": "other_owner",
        "gone": "orphan",
    }
    assert "user:bob" in rows[f"{stack.agent}--with-another-owner"][2]
    assert stack.held("gone") != {}, "looking changes nothing"

    code, out = doctor.look("--repair")
    assert code == 2, "only a person can say whether the other owner is right"
    assert stack.held("without-parent") == whole
    assert stack.held("gone") == {}

    lose(stack, "owner", "with-another-owner")
    assert doctor.look()[0] == 2
    assert doctor.look("--repair", "--adopt", f"{stack.agent}--with-another-owner=user:alice")[0] == 0
    code, out = doctor.look()
    assert code == 0
    assert "The two systems agree (schedules in Temporal: 3, registrations in SpiceDB: 3)." in out


def test_the_story_of_a_healthy_schedule_says_who_registered_it_by_which_execution(
    stack: Stack, doctor: Doctor
) -> None:
    ended = stack.create({**stack.request(), "idempotency_key": "first-try"})
    stack.grant("viewer", "user:bob")
    stack.grant("viewer", "user:carol")

    story = doctor.explain()

    assert (story["code"], story["kind"], story["action"]) == (0, None, "none")
    assert story["temporal"]["registered by"] == "user:alice"
    assert story["temporal"]["by execution"] == ended.arn
    assert story["temporal"]["idempotency key"] == "first-try"
    assert story["temporal"]["fence"] == story["spicedb"]["fence"]
    assert story["spicedb"]["owners"] == ["user:alice"]
    assert story["spicedb"]["parent_agent"] == [stack.agent]
    assert (story["spicedb"]["viewers"], story["spicedb"]["editors"]) == (2, 0)
    assert story["spicedb"]["lease"] == "none"


def test_a_schedule_without_relationships_is_explained_with_its_repair(stack: Stack, doctor: Doctor) -> None:
    create(stack)
    stack.remove_all()

    story = doctor.explain()

    assert (story["code"], story["kind"], story["action"]) == (2, "unowned", "restore")
    assert story["spicedb"] is None
    assert "restores owner, agent and fence from the memo" in story["why"]
    assert stack.held() == {}, "explaining changes nothing"


def test_relationships_without_a_schedule_are_explained_with_their_repair(stack: Stack, doctor: Doctor) -> None:
    create(stack)
    delete_in_temporal(stack)

    story = doctor.explain()

    assert (story["code"], story["kind"], story["action"]) == (2, "orphan", "remove")
    assert story["temporal"] is None


def test_a_create_in_flight_is_explained_by_its_lease(stack: Stack, doctor: Doctor) -> None:
    stack.interrupt(stack.request(), at="CreateSchedule")

    story = doctor.explain()

    assert (story["code"], story["kind"]) == (0, "waiting")
    assert story["why"].startswith("waiting: a lease is live, for ")
    assert story["spicedb"]["lease"].endswith("s left")


def test_a_schedule_that_was_just_created_is_explained_by_its_age(
    stack: Stack, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASE_SECONDS", "720")
    create(stack)

    code, told = doctor.run("--explain", f"{stack.agent}--daily")

    assert code == 0
    assert "waiting: the schedule is younger than the lease (720 s)" in told


def test_owners_who_have_lost_the_agent_are_explained(stack: Stack, doctor: Doctor) -> None:
    create(stack)
    stack.disown("alice")

    story = doctor.explain()

    assert (story["code"], story["kind"], story["action"]) == (2, "revoked", "none")
    assert "A repair changes nothing; give an owner the agent back" in story["why"]


def test_a_schedule_that_the_reconciler_has_paused_is_explained(stack: Stack, doctor: Doctor) -> None:
    create(stack)
    stack.disown("alice")
    assert doctor.look("--repair", "--pause-revoked")[0] == 0

    story = doctor.explain()

    assert (story["code"], story["temporal"]["state"]) == (0, "paused")
    assert story["why"].startswith("The reconciler has paused it. Once an owner may update the agent again, unpause it")


def test_a_note_cannot_write_to_the_terminal(stack: Stack, doctor: Doctor) -> None:
    create(stack)
    handle = stack.scheduler.get_schedule_handle(f"{stack.agent}--daily")
    stack.loop.run_until_complete(handle.pause(note="[red]gone\x1b[2J\nfence: none"))

    _, told = doctor.run("--explain", f"{stack.agent}--daily")

    assert "note: [red]gone\\x1b[2J\\nfence: none" in told
    assert "\x1b" not in told
    assert "state: paused" in told


def test_an_id_that_neither_has_is_said_to_be_unknown(stack: Stack, doctor: Doctor) -> None:
    code, told = doctor.run("--explain", f"{stack.agent}--nobody")

    assert code == 0
    assert "Neither Temporal nor SpiceDB has it." in told


@pytest.mark.parametrize(
    ("engine", "method", "says"),
    [
        ("spicedb", "ReadRelationships", "AuthorizationUnavailable"),
        ("temporal", "DescribeSchedule", "TemporalUnavailable"),
    ],
)
def test_an_engine_that_gives_no_response_is_one_line(
    engine: str, method: str, says: str, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(stack, engine).inject(method, Fault.REFUSED, times=None)

    assert main(["--explain", f"{stack.agent}--daily"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"doctor: {says}: ")


def test_a_machine_that_cannot_look_is_exit_code_1_with_its_error(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.temporal.inject("ListSchedules", Fault.REFUSED, times=None)

    assert main(["--endpoint", stack.sfn.meta.endpoint_url, "--agent", stack.agent]) == 1

    assert "FAILED: TemporalUnavailable: Temporal: UNAVAILABLE" in capsys.readouterr().err


def make_doctor(running: Endpoints, arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run what `make doctor` runs, in a process of its own."""
    ports = [f"SPICEDB_PORT={running.spicedb_port}", f"TEMPORAL_PORT={running.temporal_port}"]
    # make only shows the command: to run it, make would set up the packages first.
    make = ["make", "-n", "--no-print-directory", "doctor", *ports, f"ARGS={arguments}"]
    shown = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    command = shown.stdout.splitlines()[-1]
    named = ("SPICEDB_", "TEMPORAL_")  # of the functions that run in this process
    environment = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_make_doctor_explains_with_the_ports_of_the_running_stack(stack: Stack, running_engines: Endpoints) -> None:
    create(stack)

    ran = make_doctor(running_engines, f"--explain {stack.agent}--daily --json")

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["temporal"]["registered by"] == "user:alice"


def test_a_memo_that_cannot_be_read_is_explained_without_log_lines(stack: Stack, running_engines: Endpoints) -> None:
    action = ScheduleActionStartWorkflow("Report", id="report", task_queue="reports")
    schedule = Schedule(action=action, spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]))
    schedule_id = f"{stack.agent}--daily"
    creating = stack.scheduler.create_schedule(schedule_id, schedule, memo={"agent_schedule": "of another tool"})
    stack.loop.run_until_complete(creating)

    ran = make_doctor(running_engines, f"--explain {schedule_id} --json")

    story = json.loads(ran.stdout)
    assert story["temporal"]["memo"] == "none of ours"
    assert story["spicedb"] is None


@dataclass
class Backups:
    """Backups of both systems, of the stack's agent alone. A backup holds until it is put back."""

    stack: Stack
    _relationships: dict[str, list[str]] = field(default_factory=dict)
    _schedules: dict[str, ScheduleDescription] = field(default_factory=dict)

    def take_of_spicedb(self, *names: str) -> None:
        self._relationships = {name: self._texts(name) for name in names}

    def take_of_temporal(self, *names: str) -> None:
        self._schedules = {name: self._wait(self._handle(name).describe()) for name in names}

    def put_back_spicedb(self, *names_now: str) -> None:
        for name in names_now:
            self.stack.remove_all(name)
        for texts in self._relationships.values():
            if texts:
                relationships.touch(self.stack.authorization, *texts)

    def put_back_temporal(self, *names_now: str) -> None:
        for name in names_now:
            self._wait(self._handle(name).delete())
        for name, described in self._schedules.items():
            memo = self._wait(described.memo())
            creating = self.stack.scheduler.create_schedule(
                f"{self.stack.agent}--{name}", described.schedule, memo=memo
            )
            self._wait(creating)

    def _texts(self, name: str) -> list[str]:
        schedule_id = f"{self.stack.agent}--{name}"
        return [f"agent_schedule:{schedule_id}#{relation}@{who}" for relation, who in self.stack.held(name).items()]

    def _handle(self, name: str) -> ScheduleHandle:
        return self.stack.scheduler.get_schedule_handle(f"{self.stack.agent}--{name}")

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.stack.loop.run_until_complete(coroutine)


NAMES = ("kept", "deleted", "again")


@pytest.fixture
def backups(stack: Stack) -> Backups:
    """Three schedules of alice; bob may see the first."""
    for name in NAMES:
        create(stack, name)
    stack.grant("viewer", "user:bob", name="kept")
    return Backups(stack)


def a_day_later(stack: Stack) -> None:
    """One schedule is created, one deleted, and one deleted and created again by bob."""
    create(stack, "created")
    assert stack.delete("deleted").status == "SUCCEEDED"
    assert stack.delete("again").status == "SUCCEEDED"
    stack.own_agent("bob")
    assert stack.create({**stack.request("again"), "principal": {"user_id": "bob"}}).status == "SUCCEEDED"


def kinds(stack: Stack, doctor: Doctor) -> dict[str, str]:
    """The report that is read first: kind by schedule."""
    items = json.loads(doctor.look("--json")[1])["items"]
    return {item["schedule_id"].removeprefix(f"{stack.agent}--"): item["kind"] for item in items}


def test_spicedb_was_emptied(stack: Stack, doctor: Doctor, backups: Backups) -> None:
    whole = {name: stack.held(name) for name in NAMES}
    backups.put_back_spicedb(*NAMES)  # nothing was taken

    assert kinds(stack, doctor) == dict.fromkeys(NAMES, "unowned")
    assert doctor.look("--repair", "--kind", "unowned", "--confirm", "3", "--max-repairs", "3")[0] == 0

    assert doctor.look()[0] == 0
    del whole["kept"]["viewer"]  # a grant is lost
    assert {name: stack.held(name) for name in NAMES} == whole


def test_spicedb_was_put_back(stack: Stack, doctor: Doctor, backups: Backups) -> None:
    backups.take_of_spicedb(*NAMES)
    a_day_later(stack)
    now = {name: stack.held(name) for name in (*NAMES, "created")}
    backups.put_back_spicedb("kept", "again", "created")

    assert kinds(stack, doctor) == {"created": "unowned", "deleted": "orphan", "again": "conflicting"}
    assert doctor.look("--repair", "--confirm", "3", "--max-repairs", "3")[0] == 0

    assert doctor.look()[0] == 0
    assert {name: stack.held(name) for name in now} == now


def test_temporal_was_put_back(stack: Stack, doctor: Doctor, backups: Backups) -> None:
    backups.take_of_temporal(*NAMES)
    a_day_later(stack)
    kept = stack.held("kept")
    backups.put_back_temporal("kept", "again", "created")

    assert kinds(stack, doctor) == {"created": "orphan", "deleted": "unowned", "again": "conflicting"}
    for name in ("deleted", "again"):  # a person picks the direction: they were deleted
        assert stack.delete(name).status == "SUCCEEDED"
    doctor.look("--repair", "--kind", "orphan", "--confirm", "1", "--max-repairs", "1")

    assert doctor.look()[0] == 0
    assert [stack.held(name) for name in ("deleted", "again", "created")] == [{}, {}, {}], "nobody has a right on them"
    assert stack.held("kept") == kept
    assert (stack.scheduled("deleted"), stack.scheduled("again")) == (None, None)


def test_both_were_put_back_spicedb_further(stack: Stack, doctor: Doctor, backups: Backups) -> None:
    backups.take_of_spicedb(*NAMES)
    a_day_later(stack)
    between = ("kept", "again", "created")
    backups.take_of_temporal(*between)
    now = {name: stack.held(name) for name in between}
    create(stack, "later")
    backups.put_back_temporal(*between, "later")
    backups.put_back_spicedb(*between, "later")

    assert kinds(stack, doctor) == {"created": "unowned", "deleted": "orphan", "again": "conflicting"}
    assert doctor.look("--repair", "--confirm", "3", "--max-repairs", "3")[0] == 0

    assert doctor.look()[0] == 0
    assert {name: stack.held(name) for name in between} == now
    assert (stack.held("later"), stack.held("deleted")) == ({}, {})
