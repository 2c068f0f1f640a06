"""A Lambda function of the usual shape that asks Temporal: it imports all at its top, and makes its clients once."""

import asyncio
import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.service import RPCError

logger, metrics = Logger(), Metrics()
secrets = boto3.client("secretsmanager")
loop = asyncio.new_event_loop()
clients: list[Client] = []


class Request(BaseModel):
    """What it is asked."""

    agent_id: str


async def describe(request: Request) -> str:
    """How Temporal describes a schedule."""
    if not clients:
        key = secrets.get_secret_value(SecretId=os.environ["TEMPORAL_API_KEY_SECRET"])["SecretString"]
        clients.append(
            await Client.connect(
                os.environ["TEMPORAL_ADDRESS"],
                namespace=os.environ["TEMPORAL_NAMESPACE"],
                api_key=key,
                tls=os.environ["TEMPORAL_TLS"] == "true",
            )
        )
    try:
        return (await clients[0].get_schedule_handle(request.agent_id).describe()).id
    except RPCError as error:
        return error.status.name


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Describe a schedule."""
    found = loop.run_until_complete(describe(Request.model_validate(event)))
    metrics.add_metric("Described", MetricUnit.Count, 1)
    logger.info("described")
    return {"found": found}
