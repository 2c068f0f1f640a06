"""One schedule's whole story: what Temporal and SpiceDB have of it, and what the reconciler makes of that.

It reads both engines directly, as the functions do and with their settings. It writes nothing.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from local.stack.console import say
from saga_core.deadlines import Deadline
from saga_core.drift import Finding, Registered, Waiting
from saga_core.errors import SagaError
from saga_core.settings import SpiceDBSettings, call_settings
from saga_reconcile.repairs import PAUSE_NOTE, Suspects
from saga_reconcile.requests import ReconcileRequest
from saga_spicedb import spicedb
from saga_spicedb.registrations import PAGE
from saga_temporal import Description, temporal
from tools.doctor.kinds import advice, repair
from tools.doctor.report import EXIT_AGREE, EXIT_DRIFT
from tools.doctor.text import age, owner, plain

_SECONDS = 30.0


class Unexplained(Exception):
    """An engine gives no usable response. The text is one line."""


@dataclass(frozen=True)
class Story:
    """What both systems have of a schedule, and what is wrong with it.

    Attributes:
        registered: what SpiceDB has; None for nothing.
        described: what Temporal has; None for nothing.
        grants: how many subjects have each of the relations ``editor`` and ``viewer``, up to PAGE.
        judged: as the reconciler judges it; None where the two agree.
    """

    schedule_id: str
    registered: Registered | None
    described: Description | None
    grants: Mapping[str, int]
    judged: Finding | Waiting | None
    lease: timedelta
    now: datetime

    @property
    def exit_code(self) -> int:
        """What the command returns for it."""
        return EXIT_DRIFT if isinstance(self.judged, Finding) else EXIT_AGREE

    @property
    def conclusion(self) -> str:
        """What the reconciler would do, and why: the kind, or the reason for doing nothing, and what follows."""
        judged = self.judged
        if isinstance(judged, Finding):
            told, repaired = advice(judged.kind), repair(judged.action)
            follows = f"A repair {repaired}" if repaired else f"A repair changes nothing; {told.to_do}"
            return f"{judged.kind}: {told.meaning}. {follows}."
        if isinstance(judged, Waiting):
            if self.registered and self.registered.lease_seconds:
                why = f"a lease is live, for {self.registered.lease_seconds} s: a create holds the name"
            else:
                why = f"the schedule is younger than the lease ({self.lease.seconds} s): its create may still undo it"
            return f"waiting: {why}. A repair leaves it alone until then."
        if self.registered is None and self.described is None:
            return "Neither Temporal nor SpiceDB has it."
        if self.described and self.described.scheduled.note == PAUSE_NOTE:
            return "The reconciler has paused it. Once an owner may update the agent again, unpause it."
        return "The two systems agree. A repair changes nothing."

    def to_json(self) -> dict[str, Any]:
        """The story as decoded JSON: ``{schedule_id, temporal, spicedb, kind, action, why}``; null for nothing."""
        finding = self.judged if isinstance(self.judged, Finding) else None
        return {
            "schedule_id": self.schedule_id,
            "temporal": dict(self._temporal()) or None,
            "spicedb": dict(self._spicedb()) or None,
            "kind": finding.kind if finding else "waiting" if isinstance(self.judged, Waiting) else None,
            "action": finding.action if finding else "none",
            "why": self.conclusion,
        }

    def show(self, console: Console) -> None:
        """Print it for a person."""
        table = Table(box=box.ROUNDED, title=self.schedule_id, title_justify="left")
        blocks = []
        for heading, side in (("Temporal", self._temporal()), ("SpiceDB", self._spicedb())):
            table.add_column(heading, overflow="fold", ratio=1)
            lines = [f"{name}: {_shown(value)}" for name, value in side]
            blocks.append("\n".join(lines) or "nothing")
        table.add_row(*blocks)
        console.print(table, soft_wrap=False)
        say(console, self.conclusion, indent=0)

    def _temporal(self) -> Iterator[tuple[str, Any]]:
        """What Temporal has, each with its name."""
        if self.described is None:
            return
        scheduled, memo = self.described.scheduled, self.described.memo
        state = self.described.response.schedule.state
        created_at = scheduled.created_at
        yield "created", created_at.isoformat() if created_at else None
        yield "age", age(created_at, self.now) if created_at else None
        yield "state", "paused" if state.paused else "active"
        yield "note", scheduled.note or None
        yield "runs", self.described.response.info.action_count
        yield "fence", scheduled.registration
        yield "memo", f"version {memo.version}" if memo else "none of ours"
        if memo:
            yield "registered by", owner(memo.creator) if memo.creator else None
            yield "account", memo.account_id
            yield "by execution", memo.execution_id
            yield "idempotency key", memo.idempotency_key

    def _spicedb(self) -> Iterator[tuple[str, Any]]:
        """What SpiceDB has, each with its name."""
        if self.registered is None:
            return
        yield "owners", sorted(map(owner, self.registered.owners))
        yield "parent_agent", sorted(self.registered.parents)
        yield "fence", self.registered.fence
        yield "lease", f"{self.registered.lease_seconds} s left" if self.registered.lease_seconds else "none"
        for relation, number in self.grants.items():
            yield f"{relation}s", f"{number} or more" if number >= PAGE else number


def explain(schedule_id: str) -> Story:
    """Read both engines, and judge what they have as the reconciler does.

    Raises:
        Unexplained: the environment is not that of a function, or an engine gives no usable response.
    """
    try:
        return _explained(schedule_id)
    except SagaError as error:
        raise Unexplained(f"{type(error).__name__}: {plain(str(error))}") from None


def _explained(schedule_id: str) -> Story:
    deadline = Deadline(time.monotonic() + _SECONDS, call_settings().rpc_timeout_seconds)
    lease = timedelta(seconds=SpiceDBSettings.load().lease_seconds)
    registrations = spicedb().registrations
    # In this order, like the reconciler: a create in flight is seen in one of them.
    registered = registrations.registered(schedule_id, deadline)
    described = temporal().describe(schedule_id, deadline)
    grants = (
        {each: len(registrations.subjects(schedule_id, each, deadline)) for each in ("editor", "viewer")}
        if registered
        else {}
    )
    suspects = Suspects(ReconcileRequest(), lease, deadline)
    judged = suspects.judge(schedule_id, described.scheduled if described else None, registered)
    return Story(schedule_id, registered, described, grants, judged, lease, datetime.now(UTC))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "nobody"
    return "-" if value is None else plain(str(value))
