"""One call to Temporal: the connection, the deadline, and what each error means."""

from collections.abc import Callable, Coroutine, Mapping
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

from saga_core.connections import Connection
from saga_core.deadlines import Deadline
from saga_core.errors import ConfigurationError, SagaError, ScheduleNotFound, TemporalUnavailable

_NO_NAMESPACE = "Temporal does not have the namespace that TEMPORAL_NAMESPACE names"
# Codes that mean that Temporal refuses this application, not that it is in trouble; nothing was written.
REFUSALS = {
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNIMPLEMENTED,
}
# Of Temporal Cloud, and of a server that a person runs.
_KEY_REFUSALS = {RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED}
# After these the connection may be lost; or the server is in trouble, and another connection does no harm.
_LOST = {
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.UNKNOWN,
}

Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)
Run = Callable[[Coroutine[Any, Any, Any]], Any]
# What a code means to one call alone: the error to raise, given Temporal's message.
OwnErrors = Mapping[RPCStatusCode, Callable[[str], SagaError]]


class Rpc(Protocol[Response_co]):
    def __call__(self, req: Any, *, timeout: timedelta) -> Coroutine[Any, Any, Response_co]: ...


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
    """Makes calls over a connection."""

    def __init__(self, connection: Connection[WorkflowService], run: Run) -> None:
        """Make calls with the client of ``connection``. ``run`` runs a coroutine to its end from any thread."""
        self._connection = connection
        self._run = run

    def call(
        self,
        rpc: Callable[[WorkflowService], Rpc[Response]],
        message: Any,
        deadline: Deadline,
        own: OwnErrors = MappingProxyType({}),
    ) -> Response:
        """Make one call. Every error of Temporal is classified here, first by the call's own errors."""
        with self._connection.client(_time_left(deadline)) as service:
            # Connecting may have taken its time.
            timeout = timedelta(seconds=_time_left(deadline))
            try:
                response: Response = self._run(rpc(service)(message, timeout=timeout))
            except RPCError as error:
                if error.status in _KEY_REFUSALS or error.status in _LOST:
                    self._connection.failed(service, credentials_refused=error.status in _KEY_REFUSALS)
                if error.status in own:
                    raise own[error.status](error.message) from None
                raise _classified(error) from None
            return response


def _time_left(deadline: Deadline) -> float:
    timeout = deadline.timeout()
    if timeout is None:
        raise TemporalUnavailable("no time was left to ask Temporal")
    return timeout


def _classified(error: RPCError) -> SagaError:
    if error.status is RPCStatusCode.NOT_FOUND and not _is_namespace(error):
        return ScheduleNotFound("schedule not found")
    if error.status is RPCStatusCode.UNAUTHENTICATED:
        return TemporalUnavailable("Temporal does not accept the credentials (TEMPORAL_API_KEY_SECRET)")
    # Temporal's own message may repeat what a caller sent.
    if error.status is RPCStatusCode.NOT_FOUND:
        return ConfigurationError(_NO_NAMESPACE)
    if error.status is RPCStatusCode.PERMISSION_DENIED:
        return ConfigurationError(
            "Temporal refuses the credentials (TEMPORAL_API_KEY_SECRET or TEMPORAL_TLS_SECRET) "
            "or the namespace (TEMPORAL_NAMESPACE): PERMISSION_DENIED"
        )
    if error.status is RPCStatusCode.UNIMPLEMENTED:
        return ConfigurationError(f"what responds at TEMPORAL_ADDRESS does not know the call: {error.status.name}")
    if error.status in REFUSALS:
        return ConfigurationError(
            f"Temporal refuses the request (TEMPORAL_ADDRESS or TEMPORAL_NAMESPACE): {error.status.name}"
        )
    return TemporalUnavailable(f"Temporal: {error.status.name}")


def _is_namespace(error: RPCError) -> bool:
    """Whether it is the namespace that is missing: the code is the same as for a schedule, the detail differs."""
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)
