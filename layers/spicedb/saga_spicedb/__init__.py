"""SpiceDB, as this application uses it. The only code that knows authzed.

Every method is one step of a saga: it may run twice, and it leaves the relationships of other operations alone. What a
method relies on is checked by SpiceDB in the same transaction as the write (a precondition), not read beforehand.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Protocol, TypeVar

import grpc
from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsRequestItem,
    CheckPermissionRequest,
    CheckPermissionResponse,
    Client,
    Consistency,
    DeleteRelationshipsRequest,
    ErrorReason,
    InsecureClient,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadRelationshipsResponse,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectFilter,
    SubjectReference,
    WriteRelationshipsRequest,
)
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpcutil import bearer_token_credentials

from saga_core.deadlines import Deadline
from saga_core.errors import AgentUpdateDenied, AuthorizationUnavailable, ConfigurationError, SagaError
from saga_core.models import CreateRequest, Holder
from saga_core.settings import SpiceDBSettings, read_secret

SCHEDULE = "agent_schedule"
_FULLY_CONSISTENT = Consistency(fully_consistent=True)
# Codes that say that SpiceDB refuses this application, not that it is in trouble; nothing was written.
_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,  # not one of ours: those are told apart before
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
# What SpiceDB answers without a token, and with a wrong one.
_TOKEN_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_PRECONDITION_FAILED = ErrorReason.Name(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE)

Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)


class _Call(Protocol[Reply_co]):
    def __call__(self, request: Any, *, timeout: float) -> Reply_co: ...


class RegisterOutcome(StrEnum):
    """What register found or made."""

    REGISTERED = "registered"
    SKIPPED = "skipped"
    OCCUPIED = "occupied"


@dataclass(frozen=True)
class Deregistered:
    """What deregister came to.

    Attributes:
        done: whether no relationship of the deleted schedule is left.
        again: whether the operation that had registered it may, for all that is known, still be in flight, and so may
            bring the schedule back.
    """

    done: bool
    again: bool


class SpiceDB:
    """The relationships of schedules.

    Every method raises AuthorizationUnavailable when SpiceDB gives no usable answer (whether a write took effect is
    then unknown), and ConfigurationError when it refuses this application itself.
    """

    def __init__(self, client: Client, lease: timedelta, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        """Use ``client``, and leases that end ``lease`` after ``now``."""
        self._client = client
        self._lease = lease
        self._now = now

    def register(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Write owner, ``parent_agent``, fence and lease of a new schedule, if its creator may update the agent.

        OCCUPIED: another operation's relationships are there, the holder's. SKIPPED: no creator can be resolved;
        nothing was asked.

        Raises:
            AgentUpdateDenied: the creator may not update the agent. Nothing was written.
        """
        creator = request.creator
        if creator is None:
            return RegisterOutcome.SKIPPED, None
        if not self.may_create(creator, request.agent_id, deadline):
            # A repeat of a register that has already written was authorized when it wrote.
            holder = self.holder(request.schedule_id, deadline)
            if holder and holder.registration == registration:
                return RegisterOutcome.REGISTERED, holder
            raise AgentUpdateDenied(f"the creator may not update agent {request.agent_id}")
        return self._write(request, creator, registration, execution_id, deadline)

    def register_again(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Make sure that what `register` wrote stands: write it again where a delete has removed it since.

        The creator's permission is not asked for again: it was there when this operation registered.
        """
        if request.creator is None:
            return RegisterOutcome.SKIPPED, None
        return self._write(request, request.creator, registration, execution_id, deadline)

    def _write(
        self, request: CreateRequest, creator: tuple[str, str], registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        resource = ObjectReference(object_type=SCHEDULE, object_id=request.schedule_id)
        write = WriteRelationshipsRequest(
            updates=[
                _touch(resource, "owner", creator),
                _touch(resource, "parent_agent", ("agent", request.agent_id)),
                _touch(resource, "registered_by", ("registration", registration)),
                _touch(resource, "creating", ("registration", registration), self._now() + self._lease),
            ],
            optional_preconditions=[_must_not_match(request.schedule_id)],
        )
        audit = Struct()
        audit.update({"request_id": registration, "execution_id": execution_id})
        write.optional_transaction_metadata.CopyFrom(audit)
        try:
            _call(self._client.WriteRelationships, write, deadline)
        except _PreconditionFailedError:
            holder = self.holder(request.schedule_id, deadline)
            if holder is None:
                raise AuthorizationUnavailable(
                    f"the relationships of {request.schedule_id} went away while they were being looked at"
                ) from None
            if holder.registration != registration:
                return RegisterOutcome.OCCUPIED, holder
            return RegisterOutcome.REGISTERED, holder
        return RegisterOutcome.REGISTERED, None

    def holder(self, schedule_id: str, deadline: Deadline) -> Holder | None:
        """Who holds the schedule's name at this moment, or None if it has no relationship at all."""
        request = ReadRelationshipsRequest(
            consistency=_FULLY_CONSISTENT,
            relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id=_required(schedule_id)),
        )

        def read(request: ReadRelationshipsRequest, *, timeout: float) -> list[ReadRelationshipsResponse]:
            stream: Iterable[ReadRelationshipsResponse] = self._client.ReadRelationships(request, timeout=timeout)
            return list(stream)

        relationships = [reply.relationship for reply in _call(read, request, deadline)]
        if not relationships:
            return None
        fences = [r.subject.object.object_id for r in relationships if r.relation == "registered_by"]
        leases = [r.optional_expires_at.ToDatetime(UTC) for r in relationships if r.relation == "creating"]
        # SpiceDB decides by its own clock whether a lease is over; one that it still shows lasts a second at least.
        seconds = [max(1, math.ceil((lease - self._now()).total_seconds())) for lease in leases]
        return Holder(registration=fences[0] if fences else None, lease_seconds=max(seconds, default=0))

    def remove(self, schedule_id: str, registration: str, deadline: Deadline) -> bool:
        """Remove every relationship of the schedule, if ``registration`` is the operation that registered it.

        Answers whether there was anything to remove; another operation's relationships are nothing to remove.
        """
        return self._remove(schedule_id, [_must_match(schedule_id, "registered_by", registration)], deadline)

    def clear(self, schedule_id: str, registration: str | None, deadline: Deadline) -> bool:
        """Remove every relationship that an interrupted operation left on a schedule, unless a lease is live.

        ``registration`` is that operation's fence; None clears relationships that carry no fence. Answers whether
        there was anything to remove.
        """
        fence = (
            _must_match(schedule_id, "registered_by", registration)
            if registration
            else _must_not_match(schedule_id, "registered_by")
        )
        return self._remove(schedule_id, [fence, _must_not_match(schedule_id, "creating")], deadline)

    def deregister(self, schedule_id: str, registration: str | None, deadline: Deadline) -> Deregistered:
        """Remove every relationship of a schedule that is no longer in Temporal.

        ``registration`` is the fence in the deleted schedule's memo. Relationships under any other fence, or under
        none, go only where no lease is live: theirs may be a create in flight.
        """
        holder = self.holder(schedule_id, deadline)
        if holder is None:
            # Somebody has removed them: another delete, or an earlier attempt of this one, whose reply was lost.
            return Deregistered(done=True, again=registration is not None)
        if registration and holder.registration == registration:
            removed = self.remove(schedule_id, registration, deadline)
            return Deregistered(done=True, again=holder.in_flight or not removed)
        if holder.in_flight:
            return Deregistered(done=False, again=False)
        return Deregistered(done=self.clear(schedule_id, holder.registration, deadline), again=False)

    def _remove(self, schedule_id: str, preconditions: list[Precondition], deadline: Deadline) -> bool:
        request = DeleteRelationshipsRequest(
            relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id=_required(schedule_id)),
            optional_preconditions=preconditions,
        )
        try:
            _call(self._client.DeleteRelationships, request, deadline)
        except _PreconditionFailedError:
            return False
        return True

    def may_create(self, subject: tuple[str, str], agent_id: str, deadline: Deadline) -> bool:
        """Whether the subject may update the agent, and so give it schedules, right now."""
        return self._check("agent", agent_id, "update", subject, deadline)

    def may(self, subject: tuple[str, str], permission: str, schedule_id: str, deadline: Deadline) -> bool:
        """Whether the subject has the permission (``read``, ``update`` or ``delete``) on the schedule right now."""
        return self._check(SCHEDULE, schedule_id, permission, subject, deadline)

    def readable(self, subject: tuple[str, str], schedule_ids: Sequence[str], deadline: Deadline) -> set[str]:
        """Those of the schedules that the subject may read at this moment."""
        if not schedule_ids:
            return set()
        request = CheckBulkPermissionsRequest(
            consistency=_FULLY_CONSISTENT,
            items=[
                CheckBulkPermissionsRequestItem(
                    resource=ObjectReference(object_type=SCHEDULE, object_id=_required(schedule_id)),
                    permission="read",
                    subject=_subject(subject),
                )
                for schedule_id in schedule_ids
            ],
        )
        reply = _call(self._client.CheckBulkPermissions, request, deadline)
        for pair in reply.pairs:
            if pair.HasField("error"):
                raise AuthorizationUnavailable(f"SpiceDB: {pair.error.code}: {pair.error.message}")
        return {
            pair.request.resource.object_id
            for pair in reply.pairs
            if pair.item.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
        }

    def _check(
        self, object_type: str, object_id: str, permission: str, subject: tuple[str, str], deadline: Deadline
    ) -> bool:
        request = CheckPermissionRequest(
            consistency=_FULLY_CONSISTENT,
            resource=ObjectReference(object_type=object_type, object_id=_required(object_id)),
            permission=permission,
            subject=_subject(subject),
        )
        reply = _call(self._client.CheckPermission, request, deadline)
        return bool(reply.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)


