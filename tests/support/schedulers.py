"""Which of Temporal's two schedulers made a schedule: the proof that a test ran on the one that it names."""

import uuid
from collections.abc import Iterable
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleSpec, ScheduleState
from temporalio.service import RPCError, RPCStatusCode

from local.stack import clients
from local.stack.endpoints import NAMESPACE, Endpoints
from local.stack.scheduler import Scheduler

# V1 runs this workflow for each schedule. Beside a schedule of CHASM the other one holds its id there, for 15 minutes.
_MAKERS = {"temporal-sys-scheduler-workflow": Scheduler.V1, "temporal-sys-dummy-workflow": Scheduler.CHASM}
_RPC_SECONDS = 10.0
PROBES = 20


async def maker(client: Client, schedule_id: str) -> Scheduler | None:
    """The scheduler that made the latest schedule of an id, also if it is deleted; None if none was made."""
    execution = WorkflowExecution(workflow_id=f"temporal-sys-scheduler:{schedule_id}")
    request = DescribeWorkflowExecutionRequest(namespace=NAMESPACE, execution=execution)
    ask = client.workflow_service.describe_workflow_execution
    try:
        found = await ask(request, timeout=timedelta(seconds=_RPC_SECONDS))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return _MAKERS[found.workflow_execution_info.type.name]


def are_of(scheduler: Scheduler, makers: Iterable[Scheduler | None]) -> bool:
    """Whether schedules were made as a server with this switch makes them. Ids without a schedule do not count.

    With MIXED both schedulers have to have made some: give it the makers of at least PROBES.
    """
    wanted = {Scheduler.V1, Scheduler.CHASM} if scheduler is Scheduler.MIXED else {scheduler}
    return {each for each in makers if each} == wanted


async def delete(client: Client, schedule_id: str) -> None:
    """Delete a schedule, as another tool does, until it is gone."""
    await client.get_schedule_handle(schedule_id).delete()
    await finish_delete(client, schedule_id)


async def finish_delete(client: Client, schedule_id: str) -> None:
    """Repeat an acknowledged delete while the schedule is there: CHASM may acknowledge one that it has not done."""
    while await clients.described(client, schedule_id):
        await client.get_schedule_handle(schedule_id).delete()


async def prove(endpoints: Endpoints, scheduler: Scheduler) -> None:
    """Make schedules, see that this scheduler makes them, and delete them.

    Raises:
        AssertionError: it does not.
    """
    client = await clients.temporal(endpoints)
    action = ScheduleActionStartWorkflow("Probe", id="probe", task_queue="probes")
    schedule = Schedule(action, ScheduleSpec(), state=ScheduleState(paused=True))
    makers = []
    for _ in range(PROBES if scheduler is Scheduler.MIXED else 1):
        handle = await client.create_schedule(f"probe-{uuid.uuid4().hex}", schedule)
        makers.append(await maker(client, handle.id))
        await handle.delete()
    assert are_of(scheduler, makers), f"Temporal was asked for {scheduler}, and these made schedules: {makers}"
