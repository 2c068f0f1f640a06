"""A create and a delete three ways, each with the same calls to the same engines.

By the functions, in the order of the state machines; by bare clients, which check and decide nothing; and by an
asynchronous service of the usual shape, which validates and logs.

All run in this process. What the state machines themselves take is not in it.
"""

import asyncio
import contextlib
import importlib
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from authzed.api.v1 import AsyncClient, CheckPermissionResponse, InsecureClient
from aws_lambda_powertools import Logger
from grpcutil import insecure_bearer_token_credentials
from pydantic import BaseModel
from temporalio.client import Client

from bench import events, messages
from local.aws.lambda_runtime import Context
from local.aws.template import Template
from local.stack.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints
from local.stack.parts import parameters
from tests.support.functions import log_lines_to
from tests.support.sam import ROOT

# The deadline of a call: longer than in a deployment, so that a busy machine is slow and does not fail.
SECONDS = 30.0


class Chain(Protocol):
    """One of the three ways."""

    def create(self, name: str) -> None:
        """Create a schedule of the agent."""

    def delete(self, name: str) -> None:
        """Delete it."""


class Functions:
    """The handlers of this tree, as the machines call them.

    Attributes:
        milliseconds: what Lambda would bill for each call so far, rounded up.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.milliseconds: list[int] = []
        template = Template(ROOT / "template.yaml", parameters(endpoints))
        os.environ.update({**template.shared_environment(), "RPC_TIMEOUT_SECONDS": str(SECONDS)})
        self._handlers = {
            function.code.name: importlib.import_module(f"functions.{function.code.name}.app").handler
            for function in template.functions
        }

    def _run(self, verb: str, event: Mapping[str, Any]) -> Any:
        context = Context(uuid.uuid4().hex, verb, "arn", "1024", time.monotonic() + 2 * SECONDS)
        began = time.perf_counter()
        returned = self._handlers[verb](event, context)
        self.milliseconds.append(math.ceil(1000 * (time.perf_counter() - began)))
        return returned

    def create(self, name: str) -> None:
        """Register, create, read back, end the lease."""
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
        request = {"agent_id": events.AGENT, "schedule": schedule, "principal": {"user_id": events.OWNER}}
        step = {"execution_id": f"arn:{uuid.uuid4()}", "registration": uuid.uuid4().hex * 2, "request": request}
        registered = self._run("register", step)["registered"]
        self._run("temporal_create", {**step, "registered": registered, "attempt": 0})
        self._run("temporal_describe", {**step, "create": request})
        self._run("register", {**step, "end_lease": True})

    def delete(self, name: str) -> None:
        """Find, delete, remove the relationships, look again."""
        request = {"agent_id": events.AGENT, "schedule_name": name}
        step = {"execution_id": f"arn:{uuid.uuid4()}", "request": request}
        found = self._run("temporal_describe", {**step, "delete": request})
        self._run("temporal_delete", {**step, "registration": found["registration"], "attempt": 0})
        self._run("deregister", {**step, "registration": found["registration"]})
        self._run("temporal_describe", {**step, "delete": request})


class Bare:
    """The clients alone."""

    def __init__(self, endpoints: Endpoints, agent: str = events.AGENT) -> None:
        self._agent = agent
        self._spicedb = InsecureClient(endpoints.spicedb, SPICEDB_TOKEN)
        self._loop = asyncio.new_event_loop()
        connecting = Client.connect(endpoints.temporal, namespace=NAMESPACE)
        self._temporal = self._loop.run_until_complete(connecting).workflow_service

    def create(self, name: str) -> None:
        """The five calls."""
        fence = uuid.uuid4().hex * 2
        self._spicedb.CheckPermission(messages.may_update(self._agent), timeout=SECONDS)
        self._spicedb.WriteRelationships(messages.registration(self._id(name), fence), timeout=SECONDS)
        self._ask(
            self._temporal.create_schedule(messages.new_schedule(self._id(name)), timeout=timedelta(seconds=SECONDS))
        )
        self._ask(
            self._temporal.describe_schedule(messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS))
        )
        self._spicedb.WriteRelationships(messages.lease_over(self._id(name), fence), timeout=SECONDS)

    def delete(self, name: str) -> None:
        """The four calls."""
        self._ask(
            self._temporal.describe_schedule(messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS))
        )
        self._ask(self._temporal.delete_schedule(messages.deleted(self._id(name)), timeout=timedelta(seconds=SECONDS)))
        self._spicedb.DeleteRelationships(messages.removed(self._id(name)), timeout=SECONDS)
        with contextlib.suppress(Exception):  # it is not there any more
            self._ask(
                self._temporal.describe_schedule(messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS))
            )

    def _id(self, name: str) -> str:
        return f"{self._agent}--{name}"

    def _ask(self, call: Any) -> None:
        self._loop.run_until_complete(call)


class _Body(BaseModel):
    """What the service is asked for."""

    name: str
    workflow_name: str = "Report"
    task_queue: str = "reports"
    interval_seconds: int = 3600


class Service:
    """An asynchronous service in one process."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._agent = events.AGENT
        self._log = Logger(service="service", stream=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - as long as it
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._connect(endpoints))

    async def _connect(self, endpoints: Endpoints) -> None:
        self._spicedb = AsyncClient(endpoints.spicedb, insecure_bearer_token_credentials(SPICEDB_TOKEN))
        self._temporal = (await Client.connect(endpoints.temporal, namespace=NAMESPACE)).workflow_service

    def create(self, name: str) -> None:
        """Handle a request to create."""
        self._loop.run_until_complete(self._create(f'{{"name": "{name}"}}'))

    def delete(self, name: str) -> None:
        """Handle a request to delete."""
        self._loop.run_until_complete(self._delete(name))

    def _id(self, name: str) -> str:
        return f"{self._agent}--{name}"

    async def _create(self, text: str) -> None:
        name, fence = _Body.model_validate_json(text).name, uuid.uuid4().hex * 2
        allowed = await self._spicedb.CheckPermission(messages.may_update(self._agent), timeout=SECONDS)
        if allowed.permissionship != CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION:
            raise PermissionError(name)
        await self._spicedb.WriteRelationships(messages.registration(self._id(name), fence), timeout=SECONDS)
        await self._temporal.create_schedule(messages.new_schedule(self._id(name)), timeout=timedelta(seconds=SECONDS))
        await self._temporal.describe_schedule(messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS))
        await self._spicedb.WriteRelationships(messages.lease_over(self._id(name), fence), timeout=SECONDS)
        self._log.info("created", schedule=name)

    async def _delete(self, name: str) -> None:
        await self._temporal.describe_schedule(messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS))
        await self._temporal.delete_schedule(messages.deleted(self._id(name)), timeout=timedelta(seconds=SECONDS))
        await self._spicedb.DeleteRelationships(messages.removed(self._id(name)), timeout=SECONDS)
        with contextlib.suppress(Exception):  # it is not there any more
            await self._temporal.describe_schedule(
                messages.described(self._id(name)), timeout=timedelta(seconds=SECONDS)
            )
        self._log.info("deleted", schedule=name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let the functions write their log lines and metrics to nowhere."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere), log_lines_to(nowhere):
        yield
