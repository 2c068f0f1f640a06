"""SpiceDB's messages, made from ids and subjects."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsRequestItem,
    CheckPermissionRequest,
    Consistency,
    Cursor,
    DeleteRelationshipsRequest,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectFilter,
    SubjectReference,
    WriteRelationshipsRequest,
    ZedToken,
)

from saga_core import ids
from saga_core.ids import Subject

SCHEDULE = "agent_schedule"
# The most relationships that a delete with a limit may remove.
BATCH = 1000
# The relations that can have any number of subjects.
GRANTS = ("viewer", "editor", "owner")
TRIGGER_REQUEST = "trigger_request"
FULLY_CONSISTENT = Consistency(fully_consistent=True)


def register(
    schedule_id: str, agent_id: str, creator: Subject, registration: str, execution_id: str, lease_ends_at: datetime
) -> WriteRelationshipsRequest:
    """Write owner, ``parent_agent``, fence and lease, if the schedule has no relationship at all.

    The transaction's metadata names the operation, for audit.
    """
    fence = Subject("registration", registration)
    request = WriteRelationshipsRequest(
        updates=[
            touch(schedule_id, "owner", creator),
            touch(schedule_id, "parent_agent", Subject("agent", agent_id)),
            touch(schedule_id, "registered_by", fence),
            touch(schedule_id, "creating", fence, lease_ends_at),
        ],
        optional_preconditions=[must_not_match(schedule_id)],
    )
    request.optional_transaction_metadata.update({"request_id": registration, "execution_id": execution_id})
    return request


def register_existing(schedule_id: str, owner: Subject, registration: str) -> WriteRelationshipsRequest:
    """Write owner, ``parent_agent`` and fence of a schedule that exists, if it has no relationship at all."""
    agent_id, _ = ids.split_schedule_id(schedule_id)
    request = WriteRelationshipsRequest(
        updates=[
            touch(schedule_id, "owner", owner),
            touch(schedule_id, "parent_agent", Subject("agent", agent_id)),
            touch(schedule_id, "registered_by", Subject("registration", registration)),
        ],
        optional_preconditions=[must_not_match(schedule_id)],
    )
    request.optional_transaction_metadata.update({"request_id": registration, "reconciled": True})
    return request


def add(
    schedule_id: str, relation: str, subject: Subject, preconditions: Sequence[Precondition]
) -> WriteRelationshipsRequest:
    """Write one relationship of the schedule, under the preconditions."""
    request = WriteRelationshipsRequest(
        updates=[touch(schedule_id, relation, subject)], optional_preconditions=preconditions
    )
    request.optional_transaction_metadata.update({"reconciled": True})
    return request


def sweep(prefix: str, size: int, cursor: Cursor | None) -> ReadRelationshipsRequest:
    """Read a page of the relationships of all schedules whose ids begin with the prefix."""
    return ReadRelationshipsRequest(
        consistency=FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id_prefix=prefix),
        optional_limit=size,
        optional_cursor=cursor,
    )


def read_relation(schedule_id: str, relation: str, size: int) -> ReadRelationshipsRequest:
    """Read the relationships of one relation of the schedule, at most so many."""
    return ReadRelationshipsRequest(
        consistency=FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(
            resource_type=SCHEDULE, optional_resource_id=_required(schedule_id), optional_relation=relation
        ),
        optional_limit=size,
    )


def restore(schedule_id: str, registration: str, memo_registration: str) -> WriteRelationshipsRequest:
    """Replace this operation's fence and lease by the fence in a memo, if the fence is there."""
    fence = Subject("registration", registration)
    request = WriteRelationshipsRequest(
        updates=[
            _untouch(schedule_id, "registered_by", fence),
            _untouch(schedule_id, "creating", fence),
            touch(schedule_id, "registered_by", Subject("registration", memo_registration)),
        ],
        optional_preconditions=[must_match(schedule_id, "registered_by", registration)],
    )
    request.optional_transaction_metadata.update({"request_id": registration, "restored": memo_registration})
    return request


