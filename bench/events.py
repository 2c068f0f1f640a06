"""The events that the functions get: those of events/, for a schedule that nobody has used yet."""

import json
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from local.stack import clients
from local.stack.endpoints import Endpoints

AGENT, OWNER = "weather-agent", "alice"


def event(verb: str, root: Path) -> dict[str, Any]:
    """The sample event of a checkout for a function, with another schedule and registration each time."""
    text = _sample(root / "events" / f"{verb}.json")
    found: dict[str, Any] = json.loads(text.replace("daily-report", f"daily-{uuid.uuid4().hex[:12]}"))
    if "registration" in found:
        found["registration"] = uuid.uuid4().hex * 2
    if verb == "reconcile":  # one agent's schedules: the others of a run are more with every part of it
        found["shard"]["prefix"] = f"agent-{uuid.uuid4().hex[:12]}"
    return found


def prepare(endpoints: Endpoints) -> None:
    """Let the events' user own their agent."""
    clients.own_agent(clients.spicedb(endpoints), AGENT, OWNER)


@cache
def _sample(path: Path) -> str:
    return path.read_text()


def creation(name: str) -> str:
    """The input of a create, as JSON text."""
    schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
    return json.dumps({"agent_id": AGENT, "schedule": schedule, "principal": {"user_id": OWNER}})


def deletion(name: str) -> str:
    """The input of a delete, as JSON text."""
    return json.dumps({"agent_id": AGENT, "schedule_name": name})
