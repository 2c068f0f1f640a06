"""A storm: 500 executions on 50 names while both engines fail again and again. Afterwards nothing differs.

What happens is drawn from a seed, which is printed; STORM_SEED=<number> draws the same again, though threads interleave
as they like. The engines are this test's own. Temporal is cut off, and killed and started again on its data; SpiceDB,
whose memory would not survive that, is cut off. Before a cut some calls take effect and their replies are lost.
Retries wait as long as on AWS, so that some outlive an outage and some do not. Half-way there is a lull in which all
leases run out, so that the second half takes over what the first one left.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from authzed.api.v1 import (
    Consistency,
    DeleteRelationshipsRequest,
    InsecureClient,
    ReadRelationshipsRequest,
    RelationshipFilter,
)
from rich.console import Console
from rich.table import Table
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from local.aws.server import serve
from local.aws.step_functions import Backoff
from local.aws.template import Template
from local.stack import clients
from local.stack.clients import own_agent
from local.stack.endpoints import NAMESPACE, Endpoints, state_machine_arn
from local.stack.parts import ROOT, engines, parameters
from local.stack.process import Child
from saga_core import ids, settings
from saga_core.deadlines import Deadline
from saga_core.errors import TemporalUnavailable
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.support.ports import free_port
from tests.support.proxy import Fault, FaultProxy, fault_proxy
from tests.support.saga_stack import APPS

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

EXECUTIONS = 500
HALF = EXECUTIONS // 2
AT_A_TIME = 56
AGENTS = [f"agent-{number}" for number in range(5)]
NAMES = [f"schedule-{number}" for number in range(10)]
MACHINES = ("create-schedule", "create-schedule-express", "delete-schedule", "delete-schedule-express")
LIMIT_SECONDS = 120.0  # for whatever takes seconds on an idle machine
OUTAGE_SECONDS = 5.0  # at most, should nobody notice it

# What fails in each half: the engines that are cut off, or a restart of Temporal.
RESTART = ("restart",)
OUTAGES = [("spicedb",), ("spicedb",), ("temporal",), ("spicedb", "temporal"), RESTART]
LOSABLE = {
    "spicedb": ("WriteRelationships", "DeleteRelationships"),
    "temporal": ("CreateSchedule", "DeleteSchedule"),
}

# The errors in README's table that these requests can meet.
ERRORS = {
    "AuthorizationUnavailable",
    "CompensationFailed",
    "CreateInProgress",
    "IdempotencyKeyReused",
    "OutcomeUnknown",
    "Sandbox.Timedout",
    "ScheduleAlreadyExists",
    "ScheduleNotFound",
    "ScheduleRejected",
    "States.Timeout",
    "TemporalUnavailable",
}


@dataclass(frozen=True)
class Operation:
    """One execution to be started."""

    machine: str
    request: Mapping[str, Any]

    @property
    def creates(self) -> bool:
        """Whether it is a create; otherwise it is a delete."""
        return self.machine.startswith("create")

    @property
    def schedule_id(self) -> str:
        """The schedule it is about."""
        name = self.request["schedule"]["name"] if self.creates else self.request["schedule_name"]
        return ids.schedule_id(self.request["agent_id"], name)


@dataclass(frozen=True)
class Answer:
    """An execution that is over.

    Attributes:
        began, ended: on the clock of Step Functions.
        output: decoded; None if it failed.
        error, cause: empty if it succeeded.
    """

    operation: Operation
    arn: str
    began: datetime
    ended: datetime
    output: Any
    error: str
    cause: str

    @property
    def registration(self) -> str:
        """The fence of this execution."""
        return ids.registration(self.arn)

    @property
    def made(self) -> bool:
        """Whether it says that it made a schedule."""
        return self.operation.creates and not self.error and not self.output["replayed"]

    @property
    def unverified(self) -> bool:
        """Whether it says that what it asked of Temporal could not be looked up."""
        return self.cause.startswith("outcome unverified")

    @property
    def finished(self) -> bool:
        """Whether it left nothing to be done, as far as it says."""
        if self.operation.creates:
            return self.error not in ("CompensationFailed", "OutcomeUnknown") and not self.unverified
        return not self.error and bool(self.output["deregistered"])

    def __str__(self) -> str:
        kind = "create" if self.operation.creates else "delete"
        if self.error:
            return f"{kind}: {self.error}{', unverified' if self.unverified else ''}"
        if self.operation.creates:
            return f"{kind}: {'replayed' if self.output['replayed'] else 'created'}"
        did = "deleted" if self.output["existed"] else "nothing there"
        return f"{kind}: {did}{'' if self.output['deregistered'] else ', not deregistered'}"


@dataclass
class Storm:
    """The running stack, as callers and operators see it, and what has happened on it."""

    proxies: Mapping[str, FaultProxy]
    authorization: InsecureClient
    scheduler: Client
    loop: asyncio.AbstractEventLoop
    restart_temporal: Callable[[], None]
    sfn: "SFNClient" = field(init=False)
    begun: list[Operation] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    retries: list[Backoff] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)

    def waited(self, backoff: Backoff) -> None:
        """Wait before a retry, as long as on AWS."""
        self.retries.append(backoff)
        time.sleep(backoff.seconds)

    def run(self, operations: Iterable[Operation], meanwhile: Callable[[], None]) -> None:
        """Run executions side by side to their ends, and do something ``meanwhile``."""
        with ThreadPoolExecutor(AT_A_TIME) as callers:
            futures = [callers.submit(self.perform, operation) for operation in operations]
            try:
                meanwhile()
                assert not wait(futures, LIMIT_SECONDS).not_done, self.running()
            finally:
                callers.shutdown(wait=False, cancel_futures=True)
        self.answers += [future.result() for future in futures]
        assert self.running() == []

    def perform(self, operation: Operation) -> Answer:
        """Run one execution to its end, as its callers do: Express in one call, Standard by looking now and then."""
        self.begun.append(operation)
        arguments: Any = {
            "stateMachineArn": state_machine_arn(operation.machine),
            "name": str(uuid.uuid4()),
            "input": json.dumps(operation.request),
        }
        told: Any
        if operation.machine.endswith("-express"):
            told = self.sfn.start_sync_execution(**arguments)
        else:
            arn = self.sfn.start_execution(**arguments)["executionArn"]
            pause = 0.05
            while (told := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
                time.sleep(pause)
                pause = min(0.4, pause * 1.5)
        assert told["status"] in ("SUCCEEDED", "FAILED"), told
        return Answer(
            operation=operation,
            arn=told["executionArn"],
            began=told["startDate"],
            ended=told["stopDate"],
            output=json.loads(told.get("output", "null")),
            error=told.get("error", ""),
            cause=told.get("cause", ""),
        )

    def running(self) -> list[str]:
        """The executions that are not over."""
        listed = [
            self.sfn.list_executions(stateMachineArn=state_machine_arn(machine), statusFilter="RUNNING")["executions"]
            for machine in MACHINES
        ]
        return [execution["executionArn"] for executions in listed for execution in executions]

    def calm_down(self) -> None:
        """Let both engines work again, and wait until they answer the functions."""
        for proxy in self.proxies.values():
            proxy.clear()

        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            try:
                temporal().describe("agent--nothing", Deadline(time.monotonic() + 2, per_call=2))
            except TemporalUnavailable:
                assert time.monotonic() < deadline, "Temporal stays away"
                time.sleep(0.05)
            else:
                return

    def end_leases(self) -> None:
        """Make every lease be over, as time would."""
        leases = RelationshipFilter(resource_type="agent_schedule", optional_relation="creating")
        self.authorization.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=leases), timeout=5)

    def held(self) -> dict[str, set[str]]:
        """All that SpiceDB itself has on schedules: ``relation@subject`` by schedule."""
        everything = ReadRelationshipsRequest(
            consistency=Consistency(fully_consistent=True),
            relationship_filter=RelationshipFilter(resource_type="agent_schedule"),
        )
        held: dict[str, set[str]] = {}
        for reply in self.authorization.ReadRelationships(everything, timeout=5):
            relationship, subject = reply.relationship, reply.relationship.subject.object
            held.setdefault(relationship.resource.object_id, set()).add(
                f"{relationship.relation}@{subject.object_type}:{subject.object_id}"
            )
        return held

    def scheduled(self) -> dict[str, dict[str, Any]]:
        """The memo of every schedule that Temporal itself has."""

        async def memo(schedule_id: str) -> dict[str, Any] | None:
            try:
                description = await self.scheduler.get_schedule_handle(schedule_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return None
            found: dict[str, Any] = (await description.memo())["agent_schedule"]
            return found

        async def memos() -> dict[str, dict[str, Any]]:
            # The list runs behind, so every name that was used is asked for as well, and describe decides.
            names = self.names() | {schedule.id async for schedule in await self.scheduler.list_schedules()}
            found = await asyncio.gather(*map(memo, names))
            return {name: memo for name, memo in zip(names, found, strict=True) if memo}

        return self.loop.run_until_complete(memos())

    def differences(self) -> dict[str, str]:
        """What does not fit together, by schedule, with what happened to it. A lease makes no difference."""
        wanted, held = registered(self.scheduled()), self.held()
        for relations in held.values():
            relations -= {relation for relation in relations if relation.startswith("creating@")}
        differing = {name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)}
        return {name: f"wanted {wanted.get(name)}\nheld {held.get(name)}\n{self.trace(name)}" for name in differing}

    def names(self) -> set[str]:
        """The ids of all schedules that an execution was about."""
        return {operation.schedule_id for operation in self.begun}

    def about(self, schedule_id: str) -> list[Answer]:
        """The answers about one schedule, by their beginning."""
        answers = [answer for answer in self.answers if answer.operation.schedule_id == schedule_id]
        return sorted(answers, key=lambda answer: answer.began)

    def trace(self, schedule_id: str) -> str:
        """What happened to one schedule, for the person who looks into a difference."""
        lines = [f"{schedule_id}, by minute and second:"]
        for answer in self.about(schedule_id):
            events = self.sfn.get_execution_history(executionArn=answer.arn, maxResults=1000)["events"]
            states = [
                f"{event['timestamp']:%M:%S.%f} {event['stateEnteredEventDetails']['name']}"
                for event in events
                if "stateEnteredEventDetails" in event
            ]
            key = answer.operation.request.get("idempotency_key", "no key")
            when = f"{answer.began:%M:%S.%f} to {answer.ended:%M:%S.%f}"
            lines += [f"  {when} {answer} ({key}, {answer.registration})", f"    {' '.join(states)}"]
        return "\n".join(lines)


@contextmanager
def storm_stack(folder: Path) -> Iterator[Storm]:
    """A stack of its own: engines, a proxy in front of each, functions that dawdle now and then, machines."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    loop = asyncio.new_event_loop()
    with engines(endpoints, folder, folder) as children:
        server = next(child for child in children if child.name == "Temporal")
        scheduler = loop.run_until_complete(clients.temporal(endpoints))

        def temporal_answers() -> bool:
            ask = DescribeNamespaceRequest(namespace=NAMESPACE)
            asking = scheduler.workflow_service.describe_namespace(ask, timeout=timedelta(seconds=1))
            try:
                loop.run_until_complete(asking)
            except RPCError:
                return False
            return True

        def restart_temporal() -> None:
            """Kill Temporal, and start it again on what it has written so far."""
            nonlocal server
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            log_path = folder / "temporal-again.log"
            with log_path.open("ab") as log:
                again = subprocess.Popen(
                    server.process.args,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            server = Child("Temporal", again, log_path)
            server.wait_ready(temporal_answers, LIMIT_SECONDS)

        try:
            with (
                fault_proxy(endpoints.spicedb) as (spicedb_proxy, spicedb_port),
                fault_proxy(endpoints.temporal) as (temporal_proxy, temporal_port),
            ):
                storm = Storm(
                    proxies={"spicedb": spicedb_proxy, "temporal": temporal_proxy},
                    authorization=clients.spicedb(endpoints),
                    scheduler=scheduler,
                    loop=loop,
                    restart_temporal=restart_temporal,
                )
                through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
                template = Template(ROOT / "template.yaml", parameters(through))
                with (
                    serve(template, on_backoff=storm.waited) as endpoint_url,
                    pytest.MonkeyPatch.context() as patch,
                ):
                    reconnect()
                    for app in APPS:
                        patch.setattr(app, "handler", dawdling(app.handler))
                    storm.sfn = clients.stepfunctions(Endpoints(aws_port=int(endpoint_url.rpartition(":")[2])))
                    yield storm
        finally:
            reconnect()
            server.stop()
            loop.close()


def reconnect() -> None:
    """Let every function read its environment and connect anew: other tests run their stacks in this process too."""
    for cached in (spicedb, temporal, settings.call_settings):
        cached.cache_clear()


def dawdling(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The handler, in a Lambda that is slow to start it or slow to answer now and then: others overtake."""

    def dawdle() -> None:
        if random.random() < 0.1:  # noqa: S311 - no secret
            time.sleep(0.3 * random.random())  # noqa: S311 - no secret

    def invoke(event: Any, context: Any) -> Any:
        dawdle()
        try:
            return handler(event, context)
        finally:
            dawdle()

    return invoke


def drawn(rng: random.Random) -> list[Operation]:
    """Half of the operations, in bursts of a few on one name, so that they meet."""
    operations: list[Operation] = []
    while len(operations) < HALF:
        agent, name = rng.choice(AGENTS), rng.choice(NAMES)
        operations += [drawn_operation(rng, agent, name) for _ in range(rng.randint(1, 6))]
    return operations[:HALF]


def drawn_operation(rng: random.Random, agent: str, name: str) -> Operation:
    """A create of some kind, or a delete, on either type of machine."""
    kind = rng.choices(["delete", "keyed", "plain", "nobody's", "rejected"], [35, 30, 20, 8, 7])[0]
    machine_type = rng.choice(["", "-express"])
    if kind == "delete":
        return Operation(f"delete-schedule{machine_type}", {"agent_id": agent, "schedule_name": name})
    schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
    request: dict[str, Any] = {"agent_id": agent, "principal": {"user_id": "alice"}, "schedule": schedule}
    if kind == "keyed":
        request["idempotency_key"] = f"key-{rng.randrange(2)}"
        schedule["interval_seconds"] = rng.choice([3600, 3600, 3600, 7200])
    elif kind == "nobody's":
        request["principal"] = None
    elif kind == "rejected":
        schedule["cron_expression"] = "every other day"
    return Operation(f"create-schedule{machine_type}", request)


def rage(storm: Storm, rng: random.Random, before: int) -> None:
    """Let the engines fail, each time when a drawn number of executions has begun beyond those ``before``."""
    outages = rng.sample(OUTAGES, len(OUTAGES))
    starts = sorted(rng.randrange(AT_A_TIME // 2, HALF * 9 // 10) for _ in outages)
    for outage, start in zip(outages, starts, strict=True):
        assert reached(storm.begun, before + start, LIMIT_SECONDS)
        began, retries = time.monotonic(), len(storm.retries)
        if outage is RESTART:
            storm.restart_temporal()
        else:
            cut_off(storm, rng, outage)
        took, noticed = time.monotonic() - began, len(storm.retries) - retries
        storm.outages.append(f"{' + '.join(outage)}: {took:.1f} s, {noticed} retries")
    storm.calm_down()


def cut_off(storm: Storm, rng: random.Random, names: Sequence[str]) -> None:
    """Cut engines off until a drawn number of retries has noticed: from a hiccup to longer than any retry lasts."""
    lost, noticed = rng.choice([4, 8, 16]), rng.choice([10, 20, 40, 120])
    for name in names:
        for method in LOSABLE[name]:
            storm.proxies[name].inject(method, Fault.LOST_REPLY, times=lost)
    reached(storm.retries, len(storm.retries) + lost, OUTAGE_SECONDS)
    for name in names:
        storm.proxies[name].cut()
    reached(storm.retries, len(storm.retries) + noticed, OUTAGE_SECONDS)
    for name in names:
        storm.proxies[name].clear()


def reached(counted: Sized, number: int, seconds: float) -> bool:
    """Wait until so many are counted, or for so many seconds. Answers whether they were."""
    deadline = time.monotonic() + seconds
    while len(counted) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(counted) >= number


def unfinished(storm: Storm) -> list[str]:
    """The schedules about which an answer left something open, unless a later delete has finished it."""
    left = []
    for schedule_id in sorted(storm.names()):
        answers = storm.about(schedule_id)
        finishes = [answer.began for answer in answers if answer.finished and not answer.operation.creates]
        if any(not answer.finished and not any(began > answer.ended for began in finishes) for answer in answers):
            left.append(schedule_id)
    return left


def deletion(schedule_id: str) -> Operation:
    """A delete."""
    agent, name = ids.split_schedule_id(schedule_id)
    return Operation("delete-schedule-express", {"agent_id": agent, "schedule_name": name})


def registered(memos: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """All that SpiceDB may hold where Temporal has these schedules: nothing about those without a creator."""
    return {
        schedule_id: {
            f"owner@{memo['creator']}",
            f"parent_agent@agent:{memo['agent_id']}",
            f"registered_by@registration:{memo['registration']}",
        }
        for schedule_id, memo in memos.items()
        if memo["creator"]
    }


def is_plausible(answer: Answer, answers: Iterable[Answer]) -> bool:
    """Whether what the answer says of another create can be so: that one began before this was over."""
    asked = answer.operation.request
    others = [
        other.operation.request
        for other in answers
        if other is not answer and other.operation.creates and other.began <= answer.ended
    ]
    if answer.error in ("ScheduleAlreadyExists", "CreateInProgress"):
        return bool(others)
    if answer.error == "IdempotencyKeyReused":
        return any(o.get("idempotency_key") == asked["idempotency_key"] and o != asked for o in others)
    if answer.error:
        return True
    if answer.operation.creates:
        return not answer.output["replayed"] or asked in others
    return not answer.output["existed"] or bool(others)


def explains(answers: Iterable[Answer], repeated: Mapping[str, int], last: str | None) -> bool:
    """Whether there is an order of creates and deletes that explains their answers and the end.

    Each acts once, between its beginning and its end. A create that says that it made the schedule acts where there is
    none; no other create counts, since its schedule may have come and gone. A delete leaves none. One that failed may
    have done nothing, and one that asked Temporal again (``repeated``: how often, by ARN) may have deleted as often.
    ``last`` is the registration of the schedule that is there in the end.
    """
    # (beginning, end, registration of what is there afterwards, whether it surely acted)
    acts: list[tuple[datetime, datetime, str | None, bool]] = []
    for answer in answers:
        if answer.made:
            acts.append((answer.began, answer.ended, answer.registration, True))
        elif not answer.operation.creates:
            acts.append((answer.began, answer.ended, None, not answer.error))
            acts += [(answer.began, answer.ended, None, False)] * repeated.get(answer.arn, 0)

    @cache
    def is_explained(done: frozenset[int], there: str | None) -> bool:
        left = [number for number in range(len(acts)) if number not in done]
        if not left:
            return there == last
        first_end = min(acts[number][1] for number in left)
        for number in left:
            began, _, leaves, surely = acts[number]
            if began > first_end:
                continue
            ends = [leaves] if surely else [leaves, there]
            if (leaves is None or there is None) and any(is_explained(done | {number}, end) for end in ends):
                return True
        return False

    return is_explained(frozenset(), None)


def summary(storm: Storm, stormy: Sequence[Answer], memos: Mapping[str, Mapping[str, Any]], seconds: float) -> Table:
    """What happened, for a person."""
    changes = sorted([(a.began, 1) for a in stormy] + [(a.ended, -1) for a in stormy])
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    table = Table("count", "of", title=f"{len(stormy)} executions in {seconds:.0f} s, up to {peak} at a time")
    for said, count in sorted(Counter(map(str, stormy)).items()):
        table.add_row(str(count), said)
    table.add_section()
    table.add_row(str(len(storm.retries)), "retries")
    table.add_row(str(len(storm.outages)), "outages")
    for outage in storm.outages:
        table.add_row("", outage)
    table.add_section()
    table.add_row(str(len(storm.answers) - len(stormy)), "repeated deletes")
    table.add_row(str(len(memos)), f"schedules in the end, {len(registered(memos))} of them owned")
    return table


def test_after_a_storm_the_two_systems_do_not_differ(tmp_path: Path) -> None:
    seed = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"STORM_SEED={seed}")
    rng = random.Random(seed)  # noqa: S311 - no secret
    began = time.monotonic()
    with storm_stack(tmp_path) as storm:
        for agent in AGENTS:
            own_agent(storm.authorization, agent, "alice")
        for before in (0, HALF):
            storm.run(drawn(rng), meanwhile=partial(rage, storm, rng, before))
            left = unfinished(storm)
            unsaid = [text for name, text in storm.differences().items() if name not in left]
            assert not unsaid, "\n".join(unsaid)
            storm.end_leases()
        stormy = list(storm.answers)
        storm.run(map(deletion, left), meanwhile=storm.calm_down)
        memos = storm.scheduled()
        Console().print(summary(storm, stormy, memos, time.monotonic() - began))

        assert [str(answer) for answer in storm.answers[EXECUTIONS:] if not answer.finished] == []
        differences = storm.differences()
        assert not differences, "\n".join(differences.values())
        assert {answer.error for answer in stormy if answer.error} <= ERRORS
        repeated = Counter(backoff.execution_arn for backoff in storm.retries if backoff.state == "DeleteSchedule")
        for name in sorted(storm.names()):
            answers = storm.about(name)
            last = memos[name]["registration"] if name in memos else None
            assert explains(answers, repeated, last), f"{last} {storm.trace(name)}"
            for answer in answers:
                assert is_plausible(answer, answers), f"{answer} {storm.trace(name)}"
