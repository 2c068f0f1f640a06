"""The shapes of every request, step and answer. JSON in, JSON out; unknown fields are refused.

    CreateRequest   what starts a create machine: {agent_id, schedule: NewSchedule, principal?, idempotency_key?}
    DeleteRequest   what starts a delete machine: {agent_id, schedule_name}
    …Step           what a function gets: {execution_id, request: CreateRequest or DeleteRequest, ...}
    Holder          who holds a schedule's name in SpiceDB
    ScheduleView    a schedule as callers see it; ScheduleSummary in lists; SchedulePage a list of them
    Note, Deleted, Problem  the other bodies of the HTTP API
    Memo            what a schedule's memo in Temporal says of the operation that made it

Optional fields may be absent or null. Types are strict (the text "60" is no number); times are ISO 8601 text, and a
time without an offset is UTC.
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

from saga_core import ids
from saga_core.errors import InvalidRequest

# The state of an execution may hold 262,144 bytes, and the parameters stand in it up to three times: in the input, and
# in the schedule as it is read back.
MAX_WORKFLOW_PARAMS_BYTES = 65_536
# A hundred years: what Temporal and every client can hold without overflow, and longer than any schedule lives.
MAX_SECONDS = 3_155_760_000
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


# Under these keys a step, or an HTTP request, holds the caller's own input.
_WRAPPERS = ("request", "create", "delete", "body", "path", "query", "header")


class Model(BaseModel):
    """Base of all models: strict, frozen, without unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, data: object) -> Self:
        """``data`` (decoded JSON) as this model.

        Raises:
            InvalidRequest: ``data`` does not fit. The message names every field that is wrong and repeats no value.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidRequest(describe_errors(error.errors(include_url=False, include_input=False))) from None


def describe_errors(errors: Iterable[Mapping[str, Any]]) -> str:
    """``field: what is wrong`` for each of pydantic's errors, without the values, which may be private."""
    problems = []
    for problem in errors:
        path = ".".join(part for part in problem["loc"] if isinstance(part, str) and part not in _WRAPPERS) or "input"
        problems.append(f"{path}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def _iso_text(value: object) -> object:
    # Without its date first, pydantic would take text for seconds since the epoch.
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
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a time zone of the IANA database") from None
    return value


def _subject(value: str) -> str:
    ids.encode_subject_id(value)
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _small_params(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except ValueError:
        raise ValueError("holds what JSON cannot say: a number without end, or half of a surrogate pair") from None
    if size > MAX_WORKFLOW_PARAMS_BYTES:
        raise ValueError(f"is {size:,} bytes of JSON; at most {MAX_WORKFLOW_PARAMS_BYTES:,} are allowed")
    return value


# What a validator checks, said again for the API's specification, which cannot show a validator.
AgentId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=ids.MAX_NAME_LENGTH,
        json_schema_extra={"pattern": "^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"},
    ),
    AfterValidator(ids.check_agent_id),
]
ScheduleName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=ids.MAX_NAME_LENGTH,
        json_schema_extra={"pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"},
    ),
    AfterValidator(ids.check_schedule_name),
]
Text = Annotated[
    str, Field(min_length=1, max_length=1000, json_schema_extra={"pattern": r"\S"}), AfterValidator(_not_blank)
]
SubjectId = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_not_blank), AfterValidator(_subject)]
Seconds = Annotated[int, Field(gt=0, le=MAX_SECONDS)]
Time = Annotated[datetime, Field(strict=False), BeforeValidator(_iso_text), AfterValidator(_utc)]
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class OverlapPolicy(StrEnum):
    """What Temporal does when a run is due and the one before it still runs."""

    SKIP = "SKIP"
    BUFFER_ONE = "BUFFER_ONE"
    BUFFER_ALL = "BUFFER_ALL"
    CANCEL_OTHER = "CANCEL_OTHER"
    TERMINATE_OTHER = "TERMINATE_OTHER"
    ALLOW_ALL = "ALLOW_ALL"


class Principal(Model):
    """Who asks: a user or a service account, never both. Neither means that no creator can be resolved.

    Attributes:
        user_id: as the identity provider knows it, e.g. an e-mail address.
        service_account_id: likewise.
        account_id: the account the caller acts in; kept for audit, decides nothing.
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
    def creator(self) -> tuple[str, str] | None:
        """SpiceDB's (object type, object id) of the one who asks, or None where neither id is given."""
        if self.user_id is not None:
            return "user", ids.encode_subject_id(self.user_id)
        if self.service_account_id is not None:
            return "service_account", ids.encode_subject_id(self.service_account_id)
        return None


