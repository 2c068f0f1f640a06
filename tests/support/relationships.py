"""Reads and writes relationships straight in SpiceDB, past the proxies, as an operator does.

A relationship is a text, ``resource:id#relation@subject:id``; its ids are already encoded.
"""

from datetime import datetime

from authzed.api.v1 import (
    Consistency,
    DeleteRelationshipsRequest,
    InsecureClient,
    ObjectReference,
    ReadRelationshipsRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)

_RPC_SECONDS = 10.0
_READ_SECONDS = 60.0  # of any number of relationships


def touch(client: InsecureClient, *texts: str, expires_at: datetime | None = None) -> None:
    """Write relationships in one transaction; those that exist already stay. All expire at ``expires_at``, if given."""
    _write(client, RelationshipUpdate.OPERATION_TOUCH, texts, expires_at)


def remove(client: InsecureClient, *texts: str) -> None:
    """Remove relationships in one transaction; those that do not exist are ignored."""
    _write(client, RelationshipUpdate.OPERATION_DELETE, texts, None)


def all_of(client: InsecureClient, resource_type: str = "agent_schedule") -> dict[str, set[str]]:
    """Every relationship of the objects of a type: ``relation@subject:id``, by the object's id."""
    everything = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(resource_type=resource_type),
    )
    found: dict[str, set[str]] = {}
    for response in client.ReadRelationships(everything, timeout=_RPC_SECONDS):
        relationship, subject = response.relationship, response.relationship.subject.object
        of_object = found.setdefault(relationship.resource.object_id, set())
        of_object.add(f"{relationship.relation}@{subject.object_type}:{subject.object_id}")
    return found


def remove_all(client: InsecureClient, *, schedule_id: str = "", relation: str = "") -> None:
    """Remove every relationship of a schedule, or with one relation on any schedule."""
    found = RelationshipFilter(
        resource_type="agent_schedule", optional_resource_id=schedule_id, optional_relation=relation
    )
    client.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=found), timeout=_RPC_SECONDS)


def count(client: InsecureClient, schedule_id: str, relation: str) -> int:
    """How many subjects have a relation on a schedule."""
    request = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(
            resource_type="agent_schedule", optional_resource_id=schedule_id, optional_relation=relation
        ),
    )
    return sum(1 for _ in client.ReadRelationships(request, timeout=_READ_SECONDS))


def _write(
    client: InsecureClient,
    operation: RelationshipUpdate.Operation.ValueType,
    texts: tuple[str, ...],
    expires_at: datetime | None,
) -> None:
    updates = [RelationshipUpdate(operation=operation, relationship=_parsed(text, expires_at)) for text in texts]
    client.WriteRelationships(WriteRelationshipsRequest(updates=updates), timeout=_RPC_SECONDS)


def _parsed(text: str, expires_at: datetime | None) -> Relationship:
    resource, _, rest = text.partition("#")
    relation, _, subject = rest.partition("@")
    relationship = Relationship(
        resource=_object(resource), relation=relation, subject=SubjectReference(object=_object(subject))
    )
    if expires_at is not None:
        relationship.optional_expires_at.FromDatetime(expires_at)
    return relationship


def _object(text: str) -> ObjectReference:
    object_type, _, object_id = text.partition(":")
    return ObjectReference(object_type=object_type, object_id=object_id)
