"""The gateway to SpiceDB: the calls that this application makes, and what each response means to it.

Every method is one step of a saga. It may run twice, and it leaves the relationships of other operations alone. SpiceDB
checks what a method relies on in the same transaction as the write (a precondition); it is not read beforehand.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import grpc
from authzed.api.v1 import (
    CheckPermissionResponse,
    Client,
    ErrorReason,
    Precondition,
)
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from saga_core.deadlines import Deadline
from saga_core.errors import (
    AgentUpdateDenied,
    AuthorizationUnavailable,
    ConfigurationError,
    InvalidRequest,
    SagaError,
)
from saga_core.ids import Subject
from saga_core.requests import CreateRequest
from saga_core.steps import Holder
from saga_spicedb import messages

# Codes that mean that SpiceDB refuses this application, not that it is in trouble; nothing was written.
_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,  # other than a precondition of ours
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
# By number, as in the error of one item of a bulk check.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Without a token, and with a wrong token.
_TOKEN_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
# How long a trigger with a key is remembered. No request that was sent before takes effect so late.
TRIGGER_REQUEST_LASTS = timedelta(hours=24)
_PRECONDITION_FAILED = ErrorReason.Name(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE)

Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)


class _Rpc(Protocol[Response_co]):
    def __call__(self, request: Any, *, timeout: float) -> Response_co: ...


class RegisterOutcome(StrEnum):
    """What register found or wrote."""

    REGISTERED = "registered"
    SKIPPED = "skipped"
    OCCUPIED = "occupied"


@dataclass(frozen=True)
class Deregistered:
    """The result of deregister.

    Attributes:
        done: whether no relationship of the deleted schedule is left.
        again: whether the operation that had registered the schedule may still be in flight, so that it may create the
            schedule again.
    """

    done: bool
    again: bool


@dataclass(frozen=True)
class TriggerRequest:
    """The record of a trigger with a key.

    Attributes:
        registration: the fence of the schedule that the trigger was for.
        done: whether Temporal has accepted the trigger; otherwise that is not known.
    """

    registration: str
    done: bool


class SpiceDB:
    """The relationships of schedules.

    Every method raises AuthorizationUnavailable when SpiceDB gives no usable response (whether a write took effect is
    then unknown), and ConfigurationError when SpiceDB refuses this application itself.
    """

    def __init__(
        self, connect: Callable[[], Client], lease: timedelta, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Make a client with ``connect`` at the first call; leases end ``lease`` after ``now``."""
        self._connect = connect
        self._lease = lease
        self._now = now
        self._client: Client | None = None

    def register(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Write owner, ``parent_agent``, fence and lease of a new schedule, if its creator may update the agent.

        OCCUPIED: relationships of another operation, the holder, are there. SKIPPED: no creator can be resolved, and
        nothing was asked.

        Raises:
            AgentUpdateDenied: the creator may not update the agent. Nothing was written.
            InvalidRequest: the schedule ends in the past, and no earlier create holds its name. Nothing was written.
        """
        creator = request.creator
        if creator is None:
            return RegisterOutcome.SKIPPED, None
        if not self.may_create(creator, request.agent_id, deadline):
            # A repeat of a register that has written before was authorized when it wrote.
            holder = self.holder(request.schedule_id, deadline)
            if holder and holder.registration == registration:
                return RegisterOutcome.REGISTERED, holder
            raise AgentUpdateDenied(f"the creator may not update agent {request.agent_id}")
        if request.schedule.is_over(self._now()) and self.holder(request.schedule_id, deadline) is None:
            raise InvalidRequest("schedule.end_at: is in the past")
        return self._write(request, creator, registration, execution_id, deadline)

    def register_again(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Ensure that what `register` wrote still exists: write it again where a delete has removed it since.

        The creator's permission is not checked again: it was checked when this operation registered.
        """
        if request.creator is None:
            return RegisterOutcome.SKIPPED, None
        return self._write(request, request.creator, registration, execution_id, deadline)

    def _write(
        self, request: CreateRequest, creator: Subject, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        schedule_id = request.schedule_id
        lease_ends_at = self._now() + self._lease
        write = messages.register(schedule_id, request.agent_id, creator, registration, execution_id, lease_ends_at)
        try:
            self._call(lambda client: client.WriteRelationships, write, deadline)
        except _PreconditionFailedError:
            holder = self.holder(schedule_id, deadline)
            if holder is None:
                raise AuthorizationUnavailable(
                    f"the relationships of {schedule_id} went away while they were being looked at"
                ) from None
            if holder.registration != registration:
                return RegisterOutcome.OCCUPIED, holder
            return RegisterOutcome.REGISTERED, holder
        return RegisterOutcome.REGISTERED, None

    def holder(self, schedule_id: str, deadline: Deadline) -> Holder | None:
        """Who holds the schedule's name now, or None if it has no relationship at all."""
        responses = self._call(lambda client: _whole(client.ReadRelationships), messages.read(schedule_id), deadline)
        relationships = [response.relationship for response in responses]
        if not relationships:
            return None
        fences = [r.subject.object.object_id for r in relationships if r.relation == "registered_by"]
        leases = [r.optional_expires_at.ToDatetime(UTC) for r in relationships if r.relation == "creating"]
        # SpiceDB decides by its own clock whether a lease has expired; one that it still returns lasts at least 1 s.
        seconds = [max(1, math.ceil((lease - self._now()).total_seconds())) for lease in leases]
        return Holder(registration=fences[0] if fences else None, lease_seconds=max(seconds, default=0))

    def remove(self, schedule_id: str, registration: str, deadline: Deadline) -> bool:
        """Remove every relationship of the schedule, if ``registration`` is the operation that registered it.

        Returns whether there was anything to remove; relationships of another operation do not count.
        """
        return self._remove(schedule_id, [messages.must_match(schedule_id, "registered_by", registration)], deadline)

    def clear(self, schedule_id: str, registration: str | None, deadline: Deadline) -> bool:
        """Remove every relationship that an interrupted operation left on a schedule, unless a lease is live.

        ``registration`` is that operation's fence; None clears relationships that have no fence. Returns whether there
        was anything to remove.
        """
        fence = (
            messages.must_match(schedule_id, "registered_by", registration)
            if registration
            else messages.must_not_match(schedule_id, "registered_by")
        )
        return self._remove(schedule_id, [fence, messages.must_not_match(schedule_id, "creating")], deadline)

    def deregister(self, schedule_id: str, registration: str | None, deadline: Deadline) -> Deregistered:
        """Remove every relationship of a schedule that is no longer in Temporal.

        ``registration`` is the fence in the deleted schedule's memo. Relationships under another fence, or without one,
        are removed only where no lease is live: they may belong to a create in flight.
        """
        holder = self.holder(schedule_id, deadline)
        if holder is None:
            # Another delete has removed them, or an earlier attempt of this one whose reply was lost.
            return Deregistered(done=True, again=registration is not None)
        if registration and holder.registration == registration:
            removed = self.remove(schedule_id, registration, deadline)
            return Deregistered(done=True, again=holder.in_flight or not removed)
        if holder.in_flight:
            return Deregistered(done=False, again=False)
        return Deregistered(done=self.clear(schedule_id, holder.registration, deadline), again=False)

    def _remove(self, schedule_id: str, preconditions: list[Precondition], deadline: Deadline) -> bool:
        return self._done(
            lambda client: client.DeleteRelationships, messages.delete(schedule_id, preconditions), deadline
        )

    def open_trigger_request(
        self, record_id: str, schedule_id: str, registration: str, deadline: Deadline
    ) -> TriggerRequest | None:
        """Record a trigger that is about to be sent, if it has no record and ``registration`` is the schedule's fence.

        Returns the record that is there already; None if it was written now. Raises AuthorizationUnavailable also if
        there is no record and the fence is another one by now; nothing was written then.
        """
        write = messages.open_trigger_request(record_id, schedule_id, registration, self._now() + TRIGGER_REQUEST_LASTS)
        if self._done(lambda client: client.WriteRelationships, write, deadline):
            return None
        read = messages.read(record_id, of=messages.TRIGGER_REQUEST)
        for response in self._call(lambda client: _whole(client.ReadRelationships), read, deadline):
            found = response.relationship
            return TriggerRequest(found.subject.object.object_id, done=found.relation == "done")
        raise AuthorizationUnavailable(f"what {schedule_id} was going to be triggered by went away meanwhile")

    def finish_trigger_request(self, record_id: str, registration: str, deadline: Deadline) -> bool:
        """Mark a trigger that is recorded as open as done. Returns whether it was open under ``registration``."""
        write = messages.finish_trigger_request(record_id, registration, self._now() + TRIGGER_REQUEST_LASTS)
        return self._done(lambda client: client.WriteRelationships, write, deadline)

    def remove_trigger_request(self, record_id: str, registration: str, deadline: Deadline) -> bool:
        """Forget a trigger that is recorded as open. Returns whether it was open under ``registration``."""
        request = messages.remove_trigger_request(record_id, registration)
        return self._done(lambda client: client.DeleteRelationships, request, deadline)

    def _done(self, rpc: Callable[[Client], _Rpc[Any]], request: Any, deadline: Deadline) -> bool:
        """Make a write. Returns whether its preconditions held."""
        try:
            self._call(rpc, request, deadline)
        except _PreconditionFailedError:
            return False
        return True

    def may_create(self, subject: Subject, agent_id: str, deadline: Deadline) -> bool:
        """Whether the subject may update the agent now, and therefore create schedules for it."""
        return self._check("agent", agent_id, "update", subject, deadline)

    def may_list(self, subject: Subject, agent_id: str, deadline: Deadline) -> bool:
        """Whether the subject may read the agent now. Whoever may read a schedule may read its agent."""
        return self._check("agent", agent_id, "read", subject, deadline)

    def permissions(
        self, subject: Subject, asked: Collection[str], schedule_ids: Sequence[str], deadline: Deadline
    ) -> dict[str, set[str]]:
        """Which of the permissions (``read``, ``update``, ``delete``) the subject has on each schedule now.

        One call, whatever the subject has. Without a schedule there is nothing to ask.
        """
        held: dict[str, set[str]] = {schedule_id: set() for schedule_id in schedule_ids}
        if not held:
            return held
        request = messages.check_each(schedule_ids, asked, subject)
        response = self._call(lambda client: client.CheckBulkPermissions, request, deadline)
        for pair in response.pairs:
            if pair.HasField("error"):
                raise _error(_STATUS_CODES.get(pair.error.code, grpc.StatusCode.UNKNOWN))
            if pair.item.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION:
                held[pair.request.resource.object_id].add(pair.request.permission)
        return held

    def _check(self, object_type: str, object_id: str, permission: str, subject: Subject, deadline: Deadline) -> bool:
        request = messages.check(object_type, object_id, permission, subject)
        response = self._call(lambda client: client.CheckPermission, request, deadline)
        return bool(response.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)

    def _call(self, rpc: Callable[[Client], _Rpc[Response]], request: Any, deadline: Deadline) -> Response:
        """Make one call. Every error of SpiceDB is classified here."""
        timeout = deadline.timeout()
        if timeout is None:
            raise AuthorizationUnavailable("no time was left to ask SpiceDB")
        client = self._client = self._client or self._connect()
        try:
            return rpc(client)(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() in _TOKEN_REFUSALS:
                # The token may have been rotated: the next call makes a client that reads it again.
                self._client = None
            raise _classified(error) from None


def _whole(rpc: _Rpc[Iterable[Response]]) -> _Rpc[list[Response]]:
    """A call that returns a stream, as one that returns the whole of it."""

    def read(request: Any, *, timeout: float) -> list[Response]:
        return list(rpc(request, timeout=timeout))

    return read


class _PreconditionFailedError(Exception):
    """A precondition of ours did not hold; nothing was written."""


def _classified(error: Any) -> SagaError | _PreconditionFailedError:
    reason = _reason(error)
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION and reason == _PRECONDITION_FAILED:
        return _PreconditionFailedError()
    return _error(error.code(), reason)


def _error(code: grpc.StatusCode, reason: str | None = None) -> SagaError:
    """What a code means: that of a call, or of one item of a bulk check.

    SpiceDB's own message may repeat what a caller sent. Its reason is one of a list, such as an unknown definition.
    """
    said = f"{code.name} ({reason})" if reason in ErrorReason.keys() else code.name  # noqa: SIM118 - it is no dict
    if code in _TOKEN_REFUSALS:
        return AuthorizationUnavailable("SpiceDB does not accept the token")
    if code in _REFUSALS:
        return ConfigurationError(f"SpiceDB refuses the request: {said}")
    return AuthorizationUnavailable(f"SpiceDB: {said}")


def _reason(error: Any) -> str | None:
    """The reason in the error's google.rpc.ErrorInfo, which distinguishes SpiceDB's failed preconditions."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return None
