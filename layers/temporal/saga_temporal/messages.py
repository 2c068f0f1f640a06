"""Temporal's messages, made from requests, and read into what callers see."""

from collections.abc import Iterable
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

from saga_core import ids, views
from saga_core.drift import Scheduled
from saga_core.observability import logger
from saga_core.requests import CreateRequest, NewSchedule, OverlapPolicy
from saga_core.steps import Memo
from saga_temporal import cron, payloads

# The memo has one JSON object, a Memo, under this key.
MEMO_KEY = "agent_schedule"
_POLICIES: dict[int, OverlapPolicy] = {
    ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{policy}"): policy for policy in OverlapPolicy
}


@dataclass(frozen=True)
class Description:
    """A schedule as Temporal has it.

    Attributes:
        memo: the operation that created it; None if this application did not create it.
    """

    schedule_id: str
    memo: Memo | None
    response: DescribeScheduleResponse

    @property
    def registration(self) -> str:
        """What tells this schedule from others of its name: the fence in its memo, or else one made of its creation."""
        created_at = _time_after_zero(self.response.info.create_time)
        return self.memo.registration if self.memo else ids.registration_without_memo(self.schedule_id, created_at)

    @property
    def scheduled(self) -> Scheduled:
        """The schedule as the reconciler sees it."""
        state = self.response.schedule.state
        return Scheduled(
            registration=self.registration,
            memo=self.memo,
            created_at=_time_after_zero(self.response.info.create_time),
            paused=state.paused,
            note=state.notes,
        )

    @property
    def schedule(self) -> views.ScheduleView:
        """The schedule as callers see it: what Temporal has now. Made when asked for; a memo does not need it."""
        return _view(self.schedule_id, self.memo, self.response)


def schedule(request: CreateRequest) -> Schedule:
    """The schedule that a request asks for."""
    asked = request.schedule
    action = NewWorkflowExecutionInfo(
        workflow_id=ids.workflow_id_prefix(request.schedule_id),
        workflow_type=WorkflowType(name=asked.workflow_name),
        task_queue=TaskQueue(name=asked.task_queue),
    )
    if asked.workflow_params is not None:
        action.input.CopyFrom(Payloads(payloads=[payloads.encode(asked.workflow_params)]))
    if asked.execution_timeout_seconds is not None:
        action.workflow_execution_timeout.CopyFrom(Duration(seconds=asked.execution_timeout_seconds))
    policies = SchedulePolicies()
    if asked.catchup_window_seconds is not None:
        policies.catchup_window.CopyFrom(Duration(seconds=asked.catchup_window_seconds))
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
    return MemoMessage(fields={MEMO_KEY: payloads.encode(of.to_json())})


def description(schedule_id: str, response: DescribeScheduleResponse) -> Description:
    """The schedule in a response."""
    return Description(schedule_id, memo_of(schedule_id, response.memo), response)


def _view(schedule_id: str, found: Memo | None, response: DescribeScheduleResponse) -> views.ScheduleView:
    spec, action, info = response.schedule.spec, response.schedule.action.start_workflow, response.info
    policies, state = response.schedule.policies, response.schedule.state
    agent_id, name = ids.split_schedule_id(schedule_id)
    return views.ScheduleView(
        schedule_id=schedule_id,
        name=name,
        agent_id=agent_id,
        state=_state(paused=state.paused),
        action=views.ActionView(
            workflow_name=action.workflow_type.name,
            workflow_id_prefix=action.workflow_id,
            task_queue=action.task_queue.name,
            workflow_params=[payloads.decode(payload) for payload in action.input.payloads] or None,
        ),
        spec=views.SpecView(
            cron_expressions=_cron_expressions(spec, found),
            intervals_seconds=[i.interval.seconds for i in spec.interval if _is_whole(i)],
            intervals=[_interval(i) for i in spec.interval if not _is_whole(i)],
            start_at=_time_after_zero(spec.start_time),
            end_at=_time_after_zero(spec.end_time),
        ),
        timezone=spec.timezone_name or None,
        jitter_seconds=_whole_seconds(spec.jitter),
        overlap_policy=_overlap_policy(policies.overlap_policy),
        catchup_window_seconds=_whole_seconds(policies.catchup_window),
        execution_timeout_seconds=_whole_seconds(action.workflow_execution_timeout),
        note=state.notes or None,
        num_actions_taken=info.action_count,
        num_actions_missed=info.missed_catchup_window,
        next_action_times=_times(info.future_action_times),
        last_action_time=max(_times(action.actual_time for action in info.recent_actions), default=None),
        created_at=_time_after_zero(info.create_time),
        updated_at=_time_after_zero(info.update_time),
        warnings=[] if info.future_action_times else ["no run is due: the schedule starts no workflow by itself"],
    )


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
        next_action_time=min(_times(following), default=None),
    )


