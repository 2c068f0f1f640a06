"""The executions of a storm: what is requested at random, and the results."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saga_core import ids
from tests.support.population import counts_of

AGENTS = [f"agent-{number}" for number in range(5)]
NAMES = [f"schedule-{number}" for number in range(10)]


@dataclass(frozen=True)
class ExecutionRequest:
    """A request to start one execution."""

    machine: str
    body: Mapping[str, Any]

    @property
    def creates(self) -> bool:
        """Whether it is a create; otherwise it is a delete."""
        return self.machine.startswith("create")

    @property
    def schedule_id(self) -> str:
        """The schedule that it creates or deletes."""
        name = self.body["schedule"]["name"] if self.creates else self.body["schedule_name"]
        return ids.schedule_id(self.body["agent_id"], name)


@dataclass(frozen=True)
class ExecutionResult:
    """An execution that is over.

    Attributes:
        began, ended: on the clock of Step Functions.
        output: decoded; None if it failed.
        error, cause: empty if it succeeded.
    """

    request: ExecutionRequest
    arn: str
    began: datetime
    ended: datetime
    output: Any
    error: str
    cause: str

    @property
    def made(self) -> bool:
        """Whether it says that it made a schedule."""
        return self.request.creates and not self.error and not self.output["replayed"]

    @property
    def unverified(self) -> bool:
        """Whether it says that its outcome in Temporal could not be verified."""
        return self.cause.startswith("outcome unverified")

    @property
    def finished(self) -> bool:
        """Whether it left nothing to be done, according to its output or error."""
        if self.request.creates:
            return self.error not in ("CompensationFailed", "OutcomeUnknown") and not self.unverified
        return not self.error and bool(self.output["deregistered"])

    def __str__(self) -> str:
        kind = "create" if self.request.creates else "delete"
        if self.error:
            return f"{kind}: {self.error}{', unverified' if self.unverified else ''}"
        if self.request.creates:
            return f"{kind}: {'replayed' if self.output['replayed'] else 'created'}"
        did = "deleted" if self.output["existed"] else "nothing there"
        return f"{kind}: {did}{'' if self.output['deregistered'] else ', not deregistered'}"


@dataclass(frozen=True)
class Repair:
    """A run of the reconciler that repairs, and its report, or ``{error}`` if it failed."""

    began: datetime
    ended: datetime
    report: Mapping[str, Any]

    def said(self, schedule_id: str) -> str:
        """What it says that it did, and what it did about one schedule."""
        if error := self.report.get("error"):
            return str(error)
        items = [item for item in self.report["items"] if item["schedule_id"] == schedule_id]
        done = ", ".join(f"{item['kind']}, {item['action']}" for item in items) or "nothing"
        repaired = counts_of(self.report, "repaired")
        return f"repaired {repaired}, waiting {self.report['waiting']}, stopped {self.report['stopped']}; here {done}"


def drawn(rng: random.Random, count: int) -> list[ExecutionRequest]:
    """So many requests, in bursts of a few on one name, so that they meet."""
    requests: list[ExecutionRequest] = []
    while len(requests) < count:
        agent, name = rng.choice(AGENTS), rng.choice(NAMES)
        requests += [drawn_request(rng, agent, name) for _ in range(rng.randint(1, 6))]
    return requests[:count]


def drawn_request(rng: random.Random, agent: str, name: str) -> ExecutionRequest:
    """A create of some kind, or a delete, on either type of machine."""
    kind = rng.choices(["delete", "keyed", "plain", "nobody's", "rejected"], [35, 30, 20, 8, 7])[0]
    machine_type = rng.choice(["", "-express"])
    if kind == "delete":
        return ExecutionRequest(f"delete-schedule{machine_type}", {"agent_id": agent, "schedule_name": name})
    schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
    request: dict[str, Any] = {"agent_id": agent, "principal": {"user_id": "alice"}, "schedule": schedule}
    if kind == "keyed":
        request["idempotency_key"] = f"key-{rng.randrange(2)}"
        schedule["interval_seconds"] = rng.choice([3600, 3600, 3600, 7200])
    elif kind == "nobody's":
        request["principal"] = None
    elif kind == "rejected":
        schedule["cron_expression"] = "every other day"
    return ExecutionRequest(f"create-schedule{machine_type}", request)


def deletion(schedule_id: str) -> ExecutionRequest:
    """A delete."""
    agent, name = ids.split_schedule_id(schedule_id)
    return ExecutionRequest("delete-schedule-express", {"agent_id": agent, "schedule_name": name})
