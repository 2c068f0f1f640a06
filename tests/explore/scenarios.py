"""What is explored, and what has to hold in every world in which every execution has ended."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

from saga_core import ids
from tests.explore import spicedb_model, temporal_model
from tests.explore.explorer import Explorer, Scenario
from tests.explore.interpreter import Ending
from tests.explore.world import NOW, Operation, World, aged, memo_of, registration_of

AGENT = "agent0"
NAME = "daily"
SCHEDULE_ID = ids.schedule_id(AGENT, NAME)
AGENTS: spicedb_model.State = frozenset({("agent", AGENT, "owner", "user", "alice", None)})
BOB = (("viewer", "user", "bob"),)


def create(name: str, *, key: str | None = None, creator: str | None = "alice", interval: int = 60) -> Operation:
    """A create of the schedule."""
    schedule = {"name": NAME, "workflow_name": "W", "task_queue": "q", "interval_seconds": interval}
    principal = {"user_id": creator} if creator else None
    request = {"agent_id": AGENT, "schedule": schedule, "principal": principal, "idempotency_key": key}
    return Operation(name, "create_schedule", json.dumps(request))


def delete(name: str) -> Operation:
    """A delete of the schedule."""
    return Operation(name, "delete_schedule", json.dumps({"agent_id": AGENT, "schedule_name": NAME}))


def scenarios(*, most_faults: int = 2) -> Iterator[Scenario]:
    """All scenarios, each with its retries as shipped, cut to one, and cut to none."""
    first = create("first")
    plain: tuple[tuple[str, tuple[Operation, ...], tuple[Operation, ...]], ...] = (
        ("a create", (create("create"),), ()),
        ("two creates", (create("one"), create("two")), ()),
        ("two creates of one key", (create("one", key="k"), create("two", key="k")), ()),
        ("two creates of one key, other requests", (create("one", key="k"), create("two", key="k", interval=9)), ()),
        ("a create and a delete", (create("create"), delete("delete")), ()),
        ("a create without creator and a delete", (create("create", creator=None), delete("delete")), ()),
        ("creates with and without creator", (create("one"), create("two", creator=None)), ()),
        ("two deletes", (delete("delete1"), delete("delete2")), (first,)),
        ("a delete and a re-create", (delete("delete"), create("again")), (first,)),
        ("a replay and a delete", (create("again", key="k"), delete("delete")), (create("first", key="k"),)),
        ("create, delete, re-create", (create("create"), delete("delete"), create("again")), ()),
        ("the same with one key", (create("create", key="k"), delete("delete"), create("again", key="k")), ()),
        ("two deletes and a re-create", (delete("delete1"), delete("delete2"), create("again")), (first,)),
    )
    for (name, operations, before), retries, forgetful in itertools.product(plain, (None, 1, 0), (False, True)):
        if forgetful and not any(operation.kind == "delete_schedule" for operation in operations):
            continue
        for leases_over in (False, True) if before else (False,):
            labels = [
                name,
                *(["leases over"] if leases_over else []),
                *([f"{retries} retries"] if retries is not None else []),
                *(["forgetful"] if forgetful else []),
            ]
            yield Scenario(
                name=", ".join(labels),
                operations=operations,
                before=before,
                grants=BOB if before else (),
                leases_over=leases_over,
                most_faults=most_faults,
                most_retries=retries,
                forgetful=forgetful,
            )


def bounded_scenarios() -> list[Scenario]:
    """Every scenario that is explored in seconds: with two faults, or with one where three operations meet."""
    return [
        scenario
        for faults in (1, 2)
        for scenario in scenarios(most_faults=faults)
        if (len(scenario.operations) <= 2) == (faults == 2)
    ]


def judge(explorer: Explorer, world: World) -> str:
    """What is wrong with a world in which all is over; empty if nothing is."""
    operations = explorer.scenario.operations
    endings = [process.position.ending for process in world.processes]
    held = {t[2]: t[4] for t in live(world.spicedb)}
    there = temporal_model.live(world.temporal)
    if len(there) > 1:
        return "there are two schedules"
    stored = next(iter(there), None)
    made_by = registration_of(stored) if stored else None
    owned = stored is not None and memo_of(stored)["creator"] is not None
    fence = held.get("registered_by")

    left = any(ending is not None and is_left(ending) for ending in endings)
    if not left:
        if held and (made_by is None or fence != made_by):
            return f"relationships without their schedule, and no answer says so: {sorted(held)}"
        if owned and (fence != made_by or not {"owner", "parent_agent"} <= held.keys()):
            return "a schedule with a creator and without its relationships, and no answer says so"
    if fence is not None and "viewer" in held and fence != explorer.scenario.before[0].registration:
        return "a re-created schedule inherited a grant"

    for operation, ending in zip(operations, endings, strict=True):
        assert ending
        mine = operation.registration
        if ending.status == "SUCCEEDED" and operation.kind == "create_schedule":
            output = json.loads(ending.output or "")
            if output["replayed"]:
                true = made_by is not None or bool(world.deleted)
            else:
                true = mine in world.deleted or (made_by == mine and (fence == mine or not output["registered"]))
            if not true:
                return f"{operation.name} was answered with success, and the two systems do not have it"
        if ending.status == "FAILED" and not is_left(ending) and mine in (made_by, fence):
            return f"{operation.name} was answered with {ending.error}, and something of it is there"
        if ending.status == "FAILED" and ending.error not in EXPECTED:
            return f"{operation.name} was answered with {ending.error}: {ending.cause}"
    return _recovers(explorer, world) if left or held or there else ""


EXPECTED = {
    *("AuthorizationUnavailable", "CompensationFailed", "CreateInProgress", "IdempotencyKeyReused", "OutcomeUnknown"),
    *("Runtime.ExitError", "ScheduleAlreadyExists", "ScheduleNotFound", "TemporalUnavailable"),
    *("TriggerOutcomeUnknown", "TriggerUnconfirmed"),
}


def is_left(ending: Ending) -> bool:
    """Whether an answer says that the outcome is unknown, or that something is left to be finished later."""
    if ending.status == "ABORTED" or ending.error in ("CompensationFailed", "OutcomeUnknown"):
        return True
    if (ending.cause or "").startswith("outcome unverified"):
        return True
    return '"deregistered":false' in (ending.output or "")


def live(state: spicedb_model.State) -> spicedb_model.State:
    """The relationships of the schedule, less those that are over and only wait to be collected."""
    return frozenset(t for t in state if t[0] == "agent_schedule" and (t[5] is None or t[5] > NOW))


def _recovers(explorer: Explorer, world: World) -> str:
    """What stays wrong once the leases are over and the operation is repeated: a delete, or a create."""
    world = replace(world, spicedb=aged(world.spicedb))
    after, ending = explorer.alone(world, delete("repeated-delete"))
    if temporal_model.live(after.temporal) or live(after.spicedb):
        return f"a repeated delete leaves something: {ending}"
    after, ending = explorer.alone(world, create("repeated-create"))
    stored = next(iter(temporal_model.live(after.temporal)), None)
    if stored is None:
        return f"a repeated create makes no schedule: {ending}"
    fence = {t[4] for t in live(after.spicedb) if t[2] == "registered_by"}
    if fence != ({registration_of(stored)} if memo_of(stored)["creator"] else set()):
        return f"after a repeated create the systems differ: {ending}"
    if ending.status == "FAILED" and ending.error != "ScheduleAlreadyExists":
        return f"a repeated create fails: {ending}"
    return ""
