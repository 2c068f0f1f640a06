"""Every error this application raises, flat, because Step Functions matches the bare class name.

    SagaError
    ├── InvalidRequest            422  the input does not fit the model; nothing was called
    ├── ScheduleRejected          400  Temporal refuses the schedule (bad cron, unknown namespace, ...)
    ├── AgentUpdateDenied         403  the principal may not update the agent
    ├── ScheduleAlreadyExists     409  the name is taken
    ├── AuthorizationUnavailable  503  SpiceDB gave no usable answer; transient, retried first
    ├── TemporalUnavailable       503  Temporal gave no usable answer; transient, retried first
    ├── ConfigurationError        500  an engine refuses this application itself: no schema, no permission, bad secret
    └── CompensationFailed        500  both the create and its compensation failed; raised by the state machine alone

The name of a class is part of the contract: the state machines list it in ``ErrorEquals`` and callers see it as the
execution's ``error``. Errors are told apart by the code an engine answers with, never by the text of its message.
"""

from http import HTTPStatus
from typing import ClassVar


class SagaError(Exception):
    """Base of all errors that this application raises on purpose; never raised itself."""

    http_status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR


class InvalidRequest(SagaError):
    """The input does not fit the model. The message names each field; nothing was called."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY


class ScheduleRejected(SagaError):
    """Temporal refuses the schedule for what it says: trying again cannot help."""

    http_status = HTTPStatus.BAD_REQUEST


class AgentUpdateDenied(SagaError):
    """The principal may not update the agent, so it may not give it schedules."""

    http_status = HTTPStatus.FORBIDDEN


class ScheduleAlreadyExists(SagaError):
    """Another operation holds the schedule's name."""

    http_status = HTTPStatus.CONFLICT


class AuthorizationUnavailable(SagaError):
    """SpiceDB did not answer, or not usably. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class TemporalUnavailable(SagaError):
    """Temporal did not answer, or not usably. Whether a write took effect is unknown."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class ConfigurationError(SagaError):
    """An engine, or Secrets Manager, refuses this application itself. A person has to mend the deployment."""


class CompensationFailed(SagaError):
    """A create failed and so did its compensation: relationships without a schedule may be left.

    No function raises it. It is the error of an execution that ends in the state of the same name; the cause holds
    the original error and the compensation's.
    """
