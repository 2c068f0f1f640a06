"""No interleaving breaks an invariant.

`make explore` explores more: three operations with two faults as well.
"""

from collections.abc import Iterator

import pytest

from tests.explore.explorer import Explorer, Scenario
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS, bounded_scenarios
from tests.explore.trigger_scenarios import MACHINES, judge_triggers, trigger_scenarios


@pytest.fixture(scope="module", autouse=True)
def handlers() -> Iterator[None]:
    """The handlers, driven one RPC at a time. They are the same for all scenarios, which share what was computed."""
    with driven():
        yield


@pytest.mark.parametrize(
    "scenario",
    [*bounded_scenarios(), *trigger_scenarios()],
    ids=lambda s: f"{s.name}, {s.most_faults} faults",
)
def test_no_interleaving_breaks_an_invariant(scenario: Scenario) -> None:
    explorer = Explorer(scenario, MACHINES, AGENTS, judge_triggers)
    result = explorer.explore()

    print(
        f"{scenario.name}: {result.interleavings:,} interleavings, {result.worlds:,} worlds, {result.endings:,} endings"
    )
    assert not result.violation, "\n".join([result.violation, *explorer.describe(result.trace)])
    assert result.endings > 0
