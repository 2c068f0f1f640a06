"""Every call that a saga makes meets every fault, and an execution is stopped in every state, on the real engines.

After each case the answer is right, the two systems are in step or the answer says that they may not be, and nobody
else's schedule has changed (docs/guarantee.md). A repeat of the request after the lease is over repairs whatever is
left, and after a delete nothing is left.

The cases are derived from the expected runs, and a test fails when a saga does not run as expected. To run one case,
name it: `-k create-CheckPermission:1-lost-reply-lasting`. Cases that are not in `cases.IN_BRIEF` are marked slow.
"""

import ast
import re
import uuid
from collections.abc import Iterable, Iterator
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
from tests.saga.cases import IN_BRIEF, IN_STATES, ON_CALLS, Case
from tests.saga.circumstances import (
    alices_create_comes_late,
    alices_create_comes_late_twice,
    another_tool_deletes_it,
    another_tool_deletes_it_late,
)
from tests.saga.expected_runs import EXPECTED_RUNS, ExpectedRun
from tests.saga.play import PATIENT_SECONDS, SPICEDB_METHODS, Play
from tests.saga.scene import NOTHING, Holdings, Scene, answer
from tests.support.machines import DEFINITIONS, states_of, template
from tests.support.proxy import FaultProxy
from tests.support.saga_stack import Ended, Stack

TEMPORAL_METHODS = frozenset(service_pb2.DESCRIPTOR.services_by_name["WorkflowService"].methods_by_name)
MACHINES = {name: DEFINITIONS[name.replace("-", "_")] for name in ("create-schedule", "delete-schedule")}


@pytest.fixture(scope="module")
def machines(_module_stack: Stack, _proxies: tuple[FaultProxy, FaultProxy, Template]) -> Iterator[StepFunctions]:
    """The machines of the stack once more, without HTTP in front of them, and with patient functions."""
    template = _proxies[2]
    machines = StepFunctions(LambdaRuntime(template.functions), on_backoff=_module_stack.waited)
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
def bystander(_module_stack: Stack) -> tuple[str, Holdings]:
    """An agent of alice's with a schedule in both systems, and what they hold of it."""
    _module_stack.agent = f"agent-{uuid.uuid4().hex[:12]}"
    _module_stack.own_agent("alice")
    scene = Scene(_module_stack, "bystander")
    scene.earlier(scene.request())
    return _module_stack.agent, scene.holdings()


@pytest.fixture
def scene(stack: Stack, bystander: tuple[str, Holdings]) -> Iterator[Scene]:
    """A name that is free, of an agent that has another schedule, which has to stay as it is."""
    stack.agent, before = bystander
    yield Scene(stack, f"schedule-{uuid.uuid4().hex[:8]}")
    assert Scene(stack, "bystander").holdings() == before, "another schedule was touched"


