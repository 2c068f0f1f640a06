"""The steps of a reconciliation: what is refused, how it is divided, and how its counts come together."""

import json
from typing import Any

import pytest

from local.aws.template import Template
from saga_core.drift import Kind
from saga_core.errors import InvalidRequest
from saga_reconcile.tally import ITEM_BYTES, MOST_ITEMS, Tally
from tests.support.machines import template
from tests.support.reconciliation import step

MOST_STATE_BYTES = 262_144


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(template()).items():
        monkeypatch.setenv(name, value)


def environment(deployed: Template) -> dict[str, str]:
    (function,) = (each for each in deployed.functions if each.code.name == "reconcile")
    return dict(function.environment)


def counted(would_repair: int = 0, schedules: int = 1000, **kinds: int) -> dict[str, Any]:
    """A shard's tally, with nothing repaired."""
    return {
        **Tally().to_json(),
        "seen": {"schedules": schedules, "registrations": schedules},
        "kinds": {kind: {"found": found, "repaired": 0, "left": found} for kind, found in kinds.items()},
        "would_repair": would_repair,
    }


def judged(request: dict[str, Any], *would_repair: int) -> dict[str, Any]:
    swept = [{"prefix": str(number), "tally": counted(each)} for number, each in enumerate(would_repair)]
    return step("judge", request, tallies=swept)


REFUSED: list[tuple[Any, str]] = [
    ([], "input"),
    (None, "input"),
    ("report", "input"),
    ({"mode": "mend"}, "mode"),
    ({"mode": "REPAIR"}, "mode"),
    ({"agent_id": ""}, "agent_id"),
    ({"agent_id": "a--b"}, "agent_id"),
    ({"agent_id": 'a" OR "'}, "agent_id"),
    ({"agent_id": "a" * 65}, "agent_id"),
    ({"schedule_id": "weather"}, "schedule_id"),
    ({"schedule_id": "--daily"}, "schedule_id"),
    ({"schedule_id": "weather--"}, "schedule_id"),
    ({"schedule_id": "weather--Daily"}, "schedule_id"),
    ({"schedule_id": f"{'a' * 65}--daily"}, "schedule_id"),
    ({"schedule_id": f"weather--{'d' * 65}"}, "schedule_id"),
    ({"schedule_id": "weather--daily\n"}, "schedule_id"),
    ({"agent_id": "weather", "schedule_id": "weather--daily"}, "exclude"),
    ({"kinds": "orphan"}, "kinds"),
    ({"kinds": ["orphans"]}, "kinds"),
    ({"max_repairs": 0}, "max_repairs"),
    ({"max_repairs": 100_001}, "max_repairs"),
    ({"max_repairs": "5"}, "max_repairs"),
    ({"max_repairs": True}, "max_repairs"),
    ({"confirm": 0}, "confirm"),
    ({"confirm": 1.5}, "confirm"),
    ({"adopt": ["weather--daily"]}, "adopt"),
    ({"adopt": {"weather": "user:alice"}}, "adopt"),
    ({"adopt": {"weather--daily": "alice"}}, "adopt"),
    ({"adopt": {"weather--daily": "user:"}}, "adopt"),
    ({"adopt": {"weather--daily": "agent:weather"}}, "adopt"),
    ({"adopt": {"weather--daily": f"user:{'ä' * 300}"}}, "adopt"),
    ({"adopt": {f"weather--d{number}": "user:alice" for number in range(101)}}, "adopt"),
    ({"revoked": "delete"}, "revoked"),
    ({"shards": 2}, "shards"),
    ({"shards": True}, "shards"),
    ({"limit": 3}, "limit"),
]