def end_lease(schedule_id: str, registration: str) -> WriteRelationshipsRequest:
    """Remove the lease of this operation, wherever it stands."""
    return WriteRelationshipsRequest(updates=[_untouch(schedule_id, "creating", Subject("registration", registration))])


def read_registrations(schedule_id: str, at: ZedToken | None = None) -> ReadRelationshipsRequest:
    """Read the fence and the lease of the schedule: nothing else has a registration as its subject.

    As of now, or as of another read's ``read_at``.
    """
    return ReadRelationshipsRequest(
        consistency=Consistency(at_exact_snapshot=at) if at else FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(
            resource_type=SCHEDULE,
            optional_resource_id=_required(schedule_id),
            optional_subject_filter=SubjectFilter(subject_type="registration"),
        ),
    )


def read_any(schedule_id: str) -> ReadRelationshipsRequest:
    """Read one relationship of the schedule, if there is any."""
    return ReadRelationshipsRequest(
        consistency=FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id=_required(schedule_id)),
        optional_limit=1,
    )


def open_trigger_request(
    record_id: str, schedule_id: str, registration: str, expires_at: datetime
) -> WriteRelationshipsRequest:
    """Record a trigger as open, if it has no record and ``registration`` is the schedule's fence."""
    return WriteRelationshipsRequest(
        updates=[touch(record_id, "open", Subject("registration", registration), expires_at, of=TRIGGER_REQUEST)],
        optional_preconditions=[
            must_not_match(record_id, of=TRIGGER_REQUEST),
            must_match(schedule_id, "registered_by", registration),
        ],
    )


def finish_trigger_request(record_id: str, registration: str, expires_at: datetime) -> WriteRelationshipsRequest:
    """Turn the record of a trigger from open to done, if it is open under ``registration``."""
    fence = Subject("registration", registration)
    return WriteRelationshipsRequest(
        updates=[
            touch(record_id, "done", fence, expires_at, of=TRIGGER_REQUEST),
            _untouch(record_id, "open", fence, of=TRIGGER_REQUEST),
        ],
        optional_preconditions=[must_match(record_id, "open", registration, of=TRIGGER_REQUEST)],
    )


def remove_trigger_request(record_id: str, registration: str) -> DeleteRelationshipsRequest:
    """Delete the record of a trigger, if it is open under ``registration``."""
    return delete(record_id, [must_match(record_id, "open", registration, of=TRIGGER_REQUEST)], of=TRIGGER_REQUEST)


def read(object_id: str, *, of: str = SCHEDULE) -> ReadRelationshipsRequest:
    """Read every relationship of the schedule, or of another object."""
    return ReadRelationshipsRequest(
        consistency=FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(resource_type=of, optional_resource_id=_required(object_id)),
    )


def delete(object_id: str, preconditions: Sequence[Precondition], *, of: str = SCHEDULE) -> DeleteRelationshipsRequest:
    """Delete every relationship of the schedule, or of another object, under the preconditions.

    Where they are more than a batch, SpiceDB refuses.
    """
    return DeleteRelationshipsRequest(
        relationship_filter=RelationshipFilter(resource_type=of, optional_resource_id=_required(object_id)),
        optional_preconditions=preconditions,
        optional_limit=BATCH,
    )


def delete_batch(schedule_id: str, relation: str, preconditions: Sequence[Precondition]) -> DeleteRelationshipsRequest:
    """Delete a batch of the relationships of one relation of the schedule, under the preconditions."""
    return DeleteRelationshipsRequest(
        relationship_filter=RelationshipFilter(
            resource_type=SCHEDULE, optional_resource_id=_required(schedule_id), optional_relation=relation
        ),
        optional_preconditions=preconditions,
        optional_limit=BATCH,
        optional_allow_partial_deletions=True,
    )


