"""Without any one of its protections, a trigger with a key has an interleaving that breaks an invariant."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from authzed.api.v1 import Precondition, WriteRelationshipsRequest

from saga_api import triggers
from saga_core.deadlines import Deadline
from saga_core.errors import TriggerOutcomeUnknown
from saga_spicedb import SpiceDB, TriggerRequest, messages
from tests.explore import spicedb_model
from tests.explore.explorer import Explorer
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS
from tests.explore.traces import parse, spell
from tests.explore.trigger_scenarios import MACHINES, judge_triggers, trigger_scenarios


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with driven() as patch:
        yield patch


def recorded_last(patch: pytest.MonkeyPatch) -> None:
    """The trigger is sent first, and recorded when Temporal has accepted it."""

    def only_look(
        self: SpiceDB, record_id: str, _schedule_id: str, _fence: str, deadline: Deadline
    ) -> TriggerRequest | None:
        found = self._read(messages.read(record_id, of="trigger_request"), deadline)
        return TriggerRequest(found[0].subject.object.object_id, found[0].relation == "done") if found else None

    def record(self: SpiceDB, record_id: str, fence: str, deadline: Deadline) -> bool:
        return opened(self, record_id, "agent0--daily", fence, deadline) is None and done(
            self, record_id, fence, deadline
        )

    opened, done = SpiceDB.open_trigger_request, SpiceDB.finish_trigger_request
    patch.setattr(SpiceDB, "open_trigger_request", only_look)
    patch.setattr(SpiceDB, "finish_trigger_request", record)


def recorded_over_another(patch: pytest.MonkeyPatch) -> None:
    """The record is written whether or not there is one."""
    _without_precondition(patch, Precondition.OPERATION_MUST_NOT_MATCH)


def recorded_under_an_old_fence(patch: pytest.MonkeyPatch) -> None:
    """The record is written also if the schedule has been made anew."""
    _without_precondition(patch, Precondition.OPERATION_MUST_MATCH)


def _without_precondition(patch: pytest.MonkeyPatch, operation: "Precondition.Operation.ValueType") -> None:
    def write(*arguments: Any) -> WriteRelationshipsRequest:
        request = real(*arguments)
        kept = [each for each in request.optional_preconditions if each.operation != operation]
        del request.optional_preconditions[:]
        request.optional_preconditions.extend(kept)
        return request

    real = messages.open_trigger_request
    patch.setattr(messages, "open_trigger_request", write)


def recorded_on_the_schedule(patch: pytest.MonkeyPatch) -> None:
    """Whatever removes the relationships of a schedule removes the records of its triggers with them."""

    def apply(state: spicedb_model.State, method: str, request: Any, now: float) -> tuple[spicedb_model.State, Any]:
        after, reply = real(state, method, request, now)
        if any(t[2] == "registered_by" for t in state - after):
            after = frozenset(t for t in after if t[0] != "trigger_request")
        return after, reply

    real = spicedb_model.apply
    patch.setattr(spicedb_model, "apply", apply)


def forgotten_when_the_outcome_is_unknown(patch: pytest.MonkeyPatch) -> None:
    """The record is removed after every failure."""

    caught_by_nothing = type("TriggerOutcomeUnknown", (TriggerOutcomeUnknown,), {})
    patch.setattr(triggers, "TriggerOutcomeUnknown", caught_by_nothing)


def never_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The record stays after every failure."""
    patch.setattr(SpiceDB, "remove_trigger_request", lambda *_: True)


def never_done(patch: pytest.MonkeyPatch) -> None:
    """The record stays open after a trigger that was accepted."""
    patch.setattr(SpiceDB, "finish_trigger_request", lambda *_: True)


def replayed_while_open(patch: pytest.MonkeyPatch) -> None:
    """A repeat that finds the record open is answered as if it were done."""

    def opened(*arguments: Any) -> TriggerRequest | None:
        found = real(*arguments)
        return replace(found, done=True) if found else None

    real = SpiceDB.open_trigger_request
    patch.setattr(SpiceDB, "open_trigger_request", opened)


def sent_again_while_open(patch: pytest.MonkeyPatch) -> None:
    """A repeat that finds the record open sends the trigger again, in the hope that Temporal ignores it."""

    def opened(*arguments: Any) -> TriggerRequest | None:
        found = real(*arguments)
        return found if found and found.done else None

    real = SpiceDB.open_trigger_request
    patch.setattr(SpiceDB, "open_trigger_request", opened)


TWICE = "one key triggered twice"


@pytest.mark.parametrize(
    ("mutation", "violation"),
    [
        (recorded_last, TWICE),
        (recorded_over_another, TWICE),
        (recorded_under_an_old_fence, "recorded a trigger of a schedule that is no longer there"),
        (recorded_on_the_schedule, TWICE),
        # The first scenarios have a Temporal that ignores the second trigger, so that its success is untrue.
        (forgotten_when_the_outcome_is_unknown, "was answered with success, and triggered nothing"),
        (never_forgotten, "a key that triggered nothing cannot be used"),
        (never_done, "a key is left whose outcome is not known"),
        (replayed_while_open, "was replayed, and nothing had been triggered"),
        (sent_again_while_open, TWICE),
    ],
)
def test_without_one_of_its_protections_a_trigger_has_a_counterexample(
    mutation: Callable[[pytest.MonkeyPatch], None], violation: str, patch: pytest.MonkeyPatch
) -> None:
    mutation(patch)
    # The ones without faults first: they need all four operations.
    scenarios = sorted(trigger_scenarios(), key=lambda scenario: scenario.most_faults)
    explorers = [Explorer(scenario, MACHINES, AGENTS, judge_triggers) for scenario in scenarios]
    found = ((explorer, explorer.explore()) for explorer in explorers)
    explorer, result = next((explorer, result) for explorer, result in found if result.violation)

    assert violation in result.violation
    print(f"{explorer.scenario.name}: {result.violation}")
    trace = list(explorer.describe(parse(spell(result.trace))))
    print("\n".join(trace))
    assert len(trace) >= len(result.trace), "the trace can be described again from its text"
