"""Goes through both systems, a page at a time, and looks at what may differ.

First all schedules of Temporal: do the relationships that their memos speak of exist? Then everything that has
relationships in SpiceDB: does its schedule exist? Lists are eventually consistent, so whatever looks wrong is only a
suspect, which is read again.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.drift import Action, Finding, Waiting, creator_of
from saga_core.errors import AuthorizationUnavailable, TemporalUnavailable
from saga_core.ids import Subject
from saga_core.observability import count, logger
from saga_core.steps import Memo
from saga_reconcile.repairs import Suspects
from saga_reconcile.requests import Mode, Position, ReconcileRequest, Shard, is_ours
from saga_reconcile.tally import Tally
from saga_spicedb import spicedb
from saga_temporal import temporal

PAGE = 1000
# The most that a call about a whole page may take: longer than one about a single schedule.
_CALL_SECONDS = 15.0
# Another page, or another suspect, begins only where so much time is left.
_PAGE_SECONDS = 35.0
_SUSPECT_SECONDS = 10.0


class Sweep:
    """The sweep of one shard, as far as one invocation gets."""

    def __init__(
        self, request: ReconcileRequest, shard: Shard, tally: Tally, lease: timedelta, deadline: Deadline
    ) -> None:
        """Look at ``shard``; count in ``tally``."""
        self._request = request
        self._shard = shard
        self._tally = tally
        self._deadline = deadline
        self._page_deadline = replace(deadline, per_call=_CALL_SECONDS)
        self._suspects = Suspects(request, lease, deadline)
        self._left = shard.repairs - tally.repaired

    def run(self, position: Position) -> Position | None:
        """Go on from ``position`` while there is time. Returns where to go on, or None at the end.

        An engine that does not answer ends it early. What was done so far counts: it raises only if that is nothing.
        """
        following: Position | None = position
        while following and self._deadline.leaves(_PAGE_SECONDS):
            look = self._schedules if following.system == "temporal" else self._registered
            try:
                following = look(following)
            except (AuthorizationUnavailable, TemporalUnavailable) as error:
                if following == position:
                    raise
                logger.warning("sweep interrupted", error=type(error).__name__, reason=str(error))
                count(type(error).__name__)
                break
        return following

    def _schedules(self, position: Position) -> Position:
        page = temporal().sweep(self._shard.prefix, PAGE, base64.b64decode(position.token), self._page_deadline)
        ours, foreign = self._ours(page.entries)
        last = self._look_at(self._incomplete({id_: page.entries[id_] for id_ in ours}), position.after)
        self._count("schedules", position, len(ours), foreign)
        if last:
            return position.model_copy(update={"after": last})
        token = base64.b64encode(page.following).decode()
        return Position(token=token) if token else Position(system="spicedb")

    def _registered(self, position: Position) -> Position | None:
        page = spicedb().registrations.sweep(self._shard.prefix, position.token, self._page_deadline)
        # The relationships of one schedule can go over the end of a page.
        ours, foreign = self._ours([id_ for id_ in page.schedule_ids if id_ != position.last])
        there = temporal().existing(ours, self._page_deadline) if ours else set()
        last = self._look_at([id_ for id_ in ours if id_ not in there], position.after)
        self._count("registrations", position, len(ours), foreign)
        if last:
            return position.model_copy(update={"after": last})
        if not page.cursor:
            return None
        return Position(system="spicedb", token=page.cursor, last=page.schedule_ids[-1])

    def _ours(self, listed: Iterable[str]) -> tuple[list[str], int]:
        """The ids of the shard that can be ours, and how many cannot."""
        # Lists of some databases ignore case: what begins otherwise is another shard's.
        only, prefix = self._request.schedule_id, self._shard.prefix
        here = [id_ for id_ in listed if (id_ == only if only else id_.startswith(prefix))]
        ours = [id_ for id_ in here if is_ours(id_)]
        return ours, len(here) - len(ours)

    def _count(self, system: str, position: Position, ours: int, foreign: int) -> None:
        """Count the ids of a page: once it has been looked at, and not when it goes on."""
        if not position.after:
            self._tally.foreign(foreign)
            self._tally.seen[system] += ours

    def _incomplete(self, memos: Mapping[str, Memo | None]) -> list[str]:
        """The schedules of which not everything is in SpiceDB, or whose creator may not update the agent any more."""
        asked: dict[str, list[tuple[str, str, str, Subject]]] = {}
        for schedule_id, memo in memos.items():
            creator = creator_of(memo)
            if memo is None or creator is None:
                continue
            agent_id, _ = ids.split_schedule_id(schedule_id)
            asked[schedule_id] = [
                ("agent_schedule", schedule_id, "owner", creator),
                ("agent_schedule", schedule_id, "parent_agent", Subject("agent", agent_id)),
                ("agent_schedule", schedule_id, "registered_by", Subject("registration", memo.registration)),
                ("agent", agent_id, "update", creator),
            ]
        present = spicedb().registrations.present(
            dict.fromkeys(item for items in asked.values() for item in items), self._page_deadline
        )
        # A schedule without a creator is a suspect every time: there is nothing that could be asked for at once.
        return [id_ for id_ in memos if id_ not in asked or not present.issuperset(asked[id_])]

    def _look_at(self, suspects: Iterable[str], after: str) -> str:
        """Look at suspects, in the order of their ids, from the one after ``after`` on.

        Returns the last one if not all were looked at: time has run out, or an engine does not answer. If that is so at
        the first one, it raises.
        """
        last = after
        for schedule_id in sorted(suspects):
            if schedule_id <= after:
                continue
            if last != after and not self._deadline.leaves(_SUSPECT_SECONDS):
                return last
            try:
                self._look_at_one(schedule_id)
            except (AuthorizationUnavailable, TemporalUnavailable):
                if last == after:
                    raise
                return last  # the one that it failed at is tried again
            last = schedule_id
        return ""

    def _look_at_one(self, schedule_id: str) -> None:
        found = self._suspects.inspect(schedule_id)
        if isinstance(found, Waiting):
            self._tally.waiting += 1
        elif found is not None:
            wanted = self._request.kinds is None or found.kind in self._request.kinds
            self._tally.add(found, wanted=wanted, repaired=wanted and self._repaired(found))

    def _repaired(self, finding: Finding) -> bool:
        if self._request.mode is Mode.REPORT or finding.action is Action.NONE or self._left <= 0:
            return False
        repaired = self._suspects.repair(finding)
        self._left -= repaired
        return repaired
