"""The steps of a reconciliation, and the handler of its Lambda function."""

import string
from datetime import timedelta
from typing import Any

from saga_core.deadlines import Deadline
from saga_core.errors import InvalidRequest
from saga_core.observability import Context, Event, Result, count, logger, saga_step
from saga_core.settings import SpiceDBSettings, call_settings
from saga_reconcile.requests import Mode, Position, Shard, Step
from saga_reconcile.sweep import Sweep
from saga_reconcile.tally import MOST_ITEMS, Tally, merged, too_much

# What an id of a schedule of ours can begin with.
_BEGINNINGS = string.ascii_letters + string.digits


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Do one step of a reconciliation, which ``do`` names.

    ``plan``: ``{shards}``, the parts to be swept. ``sweep``: ``{prefix, position, tally}`` of one shard, as far as one
    invocation gets; position is null at the end. ``judge``: ``{repairs, stopped, shards, would_repair}``, whether
    anything may be repaired, and how much in which shard. ``report``: the output of the machine (docs/operations.md).

    Raises:
        InvalidRequest, AuthorizationUnavailable, TemporalUnavailable, ConfigurationError.
    """
    step = Step.parse(event)
    steps = {"plan": _plan, "judge": _judge, "report": _report}
    if step.do == "sweep":
        return _sweep(step, Deadline.of(context, call_settings().rpc_timeout_seconds))
    if step.do not in steps:
        raise InvalidRequest("do: is not a step of a reconciliation")
    return steps[step.do](step)


def _plan(step: Step) -> dict[str, Any]:
    request = step.request
    scope = request.schedule_id or (f"{request.agent_id}--" if request.agent_id else "")
    prefixes = _BEGINNINGS if request.shards > 1 and not scope else (scope,)
    return {"shards": [Shard(prefix=each, items=MOST_ITEMS // len(prefixes)).to_json() for each in prefixes]}


def _sweep(step: Step, deadline: Deadline) -> dict[str, Any]:
    shard, request = step.shard or Shard(prefix=""), step.request
    if not shard.repairs:
        # A report, or the first of the two passes of a repair.
        request = request.model_copy(update={"mode": Mode.REPORT})
    tally = Tally(step.tally, shard.items)
    lease = timedelta(seconds=SpiceDBSettings.load().lease_seconds)
    following = Sweep(request, shard, tally, lease, deadline).run(step.position or Position())
    position = following.to_json() if following else None
    return {"prefix": shard.prefix, "position": position, "tally": tally.to_json()}


def _judge(step: Step) -> dict[str, Any]:
    swept, request = step.tallies or [], step.request
    whole = merged(each.tally for each in swept)
    wanted = request.mode is Mode.REPAIR and whole.would_repair > 0
    stopped = too_much(whole, request.confirm, kinds_given=request.kinds is not None) if wanted else None
    if stopped:
        logger.warning("nothing is repaired", reason=stopped)
        count("ReconcileStopped")
    left, repairs = request.max_repairs, {}
    for each in swept:
        if allowed := min(left, each.tally["would_repair"]):
            repairs[each.prefix] = allowed
            left -= allowed
    return {
        "repairs": wanted and stopped is None,
        "stopped": stopped,
        "shards": [
            Shard(prefix=prefix, repairs=allowed, items=MOST_ITEMS // len(repairs)).to_json()
            for prefix, allowed in repairs.items()
        ],
        "would_repair": whole.would_repair,
    }


def _report(step: Step) -> dict[str, Any]:
    # Of a shard that was repaired, the second pass counts.
    swept = {each.prefix: each.tally for each in (*(step.tallies or ()), *(step.repaired or ()))}
    whole, judged = merged(swept.values()), step.judged or {}
    stopped = judged.get("stopped")
    if not stopped and judged.get("repairs") and judged["would_repair"] > step.request.max_repairs:
        stopped = f"max_repairs: {step.request.max_repairs} of {judged['would_repair']} repairs were allowed"
    for kind, counts in whole.kinds.items():
        count("Drift", counts["found"], kind=kind)
        count("DriftRepaired", counts["repaired"], kind=kind)
    left = sum(counts["left"] for kind, counts in whole.kinds.items() if kind != "foreign")
    if not (step.request.agent_id or step.request.schedule_id):
        # The alarm keeps what the latest run left: a run over a part says nothing about the rest.
        count("DriftLeft", left)
    counted = whole.to_json()
    del counted["repaired"]
    return {"mode": step.request.mode, **counted, "would_repair": judged.get("would_repair", 0), "stopped": stopped}
