"""What starts a reconciliation, and what its machine sends to the function."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from saga_core import ids, limits
from saga_core.drift import Kind
from saga_core.ids import Subject
from saga_core.requests import AgentId, Model
from saga_reconcile.tally import MOST_ITEMS


class Mode(StrEnum):
    """Whether anything is written."""

    REPORT = "report"
    REPAIR = "repair"


class Revoked(StrEnum):
    """What becomes of a schedule none of whose owners may update its agent."""

    REPORT = "report"
    PAUSE = "pause"


def is_ours(schedule_id: str) -> bool:
    """Whether an id can be that of a schedule of this application."""
    agent_id, separator, _ = schedule_id.partition(ids.SEPARATOR)
    try:
        ids.check_agent_id(agent_id)
    except ValueError:
        return False
    return bool(separator) and len(agent_id) <= limits.NAME.most and ids.is_schedule_of(schedule_id, agent_id)


def _schedule_id(value: str) -> str:
    if not is_ours(value):
        raise ValueError("must be {agent id}--{schedule name}")
    return value


def subject(value: str) -> Subject:
    """The subject that ``{type}:{id}`` names.

    Raises:
        ValueError: it is not a user or a service account.
    """
    kind, separator, identity = value.partition(":")
    if not separator or not identity or kind not in ("user", "service_account"):
        raise ValueError("must be user:<id> or service_account:<id>")
    return Subject(kind, ids.encode_subject_id(identity))


def _subject(value: str) -> str:
    subject(value)
    return value


def _shards(value: int) -> int:
    if value not in (1, 62):
        raise ValueError("must be 1 or 62")
    return value


ScheduleId = Annotated[str, AfterValidator(_schedule_id)]
Owner = Annotated[str, AfterValidator(_subject)]


class ReconcileRequest(Model):
    """Input of the machine.

    Attributes:
        mode: ``report`` writes nothing.
        agent_id, schedule_id: look at one agent's schedules alone, or at one schedule.
        kinds: repair these alone, and count these alone as what would be repaired; null for all.
        max_repairs: at most so many in this run.
        adopt: owners, ``user:<id>`` or ``service_account:<id>``, by the id of a schedule that has none.
        confirm: repair although it is much, if it is at most so many.
        revoked: whether schedules none of whose owners may update the agent are paused.
        shards: 1, or 62 for one for each letter or digit that an id can begin with, side by side. Foreign ids that
            begin otherwise are then not counted.
    """

    mode: Annotated[Mode, Field(strict=False)] = Mode.REPORT
    agent_id: AgentId | None = None
    schedule_id: ScheduleId | None = None
    kinds: list[Annotated[Kind, Field(strict=False)]] | None = None
    max_repairs: int = Field(default=100, ge=1, le=100_000)
    adopt: dict[ScheduleId, Owner] = Field(default_factory=dict, max_length=100)
    confirm: int | None = Field(default=None, ge=1)
    revoked: Annotated[Revoked, Field(strict=False)] = Revoked.REPORT
    shards: Annotated[int, AfterValidator(_shards)] = 1

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if self.agent_id and self.schedule_id:
            raise ValueError("agent_id and schedule_id exclude each other")
        return self


class Shard(Model):
    """A part of all schedules.

    Attributes:
        prefix: of their ids.
        repairs: how many may be repaired in it.
        items: how many findings are kept of it.
    """

    prefix: str
    repairs: int = 0
    items: int = MOST_ITEMS


class Position(Model):
    """Where the sweep of a shard goes on.

    Attributes:
        system: ``temporal`` first, then ``spicedb``.
        token: of the page, as that system gave it; base64 for Temporal.
        after: the suspect of the page that was looked at last; empty at its beginning.
        last: the id with which SpiceDB's page before ended.
    """

    system: str = "temporal"
    token: str = ""
    after: str = ""
    last: str = ""


class ShardTally(Model):
    """What a sweep of a shard came to."""

    model_config = ConfigDict(extra="ignore")

    prefix: str
    tally: dict[str, Any]


class Step(Model):
    """Event of the function. ``do`` says which of the other fields it has."""

    model_config = ConfigDict(extra="ignore")

    execution_id: str
    do: str
    request: ReconcileRequest
    shard: Shard | None = None
    position: Position | None = None
    tally: dict[str, Any] | None = None
    tallies: list[ShardTally] | None = None
    repaired: list[ShardTally] | None = None
    judged: dict[str, Any] | None = None
