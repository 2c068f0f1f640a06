"""What SpiceDB does with relationships, as a function: a state and a request in, a state and a reply out.

The explorer drives the handlers against this; test_conformance.py holds it against the engine. It knows
WriteRelationships, DeleteRelationships, ReadRelationships and the check of `update` on an agent, under the project's
own schema, and answers in the engine's order: what is wrong with the request's form, then with its words (the schema),
then with the data. What a request may hold besides raises NotImplementedError rather than being passed over: caveats,
relations of subjects, limits, cursors, other permissions, and reads that are not fully consistent. Not looked at: the
number of updates, and transaction metadata. Tokens in replies are empty.

Times are seconds since the epoch. A relationship is over when its expiry is earlier than `now`. It is not collected
then: it matches nothing and is not read, but CREATE trips over it and a delete removes and counts it. (Where the data
are in a database that collects it, CREATE succeeds from then on.)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from authzed.api.v1 import (
    CheckPermissionRequest,
    CheckPermissionResponse,
    DeleteRelationshipsRequest,
    DeleteRelationshipsResponse,
    ErrorReason,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadRelationshipsResponse,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
    WriteRelationshipsResponse,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from tools.schema import zed

# resource type, resource id, relation, subject type, subject id, expiry
Tuple = tuple[str, str, str, str, str, float | None]
State = frozenset[Tuple]


@dataclass(frozen=True)
class Failure:
    """A call that SpiceDB refuses.

    Attributes:
        reason: as in the error's google.rpc.ErrorInfo; None where it has none.
    """

    code: grpc.StatusCode
    reason: str | None = None


class _RelationFacts(NamedTuple):
    """What the schema says of a name under a definition: for a permission, no subjects."""

    is_permission: bool
    subjects: frozenset[tuple[str, bool]]  # type, and whether it comes with an expiry


class _Filter(NamedTuple):
    """A relationship filter; an empty text matches everything."""

    resource_type: str
    resource_id: str
    id_prefix: str
    relation: str
    subject_type: str
    subject_id: str


class _Condition(NamedTuple):
    filter: _Filter
    must_match: bool


class _Write(NamedTuple):
    updates: tuple[tuple["RelationshipUpdate.Operation.ValueType", Tuple], ...]
    conditions: tuple[_Condition, ...]


class _Delete(NamedTuple):
    filter: _Filter
    conditions: tuple[_Condition, ...]


class _Read(NamedTuple):
    filter: _Filter


class _Check(NamedTuple):
    agent_id: str
    subject: tuple[str, str]


_Question = _Write | _Delete | _Read | _Check


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, reason: "ErrorReason.ValueType | None" = None) -> None:
        super().__init__()
        self.failure = Failure(code, None if reason is None else ErrorReason.Name(reason))


def _schema() -> dict[str, dict[str, _RelationFacts]]:
    blocks = zed.split((Path(__file__).parents[2] / "schema" / "schedules.zed").read_text())
    return {
        block.name: {
            member.name: _RelationFacts(
                member.kind == "permission",
                frozenset((subject.type, subject.demands == "expiration") for subject in member.subjects),
            )
            for member in zed.members(block)
        }
        for block in blocks
        if block.kind == "definition"
    }


_SCHEMA = _schema()
_OBJECT_TYPE = re.compile(r"([a-z][a-z0-9_]{1,61}[a-z0-9]/)*[a-z][a-z0-9_]{1,62}[a-z0-9]")
_OBJECT_ID = re.compile(r"[a-zA-Z0-9/_|\-=+]{1,1024}")
_RELATION = re.compile(r"[a-z][a-z0-9_]{1,62}[a-z0-9]")
_ANY_ID = "*"
_MESSAGES: dict[str, Any] = {
    "WriteRelationships": WriteRelationshipsRequest,
    "DeleteRelationships": DeleteRelationshipsRequest,
    "ReadRelationships": ReadRelationshipsRequest,
    "CheckPermission": CheckPermissionRequest,
}
_PRECONDITION_FAILED = Failure(
    grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.Name(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE),
)
_EXISTS_ALREADY = Failure(
    grpc.StatusCode.ALREADY_EXISTS, ErrorReason.Name(ErrorReason.ERROR_REASON_ATTEMPT_TO_RECREATE_RELATIONSHIP)
)
_WRITTEN = WriteRelationshipsResponse()
_MAY = CheckPermissionResponse(permissionship=CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)
_MAY_NOT = CheckPermissionResponse(permissionship=CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION)


def apply(state: State, method: str, request: Any, now: float) -> tuple[State, Any]:
    """The state after a call, and its reply: the response, for ReadRelationships a list of them, or a Failure.

    Replies are shared between calls: do not change them.

    Raises:
        NotImplementedError: the request holds something that the model does not know.
    """
    # A request is understood once, however many states it meets.
    question = _understood(method, request.SerializeToString())
    match question:
        case _Write():
            return _write(state, question, now)
        case _Delete():
            return _delete(state, question, now)
        case _Read():
            return state, [_as_read(found) for found in sorted(_live(state, question.filter, now), key=_identity)]
        case _Check():
            return state, _checked(state, question)
        case Failure():
            return state, question


def error(failure: Failure) -> grpc.RpcError:
    """What a client raises for a failure."""
    return _CallError(failure)


class _CallError(grpc.RpcError):
    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self._failure = failure

    def code(self) -> grpc.StatusCode:
        return self._failure.code

    def details(self) -> str:
        return self._failure.reason or "as the model has it"

    def trailing_metadata(self) -> Any:
        if self._failure.reason is None:
            return ()
        return (("grpc-status-details-bin", _details(self._failure)),)


@lru_cache
def _details(failure: Failure) -> bytes:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=failure.reason, domain="authzed.com"))
    details: bytes = Status(code=failure.code.value[0], details=[detail]).SerializeToString()
    return details


# --- What the data decide -------------------------------------------------------------------------------------------


def _write(state: State, write: _Write, now: float) -> tuple[State, Any]:
    if not all(_holds(state, condition, now) for condition in write.conditions):
        return state, _PRECONDITION_FAILED
    there = {_identity(one): one for one in state}
    for operation, written in write.updates:
        if operation == RelationshipUpdate.OPERATION_CREATE and _identity(written) in there:
            return state, _EXISTS_ALREADY
        if operation == RelationshipUpdate.OPERATION_DELETE:
            there.pop(_identity(written), None)
        else:
            there[_identity(written)] = written
    return frozenset(there.values()), _WRITTEN


def _delete(state: State, delete: _Delete, now: float) -> tuple[State, Any]:
    if not all(_holds(state, condition, now) for condition in delete.conditions):
        return state, _PRECONDITION_FAILED
    removed = _matching(state, delete.filter)
    return state.difference(removed), _as_deleted(len(removed))


def _checked(state: State, check: _Check) -> CheckPermissionResponse:
    may = any(("agent", check.agent_id, relation, *check.subject, None) in state for relation in ("owner", "editor"))
    return _MAY if may else _MAY_NOT


def _holds(state: State, condition: _Condition, now: float) -> bool:
    return bool(_live(state, condition.filter, now)) is condition.must_match


def _live(state: State, wanted: _Filter, now: float) -> list[Tuple]:
    return [one for one in _matching(state, wanted) if one[5] is None or one[5] >= now]


def _matching(state: State, wanted: _Filter) -> list[Tuple]:
    resource_type, resource_id, id_prefix, relation, subject_type, subject_id = wanted
    return [
        one
        for one in state
        if (not resource_id or one[1] == resource_id)
        and (not relation or one[2] == relation)
        and (not resource_type or one[0] == resource_type)
        and (not subject_type or one[3] == subject_type)
        and (not subject_id or one[4] == subject_id)
        and one[1].startswith(id_prefix)
    ]


def _identity(one: Tuple) -> tuple[str, str, str, str, str]:
    return one[:5]


@lru_cache(4096)
def _as_read(one: Tuple) -> ReadRelationshipsResponse:
    resource_type, resource_id, relation, subject_type, subject_id, expires_at = one
    relationship = Relationship(
        resource=ObjectReference(object_type=resource_type, object_id=resource_id),
        relation=relation,
        subject=SubjectReference(object=ObjectReference(object_type=subject_type, object_id=subject_id)),
    )
    if expires_at is not None:
        relationship.optional_expires_at.FromMicroseconds(round(expires_at * 1_000_000))
    return ReadRelationshipsResponse(relationship=relationship)


@lru_cache
def _as_deleted(count: int) -> DeleteRelationshipsResponse:
    return DeleteRelationshipsResponse(
        deletion_progress=DeleteRelationshipsResponse.DELETION_PROGRESS_COMPLETE, relationships_deleted_count=count
    )


# --- What the request alone decides ---------------------------------------------------------------------------------


@lru_cache(4096)
def _understood(method: str, request: bytes) -> _Question | Failure:
    message = _MESSAGES[method].FromString(request)
    try:
        match message:
            case WriteRelationshipsRequest():
                return _understood_write(message)
            case DeleteRelationshipsRequest():
                return _understood_delete(message)
            case ReadRelationshipsRequest():
                return _understood_read(message)
            case _:
                return _understood_check(message)
    except _RefusedError as refusal:
        return refusal.failure


def _understood_write(message: WriteRelationshipsRequest) -> _Write:
    updates = tuple((update.operation, _formed_update(update)) for update in message.updates)
    conditions = _formed_conditions(message.optional_preconditions)
    written = [_identity(one) for _, one in updates]
    _require(len(written) == len(set(written)))
    for condition in conditions:
        _require_sound(condition.filter)
    for operation, one in updates:
        _require_allowed(one, any_expiry=operation == RelationshipUpdate.OPERATION_DELETE)
    return _Write(updates, conditions)


def _understood_delete(message: DeleteRelationshipsRequest) -> _Delete:
    _require_modelled(not message.optional_limit and not message.optional_allow_partial_deletions)
    wanted = _formed_filter(message, "relationship_filter")
    conditions = _formed_conditions(message.optional_preconditions)
    for each in (wanted, *(condition.filter for condition in conditions)):
        _require_sound(each)
    return _Delete(wanted, conditions)


def _understood_read(message: ReadRelationshipsRequest) -> _Read:
    _require_modelled(message.consistency.fully_consistent)
    _require_modelled(not message.optional_limit and not message.HasField("optional_cursor"))
    wanted = _formed_filter(message, "relationship_filter")
    _require_sound(wanted)
    if wanted.resource_type and wanted.relation and _SCHEMA[wanted.resource_type][wanted.relation].is_permission:
        raise _RefusedError(grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_SCHEMA_TYPE_ERROR)
    return _Read(wanted)


def _understood_check(message: CheckPermissionRequest) -> _Check:
    _require_modelled(message.consistency.fully_consistent)
    _require_modelled(not message.HasField("context") and not message.subject.optional_relation)
    agent, subject = _formed_object(message.resource), _formed_object(message.subject.object)
    _require(agent[1] != _ANY_ID)
    _require_relation(agent[0], message.permission)
    _require_definition(subject[0])
    _require(subject[1] != _ANY_ID)
    _require_modelled((agent[0], message.permission) == ("agent", "update"))
    return _Check(agent[1], subject)


def _formed_update(update: RelationshipUpdate) -> Tuple:
    relationship = update.relationship
    _require_modelled(not relationship.HasField("optional_caveat") and not relationship.subject.optional_relation)
    _require(update.operation in RelationshipUpdate.Operation.values()[1:])
    resource, subject = _formed_object(relationship.resource), _formed_object(relationship.subject.object)
    _require(resource[1] != _ANY_ID)
    _require(_RELATION.fullmatch(relationship.relation) is not None)
    expiry = relationship.optional_expires_at
    expires_at = expiry.ToNanoseconds() / 1e9 if relationship.HasField("optional_expires_at") else None
    return (*resource, relationship.relation, *subject, expires_at)


def _formed_object(reference: ObjectReference) -> tuple[str, str]:
    _require(_OBJECT_TYPE.fullmatch(reference.object_type) is not None)
    _require(_OBJECT_ID.fullmatch(reference.object_id) is not None or reference.object_id == _ANY_ID)
    return reference.object_type, reference.object_id


def _formed_conditions(preconditions: Iterable[Precondition]) -> tuple[_Condition, ...]:
    conditions = []
    for precondition in preconditions:
        _require(precondition.operation in Precondition.Operation.values()[1:])
        must_match = precondition.operation == Precondition.OPERATION_MUST_MATCH
        conditions.append(_Condition(_formed_filter(precondition, "filter"), must_match))
    return tuple(conditions)


def _formed_filter(request: Any, field: str) -> _Filter:
    _require(request.HasField(field))
    message: RelationshipFilter = getattr(request, field)
    subject = message.optional_subject_filter
    _require_modelled(not subject.HasField("optional_relation"))
    for pattern, text in (
        (_OBJECT_TYPE, message.resource_type),
        (_OBJECT_ID, message.optional_resource_id),
        (_OBJECT_ID, message.optional_resource_id_prefix),
        (_RELATION, message.optional_relation),
    ):
        _require(not text or pattern.fullmatch(text) is not None)
    if message.HasField("optional_subject_filter"):
        # Of all the parts of a filter, this one may not be empty.
        _require(_OBJECT_TYPE.fullmatch(subject.subject_type) is not None)
        subject_id = subject.optional_subject_id
        _require(subject_id in ("", _ANY_ID) or _OBJECT_ID.fullmatch(subject_id) is not None)
    return _Filter(
        message.resource_type,
        message.optional_resource_id,
        message.optional_resource_id_prefix,
        message.optional_relation,
        subject.subject_type,
        subject.optional_subject_id,
    )


def _require_sound(wanted: _Filter) -> None:
    # A relation without its definition may be any word.
    if wanted.resource_type and wanted.relation:
        _require_relation(wanted.resource_type, wanted.relation)
    elif wanted.resource_type:
        _require_definition(wanted.resource_type)
    if wanted.subject_type:
        _require_definition(wanted.subject_type)
    if not any(wanted) or (wanted.resource_id and wanted.id_prefix):
        raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, ErrorReason.ERROR_REASON_INVALID_FILTER)


def _require_allowed(one: Tuple, *, any_expiry: bool) -> None:
    """Refuse a relationship that the schema has no place for; ``any_expiry``: with or without an expiry."""
    resource_type, _, relation, subject_type, subject_id, expires_at = one
    _require_relation(resource_type, relation)
    _require_definition(subject_type)
    expiring = (True, False) if any_expiry else (expires_at is not None,)
    # No relation of the schema allows everybody, and a permission allows nobody.
    _require(subject_id != _ANY_ID)
    _require(any((subject_type, each) in _SCHEMA[resource_type][relation].subjects for each in expiring))


def _require_definition(name: str) -> None:
    if name not in _SCHEMA:
        raise _RefusedError(grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_UNKNOWN_DEFINITION)


def _require_relation(definition: str, name: str) -> None:
    _require_definition(definition)
    if name not in _SCHEMA[definition]:
        raise _RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION
        )


def _require(holds: bool) -> None:
    if not holds:
        raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT)


def _require_modelled(holds: bool) -> None:
    if not holds:
        raise NotImplementedError("the request holds something that the model of SpiceDB does not know")
