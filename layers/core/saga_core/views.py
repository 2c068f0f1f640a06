"""What callers see: a schedule, and a schedule in a list. Dumped to JSON, times are ISO 8601 in UTC."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field

from saga_core import ids, limits
from saga_core.requests import CreateRequest, Model, OverlapPolicy


class ScheduleState(StrEnum):
    """Whether a schedule starts workflows now."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"


class ActionView(Model):
    """What a schedule starts. ``workflow_params`` is the list of arguments; null for none."""

    workflow_name: str
    workflow_id_prefix: str
    task_queue: str
    workflow_params: list[Any] | None


class IntervalView(Model):
    """An interval that is not a whole number of seconds, or not counted from the epoch itself."""

    every_seconds: float
    offset_seconds: float


class SpecView(Model):
    """When a schedule starts it. Times are null where there is no bound.

    Attributes:
        cron_expressions: as they were asked for, or as Temporal has them where the schedule was changed since.
        intervals_seconds: periods, counted from the epoch.
        intervals: those that ``intervals_seconds`` cannot hold.
    """

    cron_expressions: list[str]
    intervals_seconds: list[int]
    intervals: list[IntervalView] = Field(default_factory=list)
    start_at: datetime | None
    end_at: datetime | None


class ScheduleView(Model):
    """A schedule as callers see it: what Temporal has now.

    Attributes:
        timezone: of the cron expressions; null for UTC.
        jitter_seconds: each run is delayed by a random time up to this; null for none.
        overlap_policy: null where Temporal has one that this application does not know.
        catchup_window_seconds: how late a run may still start after an outage.
        execution_timeout_seconds: the most that one run may take; null for no limit.
        note: why the schedule was paused, or another note of a person.
        num_actions_missed: runs that the catch-up window left out.
        last_action_time: the latest start of a run.
        updated_at: when the schedule was last changed; null if never. Temporal's V1 scheduler does not count pauses,
            unpauses and triggers, its CHASM scheduler does.
        warnings: what its creator probably did not intend, such as a schedule that never runs.
    """

    schedule_id: str
    name: str
    agent_id: str
    state: ScheduleState
    action: ActionView
    spec: SpecView
    timezone: str | None = None
    jitter_seconds: int | None = None
    overlap_policy: OverlapPolicy | None = None
    catchup_window_seconds: int | None = None
    execution_timeout_seconds: int | None = None
    note: str | None = None
    num_actions_taken: int
    num_actions_missed: int
    next_action_times: list[datetime]
    last_action_time: datetime | None
    created_at: datetime | None
    updated_at: datetime | None = None
    warnings: list[str] = Field(default_factory=list)

    @classmethod
    def of_json(cls, schedule: Mapping[str, Any]) -> Self:
        """The schedule in a function's result, which is decoded JSON."""
        return cls.model_validate_json(json.dumps(schedule))

    def for_output(self) -> Mapping[str, Any] | None:
        """The schedule as decoded JSON; None where it is too large for the output of a machine."""
        shown = self.to_json()
        size = limits.size(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))
        return shown if size <= limits.OUTPUT.most else None

    @classmethod
    def as_asked(cls, request: CreateRequest) -> Self:
        """A schedule that has just been created and could not be read back."""
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
            timezone=schedule.timezone,
            jitter_seconds=schedule.jitter_seconds,
            overlap_policy=schedule.overlap_policy,
            catchup_window_seconds=schedule.catchup_window_seconds,
            execution_timeout_seconds=schedule.execution_timeout_seconds,
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
