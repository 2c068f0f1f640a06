"""How many calls to the engines each path of a saga makes. More of them are more time, and more that can fail."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.saga_stack import Ended, Stack
from tools.scale import model

Run = Callable[[Stack], Ended]


def keyed(stack: Stack, **changes: Any) -> dict[str, Any]:
    return {**stack.request(), "idempotency_key": "key-1", **changes}


def nothing(_: Stack) -> None:
    """The name is free."""


def created(stack: Stack) -> None:
    """The same request came before."""
    stack.create(keyed(stack))


def created_with_lease(stack: Stack) -> None:
    """The same request came before, and the lease of that create was left to run out."""
    created(stack)
    stack.lease()


def created_by_nobody(stack: Stack) -> None:
    """The same request came before, from a service in its own name."""
    stack.create(keyed(stack, principal=None))


def lost(stack: Stack) -> None:
    """The same request came before, and SpiceDB has lost its relationships."""
    created(stack)
    stack.remove_all()


def deleted_by_hand(stack: Stack) -> None:
    """The same request came before, and another tool has deleted its schedule."""
    created(stack)
    stack.delete_by_hand()


def create(stack: Stack) -> Ended:
    return stack.create(keyed(stack))


def create_without_creator(stack: Stack) -> Ended:
    return stack.create(keyed(stack, principal=None))


def delete(stack: Stack) -> Ended:
    return stack.delete()


# What is there, the operation, its calls to SpiceDB and to Temporal. The calls of a Parallel state run side by side.
PATHS: dict[str, tuple[Callable[[Stack], None], Run, list[str], list[str]]] = {
    "create": (nothing, create, list(model.CREATE.spicedb), list(model.CREATE.temporal)),
    "create without a creator": (nothing, create_without_creator, [], ["CreateSchedule", "DescribeSchedule"]),
    "replay": (
        created,
        create,
        ["CheckPermission", "WriteRelationships", "ReadRelationships"],
        ["DescribeSchedule"],
    ),
    "replay without a creator": (
        created_by_nobody,
        create_without_creator,
        [],
        ["CreateSchedule", "DescribeSchedule", "DescribeSchedule"],
    ),
    "replay that restores the registration": (
        lost,
        create,
        ["CheckPermission", "WriteRelationships", "WriteRelationships"],
        ["CreateSchedule", "DescribeSchedule", "DescribeSchedule", "DescribeSchedule"],
    ),
    "create over leftovers": (
        deleted_by_hand,
        create,
        [
            *("CheckPermission", "WriteRelationships", "ReadRelationships", "DeleteRelationships"),
            *("CheckPermission", "WriteRelationships", "WriteRelationships"),
        ],
        ["DescribeSchedule", "CreateSchedule", "DescribeSchedule"],
    ),
    "delete": (created, delete, list(model.DELETE.spicedb), list(model.DELETE.temporal)),
    "delete while a lease runs": (
        created_with_lease,
        delete,
        ["DeleteRelationships"],
        ["DescribeSchedule", "DeleteSchedule", "DescribeSchedule"],
    ),
    "delete of leftovers": (
        deleted_by_hand,
        delete,
        ["ReadRelationships", "DeleteRelationships"],
        ["DescribeSchedule", "DescribeSchedule"],
    ),
    "delete of an absent name": (
        nothing,
        delete,
        ["ReadRelationships", "ReadRelationships"],
        ["DescribeSchedule", "DescribeSchedule"],
    ),
}


@pytest.mark.parametrize(("given", "operation", "spicedb", "temporal"), PATHS.values(), ids=PATHS)
def test_each_path_makes_these_calls_and_no_others(
    stack: Stack, given: Callable[[Stack], None], operation: Run, spicedb: list[str], temporal: list[str]
) -> None:
    stack.delete("warm")  # the functions are connected
    given(stack)
    stack.spicedb.clear()
    stack.temporal.clear()

    assert operation(stack).status == "SUCCEEDED"

    assert (stack.spicedb.calls, stack.temporal.calls) == (spicedb, temporal)
