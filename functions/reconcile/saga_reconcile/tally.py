"""What a sweep has seen, found and done, as it travels through the machine."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from saga_core import limits
from saga_core.drift import Action, Finding, Kind

# Items in a report, and the bytes that one may have on average. The state of an execution holds 262,144 bytes: the
# input, and what both passes have counted in every shard.
MOST_ITEMS = 100
ITEM_BYTES = 600
# A run that would repair a larger part than this of what it saw stops, unless it is few in number.
MOST_SHARE = 0.05
FEW = 20


class Tally:
    """Counts of one shard, or of all."""

    def __init__(self, counted: Mapping[str, Any] | None = None, items: int = MOST_ITEMS) -> None:
        """Go on from what `to_json` gave; keep at most ``items`` findings, and no more than they may have bytes."""
        counted = counted or {}
        self._most_items = items
        self.seen: dict[str, int] = {"schedules": 0, "registrations": 0, **counted.get("seen", {})}
        self.kinds: dict[str, dict[str, int]] = {kind: dict(each) for kind, each in counted.get("kinds", {}).items()}
        self.would_repair: int = counted.get("would_repair", 0)
        self.repaired: int = counted.get("repaired", 0)
        self.waiting: int = counted.get("waiting", 0)
        self.items: list[Any] = list(counted.get("items", ()))
        self._bytes = sum(map(_bytes, self.items))
        self.items_left_out: int = counted.get("items_left_out", 0)

    def add(self, finding: Finding, *, wanted: bool, repaired: bool) -> None:
        """Count a finding; ``wanted`` is whether the run may repair its kind."""
        counts = self.kinds.setdefault(finding.kind, {"found": 0, "repaired": 0, "left": 0})
        counts["found"] += 1
        counts["repaired" if repaired else "left"] += 1
        self.would_repair += wanted and finding.action is not Action.NONE
        self.repaired += repaired
        item = {"schedule_id": finding.schedule_id, "kind": finding.kind, "detail": dict(finding.detail)}
        self._keep({**item, "action": f"{finding.action}: done" if repaired else finding.action})

    def foreign(self, number: int) -> None:
        """Count ids that are not ours."""
        if number:
            counts = self.kinds.setdefault(Kind.FOREIGN, {"found": 0, "repaired": 0, "left": 0})
            counts["found"] += number
            counts["left"] += number

    def _keep(self, item: Any) -> None:
        # There may be as many findings as schedules: once there are enough items, none is measured any more.
        if len(self.items) < self._most_items:
            size = self._bytes + _bytes(item)
            if size <= ITEM_BYTES * self._most_items:
                self.items.append(item)
                self._bytes = size
                return
        self.items_left_out += 1

    def to_json(self) -> dict[str, Any]:
        """As decoded JSON."""
        return {
            "seen": self.seen,
            "kinds": self.kinds,
            "would_repair": self.would_repair,
            "repaired": self.repaired,
            "waiting": self.waiting,
            "items": self.items,
            "items_left_out": self.items_left_out,
        }


def _bytes(item: Any) -> int:
    """What an item takes in the JSON of a list: itself, and two more for a comma and a space, or the brackets."""
    return limits.size(json.dumps(item)) + 2


def merged(tallies: Iterable[Mapping[str, Any]]) -> Tally:
    """The sum of tallies."""
    whole = Tally()
    for counted in tallies:
        each = Tally(counted)
        for system, number in each.seen.items():
            whole.seen[system] += number
        for kind, counts in each.kinds.items():
            own = whole.kinds.setdefault(kind, {"found": 0, "repaired": 0, "left": 0})
            for name, number in counts.items():
                own[name] += number
        whole.would_repair += each.would_repair
        whole.repaired += each.repaired
        whole.waiting += each.waiting
        whole.items_left_out += each.items_left_out
        for item in each.items:
            whole._keep(item)
    return whole


def too_much(tally: Tally, confirm: int | None, *, kinds_given: bool) -> str | None:
    """Why nothing may be repaired; None if it may.

    ``confirm`` is the largest number of repairs that a person expects.
    """
    seen, empty = tally.seen, [system for system, number in tally.seen.items() if number == 0]
    if empty and max(seen.values()) > FEW and not (confirm and kinds_given):
        return (
            f"there are no {empty[0]}, and {max(seen.values())} in the other system: an outage, or a restore. "
            "If it is no outage, give confirm and kinds"
        )
    most = max(FEW, int(MOST_SHARE * max(seen.values())))
    if tally.would_repair > max(most, confirm or 0):
        return f"{tally.would_repair} repairs are more than {most}: give confirm with the number that you expect"
    return None
