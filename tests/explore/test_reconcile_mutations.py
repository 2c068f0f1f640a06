"""Without any one of its guards, the reconciler has an interleaving with a saga that breaks an invariant."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from saga_core import drift
from saga_reconcile import repairs
from saga_reconcile.repairs import Suspects
from saga_spicedb import SpiceDB, messages
from tests.explore.explorer import Explorer
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS, judge, scenarios
from tests.support.machines import DEFINITIONS

real_find = drift.find


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with driven() as patch:
        yield patch


def without_the_order_of_the_reads(patch: pytest.MonkeyPatch) -> None:
    """Temporal is read before SpiceDB."""

    def inspect(self: Suspects, schedule_id: str) -> Any:
        described = repairs.temporal().describe(schedule_id, self._deadline)  # type: ignore[attr-defined] # patched there
        registered = repairs.spicedb().registrations.registered(  # type: ignore[attr-defined] # as above
            schedule_id, self._deadline
        )
        scheduled = described.scheduled if described else None
        return real_find(schedule_id, scheduled, registered, now=repairs._now(), lease=self._lease)

    patch.setattr(Suspects, "inspect", inspect)


def without_the_fence(patch: pytest.MonkeyPatch) -> None:
    """What is cleared is not conditional on the fence that was seen."""

    def clear(self: SpiceDB, schedule_id: str, _registration: str | None, deadline: Any) -> Any:
        return self._remove(schedule_id, [messages.must_not_match(schedule_id, "creating")], deadline)

    patch.setattr(SpiceDB, "clear", clear)


def without_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A live lease holds nothing back."""

    def find(schedule_id: str, scheduled: Any, registered: Any, **at: Any) -> Any:
        return real_find(schedule_id, scheduled, registered and replace(registered, lease_seconds=0), **at)

    def clear(self: SpiceDB, schedule_id: str, registration: str | None, deadline: Any) -> Any:
        fence = messages.must_match(schedule_id, "registered_by", registration or "none")
        return self._remove(schedule_id, [fence], deadline)

    patch.setattr(repairs, "find", find)
    patch.setattr(SpiceDB, "clear", clear)


def without_a_second_look(patch: pytest.MonkeyPatch) -> None:
    """A schedule that was there before its registration was restored is taken to be there still."""
    patch.setattr(Suspects, "_still_there", lambda _self, _schedule_id, _registration: True)


@pytest.mark.parametrize(
    ("mutation", "where"),
    [
        (without_the_order_of_the_reads, "a create and a reconciler"),
        (without_the_fence, "a re-create and a reconciler, deleted in Temporal"),
        (without_the_lease, "a create and a reconciler"),
        (without_a_second_look, "a delete and a reconciler of one kind"),
    ],
)
def test_without_one_of_its_guards_the_reconciler_has_a_counterexample(
    mutation: Callable[[pytest.MonkeyPatch], None], where: str, patch: pytest.MonkeyPatch
) -> None:
    mutation(patch)
    explorers = (Explorer(each, DEFINITIONS, AGENTS, judge) for each in scenarios(most_faults=2) if where in each.name)
    found = ((explorer, explorer.explore()) for explorer in explorers)
    explorer, result = next((explorer, result) for explorer, result in found if result.violation)

    print(f"{explorer.scenario.name}: {result.violation}", *explorer.describe(result.trace), sep="\n")
