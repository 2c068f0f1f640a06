"""Where the parts of the laptop stack answer, and clients for them.

| part                     | address               | moved by         |
|--------------------------|-----------------------|------------------|
| HTTP API                 | http://127.0.0.1:3000 | API_PORT         |
| Step Functions, Lambda   | http://127.0.0.1:8083 | AWS_LOCAL_PORT   |
| SpiceDB (token `local`)  | 127.0.0.1:50051       | SPICEDB_PORT     |
| Temporal                 | 127.0.0.1:7233        | TEMPORAL_PORT    |
| Temporal's web interface | http://127.0.0.1:8233 | TEMPORAL_UI_PORT |
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
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
from temporalio.client import Client

from local.process import HOST, StartError
from local.template import ACCOUNT, REGION

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

SPICEDB_TOKEN = "local"  # noqa: S105 - the laptop's, known to everybody
NAMESPACE = "default"
RPC_SECONDS = 5.0


@dataclass(frozen=True)
class Endpoints:
    """The ports of one running stack, all on 127.0.0.1."""

    api_port: int = 3000
    aws_port: int = 8083
    spicedb_port: int = 50051
    temporal_port: int = 7233
    temporal_ui_port: int = 8233

    @classmethod
    def from_environment(cls) -> "Endpoints":
        """The ports that the environment names, or else the defaults.

        Raises:
            StartError: a variable holds no port number.
        """
        return cls(
            api_port=_port("API_PORT", cls.api_port),
            aws_port=_port("AWS_LOCAL_PORT", cls.aws_port),
            spicedb_port=_port("SPICEDB_PORT", cls.spicedb_port),
            temporal_port=_port("TEMPORAL_PORT", cls.temporal_port),
            temporal_ui_port=_port("TEMPORAL_UI_PORT", cls.temporal_ui_port),
        )

    @property
    def api(self) -> str:
        """URL of the HTTP API."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def aws(self) -> str:
        """boto3's ``endpoint_url``."""
        return f"http://{HOST}:{self.aws_port}"

    @property
    def spicedb(self) -> str:
        """``host:port`` of SpiceDB."""
        return f"{HOST}:{self.spicedb_port}"

    @property
    def temporal(self) -> str:
        """``host:port`` of Temporal."""
        return f"{HOST}:{self.temporal_port}"

    def stepfunctions(self) -> "SFNClient":
        """A client of the local Step Functions."""
        return boto3.client(
            "stepfunctions",
            endpoint_url=self.aws,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the local server checks no signature
            config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=330),
        )

    def spicedb_client(self) -> InsecureClient:
        """A client of the local SpiceDB."""
        return InsecureClient(self.spicedb, SPICEDB_TOKEN)

    async def temporal_client(self) -> Client:
        """A client of the local Temporal."""
        return await Client.connect(self.temporal, namespace=NAMESPACE)


def state_machine_arn(name: str) -> str:
    """The ARN of a state machine of the local stack."""
    return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"


def bypass_proxies() -> None:
    """From here on this process, and those that it starts, ask none of the environment's HTTP proxies for 127.0.0.1.

    gRPC and boto3 would.
    """
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))


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
    """Every relationship of a schedule, as ``resource#relation@subject``, sorted; an expiry stands in brackets."""
    request = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id),
    )
    replies = client.ReadRelationships(request, timeout=RPC_SECONDS)
    yield from sorted(_text(reply.relationship) for reply in replies)


def _text(r: Relationship) -> str:
    subject = f"{r.subject.object.object_type}:{r.subject.object.object_id}"
    expiry = f"[expires {r.optional_expires_at.ToJsonString()}]" if r.HasField("optional_expires_at") else ""
    return f"{r.resource.object_type}:{r.resource.object_id}#{r.relation}@{subject}{expiry}"


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65_536:
        raise StartError(f"{variable}={value} is no port number (1 to 65535)")
    return int(value)
