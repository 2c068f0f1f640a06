"""Every error this application raises, flat, because Step Functions matches the bare class name.

    SagaError
    ├── InvalidRequest            422  the input does not fit the model; nothing was called
    ├── Unauthorized              401  the token's claims do not tell who calls; raised by the HTTP API alone
    ├── ScheduleRejected          400  Temporal refuses the schedule (bad cron, unknown namespace, ...)
    ├── AgentUpdateDenied         403  the principal may not update the agent
    ├── ScheduleNotFound          404  there is no such schedule, or none any more
    ├── ScheduleAlreadyExists     409  the name is taken
    ├── CreateInProgress          409  another create of the name is in flight, or was interrupted a short while ago
    ├── IdempotencyKeyReused      409  the key came with another request before
    ├── AuthorizationUnavailable  503  SpiceDB gave no usable answer; transient, retried first
    ├── TemporalUnavailable       503  Temporal gave no usable answer; transient, retried first
    ├── StepFunctionsUnavailable  503  Step Functions did not start the execution; raised by the HTTP API alone
    ├── ConfigurationError        500  an engine refuses this application itself: no schema, no permission, bad secret
    ├── CompensationFailed        500  both the create and its compensation failed
    └── OutcomeUnknown            504  whether the schedule was created could not be settled

The name of a class is part of the contract: the state machines list it in ``ErrorEquals`` and callers see it as the
execution's ``error``. CreateInProgress, IdempotencyKeyReused, ScheduleNotFound, CompensationFailed and OutcomeUnknown
are raised by the state machines, the others by the functions. Errors are told apart by the code an engine answers with,
never by the text of its message.
"""

from http import HTTPStatus
from typing import ClassVar


class SagaError(Exception):
    """Base of all errors that this application raises on purpose; never raised itself."""

    http_status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR


class InvalidRequest(SagaError):
    """The input does not fit the model. The message names each field; nothing was called."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY


class Unauthorized(SagaError):
    """The claims of a verified token name nobody, two identities at once, or a blank one."""

    http_status = HTTPStatus.UNAUTHORIZED


class ScheduleRejected(SagaError):
    """Temporal refuses the schedule for what it says: trying again cannot help."""

    http_status = HTTPStatus.BAD_REQUEST


class AgentUpdateDenied(SagaError):
    """The principal may not update the agent, so it may not give it schedules."""

    http_status = HTTPStatus.FORBIDDEN


class ScheduleAlreadyExists(SagaError):
    """Another operation holds the schedule's name."""

    http_status = HTTPStatus.CONFLICT


class ScheduleNotFound(SagaError):
    """There is no such schedule. As a create's error: it was deleted while it was being created."""

    http_status = HTTPStatus.NOT_FOUND


class CreateInProgress(SagaError):
    """Another create of this name is in flight, or was interrupted and its lease is not over yet."""

    http_status = HTTPStatus.CONFLICT


class IdempotencyKeyReused(SagaError):
    """The schedule was created with this idempotency key and another request."""

    http_status = HTTPStatus.CONFLICT


class AuthorizationUnavailable(SagaError):
    """SpiceDB did not answer, or not usably. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class TemporalUnavailable(SagaError):
    """Temporal did not answer, or not usably. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class StepFunctionsUnavailable(SagaError):
    """Step Functions did not start the execution that an HTTP request asked for. Nothing has happened."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class ConfigurationError(SagaError):
    """An engine, or Secrets Manager, refuses this application itself. A person has to mend the deployment."""


class CompensationFailed(SagaError):
    """A create failed and so did its compensation: relationships without a schedule may be left.

    The cause holds the original error and the compensation's.
    """


class OutcomeUnknown(SagaError):
    """Whether the schedule was created could not be settled; nothing was undone. Repeating the create settles it."""

    http_status = HTTPStatus.GATEWAY_TIMEOUT
