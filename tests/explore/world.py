"""The explored world as a value: what both engines hold, and where each execution stands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from temporalio.api.common.v1 import Memo

from saga_core import ids
from saga_temporal import MEMO_KEY
from tests.explore import spicedb_model, temporal_model
from tests.explore.handlers import START, Reply, Rpc
from tests.explore.interpreter import Json, Machine, Position

NOW = START.timestamp()


class RpcFault(Enum):
    """What may happen to an RPC. A reply that is too late is a lost reply to the one who waited for it."""

    NONE = ""
    REFUSED = "refused"
    LOST = "reply lost"
    KILLED_BEFORE = "function killed before"
    KILLED_AFTER = "function killed after"
    STOPPED = "execution stopped, function goes on"

    @property
    def takes_effect(self) -> bool:
        """Whether the engine sees the RPC."""
        return self not in (RpcFault.REFUSED, RpcFault.KILLED_BEFORE)


@dataclass(frozen=True)
class Operation:
    """One execution to be explored.

    Attributes:
        name: as traces show it.
        kind: ``create_schedule``, ``delete_schedule`` or ``trigger_schedule``.
        request: its input.
    """

    name: str
    kind: str
    request: str

    @property
    def execution_id(self) -> str:
        """Its ARN."""
        return f"arn:aws:states:us-east-1:123456789012:execution:{self.kind}:{self.name}"

    @property
    def registration(self) -> str:
        """Its fence."""
        return ids.registration(self.execution_id)

    @property
    def context(self) -> Json:
        """Its context object."""
        return Machine.context(self.execution_id, json.loads(self.request))


@dataclass(frozen=True)
class Process:
    """Where an execution stands: before an RPC of its task's function, or at its end.

    Attributes:
        rpc: the next RPC; None at the end.
        replies: what the function has been answered so far.
        stopped: the execution is over, but its function goes on by itself.
    """

    position: Position
    replies: tuple[Reply, ...] = ()
    rpc: Rpc | None = None
    stopped: bool = False


@dataclass(frozen=True)
class World:
    """What the engines hold and where every execution stands.

    Attributes:
        processes: one an operation, in order.
        faults: how many have happened.
        deleted: registrations whose schedule a delete has removed.
        wronged: what an RPC did that none may do; empty while all is well.
        triggered: names of the triggers that took effect, sorted; one that took effect twice is there twice.
    """

    spicedb: spicedb_model.State
    temporal: temporal_model.State
    processes: tuple[Process, ...]
    faults: int = 0
    deleted: frozenset[str] = frozenset()
    wronged: str = ""
    triggered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One RPC of one operation, and what happened to it."""

    operation: int
    fault: RpcFault


def aged(state: spicedb_model.State) -> spicedb_model.State:
    """The relationships once every lease is over, before any has been collected."""
    return frozenset(t if t[5] is None else (*t[:5], NOW - 1) for t in state)


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
