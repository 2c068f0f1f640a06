"""What a run of the reconciler counts, and when that is too much to be repaired."""

import json
from typing import Any

import pytest

from saga_core.drift import Action, Finding, Kind
from saga_reconcile.tally import ITEM_BYTES, MOST_ITEMS, Tally, merged, too_much


def finding(number: int = 0, kind: Kind = Kind.ORPHAN, action: Action = Action.REMOVE, **detail: Any) -> Finding:
    return Finding(f"weather--s{number}", kind, action, detail)


def tally(schedules: int = 0, registrations: int = 0, would_repair: int = 0) -> Tally:
    return Tally({"seen": {"schedules": schedules, "registrations": registrations}, "would_repair": would_repair})


def test_a_finding_is_counted_by_its_kind_as_repaired_or_left() -> None:
    counted = Tally()

    counted.add(finding(1), wanted=True, repaired=True)
    counted.add(finding(2), wanted=True, repaired=False)
    counted.add(finding(3, Kind.OWNERLESS, Action.NONE), wanted=True, repaired=False)

    assert counted.kinds == {
        "orphan": {"found": 2, "repaired": 1, "left": 1},
        "ownerless": {"found": 1, "repaired": 0, "left": 1},
    }
    assert (counted.would_repair, counted.repaired) == (2, 1), "what has no repair is not one"


def test_a_kind_that_the_run_may_not_repair_is_no_repair_to_come() -> None:
    counted = Tally()

    counted.add(finding(1), wanted=False, repaired=False)
    counted.add(finding(2, Kind.UNOWNED, Action.RESTORE), wanted=True, repaired=False)

    assert counted.would_repair == 1
    assert counted.kinds["orphan"] == {"found": 1, "repaired": 0, "left": 1}


def test_an_item_says_what_was_found_and_what_is_done_about_it() -> None:
    counted = Tally()

    counted.add(finding(1, fence="f"), wanted=True, repaired=True)
    counted.add(finding(2, fence="f"), wanted=True, repaired=False)
    counted.add(finding(3, Kind.OWNERLESS, Action.NONE), wanted=True, repaired=False)

    item = {"kind": "orphan", "detail": {"fence": "f"}}
    assert counted.items == [
        {**item, "schedule_id": "weather--s1", "action": "remove: done"},
        {**item, "schedule_id": "weather--s2", "action": "remove"},
        {"schedule_id": "weather--s3", "kind": "ownerless", "detail": {}, "action": "none"},
    ]


def test_foreign_ids_are_counted_and_are_no_items() -> None:
    counted = Tally()

    counted.foreign(0)
    assert counted.kinds == {}
    counted.foreign(2)
    counted.foreign(1)
    assert counted.kinds == {"foreign": {"found": 3, "repaired": 0, "left": 3}}
    assert (counted.items, counted.would_repair) == ([], 0)


def test_a_tally_travels_through_the_machine_unchanged() -> None:
    counted = Tally()
    counted.seen["schedules"] = 7
    counted.waiting = 2
    counted.add(finding(1, fence=None, owners=["user:alice"]), wanted=True, repaired=True)
    counted.foreign(3)
    travelled = json.loads(json.dumps(counted.to_json()))

    assert Tally(travelled).to_json() == travelled == counted.to_json()


def test_what_goes_on_from_a_tally_does_not_change_it() -> None:
    begun = tally(1)
    begun.add(finding(), wanted=True, repaired=False)
    earlier = begun.to_json()
    before = json.dumps(earlier)

    following = Tally(earlier)
    following.seen["schedules"] += 1
    following.add(finding(), wanted=True, repaired=True)

    assert json.dumps(earlier) == before


def test_more_items_than_a_report_has_room_for_are_counted_alone() -> None:
    counted = Tally()

    for number in range(MOST_ITEMS + 3):
        counted.add(finding(number), wanted=True, repaired=False)

    assert [item["schedule_id"] for item in counted.items] == [f"weather--s{number}" for number in range(MOST_ITEMS)]
    assert counted.items_left_out == 3
    assert counted.kinds["orphan"]["found"] == MOST_ITEMS + 3


