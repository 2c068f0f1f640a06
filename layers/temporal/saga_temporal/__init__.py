"""Temporal, as this application uses it. The only code that knows temporalio.

Every method is one step of a saga and may run twice. Calls go straight to the workflow service, because a create has to
carry a request id of ours, and without the SDK's own retries, because the state machine retries with the deadline in
view.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Memo as MemoMessage
from temporalio.api.common.v1 import Payloads, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    ScheduleAction,
    ScheduleListEntry,
    SchedulePatch,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
    TriggerImmediatelyRequest,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
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
from temporalio.client import Client, TLSConfig
from temporalio.converter import PayloadConverter
from temporalio.service import RPCError, RPCStatusCode

from saga_core import ids, models
from saga_core.deadlines import Deadline
from saga_core.errors import (
    ConfigurationError,
    InvalidRequest,
    SagaError,
    ScheduleAlreadyExists,
    ScheduleRejected,
    TemporalUnavailable,
)
from saga_core.models import CreateRequest, Memo, NewSchedule, ScheduleSummary, ScheduleView
from saga_core.observability import logger
from saga_core.settings import TemporalSettings, read_secret

# Under this key the memo holds one JSON object, a models.Memo.
MEMO_KEY = "agent_schedule"
_IDENTITY = "agent-schedule-saga"
# Codes that say that Temporal refuses this application, not that it is in trouble; nothing was written.
_REFUSALS = {
    RPCStatusCode.NOT_FOUND,  # of the namespace: an absent schedule is told apart before
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNIMPLEMENTED,
}

T = TypeVar("T")
Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class _Rpc(Protocol[Reply_co]):
    def __call__(self, req: Any, *, timeout: timedelta) -> Awaitable[Reply_co]: ...


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
class Description:
    """A schedule as Temporal has it.

    Attributes:
        memo: what it says of the operation that made it; None if this application did not make it.
        schedule: as callers see it.
    """

    memo: Memo | None
    schedule: ScheduleView


class Temporal:
    """The schedules of one namespace.

    Every method raises TemporalUnavailable when Temporal gives no usable answer (whether a write took effect is then
    unknown, unless the message says that it could not be reached), and ConfigurationError when it refuses this
    application itself.
    """

    def __init__(self, connect: Callable[[float], Awaitable[WorkflowService]], namespace: str, run: Run):
        """Make a connection with ``connect``, given a timeout in seconds, at the first call.

        ``run`` runs a coroutine to its end from any thread.
        """
        self._connect = connect
        self._namespace = namespace
        self._run = run
        self._service: WorkflowService | None = None

    def create(self, request: CreateRequest, memo: Memo, deadline: Deadline, *, over_stray: bool) -> str | None:
        """Create the schedule with ``memo.registration`` as request id; a repeat of the same create is no error.

        With ``over_stray`` the caller holds the schedule's name in SpiceDB: a schedule of that name that has a creator
        is then nobody's, and is deleted first. Answers the registration of such a stray, if there was one.

        Raises:
            ScheduleAlreadyExists: a schedule of that name is there and another operation made it.
            ScheduleRejected: Temporal refuses what the schedule says, or has no such namespace.
        """
        message = CreateScheduleRequest(
            namespace=self._namespace,
            schedule_id=request.schedule_id,
            schedule=_to_message(request),
            memo=MemoMessage(fields={MEMO_KEY: PayloadConverter.default.to_payload(models.to_json(memo))}),
            identity=_IDENTITY,
            request_id=memo.registration,
        )
        try:
            self._call(lambda service: service.create_schedule, message, deadline)
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return self._create_over(request, memo, deadline, over_stray=over_stray)
            if error.status in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND):
                asked = {"cron_expression", "timezone", "task_queue", "start_at", "end_at"}
                values = request.schedule.model_dump(mode="json", include=asked, exclude_none=True)
                fields = ", ".join(f"schedule.{name}={value!r}" for name, value in values.items())
                raise ScheduleRejected(f"Temporal rejects the schedule ({fields}): {error.message}") from None
            raise _classified(error) from None
        return None

    def _create_over(self, request: CreateRequest, memo: Memo, deadline: Deadline, *, over_stray: bool) -> str | None:
        """Go on where a schedule of the name is there: it is this operation's own, a stray, or another's."""
        # The server compares request ids with the last run of the name, and forgets them when that run is continued by
        # another; the memo stays.
        found = self.describe(request.schedule_id, deadline)
        there = found.memo if found else None
        if there and there.registration == memo.registration:
            return None
        if over_stray and there and there.creator:
            self.delete(request.schedule_id, deadline)
            self.create(request, memo, deadline, over_stray=False)
            return there.registration
        raise ScheduleAlreadyExists(f"schedule {request.schedule_id} exists already")

    def describe(self, schedule_id: str, deadline: Deadline) -> Description | None:
        """The schedule, or None if there is none."""
        message = DescribeScheduleRequest(namespace=self._namespace, schedule_id=schedule_id)
        try:
            reply = self._call(lambda service: service.describe_schedule, message, deadline)
        except RPCError as error:
            if _is_absent(error):
                return None
            raise _classified(error) from None
        return _from_message(schedule_id, reply)

    def delete(self, schedule_id: str, deadline: Deadline) -> bool:
        """Delete the schedule. Answers whether there was one."""
        message = DeleteScheduleRequest(namespace=self._namespace, schedule_id=schedule_id, identity=_IDENTITY)
        try:
            self._call(lambda service: service.delete_schedule, message, deadline)
        except RPCError as error:
            if _is_absent(error):
                return False
            raise _classified(error) from None
        return True

    def page(self, agent_id: str, size: int, token: bytes, deadline: Deadline) -> tuple[list[ScheduleSummary], bytes]:
        """One page of an agent's schedules, at most ``size`` of them, and the token of the next (empty: the last).

        The list trails what was written by a moment.

        Raises:
            InvalidRequest: the token is none of the server's.
        """
        message = ListSchedulesRequest(
            namespace=self._namespace,
            maximum_page_size=size,
            next_page_token=token,
            query=f'ScheduleId STARTS_WITH "{ids.schedule_id(agent_id, "")}"',
        )
        try:
            reply = self._call(lambda service: service.list_schedules, message, deadline)
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT and token:
                raise InvalidRequest("page_token: is not a token that a list has given") from None
            raise _classified(error) from None
        return [_summary(entry) for entry in reply.schedules], reply.next_page_token

    def pause(self, schedule_id: str, note: str, deadline: Deadline) -> bool:
        """Let the schedule start nothing from now on. Answers whether there is one; a paused one stays so."""
        return self._patch(schedule_id, SchedulePatch(pause=note), deadline)

    def unpause(self, schedule_id: str, note: str, deadline: Deadline) -> bool:
        """Let the schedule start workflows again. Answers whether there is one."""
        return self._patch(schedule_id, SchedulePatch(unpause=note), deadline)

    def trigger(self, schedule_id: str, deadline: Deadline) -> bool:
        """Start the schedule's workflow now, by its overlap policy. Answers whether there is such a schedule."""
        return self._patch(schedule_id, SchedulePatch(trigger_immediately=TriggerImmediatelyRequest()), deadline)

    def _patch(self, schedule_id: str, patch: SchedulePatch, deadline: Deadline) -> bool:
        message = PatchScheduleRequest(
            namespace=self._namespace,
            schedule_id=schedule_id,
            patch=patch,
            identity=_IDENTITY,
            request_id=str(uuid.uuid4()),
        )
        try:
            self._call(lambda service: service.patch_schedule, message, deadline)
        except RPCError as error:
            if _is_absent(error):
                return False
            raise _classified(error) from None
        return True

    def _call(self, rpc: Callable[[WorkflowService], _Rpc[Reply]], message: Any, deadline: Deadline) -> Reply:
        reply: Reply = self._run(self._connected_call(rpc, message, deadline))
        return reply

    async def _connected_call(
        self, rpc: Callable[[WorkflowService], _Rpc[Reply]], message: Any, deadline: Deadline
    ) -> Reply:
        if self._service is None:
            try:
                self._service = await self._connect(_time_left(deadline))
            except (RuntimeError, TimeoutError):
                # What temporalio raises when it cannot connect is a bare RuntimeError, so nothing else is in this try.
                raise TemporalUnavailable("Temporal cannot be reached; nothing was asked of it") from None
        return await rpc(self._service)(message, timeout=timedelta(seconds=_time_left(deadline)))


