"""The HTTP API on the running stack: gateway, functions, state machines, and real engines with a proxy before each."""

import asyncio
import http.client
import io
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from authzed.api.v1 import (
    InsecureClient,
    ObjectReference,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from joserfc.jwk import RSAKey
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from local.aws import gateway, server
from local.aws.template import Template
from local.stack import clients
from local.stack.clients import relationships
from local.stack.endpoints import Endpoints
from local.stack.issuer import issue, public_keys, signing_key
from local.stack.parts import parameters
from local.stack.process import HOST
from saga_api import executions
from saga_api.settings import api_settings
from saga_core import ids, settings
from saga_core.observability import logger
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.support.proxy import FaultProxy, fault_proxy

ROOT = Path(__file__).parents[2]
SECONDS = 40  # longer than API Gateway lets a request last
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What an HTTP request came to.

    Attributes:
        headers: names in lower case.
        body: decoded JSON; None where there is none.
    """

    status: int
    headers: Mapping[str, str]
    body: Any

    def is_problem(self, status: int, message: str | None = None, data: object = None) -> bool:
        """Whether it is an error of the API's own, shaped exactly so."""
        said = self.body["message"] if message is None else message
        return (self.status, self.body) == (status, {"message": said, "code": status, "data": data})


@dataclass
class Api:
    """The running stack, as a caller sees it, and as its operator does.

    Attributes:
        agent: an agent of the test's own, which alice owns.
        access_log: the lines of the gateway's.
        log: what the functions have logged, line by line, as text.
    """

    port: int
    spicedb: FaultProxy
    temporal: FaultProxy
    authorization: InsecureClient
    scheduler: Client
    loop: asyncio.AbstractEventLoop
    key: RSAKey
    access_log: list[str]
    agent: str = ""
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def schedules(self) -> str:
        """The path of the agent's schedules."""
        return f"/agents/{self.agent}/schedules"

    def token(self, subject: str = "alice", service_account: str = "") -> str:
        """A token of the local issuer."""
        return issue(self.key, subject=subject, service_account=service_account)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        as_: str = "alice",
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """Make a request; a body that is no text is sent as JSON. ``token`` in place of one of ``as_``'s; "": none.

        An underscore in the name of a header stands for a hyphen.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if (token := self.token(as_) if token is None else token) != "":
            sent["Authorization"] = f"Bearer {token}"
        content = body
        if body is not None and not isinstance(body, str | bytes):
            content = json.dumps(body)
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(HOST, self.port, timeout=SECONDS)
        try:
            connection.request(method, path, content.encode() if isinstance(content, str) else content, sent)  # type: ignore[arg-type] # bytes or None by now
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        answered = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, answered, json.loads(text) if text else None)

    def create(self, name: str = "daily", *, as_: str = "alice", key: str | None = None, **changes: Any) -> Answer:
        """Create a schedule; a field that is None is left out."""
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
        body = {field: value for field, value in {**schedule, **changes}.items() if value is not None}
        return self.call("POST", self.schedules, body, as_=as_, **({"Idempotency_Key": key} if key else {}))

    def get(self, name: str = "daily", *, as_: str = "alice") -> Answer:
        """Get a schedule."""
        return self.call("GET", f"{self.schedules}/{name}", as_=as_)

    def delete(self, name: str = "daily", *, as_: str = "alice") -> Answer:
        """Delete a schedule."""
        return self.call("DELETE", f"{self.schedules}/{name}", as_=as_)

    def relate(self, *relationships_: str) -> None:
        """Write relationships, each ``resource:id#relation@subject:id``, in one transaction."""
        updates = [
            RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=_relationship(text))
            for text in relationships_
        ]
        self.authorization.WriteRelationships(WriteRelationshipsRequest(updates=updates), timeout=10)

    def unrelate(self, relationship: str) -> None:
        """Remove a relationship."""
        update = RelationshipUpdate(
            operation=RelationshipUpdate.OPERATION_DELETE, relationship=_relationship(relationship)
        )
        self.authorization.WriteRelationships(WriteRelationshipsRequest(updates=[update]), timeout=10)

    def interrupted(self, name: str = "daily") -> None:
        """Leave what a create leaves that was stopped after it had registered."""
        registration = f"registration:{uuid.uuid4().hex * 2}"
        lease = _relationship(f"agent_schedule:{self.id(name)}#creating@{registration}")
        lease.optional_expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=10))
        self.relate(
            f"agent_schedule:{self.id(name)}#owner@user:alice",
            f"agent_schedule:{self.id(name)}#parent_agent@agent:{self.agent}",
            f"agent_schedule:{self.id(name)}#registered_by@{registration}",
        )
        update = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=lease)
        self.authorization.WriteRelationships(WriteRelationshipsRequest(updates=[update]), timeout=10)

    def grant(self, relation: str, user: str, name: str = "daily") -> None:
        """Give a user a relation on a schedule, and the agent's `editor`, without which it is worth nothing."""
        self.relate(
            f"agent_schedule:{self.id(name)}#{relation}@user:{user}",
            f"agent:{self.agent}#editor@user:{user}",
        )

    def id(self, name: str = "daily") -> str:
        """A schedule's id."""
        return ids.schedule_id(self.agent, name)

    def held(self, name: str = "daily") -> list[str]:
        """What SpiceDB itself has on a schedule, as ``relation@subject``, without the lease."""
        lines = [line.partition("#")[2] for line in relationships(self.authorization, self.id(name))]
        return [line for line in lines if not line.startswith("creating@")]

    def scheduled(self, name: str = "daily") -> bool:
        """Whether Temporal itself has a schedule."""

        async def describe() -> bool:
            try:
                await self.scheduler.get_schedule_handle(self.id(name)).describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return False
                raise
            return True

        return self.in_loop(describe())

    def in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of Temporal's own client."""
        return self.loop.run_until_complete(coroutine)

    def calls(self) -> tuple[list[str], list[str]]:
        """The calls made to SpiceDB and to Temporal since the last time, by method."""
        made = list(self.spicedb.calls), list(self.temporal.calls)
        self.spicedb.calls.clear()
        self.temporal.calls.clear()
        return made

    def logged(self) -> list[dict[str, Any]]:
        """The functions' log lines, decoded."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def eventually(ask: Callable[[], T], holds: Callable[[T], bool], seconds: float = 15) -> T:
    """What ``ask`` answers, as soon as it is as it should be; for what takes effect a moment later."""
    ends_at = time.monotonic() + seconds
    while not holds(answer := ask()):
        assert time.monotonic() < ends_at, f"not within {seconds:g} s: {answer!r:.500}"
        time.sleep(0.02)
    return answer


def _relationship(text: str) -> Relationship:
    resource, _, rest = text.partition("#")
    relation, _, subject = rest.partition("@")
    return Relationship(
        resource=_object(resource), relation=relation, subject=SubjectReference(object=_object(subject))
    )


def _object(reference: str) -> ObjectReference:
    object_type, _, object_id = reference.partition(":")
    return ObjectReference(object_type=object_type, object_id=object_id)


def _forget_clients() -> None:
    # What a warm function keeps; other folders of tests put other proxies and settings in their way.
    for cached in (spicedb, temporal, settings.call_settings, api_settings, executions._client):
        cached.cache_clear()


@contextmanager
def _serving(endpoints: Endpoints) -> Iterator[Api]:
    with (
        fault_proxy(endpoints.spicedb) as (spicedb_proxy, spicedb_port),
        fault_proxy(endpoints.temporal) as (temporal_proxy, temporal_port),
    ):
        through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
        template = Template(ROOT / "template.yaml", parameters(through))
        loop = asyncio.new_event_loop()
        key, access_log = signing_key(), list[str]()
        _forget_clients()
        with (
            server.serve(template, on_backoff=lambda _: None) as functions,
            gateway.serve(template, public_keys(key), functions, log=access_log.append) as url,
        ):
            yield Api(
                port=int(url.rpartition(":")[2]),
                spicedb=spicedb_proxy,
                temporal=temporal_proxy,
                authorization=clients.spicedb(endpoints),
                scheduler=loop.run_until_complete(clients.temporal(endpoints)),
                loop=loop,
                key=key,
                access_log=access_log,
            )
        _forget_clients()
        loop.close()


@pytest.fixture(scope="module")
def _module_api(running_engines: Endpoints) -> Iterator[Api]:
    with _serving(running_engines) as api:
        yield api


@pytest.fixture
def api(_module_api: Api) -> Iterator[Api]:
    """The API, without faults, with an agent of its own that alice owns. Retries do not wait."""
    api = _module_api
    api.spicedb.clear()
    api.temporal.clear()
    api.agent = f"agent-{uuid.uuid4().hex[:12]}"
    api.relate(f"agent:{api.agent}#owner@user:alice")
    api.log = io.StringIO()
    before = logger.registered_handler.setStream(api.log)  # type: ignore[attr-defined] # it is a StreamHandler
    yield api
    logger.registered_handler.setStream(before)  # type: ignore[attr-defined] # as above
    api.spicedb.clear()
    api.temporal.clear()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets how long a request waits for its execution, seconds."""

    def wait(seconds: float) -> None:
        monkeypatch.setattr(executions, "WAIT_SECONDS", seconds)
        executions._client.cache_clear()

    yield wait
    executions._client.cache_clear()
