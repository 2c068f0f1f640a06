"""What the model of docs/performance.md ("Scale") says of states, invocations and relationships, on the real engines.

Its calls are those of test_calls.py, here and in tests/api.
"""

import pytest

from saga_core import ids
from tests.support import relationships
from tests.support.machines import DEFINITIONS, states_of
from tests.support.saga_stack import Ended, Stack
from tools.scale import model
from tools.scale.model import Work

TASKS = {name for machine in DEFINITIONS.values() for name, state in states_of(machine) if state["Type"] == "Task"}


def entered(ended: Ended) -> list[str]:
    assert ended.status == "SUCCEEDED"
    return [*ended.states, *ended.branch_states]


def taken(ended: Ended) -> tuple[int, int]:
    """How many states were entered, and how many of them invoke a function."""
    states = entered(ended)
    return len(states), sum(state in TASKS for state in states)


def held(stack: Stack) -> int:
    return len(relationships.all_of(stack.authorization).get(ids.schedule_id(stack.agent, "daily"), ()))


def expected(work: Work) -> tuple[int, int]:
    return work.states, work.invocations


def test_a_create_and_a_delete_enter_the_states_and_invoke_the_functions_of_the_model(stack: Stack) -> None:
    assert taken(stack.create()) == expected(model.CREATE)
    assert taken(stack.delete()) == expected(model.DELETE)


def test_a_schedule_has_the_relationships_of_the_model_and_one_more_while_it_is_created(stack: Stack) -> None:
    while_created: list[int] = []
    stack.temporal.on_call("CreateSchedule", 1, lambda: while_created.append(held(stack)))

    entered(stack.create())

    assert while_created == [model.RELATIONSHIPS + model.LEASES]
    assert held(stack) == model.RELATIONSHIPS
    entered(stack.delete())
    assert held(stack) == 0


def test_a_report_of_the_reconciler_enters_the_states_and_invokes_the_functions_of_the_model(stack: Stack) -> None:
    entered(stack.create())

    report = stack.run("reconcile-schedules", {"agent_id": stack.agent})

    few = model.sweep(1)
    assert taken(report) == (few.states, few.invocations)
    entered(stack.delete())


@pytest.mark.slow
def test_a_report_in_62_shards_enters_the_states_of_the_model(stack: Stack) -> None:
    report = stack.run("reconcile-schedules", {"shards": 62})

    few = model.sweep(0, shards=62)
    assert taken(report) == (few.states, few.invocations)