@cache
def spicedb() -> SpiceDB:
    """The SpiceDB that the environment names, connected at the first call and kept by a warm function.

    Raises:
        ConfigurationError: the environment or a secret is missing or malformed.
    """
    settings = SpiceDBSettings.load()
    token = read_secret(settings.spicedb_token_secret)
    if settings.spicedb_tls:
        authority = read_secret(settings.spicedb_ca_secret).encode() if settings.spicedb_ca_secret else None
        client = Client(settings.spicedb_endpoint, bearer_token_credentials(token, authority))
    else:
        client = InsecureClient(settings.spicedb_endpoint, token)
    return SpiceDB(client, timedelta(seconds=settings.lease_seconds))


class _PreconditionFailedError(Exception):
    """A precondition of ours did not hold; nothing was written."""


def _call(call: _Call[Reply], request: Any, deadline: Deadline) -> Reply:
    timeout = deadline.timeout()
    if timeout is None:
        raise AuthorizationUnavailable("no time was left to ask SpiceDB")
    try:
        return call(request, timeout=timeout)
    except grpc.RpcError as error:
        raise _classified(error) from None


def _classified(error: Any) -> SagaError | _PreconditionFailedError:
    code = error.code()
    if code is grpc.StatusCode.FAILED_PRECONDITION and _reason(error) == _PRECONDITION_FAILED:
        return _PreconditionFailedError()
    if code in _TOKEN_REFUSALS:
        # The token may have been rotated: the next try reads it anew.
        spicedb.cache_clear()
        return AuthorizationUnavailable("SpiceDB does not accept the token")
    if code in _REFUSALS:
        return ConfigurationError(f"SpiceDB refuses the request: {code.name}: {error.details()}")
    return AuthorizationUnavailable(f"SpiceDB: {code.name}: {error.details()}")


