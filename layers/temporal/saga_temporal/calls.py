"""One call to Temporal: the connection, the deadline, and what each error means."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.workflowservice.v1 import (
    CreateScheduleResponse,
    DeleteScheduleResponse,
    DescribeScheduleResponse,
    ListSchedulesResponse,
    PatchScheduleResponse,
)
from temporalio.service import RPCError, RPCStatusCode

from saga_core.deadlines import Deadline
from saga_core.errors import ConfigurationError, SagaError, ScheduleNotFound, TemporalUnavailable

NO_NAMESPACE = "Temporal does not have the namespace"
# Codes that mean that Temporal refuses this application, not that it is in trouble; nothing was written.
REFUSALS = {
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNIMPLEMENTED,
}

Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)
Run = Callable[[Coroutine[Any, Any, Any]], Any]
# What a code means to one call alone: the error to raise, given Temporal's message.
OwnErrors = Mapping[RPCStatusCode, Callable[[str], SagaError]]


class Rpc(Protocol[Response_co]):
    def __call__(self, req: Any, *, timeout: timedelta) -> Awaitable[Response_co]: ...


class WorkflowService(Protocol):
    """The calls of Temporal's workflow service that a saga makes; temporalio's own service has them all."""

    @property
    def create_schedule(self) -> Rpc[CreateScheduleResponse]:
        """CreateSchedule."""

    @property
    def describe_schedule(self) -> Rpc[DescribeScheduleResponse]:
        """DescribeSchedule."""

    @property
    def delete_schedule(self) -> Rpc[DeleteScheduleResponse]:
        """DeleteSchedule."""

    @property
    def list_schedules(self) -> Rpc[ListSchedulesResponse]:
        """ListSchedules."""

    @property
    def patch_schedule(self) -> Rpc[PatchScheduleResponse]:
        """PatchSchedule."""


class Calls:
    """Makes calls, over a connection that it makes at the first one."""

    def __init__(self, connect: Callable[[float], Awaitable[WorkflowService]], run: Run) -> None:
        """Connect with ``connect``, given a timeout in seconds.

        ``run`` runs a coroutine to its end from any thread.
        """
        self._connect = connect
        self._run = run
        self._service: WorkflowService | None = None

    def call(
        self,
        rpc: Callable[[WorkflowService], Rpc[Response]],
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
        self, rpc: Callable[[WorkflowService], Rpc[Response]], message: Any, deadline: Deadline
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
        return ConfigurationError(NO_NAMESPACE)
    if error.status in REFUSALS:
        return ConfigurationError(f"Temporal refuses the request: {error.status.name}")
    return TemporalUnavailable(f"Temporal: {error.status.name}")


def _is_namespace(error: RPCError) -> bool:
    """Whether it is the namespace that is missing: the code is the same as for a schedule, the detail differs."""
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)
