"""Without any one of its protections, the design has an interleaving that breaks an invariant."""

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
from tests.explore.explorer import Explorer
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS, bounded_scenarios, judge
from tests.explore.traces import parse, spell
from tests.support.machines import DEFINITIONS


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with driven() as patch:
        yield patch


def without_the_fence(patch: pytest.MonkeyPatch) -> Any:
    """Removals do not check whose the relationships are."""

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
    """Every attempt to create in Temporal has an id of its own."""

    def registration(step: TemporalCreateStep) -> str:
        return ids.registration(f"{step.execution_id}#{step.attempt}" if step.attempt else step.execution_id)

    patch.setattr(TemporalCreateStep, "registration", property(registration))
    return DEFINITIONS


def without_verify_create(_patch: pytest.MonkeyPatch) -> Any:
    """A create whose outcome is unknown is undone without being looked up."""
    return changed("create_schedule", "CreateSchedule", lambda state: state["Catch"][-1].update(Next="WasRegistered"))


def without_confirm_register(_patch: pytest.MonkeyPatch) -> Any:
    """A create that was tried twice assumes that its registration still stands."""

    def skip(state: Any) -> None:
        state["Next"] = "ReadBack"
        state["Catch"][-1]["Next"] = "VerifyCreate"

    return changed("create_schedule", "CreateSchedule", skip)


def without_a_second_look(_patch: pytest.MonkeyPatch) -> Any:
    """A delete assumes that a schedule it has deleted stays deleted."""
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
    explorers = [Explorer(scenario, definitions, AGENTS, judge) for scenario in bounded_scenarios()]
    found = ((explorer, explorer.explore()) for explorer in explorers)
    explorer, result = next((explorer, result) for explorer, result in found if result.violation)

    print(f"{explorer.scenario.name}: {result.violation}")
    trace = list(explorer.describe(parse(spell(result.trace))))
    print("\n".join(trace))
    assert len(trace) >= len(result.trace), "the trace can be described again from its text"
