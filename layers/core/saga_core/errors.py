"""Every error that this application raises, flat, because Step Functions matches the bare class name.

    SagaError
    ├── InvalidRequest            422  the input does not fit the model; nothing was called
    ├── Unauthorized              401  the token's claims do not identify the caller; raised by the HTTP API alone
    ├── ScheduleRejected          400  Temporal refuses the schedule (bad cron, ...)
    ├── AgentUpdateDenied         403  the principal may not update the agent
    ├── PermissionDenied          403  the caller may read the schedule, but not do this; raised by the HTTP API alone
    ├── ScheduleNotFound          404  there is no such schedule, or it was deleted
    ├── ScheduleAlreadyExists     409  the name is taken
    ├── CreateInProgress          409  another operation holds the name: it is in flight, or was interrupted
    ├── NameReserved              409  Temporal does not free the name of a deleted schedule yet
    ├── IdempotencyKeyReused      409  the key was used with another request
    ├── TriggerUnconfirmed        409  the key's trigger was sent, and its outcome is not known
    ├── TooManyTriggers           429  Temporal accepts no more triggers of the schedule for now
    ├── AuthorizationUnavailable  503  SpiceDB gave no usable response; transient, retried first
    ├── TemporalUnavailable       503  Temporal gave no usable response; transient, retried first
    ├── StepFunctionsUnavailable  503  Step Functions did not start the execution; raised by the HTTP API alone
    ├── TriggerOutcomeUnknown     503  Temporal gave no usable response to a trigger, which may have run
    ├── ConfigurationError        500  the deployment is wrong: no schema, no namespace, a bad secret or setting
    ├── CompensationFailed        500  both the create and its compensation failed
    └── OutcomeUnknown            504  whether the operation took effect is not known

The name of a class is part of the contract: the state machines list it in ``ErrorEquals`` and callers see it as the
execution's ``error``. CreateInProgress and CompensationFailed are raised by the state machines alone; ScheduleNotFound,
IdempotencyKeyReused and OutcomeUnknown by the state machines and by the HTTP API; the errors of a trigger by the HTTP
API alone; the others by the functions. Errors are classified by the code that an engine returns,
never by the text of its message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar

from saga_core import limits


class SagaError(Exception):
    """Base of all errors that this application raises on purpose; never raised itself.

    Lambda and Step Functions log the message. So it names fields and ids, and never has a value that a caller sent.

    Attributes:
        http_status: of the response to an HTTP request that fails with it.
        settled: False where the error means that the outcome is not known.
        should_retry: whether a client may repeat the HTTP request by itself, although the status is 4xx.
        data: what a caller can decide by, besides the message; None for nothing.
    """

    http_status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    settled: ClassVar[bool] = True
    should_retry: ClassVar[bool] = False
    data: dict[str, Any] | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(limits.shortened(message))


class InvalidRequest(SagaError):
    """The input does not fit the model. The message names each field; nothing was called."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY


class Unauthorized(SagaError):
    """The claims of a verified token identify nobody, or have two identities or a blank one."""

    http_status = HTTPStatus.UNAUTHORIZED


class ScheduleRejected(SagaError):
    """Temporal refuses what the schedule says. A retry cannot help."""

    http_status = HTTPStatus.BAD_REQUEST


class AgentUpdateDenied(SagaError):
    """The principal may not update the agent, so it may not create schedules for it."""

    http_status = HTTPStatus.FORBIDDEN


class PermissionDenied(SagaError):
    """The caller may read the schedule, and does not have the permission that the operation needs."""

    http_status = HTTPStatus.FORBIDDEN


class ScheduleAlreadyExists(SagaError):
    """Another operation holds the schedule's name.

    Attributes:
        unowned: whether nobody owns the schedule of that name, although its memo names a creator.
    """

    http_status = HTTPStatus.CONFLICT

    def __init__(self, message: str, *, unowned: bool = False) -> None:
        super().__init__(message)
        self.unowned = unowned


class ScheduleNotFound(SagaError):
    """There is no such schedule. As the error of a create: it was deleted while it was being created."""

    http_status = HTTPStatus.NOT_FOUND


class CreateInProgress(SagaError):
    """Another operation holds the name: it is in flight, or was interrupted, or what it left is being removed."""

    http_status = HTTPStatus.CONFLICT


class NameReserved(SagaError):
    """Temporal has no schedule of this name, and refuses a new one: it frees the name minutes after a delete.

    It does so where its scheduler was switched. Nothing is left behind; try again.
    """

    http_status = HTTPStatus.CONFLICT
    should_retry = True


class IdempotencyKeyReused(SagaError):
    """The idempotency key was used with another create, or with a trigger of an earlier schedule of the name."""

    http_status = HTTPStatus.CONFLICT


class TriggerUnconfirmed(SagaError):
    """A trigger with this idempotency key was sent before, and whether it took effect is not known. None was sent now.

    ``data`` has ``last_action_time``: when the schedule started its last run; None before the first.
    """

    http_status = HTTPStatus.CONFLICT

    def __init__(self, message: str = "", last_action_time: datetime | None = None) -> None:
        super().__init__(message)
        self.data = {"last_action_time": last_action_time}


class TooManyTriggers(SagaError):
    """Temporal accepts no more triggers of the schedule for now. This one did not take effect."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    should_retry = True


class AuthorizationUnavailable(SagaError):
    """SpiceDB gave no usable response. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class TemporalUnavailable(SagaError):
    """Temporal gave no usable response. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class StepFunctionsUnavailable(SagaError):
    """Step Functions did not start the execution of an HTTP request. Nothing was written."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class TriggerOutcomeUnknown(SagaError):
    """Temporal gave no usable response to a trigger. Whether it took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    settled = False


class ConfigurationError(SagaError):
    """An engine or Secrets Manager refuses this application itself, or a setting or a secret cannot be used.

    A person must correct the deployment. The message names the setting and never has its value.
    """


class CompensationFailed(SagaError):
    """A create failed, and its compensation failed too: relationships without a schedule may be left.

    The cause holds the original error and the error of the compensation.
    """


class OutcomeUnknown(SagaError):
    """Whether the operation took effect is not known, and nothing was undone. Repeating it settles the outcome."""

    http_status = HTTPStatus.GATEWAY_TIMEOUT
    settled = False


@contextmanager
def unknown_after(attempt: int, unavailable: type[SagaError]) -> Iterator[None]:
    """The block is one attempt: 0, 1, 2, …. Its ConfigurationError means that this attempt wrote nothing.

    Raises:
        unavailable: instead of a ConfigurationError after the first attempt: an earlier one may have written.
    """
    try:
        yield
    except ConfigurationError as error:
        if attempt:
            raise unavailable(f"{error}; whether an earlier attempt took effect is not known") from None
        raise
