"""Clients for the parts of the laptop stack, and the calls that several programs make with them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
from authzed.api.v1 import (
    Consistency,
    InsecureClient,
    ObjectReference,
    ReadRelationshipsRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from botocore.config import Config
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode

from local.stack.endpoints import NAMESPACE, REGION, SPICEDB_TOKEN, Endpoints

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

RPC_SECONDS = 5.0


def stepfunctions(endpoints: Endpoints) -> "SFNClient":
    """A client of the local Step Functions."""
    return boto3.client(
        "stepfunctions",
        endpoint_url=endpoints.aws,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - the local server does not check signatures
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=330),
    )


def spicedb(endpoints: Endpoints) -> InsecureClient:
    """A client of the local SpiceDB."""
    return InsecureClient(endpoints.spicedb, SPICEDB_TOKEN)


async def temporal(endpoints: Endpoints) -> Client:
    """A client of the local Temporal."""
    return await Client.connect(endpoints.temporal, namespace=NAMESPACE)


async def described(client: Client, schedule_id: str) -> ScheduleDescription | None:
    """A schedule in Temporal; None if Temporal has no such schedule."""
    try:
        return await client.get_schedule_handle(schedule_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def own_agent(client: InsecureClient, agent_id: str, user_id: str) -> None:
    """Make the user the owner of the agent."""
    owner = Relationship(
        resource=ObjectReference(object_type="agent", object_id=agent_id),
        relation="owner",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id=user_id)),
    )
    update = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=owner)
    client.WriteRelationships(WriteRelationshipsRequest(updates=[update]), timeout=RPC_SECONDS)


def relationships(client: InsecureClient, schedule_id: str) -> Iterator[str]:
    """Every relationship of a schedule, sorted, as ``resource#relation@subject`` or ``…@subject[expires time]``."""
    request = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id),
    )
    responses = client.ReadRelationships(request, timeout=RPC_SECONDS)
    yield from sorted(_text(response.relationship) for response in responses)


def _text(r: Relationship) -> str:
    subject = f"{r.subject.object.object_type}:{r.subject.object.object_id}"
    expiry = f"[expires {r.optional_expires_at.ToJsonString()}]" if r.HasField("optional_expires_at") else ""
    return f"{r.resource.object_type}:{r.resource.object_id}#{r.relation}@{subject}{expiry}"
