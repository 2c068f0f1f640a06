"""An HTTP API of the usual shape that asks both engines: Powertools' resolver, with validation."""

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

from bench.plain import spicedb, temporal

app = APIGatewayHttpResolver(enable_validation=True)


@app.get("/agents/<agent_id>/schedules")
def schedules(agent_id: str) -> dict[str, Any]:
    """Whether the user may update the agent, and a schedule."""
    asked = {"agent_id": agent_id, "user_id": "alice"}
    allowed = spicedb.handler(asked, app.lambda_context)
    found = temporal.loop.run_until_complete(temporal.describe(temporal.Request(agent_id=agent_id)))
    return {**allowed, "found": found}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Respond to an HTTP API request."""
    return app.resolve(event, context)
