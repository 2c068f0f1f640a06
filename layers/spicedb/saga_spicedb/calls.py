"""One call to SpiceDB: the client, the deadline, and what each error means."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import grpc
from authzed.api.v1 import (
    CheckBulkPermissionsPair,
    CheckPermissionResponse,
    ErrorReason,
    ReadRelationshipsRequest,
    ReadRelationshipsResponse,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from saga_core.connections import Connection
from saga_core.deadlines import Deadline
from saga_core.errors import AuthorizationUnavailable, ConfigurationError, SagaError

# Codes that mean that SpiceDB refuses this application, not that it is in trouble; nothing was written.
_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,  # other than a precondition of ours
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}
# By number, as in the error of one item of a bulk check.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Without a token, and with a wrong token.
_TOKEN_REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
# After these the connection may be lost; or the server is in trouble, and another connection does no harm.
_LOST = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
_NO_TIME = "no time was left to ask SpiceDB"
# A definition, relation, permission or type of subject that the application needs is not there.
_NO_SCHEMA = {
    ErrorReason.Name(ErrorReason.ERROR_REASON_INVALID_SUBJECT_TYPE),
    ErrorReason.Name(ErrorReason.ERROR_REASON_UNKNOWN_DEFINITION),
    ErrorReason.Name(ErrorReason.ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION),
}
_PRECONDITION_FAILED = ErrorReason.Name(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE)
_TOO_MANY = ErrorReason.Name(ErrorReason.ERROR_REASON_TOO_MANY_RELATIONSHIPS_FOR_TRANSACTIONAL_DELETE)

# The part of authzed's client that is used.
Client = PermissionsServiceStub
Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)


class Rpc(Protocol[Response_co]):
    def __call__(self, request: Any, *, timeout: float) -> Response_co: ...


class PreconditionFailedError(Exception):
    """A precondition of ours did not hold; nothing was written."""


class TooManyError(Exception):
    """A delete matches more relationships than it may; nothing was deleted."""


class Calls:
    """Makes calls over a connection."""

    def __init__(self, connection: Connection[Client]) -> None:
        """Make calls with the client of ``connection``."""
        self._connection = connection

    def call(self, rpc: Callable[[Client], Rpc[Response]], request: Any, deadline: Deadline) -> Response:
        """Make one call. Every error of SpiceDB is classified here.

        Raises:
            PreconditionFailedError, TooManyError: nothing was written.
            AuthorizationUnavailable: SpiceDB gave no usable response. Whether a write took effect is unknown.
            ConfigurationError: SpiceDB refuses this application itself. Nothing was written.
        """
        timeout = deadline.timeout()
        if timeout is None:
            raise AuthorizationUnavailable(_NO_TIME)
        with self._connection.client(timeout) as client:
            # Connecting may have taken its time.
            timeout = deadline.timeout()
            if timeout is None:
                raise AuthorizationUnavailable(_NO_TIME)
            try:
                return rpc(client)(request, timeout=timeout)
            except grpc.RpcError as error:
                code = error.code()
                if code in _TOKEN_REFUSALS or code in _LOST:
                    self._connection.failed(client, credentials_refused=code in _TOKEN_REFUSALS)
                raise _classified(error) from None

    def read(self, request: ReadRelationshipsRequest, deadline: Deadline) -> list[ReadRelationshipsResponse]:
        """Read relationships, to the end of the stream. The errors are those of `call`."""

        def whole(client: Client) -> Rpc[list[ReadRelationshipsResponse]]:
            return lambda request, *, timeout: list(client.ReadRelationships(request, timeout=timeout))

        return self.call(whole, request, deadline)

    def done(self, rpc: Callable[[Client], Rpc[Any]], request: Any, deadline: Deadline) -> bool:
        """Make a write. Returns whether its preconditions held. Other errors are those of `call`."""
        try:
            self.call(rpc, request, deadline)
        except PreconditionFailedError:
            return False
        return True


def held(pair: CheckBulkPermissionsPair) -> bool:
    """Whether the subject of one item of a bulk check has the permission, or the relation.

    Raises:
        AuthorizationUnavailable, ConfigurationError: SpiceDB refuses this item; as `Calls.call`.
    """
    if pair.HasField("error"):
        raise _error_of(_STATUS_CODES.get(pair.error.code, grpc.StatusCode.UNKNOWN))
    return pair.item.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION


def _classified(error: Any) -> SagaError | PreconditionFailedError | TooManyError:
    reason = _reason(error)
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION and reason == _PRECONDITION_FAILED:
        return PreconditionFailedError()
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT and reason == _TOO_MANY:
        return TooManyError()
    return _error_of(error.code(), reason)


def _error_of(code: grpc.StatusCode, reason: str | None = None) -> SagaError:
    """What a code means: that of a call, or of one item of a bulk check.

    SpiceDB's own message may repeat what a caller sent. Its reason is one of a list, such as an unknown definition.
    """
    said = f"{code.name} ({reason})" if reason in ErrorReason.keys() else code.name  # noqa: SIM118 - it is no dict
    if code in _TOKEN_REFUSALS:
        return AuthorizationUnavailable(f"SpiceDB does not accept the token (SPICEDB_TOKEN_SECRET): {code.name}")
    if reason in _NO_SCHEMA:
        return ConfigurationError(f"the SpiceDB of SPICEDB_ENDPOINT lacks a part of schema/schedules.zed: {said}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ConfigurationError(f"what responds at SPICEDB_ENDPOINT does not know the call: {said}")
    if code in _REFUSALS:
        # Ids and requests are checked before: a schema that has a relation for other subjects is refused so.
        return ConfigurationError(
            f"SpiceDB refuses the request, as if that of SPICEDB_ENDPOINT had another schema/schedules.zed: {said}"
        )
    return AuthorizationUnavailable(f"SpiceDB: {said}")


def _reason(error: Any) -> str | None:
    """The reason in the error's google.rpc.ErrorInfo, which distinguishes SpiceDB's failed preconditions."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return None
