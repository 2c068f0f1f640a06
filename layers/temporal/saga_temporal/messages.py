"""Temporal's messages, made from requests, and read into what callers see."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Memo as MemoMessage
from temporalio.api.common.v1 import Payloads, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    ScheduleAction,
    ScheduleListEntry,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeScheduleResponse
from temporalio.converter import PayloadConverter

from saga_core import ids, views
from saga_core.observability import logger
from saga_core.requests import CreateRequest, NewSchedule
from saga_core.steps import Memo

# The memo has one JSON object, a Memo, under this key.
MEMO_KEY = "agent_schedule"


@dataclass(frozen=True)
class Description:
    """A schedule as Temporal has it.

    Attributes:
        memo: the operation that created it; None if this application did not create it.
        schedule: as callers see it.
    """

    memo: Memo | None
    schedule: views.ScheduleView


def schedule(request: CreateRequest) -> Schedule:
    """The schedule that a request asks for."""
    asked = request.schedule
    action = NewWorkflowExecutionInfo(
        workflow_id=ids.workflow_id_prefix(request.schedule_id),
        workflow_type=WorkflowType(name=asked.workflow_name),
        task_queue=TaskQueue(name=asked.task_queue),
    )
    if asked.workflow_params is not None:
        action.input.CopyFrom(Payloads(payloads=[PayloadConverter.default.to_payload(asked.workflow_params)]))
    if asked.execution_timeout_seconds is not None:
        action.workflow_execution_timeout.CopyFrom(Duration(seconds=asked.execution_timeout_seconds))
    policies = SchedulePolicies()
    if asked.overlap_policy:
        policies.overlap_policy = ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{asked.overlap_policy}")
    return Schedule(
        spec=_spec(asked),
        action=ScheduleAction(start_workflow=action),
        policies=policies,
        state=ScheduleState(paused=asked.paused),
    )


def memo(of: Memo) -> MemoMessage:
    """A schedule's memo."""
    return MemoMessage(fields={MEMO_KEY: PayloadConverter.default.to_payload(of.to_json())})


def description(schedule_id: str, response: DescribeScheduleResponse) -> Description:
    """The schedule in a response."""
    found = _memo(schedule_id, response)
    spec, action, info = response.schedule.spec, response.schedule.action.start_workflow, response.info
    agent_id, name = ids.split_schedule_id(schedule_id)
    arguments = [PayloadConverter.default.from_payload(payload) for payload in action.input.payloads]
    # The server turns cron expressions into calendars, so the view has them as they were asked for.
    cron = found.request.cron_expression if found else None
    view = views.ScheduleView(
        schedule_id=schedule_id,
        name=name,
        agent_id=agent_id,
        state=_state(paused=response.schedule.state.paused),
        action=views.ActionView(
            workflow_name=action.workflow_type.name,
            workflow_id_prefix=action.workflow_id,
            task_queue=action.task_queue.name,
            workflow_params=arguments or None,
        ),
        spec=views.SpecView(
            cron_expressions=[cron] if cron else list(spec.cron_string),
            intervals_seconds=[interval.interval.seconds for interval in spec.interval],
            start_at=_time(spec.start_time) if spec.HasField("start_time") else None,
            end_at=_time(spec.end_time) if spec.HasField("end_time") else None,
        ),
        num_actions_taken=info.action_count,
        num_actions_missed=info.missed_catchup_window,
        next_action_times=[_time(time) for time in info.future_action_times],
        last_action_time=_time(info.recent_actions[-1].actual_time) if info.recent_actions else None,
        created_at=_time(info.create_time) if info.HasField("create_time") else None,
    )
    return Description(found, view)


def summary(entry: ScheduleListEntry) -> views.ScheduleSummary:
    """The schedule in an entry of a list."""
    agent_id, name = ids.split_schedule_id(entry.schedule_id)
    following = entry.info.future_action_times
    return views.ScheduleSummary(
        schedule_id=entry.schedule_id,
        name=name,
        agent_id=agent_id,
        state=_state(paused=entry.info.paused),
        workflow_name=entry.info.workflow_type.name,
        next_action_time=_time(following[0]) if following else None,
    )


def _spec(asked: NewSchedule) -> ScheduleSpec:
    spec = ScheduleSpec(timezone_name=asked.timezone or "")
    if asked.cron_expression is not None:
        spec.cron_string.append(asked.cron_expression)
    if asked.interval_seconds is not None:
        spec.interval.append(IntervalSpec(interval=Duration(seconds=asked.interval_seconds)))
    if asked.start_at is not None:
        spec.start_time.FromDatetime(asked.start_at)
    if asked.end_at is not None:
        spec.end_time.FromDatetime(asked.end_at)
    return spec


def _memo(schedule_id: str, response: DescribeScheduleResponse) -> Memo | None:
    if MEMO_KEY not in response.memo.fields:
        return None
    try:
        return Memo.model_validate(PayloadConverter.default.from_payload(response.memo.fields[MEMO_KEY]))
    except ValueError:
        logger.warning("a schedule's memo is not ours to read", schedule_id=schedule_id)
        return None


def _state(*, paused: bool) -> views.ScheduleState:
    return views.ScheduleState.PAUSED if paused else views.ScheduleState.ACTIVE


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
