"""What the tests share that make the same calls to an engine and to its model, and compare the results.

CONFORMANCE=20 makes twenty times as many sequences of calls.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from saga_core.deadlines import Deadline
from saga_core.errors import SagaError
from saga_core.requests import CreateRequest

TIMES = int(os.environ.get("CONFORMANCE") or 1)
RPC_SECONDS = 5.0
NO_DEADLINE = Deadline(ends_at=float("inf"), per_call=RPC_SECONDS)
REGISTRATIONS = ["one", "two"]


class Call(NamedTuple):
    """Something to do with an engine, or with the model in its place; the results can be compared."""

    description: str
    make: Callable[[Any], Any]


def outcome(act: Callable[[], Any]) -> Any:
    """What a gateway's method returns, or the type of the error that it raises."""
    try:
        return act()
    except SagaError as error:
        return type(error)


def create_request(agent_id: str, creator: dict[str, str] | None, name: str, **schedule: Any) -> CreateRequest:
    """A create request; None for nobody as its creator."""
    schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", **schedule}
    return CreateRequest.parse({"agent_id": agent_id, "schedule": schedule, "principal": creator})
