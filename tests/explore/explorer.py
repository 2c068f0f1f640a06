"""Enumerates every interleaving of some operations, at the granularity of one RPC, with up to a number of faults.

A move lets one execution's next RPC happen, with or without a fault; everything between two RPCs is local to an
execution and follows at once. Worlds that are reached in several ways are entered once, so that the search is
exhaustive and ends; the number of interleavings is counted along the way and not by walking each of them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Any

import grpc
from temporalio.service import RPCStatusCode

from tests.explore import spicedb_model, temporal_model
from tests.explore.handlers import Raised, Reply, Returned, Rpc, apply, step
from tests.explore.interpreter import Ending, Machine, Position
from tests.explore.spicedb_requests import SpiceDBFailure
from tests.explore.temporal_model import Rules
from tests.explore.world import (
    BY_HAND,
    LONG_AGO,
    NOW,
    OTHERS,
    Move,
    Operation,
    Process,
    RpcFault,
    Running,
    World,
    holdings,
    leased,
    registration_of,
)

_UNAVAILABLE = {
    "spicedb": Reply("failure", SpiceDBFailure(grpc.StatusCode.UNAVAILABLE)),
    "temporal": Reply("failure", temporal_model.TemporalFailure(RPCStatusCode.UNAVAILABLE)),
}
_KILLED = Raised("Runtime.ExitError", '{"errorMessage":"Runtime exited","errorType":"Runtime.ExitError"}')
_OUTLIVED = Raised("Lambda.Unknown", '{"errorMessage":"the client gave up","errorType":"Lambda.Unknown"}')
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


class Damage(Enum):
    """What was done behind the sagas' back before the operations begin."""

    NONE = ""
    LEASE_STANDS = "lease stands"  # the create before could not end it
    LOST = "relationships lost"  # SpiceDB was emptied
    UNSCHEDULED = "deleted in Temporal"  # by another tool
    MANY_GRANTS = "many grants"  # more than one transaction removes
    FENCE_LOST = "fence lost"
    OTHER_FENCE = "another's fence"
    OTHER_LEASE = "another's lease stands"  # with its fence
    PARENT_LOST = "parent lost"
    RESERVED = "name reserved"  # by a schedule that Temporal's other scheduler had made, and that is deleted


@dataclass(frozen=True)
class Scenario:
    """What to explore.

    Attributes:
        operations: run at the same time.
        before: run to their ends first, without faults.
        damage: done after that. Unless relationships are lost, the schedule has a grant.
        most_faults: in one interleaving. At most one of them is rare: that a function outlives its attempt, because a
            task waits for one such function, or that Temporal acknowledges a delete that it does not do.
        most_retries: caps the retries of every task, so that few faults exhaust them; None leaves them as shipped.
        forgetful: whether Temporal forgets a deleted schedule at once, and its request id with it, and the request ids
            of triggers. The server may at any time: it remembers the last schedule of a name until its retention is
            over, and the triggers until the schedule's run is continued by another.
        rules: of Temporal's scheduler.
    """

    name: str
    operations: tuple[Operation, ...]
    before: tuple[Operation, ...] = ()
    damage: Damage = Damage.NONE
    most_faults: int = 2
    most_retries: int | None = None
    forgetful: bool = False
    rules: temporal_model.Rules = temporal_model.Rules.V1


