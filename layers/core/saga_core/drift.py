"""Drift: where Temporal and SpiceDB do not agree about a schedule, what that is, and what mends it. Pure functions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from saga_core import ids
from saga_core.ids import Subject
from saga_core.steps import Memo

_STORED_ID = r"[A-Za-z0-9/_|\-=+]{1,1024}"
_STORED_CREATOR = re.compile(f"(user|service_account):({_STORED_ID})")


class Kind(StrEnum):
    """What can differ. docs/operations.md says what each one means."""

    ORPHAN = "orphan"
    UNOWNED = "unowned"
    INCOMPLETE = "incomplete"
    OWNERLESS = "ownerless"
    UNFENCED = "unfenced"
    CONFLICTING = "conflicting"
    OTHER_OWNER = "other_owner"
    REVOKED = "revoked"
    UNMANAGED = "unmanaged"
    FOREIGN = "foreign"


class Action(StrEnum):
    """What the reconciler does about a finding."""

    NONE = "none"
    REMOVE = "remove"  # every relationship
    RESTORE = "restore"  # owner, parent_agent and fence, from the memo
    REPLACE = "replace"  # remove what has another fence, then restore
    ADD_PARENT = "add parent_agent"
    ADD_FENCE = "add fence"
    ADOPT = "adopt"  # register the owner that a person has named
    PAUSE = "pause"


@dataclass(frozen=True)
class Scheduled:
    """A schedule as Temporal has it.

    Attributes:
        registration: what tells it from others of its name.
        memo: the operation that created it; None if this application did not create it.
        paused, note: its state, and why.
    """

    registration: str
    memo: Memo | None
    created_at: datetime | None
    paused: bool
    note: str


@dataclass(frozen=True)
class Registered:
    """What SpiceDB has of a schedule.

    Attributes:
        fence: the registration that holds it; None where it has no fence.
        lease_seconds: remaining time of the lease; 0 if there is none.
        owners: subjects, written ``{type}:{id}``; at most a page of them.
        parents: ids of agents.
    """

    fence: str | None
    lease_seconds: int
    owners: frozenset[str]
    parents: frozenset[str]


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        action: what mends it; NONE where a person has to decide.
        detail: ids that explain it.
    """

    schedule_id: str
    kind: Kind
    action: Action
    detail: Mapping[str, Any]


def creator_of(memo: Memo | None) -> Subject | None:
    """Who created a schedule, by its memo.

    None where the memo names nobody, or has a creator or a registration that this application does not write: any tool
    can write a memo, and SpiceDB refuses every call that has such an id in it.
    """
    match = _STORED_CREATOR.fullmatch(memo.creator) if memo and memo.creator else None
    if memo is None or match is None or not re.fullmatch(_STORED_ID, memo.registration):
        return None
    return Subject(match[1], match[2])


class Waiting:
    """The schedule is too young, or an operation on it is in flight: nothing is said about it yet."""


def find(
    schedule_id: str,
    scheduled: Scheduled | None,
    registered: Registered | None,
    *,
    now: datetime,
    lease: timedelta,
) -> Finding | Waiting | None:
    """What is wrong with a schedule, if anything, apart from revoked owners."""
    detail = _detail(scheduled, registered)

    def finding(kind: Kind, action: Action = Action.NONE) -> Finding:
        return Finding(schedule_id, kind, action, detail)

    if registered and registered.lease_seconds:
        return Waiting()
    if scheduled is None:
        if registered is None:
            return None
        return finding(Kind.ORPHAN if registered.fence else Kind.UNFENCED, Action.REMOVE)
    # A create that has ended in trouble may still compensate, until its lease would be over.
    if scheduled.created_at is None or now - scheduled.created_at < lease:
        return Waiting()
    creator = creator_of(scheduled.memo)
    agent_id, _ = ids.split_schedule_id(schedule_id)
    if registered is None:
        return finding(Kind.UNOWNED, Action.RESTORE) if creator else finding(Kind.UNMANAGED)
    if registered.fence is None:
        as_in_memo = creator and str(creator) in registered.owners and registered.parents == {agent_id}
        return finding(Kind.UNFENCED, Action.ADD_FENCE if as_in_memo else Action.NONE)
    if registered.fence != scheduled.registration:
        return finding(Kind.CONFLICTING, Action.REPLACE if creator else Action.REMOVE)
    if agent_id not in registered.parents:
        return finding(Kind.INCOMPLETE, Action.ADD_PARENT)
    if not registered.owners:
        return finding(Kind.OWNERLESS)
    if creator and str(creator) not in registered.owners:
        return finding(Kind.OTHER_OWNER)
    return None


def revoked(
    schedule_id: str, scheduled: Scheduled, registered: Registered, *, note: str, pauses: bool
) -> Finding | None:
    """What to do about a schedule none of whose owners may update its agent; None if the reconciler has paused it.

    ``note`` is the reconciler's. A schedule with another note was paused or unpaused by a person, who decides. So was
    one that has this note and is not paused.
    """
    if scheduled.paused and scheduled.note == note:
        return None
    undecided = not scheduled.paused and not scheduled.note
    action = Action.PAUSE if pauses and undecided else Action.NONE
    return Finding(schedule_id, Kind.REVOKED, action, _detail(scheduled, registered))


def _detail(scheduled: Scheduled | None, registered: Registered | None) -> dict[str, Any]:
    detail: dict[str, Any] = {}
    if scheduled:
        memo, creator = scheduled.memo, creator_of(scheduled.memo)
        detail["created_at"] = scheduled.created_at.isoformat() if scheduled.created_at else None
        detail["registration"] = scheduled.registration
        detail["creator"] = str(creator) if creator else None
        detail["execution_id"] = memo.execution_id if memo else None
    if registered:
        detail["fence"] = registered.fence
        detail["owners"] = sorted(registered.owners)[:10]
        detail["parents"] = sorted(registered.parents)[:10]
    return detail
