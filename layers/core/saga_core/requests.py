"""What callers send: JSON in, strict models out.

    CreateRequest   what starts a create machine: {agent_id, schedule: NewSchedule, principal?, idempotency_key?}
    DeleteRequest   what starts a delete machine: {agent_id, schedule_name}

Unknown fields are refused. Optional fields may be absent or null. Types are strict (the text "60" is not a number);
times are ISO 8601 text, and a time without an offset is UTC.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from saga_core import ids, limits
from saga_core.errors import InvalidRequest
from saga_core.ids import Subject

# Files beside the zones of the database, which are not zones themselves.
_NO_ZONES = ("localtime", "posixrules", "Factory")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# Under these keys a step, or an HTTP request, holds the caller's own input.
_WRAPPERS = ("request", "create", "delete", "body", "path", "query", "header")
# The fields that Temporal refuses by rules of its own.
_CHECKED_BY_TEMPORAL = {"cron_expression", "timezone", "task_queue", "start_at", "end_at"}


class Model(BaseModel):
    """Base of all models, here and in `saga_core.steps` and `saga_core.views`: strict, frozen, no unknown fields."""

    # What checks a model is made at its first use: no function uses them all.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read ``data`` (decoded JSON) as this model.

        Raises:
            InvalidRequest: ``data`` does not fit. The message names every wrong field and repeats no value.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidRequest(describe_errors(error.errors(include_url=False, include_input=False))) from None

    def to_json(self) -> Mapping[str, Any]:
        """The model as decoded JSON, ready to be returned by a function."""
        decoded: Mapping[str, Any] = self.model_dump(mode="json")
        return decoded


def describe_errors(errors: Iterable[Mapping[str, Any]]) -> str:
    """``field: what is wrong`` for each of pydantic's errors, without the values: they may be private.

    At most `limits.MESSAGE` characters.
    """
    problems = []
    for problem in errors:
        whole = "body" if problem["loc"][:1] == ("body",) else "input"
        names = [part for part in problem["loc"] if isinstance(part, str) and part not in _WRAPPERS]
        path = ".".join(limits.named(name) for name in names) or whole
        # Pydantic's own message names the model.
        is_model = problem["type"] in ("model_type", "model_attributes_type")
        said = "must be a JSON object" if is_model else problem["msg"].removeprefix("Value error, ")
        problems.append(f"{path}: {said}")
    return limits.shortened("; ".join(problems))


def _iso_text(value: object) -> object:
    # pydantic reads text that does not begin with a date as seconds since the epoch.
    if value is None or isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a time in ISO 8601, as text")


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie in the years 1 to 9999 of UTC") from None


def _false_if_null(value: object) -> object:
    return False if value is None else value


def _known_zone(value: str) -> str:
    try:
        known = value not in _NO_ZONES and not value.startswith(("posix/", "right/")) and ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = False
    if not known:
        raise ValueError("is not a time zone of the IANA database")
    return value


def _subject(value: str) -> str:
    ids.encode_subject_id(value)
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _short(value: str) -> str:
    limits.TEXT.check(limits.size(value))
    return value


def _params(value: dict[str, Any]) -> dict[str, Any]:
    limits.DEPTH.check(limits.depth(value))
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except ValueError:
        raise ValueError("holds what JSON cannot say: a number without end, or half of a surrogate pair") from None
    limits.PARAMS.check(size)
    return value


# `json_schema_extra` repeats what a validator checks, because the API's specification cannot show a validator.
AgentId = Annotated[
    str,
    Field(
        min_length=limits.NAME.least,
        max_length=limits.NAME.most,
        json_schema_extra={"pattern": f"^{ids.AGENT_ID_PATTERN}$"},
    ),
    AfterValidator(ids.check_agent_id),
]
ScheduleName = Annotated[
    str,
    Field(
        min_length=limits.NAME.least,
        max_length=limits.NAME.most,
        json_schema_extra={"pattern": f"^{ids.SCHEDULE_NAME_PATTERN}$"},
    ),
    AfterValidator(ids.check_schedule_name),
]
Text = Annotated[
    str,
    Field(min_length=limits.TEXT.least, json_schema_extra={"pattern": r"\S", "maxLength": limits.TEXT.most}),
    AfterValidator(_not_blank),
    AfterValidator(_short),
]
SubjectId = Annotated[
    str,
    Field(min_length=limits.IDENTITY.least, max_length=limits.IDENTITY.most),
    AfterValidator(_not_blank),
    AfterValidator(_subject),
]
Seconds = Annotated[int, Field(ge=limits.SECONDS.least, le=limits.SECONDS.most)]
CatchupWindow = Annotated[int, Field(ge=limits.CATCHUP.least, le=limits.CATCHUP.most)]
Time = Annotated[datetime, Field(strict=False), BeforeValidator(_iso_text), AfterValidator(_utc)]
IdempotencyKey = Annotated[
    str, Field(min_length=limits.KEY.least, max_length=limits.KEY.most, pattern=r"^[\x21-\x7e]+$")
]


class OverlapPolicy(StrEnum):
    """What Temporal does when a run is due while the previous one is still running."""

    SKIP = "SKIP"
    BUFFER_ONE = "BUFFER_ONE"
    BUFFER_ALL = "BUFFER_ALL"
    CANCEL_OTHER = "CANCEL_OTHER"
    TERMINATE_OTHER = "TERMINATE_OTHER"
    ALLOW_ALL = "ALLOW_ALL"


class Principal(Model):
    """Who asks: a user or a service account, never both. With neither, no creator can be resolved.

    Attributes:
        user_id: as the identity provider knows it, for example an e-mail address.
        service_account_id: as the identity provider knows it.
        account_id: the account in which the caller acts; kept for audit, and no decision depends on it.
    """

    user_id: SubjectId | None = None
    service_account_id: SubjectId | None = None
    account_id: Text | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.user_id is not None and self.service_account_id is not None:
            raise ValueError("has both user_id and service_account_id; give one")
        return self

    @property
    def creator(self) -> Subject | None:
        """The principal as a subject in SpiceDB, or None where neither id is given."""
        if self.user_id is not None:
            return Subject("user", ids.encode_subject_id(self.user_id))
        if self.service_account_id is not None:
            return Subject("service_account", ids.encode_subject_id(self.service_account_id))
        return None


class NewSchedule(Model):
    """A schedule as a caller asks for it.

    Attributes:
        name: unique within the agent; lower-case letters, digits and hyphens, at most 64.
        workflow_name: type of the workflow to start.
        task_queue: where its workers listen.
        workflow_params: its one argument; null for none.
        cron_expression: in Temporal's dialect; Temporal checks it.
        interval_seconds: the period, counted from the epoch. With a cron expression too: the union of both.
        execution_timeout_seconds: the most that one run may take, retries included; null for no limit.
        start_at: no run before it.
        end_at: no run after it; later than ``start_at``.
        paused: whether the schedule begins paused.
        timezone: IANA name in which the cron expression is read; UTC if null.
        overlap_policy: Temporal's default, SKIP, if null.
        catchup_window_seconds: how late a run may still start after an outage; Temporal's default, a year, if null.
        jitter_seconds: each run is delayed by a random time up to this; null for none.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("cron_expression", "interval_seconds")
            ]
        }
    )

    name: ScheduleName
    workflow_name: Text
    task_queue: Text
    workflow_params: Annotated[dict[str, Any], AfterValidator(_params)] | None = None
    cron_expression: Text | None = None
    interval_seconds: Seconds | None = None
    execution_timeout_seconds: Seconds | None = None
    start_at: Time | None = None
    end_at: Time | None = None
    paused: Annotated[bool, BeforeValidator(_false_if_null, json_schema_input_type=bool | None)] = False
    timezone: Annotated[str, AfterValidator(_known_zone)] | None = None
    overlap_policy: Annotated[OverlapPolicy, Field(strict=False)] | None = None
    catchup_window_seconds: CatchupWindow | None = None
    jitter_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cron_expression is None and self.interval_seconds is None:
            raise ValueError("needs cron_expression or interval_seconds, or both")
        if self.start_at is not None and self.end_at is not None and self.end_at <= self.start_at:
            raise ValueError("end_at must be later than start_at")
        return self

    def is_over(self, now: datetime) -> bool:
        """Whether the schedule can never run, because its end has passed.

        Not a rule of the model: a repeated create, after the end, returns the schedule that the first one created.
        """
        return self.end_at is not None and self.end_at <= now

    def checked_by_temporal(self) -> Mapping[str, Any]:
        """The fields that are given and that Temporal may refuse, with their values as JSON."""
        given: Mapping[str, Any] = self.model_dump(mode="json", include=_CHECKED_BY_TEMPORAL, exclude_none=True)
        return given


class CreateRequest(Model):
    """Input of a create machine.

    Attributes:
        agent_id: the agent that owns the schedule; letters, digits and single hyphens, at most 64.
        schedule: the schedule to create.
        principal: who asks; null when a service acts for itself.
        idempotency_key: 1 to 128 printable ASCII characters without spaces.
    """

    agent_id: AgentId
    schedule: NewSchedule
    principal: Principal | None = None
    idempotency_key: IdempotencyKey | None = None

    @property
    def schedule_id(self) -> str:
        """The schedule's id in both systems."""
        return ids.schedule_id(self.agent_id, self.schedule.name)

    @property
    def creator(self) -> Subject | None:
        """The creator as a subject in SpiceDB, or None where no creator can be resolved."""
        return self.principal.creator if self.principal else None


class DeleteRequest(Model):
    """Input of a delete machine."""

    agent_id: AgentId
    schedule_name: ScheduleName

    @property
    def schedule_id(self) -> str:
        """The schedule's id in both systems."""
        return ids.schedule_id(self.agent_id, self.schedule_name)
