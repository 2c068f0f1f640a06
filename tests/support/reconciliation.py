"""A reconciliation as its state machine runs it, one shard after another and without a Step Functions."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from saga_reconcile.steps import handler

REMAINING_SECONDS = 120  # the function's Timeout in template.yaml


class _Context:
    """A new invocation."""

    function_name = "agent-schedule-reconcile"
    aws_request_id = "reconciled"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return REMAINING_SECONDS * 1000


def step(do: str, request: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """What the function returns for one step, as the machine gets it."""
    result: dict[str, Any] = json.loads(
        json.dumps(handler({"execution_id": "arn", "do": do, "request": request, **fields}, _Context()))
    )
    return result


def swept(
    shard: Mapping[str, Any], request: Mapping[str, Any], on_invocation: Callable[[Any], object] = lambda _: None
) -> dict[str, Any]:
    """The sweep of a shard, with as many invocations as it takes; ``on_invocation`` gets what each one returned."""
    result: dict[str, Any] = {"position": None, "tally": None}
    while True:
        fields = {"position": result["position"], "tally": result["tally"]}
        result = step("sweep", request, shard=shard, **fields)
        on_invocation(result)
        if result["position"] is None:
            return {"prefix": result["prefix"], "tally": result["tally"]}


def reconciled(request: Mapping[str, Any], on_invocation: Callable[[Any], object] = lambda _: None) -> dict[str, Any]:
    """The output of a run."""
    shards = step("plan", request)["shards"]
    tallies = [swept(shard, request, on_invocation) for shard in shards]
    judged = step("judge", request, tallies=tallies)
    repaired = [swept(shard, request, on_invocation) for shard in judged["shards"]] if judged["repairs"] else []
    return step("report", request, tallies=tallies, repaired=repaired, judged=judged)
