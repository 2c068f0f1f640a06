"""The gateway to Temporal: the calls that this application makes, and what each response means to it.

Every method is one step of a saga and may run twice. Calls go straight to the workflow service, because a create has to
carry a request id of ours, and without the SDK's own retries, because the state machine retries within its deadline.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from temporalio.api.schedule.v1 import SchedulePatch, TriggerImmediatelyRequest
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleRequest,
    ListSchedulesRequest,
    PatchScheduleRequest,
)
from temporalio.service import RPCStatusCode

from saga_core import ids
from saga_core.connections import Connection
from saga_core.deadlines import Deadline
from saga_core.errors import (
    InvalidRequest,
    NameReserved,
    ScheduleAlreadyExists,
    ScheduleNotFound,
    ScheduleRejected,
    TooManyTriggers,
    TriggerOutcomeUnknown,
)
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from saga_core.views import ScheduleSummary
from saga_temporal import messages
from saga_temporal.calls import REFUSALS, Calls, OwnErrors, Run, WorkflowService
from saga_temporal.messages import Description

_IDENTITY = "agent-schedule-saga"
# The most ids that one query may name.
_MOST_IDS = 1000
# What Temporal says about a cron expression without repeating any of it; its other words may repeat it.
_CRON_REASONS = re.compile(
    r"(?:Second|Minute|Hour|DayOfMonth|Month|DayOfWeek|Year) is not in range \[\d+-\d+\]"
    r"|CronString does not have 5-7 fields"
)
# The workflow of a schedule takes a limited number of patches until it continues as new.
_TOO_MANY = (RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)
# These say that a request was refused before it took effect. After any other code it may have taken effect.
_NOT_DONE = {RPCStatusCode.NOT_FOUND, RPCStatusCode.UNAUTHENTICATED, *REFUSALS, *_TOO_MANY}
_TRIGGER_ERRORS: OwnErrors = {
    **dict.fromkeys(
        [code for code in RPCStatusCode if code not in _NOT_DONE],
        lambda _reason: TriggerOutcomeUnknown("Temporal gave no usable response to a trigger"),
    ),
    **dict.fromkeys(_TOO_MANY, lambda _reason: TooManyTriggers("too many triggers of the schedule; try again later")),
}


@dataclass(frozen=True)
class Page:
    """A part of the list of an agent's schedules.

    Attributes:
        schedules: the agent's.
        foreign: how many entries are left out, because their ids are not ids of the agent's schedules.
        following: the token of the next page; empty on the last one.
    """

    schedules: list[ScheduleSummary]
    foreign: int
    following: bytes


@dataclass(frozen=True)
class Sweep:
    """A page of all schedules.

    Attributes:
        entries: the memo of each schedule, by id; None where it has none of ours.
        following: the token of the next page; empty on the last one.
    """

    entries: dict[str, Memo | None]
    following: bytes


class Temporal:
    """The schedules of one namespace.

    Every method raises TemporalUnavailable when Temporal gives no usable response (whether a write took effect is then
    unknown, unless the message says that Temporal could not be reached), and ConfigurationError when Temporal refuses
    this application itself.
    """

    def __init__(self, connection: Connection[WorkflowService], namespace: str, run: Run) -> None:
        """Make calls over ``connection``. ``run`` runs a coroutine to its end from any thread."""
        self._call = Calls(connection, run).call
        self._namespace = namespace

    def create(self, request: CreateRequest, memo: Memo, deadline: Deadline, *, holds_name: bool) -> None:
        """Create the schedule with ``memo.registration`` as request id; a repeat of the same create is not an error.

        ``holds_name``: the caller holds the schedule's name in SpiceDB, so that another schedule of that name with a
        creator belongs to nobody.

        Raises:
            ScheduleAlreadyExists: another operation created a schedule of that name. ``unowned`` says whether it
                belongs to nobody.
            NameReserved: Temporal has no schedule of that name, and does not free the name yet.
            ScheduleRejected: Temporal refuses what the schedule says.
            InvalidRequest: the schedule has no creator and ends in the past, and there is none of its name.
        """
        # Register has checked the end of a schedule that has a creator.
        is_over = memo.creator is None and request.schedule.is_over(datetime.now(UTC))
        if is_over and self.describe(request.schedule_id, deadline) is None:
            raise InvalidRequest("schedule.end_at: is in the past")
        message = CreateScheduleRequest(
            namespace=self._namespace,
            schedule_id=request.schedule_id,
            schedule=messages.schedule(request),
            memo=messages.memo(memo),
            identity=_IDENTITY,
            request_id=memo.registration,
        )

        def rejected(message: str) -> ScheduleRejected:
            fields = ", ".join(f"schedule.{name}" for name in request.schedule.checked_by_temporal())
            reasons = ", ".join(_CRON_REASONS.findall(message))
            said = f"Temporal rejects the schedule (it checks {fields})"
            return ScheduleRejected(f"{said}: {reasons}" if reasons else said)

        own: OwnErrors = {
            RPCStatusCode.ALREADY_EXISTS: lambda _: ScheduleAlreadyExists(
                f"schedule {request.schedule_id} exists already"
            ),
            RPCStatusCode.INVALID_ARGUMENT: rejected,
        }
        try:
            self._call(lambda service: service.create_schedule, message, deadline, own)
        except ScheduleAlreadyExists:
            # The server compares request ids with the last run of the name, and forgets them when another run continues
            # it; the memo stays.
            found = self.describe(request.schedule_id, deadline)
            if found is None:
                raise NameReserved(f"Temporal does not free the name of schedule {request.schedule_id} yet") from None
            if found.registration == memo.registration:
                return
            if holds_name and found.memo and found.memo.creator:
                raise ScheduleAlreadyExists(
                    f"schedule {request.schedule_id} exists already; nobody owns it, and it awaits repair", unowned=True
                ) from None
            raise

    def describe(self, schedule_id: str, deadline: Deadline) -> Description | None:
        """The schedule, or None if there is none."""
        message = DescribeScheduleRequest(namespace=self._namespace, schedule_id=schedule_id)
        try:
            response = self._call(lambda service: service.describe_schedule, message, deadline)
        except ScheduleNotFound:
            return None
        return messages.description(schedule_id, response)

    def delete(self, schedule_id: str, deadline: Deadline, *, only: str | None = None) -> bool:
        """Delete the schedule; with ``only`` the one of this registration alone. Returns whether there was one.

        Temporal has no conditional delete: with ``only`` the schedule is looked at first.
        """
        if only:
            found = self.describe(schedule_id, deadline)
            if found is None or found.registration != only:
                return False
        message = DeleteScheduleRequest(namespace=self._namespace, schedule_id=schedule_id, identity=_IDENTITY)
        try:
            self._call(lambda service: service.delete_schedule, message, deadline)
        except ScheduleNotFound:
            return False
        return True

    def page(self, agent_id: str, size: int, token: bytes, deadline: Deadline) -> Page:
        """One page of an agent's schedules, by one call. Lists are eventually consistent.

        Raises:
            InvalidRequest: the token is not one of the server's.
        """
        message = ListSchedulesRequest(
            namespace=self._namespace,
            maximum_page_size=size,
            next_page_token=token,
            query=f'ScheduleId STARTS_WITH "{ids.schedule_id(agent_id, "")}"',
        )
        own: OwnErrors = {}
        if token:
            wrong_token = InvalidRequest("page_token: is not a token that a list has given")
            own = {RPCStatusCode.INVALID_ARGUMENT: lambda _: wrong_token}
        response = self._call(lambda service: service.list_schedules, message, deadline, own)
        # Some databases of Temporal compare without case, and other tools give schedules ids of any form.
        ours = [entry for entry in response.schedules if ids.is_schedule_of(entry.schedule_id, agent_id)]
        return Page(
            schedules=[messages.summary(entry) for entry in ours],
            foreign=len(response.schedules) - len(ours),
            following=response.next_page_token,
        )

    def sweep(self, prefix: str, size: int, token: bytes, deadline: Deadline) -> Sweep:
        """One page of all schedules whose ids begin with ``prefix``, by one call. Lists are eventually consistent."""
        query = f'ScheduleId STARTS_WITH "{prefix}"' if prefix else ""
        return self._sweep(query, size, token, deadline)

    def existing(self, schedule_ids: Sequence[str], deadline: Deadline) -> set[str]:
        """Which of these ids a list shows now: at most a thousand, by one call or a few. Eventually consistent."""
        found: set[str] = set()
        for first in range(0, len(schedule_ids), _MOST_IDS):
            batch = schedule_ids[first : first + _MOST_IDS]
            query = "ScheduleId IN ({})".format(", ".join(f'"{each}"' for each in batch))
            found |= set(self._sweep(query, len(batch), b"", deadline).entries)
        return found

    def _sweep(self, query: str, size: int, token: bytes, deadline: Deadline) -> Sweep:
        message = ListSchedulesRequest(
            namespace=self._namespace, maximum_page_size=size, next_page_token=token, query=query
        )
        response = self._call(lambda service: service.list_schedules, message, deadline)
        entries = {entry.schedule_id: messages.memo_of(entry.schedule_id, entry.memo) for entry in response.schedules}
        return Sweep(entries, response.next_page_token)

    def pause(self, schedule_id: str, note: str, deadline: Deadline) -> None:
        """Let the schedule start nothing from now on. A paused one stays paused.

        Raises:
            ScheduleNotFound: there is no such schedule.
        """
        self._patch(schedule_id, SchedulePatch(pause=note), deadline)

    def unpause(self, schedule_id: str, note: str, deadline: Deadline) -> None:
        """Let the schedule start workflows again.

        Raises:
            ScheduleNotFound: there is no such schedule.
        """
        self._patch(schedule_id, SchedulePatch(unpause=note), deadline)

    def trigger(self, schedule_id: str, request_id: str | None, deadline: Deadline) -> None:
        """Start the schedule's workflow now, by its overlap policy. Running it twice may start two.

        ``request_id``: some servers ignore a second trigger of the same id for some time; None for an id of its own.

        Raises:
            ScheduleNotFound: there is no such schedule.
            TooManyTriggers: the server takes no more triggers of the schedule for now.
            TriggerOutcomeUnknown: the server gave no usable response after it was asked.
            TemporalUnavailable: nothing was asked, or the credentials were refused.
        """
        patch = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest())
        self._patch(schedule_id, patch, deadline, _TRIGGER_ERRORS, request_id)

    def _patch(
        self,
        schedule_id: str,
        patch: SchedulePatch,
        deadline: Deadline,
        own: OwnErrors = MappingProxyType({}),
        request_id: str | None = None,
    ) -> None:
        message = PatchScheduleRequest(
            namespace=self._namespace,
            schedule_id=schedule_id,
            patch=patch,
            identity=_IDENTITY,
            request_id=request_id or str(uuid.uuid4()),
        )
        self._call(lambda service: service.patch_schedule, message, deadline, own)
