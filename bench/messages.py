"""The messages of a create and a delete, as bare clients send them."""

import uuid
from datetime import UTC, datetime, timedelta

from authzed.api.v1 import (
    CheckPermissionRequest,
    Consistency,
    DeleteRelationshipsRequest,
    ObjectReference,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest

from bench import events
from local.stack.endpoints import NAMESPACE


def may_update(agent: str) -> CheckPermissionRequest:
    """Whether the user may update an agent."""
    return CheckPermissionRequest(
        consistency=Consistency(fully_consistent=True),
        resource=ObjectReference(object_type="agent", object_id=agent),
        permission="update",
        subject=_subject("user", events.OWNER),
    )


def registration(schedule_id: str, fence: str) -> WriteRelationshipsRequest:
    """The four relationships that a create registers; one of them ends with the lease."""
    written = [
        _relationship(schedule_id, "owner", "user", events.OWNER),
        _relationship(schedule_id, "parent_agent", "agent", schedule_id.partition("--")[0]),
        _relationship(schedule_id, "registered_by", "registration", fence),
        _lease(schedule_id, fence),
    ]
    written[-1].optional_expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=12))
    touch = RelationshipUpdate.OPERATION_TOUCH
    return WriteRelationshipsRequest(
        updates=[RelationshipUpdate(operation=touch, relationship=each) for each in written]
    )


def lease_over(schedule_id: str, fence: str) -> WriteRelationshipsRequest:
    """Remove the lease."""
    update = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_DELETE, relationship=_lease(schedule_id, fence))
    return WriteRelationshipsRequest(updates=[update])


def removed(schedule_id: str) -> DeleteRelationshipsRequest:
    """Remove all relationships of a schedule."""
    which = RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id)
    return DeleteRelationshipsRequest(relationship_filter=which)


def new_schedule(schedule_id: str) -> CreateScheduleRequest:
    """A schedule that runs once an hour."""
    spec = ScheduleSpec()
    spec.interval.add().interval.FromTimedelta(timedelta(hours=1))
    workflow = NewWorkflowExecutionInfo(
        workflow_id=schedule_id,
        workflow_type=WorkflowType(name="Report"),
        task_queue=TaskQueue(name="reports"),
    )
    return CreateScheduleRequest(
        namespace=NAMESPACE,
        schedule_id=schedule_id,
        schedule=Schedule(spec=spec, action=ScheduleAction(start_workflow=workflow)),
        request_id=uuid.uuid4().hex,
    )


def described(schedule_id: str) -> DescribeScheduleRequest:
    """Describe a schedule."""
    return DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=schedule_id)


def deleted(schedule_id: str) -> DeleteScheduleRequest:
    """Delete a schedule."""
    return DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=schedule_id)


def _lease(schedule_id: str, fence: str) -> Relationship:
    return _relationship(schedule_id, "creating", "registration", fence)


def _relationship(schedule_id: str, relation: str, subject_type: str, subject_id: str) -> Relationship:
    return Relationship(
        resource=ObjectReference(object_type="agent_schedule", object_id=schedule_id),
        relation=relation,
        subject=_subject(subject_type, subject_id),
    )


def _subject(subject_type: str, subject_id: str) -> SubjectReference:
    return SubjectReference(object=ObjectReference(object_type=subject_type, object_id=subject_id))
