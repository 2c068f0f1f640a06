"""The HTTP API as the tests call it over HTTP, with direct access to both engines."""

import asyncio
import http.client
import io
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from authzed.api.v1 import InsecureClient
from joserfc.jwk import RSAKey
from temporalio.client import Client

from local.stack import clients
from local.stack.issuer import issue
from local.stack.process import HOST
from local.stack.scheduler import Scheduler
from saga_core import ids
from tests.support import relationships, schedulers
from tests.support.proxy import FaultProxy

SECONDS = 40  # longer than API Gateway lets a request last
T = TypeVar("T")

# A request body that creates a schedule.
NEW_SCHEDULE = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}


@dataclass(frozen=True)
class HttpResponse:
    """The response to an HTTP request.

    Attributes:
        headers: names in lower case.
        body: decoded JSON; None where there is none.
    """

    status: int
    headers: Mapping[str, str]
    body: Any

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], content: bytes) -> "HttpResponse":
        """A response with this content, which is JSON or empty."""
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(status, lower, json.loads(content) if content else None)

    def is_problem(self, status: int, message: str | None = None, data: object = None) -> bool:
        """Whether it is an error of the API itself with exactly these values. Without ``message``, any message."""
        expected = self.body["message"] if message is None else message
        return (self.status, self.body) == (status, {"message": expected, "code": status, "data": data})


def encoded(body: object, headers: Mapping[str, str]) -> tuple[bytes | None, dict[str, str]]:
    """The content and the headers of a request. A body that is not text or bytes becomes JSON.

    An underscore in the name of a header stands for a hyphen. The content type is JSON where no other is given.
    """
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        return None, sent
    sent.setdefault("Content-Type", "application/json")
    if isinstance(body, bytes):
        return body, sent
    return (body if isinstance(body, str) else json.dumps(body)).encode(), sent


@dataclass
class Api:
    """The running stack, as a caller sees it, and as its operator does.

    Attributes:
        aws: the URL of Step Functions and Lambda.
        agent: an agent of this test, which alice owns.
        access_log: the lines of the gateway's access log.
        log: the log lines of the functions, as text.
    """

    port: int
    spicedb: FaultProxy
    temporal: FaultProxy
    authorization: InsecureClient
    scheduler: Client
    loop: asyncio.AbstractEventLoop
    key: RSAKey
    access_log: list[str]
    aws: str = ""
    agent: str = ""
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def url(self) -> str:
        """The URL of the gateway."""
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
    ) -> HttpResponse:
        """Make a request (see `encoded`). ``token`` replaces the token of ``as_``; with "" none is sent."""
        content, sent = encoded(body, headers)
        if (token := self.token(as_) if token is None else token) != "":
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(HOST, self.port, timeout=SECONDS)
        try:
            connection.request(method, path, content, sent)
            reply = connection.getresponse()
            return HttpResponse.of(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def create(
        self, name: str = "daily", *, as_: str = "alice", key: str | None = None, **changes: Any
    ) -> HttpResponse:
        """Create a schedule; a field that is None is left out."""
        changed = {**NEW_SCHEDULE, "name": name, **changes}
        body = {field: value for field, value in changed.items() if value is not None}
        return self.call("POST", self.schedules, body, as_=as_, **({"Idempotency_Key": key} if key else {}))

    def get(self, name: str = "daily", *, as_: str = "alice") -> HttpResponse:
        """Get a schedule."""
        return self.call("GET", f"{self.schedules}/{name}", as_=as_)

    def trigger(self, name: str = "daily", *, as_: str = "alice", key: str | None = None) -> HttpResponse:
        """Trigger a schedule."""
        headers = {"Idempotency_Key": key} if key else {}
        return self.call("POST", f"{self.schedules}/{name}/trigger", as_=as_, **headers)

    def delete(self, name: str = "daily", *, as_: str = "alice") -> HttpResponse:
        """Delete a schedule."""
        return self.call("DELETE", f"{self.schedules}/{name}", as_=as_)

    def relate(self, *texts: str) -> None:
        """Write relationships, each ``resource:id#relation@subject:id``, in one transaction."""
        relationships.touch(self.authorization, *texts)

    def unrelate(self, text: str) -> None:
        """Remove a relationship."""
        relationships.remove(self.authorization, text)

    def interrupted(self, name: str = "daily") -> None:
        """Write the relationships that a create leaves when it stops directly after it has registered."""
        schedule, registration = f"agent_schedule:{self.id(name)}", f"registration:{uuid.uuid4().hex * 2}"
        self.relate(
            f"{schedule}#owner@user:alice",
            f"{schedule}#parent_agent@agent:{self.agent}",
            f"{schedule}#registered_by@{registration}",
        )
        ends_at = datetime.now(UTC) + timedelta(minutes=10)
        relationships.touch(self.authorization, f"{schedule}#creating@{registration}", expires_at=ends_at)

    def grant(self, relation: str, user: str, name: str = "daily") -> None:
        """Give a user a relation on a schedule, and `editor` on its agent: the relation alone allows nothing."""
        self.relate(
            f"agent_schedule:{self.id(name)}#{relation}@user:{user}",
            f"agent:{self.agent}#editor@user:{user}",
        )

    def id(self, name: str = "daily") -> str:
        """A schedule's id."""
        return ids.schedule_id(self.agent, name)

    def held(self, name: str = "daily") -> list[str]:
        """The relationships of a schedule in SpiceDB, as ``relation@subject``, without the lease."""
        lines = [line.partition("#")[2] for line in clients.relationships(self.authorization, self.id(name))]
        return [line for line in lines if not line.startswith("creating@")]

    def scheduled(self, name: str = "daily") -> bool:
        """Whether Temporal has a schedule."""
        return self.in_loop(clients.described(self.scheduler, self.id(name))) is not None

    def memo(self, schedule_id: str = "") -> dict[str, Any]:
        """The memo of a schedule in Temporal; without an id, of this agent's ``daily``."""

        async def describe() -> dict[str, Any]:
            found = await self.scheduler.get_schedule_handle(schedule_id or self.id()).describe()
            memo: dict[str, Any] = (await found.memo())["agent_schedule"]
            return memo

        return self.in_loop(describe())

    def delete_by_hand(self, name: str = "daily") -> None:
        """Delete a schedule in Temporal, as its web interface or command line does."""
        self.in_loop(schedulers.delete(self.scheduler, self.id(name)))

    def maker(self, name: str = "daily") -> Scheduler | None:
        """The scheduler of Temporal that made a schedule, also if it is deleted; None if none was made."""
        return self.in_loop(schedulers.maker(self.scheduler, self.id(name)))

    def in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of Temporal's client."""
        return self.loop.run_until_complete(coroutine)

    def calls(self) -> tuple[list[str], list[str]]:
        """The methods called on SpiceDB and on Temporal since the last `calls`."""
        made = list(self.spicedb.calls), list(self.temporal.calls)
        self.spicedb.calls.clear()
        self.temporal.calls.clear()
        return made

    def logged(self) -> list[dict[str, Any]]:
        """The functions' log lines, decoded."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def eventually(ask: Callable[[], T], holds: Callable[[T], bool], seconds: float = 15) -> T:
    """The first result of ``ask`` that ``holds``. It asks again and again, at most for ``seconds``."""
    ends_at = time.monotonic() + seconds
    while not holds(result := ask()):
        assert time.monotonic() < ends_at, f"not within {seconds:g} s: {result!r:.500}"
        time.sleep(0.02)
    return result
