"""The model of docs/performance.md ("Scale"): its sweeps are the reconciler's, and its numbers those of the code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws import intrinsics
from saga_reconcile import sweep
from saga_spicedb import gateway, registrations
from tests.support.fleet import LETTERS, Fleet, FleetEngines
from tests.support.machines import ROOT, template
from tests.support.reconciliation import REMAINING_SECONDS, reconciled
from tools.scale import document, model, quotas

MACHINE = json.loads((ROOT / "statemachine" / "reconcile_schedules.asl.json").read_text())


def shards_of(fleet: Fleet) -> Iterator[int]:
    return (len(fleet.beginning_with(letter)) for letter in LETTERS)


@pytest.mark.parametrize("size", [0, 1, 61, 62, 21_000, 62_000])
def test_the_calls_of_62_shards_are_those_of_the_model(size: int) -> None:
    engines = FleetEngines(Fleet(size))

    with engines.behind_the_reconciler():
        reconciled({"shards": 62})

    assert engines.calls == model.sweep_calls(list(shards_of(engines.fleet)))


@pytest.mark.parametrize("grants", [1, 5, 400])
@pytest.mark.parametrize("size", [1, 249, 250, 251, 1001])
def test_grants_make_more_pages_of_relationships_and_no_others(size: int, grants: int) -> None:
    engines = FleetEngines(Fleet(size, grants=grants))

    with engines.behind_the_reconciler():
        reconciled({})

    assert engines.calls == model.sweep_calls([size], model.RELATIONSHIPS + grants)


def test_even_shards_take_the_calls_of_all_of_them() -> None:
    whole = model.sweep(62 * 1500, shards=62)

    assert whole.calls == model.sweep_calls([1500] * 62)


def test_the_numbers_of_the_model_are_those_of_the_code() -> None:
    assert (sweep.PAGE, registrations.PAGE) == (model.PAGE, model.PAGE)
    assert REMAINING_SECONDS - sweep._PAGE_SECONDS == model.SWEEP_SECONDS
    assert gateway.TRIGGER_REQUEST_LASTS.total_seconds() == model.RECORD_SECONDS
    assert MACHINE["States"]["LookAll"]["MaxConcurrency"] == model.SHARDS_AT_ONCE
    sizes = {each.get("MemorySize", 1024) for each in template().properties("AWS::Serverless::Function").values()}
    assert sizes == {1024 * model.MEMORY_GB}


def test_the_limits_of_this_stack_are_those_of_the_template_and_the_machine() -> None:
    own: dict[str, Any] = {each["name"]: each["limit"] for each in quotas.every() if each["source"].startswith("..")}

    timeouts = [limit for name, limit in own.items() if "TimeoutSeconds" in name]
    assert set(timeouts) == {MACHINE["TimeoutSeconds"]}
    parameters = intrinsics.read(ROOT / "template.yaml")["Parameters"]
    assert own["`ApiRateLimit` of this stack"] == parameters["ApiRateLimit"]["Default"]


def test_every_quota_says_where_it_stands_and_what_moves_it() -> None:
    for each in quotas.every():
        assert each["moves"], each["name"]
        assert each["source"].startswith("https://") or (ROOT / "docs" / each["source"]).is_file(), each["name"]


def test_a_quota_is_met_at_the_size_that_the_table_says() -> None:
    for quota in quotas.QUOTAS["run"]:
        size = quotas.most_schedules(quota)
        used = quotas.used_by_run(quota, size), quotas.used_by_run(quota, int(size * 1.01))
        assert used[0] <= quota["limit"] < used[1], quota["name"]


def test_the_page_has_the_tables_of_the_model() -> None:
    assert document.main(["--check"]) == 0
