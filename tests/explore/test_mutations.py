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

    def parse(event: object) -> TemporalCreateStep:
        step = real(event)
        return step.model_copy(update={"registration": ids.registration(f"{step.registration}#{step.attempt}")})

    real = TemporalCreateStep.parse
    patch.setattr(TemporalCreateStep, "parse", parse)
    return DEFINITIONS


def without_the_relation_of_a_batch(patch: pytest.MonkeyPatch) -> Any:
    """A removal in batches may remove the fence before the grants."""

    def delete_batch(schedule_id: str, relation: str, preconditions: Any) -> Any:
        request = real(schedule_id, relation, preconditions)
        request.relationship_filter.ClearField("optional_relation")
        return request

    real = messages.delete_batch
    patch.setattr(messages, "delete_batch", delete_batch)
    return DEFINITIONS


def without_the_uuid(_patch: pytest.MonkeyPatch) -> Any:
    """The two runs of an execution that is run twice have one registration."""
    fixed = "States.Hash($$.Execution.Id, 'SHA-256')"
    return changed("create_schedule", "Accept", lambda state: state["Parameters"].update({"registration.$": fixed}))


def without_waiting_for_a_function_that_outlives_its_attempt(_patch: pytest.MonkeyPatch) -> Any:
    """An attempt begins while the function of the one before may still be running."""
    definitions = copy.deepcopy(DEFINITIONS)
    for definition in definitions.values():
        for state in definition["States"].values():
            for retry in state.get("Retry", ()):
                retry["IntervalSeconds"] = 1
    return definitions


def without_verify_create(_patch: pytest.MonkeyPatch) -> Any:
    """A create whose outcome is unknown is undone without being looked up."""
    return changed("create_schedule", "CreateSchedule", lambda state: state["Catch"][-1].update(Next="WasRegistered"))


def without_confirm_register(_patch: pytest.MonkeyPatch) -> Any:
    """A create that was tried twice assumes that its registration still stands."""

    def skip(state: Any) -> None:
        state["Next"] = "Finish"
        state["Catch"][-1]["Next"] = "VerifyCreate"

    return changed("create_schedule", "CreateSchedule", skip)


def without_the_look_after_a_restore(_patch: pytest.MonkeyPatch) -> Any:
    """A create that restored a registration assumes that the schedule is still there."""
    return changed("create_schedule", "RestoreOutcome", lambda state: state["Choices"][0].update(Next="Replayed"))


def without_a_second_look(_patch: pytest.MonkeyPatch) -> Any:
    """A delete assumes that a schedule it has deleted stays deleted."""
    return changed("delete_schedule", "DeregisterOutcome", lambda state: state.update(Default="Deregistered"))


def without_a_look_after_a_failed_removal(_patch: pytest.MonkeyPatch) -> Any:
    """A delete that cannot remove the relationships takes Temporal's word for the schedule."""
    return changed("delete_schedule", "Deregister", lambda state: state["Catch"][-1].update(Next="DeregisterDeferred"))


def without_a_look_before_clearing(_patch: pytest.MonkeyPatch) -> Any:
    """A delete takes relationships under another fence, without a lease, for those of no schedule."""

    def clear_at_once(state: Any) -> None:
        state["Choices"] += [
            {"Variable": "$.deregistration.holder", "IsNull": True, "Next": "LookAgain"},
            {"Variable": "$.deregistration.holder.lease_seconds", "NumericGreaterThan": 0, "Next": "LookAgain"},
        ]
        state["Default"] = "ClearLeft"

    return changed("delete_schedule", "DeregisterOutcome", clear_at_once)


def without_telling_whose_the_relationships_are(_patch: pytest.MonkeyPatch) -> Any:
    """A delete takes what is left for the relationships of whatever schedule has the name by now."""

    def assume(state: Any) -> None:
        state["Choices"].insert(2, {"Variable": "$.look.exists", "BooleanEquals": True, "Next": "Deregistered"})

    return changed("delete_schedule", "LookOutcome", assume)


def without_a_look_before_a_repeated_delete(_patch: pytest.MonkeyPatch) -> Any:
    """A repeated attempt deletes whatever schedule has the name by then."""

    def forget(state: Any) -> None:
        del state["Parameters"]["Payload"]["attempt.$"]

    return changed("delete_schedule", "DeleteSchedule", forget)


def changed(kind: str, name: str, change: Callable[[Any], object]) -> Any:
    definitions = copy.deepcopy(DEFINITIONS)
    change(definitions[kind]["States"][name])
    return definitions


@pytest.mark.parametrize(
    ("mutation", "where"),
    [
        (without_the_fence, "two creates"),
        (without_the_lease, "two creates"),
        (without_the_fixed_request_id, "a create"),
        (without_the_relation_of_a_batch, "many grants"),
        (without_the_uuid, "one create, run twice"),
        (without_waiting_for_a_function_that_outlives_its_attempt, "a create and a delete"),
        (without_verify_create, "a create"),
        (without_confirm_register, "a create and a delete"),
        (without_the_look_after_a_restore, "a replay and a deletion by hand, relationships lost"),
        (without_a_second_look, "a create and a delete"),
        (without_a_look_after_a_failed_removal, "a delete, 0 retries, CHASM"),
        (without_a_look_before_clearing, "a delete and a re-create"),
        (without_telling_whose_the_relationships_are, "a delete and a re-create without creator"),
        (without_a_look_before_a_repeated_delete, "a delete and a re-create"),
    ],
)
def test_without_one_of_its_protections_the_design_has_a_counterexample(
    mutation: Callable[[pytest.MonkeyPatch], Any], where: str, patch: pytest.MonkeyPatch
) -> None:
    definitions = mutation(patch)
    chosen = (scenario for scenario in bounded_scenarios() if where in scenario.name)
    explorers = (Explorer(scenario, definitions, AGENTS, judge) for scenario in chosen)
    found = ((explorer, explorer.explore()) for explorer in explorers)
    explorer, result = next((explorer, result) for explorer, result in found if result.violation)

    print(f"{explorer.scenario.name}: {result.violation}")
    trace = list(explorer.describe(parse(spell(result.trace))))
    print("\n".join(trace))
    assert len(trace) >= len(result.trace), "the trace can be described again from its text"
