"""A Lambda function of the usual shape that asks SpiceDB: it imports all at its top, and makes its clients once."""

import os
from functools import cache
from typing import Any

import boto3
from authzed.api.v1 import CheckPermissionRequest, Client, InsecureClient, ObjectReference, SubjectReference
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from grpcutil import bearer_token_credentials
from pydantic import BaseModel

logger, metrics = Logger(), Metrics()
secrets = boto3.client("secretsmanager")


class Request(BaseModel):
    """What it is asked."""

    agent_id: str
    user_id: str


@cache
def client() -> Client | InsecureClient:
    """The client, with the token of the secret."""
    token = secrets.get_secret_value(SecretId=os.environ["SPICEDB_TOKEN_SECRET"])["SecretString"]
    if os.environ["SPICEDB_TLS"] == "false":
        return InsecureClient(os.environ["SPICEDB_ENDPOINT"], token)
    return Client(os.environ["SPICEDB_ENDPOINT"], bearer_token_credentials(token))


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Whether the user may update the agent."""
    request = Request.model_validate(event)
    response = client().CheckPermission(
        CheckPermissionRequest(
            resource=ObjectReference(object_type="agent", object_id=request.agent_id),
            permission="update",
            subject=SubjectReference(object=ObjectReference(object_type="user", object_id=request.user_id)),
        ),
        timeout=3,
    )
    metrics.add_metric("Checked", MetricUnit.Count, 1)
    logger.info("checked")
    return {"permissionship": int(response.permissionship)}
