"""What a state machine sends to a function, and what a schedule's memo holds.

…Step    the event of a function: {execution_id, request: CreateRequest or DeleteRequest, ...}
Holder   who holds a schedule's name in SpiceDB
Memo     what Temporal keeps with a schedule: the operation that created it
Match    what a schedule in Temporal is to the operation that describes it
"""

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict

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


class CreateStep(_Step):
    """Event of a function of the create machine."""

    request: CreateRequest

    @property
    def registration(self) -> str:
        """The fence and Temporal request id of this create."""
        return ids.registration(self.execution_id)


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
        repeat: whether this execution has registered before, and only ensures that its registration still exists.
    """

    repeat: bool = False


class TemporalCreateStep(CreateStep):
    """Event of temporal_create.

    Attributes:
        registered: whether this execution has registered, so that it holds the name in SpiceDB.
        attempt: 0 for the first invocation, then 1, 2, …
    """

    registered: bool
    attempt: int


class CompensateStep(CreateStep):
    """Event of compensate.

    Attributes:
        stale: the holder whose relationships to clear instead of this execution's own: an interrupted create.
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


class DescribeStep(_Step):
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
        if made_by == ids.registration(self.execution_id):
            return Match.OURS
        if self.holder and self.holder.registration and self.holder.registration != made_by:
            return Match.STRAY
        if memo is None:
            return Match.OTHER
        key = self.create.idempotency_key
        if key is None or key != memo.idempotency_key:
            return Match.OTHER
        same = (memo.request, memo.creator) == (self.create.schedule, _text(self.create.creator))
        return Match.REPLAY if same else Match.REUSED


class DeleteStep(_Step):
    """Event of temporal_delete."""

    request: DeleteRequest


class DeregisterStep(DeleteStep):
    """Event of deregister.

    Attributes:
        registration: the fence in the deleted schedule's memo; null where Temporal had no such schedule, or one that
            this application did not create.
    """

    registration: str | None


class Memo(Model):
    """What a schedule's memo records about the operation that created it.

    Attributes:
        registration: that operation's fence.
        creator: ``{type}:{id}`` as in SpiceDB, or null where registration was skipped.
        agent_id: the agent that owns the schedule.
        request: the schedule as it was asked for; Temporal does not return a cron expression.
        idempotency_key: the key of the create request, if it had one.
    """

    model_config = ConfigDict(extra="ignore")

    registration: str
    creator: str | None = None
    agent_id: str
    request: NewSchedule
    idempotency_key: str | None = None

    @classmethod
    def of(cls, step: CreateStep) -> Self:
        """The memo of the operation that ``step`` belongs to."""
        request = step.request
        return cls(
            registration=step.registration,
            creator=_text(request.creator),
            agent_id=request.agent_id,
            request=request.schedule,
            idempotency_key=request.idempotency_key,
        )


def _text(creator: Subject | None) -> str | None:
    return str(creator) if creator else None
