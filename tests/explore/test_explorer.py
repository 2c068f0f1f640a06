"""No interleaving breaks an invariant; and each protection, once removed, is missed by one that does.

`make explore` explores more: every scenario with two faults.
"""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from authzed.api.v1 import Precondition, RelationshipUpdate

from saga_core import ids
from saga_core.ids import Subject
from saga_core.steps import TemporalCreateStep
from saga_spicedb import messages
from tests.explore.explorer import Explorer, Result, Scenario
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS, judge, scenarios
from tests.explore.traces import parse, spell
from tests.support.machines import DEFINITIONS

# Three operations with two faults are for `make explore`; all else is explored in full here.
BOUNDED = [
    scenario
    for faults in (1, 2)
    for scenario in scenarios(most_faults=faults)
    if (len(scenario.operations) <= 2) == (faults == 2)
]


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with driven() as patch:
        yield patch


def explore(scenario: Scenario, definitions: Any = DEFINITIONS) -> tuple[Explorer, Result]:
    explorer = Explorer(scenario, definitions, AGENTS, judge)
    return explorer, explorer.explore()


@pytest.mark.parametrize("scenario", BOUNDED, ids=[f"{s.name}, {s.most_faults} faults" for s in BOUNDED])
@pytest.mark.usefixtures("patch")
def test_no_interleaving_breaks_an_invariant(scenario: Scenario) -> None:
    explorer, result = explore(scenario)

    print(
        f"{scenario.name}: {result.interleavings:,} interleavings, {result.worlds:,} worlds, {result.endings:,} endings"
    )
    assert not result.violation, "\n".join([result.violation, *explorer.describe(result.trace)])
    assert result.endings > 0


def without_the_fence(patch: pytest.MonkeyPatch) -> Any:
    """Removals go without a look at whose the relationships are."""

    def owned_by_anybody(schedule_id: str, relation: str, _registration: str) -> Precondition:
        precondition = real(schedule_id, relation, "x")
        precondition.filter.ClearField("optional_subject_filter")
        return precondition

    real = messages.must_match
    patch.setattr(messages, "must_match", owned_by_anybody)
    return DEFINITIONS


def without_the_lease(patch: pytest.MonkeyPatch) -> Any:
    """Register writes no lease, so that a create in flight looks like one that is over."""

    def touch(
        schedule_id: str, relation: str, subject: Subject, expires_at: datetime | None = None
    ) -> RelationshipUpdate:
        if relation == "creating":  # write another relationship a second time in its place
            return real(schedule_id, "parent_agent", Subject("agent", schedule_id.partition(ids.SEPARATOR)[0]))
        return real(schedule_id, relation, subject, expires_at)

    real = messages.touch
    patch.setattr(messages, "touch", touch)
    return DEFINITIONS


def without_the_fixed_request_id(patch: pytest.MonkeyPatch) -> Any:
    """Every attempt to create in Temporal goes by an id of its own."""

    def registration(step: TemporalCreateStep) -> str:
        return ids.registration(f"{step.execution_id}#{step.attempt}" if step.attempt else step.execution_id)

    patch.setattr(TemporalCreateStep, "registration", property(registration))
    return DEFINITIONS


def without_verify_create(_patch: pytest.MonkeyPatch) -> Any:
    """A create whose outcome is unknown is undone without being looked up."""
    return changed("create_schedule", "CreateSchedule", lambda state: state["Catch"][-1].update(Next="WasRegistered"))


def without_confirm_register(_patch: pytest.MonkeyPatch) -> Any:
    """A create that was tried twice takes it that its registration still stands."""

    def skip(state: Any) -> None:
        state["Next"] = "ReadBack"
        state["Catch"][-1]["Next"] = "VerifyCreate"

    return changed("create_schedule", "CreateSchedule", skip)


def without_a_second_look(_patch: pytest.MonkeyPatch) -> Any:
    """A delete takes it that a schedule it has deleted stays deleted."""
    return changed("delete_schedule", "Deregister", lambda state: state.update(Next="Deleted"))


def changed(kind: str, name: str, change: Callable[[Any], object]) -> Any:
    definitions = copy.deepcopy(DEFINITIONS)
    change(definitions[kind]["States"][name])
    return definitions


@pytest.mark.parametrize(
    "mutation",
    [
        without_the_fence,
        without_the_lease,
        without_the_fixed_request_id,
        without_verify_create,
        without_confirm_register,
        without_a_second_look,
    ],
)
def test_without_one_of_its_protections_the_design_has_a_counterexample(
    mutation: Callable[[pytest.MonkeyPatch], Any], patch: pytest.MonkeyPatch
) -> None:
    definitions = mutation(patch)
    found = (explore(scenario, definitions) for scenario in BOUNDED)
    explorer, result = next((explorer, result) for explorer, result in found if result.violation)

    print(f"{explorer.scenario.name}: {result.violation}")
    trace = list(explorer.describe(parse(spell(result.trace))))
    print("\n".join(trace))
    assert len(trace) >= len(result.trace), "the trace can be told again from its text"
