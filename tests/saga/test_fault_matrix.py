"""Every call that a saga makes meets every fault, and an execution is stopped in every state, on the real engines.

After each case the answer is right, the two systems are in step or the answer says that they may not be, and nobody
else's schedule has changed (docs/guarantee.md). Whatever is left then, a repeat of the request puts right once the
lease is over, and after a delete nothing is left.

The cases are made of what the scenarios write down, and a scenario fails that does not write down all that its saga
does. A case is run by its name, `-k create-CheckPermission:1-lost-reply-lasting`.
"""

import ast
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from temporalio.api.workflowservice.v1 import service_pb2

from local.aws.lambda_runtime import LambdaRuntime
from local.aws.step_functions import StepFunctions
from local.aws.template import Template
from saga_core.settings import call_settings
from saga_spicedb import gateway as spicedb_gateway
from saga_temporal import gateway as temporal_gateway
from tests.saga.play import PATIENT_SECONDS, SPICEDB_METHODS, Play, engine
from tests.saga.scenarios import NOTHING, SCENARIOS, Scenario, Scene, World, alices_create_comes_late, answer
from tests.support.machines import DEFINITIONS, template
from tests.support.proxy import Fault, FaultProxy
from tests.support.saga_stack import Ended, Stack

TEMPORAL_METHODS = frozenset(service_pb2.DESCRIPTOR.services_by_name["WorkflowService"].methods_by_name)
MACHINES = {name: DEFINITIONS[name.replace("-", "_")] for name in ("create-schedule", "delete-schedule")}
# What a caller may be told where an engine does not get well in time, or a function dies every time.
TROUBLE = {
    ("create-schedule", "spicedb"): {
        "AuthorizationUnavailable",
        "Runtime.ExitError",
        "CompensationFailed",
        "OutcomeUnknown",
    },
    ("create-schedule", "temporal"): {"TemporalUnavailable", "Runtime.ExitError", "OutcomeUnknown"},
    ("delete-schedule", "spicedb"): {"deferred"},
    ("delete-schedule", "temporal"): {"TemporalUnavailable", "Runtime.ExitError", "deferred"},
}
# The states that no scenario enters, each with a case that does.
ONLY_AFTER_A_FAULT = {
    ("create-schedule", "NotReadBack"): "create-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "NotConfirmed"): "create-retried-WriteRelationships:2-refused-lasting",
    ("create-schedule", "NotVerified"): "create-retried-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "OutcomeUnknown"): "create-retried-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "Unverified"): "create-unheard-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "CompensationFailed"): "create-rejected-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "Unverified"): "delete-unheard-DescribeSchedule:2-refused-lasting",
    ("delete-schedule", "DeregisterDeferred"): "delete-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "OriginalError"): "delete-DescribeSchedule:1-refused-lasting",
    ("delete-schedule", "Failed"): "delete-DescribeSchedule:1-refused-lasting",
}


@dataclass(frozen=True)
class Case:
    """A scenario, and what goes wrong.

    Attributes:
        disturb: arranges it.
        engine: whose calls meet the fault.
        lasting: whether retries meet it too.
        stopped: whether the execution is stopped.
    """

    scenario: Scenario
    fault: str
    disturb: Callable[[Play], None]
    engine: str = ""
    lasting: bool = False
    stopped: bool = False

    @property
    def name(self) -> str:
        """The name of the test case."""
        return f"{self.scenario.name}-{self.fault}"

    @property
    def told(self) -> set[str]:
        """What the caller may be told, as `answer` has it."""
        if self.stopped:
            return {"Stopped"}
        expected = {self.scenario.answer, self.scenario.retried or self.scenario.answer}
        return expected | TROUBLE[self.scenario.machine, self.engine] if self.lasting else expected


def _meet(play: Play, method: str, number: int, fault: Fault, times: int | None) -> None:
    play.proxy(method).inject(method, fault, times=times, at=number)


def _be_late(play: Play, state: str, method: str, number: int) -> None:
    play.hasty_in = state
    play.proxy(method).on_call(method, number, play.be_patient)
    _meet(play, method, number, Fault.SLOW, times=1)


def _go_down(play: Play, method: str, number: int) -> None:
    play.proxy(method).inject(method, Fault.REFUSED, at=number)
    play.proxy(method).on_call(method, number, play.proxy(method).cut)


