import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Set
from pathlib import Path
from typing import Any

import pytest

from saga_core.errors import ConfigurationError
from saga_core.settings import SpiceDBSettings
from saga_reconcile.requests import ReconcileRequest
from tests.support.machines import DEFINITIONS, ROOT, SAGAS, State, states_of, targets, tasks, template
from tools.platform_errors import INACTIVE
from tools.sam_build.left_out import API_LAYER

FUNCTIONS = {function.logical_id: function for function in template().functions}
EVERY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())


def imported(code: Path) -> set[str]:
    """The layers' packages that the code in a function's folder imports."""
    trees = [ast.parse(path.read_text()) for path in code.rglob("*.py")]
    names = [node.module or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = {path.name for path in code.iterdir()}
    return {name.split(".")[0] for name in names if name.startswith("saga_")} - own


def test_every_function_of_the_tree_is_in_the_template_and_has_a_sample_event() -> None:
    verbs = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}

    assert {function.code.name for function in FUNCTIONS.values()} == verbs
    assert {path.stem for path in (ROOT / "events").glob("*.json")} == verbs


@EVERY_FUNCTION
def test_a_function_gets_only_the_layers_it_uses(function: Any) -> None:
    layers = {"CoreLayer": "saga_core", "SpiceDBLayer": "saga_spicedb", "TemporalLayer": "saga_temporal"}
    used = set(template().properties("AWS::Serverless::Function")[function.logical_id]["Layers"])

    assert {layers[layer] for layer in used - {API_LAYER}} == imported(function.code)
    assert (API_LAYER in used) == (function.code.name == "api")


@EVERY_FUNCTION
def test_a_function_is_told_only_of_the_engine_it_calls(function: Any) -> None:
    variables = set(function.environment)

    assert any(name.startswith("SPICEDB_") for name in variables) == ("saga_spicedb" in imported(function.code))
    assert any(name.startswith("TEMPORAL_") for name in variables) == ("saga_temporal" in imported(function.code))