def check(object_type: str, object_id: str, permission: str, subject: Subject) -> CheckPermissionRequest:
    """Check one permission of the subject."""
    return CheckPermissionRequest(
        consistency=FULLY_CONSISTENT,
        resource=_resource(object_type, object_id),
        permission=permission,
        subject=_reference(subject),
    )


def check_each(
    schedule_ids: Sequence[str], permissions: Iterable[str], subject: Subject
) -> CheckBulkPermissionsRequest:
    """Check each of the permissions of the subject on each of the schedules."""
    return check_all(
        (SCHEDULE, schedule_id, permission, subject) for schedule_id in schedule_ids for permission in permissions
    )


def check_all(asked: Iterable[tuple[str, str, str, Subject]]) -> CheckBulkPermissionsRequest:
    """Check each (object type, object id, relation or permission, subject), in this order."""
    return CheckBulkPermissionsRequest(
        consistency=FULLY_CONSISTENT,
        items=[
            CheckBulkPermissionsRequestItem(
                resource=_resource(object_type, object_id), permission=permission, subject=_reference(subject)
            )
            for object_type, object_id, permission, subject in asked
        ],
    )


def touch(
    object_id: str, relation: str, subject: Subject, expires_at: datetime | None = None, *, of: str = SCHEDULE
) -> RelationshipUpdate:
    """Write one relationship of the schedule, or of another object, whether or not it is there.

    Not CREATE, which fails on an expired one that is not collected yet. The precondition guards against the rest.
    """
    relationship = _relationship(object_id, relation, subject, of)
    if expires_at:
        relationship.optional_expires_at.FromDatetime(expires_at)
    return RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)


def _untouch(object_id: str, relation: str, subject: Subject, *, of: str = SCHEDULE) -> RelationshipUpdate:
    """Delete one relationship of the schedule, or of another object, whether or not it is there."""
    relationship = _relationship(object_id, relation, subject, of)
    return RelationshipUpdate(operation=RelationshipUpdate.OPERATION_DELETE, relationship=relationship)


def _relationship(object_id: str, relation: str, subject: Subject, of: str) -> Relationship:
    return Relationship(resource=_resource(of, object_id), relation=relation, subject=_reference(subject))


def must_match(object_id: str, relation: str, registration: str, *, of: str = SCHEDULE) -> Precondition:
    """The schedule, or another object, has the relation to this registration."""
    return must_match_subject(object_id, relation, Subject("registration", registration), of=of)


def must_match_subject(object_id: str, relation: str, subject: Subject, *, of: str = SCHEDULE) -> Precondition:
    """The schedule, or another object, has the relation to this subject."""
    return Precondition(
        operation=Precondition.OPERATION_MUST_MATCH,
        filter=RelationshipFilter(
            resource_type=of,
            optional_resource_id=_required(object_id),
            optional_relation=relation,
            optional_subject_filter=SubjectFilter(subject_type=subject.type, optional_subject_id=_required(subject.id)),
        ),
    )


def must_not_match(object_id: str, relation: str = "", *, of: str = SCHEDULE) -> Precondition:
    """The schedule, or another object, has no such relation, to any subject; by default no relationship at all."""
    return Precondition(
        operation=Precondition.OPERATION_MUST_NOT_MATCH,
        filter=RelationshipFilter(
            resource_type=of, optional_resource_id=_required(object_id), optional_relation=relation
        ),
    )


def _resource(object_type: str, object_id: str) -> ObjectReference:
    return ObjectReference(object_type=object_type, object_id=_required(object_id))


def _reference(subject: Subject) -> SubjectReference:
    return SubjectReference(object=_resource(subject.type, subject.id))


def _required(object_id: str) -> str:
    # An empty id in a filter widens it to every object of the type.
    if not object_id:
        raise ValueError("an object id must not be empty")
    return object_id
