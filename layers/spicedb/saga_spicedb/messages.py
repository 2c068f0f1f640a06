"""SpiceDB's messages, made from ids and subjects."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsRequestItem,
    CheckPermissionRequest,
    Consistency,
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
)

from saga_core.ids import Subject

SCHEDULE = "agent_schedule"
_FULLY_CONSISTENT = Consistency(fully_consistent=True)


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


def read(schedule_id: str) -> ReadRelationshipsRequest:
    """Read every relationship of the schedule."""
    return ReadRelationshipsRequest(
        consistency=_FULLY_CONSISTENT,
        relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id=_required(schedule_id)),
    )


def delete(schedule_id: str, preconditions: Sequence[Precondition]) -> DeleteRelationshipsRequest:
    """Delete every relationship of the schedule, under the preconditions."""
    return DeleteRelationshipsRequest(
        relationship_filter=RelationshipFilter(resource_type=SCHEDULE, optional_resource_id=_required(schedule_id)),
        optional_preconditions=preconditions,
    )


def check(object_type: str, object_id: str, permission: str, subject: Subject) -> CheckPermissionRequest:
    """Check one permission of the subject."""
    return CheckPermissionRequest(
        consistency=_FULLY_CONSISTENT,
        resource=ObjectReference(object_type=object_type, object_id=_required(object_id)),
        permission=permission,
        subject=_reference(subject),
    )


def check_each(
    schedule_ids: Sequence[str], permissions: Iterable[str], subject: Subject
) -> CheckBulkPermissionsRequest:
    """Check each of the permissions of the subject on each of the schedules."""
    return CheckBulkPermissionsRequest(
        consistency=_FULLY_CONSISTENT,
        items=[
            CheckBulkPermissionsRequestItem(
                resource=ObjectReference(object_type=SCHEDULE, object_id=_required(schedule_id)),
                permission=permission,
                subject=_reference(subject),
            )
            for schedule_id in schedule_ids
            for permission in permissions
        ],
    )


def touch(schedule_id: str, relation: str, subject: Subject, expires_at: datetime | None = None) -> RelationshipUpdate:
    """Write one relationship of the schedule, whether or not it is there.

    Not CREATE, which fails on an expired lease that is not collected yet. The precondition guards against the rest.
    """
    relationship = Relationship(
        resource=ObjectReference(object_type=SCHEDULE, object_id=_required(schedule_id)),
        relation=relation,
        subject=_reference(subject),
    )
    if expires_at:
        relationship.optional_expires_at.FromDatetime(expires_at)
    return RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)


def must_match(schedule_id: str, relation: str, registration: str) -> Precondition:
    """The schedule has the relation to this registration."""
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


def must_not_match(schedule_id: str, relation: str = "") -> Precondition:
    """The schedule has no such relation, to any subject; by default no relationship at all."""
    return Precondition(
        operation=Precondition.OPERATION_MUST_NOT_MATCH,
        filter=RelationshipFilter(
            resource_type=SCHEDULE, optional_resource_id=_required(schedule_id), optional_relation=relation
        ),
    )


def _reference(subject: Subject) -> SubjectReference:
    return SubjectReference(object=ObjectReference(object_type=subject.type, object_id=_required(subject.id)))


def _required(object_id: str) -> str:
    # An empty id in a filter widens it to every object of the type.
    if not object_id:
        raise ValueError("an object id must not be empty")
    return object_id