@EVERY_FUNCTION
def test_importing_a_handler_opens_nothing_and_imports_nothing_heavy_it_does_not_need(function: Any) -> None:
    program = f"""
import socket, sys, threading
socket.socket.connect = lambda *_: sys.exit("it connects")
import {function.module}
heavy = {{"boto3", "temporalio", "authzed"}} & set(sys.modules)
print(threading.active_count(), *sorted(heavy))
"""
    environment = {**function.environment, "PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )

    clients = {"saga_spicedb": "authzed", "saga_temporal": "temporalio"}
    needed = sorted(clients[layer] for layer in imported(function.code) & clients.keys())
    assert run.stdout.split() == ["1", *needed]


def test_standard_and_express_machines_share_one_definition() -> None:
    by_name = {machine.name: machine for machine in template().state_machines}

    for name in (saga.replace("_", "-") for saga in SAGAS):
        assert by_name[name].type == "STANDARD"
        assert by_name[f"{name}-express"].type == "EXPRESS"
        assert by_name[name].definition == by_name[f"{name}-express"].definition


def test_the_reconciler_is_a_standard_machine_alone_that_starts_by_itself_and_writes_nothing_by_default() -> None:
    """A sweep may take longer than the five minutes of an Express execution."""
    machines = template().properties("AWS::Serverless::StateMachine")
    (reconciler,) = (each for each in machines.values() if each["Name"].startswith("reconcile"))
    (event,) = reconciler["Events"].values()

    assert (reconciler["Name"], reconciler["Type"]) == ("reconcile-schedules", "STANDARD")
    assert event["Type"] == "ScheduleV2"
    asked = json.loads(event["Properties"]["Input"])
    assert ReconcileRequest.parse(asked).mode == "report"


def test_every_machine_calls_versions_of_functions_that_the_template_has() -> None:
    """So a definition never runs with the code of another deployment."""
    arns = {f"{function.arn}:1" for function in FUNCTIONS.values()}

    for machine in template().state_machines:
        states = [state for _, state in states_of(json.loads(machine.definition))]
        assert {state["Parameters"]["FunctionName"] for state in states if state["Type"] == "Task"} <= arns


@pytest.mark.parametrize("task", tasks().values(), ids=tasks().keys())
def test_a_function_answers_before_lambda_and_lambda_before_step_functions(task: State) -> None:
    function = FUNCTIONS[task["Parameters"]["FunctionName"].removeprefix("${").removesuffix("Arn}")]

    assert float(function.environment["RPC_TIMEOUT_SECONDS"]) < function.timeout < task["TimeoutSeconds"]


# The states that let a task go on with what it had no time for: once in an execution.
SECOND_ROUNDS = {"CompensateOn", "DeregisterOn"}
# What an execution comes to only if this task took one attempt.
ONLY_IN_TIME = {"Deregister": "BroughtBack"}


def longest(task: State, active: Set[str]) -> float:
    """Seconds until a task, failing every time as late as it can, is given up.

    A function that has answered in this execution is active, so nothing waits for it to become so.
    """
    retries = [
        retry
        for retry in task["Retry"]
        if not (retry["ErrorEquals"] == list(INACTIVE) and task["Parameters"]["FunctionName"] in active)
    ]
    attempts = 1 + sum(retry["MaxAttempts"] for retry in retries)
    backoffs = [
        min(retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt, retry.get("MaxDelaySeconds", float("inf")))
        for retry in retries
        for attempt in range(retry["MaxAttempts"])
    ]
    seconds: float = task["TimeoutSeconds"] * attempts + sum(backoffs)
    return seconds


def longest_path(
    machine: State, name: str, visits: Counter[str], active: Set[str] = frozenset(), closed: Set[str] = frozenset()
) -> float:
    """Seconds of the slowest way to an end that comes to no state more than twice, without a second round.

    `active` are the functions that have answered, `closed` the states that this execution does not come to any more.
    """
    if visits[name] == 2 or name in closed:
        return 0.0
    visits = visits + Counter([name])
    state = machine["States"][name]
    branches = [longest_path(branch, branch["StartAt"], Counter(), active) for branch in state.get("Branches", ())]

    def rest(closed: Set[str]) -> float:
        following = [to for to in targets(state) if to in machine["States"] and to not in SECOND_ROUNDS]
        answered = active | {state["Parameters"]["FunctionName"]} if state["Type"] == "Task" else active
        return max(
            (
                longest_path(machine, to, visits, answered if to == state.get("Next") else active, closed)
                for to in following
            ),
            default=0.0,
        )

    if state["Type"] != "Task":
        return max(branches, default=0.0) + rest(closed)
    in_time: float = state["TimeoutSeconds"] + rest(closed)
    return max(in_time, longest(state, active) + rest(closed | {ONLY_IN_TIME.get(name, "")}))


@pytest.mark.parametrize("machine", SAGAS)
def test_the_slowest_path_ends_before_the_machines_timeout(machine: str) -> None:
    definition = DEFINITIONS[machine]

    # A second round is no failure: one attempt.
    second = max(
        definition["States"][name]["TimeoutSeconds"]
        for name in ("Compensate", "Deregister")
        if name in definition["States"]
    )

    assert longest_path(definition, definition["StartAt"], Counter()) + second < definition["TimeoutSeconds"]
    assert definition["TimeoutSeconds"] <= 300, "an Express execution ends after five minutes"


def test_a_delete_that_has_waited_for_spicedb_deletes_no_second_time() -> None:
    """What `ONLY_IN_TIME` says is what the machine does."""
    states = DEFINITIONS["delete_schedule"]["States"]
    ways = [rule for state in states.values() for rule in state.get("Choices", ()) if rule["Next"] == "BroughtBack"]

    assert states["Deregister"]["ResultSelector"]["retries.$"] == "$$.State.RetryCount"
    assert states["Deregister"]["ResultPath"] == "$.deregistration"
    assert ways
    for way in ways:
        assert {"Variable": "$.deregistration.retries", "NumericEquals": 0} in way["And"]
        assert {"Variable": "$.second_round", "IsPresent": False} in way["And"]


def lease() -> int:
    """Seconds."""
    return int(FUNCTIONS["RegisterFunction"].environment["LEASE_SECONDS"])


def test_a_lease_outlasts_its_create_and_a_delete_that_began_while_it_was_live() -> None:
    """So where a delete finds the lease over, the create was over before the delete looked into Temporal."""
    machines = sum(DEFINITIONS[saga]["TimeoutSeconds"] for saga in SAGAS)

    assert machines + 60 <= lease(), "a minute for clocks that differ"


def test_a_lease_is_over_before_temporals_sentinels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """So while a create may be in flight, no other scheduler of Temporal's makes a second schedule of its id."""
    monkeypatch.setenv("SPICEDB_ENDPOINT", "spicedb:50051")
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "plain:local")
    monkeypatch.delenv("LEASE_SECONDS", raising=False)
    sentinel = 900

    assert lease() < sentinel
    assert SpiceDBSettings.load().lease_seconds == lease()
    monkeypatch.setenv("LEASE_SECONDS", str(sentinel))
    with pytest.raises(ConfigurationError, match=r"LEASE_SECONDS: .* less than 900"):
        SpiceDBSettings.load()
