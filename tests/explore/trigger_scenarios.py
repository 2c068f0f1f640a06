"""Triggers with keys, beside deletes and creates: what is explored, and what has to hold at the end of every world."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.explore import temporal_model
from tests.explore.explorer import Explorer, Scenario
from tests.explore.interpreter import Ending
from tests.explore.scenarios import AGENT, NAME, create, delete, judge, live
from tests.explore.world import Operation, World
from tests.support.machines import DEFINITIONS

# One function and nothing around it, as a definition: a request that fails is not repeated by itself.
_TRIGGER: Mapping[str, Any] = {
    "StartAt": "Trigger",
    "States": {
        "Trigger": {
            "Type": "Task",
            "Parameters": {"FunctionName": "${TriggerFunctionArn}", "Payload": {"request.$": "$"}},
            "ResultSelector": {"replayed.$": "$.Payload.replayed"},
            "ResultPath": "$",
            "Retry": [],
            "Catch": [],
            "Next": "Triggered",
        },
        "Triggered": {"Type": "Pass", "Parameters": {"replayed.$": "$.replayed"}, "End": True},
    },
}
MACHINES: Mapping[str, Any] = {**DEFINITIONS, "trigger_schedule": _TRIGGER}
# After these a trigger may have taken effect. The others are those of a function that was killed, or given up.
_UNKNOWN = ("TriggerOutcomeUnknown", "Runtime.ExitError", "Lambda.Unknown")


def trigger(name: str, key: str = "k") -> Operation:
    """A trigger of the schedule."""
    return Operation(name, "trigger_schedule", json.dumps({"agent_id": AGENT, "schedule_name": NAME, "key": key}))


def trigger_scenarios(*, most_faults: int = 2) -> Iterator[Scenario]:
    """All scenarios of triggers, each with a Temporal that ignores request ids it has seen, and one that does not.

    Where four operations meet, there are no faults: with them there are millions of worlds.
    """
    first, again = create("first"), create("again")
    plain: tuple[tuple[str, tuple[Operation, ...], tuple[Operation, ...]], ...] = (
        ("a trigger and a repeat", (trigger("trigger"), trigger("repeat")), (first,)),
        ("a trigger and two repeats", (trigger("trigger"), trigger("repeat1"), trigger("repeat2")), (first,)),
        ("triggers with two keys", (trigger("trigger"), trigger("other", "l")), (first,)),
        ("a trigger and a delete", (trigger("trigger"), delete("delete")), (first,)),
        ("a trigger, a delete and a re-create", (trigger("trigger"), delete("delete"), again), (first,)),
        (
            "a trigger, a delete and a re-create without creator",
            (trigger("trigger"), delete("delete"), create("again", creator=None)),
            (first,),
        ),
        ("a delete, a re-create and a repeat", (delete("delete"), again, trigger("repeat")), (first, trigger("done"))),
        (
            "a trigger, a delete, a re-create and a repeat",
            (trigger("trigger"), delete("delete"), again, trigger("repeat")),
            (first,),
        ),
    )
    for name, operations, before in plain:
        for forgetful in (False, True):
            yield Scenario(
                name=f"{name}, forgetful" if forgetful else name,
                operations=operations,
                before=before,
                most_faults=most_faults if len(operations) <= 3 else 0,
                most_retries=0,
                forgetful=forgetful,
            )


def judge_triggers(explorer: Explorer, world: World) -> str:
    """What is wrong with a world in which all is over, also one without triggers; empty if nothing is."""
    operations = (*explorer.scenario.before, *explorer.scenario.operations)
    keys = {operation.name: _key(operation) for operation in operations if operation.kind == "trigger_schedule"}
    used = [keys[name] for name in world.triggered]
    if len(used) > len(set(used)):
        return f"one key triggered twice: {world.triggered}"
    for operation, process in zip(explorer.scenario.operations, world.processes, strict=True):
        ending = process.position.ending
        assert ending
        if operation.name in keys and (wrong := _untrue(operation, ending, world, used)):
            return wrong
    return judge(explorer, world) or next(
        filter(None, (_repeated(explorer, world, key) for key in set(keys.values()))), ""
    )


def _untrue(operation: Operation, ending: Ending, world: World, used: list[str]) -> str:
    """What is untrue about the answer to a trigger."""
    took_effect = operation.name in world.triggered
    if ending.status == "SUCCEEDED":
        replayed = json.loads(ending.output or "")["replayed"]
        if replayed and _key(operation) not in used:
            return f"{operation.name} was replayed, and nothing had been triggered"
        if not replayed and not took_effect:
            return f"{operation.name} was answered with success, and triggered nothing"
    elif ending.status == "FAILED" and ending.error not in _UNKNOWN and took_effect:
        return f"{operation.name} was answered with {ending.error}, and had triggered"
    return ""


def _repeated(explorer: Explorer, world: World, key: str) -> str:
    """What stays wrong when a trigger is repeated after all is over."""
    after, ending = explorer.alone(world, trigger("late", key))
    done = [name for name in world.triggered if name in _of_key(explorer, key)]
    if done and "late" in after.triggered:
        return f"a late repeat triggers again: {ending}"
    fences = {t[4] for t in live(world.spicedb) if t[2] == "registered_by"}
    if world.faults or not fences or not temporal_model.live(world.temporal):
        return ""
    if ending.error == "TriggerUnconfirmed":
        return "without a fault, a key is left whose outcome is not known"
    if not done and "late" not in after.triggered:
        return f"a key that triggered nothing cannot be used: {ending}"
    return ""


def _of_key(explorer: Explorer, key: str) -> list[str]:
    operations = (*explorer.scenario.before, *explorer.scenario.operations)
    return [each.name for each in operations if each.kind == "trigger_schedule" and _key(each) == key]


def _key(operation: Operation) -> str:
    return str(json.loads(operation.request)["key"])
