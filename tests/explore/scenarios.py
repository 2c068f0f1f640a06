"""What is explored, and what has to hold in every world in which every execution has ended."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from saga_core import ids
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from tests.explore import spicedb_model, temporal_model
from tests.explore.explorer import Damage, Explorer, Scenario
from tests.explore.interpreter import Ending
from tests.explore.temporal_model import Rules
from tests.explore.world import (
    BY_HAND,
    NOW,
    RECONCILE,
    RECONCILE_LATER,
    Operation,
    World,
    aged,
    memo_of,
    registration_of,
)

AGENT = "agent0"
NAME = "daily"
SCHEDULE_ID = ids.schedule_id(AGENT, NAME)
AGENTS: spicedb_model.State = frozenset(
    ("agent", AGENT, relation, "user", user, None) for relation, user in (("owner", "alice"), ("editor", "bob"))
)


def create(
    name: str, *, key: str | None = None, creator: str | None = "alice", interval: int = 60, execution: str = ""
) -> Operation:
    """A create of the schedule; with ``execution`` as one of several runs of that execution."""
    schedule = {"name": NAME, "workflow_name": "W", "task_queue": "q", "interval_seconds": interval}
    principal = {"user_id": creator} if creator else None
    request = {"agent_id": AGENT, "schedule": schedule, "principal": principal, "idempotency_key": key}
    return Operation(name, "create_schedule", json.dumps(request), execution)


def delete(name: str) -> Operation:
    """A delete of the schedule."""
    return Operation(name, "delete_schedule", json.dumps({"agent_id": AGENT, "schedule_name": NAME}))


def delete_by_hand(name: str) -> Operation:
    """A deletion of the schedule in Temporal alone."""
    return replace(delete(name), kind=BY_HAND)


def reconcile(name: str, kind: str = RECONCILE, **request: Any) -> Operation:
    """A sweep of the reconciler that repairs."""
    return Operation(name, kind, json.dumps({"mode": "repair", **request}))


class _Plot(NamedTuple):
    """What several scenarios have in common.

    Attributes:
        damage: variants of what is done behind the sagas' back after ``before``.
    """

    name: str
    operations: tuple[Operation, ...]
    before: tuple[Operation, ...] = ()
    damage: tuple[Damage, ...] = (Damage.NONE,)


def _plots() -> Iterator[_Plot]:
    first, keyed = (create("first"),), (create("first", key="k"),)
    once_more = (Damage.NONE, Damage.LEASE_STANDS)
    registration_damaged = (Damage.LOST, Damage.FENCE_LOST, Damage.OTHER_FENCE, Damage.PARENT_LOST)
    new = (Damage.NONE, Damage.RESERVED)
    damaged = (Damage.NONE, Damage.LEASE_STANDS, Damage.LOST, Damage.UNSCHEDULED, Damage.MANY_GRANTS)
    yield _Plot("a create", (create("create"),), damage=new)
    yield _Plot("two creates", (create("one"), create("two")), damage=new)
    yield _Plot("two creates of one key", (create("one", key="k"), create("two", key="k")))
    yield _Plot("two creates of one key, other requests", (create("one", key="k"), create("two", key="k", interval=9)))
    yield _Plot("one create, run twice", (create("one", execution="e"), create("two", execution="e")))
    yield _Plot("a create and a delete", (create("create"), delete("delete")), damage=new)
    yield _Plot("a create without creator and a delete", (create("create", creator=None), delete("delete")))
    yield _Plot("creates with and without creator", (create("one"), create("two", creator=None)))
    yield _Plot("a delete", (delete("delete"),), first, damaged)
    yield _Plot("two deletes", (delete("delete1"), delete("delete2")), first, (*once_more, Damage.MANY_GRANTS))
    yield _Plot("a delete and a re-create", (delete("delete"), create("again")), first, damaged)
    yield _Plot(
        "a delete and a re-create without creator",
        (delete("delete"), create("again", creator=None)),
        first,
        (*once_more, Damage.OTHER_FENCE, Damage.OTHER_LEASE),
    )
    yield _Plot("a replay and a delete", (create("again", key="k"), delete("delete")), keyed, damaged)
    yield _Plot("two replays", (create("one", key="k"), create("two", key="k")), keyed, (Damage.LOST,))
    yield _Plot("another's create", (create("other", creator="bob"),), first, damaged)
    yield _Plot("a create and a deletion by hand", (create("create"), delete_by_hand("tool")))
    yield _Plot(
        "a replay and a deletion by hand",
        (create("again", key="k"), delete_by_hand("tool")),
        keyed,
        (Damage.NONE, Damage.LOST),
    )
    yield _Plot("a create and a reconciler", (create("create"), reconcile("reconciler")))
    yield _Plot("a create without creator and a reconciler", (create("create", creator=None), reconcile("reconciler")))
    yield _Plot(
        "a re-create and a reconciler",
        (create("again"), reconcile("reconciler")),
        first,
        (*registration_damaged, Damage.UNSCHEDULED),
    )
    yield _Plot("a replay and a reconciler", (create("again", key="k"), reconcile("reconciler")), keyed, (Damage.LOST,))
    yield _Plot(
        "a delete and a reconciler",
        (delete("delete"), reconcile("reconciler")),
        first,
        (*damaged, *registration_damaged[1:]),
    )
    yield _Plot(
        "a delete and a reconciler of one kind",
        (delete("delete"), reconcile("reconciler", kinds=["unowned"])),
        first,
        (Damage.LOST,),
    )
    yield _Plot(
        "a deletion by hand and a reconciler",
        (delete_by_hand("tool"), reconcile("reconciler")),
        first,
        (Damage.NONE, *registration_damaged),
    )
    yield _Plot(
        "two reconcilers", (reconcile("one"), reconcile("two")), first, (*registration_damaged, Damage.UNSCHEDULED)
    )
    yield _Plot("a create, a delete, a reconciler", (create("create"), delete("delete"), reconcile("reconciler")))
    yield _Plot(
        "a delete, a re-create, a reconciler",
        (delete("delete"), create("again"), reconcile("reconciler")),
        first,
        (Damage.NONE, *registration_damaged),
    )
    yield _Plot("create, delete, re-create", (create("create"), delete("delete"), create("again")))
    yield _Plot("the same with one key", (create("create", key="k"), delete("delete"), create("again", key="k")))
    yield _Plot(
        "two deletes and a re-create", (delete("delete1"), delete("delete2"), create("again")), first, once_more
    )
    yield _Plot(
        "a replay, a delete, a re-create",
        (create("again", key="k"), delete("delete"), create("new")),
        keyed,
        (Damage.LOST,),
    )


def scenarios(*, most_faults: int = 2) -> Iterator[Scenario]:
    """All scenarios, each with its retries as shipped, cut to one, and cut to none, and on each kind of Temporal.

    Where three operations meet, there are ten times as many worlds: they have the most faults without retries, and one
    fault with the retries as shipped; with a reconciler among them, one fault without retries. What the reconciler
    reads and writes is the same on each kind of Temporal.
    """
    for plot in _plots():
        three = len(plot.operations) > 2
        deletes = any(operation.kind not in ("create_schedule", RECONCILE) for operation in plot.operations)
        for damage, temporal, retries in itertools.product(plot.damage, _TEMPORALS, (None, 1, 0)):
            name, forgetful, rules = temporal
            if (damage is Damage.RESERVED) != (name == "reserving") or (not deletes and name in ("forgetful", "CHASM")):
                continue
            reconciles = _with_reconciler(plot.operations)
            if three and (retries == 1 or name == "forgetful"):
                continue
            if reconciles and (name or retries == 1 or (three and retries is None)):
                continue
            labels = [plot.name, damage.value, f"{retries} retries" if retries is not None else "", name]
            yield Scenario(
                name=", ".join(filter(None, labels)),
                operations=plot.operations,
                before=plot.before,
                damage=damage,
                most_faults=min(most_faults, 1) if three and (retries is None or reconciles) else most_faults,
                most_retries=retries,
                forgetful=forgetful,
                rules=rules,
            )


def _with_reconciler(operations: Iterable[Operation]) -> bool:
    return any(operation.kind == RECONCILE for operation in operations)


# Name, whether it is forgetful, and its rules.
_TEMPORALS = (
    ("", False, Rules.V1),
    ("forgetful", True, Rules.V1),
    ("CHASM", True, Rules.CHASM_LAX),
    ("reserving", False, Rules.CHASM),
)


def bounded_scenarios() -> list[Scenario]:
    """Scenarios that are explored in seconds.

    Where two operations meet, they have two faults as shipped, and without retries on the Temporal that forgets most:
    there two faults end a second round as well. All others have one. Three operations, a reconciler among them, meet
    here without damage alone.
    """
    quick = []
    for two, one in zip(scenarios(), scenarios(most_faults=1), strict=True):
        shipped, without = two.most_retries is None, two.most_retries == 0
        plain, forgets_most = two.rules is Rules.V1 and not two.forgetful, two.rules is Rules.CHASM_LAX
        if len(two.operations) > 2:
            damaged = two.damage is not Damage.NONE
            if without and plain and not (damaged and _with_reconciler(two.operations)):
                quick.append(one)
        elif (shipped and not two.forgetful) or (without and forgets_most):
            quick.append(two)
        elif (shipped and forgets_most) or (without and plain):
            quick.append(one)
    return quick


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
    # Damage that is as it was awaits repair.
    begun = explorer.begun
    untouched = (live(world.spicedb), there) == (live(begun.spicedb), temporal_model.live(begun.temporal))
    # So does a create that found a schedule that nobody owns.
    said = any("awaits repair" in (ending.cause or "") for ending in endings if ending)
    if not left and not untouched:
        if held and (made_by is None or fence != made_by) and fence not in world.orphaned:
            return f"relationships without their schedule, and no answer says so: {sorted(held)}"
        whole = fence == made_by and {"owner", "parent_agent"} <= held.keys()
        # One that was damaged before may be so still, of another kind.
        was_damaged = (
            explorer.scenario.damage is not Damage.NONE and made_by == explorer.scenario.before[0].registration
        )
        if owned and not whole and not said and not (was_damaged and not held):
            return "a schedule with a creator and without its relationships, and no answer says so"
    if stored is not None and fence == made_by and held.get("owner") != memo_of(stored)["creator"].partition(":")[2]:
        return "a schedule of another creator was taken over"
    if fence is not None and "viewer" in held and fence not in (explorer.scenario.before[0].registration, "anothers"):
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
        # Another create may have restored it, and say that it is left.
        has_left = made_by == mine or (fence == mine and not left)
        if ending.status == "FAILED" and not is_left(ending) and has_left:
            return f"{operation.name} was answered with {ending.error}, and something of it is there"
        if ending.status == "SUCCEEDED" and operation.kind == "delete_schedule":
            stands = made_by in {registration_of(each) for each in temporal_model.live(begun.temporal)}
            own = any((t[2], t[4]) == ("registered_by", made_by) for t in live(begun.spicedb))
            # That something is left to be repeated, it may say with success; but not where it has done nothing at all.
            if stands and (json.loads(ending.output or "")["deregistered"] or (own and untouched)):
                return f"{operation.name} was answered with success, and the schedule is there as before"
        if ending.status == "FAILED" and ending.error not in EXPECTED:
            return f"{operation.name} was answered with {ending.error}: {ending.cause}"
    return _recovers(explorer, world) if left or held or there else ""


EXPECTED = {
    *("AuthorizationUnavailable", "CompensationFailed", "CreateInProgress", "IdempotencyKeyReused", "OutcomeUnknown"),
    *("Lambda.Unknown", "NameReserved", "Runtime.ExitError", "ScheduleAlreadyExists", "ScheduleNotFound"),
    *("TemporalUnavailable", "TriggerOutcomeUnknown", "TriggerUnconfirmed"),
}


def is_left(ending: Ending) -> bool:
    """Whether an answer says that the outcome is unknown, or that something is left to be finished later."""
    if ending.status == "ABORTED" or ending.error in ("CompensationFailed", "OutcomeUnknown"):
        return True
    if (ending.cause or "").startswith("outcome unverified"):
        return True
    # Of a delete; and of a reconciler that failed, or has not come to its end.
    return any(words in (ending.output or "") for words in ('"deregistered":false', '"error":', '"position":{'))


def live(state: spicedb_model.State) -> spicedb_model.State:
    """The relationships of the schedule, less those that are over and only wait to be collected."""
    return frozenset(t for t in state if t[0] == "agent_schedule" and (t[5] is None or t[5] > NOW))


def _recovers(explorer: Explorer, world: World) -> str:
    """What stays wrong once leases and reservations are over and an operation is repeated: a delete, or a create."""
    world = replace(world, spicedb=aged(world.spicedb), temporal=temporal_model.live(world.temporal))
    if wrong := _reconciles(explorer, world):
        return wrong
    after, ending = explorer.alone(world, delete("repeated-delete"))
    if temporal_model.live(after.temporal) or live(after.spicedb):
        return f"a repeated delete leaves something: {ending}"
    # A create without a creator leaves SpiceDB as it is.
    creates = (each for each in explorer.scenario.operations if '"user_id"' in each.request)
    for repeated in (create("repeated-create"), *(replace(each, name=f"repeated-{each.name}") for each in creates)):
        if wrong := _recovers_by(explorer, world, repeated):
            return wrong
    return ""


def _reconciles(explorer: Explorer, world: World) -> str:
    """What a run of the reconciler leaves, or takes away."""
    after, ending = explorer.alone(world, reconcile("later", RECONCILE_LATER))
    if after.temporal != world.temporal:
        return f"a reconciler changes Temporal: {ending}"
    held = {t[2]: t[4] for t in live(after.spicedb)}
    stored = next(iter(temporal_model.live(after.temporal)), None)
    if stored is None or memo_of(stored)["creator"] is None:
        return f"a reconciler leaves relationships without their schedule: {sorted(held)}" if held else ""
    fence = registration_of(stored)
    if held.get("registered_by") != fence or not {"owner", "parent_agent"} <= held.keys() or "creating" in held:
        return f"a reconciler leaves a schedule without its relationships: {sorted(held)}"
    was_whole = any(t[2] == "registered_by" and t[4] == fence for t in live(world.spicedb))
    if was_whole and "viewer" in {t[2] for t in live(world.spicedb)} and "viewer" not in held:
        return "a reconciler takes a grant away"
    return ""


def _recovers_by(explorer: Explorer, world: World, repeated: Operation) -> str:
    """What stays wrong after a create; a schedule that nobody owns may stay so, until it is deleted or repaired."""
    unowned = not live(world.spicedb)
    after, ending = explorer.alone(world, repeated)
    stored = next(iter(temporal_model.live(after.temporal)), None)
    if stored is None:
        return f"a repeated create makes no schedule: {ending}"
    fence = {t[4] for t in live(after.spicedb) if t[2] == "registered_by"}
    agree = fence == ({registration_of(stored)} if memo_of(stored)["creator"] else set())
    if ending.status == "FAILED" and ending.error not in ("IdempotencyKeyReused", "ScheduleAlreadyExists"):
        return f"a repeated create fails: {ending}"
    changed = live(after.spicedb) not in (live(world.spicedb), frozenset())
    if not agree and (ending.error != "ScheduleAlreadyExists" or changed):
        return f"after a repeated create the systems differ: {ending}"
    memo, request = memo_of(stored), json.loads(repeated.request)
    key = request["idempotency_key"]
    if not agree and unowned and key and key == memo["idempotency_key"] and ending.error == "ScheduleAlreadyExists":
        return f"a repeated create does not restore what it had registered: {ending}" if _same(memo, request) else ""
    return ""


def _same(memo: Any, request: Any) -> bool:
    asked = CreateRequest.parse(request)
    return Memo.model_validate(memo).is_of(asked)
