"""One suspect: what is wrong with it now, and its repair.

A suspect is read again right before anything is done about it. What is removed is read in SpiceDB first and in Temporal
second: so a create in flight is seen in one of them. What is written is looked up in Temporal again afterwards: so a
delete in flight and the repair cannot both miss the other one. Every write is conditional on what was seen, in the same
transaction. A repair that loses its race is no error: what is left is found by the next run.
"""

from datetime import UTC, datetime, timedelta

from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.drift import Action, Finding, Kind, Registered, Scheduled, Waiting, find, revoked
from saga_core.errors import ScheduleNotFound
from saga_core.ids import Subject
from saga_core.observability import logger
from saga_reconcile.requests import ReconcileRequest, Revoked, subject
from saga_spicedb import Removal, spicedb
from saga_temporal import temporal

PAUSE_NOTE = "paused by the reconciler: no owner may update the agent"
# Temporal passes over an unpause without a note.
_UNPAUSE_NOTE = "unpaused by the reconciler: it was paused in place of an earlier schedule"


class Suspects:
    """Looks at suspects, and repairs them."""

    def __init__(
        self,
        request: ReconcileRequest,
        lease: timedelta,
        deadline: Deadline,
    ) -> None:
        """Repair what ``request`` allows; ``lease`` is that of creates."""
        self._request = request
        self._lease = lease
        self._deadline = deadline

    def inspect(self, schedule_id: str) -> Finding | Waiting | None:
        """What is wrong with a schedule now."""
        registered = spicedb().registrations.registered(schedule_id, self._deadline)
        described = temporal().describe(schedule_id, self._deadline)
        return self.judge(schedule_id, described.scheduled if described else None, registered)

    def judge(
        self, schedule_id: str, scheduled: Scheduled | None, registered: Registered | None
    ) -> Finding | Waiting | None:
        """What is wrong with a schedule, given what both systems have of it."""
        found = find(schedule_id, scheduled, registered, now=_now(), lease=self._lease)
        if isinstance(found, Finding):
            adoptable = found.kind in (Kind.OWNERLESS, Kind.UNMANAGED) and schedule_id in self._request.adopt
            return Finding(schedule_id, found.kind, Action.ADOPT, found.detail) if adoptable else found
        if found is None and scheduled and registered and not self._may_any_update(schedule_id, registered.owners):
            pauses = self._request.revoked is Revoked.PAUSE
            return revoked(schedule_id, scheduled, registered, note=PAUSE_NOTE, pauses=pauses)
        return found

    def _may_any_update(self, schedule_id: str, owners: frozenset[str]) -> bool:
        agent_id, _ = ids.split_schedule_id(schedule_id)
        asked = [("agent", agent_id, "update", stored_subject(owner)) for owner in owners]
        return bool(spicedb().registrations.present(asked, self._deadline))

    def repair(self, finding: Finding) -> bool:
        """Repair a finding. Returns whether it is repaired."""
        done = self._repaired(finding)
        logger.warning(
            "drift repaired" if done else "drift not repaired: it has changed meanwhile",
            schedule_id=finding.schedule_id,
            kind=finding.kind,
            action=finding.action,
            detail=finding.detail,
        )
        return done

    def _repaired(self, finding: Finding) -> bool:
        schedule_id, detail = finding.schedule_id, finding.detail
        registrations = spicedb().registrations
        match finding.action:
            case Action.REMOVE:
                return self._cleared(finding)
            case Action.RESTORE:
                return self._restored(schedule_id, stored_subject(detail["creator"]), detail["registration"])
            case Action.REPLACE:
                return self._cleared(finding) and self._restored(
                    schedule_id, stored_subject(detail["creator"]), detail["registration"]
                )
            case Action.ADD_PARENT:
                agent = Subject("agent", ids.split_schedule_id(schedule_id)[0])
                return registrations.add(schedule_id, "parent_agent", agent, detail["fence"], self._deadline)
            case Action.ADD_FENCE:
                owner, registration = stored_subject(detail["creator"]), detail["registration"]
                added = registrations.add_fence(schedule_id, owner, registration, self._deadline)
                return added and self._still_there(schedule_id, registration)
            case Action.ADOPT:
                owner = subject(self._request.adopt[schedule_id])
                if finding.kind is Kind.UNMANAGED:
                    return self._restored(schedule_id, owner, detail["registration"])
                return registrations.add(schedule_id, "owner", owner, detail["fence"], self._deadline)
            case Action.PAUSE:
                return self._paused(schedule_id, detail["registration"])
            case Action.NONE:
                return False

    def _cleared(self, finding: Finding) -> bool:
        removal = spicedb().clear(finding.schedule_id, finding.detail["fence"], self._deadline)
        return removal is Removal.DONE

    def _restored(self, schedule_id: str, owner: Subject, registration: str) -> bool:
        # Described in `inspect`, written here if there is nothing, and described again.
        written = spicedb().registrations.register(schedule_id, owner, registration, self._deadline)
        return written and self._still_there(schedule_id, registration)

    def _still_there(self, schedule_id: str, registration: str) -> bool:
        """Whether the schedule is still there; if not, what was written for it is removed."""
        if self._is_there(schedule_id, registration):
            return True
        spicedb().remove(schedule_id, registration, self._deadline)
        return False

    def _is_there(self, schedule_id: str, registration: str) -> bool:
        found = temporal().describe(schedule_id, self._deadline)
        return found is not None and found.registration == registration

    def _paused(self, schedule_id: str, registration: str) -> bool:
        try:
            temporal().pause(schedule_id, PAUSE_NOTE, self._deadline)
        except ScheduleNotFound:
            return False
        found = temporal().describe(schedule_id, self._deadline)
        if found is None or found.registration == registration:
            return found is not None
        if found.scheduled.paused and found.scheduled.note == PAUSE_NOTE:
            # Another schedule has the name by now, and was paused in place of the one that was seen.
            temporal().unpause(schedule_id, _UNPAUSE_NOTE, self._deadline)
        return False


def _now() -> datetime:
    return datetime.now(UTC)


def stored_subject(text: str) -> Subject:
    """The subject that a memo, or SpiceDB, has as ``{type}:{id}``, already encoded."""
    kind, _, identity = text.partition(":")
    return Subject(kind, identity)