def _stop(play: Play, method: str, number: int) -> None:
    play.proxy(method).on_call(method, number, play.stop)


def _stop_and_kill(play: Play, method: str, number: int) -> None:
    _stop(play, method, number)
    play.proxy(method).inject(method, Fault.KILLED_BEFORE, at=number)


def _on_calls(scenario: Scenario) -> Iterator[Case]:
    """Faults on every call, once and lasting; its engine goes down; the execution is stopped in it.

    A killed function, or a late call, is to the engines no more than a refused call or a lost reply. What else there is
    to it depends on the state and its function alone, so these two are tried where a state makes the call first of all.
    A late call does not last: the test would have to wait for each.
    """
    for state, method, number in scenario.calls:
        call, of = f"{method}:{number}", engine(method)
        first = _FIRST_CALL[scenario.machine, state, method] == (scenario.name, number)
        for fault in Fault if first else (Fault.REFUSED, Fault.LOST_REPLY):
            name = f"{call}-{fault.name.lower().replace('_', '-')}"
            if fault is Fault.SLOW:
                yield Case(scenario, name, partial(_be_late, state=state, method=method, number=number), of)
                continue
            meet = partial(_meet, method=method, number=number, fault=fault)
            yield Case(scenario, name, partial(meet, times=1), of)
            yield Case(scenario, f"{name}-lasting", partial(meet, times=None), of, lasting=True)
        yield Case(scenario, f"{call}-down", partial(_go_down, method=method, number=number), of, lasting=True)
        # The function goes on in the one case, and dies in the other.
        yield Case(scenario, f"{call}-stopped", partial(_stop, method=method, number=number), stopped=True)
        killed = partial(_stop_and_kill, method=method, number=number)
        yield Case(scenario, f"{call}-stopped-and-killed", killed, stopped=True)


def _stopped_in(state: str, scenario: Scenario, case: Case | None = None) -> Case:
    """The execution is stopped when it enters the state, which it does only after the fault of ``case``, if given."""

    def disturb(play: Play) -> None:
        play.stop_in = state
        if case:
            case.disturb(play)

    return Case(scenario, f"{case.fault}-stopped-in-{state}" if case else f"stopped-in-{state}", disturb, stopped=True)


_FIRST_CALL = {
    (scenario.machine, state, method): (scenario.name, number)
    for scenario in reversed(SCENARIOS)
    for state, method, number in reversed(list(scenario.calls))
}
ON_CALLS = {case.name: case for scenario in SCENARIOS for case in _on_calls(scenario)}
_FIRST_ENTRY = {(scenario.machine, state): scenario for scenario in reversed(SCENARIOS) for state in scenario.states}
IN_STATES = {
    **{(of, state): _stopped_in(state, scenario) for (of, state), scenario in _FIRST_ENTRY.items()},
    **{
        (of, state): _stopped_in(state, ON_CALLS[name].scenario, ON_CALLS[name])
        for (of, state), name in ONLY_AFTER_A_FAULT.items()
    },
}


@pytest.fixture(scope="module")
def machines(_session: Stack, _proxies: tuple[FaultProxy, FaultProxy, Template]) -> Iterator[StepFunctions]:
    """The machines of the stack once more, without HTTP in front of them, and with patient functions."""
    template = _proxies[2]
    machines = StepFunctions(LambdaRuntime(template.functions), on_backoff=_session.waited)
    for machine in template.state_machines:
        if machine.name in MACHINES:
            machines.deploy(machine)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RPC_TIMEOUT_SECONDS", PATIENT_SECONDS)
        call_settings.cache_clear()
        yield machines
    call_settings.cache_clear()
    machines.stop_all()


@pytest.fixture(scope="module")
def bystander(_session: Stack) -> tuple[str, World]:
    """An agent of alice's with a schedule in both systems, and what they hold of it."""
    _session.agent = f"agent-{uuid.uuid4().hex[:12]}"
    _session.own_agent("alice")
    scene = Scene(_session, "bystander")
    scene.earlier(scene.request())
    return _session.agent, scene.world()


@pytest.fixture
def scene(stack: Stack, bystander: tuple[str, World]) -> Iterator[Scene]:
    """A name that is free, of an agent that has another schedule, which has to stay as it is."""
    stack.agent, before = bystander
    yield Scene(stack, f"schedule-{uuid.uuid4().hex[:8]}")
    assert Scene(stack, "bystander").world() == before, "another schedule was touched"


