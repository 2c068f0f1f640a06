"""The stack on which a storm takes place, and what has happened on it."""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from authzed.api.v1 import InsecureClient
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from local.aws.server import serve
from local.aws.step_functions import Backoff
from local.aws.template import Template
from local.stack import clients
from local.stack.endpoints import NAMESPACE, Endpoints, state_machine_arn
from local.stack.parts import ROOT, engines, parameters
from local.stack.process import Child
from local.stack.scheduler import Scheduler
from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.errors import TemporalUnavailable
from saga_temporal import temporal
from tests.saga.storm_executions import ExecutionRequest, ExecutionResult, Repair
from tests.support import relationships, schedulers
from tests.support.functions import forget_clients
from tests.support.ports import free_port
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.saga_stack import APPS, registration_made

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

AT_A_TIME = 56
MACHINES = ("create-schedule", "create-schedule-express", "delete-schedule", "delete-schedule-express")
LIMIT_SECONDS = 120.0  # for whatever takes seconds on an idle machine


@dataclass
class Storm:
    """The running stack, as callers and operators see it, and what has happened on it."""

    proxies: Mapping[str, FaultProxy]
    authorization: InsecureClient
    scheduler: Client
    loop: asyncio.AbstractEventLoop
    restart_temporal: Callable[[], None]
    seed: int
    sfn: "SFNClient" = field(init=False)
    begun: list[ExecutionRequest] = field(default_factory=list)
    answers: list[ExecutionResult] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    retries: list[Backoff] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)

    def waited(self, backoff: Backoff) -> None:
        """Wait before a retry, as long as on AWS."""
        self.retries.append(backoff)
        time.sleep(backoff.seconds)

    def run(self, requests: Iterable[ExecutionRequest], meanwhile: Callable[[], None]) -> None:
        """Run executions side by side to their ends, and do something ``meanwhile``."""
        with ThreadPoolExecutor(AT_A_TIME) as callers:
            futures = [callers.submit(self.perform, request) for request in requests]
            try:
                meanwhile()
                assert not wait(futures, LIMIT_SECONDS).not_done, self.running()
            finally:
                callers.shutdown(wait=False, cancel_futures=True)
        self.answers += [future.result() for future in futures]
        assert self.running() == []

    def perform(self, request: ExecutionRequest) -> ExecutionResult:
        """Run one execution of a create or a delete."""
        self.begun.append(request)
        described = self._execute(request.machine, request.body)
        assert described["status"] in ("SUCCEEDED", "FAILED"), described
        return ExecutionResult(
            request=request,
            arn=described["executionArn"],
            began=described["startDate"],
            ended=described["stopDate"],
            output=json.loads(described.get("output", "null")),
            error=described.get("error", ""),
            cause=described.get("cause", ""),
        )

    def reconcile(self, **request: Any) -> dict[str, Any]:
        """Run the reconciler. Returns its report, or ``{error}`` if it failed."""
        described = self._execute("reconcile-schedules", request)
        failed = described["status"] == "FAILED"
        report: dict[str, Any] = {"error": described["error"]} if failed else json.loads(described["output"])
        if request.get("mode") == "repair":
            self.repairs.append(Repair(described["startDate"], described["stopDate"], report))
        return report

    def _execute(self, machine: str, body: Mapping[str, Any]) -> Any:
        """Run one execution to its end, as its callers do: Express in one call, Standard by polling."""
        arguments: Any = {
            "stateMachineArn": state_machine_arn(machine),
            "name": str(uuid.uuid4()),
            "input": json.dumps(body),
        }
        if machine.endswith("-express"):
            return self.sfn.start_sync_execution(**arguments)
        arn = self.sfn.start_execution(**arguments)["executionArn"]
        pause = 0.05
        while (described := self.sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
            time.sleep(pause)
            pause = min(0.4, pause * 1.5)
        return described

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
                assert time.monotonic() < deadline, "Temporal does not answer again"
                time.sleep(0.05)
            else:
                return

    def end_leases(self) -> None:
        """Remove every lease, as if it had expired."""
        relationships.remove_all(self.authorization, relation="creating")

    def held(self) -> dict[str, set[str]]:
        """What SpiceDB holds for schedules: ``relation@subject`` by schedule."""
        return relationships.all_of(self.authorization)

    def scheduled(self) -> dict[str, dict[str, Any]]:
        """The memo of every schedule in Temporal, by its id."""

        async def memo(schedule_id: str) -> dict[str, Any] | None:
            description = await clients.described(self.scheduler, schedule_id)
            return (await description.memo())["agent_schedule"] if description else None

        async def memos() -> dict[str, dict[str, Any]]:
            # The list is eventually consistent, so every name that was used is described as well.
            names = self.names() | {schedule.id async for schedule in await self.scheduler.list_schedules()}
            found = await asyncio.gather(*map(memo, names))
            return {name: memo for name, memo in zip(names, found, strict=True) if memo}

        return self.loop.run_until_complete(memos())

    def makers(self) -> list[Scheduler | None]:
        """For each name that was used, the scheduler of Temporal that made its latest schedule; None without one."""

        async def ask() -> list[Scheduler | None]:
            return await asyncio.gather(*(schedulers.maker(self.scheduler, name) for name in self.names()))

        return self.loop.run_until_complete(ask())

    def differences(self) -> dict[str, str]:
        """The schedules for which the two systems differ, each with what happened to it. Leases are ignored."""
        wanted, held = registered(self.scheduled()), self.held()
        for relations in held.values():
            relations -= {relation for relation in relations if relation.startswith("creating@")}
        differing = {name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)}
        return {name: f"wanted {wanted.get(name)}\nheld {held.get(name)}\n{self.trace(name)}" for name in differing}

    def names(self) -> set[str]:
        """The ids of all schedules that were requested to be created or deleted."""
        return {request.schedule_id for request in self.begun}

    def about(self, schedule_id: str) -> list[ExecutionResult]:
        """The results for one schedule, ordered by their beginning."""
        answers = [answer for answer in self.answers if answer.request.schedule_id == schedule_id]
        return sorted(answers, key=lambda answer: answer.began)

    def trace(self, schedule_id: str) -> str:
        """What happened to one schedule, for the person who looks into a difference."""
        told: list[tuple[ExecutionResult | Repair, str]] = [
            (each, self._told(each)) for each in self.about(schedule_id)
        ]
        told += [(repair, f"reconciler: {repair.said(schedule_id)}") for repair in self.repairs]
        lines = [
            f"  {each.began:%M:%S.%f} to {each.ended:%M:%S.%f} {text}"
            for each, text in sorted(told, key=lambda pair: pair[0].began)
        ]
        return "\n".join([f"{schedule_id}, STORM_SEED={self.seed}, by minute and second:", *lines])

    def _told(self, answer: ExecutionResult) -> str:
        """An answer, and below it the states that the execution entered; of a create also whose fence it made."""
        events: Any = self.sfn.get_execution_history(executionArn=answer.arn, maxResults=1000)["events"]
        states = [
            f"{event['timestamp']:%M:%S.%f} {event['stateEnteredEventDetails']['name']}"
            for event in events
            if "stateEnteredEventDetails" in event
        ]
        words = [answer.arn.rpartition(":")[2]]
        if answer.request.creates:
            body = answer.request.body
            fence = registration_made(events)[:8] or "none"
            creator = "a creator" if body["principal"] else "no creator"
            words = [f"fence {fence}", creator, body.get("idempotency_key", "no key"), *words]
        return f"{answer} ({', '.join(words)})\n    {' '.join(states)}"


