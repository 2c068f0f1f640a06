"""What SpiceDB makes of a request without a look at its data: refused for its form or its words, or understood.

It answers in the engine's order: first what is wrong with the request's form, then with its words (the schema). The
model (spicedb_model.py) answers what is understood.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckPermissionRequest,
    DeleteRelationshipsRequest,
    ErrorReason,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    RelationshipFilter,
    RelationshipUpdate,
    WriteRelationshipsRequest,
)

from tools.schema import zed

# resource type, resource id, relation, subject type, subject id, expiry
Tuple = tuple[str, str, str, str, str, float | None]


@dataclass(frozen=True)
class SpiceDBFailure:
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


class Filter(NamedTuple):
    """A relationship filter; an empty text matches everything."""

    resource_type: str
    resource_id: str
    id_prefix: str
    relation: str
    subject_type: str
    subject_id: str


class Condition(NamedTuple):
    """A precondition: whether something must match, or nothing may."""

    filter: Filter
    must_match: bool


class Write(NamedTuple):
    """A WriteRelationships: updates, and preconditions on what is there."""

    updates: tuple[tuple["RelationshipUpdate.Operation.ValueType", Tuple], ...]
    conditions: tuple[Condition, ...]


class Delete(NamedTuple):
    """A DeleteRelationships; of at most ``limit`` relationships, 0 for any number, and of some of them if partial."""

    filter: Filter
    conditions: tuple[Condition, ...]
    limit: int
    partial: bool


class Read(NamedTuple):
    """A ReadRelationships of at most ``limit`` relationships, 0 for any number; now, or as of a token."""

    filter: Filter
    limit: int
    at: str


class Check(NamedTuple):
    """A CheckPermission of `update` on an agent."""

    agent_id: str
    subject: tuple[str, str]


class Bulk(NamedTuple):
    """A CheckBulkPermissions: (type, id, relation or permission, subject) of each item."""

    items: tuple[tuple[str, str, str, str, str], ...]


Question = Write | Delete | Read | Check | Bulk


class _RefusedError(Exception):
    def __init__(self, code: grpc.StatusCode, reason: "ErrorReason.ValueType | None" = None) -> None:
        super().__init__()
        self.failure = SpiceDBFailure(code, None if reason is None else ErrorReason.Name(reason))


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
_MOST_DELETED = 1000
_MESSAGES: dict[str, Any] = {
    "WriteRelationships": WriteRelationshipsRequest,
    "DeleteRelationships": DeleteRelationshipsRequest,
    "ReadRelationships": ReadRelationshipsRequest,
    "CheckPermission": CheckPermissionRequest,
    "CheckBulkPermissions": CheckBulkPermissionsRequest,
}


def identity(one: Tuple) -> tuple[str, str, str, str, str]:
    """What makes two relationships the same: everything but the expiry."""
    return one[:5]


@lru_cache(4096)
def understood(method: str, request: bytes) -> Question | SpiceDBFailure:
    """What a serialized request asks for, or why it is refused. Cached: a request meets many states."""
    message = _MESSAGES[method].FromString(request)
    try:
        match message:
            case WriteRelationshipsRequest():
                return _understood_write(message)
            case DeleteRelationshipsRequest():
                return _understood_delete(message)
            case ReadRelationshipsRequest():
                return _understood_read(message)
            case CheckBulkPermissionsRequest():
                return _understood_bulk(message)
            case _:
                return _understood_check(message)
    except _RefusedError as refusal:
        return refusal.failure


def _understood_write(message: WriteRelationshipsRequest) -> Write:
    updates = tuple((update.operation, _formed_update(update)) for update in message.updates)
    conditions = _formed_conditions(message.optional_preconditions)
    written = [identity(one) for _, one in updates]
    _require(len(written) == len(set(written)))
    for condition in conditions:
        _require_sound(condition.filter)
    for operation, one in updates:
        _require_allowed(one, any_expiry=operation == RelationshipUpdate.OPERATION_DELETE)
    return Write(updates, conditions)


def _understood_delete(message: DeleteRelationshipsRequest) -> Delete:
    _require_modelled(bool(message.optional_limit) or not message.optional_allow_partial_deletions)
    wanted = _formed_filter(message, "relationship_filter")
    conditions = _formed_conditions(message.optional_preconditions)
    _require(message.optional_limit <= _MOST_DELETED)
    for each in (wanted, *(condition.filter for condition in conditions)):
        _require_sound(each)
    return Delete(wanted, conditions, message.optional_limit, message.optional_allow_partial_deletions)


def _understood_read(message: ReadRelationshipsRequest) -> Read:
    at = message.consistency.at_exact_snapshot.token
    _require_modelled(message.consistency.fully_consistent or bool(at))
    _require_modelled(not message.HasField("optional_cursor"))
    wanted = _formed_filter(message, "relationship_filter")
    _require_sound(wanted)
    if wanted.resource_type and wanted.relation and _SCHEMA[wanted.resource_type][wanted.relation].is_permission:
        raise _RefusedError(grpc.StatusCode.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_SCHEMA_TYPE_ERROR)
    return Read(wanted, message.optional_limit, at)


def _understood_check(message: CheckPermissionRequest) -> Check:
    _require_modelled(message.consistency.fully_consistent)
    _require_modelled(not message.HasField("context") and not message.subject.optional_relation)
    agent, subject = _formed_object(message.resource), _formed_object(message.subject.object)
    _require(agent[1] != _ANY_ID)
    _require_relation(agent[0], message.permission)
    _require_definition(subject[0])
    _require(subject[1] != _ANY_ID)
    _require_modelled((agent[0], message.permission) == ("agent", "update"))
    return Check(agent[1], subject)


def _understood_bulk(message: CheckBulkPermissionsRequest) -> Bulk:
    _require_modelled(message.consistency.fully_consistent)
    items = []
    for item in message.items:
        resource, subject = _formed_object(item.resource), _formed_object(item.subject.object)
        _require_relation(resource[0], item.permission)
        is_permission = _SCHEMA[resource[0]][item.permission].is_permission
        _require_modelled(not is_permission or (resource[0], item.permission) == ("agent", "update"))
        items.append((*resource, item.permission, *subject))
    return Bulk(tuple(items))


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


def _formed_conditions(preconditions: Iterable[Precondition]) -> tuple[Condition, ...]:
    conditions = []
    for precondition in preconditions:
        _require(precondition.operation in Precondition.Operation.values()[1:])
        must_match = precondition.operation == Precondition.OPERATION_MUST_MATCH
        conditions.append(Condition(_formed_filter(precondition, "filter"), must_match))
    return tuple(conditions)


def _formed_filter(request: Any, field: str) -> Filter:
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
    return Filter(
        message.resource_type,
        message.optional_resource_id,
        message.optional_resource_id_prefix,
        message.optional_relation,
        subject.subject_type,
        subject.optional_subject_id,
    )


def _require_sound(wanted: Filter) -> None:
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
