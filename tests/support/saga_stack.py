"""The shipped state machines, the real handlers and the real engines, with a fault proxy in front of each engine."""

import asyncio
import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from authzed.api.v1 import InsecureClient
from temporalio.client import Client

from functions.compensate import app as compensate
from functions.deregister import app as deregister
from functions.reconcile import app as reconcile
from functions.register import app as register
from functions.temporal_create import app as temporal_create
from functions.temporal_delete import app as temporal_delete
from functions.temporal_describe import app as temporal_describe
from local.aws.server import serve
from local.aws.step_functions import Backoff
from local.aws.template import Template
from local.stack import clients
from local.stack.endpoints import Endpoints, state_machine_arn
from saga_core import connections, ids
from saga_core.deadlines import Deadline
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.support import relationships, schedulers
from tests.support.functions import forget_clients
from tests.support.machines import DEFINITIONS, states_of
from tests.support.proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

RPC_SECONDS = "0.5"
APPS = (register, temporal_create, temporal_describe, compensate, temporal_delete, deregister, reconcile)
# The states that are in a branch of a Parallel state.
IN_BRANCHES = {name for machine in DEFINITIONS.values() for name, _ in states_of(machine)} - {
    name for machine in DEFINITIONS.values() for name in machine["States"]
}


def registration_made(events: Iterable[Mapping[str, Any]]) -> str:
    """The registration that a machine has made, by the events of the execution's history; empty for none."""
    for event in events:
        if exited := event.get("stateExitedEventDetails"):
            return str(json.loads(exited["output"]).get("registration", ""))
    return ""


@dataclass(frozen=True)
class Ended:
    """An execution that is over.

    Attributes:
        states: the states it entered, in order, without those in the branches of a Parallel state.
        branch_states: the states it entered in branches, by name, since branches run side by side.
        registration: the fence that its machine made; empty if it made none.
        output: decoded; None unless it succeeded.
        error, cause: as Step Functions gives them; None unless it failed.
    """

    arn: str
    status: str
    states: list[str]
    branch_states: list[str]
    registration: str
    output: Any
    error: str | None
    cause: str | None

    @property
    def message(self) -> str:
        """The errorMessage in the cause of a function's error."""
        return str(json.loads(self.cause or "{}")["errorMessage"])


