"""The sweep of both systems, on schedules that are made when they are read: whole, in pieces, and side by side."""

from datetime import timedelta
from typing import Any

import pytest

from saga_core.deadlines import Deadline
from saga_reconcile import sweep
from saga_reconcile.requests import Position, ReconcileRequest, Shard
from saga_reconcile.tally import Tally
from saga_spicedb import registrations
from tests.support.fleet import Fleet, FleetEngines
from tests.support.reconciliation import reconciled
from tools.scale.model import sweep_calls

LEASE = timedelta(minutes=12)


def report(engines: FleetEngines, **request: Any) -> dict[str, Any]:
    with engines.behind_the_reconciler():
        return reconciled(request)


def found(report: dict[str, Any]) -> dict[str, int]:
    return {kind: counts["found"] for kind, counts in report["kinds"].items()}


@pytest.mark.parametrize("size", [1, 333, 334, 667, 1000, 1001, 5000])
def test_schedules_that_agree_take_a_few_calls_for_each_thousand(size: int) -> None:
    engines = FleetEngines(Fleet(size))

    seen = report(engines)

    assert (seen["seen"], seen["kinds"]) == ({"schedules": size, "registrations": size}, {})
    assert engines.calls == sweep_calls([size])


@pytest.mark.parametrize("shards", [1, 62])
def test_every_damage_is_found_once_as_the_kind_that_it_is(shards: int) -> None:
    engines = FleetEngines(Fleet(1240, damaged_every=62))

    seen = report(engines, shards=shards)

    assert found(seen) == engines.fleet.damages()
    assert seen["would_repair"] == 5 * 20, "five of the kinds have a repair"
    assert len(seen["items"]) + seen["items_left_out"] == 8 * 20


def test_what_agrees_is_read_once_and_what_does_not_is_looked_at() -> None:
    whole, damaged = FleetEngines(Fleet(1100)), FleetEngines(Fleet(1100, damaged_every=50))

    report(whole)
    report(damaged)

    assert damaged.calls["DescribeSchedule"] == 8 * 22
    assert damaged.calls["ListSchedules"] == whole.calls["ListSchedules"]


def test_a_list_that_ignores_case_counts_nothing_twice() -> None:
    engines = FleetEngines(Fleet(620, damaged_every=62), ignores_case=True)

    seen = report(engines, shards=62)

    assert seen["seen"] == {"schedules": 610, "registrations": 610}
    assert found(seen) == engines.fleet.damages()


@pytest.mark.parametrize("calls_an_invocation", [1, 2, 3, 7, 40])
def test_a_sweep_that_is_cut_anywhere_goes_on_and_counts_everything_once(
    calls_an_invocation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 50)
    monkeypatch.setattr(registrations, "PAGE", 50)
    engines = FleetEngines(Fleet(300, damaged_every=30))
    shard, request = Shard(prefix=""), ReconcileRequest()
    whole, cut = Tally(), Tally()

    def deadline(calls: int) -> Deadline:
        """Every call takes a second. A page begins where 35 s are left."""
        return Deadline(engines.calls.total() + calls + 34, per_call=1, now=lambda: engines.calls.total())

    with engines.behind_the_reconciler():
        assert sweep.Sweep(request, shard, whole, LEASE, deadline(10_000)).run(Position()) is None
        position: Position | None = Position()
        invocations = 0
        while position:
            cut = Tally(cut.to_json())
            following = sweep.Sweep(request, shard, cut, LEASE, deadline(calls_an_invocation)).run(position)
            assert following != position, "every invocation gets further"
            position = following and Position.parse(following.to_json())
            invocations += 1

    assert invocations > 1
    assert {kind: counts["found"] for kind, counts in cut.kinds.items()} == engines.fleet.damages()
    assert (cut.kinds, cut.seen, cut.would_repair) == (whole.kinds, whole.seen, whole.would_repair)
    assert sorted(item["schedule_id"] for item in cut.items) == sorted(item["schedule_id"] for item in whole.items)


def test_one_schedule_is_looked_at_alone() -> None:
    engines = FleetEngines(Fleet(620, damaged_every=62))

    seen = report(engines, schedule_id=engines.fleet.id(62))

    assert found(seen) == {"unowned": 1}
    assert seen["seen"] == {"schedules": 1, "registrations": 0}
    assert engines.calls.total() <= 10