def _wrong(case: Case, before: World, after: World, ended: Ended, ours: dict[str, str]) -> Iterator[str]:
    """What is wrong with an answer and with what both systems hold after it. All the invariants stand here."""
    told = answer(ended)
    mine = after.memo is not None and after.memo["registration"] == ended.registration
    unverified = (ended.cause or "").startswith("outcome unverified")
    unsure = unverified or told in ("Stopped", "CompensationFailed", "OutcomeUnknown")
    if told not in case.told:
        yield f"the caller is told {told}, not {' or '.join(sorted(case.told))}"
    if after.held not in ({}, before.held, ours):
        yield "the relationships are not those of one operation, all of them"
    if not mine and after.memo not in (None, before.memo):
        yield "the schedule is nobody's"
    stray_before = after.memo == before.memo and not before.in_step
    if after.memo and after.memo["creator"] and not (after.in_step or stray_before or unverified):
        yield "the creator of the schedule does not own it"

    if case.scenario.machine == "create-schedule":
        in_use = before.leased or (before.memo and before.in_step)
        if in_use and (after.memo != before.memo or (before.held and after.held != before.held)):
            yield "another operation's schedule was touched"
        if told == "created":
            if not (mine and after.in_step and ended.output["registered"] == bool(after.held)):
                yield "it is not created"
            if not (ended.output["read_back"] or case.lasting):
                yield "it is not read back, although no fault lasted"
        elif told == "replayed":
            if not (before.memo and before.in_step and after == before):
                yield "there is nothing to replay"
        elif not unsure and (mine or after.held == ours):
            yield "it failed, and something of it is there"
        elif told == "CompensationFailed" and mine:
            yield "the schedule is there, and only the relationships may be"
        elif unverified and after.held == ours:
            yield "the relationships are there, and only the schedule may be"
        return

    came_late = case.scenario.meanwhile is alices_create_comes_late and after == before
    if before.leased and before.memo is None and after != before:
        yield "a create in flight was touched"
    if told in ("deleted", "deferred"):
        if ended.output["existed"] != (before.memo is not None):
            yield "whether it existed is told wrong"
        if after.memo is not None and not came_late:
            yield "it is not deleted"
        if told == "deleted" and after != NOTHING:
            yield "something is left"
    elif unverified and after.held != before.held:
        yield "the relationships went, although it is not known whether the schedule did"
    elif not unsure and after != before:
        yield "it failed, and something is gone"


def _repeated(scene: Scene, scenario: Scenario, after: World, registration: str) -> tuple[list[str], str]:
    """Let the lease be over, repeat the request, and delete. Answers what is wrong with that, and how it went."""
    wrong = []
    scene.stack.end_lease(scene.name)
    stands = after.memo is not None and after.memo["registration"] == registration and after.in_step
    expected = "replayed" if stands else scenario.again or scenario.answer

    again = scene.stack.run(scenario.machine, scenario.request(scene))
    then = scene.world()
    if answer(again) != expected:
        wrong.append(f"the repeat is told {answer(again)}, not {expected}")
    if not then.in_step:
        wrong.append("the systems are not in step after the repeat")
    if (expected == "deleted" and then != NOTHING) or (expected == "created" and then.memo is None):
        wrong.append("the repeat is not done")
    if expected not in ("deleted", "created") and then.memo != after.memo:
        wrong.append("the repeat has touched the schedule")

    deleted = scene.stack.delete(scene.name)
    last = scene.world()
    if answer(deleted) != "deleted" or deleted.output["existed"] != (then.memo is not None):
        wrong.append("the delete is told wrong")
    if last != NOTHING:
        wrong.append("something is left after a delete")
    return wrong, f"{_told(again)}\n  {then}\ndelete: {_told(deleted)}\n  {last}"


def _told(ended: Ended) -> str:
    return f"{ended.status} {answer(ended)} {ended.output or ended.cause}\n  {' '.join(ended.states)}"


# What a repeat makes of what is left depends on nothing but that, so each kind of leftover of a scenario is repeated
# once: by scenario and by whose the relationships and the schedule are.
_repeats: dict[tuple[str, str, str], tuple[list[str], str]] = {}


def _whose(holding: object, before: object) -> str:
    return "nobody's" if not holding else "as before" if holding == before else "its own"