def _wrong(case: Case, before: Holdings, after: Holdings, ended: Ended, ours: dict[str, str]) -> Iterator[str]:
    """What is wrong with an answer and with what both systems hold after it. All the invariants are here."""
    got = answer(ended)
    mine = after.memo is not None and after.memo["registration"] == ended.registration
    registered = after.ownership == ours
    unverified = (ended.cause or "").startswith("outcome unverified")
    unsure = unverified or got in ("Stopped", "CompensationFailed", "OutcomeUnknown")
    if got not in case.answers:
        yield f"the caller gets {got}, not {' or '.join(sorted(case.answers))}"
    restored = after.ownership == before.wanted and (unsure or after.memo == before.memo)
    if after.ownership not in ({}, before.ownership, ours) and not restored:
        yield "the relationships are not those of one operation, all of them"
    if after.held and not after.ownership and after.held != before.held:
        yield "a lease or a grant is left alone"
    if not mine and after.memo not in (None, before.memo):
        yield "the schedule is nobody's"
    unowned_before = after.memo == before.memo and not before.in_step
    if after.memo and after.memo["creator"] and not (after.in_step or unowned_before or unverified):
        yield "the creator of the schedule does not own it"

    if case.run.machine == "create-schedule":
        deleted_by_hand = case.run.meanwhile in (another_tool_deletes_it, another_tool_deletes_it_late)
        if before.memo and after.memo != before.memo and not deleted_by_hand:
            yield "a create has touched a schedule"
        if before.held and (before.leased or before.memo) and (after.held, after.memo) != (before.held, before.memo):
            yield "another operation's relationships were touched"
        if got == "created":
            if not (mine and after.in_step and ended.output["registered"] == bool(after.held)):
                yield "it is not created"
            if after.leased and not ({"ConfirmRegister", "LeaseRunsOut"} & set(ended.states)):
                yield "its lease is left"
            if not (ended.output["read_back"] or case.lasting):
                yield "it is not read back, although no fault lasted"
        elif got == "replayed":
            if not (before.memo and after.memo == before.memo and after.in_step):
                yield "there is nothing to replay"
            elif after.held != before.held and (before.held or after.leased):
                yield "a replay has touched relationships"
        elif case.run.answer == "replayed" and got == "ScheduleAlreadyExists" and not unverified:
            yield "it is not said that the outcome is not verified"
        elif not unsure and (mine or registered):
            yield "it failed, and something of it is there"
        elif got == "CompensationFailed" and mine:
            yield "the schedule is there, and only the relationships may be"
        elif unverified and registered:
            yield "the relationships are there, and only the schedule may be"
        return

    late = (alices_create_comes_late, alices_create_comes_late_twice)
    came_late = case.run.meanwhile in late and (after.ownership, after.memo) == (before.ownership, before.memo)
    if before.leased and before.memo is None and after != before:
        yield "a create in flight was touched"
    if got in ("deleted", "deferred"):
        if ended.output["existed"] != (before.memo is not None):
            yield "the answer is wrong about whether it existed"
        if after.memo is not None and not came_late:
            yield "it is not deleted"
        if got == "deleted" and after != NOTHING:
            yield "something is left"
    elif unverified and after.ownership != before.ownership:
        yield "the relationships went, although it is not known whether the schedule did"
    elif not unsure and after != before and not came_late:
        yield "it failed, and something is gone"


def _repeated(
    scene: Scene, run: ExpectedRun, before: Holdings, after: Holdings, registration: str
) -> tuple[list[str], str]:
    """End the lease, repeat the request, and delete. Returns what is wrong after that, and what happened."""
    wrong = []
    scene.stack.end_lease(scene.name)
    # A schedule of its own whose relationships were removed is restored.
    owned_or_restored = after.in_step or after.held == {}
    stands = after.memo is not None and after.memo["registration"] == registration and owned_or_restored
    beside = run.again_beside if after.memo and after.memo == before.memo else ""
    expected = "replayed" if stands else beside or run.again or run.answer

    again = scene.stack.run(run.machine, run.request(scene))
    then = scene.holdings()
    if answer(again) != expected:
        wrong.append(f"the repeat gets {answer(again)}, not {expected}")
    if not then.in_step and then != before:  # a schedule that nobody owns stays as it is
        wrong.append("the systems are not in step after the repeat")
    if (expected == "deleted" and then != NOTHING) or (expected == "created" and then.memo is None):
        wrong.append("the repeat is not done")
    if expected not in ("deleted", "created") and then.memo != after.memo:
        wrong.append("the repeat has touched the schedule")

    deleted = scene.stack.delete(scene.name)
    last = scene.holdings()
    if answer(deleted) != "deleted" or deleted.output["existed"] != (then.memo is not None):
        wrong.append("the delete has the wrong answer")
    if last != NOTHING:
        wrong.append("something is left after a delete")
    return wrong, f"{_shown(again)}\n  {then}\ndelete: {_shown(deleted)}\n  {last}"


def _shown(ended: Ended) -> str:
    return f"{ended.status} {answer(ended)} {ended.output or ended.cause}\n  {' '.join(ended.states)}"


# The effect of a repeat depends only on what is left. So one repeat is enough for each kind of leftover of an expected
# run: by the run's name and by whose the relationships and the schedule are.
_repeats: dict[tuple[str, str, str], tuple[list[str], str]] = {}