@cache
def temporal() -> Temporal:
    """The Temporal that the environment names, connected at the first call and kept by a warm function.

    Raises:
        ConfigurationError: the environment or a secret is missing or malformed.
    """
    settings = TemporalSettings.load()
    api_key = read_secret(settings.temporal_api_key_secret) if settings.temporal_api_key_secret else None
    tls = _tls(settings)

    async def connect(timeout: float) -> WorkflowService:
        client = await asyncio.wait_for(
            Client.connect(
                settings.temporal_address,
                namespace=settings.temporal_namespace,
                api_key=api_key,
                tls=tls,
                connect_timeout=timedelta(seconds=timeout),
            ),
            timeout,
        )
        return client.workflow_service

    return Temporal(connect, settings.temporal_namespace, _loop_in_background())


def _tls(settings: TemporalSettings) -> TLSConfig | bool:
    if not settings.temporal_tls or settings.temporal_tls_secret is None:
        return settings.temporal_tls
    try:
        pems = {key: value.encode() for key, value in json.loads(read_secret(settings.temporal_tls_secret)).items()}
        return TLSConfig(
            server_root_ca_cert=pems.pop("server_root_ca_cert", None),
            client_cert=pems.pop("client_cert", None),
            client_private_key=pems.pop("client_private_key", None),
            **pems,
        )
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            "TEMPORAL_TLS_SECRET must be a JSON object of server_root_ca_cert, client_cert, client_private_key"
        ) from None


