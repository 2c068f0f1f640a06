"""What the reconciler reads and writes in SpiceDB. Every write is conditional on what was seen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from authzed.api.v1 import Cursor, WriteRelationshipsRequest

from saga_core.deadlines import Deadline
from saga_core.drift import Registered
from saga_core.ids import Subject
from saga_core.steps import Holder
from saga_spicedb import messages
from saga_spicedb.calls import Calls, held

# Relationships in a page of a sweep.
PAGE = 1000


@dataclass(frozen=True)
class Sweep:
    """A page of the ids that have relationships.

    Attributes:
        schedule_ids: in the order of SpiceDB; the last one of a page can come again as the first of the next.
        cursor: where the next page begins; empty at the end.
    """

    schedule_ids: list[str]
    cursor: str


class Registrations:
    """The relationships of schedules, as the reconciler sees them. It raises what `SpiceDB` raises."""

    def __init__(self, calls: Calls, holder: Callable[[str, Deadline], Holder | None]) -> None:
        """Make calls with ``calls``; ``holder`` reads fence and lease of a schedule."""
        self._calls = calls
        self._holder = holder

    def sweep(self, prefix: str, cursor: str, deadline: Deadline) -> Sweep:
        """One page of the ids that have relationships and begin with ``prefix``, by one call."""
        request = messages.sweep(prefix, PAGE, Cursor(token=cursor) if cursor else None)
        responses = self._calls.read(request, deadline)
        found = dict.fromkeys(response.relationship.resource.object_id for response in responses)
        return Sweep(list(found), responses[-1].after_result_cursor.token if len(responses) == PAGE else "")

    def registered(self, schedule_id: str, deadline: Deadline) -> Registered | None:
        """What SpiceDB has of the schedule now; None for nothing."""
        holder = self._holder(schedule_id, deadline)
        if holder is None:
            return None
        owners = self.subjects(schedule_id, "owner", deadline)
        parents = self.subjects(schedule_id, "parent_agent", deadline)
        return Registered(
            fence=holder.registration,
            lease_seconds=holder.lease_seconds,
            owners=frozenset(str(owner) for owner in owners),
            parents=frozenset(parent.id for parent in parents),
        )

    def subjects(self, schedule_id: str, relation: str, deadline: Deadline) -> list[Subject]:
        """Who has the relation on the schedule now: at most `PAGE` of them."""
        responses = self._calls.read(messages.read_relation(schedule_id, relation, PAGE), deadline)
        found = (response.relationship.subject.object for response in responses)
        return [Subject(subject.object_type, subject.object_id) for subject in found]

    def present(
        self, asked: Iterable[tuple[str, str, str, Subject]], deadline: Deadline
    ) -> set[tuple[str, str, str, Subject]]:
        """Which of (object type, object id, relation or permission, subject) hold now, by one call."""
        items = list(asked)
        if not items:
            return set()
        request = messages.check_all(items)
        response = self._calls.call(lambda client: client.CheckBulkPermissions, request, deadline)
        return {item for item, pair in zip(items, response.pairs, strict=True) if held(pair)}

    def register(self, schedule_id: str, owner: Subject, registration: str, deadline: Deadline) -> bool:
        """Write owner, ``parent_agent`` and fence, if the schedule has no relationship. Returns whether it had none."""
        return self._write(messages.register_existing(schedule_id, owner, registration), deadline)

    def add(self, schedule_id: str, relation: str, subject: Subject, fence: str, deadline: Deadline) -> bool:
        """Write one relationship, if the fence is still the same. Returns whether it was."""
        must = [messages.must_match(schedule_id, "registered_by", fence)]
        return self._write(messages.add(schedule_id, relation, subject, must), deadline)

    def add_fence(self, schedule_id: str, owner: Subject, registration: str, deadline: Deadline) -> bool:
        """Write the fence, if there is none and the owner is still there. Returns whether that was so."""
        must = [
            messages.must_not_match(schedule_id, "registered_by"),
            messages.must_match_subject(schedule_id, "owner", owner),
        ]
        fence = Subject("registration", registration)
        return self._write(messages.add(schedule_id, "registered_by", fence, must), deadline)

    def _write(self, request: WriteRelationshipsRequest, deadline: Deadline) -> bool:
        return self._calls.done(lambda client: client.WriteRelationships, request, deadline)
