"""Goes through both systems, a page at a time, and looks at what may differ.

First all schedules of Temporal: do the relationships that their memos speak of exist? Then everything that has
relationships in SpiceDB: does its schedule exist? Lists are eventually consistent, so whatever looks wrong is only a
suspect, which is read again.
"""

import base64
from collections.abc import Iterable, Mapping
from datetime import timedelta

from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.drift import Action, Finding, Waiting, creator_of
from saga_core.ids import Subject
from saga_core.steps import Memo
from saga_reconcile.repairs import Suspects
from saga_reconcile.requests import Mode, Position, ReconcileRequest, Shard, is_ours
from saga_reconcile.tally import Tally
from saga_spicedb import spicedb
from saga_temporal import temporal

PAGE = 1000
# Another page, or another suspect, begins only where so much time is left.
_PAGE_SECONDS = 20.0
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
        self._suspects = Suspects(request, lease, deadline)
        self._left = shard.repairs - tally.repaired

    def run(self, position: Position) -> Position | None:
        """Go on from ``position`` while there is time. Returns where to go on, or None at the end."""
        following: Position | None = position
        while following and self._deadline.leaves(_PAGE_SECONDS):
            following = self._schedules(following) if following.system == "temporal" else self._registered(following)
        return following

    def _schedules(self, position: Position) -> Position:
        page = temporal().sweep(self._shard.prefix, PAGE, base64.b64decode(position.token), self._deadline)
        ours = self._ours(page.entries, position, "schedules")
        if last := self._look_at(self._incomplete({id_: page.entries[id_] for id_ in ours}), position.after):
            return position.model_copy(update={"after": last})
        token = base64.b64encode(page.following).decode()
        return Position(token=token) if token else Position(system="spicedb")

    def _registered(self, position: Position) -> Position | None:
        page = spicedb().registrations.sweep(self._shard.prefix, position.token, self._deadline)
        # The relationships of one schedule can go over the end of a page.
        ours = self._ours([id_ for id_ in page.schedule_ids if id_ != position.last], position, "registrations")
        there = temporal().existing(ours, self._deadline) if ours else set()
        if last := self._look_at([id_ for id_ in ours if id_ not in there], position.after):
            return position.model_copy(update={"after": last})
        if not page.cursor:
            return None
        return Position(system="spicedb", token=page.cursor, last=page.schedule_ids[-1])

    def _ours(self, listed: Iterable[str], position: Position, system: str) -> list[str]:
        """The ids of the shard that can be ours. All ids are counted when a page is begun, and not when it goes on."""
        # Lists of some databases ignore case: what begins otherwise is another shard's.
        only, prefix = self._request.schedule_id, self._shard.prefix
        here = [id_ for id_ in listed if (id_ == only if only else id_.startswith(prefix))]
        ours = [id_ for id_ in here if is_ours(id_)]
        if not position.after:
            self._tally.foreign(len(here) - len(ours))
            self._tally.seen[system] += len(ours)
        return ours

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
            dict.fromkeys(item for items in asked.values() for item in items), self._deadline
        )
        # A schedule without a creator is a suspect every time: there is nothing that could be asked for at once.
        return [id_ for id_ in memos if id_ not in asked or not present.issuperset(asked[id_])]

    def _look_at(self, suspects: Iterable[str], after: str) -> str:
        """Look at suspects, in the order of their ids, from the one after ``after`` on.

        Returns the last one if time has run out before all were looked at.
        """
        last = after
        for schedule_id in sorted(suspects):
            if schedule_id <= after:
                continue
            if last != after and not self._deadline.leaves(_SUSPECT_SECONDS):
                return last
            last = schedule_id
            found = self._suspects.inspect(schedule_id)
            if isinstance(found, Waiting):
                self._tally.waiting += 1
            elif found is not None:
                wanted = self._request.kinds is None or found.kind in self._request.kinds
                repaired = wanted and self._may_repair(found) and self._repaired(found)
                self._tally.add(found, wanted=wanted, repaired=repaired)
        return ""

    def _may_repair(self, finding: Finding) -> bool:
        return self._request.mode is Mode.REPAIR and finding.action is not Action.NONE and self._left > 0

    def _repaired(self, finding: Finding) -> bool:
        repaired = self._suspects.repair(finding)
        self._left -= repaired
        return repaired
