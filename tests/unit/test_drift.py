"""What counts as drift, what mends it, and what is left alone."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from saga_core.drift import Action, Finding, Kind, Registered, Scheduled, Waiting, find, revoked
from saga_core.steps import Memo

ID = "weather--daily"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(minutes=12)
ALICE, BOB = "user:alice", "user:bob"
OURS, THEIRS = "a" * 64, "b" * 64
WAITING = "waiting"

THERE = Scheduled(OURS, Memo(registration=OURS, creator=ALICE), NOW - LEASE, paused=False, note="")
NO_CREATOR = replace(THERE, memo=Memo(registration=OURS))
NO_MEMO = replace(THERE, memo=None)
ODD_CREATORS = ("", "alice", "user:", "group:admins", "user:al ice", "user:*", f"user:{'a' * 1025}", "agent:weather")
YOUNG = replace(THERE, created_at=NOW - LEASE + timedelta(microseconds=1))
AGELESS = replace(THERE, created_at=None)

WHOLE = Registered(OURS, 0, frozenset({ALICE}), frozenset({"weather"}))
LEASED = replace(WHOLE, lease_seconds=1)
OF_ANOTHER = replace(WHOLE, fence=THEIRS)
UNFENCED = replace(WHOLE, fence=None)
NOBODY: frozenset[str] = frozenset()


def judged(scheduled: Scheduled | None, registered: Registered | None) -> str | tuple[Kind, Action] | None:
    found = find(ID, scheduled, registered, now=NOW, lease=LEASE)
    if isinstance(found, Waiting):
        return WAITING
    return (found.kind, found.action) if found else None


CASES: dict[str, tuple[Scheduled | None, Registered | None, str | tuple[Kind, Action] | None]] = {
    # Nothing to say.
    "both have it": (THERE, WHOLE, None),
    "neither has it": (None, None, None),
    "a co-owner besides the creator": (THERE, replace(WHOLE, owners=frozenset({BOB, ALICE})), None),
    "adopted: no creator, the fence of its memo": (NO_CREATOR, replace(WHOLE, owners=frozenset({BOB})), None),
    "adopted: no memo, the fence of its id and age": (NO_MEMO, replace(WHOLE, owners=frozenset({BOB})), None),
    # Too early to say anything.
    "a live lease and no schedule": (None, LEASED, WAITING),
    "a live lease and nothing else wrong": (THERE, LEASED, WAITING),
    "a live lease under another fence": (THERE, replace(OF_ANOTHER, lease_seconds=720), WAITING),
    "a live lease without a fence": (None, replace(UNFENCED, lease_seconds=1), WAITING),
    "younger than a lease, without relationships": (YOUNG, None, WAITING),
    "younger than a lease, with a part of them": (YOUNG, replace(WHOLE, parents=NOBODY), WAITING),
    "of an unknown age": (AGELESS, None, WAITING),
    "young and without a creator": (replace(YOUNG, memo=None), None, WAITING),
    # One kind each.
    "relationships alone": (None, WHOLE, (Kind.ORPHAN, Action.REMOVE)),
    "a fence alone": (None, Registered(OURS, 0, NOBODY, NOBODY), (Kind.ORPHAN, Action.REMOVE)),
    "relationships alone, no fence": (None, UNFENCED, (Kind.UNFENCED, Action.REMOVE)),
    "a grant alone": (None, Registered(None, 0, NOBODY, NOBODY), (Kind.UNFENCED, Action.REMOVE)),
    "no relationships, exactly as old as a lease": (THERE, None, (Kind.UNOWNED, Action.RESTORE)),
    "no relationships and no creator": (NO_CREATOR, None, (Kind.UNMANAGED, Action.NONE)),
    "no relationships and no memo": (NO_MEMO, None, (Kind.UNMANAGED, Action.NONE)),
    **{
        f"no relationships and the creator {creator[:20]!r}": (
            replace(THERE, memo=Memo(registration=OURS, creator=creator)),
            None,
            (Kind.UNMANAGED, Action.NONE),
        )
        for creator in ODD_CREATORS
    },
    "no relationships and an odd registration": (
        replace(THERE, memo=Memo(registration="not ours", creator=ALICE)),
        None,
        (Kind.UNMANAGED, Action.NONE),
    ),
    "no parent_agent": (THERE, replace(WHOLE, parents=NOBODY), (Kind.INCOMPLETE, Action.ADD_PARENT)),
    "another agent as parent_agent": (
        THERE,
        replace(WHOLE, parents=frozenset({"weather-2"})),
        (Kind.INCOMPLETE, Action.ADD_PARENT),
    ),
    "neither parent_agent nor owner": (
        THERE,
        Registered(OURS, 0, NOBODY, NOBODY),
        (Kind.INCOMPLETE, Action.ADD_PARENT),
    ),
    "no owner": (THERE, replace(WHOLE, owners=NOBODY), (Kind.OWNERLESS, Action.NONE)),
    "no owner and no creator": (NO_CREATOR, replace(WHOLE, owners=NOBODY), (Kind.OWNERLESS, Action.NONE)),
    "another owner": (THERE, replace(WHOLE, owners=frozenset({BOB})), (Kind.OTHER_OWNER, Action.NONE)),
    "no fence, else as in the memo": (THERE, UNFENCED, (Kind.UNFENCED, Action.ADD_FENCE)),
    "no fence, and a co-owner": (
        THERE,
        replace(UNFENCED, owners=frozenset({BOB, ALICE})),
        (Kind.UNFENCED, Action.ADD_FENCE),
    ),
    "no fence, another owner": (THERE, replace(UNFENCED, owners=frozenset({BOB})), (Kind.UNFENCED, Action.NONE)),
    "no fence, no parent_agent": (THERE, replace(UNFENCED, parents=NOBODY), (Kind.UNFENCED, Action.NONE)),
    "no fence, another parent_agent": (
        THERE,
        replace(UNFENCED, parents=frozenset({"weather-2"})),
        (Kind.UNFENCED, Action.NONE),
    ),
    "no fence, two parent_agents": (
        THERE,
        replace(UNFENCED, parents=frozenset({"weather", "weather-2"})),
        (Kind.UNFENCED, Action.NONE),
    ),
    "no fence, no creator": (NO_CREATOR, UNFENCED, (Kind.UNFENCED, Action.NONE)),
    "another fence": (THERE, OF_ANOTHER, (Kind.CONFLICTING, Action.REPLACE)),
    "another fence, and parts missing": (
        THERE,
        Registered(THEIRS, 0, NOBODY, NOBODY),
        (Kind.CONFLICTING, Action.REPLACE),
    ),
    "another fence, no creator": (NO_CREATOR, OF_ANOTHER, (Kind.CONFLICTING, Action.REMOVE)),
    "another fence, no memo": (NO_MEMO, OF_ANOTHER, (Kind.CONFLICTING, Action.REMOVE)),
}


@pytest.mark.parametrize(("scheduled", "registered", "expected"), CASES.values(), ids=CASES)
def test_each_difference_is_one_kind_with_one_repair(
    scheduled: Scheduled | None, registered: Registered | None, expected: object
) -> None:
    assert judged(scheduled, registered) == expected


def test_every_kind_that_a_schedule_can_have_is_in_the_table() -> None:
    kinds = {expected[0] for _, _, expected in CASES.values() if isinstance(expected, tuple)}

    # A revoked owner is found by a permission, and a foreign id is no schedule of ours.
    assert kinds == set(Kind) - {Kind.REVOKED, Kind.FOREIGN}


def test_nothing_is_repaired_on_a_decision_that_only_a_person_can_make() -> None:
    decided = {Kind.OWNERLESS, Kind.OTHER_OWNER, Kind.UNMANAGED}
    actions = {
        expected[1] for _, _, expected in CASES.values() if isinstance(expected, tuple) and expected[0] in decided
    }

    assert actions == {Action.NONE}


@pytest.mark.parametrize("expected", ["relationships", "schedule", "both"])
def test_the_detail_explains_with_what_each_system_has(expected: str) -> None:
    of_schedule = {
        "created_at": (NOW - LEASE).isoformat(),
        "registration": OURS,
        "creator": ALICE,
        "execution_id": None,
    }
    of_relationships = {"fence": THEIRS, "owners": [ALICE], "parents": ["weather"]}
    scheduled, registered, detail = {
        "relationships": (None, OF_ANOTHER, of_relationships),
        "schedule": (THERE, None, of_schedule),
        "both": (THERE, OF_ANOTHER, {**of_schedule, **of_relationships}),
    }[expected]

    found = find(ID, scheduled, registered, now=NOW, lease=LEASE)

    assert isinstance(found, Finding)
    assert json.loads(json.dumps(found.detail)) == detail


def test_the_detail_has_ten_owners_at_most_in_the_same_order_every_time() -> None:
    many = frozenset(f"user:{number:02}" for number in range(11))

    found = find(ID, None, replace(WHOLE, owners=many), now=NOW, lease=LEASE)

    assert isinstance(found, Finding)
    assert found.detail["owners"] == [f"user:{number:02}" for number in range(10)]


NOTE = "paused by the reconciler"


@pytest.mark.parametrize(
    ("paused", "note", "pauses", "expected"),
    [
        pytest.param(False, "", True, Action.PAUSE, id="nobody has said anything about it"),
        pytest.param(False, "", False, Action.NONE, id="only reports are asked for"),
        pytest.param(True, NOTE, True, None, id="it is paused by the reconciler already"),
        pytest.param(True, NOTE, False, None, id="it is paused by the reconciler already, and reports are asked for"),
        pytest.param(True, "holidays", True, Action.NONE, id="a person has paused it"),
        pytest.param(True, "", True, Action.NONE, id="it was created paused"),
        pytest.param(False, "it has to run", True, Action.NONE, id="a person has unpaused it, with a note"),
        pytest.param(False, NOTE, True, Action.NONE, id="a person has unpaused it, and kept the note"),
    ],
)
def test_a_schedule_of_revoked_owners_is_paused_unless_a_person_has_decided(
    paused: bool, note: str, pauses: bool, expected: Action | None
) -> None:
    scheduled = replace(THERE, paused=paused, note=note)

    found = revoked(ID, scheduled, WHOLE, note=NOTE, pauses=pauses)

    assert (found and found.action) == expected
    assert found is None or (found.schedule_id, found.kind) == (ID, Kind.REVOKED)
