"""What a state machine sends to a function, and what a schedule's memo holds.

…Step    the event of a function: {execution_id, request: CreateRequest or DeleteRequest, ...}
Holder   who holds a schedule's name in SpiceDB
Memo     what Temporal keeps with a schedule: the operation that created it
Match    what a schedule in Temporal is to the operation that describes it
"""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from saga_core import ids
from saga_core.errors import InvalidRequest
from saga_core.ids import Subject
from saga_core.requests import CreateRequest, DeleteRequest, Model, NewSchedule, Text


class _Step(Model):
    """Event of a function; fields that only other states need are ignored.

    Attributes:
        execution_id: ARN of the execution.
    """

    model_config = ConfigDict(extra="ignore")

    execution_id: Text


class _RunStep(_Step):
    """Event of a function that acts for one run of an execution.

    Attributes:
        registration: the run's fence and Temporal request id. The machine makes it; definitions of earlier releases do
            not, and their runs have the hash of the ARN.
    """

    registration: Text

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_release(cls, event: Any) -> Any:
        if isinstance(event, dict) and "registration" not in event and isinstance(event.get("execution_id"), str):
            return {**event, "registration": ids.registration(event["execution_id"])}
        return event


class CreateStep(_RunStep):
    """Event of a function of the create machine."""

    request: CreateRequest


class Holder(Model):
    """Who holds a schedule's name in SpiceDB.

    Attributes:
        registration: fence of the operation that registered it; null where the relationships have no fence.
        lease_seconds: remaining time of that operation's lease; 0 when it has expired or there is none.
    """

    registration: str | None
    lease_seconds: int

    @property
    def in_flight(self) -> bool:
        """Whether the operation may still be running."""
        return self.lease_seconds > 0


class RegisterStep(CreateStep):
    """Event of register.

    Attributes:
        repeat: whether this run has registered before, and only ensures that its registration still exists.
        restore: the fence in the memo of a schedule that nobody owns, which this run's registration becomes.
        end_lease: whether the schedule is created, and only the lease is to be removed.
        attempt: 0 for the first invocation, then 1, 2, …
    """

    repeat: bool = False
    restore: Text | None = None
    end_lease: bool = False
    attempt: int = 0


class TemporalCreateStep(CreateStep):
    """Event of temporal_create.

    Attributes:
        registered: whether this run has registered, so that it holds the name in SpiceDB.
        attempt: 0 for the first invocation, then 1, 2, …
    """

    registered: bool
    attempt: int


class CompensateStep(CreateStep):
    """Event of compensate.

    Attributes:
        stale: the holder whose relationships to clear instead of this run's own, because its schedule is not there.
    """

    stale: Holder | None = None


class Match(StrEnum):
    """What a schedule in Temporal is to the operation that describes it."""

    ABSENT = "absent"
    OURS = "ours"  # this operation created it
    REPLAY = "replay"  # an earlier operation with the same idempotency key and the same request created it
    REUSED = "reused"  # an earlier operation with the same idempotency key and another request created it
    STRAY = "stray"  # another operation than the one that created it holds the name in SpiceDB
    OTHER = "other"


class DescribeStep(_RunStep):
    """Event of temporal_describe, in either machine: exactly one of ``create`` and ``delete``.

    Attributes:
        holder: who holds the name in SpiceDB, where a create found that it is held.
    """

    create: CreateRequest | None = None
    delete: DeleteRequest | None = None
    holder: Holder | None = None

    @property
    def request(self) -> CreateRequest | DeleteRequest:
        """The create or the delete request.

        Raises:
            InvalidRequest: the event has neither.
        """
        request = self.create or self.delete
        if request is None:
            raise InvalidRequest("input: is neither a create nor a delete request")
        return request

    def match(self, memo: "Memo | None") -> Match:
        """What a schedule with this memo is to the operation; None: this application did not create the schedule."""
        if self.create is None:
            return Match.OTHER
        made_by = memo.registration if memo else None
        if made_by == self.registration:
            return Match.OURS
        if self.holder and self.holder.registration and self.holder.registration != made_by:
            return Match.STRAY
        if memo is None:
            return Match.OTHER
        key = self.create.idempotency_key
        if key is None or key != memo.idempotency_key:
            return Match.OTHER
        return Match.REPLAY if memo.is_of(self.create) else Match.REUSED


