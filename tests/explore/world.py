"""The explored world as a value: what both engines hold, and where each execution stands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TypeVar

from temporalio.api.common.v1 import Memo

from saga_core import ids
from saga_temporal import MEMO_KEY
from tests.explore import spicedb_model, temporal_model
from tests.explore.handlers import LEASE, START, Reply, Rpc
from tests.explore.interpreter import Json, Machine, Position
from tests.explore.spicedb_requests import Tuple

NOW = START.timestamp()
# When what was there before was created.
LONG_AGO = NOW - 100 * LEASE.total_seconds()


def _one_task(function: str, payload: Json, selector: Json) -> Json:
    """A definition of one task."""
    task = {
        "Type": "Task",
        "Parameters": {"FunctionName": f"${{{function}FunctionArn}}", "Payload": payload},
        "ResultSelector": selector,
        "ResultPath": "$.result",
        "Retry": [],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Done"}],
        "Next": "Done",
    }
    return {"StartAt": function, "States": {function: task, "Done": {"Type": "Pass", "End": True}}}


# Operations that are no sagas: somebody deletes the schedule in Temporal, with another tool; and the repairing sweep of
# the reconciler, now, or when all leases are over.
BY_HAND, RECONCILE, RECONCILE_LATER = "deletion_by_hand", "reconcile", "reconcile_later"
_SWEEP = {
    "execution_id.$": "$$.Execution.Id",
    "do": "sweep",
    "request.$": "$$.Execution.Input",
    "shard": {"prefix": "", "repairs": 100},
}
_SWEPT = {"position.$": "$.Payload.position"}
OTHERS: Json = {
    BY_HAND: _one_task("TemporalDelete", {"execution_id.$": "$$.Execution.Id", "request.$": "$$.Execution.Input"}, {}),
    RECONCILE: _one_task("Reconcile", _SWEEP, _SWEPT),
    RECONCILE_LATER: _one_task("ReconcileLater", _SWEEP, _SWEPT),
}


_Value = TypeVar("_Value")


def hashed_once(cls: type[_Value]) -> type[_Value]:
    """Let each value of a frozen class keep its hash, which is that of everything in it, and is asked for often.

    Such a value may not be sent to another process, which hashes texts in another way.
    """
    computed = cls.__hash__

    def hashed(self: _Value) -> int:
        kept: int | None = self.__dict__.get("_hash")
        if kept is None:
            kept = self.__dict__["_hash"] = computed(self)
        return kept

    cls.__hash__ = hashed  # type: ignore[method-assign,assignment] # of values of this class alone
    return cls


class RpcFault(Enum):
    """What may happen to an RPC. A reply that is too late is a lost reply to the one who waited for it."""

    NONE = ""
    REFUSED = "refused"
    LOST = "reply lost"
    KILLED_BEFORE = "function killed before"
    KILLED_AFTER = "function killed after"
    STOPPED = "execution stopped, function goes on"
    OUTLIVED = "attempt given up, function goes on"
    UNDONE = "acknowledged, not done"  # a delete, by CHASM: where its own half fails, that of V1's sentinel counts

    @property
    def takes_effect(self) -> bool:
        """Whether the engine sees the RPC."""
        return self in (RpcFault.NONE, RpcFault.LOST, RpcFault.KILLED_AFTER)

    @property
    def is_rare(self) -> bool:
        """Whether it happens once at most."""
        return self in (RpcFault.OUTLIVED, RpcFault.UNDONE)


@dataclass(frozen=True)
class Operation:
    """One execution to be explored.

    Attributes:
        name: as traces show it.
        kind: ``create_schedule``, ``delete_schedule``, ``trigger_schedule``, or one of OTHERS.
        request: its input.
        execution: the name of its execution; its own name unless another operation is a run of the same execution.
    """

    name: str
    kind: str
    request: str
    execution: str = ""

    @property
    def execution_id(self) -> str:
        """Its ARN."""
        return f"arn:aws:states:us-east-1:123456789012:execution:{self.kind}:{self.execution or self.name}"

    @property
    def schedule_id(self) -> str:
        """Of the schedule that it is about."""
        request = json.loads(self.request)
        return ids.schedule_id(request["agent_id"], request.get("schedule_name") or request["schedule"]["name"])

    @property
    def registration(self) -> str:
        """Its fence."""
        return ids.registration(f"{self.execution_id} {self.name}")

    @property
    def context(self) -> Json:
        """Its context object. The name stands for the UUID that the run makes."""
        return Machine.context(self.execution_id, json.loads(self.request), self.name)


@hashed_once
@dataclass(frozen=True)
class Running:
    """A function that runs, before its next RPC.

    Attributes:
        place: where its task stands (see `Machine`).
        state: the name of its task.
        replies: what it has been answered so far.
    """

    place: int | None
    state: str
    function: str
    payload: str
    replies: tuple[Reply, ...]
    rpc: Rpc


@hashed_once
@dataclass(frozen=True)
class Process:
    """Where an execution stands.

    Attributes:
        running: the functions of its tasks; none at its end.
        ghosts: functions of attempts that the execution has given up, or that were running when it was stopped.
    """

    position: Position
    running: tuple[Running, ...] = ()
    ghosts: tuple[Running, ...] = ()

    @property
    def functions(self) -> tuple[Running, ...]:
        """Every function that runs."""
        return self.running + self.ghosts


@hashed_once
@dataclass(frozen=True)
class World:
    """What the engines hold and where every execution stands.

    Attributes:
        processes: one an operation, in order.
        faults: how many have happened.
        rare: whether one of them was (`RpcFault.is_rare`).
        deleted: registrations whose schedule was deleted, as far as Temporal has said.
        orphaned: those of them that had relationships when it was deleted by hand.
        wronged: what an RPC did that none may do; empty while all is well.
        triggered: names of the triggers that took effect, sorted; one that took effect twice is there twice.
    """

    spicedb: spicedb_model.State
    temporal: temporal_model.State
    processes: tuple[Process, ...]
    faults: int = 0
    rare: bool = False
    deleted: frozenset[str] = frozenset()
    orphaned: frozenset[str] = frozenset()
    wronged: str = ""
    triggered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One RPC of one operation, by the number of its function, and what happened to it."""

    operation: int
    fault: RpcFault
    function: int = 0


