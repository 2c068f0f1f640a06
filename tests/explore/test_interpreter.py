"""The explorer's interpreter does what moto's does, on every path through the sagas' machines."""

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
from tests.support.machines import DEFINITIONS, SAGAS, states_of

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
                ("other", "r2"),
                ("replay", "r2"),
                ("reused", "r2"),
            ),
        )
    ],
    "Compensate": [{"removed": True, "more": False}, {"removed": True, "more": True}],
    "TemporalDelete": [{"existed": True}],
    "Deregister": [
        {"removed": True, "more": False, "holder": None},
        {"removed": True, "more": True, "holder": None},
        {"removed": False, "more": False, "holder": HOLDER},
        {"removed": False, "more": False, "holder": {**HOLDER, "lease_seconds": 9}},
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
    """Every way through a machine: (function, what it comes to) of its tasks, the states they stand in, and its end.

    The branches of a Parallel state are taken one after another.
    """
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
        place = machine.places(position)[0]
        function, _ = machine.task(position, context, place)
        branch, own = machine.at(position, place)
        visited = [*visited, f"{own.state} again" if own.retries else own.state]
        # Answers that the machine cannot tell apart are one.
        told_apart = {machine.succeed(position, answer, context, place): answer for answer in ANSWERS[function]}
        waiting += [
            ((*script, (function, dumps(answer))), visited, succeeded) for succeeded, answer in told_apart.items()
        ]
        if sum(isinstance(outcome, tuple) for _, outcome in script) < MOST_ERRORS:
            for error in errors_of(branch.states[own.state]):
                cause = dumps({"errorType": error, "errorMessage": "it 'failed' {badly}, twice"})
                failed = machine.fail(position, error, cause, context, place)
                waiting.append(((*script, (function, (error, cause))), visited, failed))


def plain(value: Any) -> Any:
    """A cause without the order of keys in the JSON within it, however deep: it says nothing."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, str) and "{" in value and value.endswith("}"):
        words, _, rest = value.partition("{")
        return words, plain(json.loads("{" + rest))
    return value


class Scripted:
    """Stands where the functions stand: answers what the script says.

    The branches of a Parallel state call at the same time. They call different functions.
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.payloads: list[str] = []

    def invoke(self, name: str, payload: Any) -> Invocation:
        self.payloads.append(known(json.loads(payload) if isinstance(payload, str | bytes) else payload))
        own = next(each for each in self.script if f"{each[0]}Function" in name)
        self.script.remove(own)
        outcome = own[1]
        if isinstance(outcome, tuple):
            return Invocation("id", outcome[1], "Unhandled")
        return Invocation("id", outcome)


def known(payload: dict[str, Any]) -> str:
    """A payload as canonical JSON text, less the registration: it is made of a UUID."""
    made = payload.get("registration")
    return dumps({**payload, "registration": f"{len(made)} characters"} if made else payload)


@pytest.fixture
def moto() -> Iterator[Callable[[str, Script], tuple[list[str], Any, Scripted]]]:
    functions = Scripted()
    step_functions = StepFunctions(functions, on_backoff=lambda _: None)  # type: ignore[arg-type] # only invoke is used
    for kind in SAGAS:
        definition = DEFINITIONS[kind]
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{kind}"
        step_functions.deploy(StateMachine(kind, kind, arn, "EXPRESS", json.dumps(definition)))

    def run(kind: str, script: Script) -> tuple[list[str], Any, Scripted]:
        functions.script, functions.payloads = list(script), []
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{kind}"
        execution = step_functions.start_sync_execution(arn, None, json.dumps(REQUEST))
        events: Any = execution.to_history_output()["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
        return entered, execution.described(), functions

    yield run
    step_functions.stop_all()


@pytest.mark.parametrize("kind", SAGAS)
def test_it_ends_as_motos_does_on_every_path(
    kind: str, moto: Callable[[str, Script], tuple[list[str], Any, Scripted]]
) -> None:
    # Paths that differ in nothing but what came before a state need not all be walked in moto: one for each distinct
    # pair of neighbours, and one for each ending, is enough to take every edge in every way.
    every = dict(states_of(DEFINITIONS[kind]))
    seen: set[Any] = set()
    walked = set()
    for script, visited, ending in scripts(kind):
        pairs = set(itertools.pairwise(zip(visited, script, strict=True))) | {(ending.error, visited[-1], script[-1])}
        if pairs <= seen:
            continue
        seen |= pairs
        entered, described, _ = moto(kind, script)
        walked |= set(entered)

        tasks = [name for name in entered if every[name]["Type"] == "Task"]
        assert sorted(tasks) == sorted(name for name in visited if not name.endswith(" again"))
        assert described["status"] == ending.status, script
        assert described.get("error") == ending.error, script
        if ending.status == "SUCCEEDED":
            assert json.loads(described["output"]) == json.loads(ending.output or "")
        assert plain(described.get("cause")) == plain(ending.cause), script

    assert walked == set(every), "every state is on some path"


@pytest.mark.parametrize("kind", SAGAS)
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
        for _, outcome in script:
            place = machine.places(position)[0]
            expected.append(known(json.loads(machine.task(position, context, place)[1])))
            if isinstance(outcome, tuple):
                position = machine.fail(position, outcome[0], outcome[1], context, place)
            else:
                position = machine.succeed(position, json.loads(outcome), context, place)
        assert sorted(functions.payloads) == sorted(expected)
