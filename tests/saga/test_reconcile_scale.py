"""A report on 5,000 schedules of the real engines takes the calls that it takes on those that are made when read."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from temporalio.api.common.v1 import Memo, WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CreateScheduleRequest

from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from local.stack.scheduler import Scheduler
from saga_core import ids, settings
from saga_temporal import MEMO_KEY, payloads
from tests.support import relationships, schedulers
from tests.support.api import eventually
from tests.support.ports import free_port
from tests.support.saga_stack import Stack
from tools.scale.model import sweep_calls

MANY = 5000
AT_ONCE = 50
# As many as one write takes: three for each schedule.
IN_A_WRITE = 333


@pytest.fixture(scope="module")
def running_engines(tmp_path_factory: pytest.TempPathFactory, scheduler: Scheduler) -> Iterator[Endpoints]:
    """Engines of its own: so many schedules would slow down the tests that share the others."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with engines(endpoints, tmp_path_factory.mktemp("logs"), None, scheduler):
        asyncio.run(schedulers.prove(endpoints, scheduler))
        yield endpoints


def fence(number: int) -> str:
    return f"{number:064x}"


async def scheduled(stack: Stack) -> None:
    """Create the schedules in Temporal, as this application would."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def create(number: int) -> None:
        made_by = {"version": 2, "registration": fence(number), "creator": "user:alice"}
        workflow = NewWorkflowExecutionInfo(
            workflow_id=f"s{number}", workflow_type=WorkflowType(name="Report"), task_queue=TaskQueue(name="reports")
        )
        request = CreateScheduleRequest(
            namespace=stack.scheduler.namespace,
            schedule_id=ids.schedule_id(stack.agent, f"s{number}"),
            schedule=Schedule(action=ScheduleAction(start_workflow=workflow)),
            memo=Memo(fields={MEMO_KEY: payloads.encode(made_by)}),
            request_id=fence(number),
        )
        async with turns:
            await stack.scheduler.workflow_service.create_schedule(request)

    await asyncio.gather(*(create(number) for number in range(MANY)))


def registered(stack: Stack) -> None:
    """Write their relationships in SpiceDB."""
    for first in range(0, MANY, IN_A_WRITE):
        relationships.touch(
            stack.authorization,
            *(
                f"agent_schedule:{ids.schedule_id(stack.agent, f's{number}')}#{relation}"
                for number in range(first, min(first + IN_A_WRITE, MANY))
                for relation in (
                    "owner@user:alice",
                    f"parent_agent@agent:{stack.agent}",
                    f"registered_by@registration:{fence(number)}",
                )
            ),
        )


def listed(stack: Stack) -> int:
    async def count() -> int:
        query = f'ScheduleId STARTS_WITH "{stack.agent}--"'
        return len([each async for each in await stack.scheduler.list_schedules(query, page_size=1000)])

    return stack.loop.run_until_complete(count())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_report_on_5000_schedules_takes_a_few_calls_for_each_thousand(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RPC_TIMEOUT_SECONDS", "15")
    settings.call_settings.cache_clear()
    stack.loop.run_until_complete(scheduled(stack))
    registered(stack)
    eventually(lambda: listed(stack), lambda shown: shown == MANY)
    stack.spicedb.clear()
    stack.temporal.clear()

    report = stack.run("reconcile-schedules", {"agent_id": stack.agent}).output

    assert (report["seen"], report["kinds"]) == ({"schedules": MANY, "registrations": MANY}, {})
    calls = Counter([*stack.spicedb.calls, *stack.temporal.calls])
    expected = sweep_calls([MANY])
    assert {method: calls[method] for method in expected} == expected
    settings.call_settings.cache_clear()
