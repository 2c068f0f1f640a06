"""Reads and writes the schema of a SpiceDB, and finds the relationships that a merge would orphan."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

import grpc
from authzed.api.v1 import (
    Consistency,
    Cursor,
    ReadRelationshipsRequest,
    ReadSchemaRequest,
    Relationship,
    RelationshipFilter,
    SubjectFilter,
    WriteSchemaRequest,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from authzed.api.v1.schema_service_pb2_grpc import SchemaServiceStub

from tools.schema.merge import Refused, Removal
from tools.schema.zed import SubjectType

if TYPE_CHECKING:
    from collections.abc import Iterator

RPC_SECONDS = 10.0
COUNT_UP_TO = 1000  # relationships that a removal would orphan; also the size of a page
EXAMPLES = 3
_OUTCOME_UNKNOWN = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


class Server:
    """A connection to one SpiceDB. Every call raises Refused, with one clear line, when it fails."""

    def __init__(self, endpoint: str, token: str, *, tls: bool, ca: bytes | None = None) -> None:
        """`endpoint` is host:port. `ca` is the PEM of the authorities to trust instead of the system's."""
        self._endpoint = endpoint
        self._tls = tls
        self._metadata = (("authorization", f"Bearer {token}"),)
        credentials = grpc.ssl_channel_credentials(ca) if tls else None
        self._channel = grpc.secure_channel(endpoint, credentials) if credentials else grpc.insecure_channel(endpoint)
        self._schema = SchemaServiceStub(self._channel)
        self._permissions = PermissionsServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def read(self) -> str:
        """The text of the schema, empty if there is none yet."""
        try:
            response = self._schema.ReadSchema(ReadSchemaRequest(), timeout=RPC_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            if _code(error) is grpc.StatusCode.NOT_FOUND:
                return ""
            raise self._refused(error) from error
        return str(response.schema_text)

    def write(self, text: str) -> None:
        """Replace the whole schema."""
        request = WriteSchemaRequest(schema=text)
        try:
            self._schema.WriteSchema(request, timeout=RPC_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            if _code(error) in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}:
                raise Refused(f"SpiceDB refuses the merged schema: {_details(error)}") from error
            if _code(error) in _OUTCOME_UNKNOWN:
                lost = f"the response to the write was lost ({_code(error).name})"
                raise Refused(f"{lost}: the schema may be written; run this again") from error
            raise self._refused(error) from error

    def relationships(self, removal: Removal) -> Iterator[Relationship]:
        """The relationships that a removal would orphan, page by page."""
        types = {re.split("[:#]", subject.type)[0] for subject in removal.subjects}
        for subject_type in sorted(types) or [""]:
            wanted = RelationshipFilter(resource_type=removal.definition, optional_relation=removal.relation)
            if subject_type:
                wanted.optional_subject_filter.CopyFrom(SubjectFilter(subject_type=subject_type))
            for relationship in self._pages(wanted):
                if not removal.subjects or _subject_of(relationship) in removal.subjects:
                    yield relationship

    def _pages(self, wanted: RelationshipFilter) -> Iterator[Relationship]:
        cursor: Cursor | None = None
        while True:
            request = ReadRelationshipsRequest(
                consistency=Consistency(fully_consistent=True),
                relationship_filter=wanted,
                optional_limit=COUNT_UP_TO,
                optional_cursor=cursor,
            )
            received = 0
            try:
                for response in self._permissions.ReadRelationships(
                    request, timeout=RPC_SECONDS, metadata=self._metadata
                ):
                    received += 1
                    cursor = response.after_result_cursor
                    yield response.relationship
            except grpc.RpcError as error:
                raise self._refused(error) from error
            if received < COUNT_UP_TO:
                return

    def _refused(self, error: grpc.RpcError) -> Refused:
        code = _code(error)
        if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            return Refused(f"SpiceDB at {self._endpoint} does not accept this token ({code.name})")
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            hint = " (without TLS? then pass --insecure)" if self._tls else ""
            return Refused(f"cannot reach SpiceDB at {self._endpoint}: {_details(error)}{hint}")
        return Refused(f"SpiceDB at {self._endpoint} returned {code.name}: {_details(error)}")


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


def _details(error: grpc.RpcError) -> str:
    """The server's message, on one line."""
    return " ".join((error.details() or "").split()) if isinstance(error, grpc.Call) else str(error)


def _subject_of(relationship: Relationship) -> SubjectType:
    """The subject type of the relation that a relationship uses."""
    subject = relationship.subject
    type_ = subject.object.object_type
    if subject.optional_relation:
        type_ += f"#{subject.optional_relation}"
    elif subject.object.object_id == "*":
        type_ += ":*"
    demands = [relationship.optional_caveat.caveat_name] if relationship.HasField("optional_caveat") else []
    if relationship.HasField("optional_expires_at"):
        demands.append("expiration")
    return SubjectType(type_, " and ".join(demands))


def orphans(server: Server, removals: list[Removal]) -> list[str]:
    """A line for each removal that would orphan relationships, with their number and the first few."""
    lines = []
    for removal in removals:
        found = list(islice(server.relationships(removal), COUNT_UP_TO))
        if found:
            what = f"{removal.definition}#{removal.relation}"
            if removal.subjects:
                what += ": " + " | ".join(sorted(map(str, removal.subjects)))
            count = f"{len(found)}{' or more' if len(found) == COUNT_UP_TO else ''}"
            examples = ", ".join(_written(relationship) for relationship in found[:EXAMPLES])
            lines.append(f"{what} would orphan {count} relationship{'s' * (len(found) > 1)}: {examples}")
    return lines


def _written(relationship: Relationship) -> str:
    resource, subject = relationship.resource, relationship.subject
    text = f"{resource.object_type}:{resource.object_id}#{relationship.relation}@"
    text += f"{subject.object.object_type}:{subject.object.object_id}"
    return text + (f"#{subject.optional_relation}" if subject.optional_relation else "")