class NewSchedule(Model):
    """A schedule as asked for.

    Attributes:
        name: unique within the agent; lower-case letters, digits and hyphens, at most 64.
        workflow_name: type of the workflow to start.
        task_queue: where its workers listen.
        workflow_params: its one argument, at most 64 KiB of JSON; null for none.
        cron_expression: in Temporal's dialect; checked by Temporal.
        interval_seconds: every so many seconds since the epoch. With a cron expression too: the union of both.
        execution_timeout_seconds: how long one run may take, retries included; null for no limit.
        start_at: no run before it.
        end_at: no run after it; later than ``start_at``.
        paused: whether the schedule begins paused.
        timezone: IANA name in which the cron expression is read; UTC if null.
        overlap_policy: Temporal's default, SKIP, if null.
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
    workflow_params: Annotated[dict[str, Any], AfterValidator(_small_params)] | None = None
    cron_expression: Text | None = None
    interval_seconds: Seconds | None = None
    execution_timeout_seconds: Seconds | None = None
    start_at: Time | None = None
    end_at: Time | None = None
    paused: Annotated[bool, BeforeValidator(_false_if_null, json_schema_input_type=bool | None)] = False
    timezone: Annotated[str, AfterValidator(_known_zone)] | None = None
    overlap_policy: Annotated[OverlapPolicy, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cron_expression is None and self.interval_seconds is None:
            raise ValueError("needs cron_expression or interval_seconds, or both")
        if self.start_at is not None and self.end_at is not None and self.end_at <= self.start_at:
            raise ValueError("end_at must be later than start_at")
        return self


class CreateRequest(Model):
    """Input of a create machine.

    Attributes:
        agent_id: whose schedule it is; letters, digits and single hyphens, at most 64.
        schedule: the schedule as asked for.
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
    def creator(self) -> tuple[str, str] | None:
        """SpiceDB's (object type, object id) of the creator, or None where none can be resolved."""
        return self.principal.creator if self.principal else None


class DeleteRequest(Model):
    """Input of a delete machine."""

    agent_id: AgentId
    schedule_name: ScheduleName

    @property
    def schedule_id(self) -> str:
        """The schedule's id in both systems."""
        return ids.schedule_id(self.agent_id, self.schedule_name)


class _Step(Model):
    """What a state machine hands to a function; fields that only other states need are ignored.

    Attributes:
        execution_id: ARN of the execution.
    """

    model_config = ConfigDict(extra="ignore")

    execution_id: Text


class CreateStep(_Step):
    """Event of a function of the create machine."""

    request: CreateRequest

    @property
    def registration(self) -> str:
        """The fence and Temporal request id of this create."""
        return ids.registration(self.execution_id)


class Holder(Model):
    """Who holds a schedule's name in SpiceDB.

    Attributes:
        registration: fence of the operation that registered it; null where the relationships carry no fence.
        lease_seconds: how long that operation's lease still lasts; 0 when it is over or there is none.
    """

    registration: str | None
    lease_seconds: int

    @property
    def in_flight(self) -> bool:
        """Whether the operation has to be taken for running."""
        return self.lease_seconds > 0


class RegisterStep(CreateStep):
    """Event of register.

    Attributes:
        repeat: whether this execution has registered before and only makes sure that its registration stands.
    """

    repeat: bool = False


class TemporalCreateStep(CreateStep):
    """Event of temporal_create.

    Attributes:
        registered: whether this execution's registration stands, so that the name is its own.
        attempt: 0 for the first invocation, then counting up.
    """

    registered: bool
    attempt: int


class CompensateStep(CreateStep):
    """Event of compensate.

    Attributes:
        stale: whose relationships to clear away in place of this execution's own: those of an interrupted create.
    """

    stale: Holder | None = None


class Match(StrEnum):
    """What a schedule in Temporal is to an operation that asks for its name."""

    ABSENT = "absent"
    OURS = "ours"  # this very operation made it
    REPLAY = "replay"  # an earlier operation with the same idempotency key made it, of the same request
    REUSED = "reused"  # an earlier operation with the same idempotency key made it, of another request
    STRAY = "stray"  # not the operation that made it has registered the name, so the relationships are not its own
    OTHER = "other"


class DescribeStep(_Step):
    """Event of temporal_describe, in either machine: exactly one of ``create`` and ``delete``.

    Attributes:
        holder: who holds the name in SpiceDB, where a create found it held.
    """

    create: CreateRequest | None = None
    delete: DeleteRequest | None = None
    holder: Holder | None = None

    @property
    def request(self) -> CreateRequest | DeleteRequest:
        """The request, whichever it is."""
        request = self.create or self.delete
        if request is None:
            raise InvalidRequest("input: is neither a create nor a delete request")
        return request

    def match(self, memo: "Memo | None") -> Match:
        """What a schedule with this memo is to the operation that asks; None: this application did not make it."""
        if self.create is None:
            return Match.OTHER
        made_by = memo.registration if memo else None
        if made_by == ids.registration(self.execution_id):
            return Match.OURS
        if self.holder and self.holder.registration and self.holder.registration != made_by:
            return Match.STRAY
        if memo is None:
            return Match.OTHER
        key = self.create.idempotency_key
        if key is None or key != memo.idempotency_key:
            return Match.OTHER
        same = (memo.request, memo.creator) == (self.create.schedule, subject_text(self.create.creator))
        return Match.REPLAY if same else Match.REUSED


