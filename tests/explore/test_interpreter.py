"""The explorer's interpreter does what moto's does, on every path through the shipped machines."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.aws.lambda_runtime import Invocation
from local.aws.resources import StateMachine
from local.aws.step_functions import StepFunctions
from local.stack.endpoints import ACCOUNT, REGION
from tests.explore.interpreter import Ending, Machine, dumps
from tests.support.machines import DEFINITIONS

REQUEST = {"agent_id": "a", "n": [1, {"ü": None}]}
DESCRIBED = {"schedule_id": "a--b", "registered": True, "schedule": {"schedule_id": "a--b"}}
HOLDER = {"registration": "r0", "lease_seconds": 0}
Script = tuple[Any, ...]

# What each function may answer, as far as the machines can tell the answers apart.
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "Register": [
        {"schedule_id": "a--b", "outcome": "registered", "registered": True, "holder": None},
        {"schedule_id": "a--b", "outcome": "skipped", "registered": False, "holder": None},
        {"schedule_id": "a--b", "outcome": "occupied", "registered": False, "holder": HOLDER},
        {"schedule_id": "a--b", "outcome": "occupied", "registered": False, "holder": {**HOLDER, "lease_seconds": 9}},
    ],
    "TemporalCreate": [{"repeated": False}, {"repeated": True}],
    "TemporalDescribe": [
        {**DESCRIBED, "exists": match != "absent", "match": match, "registration": registration}
        for match, registration in (
            *(
                ("ours", "r1"),
                ("absent", None),
                ("stray", "r1"),
                ("other", None),
                ("other", "r2"),
                ("replay", "r2"),
                ("reused", "r2"),
            ),
        )
    ],
    "Compensate": [{"removed": True}],
    "TemporalDelete": [{"existed": True}],
    "Deregister": [
        {"deregistered": True, "again": False},
        {"deregistered": True, "again": True},
        {"deregistered": False, "again": False},
    ],
}
MOST_ERRORS = 3
MOST_TASKS = 9


def errors_of(state: dict[str, Any]) -> list[str]:
    """One error that each rule of a task matches, and one that only States.ALL does."""
    rules = (*state["Retry"], *state["Catch"])
    named = {names[0] for names in (rule["ErrorEquals"] for rule in rules) if names != ["States.ALL"]}
    return [*sorted(named), "Surprise"]


def scripts(kind: str) -> Iterator[tuple[Script, list[str], Ending]]:
    """Every way through a machine: what its tasks come to, the states they stand in, and how it ends."""
    machine = Machine(DEFINITIONS[kind])
    context = Machine.context("arn", REQUEST)
    waiting: list[tuple[Script, list[str], Any]] = [((), [], machine.start("arn", REQUEST))]
    while waiting:
        script, visited, position = waiting.pop()
        if position.ending:
            yield script, visited, position.ending
            continue
        if len(script) == MOST_TASKS:
            continue
        function, _ = machine.task(position, context)
        visited = [*visited, position.state]
        waiting += [
            ((*script, dumps(answer)), visited, machine.succeed(position, answer, context))
            for answer in ANSWERS[function]
        ]
        if sum(isinstance(outcome, tuple) for outcome in script) < MOST_ERRORS:
            for error in errors_of(machine.states[position.state]):
                cause = dumps({"errorType": error, "errorMessage": "it 'failed' {badly}, twice"})
                waiting.append(((*script, (error, cause)), visited, machine.fail(position, error, cause, context)))


def plain(value: Any) -> Any:
    """A cause without the order of keys in the JSON within it, however deep: it says nothing."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, str) and "{" in value and value.endswith("}"):
        words, _, rest = value.partition("{")
        return words, plain(json.loads("{" + rest))
    return value


class Scripted:
    """Stands where the functions stand: answers what the script says."""

    def __init__(self) -> None:
        self.outcomes: Iterator[Any] = iter(())
        self.payloads: list[str] = []

    def invoke(self, _name: str, payload: Any) -> Invocation:
        self.payloads.append(dumps(json.loads(payload) if isinstance(payload, str | bytes) else payload))
        outcome = next(self.outcomes)
        if isinstance(outcome, tuple):
            return Invocation("id", outcome[1], "Unhandled")
        return Invocation("id", outcome)


@pytest.fixture
def moto() -> Iterator[Callable[[str, Script], tuple[list[str], Any, Scripted]]]:
    functions = Scripted()
    step_functions = StepFunctions(functions, on_backoff=lambda _: None)  # type: ignore[arg-type] # only invoke is used
    for kind, definition in DEFINITIONS.items():
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{kind}"
        step_functions.deploy(StateMachine(kind, kind, arn, "EXPRESS", json.dumps(definition)))

    def run(kind: str, script: Script) -> tuple[list[str], Any, Scripted]:
        functions.outcomes, functions.payloads = iter(script), []
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{kind}"
        execution = step_functions.start_sync_execution(arn, None, json.dumps(REQUEST))
        events: Any = execution.to_history_output()["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
        return entered, execution.described(), functions

    yield run
    step_functions.stop_all()


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_it_ends_as_motos_does_on_every_path(
    kind: str, moto: Callable[[str, Script], tuple[list[str], Any, Scripted]]
) -> None:
    # Paths that differ in nothing but what came before a state need not all be walked in moto: one for each distinct
    # pair of neighbours, and one for each ending, is enough to take every edge in every way.
    seen: set[Any] = set()
    walked = set()
    for script, visited, ending in scripts(kind):
        pairs = set(itertools.pairwise(zip(visited, script, strict=True))) | {(ending.error, visited[-1], script[-1])}
        if pairs <= seen:
            continue
        seen |= pairs
        entered, described, _ = moto(kind, script)
        walked |= set(entered)

        tasks = [name for name in entered if DEFINITIONS[kind]["States"][name]["Type"] == "Task"]
        assert tasks == [name for name, previous in zip(visited, [None, *visited], strict=False) if name != previous]
        assert described["status"] == ending.status, script
        assert described.get("error") == ending.error, script
        if ending.status == "SUCCEEDED":
            assert json.loads(described["output"]) == json.loads(ending.output or "")
        assert plain(described.get("cause")) == plain(ending.cause), script

    assert walked == set(DEFINITIONS[kind]["States"]), "every state is on some path"


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_it_gives_every_task_the_payload_that_motos_gives(
    kind: str, moto: Callable[[str, Script], tuple[list[str], Any, Scripted]]
) -> None:
    machine = Machine(DEFINITIONS[kind])
    seen: set[str] = set()
    for script, visited, _ in scripts(kind):
        if set(visited) <= seen:
            continue
        seen |= set(visited)
        _, described, functions = moto(kind, script)
        context = Machine.context(described["executionArn"], REQUEST)
        position = machine.start(described["executionArn"], REQUEST)
        expected = []
        for outcome in script:
            expected.append(machine.task(position, context)[1])
            if isinstance(outcome, tuple):
                position = machine.fail(position, outcome[0], outcome[1], context)
            else:
                position = machine.succeed(position, json.loads(outcome), context)
        assert functions.payloads == expected