def aged(state: spicedb_model.State) -> spicedb_model.State:
    """The relationships once every lease is over, before any has been collected."""
    return frozenset(t if t[5] is None else (*t[:5], NOW - 1) for t in state)


def leased(fence: Tuple) -> Tuple:
    """The live lease of the operation that has the fence."""
    return (fence[0], fence[1], "creating", *fence[3:5], NOW + LEASE.total_seconds())


def registration_of(stored: temporal_model.Stored) -> str:
    """The registration in the memo of a schedule in the model."""
    return str(memo_of(stored)["registration"])


@cache
def memo_of(stored: temporal_model.Stored) -> Json:
    """The memo of a schedule in the model."""
    return json.loads(Memo.FromString(stored.memo).fields[MEMO_KEY].data)


def holdings(world: World, names: Mapping[str, str]) -> str:
    """What the engines hold of the schedule, in a few words."""
    fences = [names.get(t[4], t[4]) for t in world.spicedb if t[2] == "registered_by"]
    grants = [f"{t[2]}:{t[4]}" for t in world.spicedb if t[2] in ("viewer", "editor") and t[0] == "agent_schedule"]
    schedules = [names.get(registration_of(stored), "?") for stored in temporal_model.live(world.temporal)]
    held = ", ".join([*(f"registered by {name}" for name in fences), *grants]) or "-"
    held += "".join(f", a trigger {t[2]}" for t in world.spicedb if t[0] == "trigger_request")
    return f"SpiceDB: {held}; Temporal: {', '.join(f'made by {name}' for name in schedules) or '-'}"