@contextmanager
def storm_stack(folder: Path, scheduler: Scheduler, seed: int) -> Iterator[Storm]:
    """A stack of its own: engines, a proxy in front of each, functions that are sometimes slow, machines.

    ``seed``: of what is drawn, for the person who looks into a difference.
    """
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    loop = asyncio.new_event_loop()
    with engines(endpoints, folder, folder, scheduler) as children:
        server = next(child for child in children if child.name == "Temporal")
        client = loop.run_until_complete(clients.temporal(endpoints))

        def temporal_answers() -> bool:
            ask = DescribeNamespaceRequest(namespace=NAMESPACE)
            asking = client.workflow_service.describe_namespace(ask, timeout=timedelta(seconds=1))
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
                    scheduler=client,
                    loop=loop,
                    restart_temporal=restart_temporal,
                    seed=seed,
                )
                through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
                template = Template(ROOT / "template.yaml", parameters(through))
                with (
                    serve(template, on_backoff=storm.waited) as endpoint_url,
                    pytest.MonkeyPatch.context() as patch,
                ):
                    forget_clients()  # of other tests, which run their stacks in this process too
                    for app in APPS:
                        patch.setattr(app, "handler", dawdling(app.handler))
                    storm.sfn = clients.stepfunctions(Endpoints(aws_port=int(endpoint_url.rpartition(":")[2])))
                    yield storm
        finally:
            forget_clients()
            server.stop()
            loop.close()


def dawdling(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The handler, in a Lambda that sometimes starts or returns late, so that others overtake it."""

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


def registered(memos: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """All that SpiceDB may hold where Temporal has these schedules: nothing about those without a creator."""
    return {
        schedule_id: {
            f"owner@{memo['creator']}",
            f"parent_agent@agent:{ids.split_schedule_id(schedule_id)[0]}",
            f"registered_by@registration:{memo['registration']}",
        }
        for schedule_id, memo in memos.items()
        if memo["creator"]
    }