def _whose(holding: object, before: object) -> str:
    return "nobody's" if not holding else "as before" if holding == before else "its own"


def _play(case: Case, scene: Scene, machines: StepFunctions) -> Play:
    """Play a case; fails unless everything is right then, or is put right by a repeat."""
    run, stack = case.run, scene.stack
    run.given(scene)
    before = scene.holdings()
    stack.spicedb.clear()
    stack.temporal.clear()
    if run.cold:
        stack.reconnect()
    run.meanwhile(scene)
    play = Play(machines, scene, run)
    case.disturb(play)
    ended = play.run()
    stack.spicedb.clear()
    stack.temporal.clear()
    stack.batch_times.clear()
    after = scene.holdings()

    wrong = list(_wrong(case, before, after, ended, stack.registered(by=ended)))
    kind = (run.name, _whose(after.held, before.held), _whose(after.memo, before.memo))
    if kind not in _repeats:
        _repeats[kind] = _repeated(scene, run, before, after, ended.registration)
    wrong_again, how = _repeats[kind]
    steps = "\n  ".join(play.steps)
    assert not wrong + wrong_again, "\n".join(
        [
            f"{case.name}: {'; '.join(wrong + wrong_again)}",
            f"before: {before}",
            f"{_shown(ended)}",
            f"  {steps}",
            f"waits: {stack.waits(ended)}",
            f"after: {after}",
            f"repeated: {how}",
        ]
    )
    return play


@pytest.mark.parametrize("run", EXPECTED_RUNS, ids=lambda run: run.name)
def test_a_saga_runs_as_expected(scene: Scene, machines: StepFunctions, run: ExpectedRun) -> None:
    play = _play(Case(run, "undisturbed", lambda _: None), scene, machines)

    assert play.steps == run.steps


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=() if name in IN_BRIEF else pytest.mark.slow)
        for name, case in ON_CALLS.items()
    ],
)
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
    states = {(name, state) for name, machine in MACHINES.items() for state, _ in states_of(machine)}
    assert states == IN_STATES.keys()


def test_every_call_that_the_functions_of_the_machines_can_make_is_made() -> None:
    tasks = [state for machine in MACHINES.values() for _, state in states_of(machine) if state["Type"] == "Task"]
    invoked = {task["Parameters"]["FunctionName"].removeprefix("${").removesuffix("Arn}") for task in tasks}
    apps = [import_module(function.module) for function in template().functions if function.logical_id in invoked]
    can = {rpc for gateway in (spicedb_gateway, temporal_gateway) for rpc in _callable(apps, gateway)}
    made = {method for run in EXPECTED_RUNS for _, method, _ in run.calls}

    assert len(apps) == len(invoked)
    assert made - can == {"GetSystemInfo"}, "what temporalio itself asks when it connects"
    assert can <= made


def _callable(apps: Iterable[ModuleType], gateway: ModuleType) -> set[str]:
    """The RPCs made by those methods of a gateway that the apps call, and by its and its `Calls`' that these call."""
    rpcs = {re.sub("(?<!^)([A-Z])", r"_\1", method).lower(): method for method in TEMPORAL_METHODS}
    rpcs |= {method: method for method in SPICEDB_METHODS}
    modules = (import_module(f"{gateway.__package__}.calls"), gateway)
    nodes = (node for module in modules for node in ast.walk(_parsed(module)))
    methods = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    accessor = f"{gateway.__name__.removeprefix('saga_').removesuffix('.gateway')}()"

    reached: set[str] = set()
    called = {name for app in apps for name in _attributes(_parsed(app), of=accessor)}
    while called:
        reached |= called
        own = (_attributes(methods[method], of=of) for method in called for of in ("self", "self._calls"))
        called = (set().union(*own) & methods.keys()) - reached
    return {rpcs[name] for method in reached for name in _attributes(methods[method]) if name in rpcs}


def _parsed(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text())


def _attributes(node: ast.AST, of: str | None = None) -> set[str]:
    attributes = [inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute)]
    return {attribute.attr for attribute in attributes if of in (None, ast.unparse(attribute.value))}