def _reason(error: grpc.Call) -> str | None:
    """The reason in the error's google.rpc.ErrorInfo, which tells SpiceDB's failed preconditions apart."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return None


def _required(object_id: str) -> str:
    # An empty id in a filter widens it to every object of the type.
    if not object_id:
        raise ValueError("an object id must not be empty")
    return object_id


def _subject(reference: tuple[str, str]) -> SubjectReference:
    object_type, object_id = reference
    return SubjectReference(object=ObjectReference(object_type=object_type, object_id=_required(object_id)))


def _touch(
    resource: ObjectReference, relation: str, subject: tuple[str, str], expires_at: datetime | None = None
) -> RelationshipUpdate:
    # TOUCH, because CREATE fails on a lease that is over but not yet collected. What CREATE would guard against, the
    # precondition does.
    relationship = Relationship(resource=resource, relation=relation, subject=_subject(subject))
    if expires_at:
        relationship.optional_expires_at.FromDatetime(expires_at)
    return RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)


def _must_match(schedule_id: str, relation: str, registration: str) -> Precondition:
    return Precondition(
        operation=Precondition.OPERATION_MUST_MATCH,
        filter=RelationshipFilter(
            resource_type=SCHEDULE,
            optional_resource_id=_required(schedule_id),
            optional_relation=relation,
            optional_subject_filter=SubjectFilter(
                subject_type="registration", optional_subject_id=_required(registration)
            ),
        ),
    )


def _must_not_match(schedule_id: str, relation: str = "") -> Precondition:
    return Precondition(
        operation=Precondition.OPERATION_MUST_NOT_MATCH,
        filter=RelationshipFilter(
            resource_type=SCHEDULE, optional_resource_id=_required(schedule_id), optional_relation=relation
        ),
    )