def _spec(asked: NewSchedule) -> ScheduleSpec:
    spec = ScheduleSpec(timezone_name=asked.timezone or "")
    if asked.cron_expression is not None:
        spec.cron_string.append(cron.commented(asked.cron_expression))
    if asked.interval_seconds is not None:
        spec.interval.append(IntervalSpec(interval=Duration(seconds=asked.interval_seconds)))
    if asked.jitter_seconds is not None:
        spec.jitter.CopyFrom(Duration(seconds=asked.jitter_seconds))
    if asked.start_at is not None:
        spec.start_time.FromDatetime(asked.start_at)
    if asked.end_at is not None:
        spec.end_time.FromDatetime(asked.end_at)
    return spec


def memo_of(schedule_id: str, message: MemoMessage) -> Memo | None:
    """The memo of a schedule; None where it has none of ours, or one that cannot be read."""
    if MEMO_KEY not in message.fields:
        return None
    try:
        return Memo.model_validate(payloads.decode(message.fields[MEMO_KEY]))
    except ValueError:
        logger.warning("a schedule's memo cannot be read: it is not one of ours", schedule_id=schedule_id)
        return None


def _cron_expressions(spec: ScheduleSpec, found: Memo | None) -> list[str]:
    """Each calendar as the cron expression that was asked for, while that still means it, else as Temporal has it."""
    request = (found.request if found else None) or {}  # a memo of version 1
    asked = str(request.get("cron_expression") or "")
    return [
        next((text for text in (calendar.comment, asked) if cron.means(text, calendar)), cron.text(calendar))
        for calendar in spec.structured_calendar
    ]


def _is_whole(interval: IntervalSpec) -> bool:
    """Whether the interval is a whole number of seconds, counted from the epoch."""
    return not (interval.interval.nanos or interval.phase.seconds or interval.phase.nanos)


def _interval(interval: IntervalSpec) -> views.IntervalView:
    return views.IntervalView(
        every_seconds=interval.interval.ToNanoseconds() / 1e9, offset_seconds=interval.phase.ToNanoseconds() / 1e9
    )


def _whole_seconds(duration: Duration) -> int | None:
    return duration.ToSeconds() or None


def _overlap_policy(value: int) -> OverlapPolicy | None:
    """None for a policy that this application does not know."""
    return _POLICIES.get(value)


def _state(*, paused: bool) -> views.ScheduleState:
    return views.ScheduleState.PAUSED if paused else views.ScheduleState.ACTIVE


def _times(messages: Iterable[Timestamp]) -> list[datetime]:
    """The times among messages that a datetime can hold."""
    return [time for message in messages if (time := _time_after_zero(message))]


def _time_after_zero(message: Timestamp) -> datetime | None:
    """None for the time of an absent message, for Go's zero time (year 1), and for one that no datetime can hold."""
    try:
        return message.ToDatetime(tzinfo=UTC) if message.seconds > 0 else None
    except (ValueError, OverflowError):
        return None
