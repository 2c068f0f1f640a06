"""One schedule name on the running stack, and what both systems hold under it."""

import time
from dataclasses import dataclass, field
from typing import Any

from saga_core.deadlines import Deadline
from saga_core.steps import Memo, TemporalCreateStep
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.support.saga_stack import Ended, Stack

Request = dict[str, Any]

# So long that no run is due while the tests last.
INTERVAL_SECONDS = 1_000_000_000


@dataclass(frozen=True)
class Holdings:
    """What the two systems hold under one name: relation to subject in SpiceDB, and the memo of Temporal's schedule."""

    held: dict[str, str]
    memo: dict[str, Any] | None
    agent: str = field(default="", compare=False)

    @property
    def leased(self) -> bool:
        """Whether the relationships say that a create is in flight."""
        return "creating" in self.held

    @property
    def ownership(self) -> dict[str, str]:
        """What is held besides the lease and grants."""
        beside = ("creating", "editor", "viewer")
        return {relation: subject for relation, subject in self.held.items() if relation not in beside}

    @property
    def in_step(self) -> bool:
        """Whether the schedule is its creator's, as its own create registered it, and nothing else is held."""
        return self.ownership == self.wanted and bool(self.held) == bool(self.wanted)

    @property
    def wanted(self) -> dict[str, str]:
        """What has to be held for the schedule that is there, besides grants."""
        if self.memo is None or self.memo["creator"] is None:
            return {}
        return {
            "owner": self.memo["creator"],
            "parent_agent": f"agent:{self.agent}",
            "registered_by": f"registration:{self.memo['registration']}",
        }

    def __str__(self) -> str:
        memo = self.memo and {key: self.memo[key] for key in ("registration", "creator", "idempotency_key")}
        return f"SpiceDB {self.held or 'nothing'}; Temporal {memo or 'nothing'}"


NOTHING = Holdings({}, None)


@dataclass(frozen=True)
class Scene:
    """One schedule name on the running stack."""

    stack: Stack
    name: str

    def holdings(self) -> Holdings:
        """What the systems hold, read past the proxies."""
        return Holdings(self.stack.held(self.name), self.stack.scheduled(self.name), self.stack.agent)

    def request(self, **schedule: Any) -> Request:
        """A create request of alice with an idempotency key."""
        return {**self.stack.request(self.name, interval_seconds=INTERVAL_SECONDS, **schedule), "idempotency_key": "k"}

    def request_of(self, **principal: Any) -> Request:
        """The same request of another principal; of none: of a service in its own name."""
        return {**self.request(), "principal": principal}

    def deletion(self) -> Request:
        """A delete request."""
        return self.stack.deletion(self.name)

    def earlier(self, request: Request, *, registered: bool = True, scheduled: bool = True) -> None:
        """Leave what another create leaves; or only its relationships, the lease live; or only its schedule."""
        step = TemporalCreateStep.parse(
            {"execution_id": f"earlier create of {self.name}", "request": request, "registered": True, "attempt": 0}
        )
        deadline = Deadline(ends_at=time.monotonic() + 10, per_call=5)
        if registered:
            spicedb().register_again(step.request, step.registration, step.execution_id, deadline)
        if scheduled:
            temporal().create(step.request, Memo.of(step), deadline, holds_name=False)
            self.stack.end_lease(self.name)


def answer(ended: Ended) -> str:
    """What the caller of an execution gets: the outcome as one word, or the name of the error."""
    if ended.status != "SUCCEEDED":
        return ended.error or ended.status
    if ended.output["outcome"] == "created":
        return "replayed" if ended.output["replayed"] else "created"
    return "deleted" if ended.output["deregistered"] else "deferred"
