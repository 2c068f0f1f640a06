"""What SpiceDB does with relationships, as a function: a state and a request in, a state and a reply out.

The explorer drives the handlers against this; test_spicedb_model.py compares it with the engine. It knows
WriteRelationships, DeleteRelationships, ReadRelationships, the check of `update` on an agent, and bulk checks of that
and of relations, under the project's own schema, and answers in the engine's order: what is wrong with the request's
form and words (spicedb_requests.py), then with the data. What a request may hold besides raises NotImplementedError
rather than being passed over: caveats, relations of subjects, cursors, other permissions, and reads that are neither
fully consistent nor of an exact snapshot. Not looked at: the number of updates, and transaction metadata. Only limited
reads have a token in their replies. A limited delete removes those that come first when they are sorted; in the engine
it may be others.

Times are seconds since the epoch. A relationship is over when its expiry is earlier than `now`. It is not collected
then: it matches nothing and is not read, but CREATE trips over it and a delete removes and counts it. (Where the data
are in a database that collects it, CREATE succeeds from then on.)
"""

from functools import lru_cache
from typing import Any

import grpc
from authzed.api.v1 import (
    CheckBulkPermissionsResponse,
    CheckBulkPermissionsResponseItem,
    CheckPermissionResponse,
    DeleteRelationshipsResponse,
    ErrorReason,
    ObjectReference,
    ReadRelationshipsResponse,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsResponse,
    ZedToken,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from tests.explore.spicedb_requests import (
    Bulk,
    Check,
    Condition,
    Delete,
    Filter,
    Read,
    SpiceDBFailure,
    Tuple,
    Write,
    identity,
    understood,
)

State = frozenset[Tuple]
_PRECONDITION_FAILED = SpiceDBFailure(
    grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.Name(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE),
)
_TOO_MANY = SpiceDBFailure(
    grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.Name(ErrorReason.ERROR_REASON_TOO_MANY_RELATIONSHIPS_FOR_TRANSACTIONAL_DELETE),
)
_EXISTS_ALREADY = SpiceDBFailure(
    grpc.StatusCode.ALREADY_EXISTS, ErrorReason.Name(ErrorReason.ERROR_REASON_ATTEMPT_TO_RECREATE_RELATIONSHIP)
)
_WRITTEN = WriteRelationshipsResponse()
# By the token that a limited read gave.
_SNAPSHOTS: dict[str, State] = {}
_MAY = CheckPermissionResponse(permissionship=CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)
_MAY_NOT = CheckPermissionResponse(permissionship=CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION)
_BULK_MAY = CheckBulkPermissionsResponseItem(permissionship=_MAY.permissionship)
_BULK_MAY_NOT = CheckBulkPermissionsResponseItem(permissionship=_MAY_NOT.permissionship)


def apply(state: State, method: str, request: Any, now: float) -> tuple[State, Any]:
    """The state after a call, and its reply: the response, for ReadRelationships a list of them, or a SpiceDBFailure.

    Replies are shared between calls: do not change them.

    Raises:
        NotImplementedError: the request holds something that the model does not know.
    """
    question = understood(method, request.SerializeToString())
    match question:
        case Write():
            return _write(state, question, now)
        case Delete():
            return _delete(state, question, now)
        case Read():
            asked = _SNAPSHOTS[question.at] if question.at else state
            found = sorted(_live(asked, question.filter, now), key=identity)
            token = _token(asked) if question.limit else ""
            return state, [_as_read(one, token) for one in found[: question.limit or None]]
        case Check():
            return state, _checked(state, question)
        case Bulk():
            return state, _checked_all(state, question, now)
        case SpiceDBFailure():
            return state, question


def error(failure: SpiceDBFailure) -> grpc.RpcError:
    """What a client raises for a failure."""
    return _CallError(failure)


class _CallError(grpc.RpcError):
    def __init__(self, failure: SpiceDBFailure) -> None:
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
def _details(failure: SpiceDBFailure) -> bytes:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=failure.reason, domain="authzed.com"))
    details: bytes = Status(code=failure.code.value[0], details=[detail]).SerializeToString()
    return details


def _write(state: State, write: Write, now: float) -> tuple[State, Any]:
    if not all(_holds(state, condition, now) for condition in write.conditions):
        return state, _PRECONDITION_FAILED
    there = {identity(one): one for one in state}
    for operation, written in write.updates:
        if operation == RelationshipUpdate.OPERATION_CREATE and identity(written) in there:
            return state, _EXISTS_ALREADY
        if operation == RelationshipUpdate.OPERATION_DELETE:
            there.pop(identity(written), None)
        else:
            there[identity(written)] = written
    return frozenset(there.values()), _WRITTEN


def _delete(state: State, delete: Delete, now: float) -> tuple[State, Any]:
    if not all(_holds(state, condition, now) for condition in delete.conditions):
        return state, _PRECONDITION_FAILED
    removed = sorted(_matching(state, delete.filter), key=identity)
    if delete.limit and len(removed) > delete.limit and not delete.partial:
        return state, _TOO_MANY
    # The engine looks no further than the limit.
    is_partial = 0 < delete.limit <= len(removed)
    if is_partial:
        removed = removed[: delete.limit]
    return state.difference(removed), _as_deleted(len(removed), is_partial)


def _checked(state: State, check: Check) -> CheckPermissionResponse:
    may = any(("agent", check.agent_id, relation, *check.subject, None) in state for relation in ("owner", "editor"))
    return _MAY if may else _MAY_NOT


def _checked_all(state: State, bulk: Bulk, now: float) -> CheckBulkPermissionsResponse:
    there = {identity(one) for one in state if one[5] is None or one[5] >= now}
    response = CheckBulkPermissionsResponse()
    for resource_type, resource_id, relation, *subject in bulk.items:
        relations = ("owner", "editor") if (resource_type, relation) == ("agent", "update") else (relation,)
        may = any((resource_type, resource_id, each, *subject) in there for each in relations)
        response.pairs.add().item.CopyFrom(_BULK_MAY if may else _BULK_MAY_NOT)
    return response


def _holds(state: State, condition: Condition, now: float) -> bool:
    return bool(_live(state, condition.filter, now)) is condition.must_match


def _live(state: State, wanted: Filter, now: float) -> list[Tuple]:
    return [one for one in _matching(state, wanted) if one[5] is None or one[5] >= now]


def _matching(state: State, wanted: Filter) -> list[Tuple]:
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


def _token(state: State) -> str:
    """A token of the state, by which it can be read later."""
    token = str(hash(state))
    _SNAPSHOTS[token] = state
    return token


@lru_cache(4096)
def _as_read(one: Tuple, token: str) -> ReadRelationshipsResponse:
    resource_type, resource_id, relation, subject_type, subject_id, expires_at = one
    relationship = Relationship(
        resource=ObjectReference(object_type=resource_type, object_id=resource_id),
        relation=relation,
        subject=SubjectReference(object=ObjectReference(object_type=subject_type, object_id=subject_id)),
    )
    if expires_at is not None:
        relationship.optional_expires_at.FromMicroseconds(round(expires_at * 1_000_000))
    return ReadRelationshipsResponse(relationship=relationship, read_at=ZedToken(token=token) if token else None)


@lru_cache
def _as_deleted(count: int, is_partial: bool) -> DeleteRelationshipsResponse:
    return DeleteRelationshipsResponse(
        deletion_progress=DeleteRelationshipsResponse.DELETION_PROGRESS_PARTIAL
        if is_partial
        else DeleteRelationshipsResponse.DELETION_PROGRESS_COMPLETE,
        relationships_deleted_count=count,
    )