def test_long_items_are_kept_as_far_as_the_state_of_an_execution_has_room_for_them() -> None:
    """Ten owners with the longest ids are as long as twenty findings of the usual length."""
    counted = Tally()
    owners = [f"user:{number:01024}" for number in range(10)]

    for number in range(MOST_ITEMS):
        counted.add(finding(number, owners=owners), wanted=True, repaired=False)
    counted.add(finding(MOST_ITEMS), wanted=True, repaired=False)

    assert len(json.dumps(counted.items)) <= ITEM_BYTES * MOST_ITEMS
    assert len(counted.items) + counted.items_left_out == MOST_ITEMS + 1
    assert counted.items[-1]["schedule_id"] == f"weather--s{MOST_ITEMS}", "a short one still has room"
    again = Tally(counted.to_json())
    again.add(finding(0, owners=owners), wanted=True, repaired=False)
    assert len(json.dumps(again.items)) <= ITEM_BYTES * MOST_ITEMS, "what was kept before counts"


def test_the_sum_of_shards_has_all_that_they_have() -> None:
    shards = []
    for number in (1, 2):
        each = tally(schedules=10 * number, registrations=number, would_repair=0)
        each.waiting = number
        each.add(finding(number), wanted=True, repaired=number == 1)
        each.add(finding(10 + number, Kind.UNMANAGED, Action.NONE), wanted=True, repaired=False)
        each.items_left_out = 5
        shards.append(each.to_json())

    whole = merged(shards)

    assert whole.to_json() == {
        "seen": {"schedules": 30, "registrations": 3},
        "kinds": {
            "orphan": {"found": 2, "repaired": 1, "left": 1},
            "unmanaged": {"found": 2, "repaired": 0, "left": 2},
        },
        "would_repair": 2,
        "repaired": 1,
        "waiting": 3,
        "items": [item for shard in shards for item in shard["items"]],
        "items_left_out": 10,
    }


def test_the_sum_of_none_is_nothing() -> None:
    assert merged([]).to_json() == Tally().to_json()


def test_the_sum_of_full_shards_keeps_the_bound() -> None:
    full = Tally()
    for number in range(MOST_ITEMS):
        full.add(finding(number), wanted=True, repaired=False)

    whole = merged([full.to_json(), full.to_json()])

    assert (len(whole.items), whole.items_left_out) == (MOST_ITEMS, MOST_ITEMS)


@pytest.mark.parametrize(
    ("schedules", "would_repair", "confirm", "stopped"),
    [
        pytest.param(10, 20, None, False, id="a few, of whatever number"),
        pytest.param(10, 21, None, True, id="one more than a few"),
        pytest.param(400, 20, None, False, id="a few are allowed where five percent are as many"),
        pytest.param(420, 21, None, False, id="five percent"),
        pytest.param(419, 21, None, True, id="more than five percent"),
        pytest.param(10_000, 500, None, False, id="five percent of much"),
        pytest.param(10_000, 501, None, True, id="more than five percent of much"),
        pytest.param(10_000, 501, 501, False, id="as much as a person expects"),
        pytest.param(10_000, 502, 501, True, id="more than a person expects"),
        pytest.param(10_000, 400, 3, False, id="a person who expects less does not forbid five percent"),
    ],
)
def test_a_run_that_would_repair_much_stops_unless_a_person_expects_it(
    schedules: int, would_repair: int, confirm: int | None, stopped: bool
) -> None:
    for counted in (tally(schedules, 1, would_repair), tally(1, schedules, would_repair)):
        why = too_much(counted, confirm, kinds_given=False)

        assert (why is not None) is stopped
        assert why is None or (f"{would_repair} repairs" in why and "confirm" in why)


@pytest.mark.parametrize(
    ("schedules", "registrations", "confirm", "kinds_given", "stopped"),
    [
        pytest.param(21, 0, None, False, True, id="no relationships"),
        pytest.param(0, 21, None, False, True, id="no schedules"),
        pytest.param(0, 21, 21, False, True, id="confirmed without kinds"),
        pytest.param(0, 21, None, True, True, id="kinds without a number"),
        pytest.param(0, 21, 21, True, False, id="confirmed, with kinds"),
        pytest.param(0, 20, None, False, False, id="a few alone"),
        pytest.param(1, 21, None, False, False, id="one that is left"),
        pytest.param(0, 0, None, False, False, id="nothing anywhere"),
    ],
)
def test_a_system_that_has_nothing_where_the_other_has_much_is_an_outage(
    schedules: int, registrations: int, confirm: int | None, kinds_given: bool, stopped: bool
) -> None:
    why = too_much(tally(schedules, registrations, 1), confirm, kinds_given=kinds_given)

    assert (why is not None) is stopped
    assert why is None or ("registrations" if schedules else "schedules") in why
