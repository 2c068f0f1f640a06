"""The gateway to Temporal: the calls that this application makes, and what each response means to it.

Every method is one step of a saga and may run twice. Calls go straight to the workflow service, because a create has to
carry a request id of ours, and without the SDK's own retries, because the state machine retries within its deadline.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.schedule.v1 import SchedulePatch, TriggerImmediatelyRequest
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleRequest,
    DeleteScheduleResponse,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PatchScheduleRequest,
    PatchScheduleResponse,
)
from temporalio.service import RPCError, RPCStatusCode

from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.errors import (
    ConfigurationError,
    InvalidRequest,
    SagaError,
    ScheduleAlreadyExists,
    ScheduleNotFound,
    ScheduleRejected,
    TemporalUnavailable,
    TooManyTriggers,
    TriggerOutcomeUnknown,
)
from saga_core.requests import CreateRequest
from saga_core.steps import Memo
from saga_core.views import ScheduleSummary
from saga_temporal import messages
from saga_temporal.messages import Description

_IDENTITY = "agent-schedule-saga"
_NO_NAMESPACE = "Temporal does not have the namespace"
# What Temporal says about a cron expression without repeating any of it; its other words may repeat it.
_CRON_REASONS = re.compile(
    r"(?:Second|Minute|Hour|DayOfMonth|Month|DayOfWeek|Year) is not in range \[\d+-\d+\]"
    r"|CronString does not have 5-7 fields"
)
# Codes that mean that Temporal refuses this application, not that it is in trouble; nothing was written.
_REFUSALS = {
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNIMPLEMENTED,
}

Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)
Run = Callable[[Coroutine[Any, Any, Any]], Any]
# What a code means to one call alone: the error to raise, given Temporal's message.
OwnErrors = Mapping[RPCStatusCode, Callable[[str], SagaError]]

# The workflow of a schedule takes a limited number of patches until it continues as new.
_TOO_MANY = (RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)
# These say that a request was refused before it took effect. After any other code it may have taken effect.
_NOT_DONE = {RPCStatusCode.NOT_FOUND, RPCStatusCode.UNAUTHENTICATED, *_REFUSALS, *_TOO_MANY}
_TRIGGER_ERRORS: OwnErrors = {
    **dict.fromkeys(
        [code for code in RPCStatusCode if code not in _NOT_DONE],
        lambda _reason: TriggerOutcomeUnknown("Temporal gave no usable response to a trigger"),
    ),
    **dict.fromkeys(_TOO_MANY, lambda _reason: TooManyTriggers("too many triggers of the schedule; try again later")),
}


class _Rpc(Protocol[Response_co]):
    def __call__(self, req: Any, *, timeout: timedelta) -> Awaitable[Response_co]: ...


class WorkflowService(Protocol):
    """The calls of Temporal's workflow service that a saga makes; temporalio's own service has them all."""

    @property
    def create_schedule(self) -> _Rpc[CreateScheduleResponse]:
        """CreateSchedule."""

    @property
    def describe_schedule(self) -> _Rpc[DescribeScheduleResponse]:
        """DescribeSchedule."""

    @property
    def delete_schedule(self) -> _Rpc[DeleteScheduleResponse]:
        """DeleteSchedule."""

    @property
    def list_schedules(self) -> _Rpc[ListSchedulesResponse]:
        """ListSchedules."""

    @property
    def patch_schedule(self) -> _Rpc[PatchScheduleResponse]:
        """PatchSchedule."""


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


class Temporal:
    """The schedules of one namespace.

    Every method raises TemporalUnavailable when Temporal gives no usable response (whether a write took effect is then
    unknown, unless the message says that Temporal could not be reached), and ConfigurationError when Temporal refuses
    this application itself.
    """

    def __init__(self, connect: Callable[[float], Awaitable[WorkflowService]], namespace: str, run: Run) -> None:
        """Connect with ``connect``, given a timeout in seconds, at the first call.

        ``run`` runs a coroutine to its end from any thread.
        """
        self._connect = connect
        self._namespace = namespace
        self._run = run
        self._service: WorkflowService | None = None

    def create(self, request: CreateRequest, memo: Memo, deadline: Deadline, *, over_stray: bool) -> str | None:
        """Create the schedule with ``memo.registration`` as request id; a repeat of the same create is not an error.

        With ``over_stray`` the caller holds the schedule's name in SpiceDB: a schedule of that name that has a creator
        then belongs to nobody, and is deleted first. Returns the registration of such a stray, if there was one.

        Raises:
            ScheduleAlreadyExists: another operation created a schedule of that name.
            ScheduleRejected: Temporal refuses what the schedule says, or has no such namespace.
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
            RPCStatusCode.NOT_FOUND: lambda _: ScheduleRejected(_NO_NAMESPACE),
        }
        try:
            self._call(lambda service: service.create_schedule, message, deadline, own)
        except ScheduleAlreadyExists:
            # The server compares request ids with the last run of the name, and forgets them when another run continues
            # it; the memo stays.
            found = self.describe(request.schedule_id, deadline)
            there = found.memo if found else None
            if there and there.registration == memo.registration:
                return None
            if not (over_stray and there and there.creator):
                raise
            self.delete(request.schedule_id, deadline)
            self.create(request, memo, deadline, over_stray=False)
            return there.registration
        return None

    def describe(self, schedule_id: str, deadline: Deadline) -> Description | None:
        """The schedule, or None if there is none."""
        message = DescribeScheduleRequest(namespace=self._namespace, schedule_id=schedule_id)
        try:
            response = self._call(lambda service: service.describe_schedule, message, deadline)
        except ScheduleNotFound:
            return None
        return messages.description(schedule_id, response)

    def delete(self, schedule_id: str, deadline: Deadline) -> bool:
        """Delete the schedule. Returns whether there was one."""
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

    def _call(
        self,
        rpc: Callable[[WorkflowService], _Rpc[Response]],
        message: Any,
        deadline: Deadline,
        own: OwnErrors = MappingProxyType({}),
    ) -> Response:
        """Make one call. Every error of Temporal is classified here, first by the call's own errors."""
        try:
            response: Response = self._run(self._connected_call(rpc, message, deadline))
        except RPCError as error:
            if error.status is RPCStatusCode.UNAUTHENTICATED:
                # The key may have been rotated: the next call makes a connection that reads it again.
                self._service = None
            if error.status in own:
                raise own[error.status](error.message) from None
            raise _classified(error) from None
        return response

    async def _connected_call(
        self, rpc: Callable[[WorkflowService], _Rpc[Response]], message: Any, deadline: Deadline
    ) -> Response:
        service = self._service
        if service is None:
            try:
                service = self._service = await self._connect(_time_left(deadline))
            except (RuntimeError, TimeoutError):
                # temporalio raises a bare RuntimeError when it cannot connect.
                raise TemporalUnavailable("Temporal cannot be reached; nothing was asked of it") from None
        return await rpc(service)(message, timeout=timedelta(seconds=_time_left(deadline)))


def _time_left(deadline: Deadline) -> float:
    timeout = deadline.timeout()
    if timeout is None:
        raise TemporalUnavailable("no time was left to ask Temporal")
    return timeout


def _classified(error: RPCError) -> SagaError:
    if error.status is RPCStatusCode.NOT_FOUND and not _is_namespace(error):
        return ScheduleNotFound("schedule not found")
    if error.status is RPCStatusCode.UNAUTHENTICATED:
        return TemporalUnavailable("Temporal does not accept the credentials")
    # Temporal's own message may repeat what a caller sent.
    if error.status is RPCStatusCode.NOT_FOUND:
        return ConfigurationError(_NO_NAMESPACE)
    if error.status in _REFUSALS:
        return ConfigurationError(f"Temporal refuses the request: {error.status.name}")
    return TemporalUnavailable(f"Temporal: {error.status.name}")


def _is_namespace(error: RPCError) -> bool:
    """Whether it is the namespace that is missing: the code is the same as for a schedule, the detail differs."""
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)