class DeleteStep(_Step):
    """Event of temporal_delete."""

    request: DeleteRequest


class DeregisterStep(DeleteStep):
    """Event of deregister.

    Attributes:
        registration: what the deleted schedule's memo named as the operation that made it; null where Temporal had no
            such schedule, or one that this application did not make.
    """

    registration: str | None


class Memo(Model):
    """What a schedule's memo says of the operation that made it.

    Attributes:
        registration: that operation's fence.
        creator: ``{type}:{id}`` as in SpiceDB, or null where registration was skipped.
        agent_id: whose schedule it is.
        request: the schedule as asked for; Temporal does not give a cron expression back.
        idempotency_key: the one the create came with, if any.
    """

    model_config = ConfigDict(extra="ignore")

    registration: str
    creator: str | None = None
    agent_id: str
    request: NewSchedule
    idempotency_key: str | None = None

    @classmethod
    def of(cls, step: CreateStep) -> Self:
        """The memo that the operation ``step`` belongs to leaves."""
        request = step.request
        return cls(
            registration=step.registration,
            creator=subject_text(request.creator),
            agent_id=request.agent_id,
            request=request.schedule,
            idempotency_key=request.idempotency_key,
        )


class ScheduleState(StrEnum):
    """Whether a schedule starts workflows at present."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"


class ActionView(Model):
    """What a schedule starts. ``workflow_params`` is the list of arguments, or null for none."""

    workflow_name: str
    workflow_id_prefix: str
    task_queue: str
    workflow_params: list[Any] | None


class SpecView(Model):
    """When a schedule starts it. Times are null where unbounded."""

    cron_expressions: list[str]
    intervals_seconds: list[int]
    start_at: datetime | None
    end_at: datetime | None


class ScheduleView(Model):
    """A schedule as callers see it; dumped to JSON, times are ISO 8601 in UTC."""

    schedule_id: str
    name: str
    agent_id: str
    state: ScheduleState
    action: ActionView
    spec: SpecView
    num_actions_taken: int
    num_actions_missed: int
    next_action_times: list[datetime]
    last_action_time: datetime | None
    created_at: datetime | None

    @classmethod
    def of_json(cls, answer: Mapping[str, Any]) -> Self:
        """The schedule that a function's answer (decoded JSON) holds."""
        return cls.model_validate_json(json.dumps(answer))

    @classmethod
    def as_asked(cls, request: CreateRequest) -> Self:
        """A schedule that was created just now and could not be read back."""
        schedule = request.schedule
        return cls(
            schedule_id=request.schedule_id,
            name=schedule.name,
            agent_id=request.agent_id,
            state=ScheduleState.PAUSED if schedule.paused else ScheduleState.ACTIVE,
            action=ActionView(
                workflow_name=schedule.workflow_name,
                workflow_id_prefix=ids.workflow_id_prefix(request.schedule_id),
                task_queue=schedule.task_queue,
                workflow_params=[schedule.workflow_params] if schedule.workflow_params is not None else None,
            ),
            spec=SpecView(
                cron_expressions=[schedule.cron_expression] if schedule.cron_expression else [],
                intervals_seconds=[schedule.interval_seconds] if schedule.interval_seconds else [],
                start_at=schedule.start_at,
                end_at=schedule.end_at,
            ),
            num_actions_taken=0,
            num_actions_missed=0,
            next_action_times=[],
            last_action_time=None,
            created_at=datetime.now(UTC),
        )


class ScheduleSummary(Model):
    """A schedule as a list shows it."""

    schedule_id: str
    name: str
    agent_id: str
    state: ScheduleState
    workflow_name: str
    next_action_time: datetime | None


class SchedulePage(Model):
    """One page of an agent's schedules, those that the caller may read.

    Attributes:
        total: how many of them are on this page.
        next_page_token: gives the next page; null on the last one. A page may be short, or empty, and not the last.
    """

    schedules: list[ScheduleSummary]
    total: int
    next_page_token: str | None


class Note(Model):
    """Body of pause and unpause.

    Attributes:
        note: why; kept with the schedule in Temporal.
    """

    note: Text | None = None


class Deleted(Model):
    """Answer of a delete. ``id`` is the schedule's."""

    id: str
    message: str


class Problem(Model):
    """Body of every answer that is an error.

    Attributes:
        code: the HTTP status.
        data: ``{"execution_id": …}`` where an execution's outcome is not known, else null.
    """

    message: str
    code: int
    data: dict[str, Any] | None = None


class GatewayProblem(Model):
    """Body of an answer that API Gateway itself gives: it has let nothing of the request through."""

    message: str


def subject_text(subject: tuple[str, str] | None) -> str | None:
    """``{type}:{id}`` of a SpiceDB subject."""
    return ":".join(subject) if subject else None


def to_json(model: BaseModel) -> Mapping[str, Any]:
    """``model`` as decoded JSON, ready to be a function's answer."""
    answer: Mapping[str, Any] = model.model_dump(mode="json")
    return answer