def _play(case: Case, scene: Scene, machines: StepFunctions) -> Play:
    """Play a case; fails unless everything is right then, or is put right by a repeat."""
    scenario, stack = case.scenario, scene.stack
    scenario.given(scene)
    before = scene.world()
    stack.spicedb.clear()
    stack.temporal.clear()
    if scenario.cold:
        stack.reconnect()
    scenario.meanwhile(scene)
    play = Play(machines, scene, scenario)
    case.disturb(play)
    ended = play.run()
    stack.spicedb.clear()
    stack.temporal.clear()
    after = scene.world()

    wrong = list(_wrong(case, before, after, ended, stack.registered(by=ended)))
    kind = (scenario.name, _whose(after.held, before.held), _whose(after.memo, before.memo))
    if kind not in _repeats:
        _repeats[kind] = _repeated(scene, scenario, after, ended.registration)
    wrong_again, how = _repeats[kind]
    steps = "\n  ".join(play.steps)
    assert not wrong + wrong_again, "\n".join(
        [
            f"{case.name}: {'; '.join(wrong + wrong_again)}",
            f"before: {before}",
            f"{_told(ended)}",
            f"  {steps}",
            f"waits: {stack.waits(ended)}",
            f"after: {after}",
            f"repeated: {how}",
        ]
    )
    return play


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_does_what_is_written_down(scene: Scene, machines: StepFunctions, scenario: Scenario) -> None:
    play = _play(Case(scenario, "undisturbed", lambda _: None), scene, machines)

    assert play.steps == scenario.steps


@pytest.mark.parametrize("case", ON_CALLS.values(), ids=ON_CALLS)
def test_whatever_a_call_meets_the_answer_is_right_and_a_repeat_leaves_nothing(
    scene: Scene, machines: StepFunctions, case: Case
) -> None:
    _play(case, scene, machines)


@pytest.mark.parametrize(("of", "state"), IN_STATES, ids=[case.name for case in IN_STATES.values()])
def test_wherever_an_execution_is_stopped_a_repeat_leaves_nothing(
    scene: Scene, machines: StepFunctions, of: str, state: str
) -> None:
    play = _play(IN_STATES[of, state], scene, machines)

    assert play.steps[-1] == state


def test_every_state_of_the_machines_is_entered() -> None:
    assert {(name, state) for name, machine in MACHINES.items() for state in machine["States"]} == IN_STATES.keys()


def test_every_call_that_the_functions_of_the_machines_can_make_is_made() -> None:
    tasks = [state for machine in MACHINES.values() for state in machine["States"].values() if state["Type"] == "Task"]
    invoked = {task["Parameters"]["FunctionName"].removeprefix("${").removesuffix("Arn}") for task in tasks}
    apps = [import_module(function.module) for function in template().functions if function.logical_id in invoked]
    can = {rpc for gateway in (spicedb_gateway, temporal_gateway) for rpc in _callable(apps, gateway)}
    made = {method for scenario in SCENARIOS for _, method, _ in scenario.calls}

    assert len(apps) == len(invoked)
    assert made - can == {"GetSystemInfo"}, "what temporalio itself asks when it connects"
    assert can <= made


def _callable(apps: Iterable[ModuleType], gateway: ModuleType) -> set[str]:
    """The RPCs made by those methods of a gateway that the apps call, and by the methods that these call."""
    rpcs = {re.sub("(?<!^)([A-Z])", r"_\1", method).lower(): method for method in TEMPORAL_METHODS}
    rpcs |= {method: method for method in SPICEDB_METHODS}
    code = _parsed(gateway)
    methods = {node.name: node for node in ast.walk(code) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    accessor = f"{gateway.__name__.removeprefix('saga_').removesuffix('.gateway')}()"

    reached: set[str] = set()
    called = {name for app in apps for name in _attributes(_parsed(app), of=accessor)}
    while called:
        reached |= called
        called = {name for method in called for name in _attributes(methods[method], of="self")} & methods.keys()
        called -= reached
    return {rpcs[name] for method in reached for name in _attributes(methods[method]) if name in rpcs}


def _parsed(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text())


def _attributes(node: ast.AST, of: str | None = None) -> set[str]:
    attributes = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute)]
    return {attribute.attr for attribute in attributes if of in (None, ast.unparse(attribute.value))}
