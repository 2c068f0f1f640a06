"""Enumerates every interleaving of some operations, at the granularity of one RPC, with up to a number of faults.

A move lets one execution's next RPC happen, with or without a fault; everything between two RPCs is local to an
execution and follows at once. Worlds that are reached in several ways are entered once, so that the search is
exhaustive and ends; the number of interleavings is counted along the way and not by walking each of them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import grpc
from temporalio.service import RPCStatusCode

from saga_core import ids
from tests.explore import spicedb_model, temporal_model
from tests.explore.handlers import Raised, Reply, Returned, Rpc, apply, step
from tests.explore.interpreter import Ending, Machine, Position
from tests.explore.spicedb_requests import SpiceDBFailure
from tests.explore.world import NOW, Move, Operation, Process, RpcFault, World, aged, holdings, registration_of

_UNAVAILABLE = {
    "spicedb": Reply("failure", SpiceDBFailure(grpc.StatusCode.UNAVAILABLE)),
    "temporal": Reply("failure", temporal_model.TemporalFailure(RPCStatusCode.UNAVAILABLE)),
}
_KILLED = Raised("Runtime.ExitError", '{"errorMessage":"Runtime exited","errorType":"Runtime.ExitError"}')
_STOPPED = Ending("ABORTED")


@dataclass
class Result:
    """What an exploration found.

    Attributes:
        interleavings: how many there are.
        worlds: how many distinct worlds were seen.
        endings: how many of them were final.
        violation: what was wrong with the first bad one, and ``trace`` the moves that led there.
    """

    interleavings: int = 0
    worlds: int = 0
    endings: int = 0
    violation: str = ""
    trace: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """What to explore.

    Attributes:
        operations: run at the same time.
        before: run to their ends first, without faults.
        grants: relationships added after that: (relation, subject type, subject id) on the schedule.
        leases_over: whether the leases of ``before`` are over when the operations begin.
        most_faults: in one interleaving.
        most_retries: caps the retries of every task, so that few faults exhaust them; None leaves them as shipped.
        forgetful: whether Temporal forgets a deleted schedule at once, and its request id with it, and the request ids
            of triggers. The server may at any time: it remembers the last schedule of a name until its retention is
            over, and the triggers until the schedule's run is continued by another.
    """

    name: str
    operations: tuple[Operation, ...]
    before: tuple[Operation, ...] = ()
    grants: tuple[tuple[str, str, str], ...] = ()
    leases_over: bool = False
    most_faults: int = 2
    most_retries: int | None = None
    forgetful: bool = False


@dataclass
class Explorer:
    """One scenario, explored on some definitions of the machines."""

    scenario: Scenario
    definitions: Mapping[str, Any]
    agents: spicedb_model.State
    judge: Callable[["Explorer", World], str]
    progress: Callable[[int], None] = lambda _worlds: None
    _machines: dict[str, Machine] = field(init=False)

    def __post_init__(self) -> None:
        self._machines = {
            kind: Machine(definition, most_retries=self.scenario.most_retries)
            for kind, definition in self.definitions.items()
        }
        self._moved = lru_cache(maxsize=None)(self._move_process)
        self._settled = lru_cache(maxsize=None)(self._settle)

    def explore(self) -> Result:
        """Visit every world; stop at the first that is judged bad."""
        result = Result()
        # Interleavings below each world, once all of its successors are counted.
        below: dict[World, int] = {}
        trail: list[tuple[World, Iterator[tuple[Move, World]], Move | None]] = []
        on_trail: set[World] = set()

        def enter(world: World, move: Move | None) -> bool:
            result.worlds += 1
            if result.worlds % 1000 == 0:
                self.progress(1000)
            trail.append((world, iter(self.moves(world)), move))
            on_trail.add(world)
            wrong = world.wronged or (self.judge(self, world) if self.over(world) else "")
            if wrong:
                result.violation = wrong
                result.trace = tuple(m for _, _, m in trail if m)
            return bool(wrong)

        start = self.start()
        if enter(start, None):
            return result
        while trail:
            world, moves, _ = trail[-1]
            for move, successor in moves:
                if successor in on_trail:
                    raise AssertionError("the machines can go round for ever")
                if successor not in below:
                    if enter(successor, move):
                        return result
                    break
                below[world] = below.get(world, 0) + below[successor]
            else:
                trail.pop()
                on_trail.remove(world)
                if self.over(world):
                    below[world] = 1
                    result.endings += 1
                if trail:
                    parent = trail[-1][0]
                    below[parent] = below.get(parent, 0) + below[world]
        result.interleavings = below[start]
        self.progress(result.worlds % 1000)
        return result

    def start(self) -> World:
        """The world as the operations begin."""
        world = World(self.agents, frozenset(), ())
        for operation in self.scenario.before:
            world = self.alone(world, operation)[0]
        schedule = json.loads(self.scenario.operations[0].request)
        resource = ids.schedule_id(schedule["agent_id"], schedule.get("schedule_name") or schedule["schedule"]["name"])
        grants = {("agent_schedule", resource, *grant, None) for grant in self.scenario.grants}
        if self.scenario.leases_over:
            world = replace(world, spicedb=aged(world.spicedb))
        processes = tuple(self._begin(operation) for operation in self.scenario.operations)
        return replace(world, spicedb=world.spicedb | grants, processes=processes, deleted=frozenset())

    def moves(self, world: World) -> Iterator[tuple[Move, World]]:
        """Every move that can be made, and the world after it."""
        for index, process in enumerate(world.processes):
            if process.rpc is None:
                continue
            for fault in RpcFault:
                if fault is not RpcFault.NONE and (world.faults == self.scenario.most_faults or process.stopped):
                    continue
                yield Move(index, fault), self.move(world, Move(index, fault))

    def move(self, world: World, move: Move) -> World:
        """The world after a move."""
        process = world.processes[move.operation]
        operation = self.scenario.operations[move.operation]
        moved, spicedb, temporal = self._moved(operation, process, move.fault, world.spicedb, world.temporal)
        deleted, wronged = world.deleted, ""
        if world.temporal != temporal and operation.kind == "delete_schedule":
            gone = temporal_model.live(world.temporal) - temporal_model.live(temporal)
            deleted |= {registration_of(stored) for stored in gone}
        if removed := world.spicedb - spicedb:
            wronged = self._wrong(operation, removed, deleted)
        if stale := stale_records(spicedb - world.spicedb, spicedb):
            wronged = f"{operation.name} recorded a trigger of a schedule that is no longer there: {stale}"
        return World(
            spicedb,
            temporal,
            (*world.processes[: move.operation], moved, *world.processes[move.operation + 1 :]),
            world.faults + (move.fault is not RpcFault.NONE),
            deleted,
            wronged,
            triggered_by(operation, world.triggered, world.temporal, temporal),
        )

    @staticmethod
    def over(world: World) -> bool:
        """Whether every execution, and every function, has ended."""
        return all(process.rpc is None for process in world.processes)

    def alone(self, world: World, operation: Operation) -> tuple[World, Ending]:
        """Run one operation to its end, with nothing else going on and without faults."""
        process, spicedb, temporal = self._begin(operation), world.spicedb, world.temporal
        triggered = world.triggered
        while process.rpc is not None:
            before = temporal
            process, spicedb, temporal = self._moved(operation, process, RpcFault.NONE, spicedb, temporal)
            triggered = triggered_by(operation, triggered, before, temporal)
        assert process.position.ending
        return replace(world, spicedb=spicedb, temporal=temporal, triggered=triggered), process.position.ending

    def _begin(self, operation: Operation) -> Process:
        machine = self._machines[operation.kind]
        return self._settled(operation, machine.start(operation.execution_id, json.loads(operation.request)))

    def _settle(self, operation: Operation, position: Position) -> Process:
        """The process at ``position`` before its next RPC: tasks that need none are run."""
        machine = self._machines[operation.kind]
        while position.ending is None:
            function, payload = machine.task(position, operation.context)
            outcome = step(function, payload, ())
            if isinstance(outcome, Rpc):
                return Process(position, (), outcome)
            position = self._after(operation, position, outcome)
        return Process(position)

    def _after(self, operation: Operation, position: Position, outcome: Returned | Raised) -> Position:
        machine = self._machines[operation.kind]
        if isinstance(outcome, Returned):
            return machine.succeed(position, json.loads(outcome.text), operation.context)
        return machine.fail(position, outcome.name, outcome.cause, operation.context)

    def _move_process(
        self,
        operation: Operation,
        process: Process,
        fault: RpcFault,
        spicedb: spicedb_model.State,
        temporal: temporal_model.State,
    ) -> tuple[Process, spicedb_model.State, temporal_model.State]:
        """One RPC of one process, on what the engines hold."""
        assert process.rpc
        reply = _UNAVAILABLE[process.rpc.engine]
        if fault.takes_effect:
            spicedb, temporal, answered = apply(process.rpc, spicedb, temporal, NOW)
            if self.scenario.forgetful:
                temporal = temporal_model.forgotten(temporal)
            reply = reply if fault is RpcFault.LOST else answered
        if fault in (RpcFault.KILLED_BEFORE, RpcFault.KILLED_AFTER):
            return self._settled(operation, self._after(operation, process.position, _KILLED)), spicedb, temporal
        if fault is RpcFault.STOPPED:
            process = replace(process, stopped=True)
        replies = (*process.replies, reply)
        function, payload = self._machines[operation.kind].task(process.position, operation.context)
        outcome = step(function, payload, replies)
        if isinstance(outcome, Rpc):
            return replace(process, replies=replies, rpc=outcome), spicedb, temporal
        if process.stopped:
            return Process(replace(process.position, ending=_STOPPED)), spicedb, temporal
        return self._settled(operation, self._after(operation, process.position, outcome)), spicedb, temporal

    def _wrong(self, operation: Operation, removed: spicedb_model.State, deleted: frozenset[str]) -> str:
        """What is wrong with removing these relationships, if anything: they are another operation's, in flight."""
        for _, _, relation, _, subject, _ in removed:
            if relation == "registered_by" and subject != operation.registration and subject not in deleted:
                leases = {t[4] for t in removed if t[2] == "creating" and (t[5] or 0) > NOW}
                if subject in leases:
                    return f"{operation.name} removed the relationships of another create, which is in flight"
        return ""

    def describe(self, trace: tuple[Move, ...]) -> Iterator[str]:
        """A trace as lines for a person: each RPC, what happened to it, and what the engines hold after it."""
        names = {
            operation.registration: operation.name for operation in (*self.scenario.before, *self.scenario.operations)
        }
        world = self.start()
        yield f"begin: {holdings(world, names)}"
        for number, move in enumerate(trace, 1):
            process, operation = world.processes[move.operation], self.scenario.operations[move.operation]
            assert process.rpc
            world = self.move(world, move)
            fault = f"  *** {move.fault.value} ***" if move.fault is not RpcFault.NONE else ""
            yield f"{number:3}. {operation.name:10} {process.position.state:16} {process.rpc.method}{fault}"
            yield f"{'':36}{holdings(world, names)}"
            ending = world.processes[move.operation].position.ending
            if ending and not process.position.ending:
                yield f"     {operation.name} ended: {ending.status} {ending.error or ending.output} {ending.cause}"


def stale_records(added: spicedb_model.State, spicedb: spicedb_model.State) -> list[str]:
    """The fences of triggers that were recorded now, as far as no schedule has them."""
    fences = {t[4] for t in spicedb if t[2] == "registered_by"}
    return [t[4] for t in added if t[0] == "trigger_request" and t[2] == "open" and t[4] not in fences]


def triggered_by(
    operation: Operation, triggered: tuple[str, ...], before: temporal_model.State, after: temporal_model.State
) -> tuple[str, ...]:
    """The triggers that took effect, after one more RPC of an operation."""
    took_effect = operation.kind == "trigger_schedule" and before != after
    return tuple(sorted((*triggered, operation.name))) if took_effect else triggered