def _loop_in_background() -> Run:
    """An event loop in a thread of its own: temporalio is asynchronous, and a connection belongs to one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="temporal", daemon=True).start()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return run


def _time_left(deadline: Deadline) -> float:
    timeout = deadline.timeout()
    if timeout is None:
        raise TemporalUnavailable("no time was left to ask Temporal")
    return timeout


def _is_absent(error: RPCError) -> bool:
    """Whether the schedule is absent; a missing namespace has the same code and another detail."""
    if error.status is not RPCStatusCode.NOT_FOUND:
        return False
    return not any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _classified(error: RPCError) -> SagaError:
    if error.status is RPCStatusCode.UNAUTHENTICATED:
        # The key may have been rotated: the next try reads it anew.
        temporal.cache_clear()
        return TemporalUnavailable("Temporal does not accept the credentials")
    if error.status in _REFUSALS:
        return ConfigurationError(f"Temporal refuses the request: {error.status.name}: {error.message}")
    return TemporalUnavailable(f"Temporal: {error.status.name}: {error.message}")


def _to_message(request: CreateRequest) -> Schedule:
    schedule = request.schedule
    action = NewWorkflowExecutionInfo(
        workflow_id=ids.workflow_id_prefix(request.schedule_id),
        workflow_type=WorkflowType(name=schedule.workflow_name),
        task_queue=TaskQueue(name=schedule.task_queue),
    )
    if schedule.workflow_params is not None:
        action.input.CopyFrom(Payloads(payloads=[PayloadConverter.default.to_payload(schedule.workflow_params)]))
    if schedule.execution_timeout_seconds is not None:
        action.workflow_execution_timeout.CopyFrom(Duration(seconds=schedule.execution_timeout_seconds))
    policies = SchedulePolicies()
    if schedule.overlap_policy:
        policies.overlap_policy = ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{schedule.overlap_policy}")
    return Schedule(
        spec=_to_spec(schedule),
        action=ScheduleAction(start_workflow=action),
        policies=policies,
        state=ScheduleState(paused=schedule.paused),
    )


def _to_spec(schedule: NewSchedule) -> ScheduleSpec:
    spec = ScheduleSpec(timezone_name=schedule.timezone or "")
    if schedule.cron_expression is not None:
        spec.cron_string.append(schedule.cron_expression)
    if schedule.interval_seconds is not None:
        spec.interval.append(IntervalSpec(interval=Duration(seconds=schedule.interval_seconds)))
    if schedule.start_at is not None:
        spec.start_time.FromDatetime(schedule.start_at)
    if schedule.end_at is not None:
        spec.end_time.FromDatetime(schedule.end_at)
    return spec


def _from_message(schedule_id: str, reply: DescribeScheduleResponse) -> Description:
    memo = _memo(schedule_id, reply)
    spec, action, info = reply.schedule.spec, reply.schedule.action.start_workflow, reply.info
    agent_id, name = ids.split_schedule_id(schedule_id)
    arguments = [PayloadConverter.default.from_payload(payload) for payload in action.input.payloads]
    # The server turns cron expressions into calendars, so they are answered as asked for.
    cron = memo.request.cron_expression if memo else None
    view = ScheduleView(
        schedule_id=schedule_id,
        name=name,
        agent_id=agent_id,
        state=models.ScheduleState.PAUSED if reply.schedule.state.paused else models.ScheduleState.ACTIVE,
        action=models.ActionView(
            workflow_name=action.workflow_type.name,
            workflow_id_prefix=action.workflow_id,
            task_queue=action.task_queue.name,
            workflow_params=arguments or None,
        ),
        spec=models.SpecView(
            cron_expressions=[cron] if cron else list(spec.cron_string),
            intervals_seconds=[interval.interval.seconds for interval in spec.interval],
            start_at=_time(spec.start_time) if spec.HasField("start_time") else None,
            end_at=_time(spec.end_time) if spec.HasField("end_time") else None,
        ),
        num_actions_taken=info.action_count,
        num_actions_missed=info.missed_catchup_window,
        next_action_times=[_time(time) for time in info.future_action_times],
        last_action_time=_time(info.recent_actions[-1].actual_time) if info.recent_actions else None,
        created_at=_time(info.create_time) if info.HasField("create_time") else None,
    )
    return Description(memo, view)


def _summary(entry: ScheduleListEntry) -> ScheduleSummary:
    agent_id, name = ids.split_schedule_id(entry.schedule_id)
    following = entry.info.future_action_times
    return ScheduleSummary(
        schedule_id=entry.schedule_id,
        name=name,
        agent_id=agent_id,
        state=models.ScheduleState.PAUSED if entry.info.paused else models.ScheduleState.ACTIVE,
        workflow_name=entry.info.workflow_type.name,
        next_action_time=_time(following[0]) if following else None,
    )


def _memo(schedule_id: str, reply: DescribeScheduleResponse) -> Memo | None:
    if MEMO_KEY not in reply.memo.fields:
        return None
    try:
        return Memo.model_validate(PayloadConverter.default.from_payload(reply.memo.fields[MEMO_KEY]))
    except ValueError:
        logger.warning("a schedule's memo is not ours to read", schedule_id=schedule_id)
        return None


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
