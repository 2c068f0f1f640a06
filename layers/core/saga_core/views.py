"""What callers see: a schedule, and a schedule in a list. Dumped to JSON, times are ISO 8601 in UTC."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from saga_core import ids
from saga_core.requests import CreateRequest, Model


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


class SpecView(Model):
    """When a schedule starts it. Times are null where there is no bound."""

    cron_expressions: list[str]
    intervals_seconds: list[int]
    start_at: datetime | None
    end_at: datetime | None


class ScheduleView(Model):
    """A schedule as callers see it."""

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
    def of_json(cls, schedule: Mapping[str, Any]) -> Self:
        """The schedule in a function's result, which is decoded JSON."""
        return cls.model_validate_json(json.dumps(schedule))

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