@dataclass
class Stack:
    """The running stack, as a caller and an operator see it.

    Attributes:
        batch_times: whether a function has time for another batch of a removal, for each of the next times that it
            asks; after these, what the clock says.
    """

    spicedb: FaultProxy
    temporal: FaultProxy
    authorization: InsecureClient
    scheduler: Client
    loop: asyncio.AbstractEventLoop
    sfn: "SFNClient" = field(init=False)
    backoffs: list[Backoff] = field(default_factory=list)
    interruptions: dict[str, Callable[[], object]] = field(default_factory=dict)
    batch_times: list[bool] = field(default_factory=list)
    agent: str = field(default_factory=lambda: f"agent-{uuid.uuid4().hex[:12]}")

    def request(self, name: str = "daily", **changes: Any) -> dict[str, Any]:
        """A create request of alice, who owns the agent."""
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
        return {
            "agent_id": self.agent,
            "principal": {"user_id": "alice"},
            "schedule": {**schedule, **changes},
        }

    def deletion(self, name: str = "daily") -> dict[str, Any]:
        """A delete request."""
        return {"agent_id": self.agent, "schedule_name": name}

    def start(self, machine: str, request: object) -> str:
        """Start an execution. Returns its ARN."""
        return self.sfn.start_execution(
            stateMachineArn=state_machine_arn(machine), name=str(uuid.uuid4()), input=json.dumps(request)
        )["executionArn"]

    def run(self, machine: str, request: object) -> Ended:
        """Start an execution and wait for its end."""
        return self.ended(self.start(machine, request))

    def ended(self, arn: str) -> Ended:
        """Wait for the end of an execution."""
        while (described := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
            time.sleep(0.02)
        events: Any = self.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
        return Ended(
            arn=arn,
            status=described["status"],
            states=[state for state in entered if state not in IN_BRANCHES],
            branch_states=sorted(state for state in entered if state in IN_BRANCHES),
            registration=registration_made(events),
            output=json.loads(described["output"]) if "output" in described else None,
            error=described.get("error"),
            cause=described.get("cause"),
        )

    def create(self, request: Mapping[str, Any] | None = None) -> Ended:
        """Run the create machine."""
        return self.run("create-schedule", self.request() if request is None else request)

    def interrupt(self, request: Mapping[str, Any], at: str) -> Ended:
        """Run the create machine and stop it in ``at``, CreateSchedule or ReadBack, before it has done anything."""
        self.temporal.inject({"CreateSchedule": "CreateSchedule", "ReadBack": "DescribeSchedule"}[at], Fault.REFUSED)
        return self.run_until_wait("create-schedule", request, at)

    def run_until_wait(self, machine: str, request: object, state: str) -> Ended:
        """Run a machine and stop it where it waits in ``state`` before a retry."""
        name = str(uuid.uuid4())
        arn = f"{state_machine_arn(machine).replace(':stateMachine:', ':execution:')}:{name}"
        self.on_wait(state, lambda: self.sfn.stop_execution(executionArn=arn))
        self.sfn.start_execution(stateMachineArn=state_machine_arn(machine), name=name, input=json.dumps(request))
        return self.ended(arn)

    def delete(self, name: str = "daily") -> Ended:
        """Run the delete machine."""
        return self.run("delete-schedule", self.deletion(name))

    def held(self, name: str = "daily") -> dict[str, str]:
        """What SpiceDB holds for a schedule: relation to subject, without expiries."""
        lines = clients.relationships(self.authorization, self._id(name))
        pairs: Iterator[list[str]] = (line.partition("#")[2].partition("[")[0].split("@") for line in lines)
        return dict(pairs)

    def registered(self, by: Ended, *, leased: bool = False) -> dict[str, str]:
        """What SpiceDB has to hold for a schedule that ``by`` created for alice; ``leased``: that it still creates."""
        fence = f"registration:{by.registration}"
        relations = {"owner": "user:alice", "parent_agent": f"agent:{self.agent}", "registered_by": fence}
        return {**relations, "creating": fence} if leased else relations

    def scheduled(self, name: str = "daily") -> dict[str, Any] | None:
        """The memo of a schedule in Temporal; None if Temporal has no such schedule."""

        async def memo() -> dict[str, Any] | None:
            description = await clients.described(self.scheduler, self._id(name))
            return (await description.memo())["agent_schedule"] if description else None

        return self.loop.run_until_complete(memo())

    def on_wait(self, state: str, act: Callable[[], object]) -> None:
        """Do something once, while an execution waits in ``state`` before a retry."""
        self.interruptions[state] = act

    def waited(self, backoff: Backoff) -> None:
        """Note a wait before a retry, and do what `on_wait` asked for."""
        self.backoffs.append(backoff)
        if act := self.interruptions.pop(backoff.state, None):
            act()

    def delete_by_hand(self, name: str = "daily") -> None:
        """Delete a schedule in Temporal, as its web interface or command line does."""
        self.loop.run_until_complete(schedulers.delete(self.scheduler, self._id(name)))

    def grant(self, relation: str, *subjects: str, name: str = "daily") -> None:
        """Give subjects a relation on a schedule, in transactions of 1,000, as a person with the right to would."""
        texts = [f"agent_schedule:{self._id(name)}#{relation}@{subject}" for subject in subjects]
        for begin in range(0, len(texts), 1000):
            relationships.touch(self.authorization, *texts[begin : begin + 1000])

    def grants(self, name: str = "daily") -> int:
        """How many viewers and editors a schedule has."""
        return sum(relationships.count(self.authorization, self._id(name), each) for each in ("viewer", "editor"))

    def end_lease(self, name: str = "daily") -> None:
        """Remove the lease of the create that holds a schedule's name, as if it had expired."""
        if lease := self.held(name).get("creating"):
            relationships.remove(self.authorization, f"agent_schedule:{self._id(name)}#creating@{lease}")

    def lease(self, name: str = "daily") -> None:
        """Write the lease of the create that has registered a schedule, as if it had not ended it."""
        fence = self.held(name)["registered_by"]
        ends_at = datetime.now(UTC) + timedelta(minutes=10)
        relationships.touch(self.authorization, f"agent_schedule:{self._id(name)}#creating@{fence}", expires_at=ends_at)

    def own_agent(self, user: str) -> None:
        """Make a user own the agent."""
        relationships.touch(self.authorization, self._ownership(user))

    def disown(self, user: str) -> None:
        """Take the agent away from a user."""
        relationships.remove(self.authorization, self._ownership(user))

    def remove_all(self, name: str = "daily") -> None:
        """Remove every relationship of a schedule, as an operator would."""
        relationships.remove_all(self.authorization, schedule_id=self._id(name))

    def _id(self, name: str) -> str:
        return ids.schedule_id(self.agent, name)

    def _ownership(self, user: str) -> str:
        return f"agent:{self.agent}#owner@user:{ids.encode_subject_id(user)}"

    @staticmethod
    def reconnect() -> None:
        """Let every function read its environment and connect anew, as a fresh process would."""
        spicedb.cache_clear()
        temporal.cache_clear()

    def waits(self, ended: Ended) -> list[str]:
        """The states that an execution waited in before a retry, once for each wait."""
        return [backoff.state for backoff in self.backoffs if backoff.execution_arn == ended.arn]


@contextmanager
def serving(
    endpoints: Endpoints, proxies: tuple[FaultProxy, FaultProxy, Template], time_scale: float
) -> Iterator[Stack]:
    """The template's machines and functions, served between the proxies and a caller.

    Timeouts of functions and tasks are ``time_scale`` times what the template and the machines say.
    """
    spicedb_proxy, temporal_proxy, template = proxies
    forget_clients()  # of the stack of another module
    loop = asyncio.new_event_loop()
    stack = Stack(
        spicedb=spicedb_proxy,
        temporal=temporal_proxy,
        authorization=clients.spicedb(endpoints),
        scheduler=loop.run_until_complete(clients.temporal(endpoints)),
        loop=loop,
    )
    with (
        serve(template, time_scale=time_scale, on_backoff=stack.waited) as endpoint_url,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RPC_TIMEOUT_SECONDS", RPC_SECONDS)
        # Tests count calls, and temporalio makes one of its own when it connects.
        environment.setattr(connections, "REPLACE_SECONDS", math.inf)
        stack.sfn = clients.stepfunctions(Endpoints(aws_port=int(endpoint_url.rpartition(":")[2])))
        yield stack
    forget_clients()
    loop.close()


@contextmanager
def fresh(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, without faults, with an agent of its own that alice owns; functions die where a fault kills them."""
    stack.spicedb.clear()
    stack.temporal.clear()
    stack.interruptions.clear()
    stack.batch_times.clear()
    stack.agent = f"agent-{uuid.uuid4().hex[:12]}"
    stack.own_agent("alice")
    for app in APPS:
        monkeypatch.setattr(app, "handler", _mortal(app.handler, stack))
    leaves = Deadline.leaves
    monkeypatch.setattr(
        Deadline,
        "leaves",
        lambda deadline, seconds: stack.batch_times.pop(0) if stack.batch_times else leaves(deadline, seconds),
    )
    yield stack
    stack.spicedb.clear()
    stack.temporal.clear()


def _mortal(handler: Any, stack: Stack) -> Any:
    """The handler, in a process that dies where the proxy says so: whatever it returns is lost."""

    def invoke(event: Any, context: Any) -> Any:
        try:
            return handler(event, context)
        finally:
            for proxy in (stack.spicedb, stack.temporal):
                if proxy.killed.is_set():
                    proxy.killed.clear()
                    sys.exit(1)

    return invoke