@dataclass
class Explorer:
    """One scenario, explored on some definitions of the machines. ``begun`` is the world as the operations begin."""

    scenario: Scenario
    definitions: Mapping[str, Any]
    agents: spicedb_model.State
    judge: Callable[["Explorer", World], str]
    progress: Callable[[int], None] = lambda _worlds: None
    begun: World = field(init=False)
    _machines: dict[str, Machine] = field(init=False)

    def __post_init__(self) -> None:
        self._machines = {
            kind: Machine(definition, most_retries=self.scenario.most_retries)
            for kind, definition in {**self.definitions, **OTHERS}.items()
        }
        self._moved = lru_cache(maxsize=None)(self._move_process)
        self._settled = lru_cache(maxsize=None)(self._settle)
        self.begun = self._start()

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

        start = self.begun
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

    def _start(self) -> World:
        """The world as the operations begin."""
        world = World(self.agents, frozenset(), ())
        for operation in self.scenario.before:
            world = self.alone(world, operation, LONG_AGO)[0]
        processes = tuple(self._begin(operation) for operation in self.scenario.operations)
        return replace(self._damaged(world), processes=processes, deleted=frozenset())

    def _damaged(self, world: World) -> World:
        """The world after what was done behind the sagas' back."""
        damage, spicedb = self.scenario.damage, world.spicedb
        fences = [one for one in spicedb if one[2] == "registered_by"]
        if damage is Damage.LOST:
            return replace(world, spicedb=self.agents)
        if damage is Damage.RESERVED:
            return replace(
                world, temporal=frozenset({temporal_model.reserved(self.scenario.operations[0].schedule_id)})
            )
        if damage is Damage.UNSCHEDULED:
            world = replace(world, temporal=frozenset(replace(each, deleted=True) for each in world.temporal))
        if damage in (Damage.FENCE_LOST, Damage.OTHER_FENCE, Damage.OTHER_LEASE):
            spicedb = spicedb.difference(fences)
        if damage in (Damage.OTHER_FENCE, Damage.OTHER_LEASE):
            fences = [(*fence[:4], "anothers", None) for fence in fences]
            spicedb = spicedb.union(fences)
        if damage in (Damage.LEASE_STANDS, Damage.OTHER_LEASE):
            spicedb |= {leased(fence) for fence in fences}
        if damage is Damage.PARENT_LOST:
            spicedb = frozenset(one for one in spicedb if one[2] != "parent_agent")
        viewers = ["bob", "carol", "dave", "erin", "frank"] if damage is Damage.MANY_GRANTS else ["bob"]
        spicedb |= {(*fence[:2], "viewer", "user", viewer, None) for fence in fences for viewer in viewers}
        return replace(world, spicedb=spicedb)

    def moves(self, world: World) -> Iterator[tuple[Move, World]]:
        """Every move that can be made, and the world after it."""
        for operation, process in enumerate(world.processes):
            for number, function in enumerate(process.functions):
                is_ghost = number >= len(process.running)
                if not is_ghost and self._waits(operation, process, function):
                    continue
                faults = [RpcFault.NONE] if is_ghost or world.faults == self.scenario.most_faults else RpcFault
                for fault in faults:
                    if fault.is_rare and world.rare:
                        continue
                    if fault is RpcFault.UNDONE and not self._may_be_undone(function.rpc, world):
                        continue
                    move = Move(operation, fault, number)
                    yield move, self.move(world, move)

    def _may_be_undone(self, rpc: Rpc, world: World) -> bool:
        """Whether Temporal may acknowledge the RPC, and do nothing."""
        deletes = rpc.method == "delete_schedule" and bool(temporal_model.live(world.temporal))
        return deletes and self.scenario.rules is Rules.CHASM_LAX

    def _waits(self, operation: int, process: Process, function: Running) -> bool:
        """Whether the function's task waits for earlier attempts to end."""
        machine = self._machines[self.scenario.operations[operation].kind]
        return bool(process.ghosts) and machine.at(process.position, function.place)[1].waits

    def move(self, world: World, move: Move) -> World:
        """The world after a move."""
        process = world.processes[move.operation]
        operation = self.scenario.operations[move.operation]
        moved, spicedb, temporal = self._moved(
            operation, process, move.function, move.fault, world.spicedb, world.temporal
        )
        deleted, orphaned, triggered, wronged = world.deleted, world.orphaned, world.triggered, ""
        if move.fault is RpcFault.UNDONE:
            deleted |= {registration_of(each) for each in temporal_model.live(temporal)}
        if temporal is not world.temporal:
            triggered = triggered_by(operation, triggered, world.temporal, temporal)
            before, after = (temporal_model.live(each) for each in (world.temporal, temporal))
            if gone := {registration_of(each) for each in before} - {registration_of(each) for each in after}:
                deleted |= gone
                wronged = self._deleted_wrongly(operation, process.functions[move.function], gone)
                if operation.kind == BY_HAND:
                    orphaned |= gone & {one[4] for one in spicedb if one[2] == "registered_by"}
        if spicedb is not world.spicedb:
            if removed := world.spicedb - spicedb:
                wronged = wronged or self._wrong(operation, removed, deleted)
                wronged = wronged or self._undoes(operation, removed, temporal)
            if stale := stale_records(spicedb - world.spicedb, spicedb):
                wronged = f"{operation.name} recorded a trigger of a schedule that is no longer there: {stale}"
        return World(
            spicedb,
            temporal,
            (*world.processes[: move.operation], moved, *world.processes[move.operation + 1 :]),
            world.faults + (move.fault is not RpcFault.NONE),
            world.rare or move.fault.is_rare,
            deleted,
            orphaned,
            wronged,
            triggered,
        )

    @staticmethod
    def over(world: World) -> bool:
        """Whether every execution, and every function, has ended."""
        return not any(process.functions for process in world.processes)

    def alone(self, world: World, operation: Operation, now: float = NOW) -> tuple[World, Ending]:
        """Run one operation to its end, with nothing else going on and without faults."""
        process, spicedb, temporal = self._begin(operation), world.spicedb, world.temporal
        triggered = world.triggered
        while process.running:
            before = temporal
            process, spicedb, temporal = self._moved(operation, process, 0, RpcFault.NONE, spicedb, temporal, now)
            triggered = triggered_by(operation, triggered, before, temporal)
        assert process.position.ending
        return replace(world, spicedb=spicedb, temporal=temporal, triggered=triggered), process.position.ending

    def _begin(self, operation: Operation) -> Process:
        machine = self._machines[operation.kind]
        position = machine.start(operation.execution_id, json.loads(operation.request), operation.name)
        return self._settled(operation, Process(position))

    def _settle(self, operation: Operation, process: Process) -> Process:
        """The process with a function for each of its tasks; those of functions that need no RPC are over at once."""
        machine, position = self._machines[operation.kind], process.position
        running = {function.place: function for function in process.running}
        for place in machine.places(position):
            if place in running:
                continue
            name, payload = machine.task(position, operation.context, place)
            outcome = step(name, payload, ())
            if not isinstance(outcome, Rpc):
                moved = self._after(operation, position, place, outcome)
                return self._settled(operation, self._moved_on(process, moved, place))
            state = machine.at(position, place)[1].state
            running[place] = Running(place, state, name, payload, (), outcome)
        if position.ending:
            # What it ended with is all that counts from now on.
            position = replace(position, data="", retries=(), waits=False)
        return replace(process, position=position, running=tuple(running.values()))

    @staticmethod
    def _moved_on(process: Process, position: Position, place: int | None) -> Process:
        """The process at a position to which the end of the function in a place has led."""
        others = tuple(each for each in process.running if each.place != place)
        return replace(process, position=position, running=others)

    def _after(
        self, operation: Operation, position: Position, place: int | None, outcome: Returned | Raised
    ) -> Position:
        machine = self._machines[operation.kind]
        if isinstance(outcome, Returned):
            return machine.succeed(position, json.loads(outcome.text), operation.context, place)
        return machine.fail(position, outcome.name, outcome.cause, operation.context, place)

    def _move_process(
        self,
        operation: Operation,
        process: Process,
        number: int,
        fault: RpcFault,
        spicedb: spicedb_model.State,
        temporal: temporal_model.State,
        now: float = NOW,
    ) -> tuple[Process, spicedb_model.State, temporal_model.State]:
        """One RPC of one function of a process, on what the engines hold."""
        function = process.functions[number]
        is_ghost = number >= len(process.running)
        if fault is RpcFault.STOPPED:
            stopped = replace(process.position, branches=(), ending=_STOPPED)
            return Process(stopped, (), process.functions), spicedb, temporal
        reply = _UNAVAILABLE[function.rpc.engine]
        if fault.takes_effect:
            spicedb, temporal, answered = apply(function.rpc, spicedb, temporal, now, self.scenario.rules)
            if self.scenario.forgetful:
                temporal = temporal_model.forgotten(temporal)
            reply = reply if fault is RpcFault.LOST else answered
        elif fault is RpcFault.UNDONE:
            reply = apply(function.rpc, spicedb, temporal, now, self.scenario.rules)[2]
        outcome: Rpc | Returned | Raised
        if fault is RpcFault.OUTLIVED:
            process, outcome = replace(process, ghosts=(*process.ghosts, function)), _OUTLIVED
        elif fault in (RpcFault.KILLED_BEFORE, RpcFault.KILLED_AFTER):
            outcome = _KILLED
        else:
            replies = (*function.replies, reply)
            outcome = step(function.function, function.payload, replies)
            if isinstance(outcome, Rpc):
                function = replace(function, replies=replies, rpc=outcome)
        if is_ghost:
            left = list(process.ghosts)
            left[number - len(process.running)] = function
            if not isinstance(outcome, Rpc):
                del left[number - len(process.running)]
            return replace(process, ghosts=tuple(left)), spicedb, temporal
        if isinstance(outcome, Rpc):
            running = (*process.running[:number], function, *process.running[number + 1 :])
            return replace(process, running=running), spicedb, temporal
        position = self._after(operation, process.position, function.place, outcome)
        return self._settled(operation, self._moved_on(process, position, function.place)), spicedb, temporal

    def _deleted_wrongly(self, operation: Operation, function: Running, gone: set[str]) -> str:
        """What is wrong with a delete of these schedules: where no other delete runs, it deletes what it has found."""
        if operation.kind not in ("delete_schedule", BY_HAND):
            return f"{operation.name}, which is no delete, deleted a schedule"
        alone = sum(each.kind in ("delete_schedule", BY_HAND) for each in self.scenario.operations) == 1
        if operation.kind != BY_HAND and alone and not gone <= {json.loads(function.payload)["registration"]}:
            return f"{operation.name} deleted another schedule than the one that it had found"
        return ""

    def _wrong(self, operation: Operation, removed: spicedb_model.State, deleted: frozenset[str]) -> str:
        """What is wrong with removing these relationships, if anything: they are another operation's, in flight."""
        for _, _, relation, _, subject, _ in removed:
            if relation == "registered_by" and subject != operation.registration and subject not in deleted:
                leases = {t[4] for t in removed if t[2] == "creating" and (t[5] or 0) > NOW}
                if subject in leases:
                    return f"{operation.name} removed the relationships of another create, which is in flight"
        return ""

    @staticmethod
    def _undoes(operation: Operation, removed: spicedb_model.State, temporal: temporal_model.State) -> str:
        """What is wrong with a create's removal: without a lease, these are relationships that were repaired."""
        there = {registration_of(stored) for stored in temporal_model.live(temporal)}
        fences = {t[4] for t in removed if t[2] == "registered_by"}
        is_repaired = bool(fences & there) and not any(t[2] == "creating" for t in removed)
        return f"{operation.name} undid a repair" if is_repaired and operation.kind == "create_schedule" else ""

    def describe(self, trace: tuple[Move, ...]) -> Iterator[str]:
        """A trace as lines for a person: each RPC, what happened to it, and what the engines hold after it."""
        names = {
            operation.registration: operation.name for operation in (*self.scenario.before, *self.scenario.operations)
        }
        world = self.begun
        yield f"begin: {holdings(world, names)}"
        for number, move in enumerate(trace, 1):
            process, operation = world.processes[move.operation], self.scenario.operations[move.operation]
            function = process.functions[move.function]
            world = self.move(world, move)
            ghost = " (given up)" if move.function >= len(process.running) else ""
            fault = f"  *** {move.fault.value} ***" if move.fault is not RpcFault.NONE else ""
            yield f"{number:3}. {operation.name:10} {function.state + ghost:16} {function.rpc.method}{fault}"
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