class DeleteStep(_Step):
    """Event of temporal_delete.

    Attributes:
        registration: of the schedule to delete, as temporal_describe gives it; null from definitions of earlier
            releases.
        attempt: 0 for the first invocation, then 1, 2, …
    """

    request: DeleteRequest
    registration: Text | None = None
    attempt: int = 0


class DeregisterStep(_Step):
    """Event of deregister.

    Attributes:
        registration: of the deleted schedule, as temporal_describe gives it; null where Temporal had none.
        stale: the holder whose relationships to clear instead, because its schedule is not there.
    """

    request: DeleteRequest
    registration: Text | None = None
    stale: Holder | None = None


class Memo(BaseModel):
    """What a schedule's memo records about the operation that created it.

    Read leniently: a memo outlives the application that wrote it, and no later rule may make its fence unreadable.

    Attributes:
        version: 2, or 1 where an earlier release wrote it.
        registration: that operation's fence.
        execution_id: ARN of its execution.
        creator: ``{type}:{id}`` as in SpiceDB, or null where registration was skipped.
        account_id: the account in which the creator acted.
        idempotency_key: the key of the create request, if it had one.
        digest: see `digest`; null in version 1.
        agent_id, request: the agent and the schedule as it was asked for; in version 1 alone.
    """

    model_config = ConfigDict(frozen=True)

    version: int = 1
    registration: str
    execution_id: str | None = None
    creator: str | None = None
    account_id: str | None = None
    idempotency_key: str | None = None
    digest: str | None = None
    agent_id: str | None = None
    request: dict[str, Any] | None = None

    @classmethod
    def of(cls, step: CreateStep, version: int = 2) -> Self:
        """The memo of the operation that ``step`` belongs to.

        Version 1 is for the first half of an upgrade: functions of the earlier release, which run beside this one, read
        no other.
        """
        request = step.request
        made_by: dict[str, Any] = {
            "registration": step.registration,
            "creator": _text(request.creator),
            "idempotency_key": request.idempotency_key,
        }
        if version == 1:
            return cls(**made_by, agent_id=request.agent_id, request=request.schedule.model_dump(mode="json"))
        return cls(
            **made_by,
            version=2,
            execution_id=step.execution_id,
            account_id=request.principal.account_id if request.principal else None,
            digest=digest(request.schedule),
        )

    def to_json(self) -> Mapping[str, Any]:
        """The memo as decoded JSON, with the fields of its version."""
        others = {"agent_id", "request"} if self.version > 1 else {"version", "execution_id", "account_id", "digest"}
        decoded: Mapping[str, Any] = self.model_dump(mode="json", exclude=others)
        return decoded

    def is_of(self, request: CreateRequest) -> bool:
        """Whether the operation had the same schedule and creator as ``request``."""
        asked = self.digest or _digest(self.request or {})
        return (asked, self.creator) == (digest(request.schedule), _text(request.creator))


def digest(schedule: NewSchedule) -> str:
    """SHA-256 of a schedule as it is asked for, without the fields that have their defaults, as 64 hex digits.

    So a new optional field, or a default that is written out, does not make a repeated request another one.
    """
    return _digest(schedule.model_dump(mode="json"))


def _digest(asked: Mapping[str, Any]) -> str:
    given = {name: value for name, value in asked.items() if value is not None and (name, value) != ("paused", False)}
    canonical = json.dumps(given, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def _text(creator: Subject | None) -> str | None:
    return str(creator) if creator else None