@pytest.mark.parametrize(("request_", "field"), REFUSED, ids=[str(request)[:50] for request, _ in REFUSED])
def test_a_request_that_does_not_fit_is_refused_by_the_name_of_its_field(request_: Any, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        step("plan", request_)


@pytest.mark.parametrize(
    "request_",
    [
        {"schedule_id": "private-words"},
        {"schedule_id": "weather--Private-Words"},
        {"agent_id": "private-words--"},
        {"adopt": {"weather--daily": "private-words"}},
        {"mode": "private-words"},
    ],
)
def test_a_refusal_does_not_repeat_what_was_sent(request_: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        step("plan", request_)

    assert "private" not in str(refused.value).lower()


def test_a_request_without_a_field_writes_nothing() -> None:
    assert judged({}, 5)["repairs"] is False
    assert judged({"mode": "repair"}, 5)["repairs"] is True


def test_a_step_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="do"):
        step("mend", {})


@pytest.mark.parametrize(
    ("request_", "prefix"),
    [
        ({}, ""),
        ({"agent_id": "weather"}, "weather--"),
        ({"schedule_id": "weather--daily"}, "weather--daily"),
        ({"agent_id": "weather", "shards": 62}, "weather--"),
        ({"schedule_id": "weather--daily", "shards": 62}, "weather--daily"),
    ],
)
def test_a_run_has_one_shard_for_what_it_looks_at(request_: dict[str, Any], prefix: str) -> None:
    assert step("plan", request_)["shards"] == [{"prefix": prefix, "repairs": 0, "items": MOST_ITEMS}]


def test_a_run_of_62_shards_has_one_for_each_letter_and_digit() -> None:
    shards = step("plan", {"shards": 62})["shards"]

    prefixes = [shard["prefix"] for shard in shards]
    assert len(set(prefixes)) == 62
    assert all(len(prefix) == 1 and prefix.isascii() and prefix.isalnum() for prefix in prefixes)
    assert {shard["items"] for shard in shards} == {1}


def test_repairs_are_given_to_the_shards_in_turn_until_there_are_no_more() -> None:
    verdict = judged({"mode": "repair", "max_repairs": 12}, 5, 0, 4, 9, 1)

    assert [(shard["prefix"], shard["repairs"]) for shard in verdict["shards"]] == [("0", 5), ("2", 4), ("3", 3)]
    assert (verdict["would_repair"], verdict["repairs"], verdict["stopped"]) == (19, True, None)


def test_the_shards_that_are_repaired_share_the_items_of_the_report() -> None:
    assert {shard["items"] for shard in judged({"mode": "repair"}, 1, 0, 1, 1)["shards"]} == {MOST_ITEMS // 3}


def test_nothing_to_repair_is_no_repair() -> None:
    verdict = judged({"mode": "repair"}, 0, 0)

    assert (verdict["repairs"], verdict["shards"], verdict["stopped"]) == (False, [], None)


def test_too_much_stops_before_the_first_repair_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Five percent of 2,000 are 100."""
    verdict = judged({"mode": "repair"}, 60, 41)

    assert verdict["repairs"] is False
    assert verdict["stopped"].startswith("101 repairs are more than 100")
    assert metrics(capsys) == [{"ReconcileStopped": 1}]
    assert judged({"mode": "repair", "confirm": 101}, 60, 41)["repairs"] is True


def test_too_much_for_a_repair_is_nothing_to_stop_in_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = judged({"mode": "report"}, 60, 41)

    assert (verdict["repairs"], verdict["stopped"], verdict["would_repair"]) == (False, None, 101)
    assert metrics(capsys) == []


def test_an_outage_stops_a_repair_unless_it_is_confirmed_with_its_kinds() -> None:
    empty = [{"prefix": "", "tally": {**counted(30), "seen": {"schedules": 30, "registrations": 0}}}]

    for request, repairs in (({}, False), ({"confirm": 30}, False), ({"confirm": 30, "kinds": ["unowned"]}, True)):
        assert step("judge", {"mode": "repair", **request}, tallies=empty)["repairs"] is repairs


def test_of_a_shard_that_was_repaired_the_second_pass_counts() -> None:
    first = [{"prefix": "a", "tally": counted(3, orphan=3)}, {"prefix": "b", "tally": counted(0, ownerless=1)}]
    second = {**counted(3, orphan=4), "repaired": 3, "kinds": {"orphan": {"found": 4, "repaired": 3, "left": 1}}}
    verdict = {"repairs": True, "stopped": None, "would_repair": 3}

    report = step(
        "report", {"mode": "repair"}, tallies=first, repaired=[{"prefix": "a", "tally": second}], judged=verdict
    )

    assert report == {
        "mode": "repair",
        "seen": {"schedules": 2000, "registrations": 2000},
        "kinds": {
            "orphan": {"found": 4, "repaired": 3, "left": 1},
            "ownerless": {"found": 1, "repaired": 0, "left": 1},
        },
        "would_repair": 3,
        "waiting": 0,
        "stopped": None,
        "items": [],
        "items_left_out": 0,
    }


@pytest.mark.parametrize(
    ("would_repair", "repairs", "stopped"),
    [(10, True, None), (11, True, "max_repairs: 10 of 11 repairs were allowed"), (11, False, None)],
)
def test_a_run_that_came_to_its_bound_says_so(would_repair: int, repairs: bool, stopped: str | None) -> None:
    verdict = {"repairs": repairs, "stopped": None, "would_repair": would_repair}

    report = step("report", {"mode": "repair", "max_repairs": 10}, tallies=[], repaired=[], judged=verdict)

    assert report["stopped"] == stopped


def test_drift_is_counted_by_kind_and_foreign_ids_are_none_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    swept = [{"prefix": "", "tally": counted(0, orphan=2, foreign=5)}]

    step("report", {}, tallies=swept, repaired=[], judged={"repairs": False, "stopped": None, "would_repair": 2})

    assert metrics(capsys) == [
        {"Drift": 2, "kind": "orphan"},
        {"DriftRepaired": 0, "kind": "orphan"},
        {"Drift": 5, "kind": "foreign"},
        {"DriftRepaired": 0, "kind": "foreign"},
        {"DriftLeft": 2},
    ]


@pytest.mark.parametrize("part", [{"agent_id": "weather"}, {"schedule_id": "weather--daily"}])
def test_a_run_over_a_part_counts_what_it_found_and_says_nothing_about_what_is_left(
    part: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    step("report", part, tallies=[{"prefix": "", "tally": counted(0, orphan=2)}])

    assert metrics(capsys) == [{"Drift": 2, "kind": "orphan"}, {"DriftRepaired": 0, "kind": "orphan"}]


def test_both_passes_of_62_full_shards_fit_into_the_state_of_an_execution() -> None:
    most = 10_000_000
    full = {
        "seen": {"schedules": most, "registrations": most},
        "kinds": {kind: {"found": most, "repaired": most, "left": most} for kind in Kind},
        **dict.fromkeys(("would_repair", "repaired", "waiting", "items_left_out"), most),
        "items": ["x" * (ITEM_BYTES - 4)],
    }
    shards = step("plan", {"shards": 62})["shards"]
    tallies = [{"prefix": shard["prefix"], "tally": full} for shard in shards]
    request = {"mode": "repair", "shards": 62, "confirm": 10 * 62 * most, "max_repairs": 100_000}
    verdict = step("judge", request, tallies=tallies)

    state = {"request": request, "plan": shards, "tallies": tallies, "judged": verdict, "repaired": tallies}

    assert Tally(full, items=1).items == full["items"]
    assert len(json.dumps(state)) < MOST_STATE_BYTES
    assert len(step("report", request, tallies=tallies, repaired=tallies, judged=verdict)["items"]) == 62


def metrics(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was counted: each metric with its kind, if it has one."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    counts = []
    for line in lines:
        (metric,) = line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
        name = metric["Name"]
        kind = {"kind": line["kind"]} if "kind" in line else {}
        counts.append({name: int(line[name][0]), **kind})
    return counts
