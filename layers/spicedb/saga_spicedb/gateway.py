"""The gateway to SpiceDB: the calls that this application makes, and what each response means to it.

Every method is one step of a saga. It may run twice, and it leaves the relationships of other operations alone. SpiceDB
checks what a method relies on in the same transaction as the write (a precondition); it is not read beforehand.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from authzed.api.v1 import (
    CheckPermissionResponse,
    DeleteRelationshipsRequest,
    DeleteRelationshipsResponse,
    Precondition,
    ReadRelationshipsRequest,
    Relationship,
)

from saga_core.connections import Connection
from saga_core.deadlines import Deadline
from saga_core.errors import AgentUpdateDenied, AuthorizationUnavailable, InvalidRequest
from saga_core.ids import Subject
from saga_core.requests import CreateRequest
from saga_core.steps import Holder
from saga_spicedb import messages
from saga_spicedb.calls import Calls, Client, PreconditionFailedError, TooManyError, held
from saga_spicedb.registrations import Registrations

# How long a trigger with a key is remembered. No request that was sent before takes effect so late.
TRIGGER_REQUEST_LASTS = timedelta(hours=24)
# Another batch begins only where so much time is left.
_BATCH_SECONDS = 1.0


class RegisterOutcome(StrEnum):
    """What register found or wrote."""

    REGISTERED = "registered"
    SKIPPED = "skipped"
    OCCUPIED = "occupied"


class Removal(StrEnum):
    """What became of the relationships that were to be removed."""

    DONE = "done"
    MORE = "more"  # some are removed, and time ran out: the same call goes on
    NOT_OURS = "not ours"  # the fence, or the lease, does not allow it, or there are none


@dataclass(frozen=True)
class TriggerRequest:
    """The record of a trigger with a key.

    Attributes:
        registration: the fence of the schedule that the trigger was for.
        done: whether Temporal has accepted the trigger; otherwise that is not known.
    """

    registration: str
    done: bool


class SpiceDB:
    """The relationships of schedules.

    Every method raises AuthorizationUnavailable when SpiceDB gives no usable response (whether a write took effect is
    then unknown), and ConfigurationError when SpiceDB refuses this application itself.
    """

    def __init__(
        self, connection: Connection[Client], lease: timedelta, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Make calls over ``connection``; leases end ``lease`` after ``now``.

        ``registrations`` is what the reconciler uses besides.
        """
        self._calls = Calls(connection)
        self.registrations = Registrations(self._calls, self.holder)
        self._lease = lease
        self._now = now

    def register(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Write owner, ``parent_agent``, fence and lease of a new schedule, if its creator may update the agent.

        OCCUPIED: relationships of another operation, the holder, are there. SKIPPED: no creator can be resolved, and
        nothing was asked.

        Raises:
            AgentUpdateDenied: the creator may not update the agent. Nothing was written.
            InvalidRequest: the schedule ends in the past, and no earlier create holds its name. Nothing was written.
        """
        creator = request.creator
        if creator is None:
            return RegisterOutcome.SKIPPED, None
        if not self.may_create(creator, request.agent_id, deadline):
            # A repeat of a register that has written before was authorized when it wrote.
            holder = self.holder(request.schedule_id, deadline)
            if holder and holder.registration == registration:
                return RegisterOutcome.REGISTERED, holder
            raise AgentUpdateDenied(f"the creator may not update agent {request.agent_id}")
        if request.schedule.is_over(self._now()) and self.holder(request.schedule_id, deadline) is None:
            raise InvalidRequest("schedule.end_at: is in the past")
        return self._write(request, creator, registration, execution_id, deadline)

    def register_again(
        self, request: CreateRequest, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Ensure that what `register` wrote still exists: write it again where a delete has removed it since.

        The creator's permission is not checked again: it was checked when this operation registered.
        """
        if request.creator is None:
            return RegisterOutcome.SKIPPED, None
        return self._write(request, request.creator, registration, execution_id, deadline)

    def _write(
        self, request: CreateRequest, creator: Subject, registration: str, execution_id: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        schedule_id = request.schedule_id
        lease_ends_at = self._now() + self._lease
        write = messages.register(schedule_id, request.agent_id, creator, registration, execution_id, lease_ends_at)
        if self._calls.done(lambda client: client.WriteRelationships, write, deadline):
            return RegisterOutcome.REGISTERED, None
        holder = self.holder(schedule_id, deadline)
        if holder is None:
            raise AuthorizationUnavailable(
                f"the relationships of {schedule_id} went away while they were being looked at"
            )
        if holder.registration != registration:
            return RegisterOutcome.OCCUPIED, holder
        return RegisterOutcome.REGISTERED, holder

    def restore(
        self, schedule_id: str, registration: str, memo_registration: str, deadline: Deadline
    ) -> tuple[RegisterOutcome, Holder | None]:
        """Let what this operation registered stand for an existing schedule: under its memo's fence, without a lease.

        OCCUPIED: the registration is gone; the holder, if any, is another operation.
        """
        write = messages.restore(schedule_id, registration, memo_registration)
        if not self._calls.done(lambda client: client.WriteRelationships, write, deadline):
            holder = self.holder(schedule_id, deadline)
            if holder is None or holder.registration != memo_registration:
                return RegisterOutcome.OCCUPIED, holder
        return RegisterOutcome.REGISTERED, None

    def end_lease(self, schedule_id: str, registration: str, deadline: Deadline) -> None:
        """Remove the lease of this operation, which has created its schedule. Without one it does nothing."""
        request = messages.end_lease(schedule_id, registration)
        self._calls.call(lambda client: client.WriteRelationships, request, deadline)

    def holder(self, schedule_id: str, deadline: Deadline) -> Holder | None:
        """Who holds the schedule's name now, or None if it has no relationship at all.

        It reads fence and lease, however many grants there are.
        """
        found = self._read(messages.read_registrations(schedule_id), deadline)
        if not found:
            responses = self._calls.read(messages.read_any(schedule_id), deadline)
            if not responses:
                return None
            # Somebody may have registered between the two reads: what was there at the second one?
            found = self._read(messages.read_registrations(schedule_id, at=responses[0].read_at), deadline)
        fences = [r.subject.object.object_id for r in found if r.relation == "registered_by"]
        leases = [r.optional_expires_at.ToDatetime(UTC) for r in found if r.relation == "creating"]
        # SpiceDB decides by its own clock whether a lease has expired; one that it still returns lasts at least 1 s.
        seconds = [max(1, math.ceil((lease - self._now()).total_seconds())) for lease in leases]
        return Holder(registration=fences[0] if fences else None, lease_seconds=max(seconds, default=0))

    def _read(self, request: ReadRelationshipsRequest, deadline: Deadline) -> list[Relationship]:
        return [response.relationship for response in self._calls.read(request, deadline)]

    def remove(self, schedule_id: str, registration: str, deadline: Deadline) -> Removal:
        """Remove every relationship of the schedule, if ``registration`` is the operation that registered it."""
        return self._remove(schedule_id, [messages.must_match(schedule_id, "registered_by", registration)], deadline)

    def clear(self, schedule_id: str, registration: str | None, deadline: Deadline) -> Removal:
        """Remove every relationship of an operation that is over, unless a lease is live.

        ``registration`` is the fence that they have; None clears relationships that have no fence.
        """
        fence = (
            messages.must_match(schedule_id, "registered_by", registration)
            if registration
            else messages.must_not_match(schedule_id, "registered_by")
        )
        return self._remove(schedule_id, [fence, messages.must_not_match(schedule_id, "creating")], deadline)

    def _remove(self, schedule_id: str, preconditions: list[Precondition], deadline: Deadline) -> Removal:
        """Remove everything in one transaction; if it is too much for one, the grants in batches before.

        The owner goes with the fence, in the last transaction: a caller who may delete may do so until the end. Only
        where the owners alone are too many, they go in batches too.
        """
        for relation in messages.GRANTS:
            try:
                self._delete(messages.delete(schedule_id, preconditions), deadline)
            except PreconditionFailedError:
                return Removal.NOT_OURS
            except TooManyError:
                pass
            else:
                return Removal.DONE
            batch = messages.delete_batch(schedule_id, relation, preconditions)
            partial = True
            while partial:
                if not deadline.leaves(_BATCH_SECONDS):
                    return Removal.MORE
                try:
                    partial = self._delete(batch, deadline)
                except PreconditionFailedError:
                    return Removal.NOT_OURS
        return Removal.MORE

    def _delete(self, request: DeleteRelationshipsRequest, deadline: Deadline) -> bool:
        """Whether there are more relationships to delete."""
        response = self._calls.call(lambda client: client.DeleteRelationships, request, deadline)
        return response.deletion_progress == DeleteRelationshipsResponse.DELETION_PROGRESS_PARTIAL

    def open_trigger_request(
        self, record_id: str, schedule_id: str, registration: str, deadline: Deadline
    ) -> TriggerRequest | None:
        """Record a trigger that is about to be sent, if it has no record and ``registration`` is the schedule's fence.

        Returns the record that is there already; None if it was written now. Raises AuthorizationUnavailable also if
        there is no record and the fence is another one by now; nothing was written then.
        """
        write = messages.open_trigger_request(record_id, schedule_id, registration, self._now() + TRIGGER_REQUEST_LASTS)
        if self._calls.done(lambda client: client.WriteRelationships, write, deadline):
            return None
        read = messages.read(record_id, of=messages.TRIGGER_REQUEST)
        for found in self._read(read, deadline):
            return TriggerRequest(found.subject.object.object_id, done=found.relation == "done")
        raise AuthorizationUnavailable(f"what {schedule_id} was going to be triggered by went away meanwhile")

    def finish_trigger_request(self, record_id: str, registration: str, deadline: Deadline) -> bool:
        """Mark a trigger that is recorded as open as done. Returns whether it was open under ``registration``."""
        write = messages.finish_trigger_request(record_id, registration, self._now() + TRIGGER_REQUEST_LASTS)
        return self._calls.done(lambda client: client.WriteRelationships, write, deadline)

    def remove_trigger_request(self, record_id: str, registration: str, deadline: Deadline) -> bool:
        """Forget a trigger that is recorded as open. Returns whether it was open under ``registration``."""
        request = messages.remove_trigger_request(record_id, registration)
        return self._calls.done(lambda client: client.DeleteRelationships, request, deadline)

    def may_create(self, subject: Subject, agent_id: str, deadline: Deadline) -> bool:
        """Whether the subject may update the agent now, and therefore create schedules for it."""
        return self._check("agent", agent_id, "update", subject, deadline)

    def may_list(self, subject: Subject, agent_id: str, deadline: Deadline) -> bool:
        """Whether the subject may read the agent now. Whoever may read a schedule may read its agent."""
        return self._check("agent", agent_id, "read", subject, deadline)

    def permissions(
        self, subject: Subject, asked: Collection[str], schedule_ids: Sequence[str], deadline: Deadline
    ) -> dict[str, set[str]]:
        """Which of the permissions (``read``, ``update``, ``delete``) the subject has on each schedule now.

        One call, whatever the subject has. Without a schedule there is nothing to ask.
        """
        found: dict[str, set[str]] = {schedule_id: set() for schedule_id in schedule_ids}
        if not found:
            return found
        request = messages.check_each(schedule_ids, asked, subject)
        response = self._calls.call(lambda client: client.CheckBulkPermissions, request, deadline)
        for pair in response.pairs:
            if held(pair):
                found[pair.request.resource.object_id].add(pair.request.permission)
        return found

    def _check(self, object_type: str, object_id: str, permission: str, subject: Subject, deadline: Deadline) -> bool:
        request = messages.check(object_type, object_id, permission, subject)
        response = self._calls.call(lambda client: client.CheckPermission, request, deadline)
        return bool(response.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION)
