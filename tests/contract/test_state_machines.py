import inspect

import pytest

from saga_core import errors
from tests.support.machines import DEFINITIONS, State, states, states_of, targets, tasks, template
from tools.platform_errors import INACTIVE, INACTIVE_SECONDS, OUTLIVED, PLATFORM_ERRORS

# What a state machine matches besides classes of ours.
AWS_ERRORS = {*PLATFORM_ERRORS, "States.ALL"}
# A second one that runs late can undo what was done since. The other tasks read, or remove what is nobody's any more.
TASKS_THAT_WAIT = {
    *(f"create_schedule.{name}" for name in ("Register", "CreateSchedule", "ConfirmRegister")),
    *(f"delete_schedule.{name}" for name in ("DeleteSchedule", "Deregister")),
}
FUNCTIONS = {f"${{{function.logical_id}Arn}}": function for function in template().functions}
OUR_ERRORS = {
    name
    for name, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, errors.SagaError) and member is not errors.SagaError
}
TASKS = pytest.mark.parametrize("task", tasks().values(), ids=tasks().keys())
MACHINES = pytest.mark.parametrize("machine", DEFINITIONS)


@MACHINES
def test_every_target_exists_and_every_state_is_reachable(machine: str) -> None:
    every = dict(states_of(DEFINITIONS[machine]))
    seen: set[str] = set()
    waiting = [DEFINITIONS[machine]["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(targets(every[name]))

    assert seen == set(every)


def test_every_state_says_what_it_does() -> None:
    """docs/machines.md takes it from there, as one cell of a table: at least three words, one line, whole sentences."""
    comments = {name: state.get("Comment", "") for name, state in states()}

    assert [
        name
        for name, comment in comments.items()
        if len(comment.split()) < 3 or "\n" in comment or not comment[0].isupper() or not comment.endswith(".")
    ] == []


@MACHINES
def test_no_two_states_of_a_machine_do_the_same(machine: str) -> None:
    comments = [state["Comment"] for _, state in states_of(DEFINITIONS[machine])]

    assert len(set(comments)) == len(comments)


@TASKS
def test_every_task_has_a_timeout_a_jittered_retry_and_a_catch_for_everything(task: State) -> None:
    assert task["TimeoutSeconds"] > 0
    assert task["Retry"][-1]["JitterStrategy"] == "FULL"
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    assert all(catch["ResultPath"].startswith("$.errors.") for catch in task["Catch"])


@TASKS
def test_every_error_that_is_matched_is_one_of_ours_or_of_aws(task: State) -> None:
    matched = {name for rule in (*task["Retry"], *task["Catch"]) for name in rule["ErrorEquals"]}

    assert matched <= OUR_ERRORS | AWS_ERRORS


def test_an_error_that_a_machine_fails_with_is_one_of_ours() -> None:
    assert {state["Error"] for _, state in states() if "Error" in state} <= OUR_ERRORS


@TASKS
def test_every_task_retries_every_platform_error_once_and_no_other(task: State) -> None:
    retried = [name for retry in task["Retry"] for name in retry["ErrorEquals"] if name not in OUR_ERRORS]

    assert sorted(retried) == sorted(PLATFORM_ERRORS)


def test_what_a_failed_saga_leaves_is_removed_even_by_a_function_that_has_to_become_active_first() -> None:
    waits = {
        name: retry
        for name, task in tasks().items()
        for retry in task["Retry"]
        if retry["ErrorEquals"] == list(INACTIVE)
    }

    assert waits.keys() == {"create_schedule.Compensate", "create_schedule.UndoRestore", "delete_schedule.Deregister"}
    for retry in waits.values():
        assert (retry["BackoffRate"], retry["JitterStrategy"]) == (1, "NONE")
        assert retry["IntervalSeconds"] * retry["MaxAttempts"] >= INACTIVE_SECONDS


def test_a_write_is_repeated_only_when_the_function_of_the_attempt_before_has_ended() -> None:
    waits = {name: task for name, task in tasks().items() if task["Retry"][0]["ErrorEquals"] == list(OUTLIVED)}

    assert waits.keys() == TASKS_THAT_WAIT
    for task in waits.values():
        assert task["Retry"][0]["IntervalSeconds"] > FUNCTIONS[task["Parameters"]["FunctionName"]].timeout
        assert task["Retry"][0]["JitterStrategy"] == "NONE"


def test_every_task_retries_its_own_engines_unavailability() -> None:
    unavailable = {"SPICEDB_ENDPOINT": "AuthorizationUnavailable", "TEMPORAL_ADDRESS": "TemporalUnavailable"}
    for name, task in tasks().items():
        told = FUNCTIONS[task["Parameters"]["FunctionName"]].environment
        expected = {error for variable, error in unavailable.items() if variable in told}
        assert expected, name
        assert expected <= retried_by(task), name


def retried_by(task: State) -> set[str]:
    return {name for retry in task["Retry"] for name in retry["ErrorEquals"]}


@MACHINES
def test_a_failed_saga_never_ends_as_succeeded(machine: str) -> None:
    """Whatever follows a failed step ends in a Fail, unless the design says that the saga succeeds regardless."""
    forgiven: dict[str, set[str]] = {
        "create_schedule": {"NotReadBack", "LeaseRunsOut", "VerifyCreate", "InspectExisting", "InspectConflict"},
        "delete_schedule": {"VerifyOutcome", "DeregisterDeferred"},
        "reconcile_schedules": set(),
    }
    states_ = dict(states_of(DEFINITIONS[machine]))
    seen: set[str] = set()
    waiting = [catch["Next"] for state in states_.values() for catch in state.get("Catch", ())]
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in forgiven[machine]:
            seen.add(name)
            waiting.extend(targets(states_[name]))

    ends = {states_[name]["Type"] for name in seen if not list(targets(states_[name]))}
    assert ends == {"Fail"}
