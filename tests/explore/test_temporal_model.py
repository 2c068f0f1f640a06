"""The model of Temporal replies as Temporal does, and holds what Temporal holds: the same calls go to both.

Some calls are made through the gateway; the others are requests that the gateway would not make. A failure shows the
state before the call, which is enough to repeat it.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Memo as MemoMessage
from temporalio.api.common.v1 import Payload, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    ScheduleAction,
    SchedulePatch,
    ScheduleSpec,
    ScheduleState,
    TriggerImmediatelyRequest,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    PatchScheduleRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from local.stack import clients, parts
from local.stack.endpoints import NAMESPACE, Endpoints
from local.stack.scheduler import Scheduler
from saga_core import ids
from saga_core.connections import Connected, Connection
from saga_core.steps import Memo, digest
from saga_temporal import Temporal
from tests.explore import temporal_model
from tests.explore.conformance import NO_DEADLINE, REGISTRATIONS, RPC_SECONDS, TIMES, Call, create_request, outcome
from tests.explore.temporal_model import Rules, TemporalFailure
from tests.support import schedulers
from tests.support.api import eventually
from tests.support.ports import free_port

NAMES = ["x", "y"]
LATER = datetime(2100, 1, 1, tzinfo=UTC)  # so that no schedule begins to run
# Where each id has one scheduler for ever, the answers to one call after another do not show which, but for triggers.
RULES = {Scheduler.V1: Rules.V1, Scheduler.CHASM: Rules.CHASM, Scheduler.MIXED: Rules.CHASM}
METHODS = {
    CreateScheduleRequest: "create_schedule",
    DescribeScheduleRequest: "describe_schedule",
    DeleteScheduleRequest: "delete_schedule",
    PatchScheduleRequest: "patch_schedule",
}
TRIGGER = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest())


def some_schedule(chance: random.Random) -> Schedule:
    """Mostly one that Temporal takes."""
    spec = ScheduleSpec(
        cron_string=chance.choice([[], [], ["0 9 * * 1-5"], ["*/15 8,9 * * *", "0 0 1 1 *"], ["nonsense"]]),
        interval=[IntervalSpec(interval=Duration(seconds=chance.choice([60] * 10 + [0])))],
        timezone_name=chance.choice(["", "Europe/Berlin"]),
    )
    spec.start_time.FromDatetime(LATER)
    if chance.random() < 0.3:
        spec.end_time.FromDatetime(LATER + timedelta(microseconds=1))
    action = NewWorkflowExecutionInfo(
        workflow_id="run",
        workflow_type=WorkflowType(name=chance.choice(["Report"] * 10 + [""])),
        task_queue=TaskQueue(name="reports"),
    )
    return Schedule(
        spec=spec, action=ScheduleAction(start_workflow=action), state=ScheduleState(paused=chance.random() < 0.5)
    )


def some_temporal_call(
    chance: random.Random, agent_id: str, run: Callable[[Awaitable[Any]], Any], *, triggers: bool
) -> Call:
    schedule_id, registration = ids.schedule_id(agent_id, name := chance.choice(NAMES)), chance.choice(REGISTRATIONS)
    odd_id = chance.choice([schedule_id] * 20 + [""])
    if chance.random() < 0.5:
        trigger = PatchScheduleRequest(schedule_id=odd_id, patch=TRIGGER, request_id=chance.choice([registration, ""]))
        request: Any = chance.choice(
            [
                CreateScheduleRequest(
                    schedule_id=odd_id,
                    schedule=some_schedule(chance),
                    memo=MemoMessage(fields=chance.choice([{}, {"key": Payload(data=chance.randbytes(4))}])),
                    request_id=chance.choice([registration] * 10 + [""]),
                ),
                DescribeScheduleRequest(schedule_id=odd_id),
                DeleteScheduleRequest(schedule_id=schedule_id),
                *([trigger] if triggers else []),
            ]
        )
        request.namespace = NAMESPACE
        return Call(f"{type(request).__name__} {request}", lambda service: temporal_reply(service, request, run))
    schedule: dict[str, Any] = chance.choice(
        [
            {"interval_seconds": 60, "workflow_params": {"to": ["alice"]}, "execution_timeout_seconds": 9},
            {"cron_expression": "0 9 * * 1-5", "timezone": "Europe/Berlin", "paused": True},
            {"cron_expression": "0 9 * *"},
            {"interval_seconds": 60, "cron_expression": "5 4 * * *", "overlap_policy": "BUFFER_ONE"},
        ]
    )
    creator = chance.choice([None, {"user_id": "alice"}])
    create = create_request(agent_id, creator, name, start_at=LATER.isoformat(), **schedule)
    memo = Memo(
        registration=registration,
        creator=str(create.creator) if create.creator else None,
        version=2,
        digest=digest(create.schedule),
    )
    holds_name, request_id = chance.random() < 0.3, chance.choice([registration, None])
    calls: list[tuple[str, Callable[[Temporal], Any]]] = [
        ("create", lambda it: it.create(create, memo, NO_DEADLINE, holds_name=holds_name)),
        ("describe", lambda it: it.describe(schedule_id, NO_DEADLINE)),
        ("delete", lambda it: it.delete(schedule_id, NO_DEADLINE)),
    ]
    if triggers:
        calls.append(("trigger", lambda it: it.trigger(schedule_id, request_id, NO_DEADLINE)))
    method, act = chance.choice(calls)

    def through_gateway(service: Any) -> Any:
        connection: Connection[Any] = Connection(lambda _timeout: Connected(service))
        answer = outcome(lambda: act(Temporal(connection, NAMESPACE, run)))
        if method == "describe" and answer:
            # The model has no runs, no defaults of the server's, and no calendars.
            unknown: dict[str, Any] = {
                "next_action_times": [],
                "created_at": None,
                "updated_at": None,  # CHASM sets it at every patch
                "warnings": [],
                "overlap_policy": None,
                "catchup_window_seconds": None,
                "num_actions_taken": 0,
                "last_action_time": None,
            }
            view = answer.schedule.model_copy(update=unknown)
            return answer.memo, view.model_copy(update={"spec": view.spec.model_copy(update={"cron_expressions": []})})
        return answer

    return Call(f"{method} of {create} by {memo.registration}, holds_name {holds_name}", through_gateway)


class ModelTemporal:
    """Stands where temporalio's workflow service stands, with the model behind it."""

    def __init__(self, rules: Rules = Rules.V1) -> None:
        self.rules = rules
        self.state: temporal_model.State = frozenset()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(request: Any, *, timeout: timedelta) -> Any:  # noqa: ARG001 - as the service has it
            self.state, reply = temporal_model.apply(self.state, method, request, time.time(), self.rules)
            if isinstance(reply, TemporalFailure):
                raise temporal_model.error(reply)
            return reply

        return call


class DoingTemporal:
    """The real service, where every acknowledged delete is done."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, method: str) -> Any:
        return getattr(self._client.workflow_service, method)

    async def delete_schedule(self, request: DeleteScheduleRequest, *, timeout: timedelta) -> Any:
        reply = await self._client.workflow_service.delete_schedule(request, timeout=timeout)
        await schedulers.finish_delete(self._client, request.schedule_id)
        return reply


def temporal_reply(service: Any, request: Any, run: Callable[[Awaitable[Any]], Any]) -> Any:
    """What the service answers; of a description, what the model has too."""
    return run(reply_of(service, request))


async def reply_of(service: Any, request: Any) -> Any:
    """As `temporal_reply`."""
    try:
        reply = await getattr(service, METHODS[type(request)])(request, timeout=timedelta(seconds=RPC_SECONDS))
    except RPCError as error:
        return TemporalFailure(error.status)
    if not isinstance(reply, DescribeScheduleResponse):
        return None
    schedule = Schedule.FromString(reply.schedule.SerializeToString())
    schedule.ClearField("policies")
    schedule.spec.ClearField("structured_calendar")
    schedule.action.start_workflow.task_queue.ClearField("kind")
    return schedule, reply.memo


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def client(running_engines: Endpoints, loop: asyncio.AbstractEventLoop) -> Client:
    return loop.run_until_complete(clients.temporal(running_engines))


@pytest.fixture(scope="module")
def temporal_service(client: Client) -> Any:
    return client.workflow_service


def compare(
    service: Any,
    model: ModelTemporal,
    chance: random.Random,
    agent_id: str,
    run: Callable[[Awaitable[Any]], Any],
    *,
    triggers: bool = True,
) -> None:
    """Make some calls to both, and see that the replies are the same, and at the end what they have."""
    for number in range(chance.choice([5, 25])):
        before = sorted(model.state, key=str)
        call = some_temporal_call(chance, agent_id, run, triggers=triggers)
        real, modelled = call.make(service), call.make(model)
        assert modelled == real, f"{number}: {call.description}, on {model.rules.value} with {before}"
    for name in NAMES:
        describe = DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=ids.schedule_id(agent_id, name))
        real, modelled = (temporal_reply(each, describe, run) for each in (service, model))
        assert modelled == real, f"{name} at the end, on {model.rules.value}"


def test_the_model_of_temporal_answers_as_temporal_does(
    client: Client, scheduler: Scheduler, loop: asyncio.AbstractEventLoop
) -> None:
    makers: set[Scheduler | None] = set()
    for seed in range(40 * TIMES):
        chance = random.Random(seed)  # noqa: S311 - test data
        agent_id, model = uuid.uuid4().hex, ModelTemporal(RULES[scheduler])
        service = DoingTemporal(client)
        triggers = scheduler is not Scheduler.MIXED  # the model does not know which scheduler an id has
        compare(service, model, chance, agent_id, loop.run_until_complete, triggers=triggers)
        for name in NAMES:
            schedule_id = ids.schedule_id(agent_id, name)
            delete = DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=schedule_id)
            real, modelled = (temporal_reply(each, delete, loop.run_until_complete) for each in (service, model))
            assert modelled == real, f"{seed}: at its end"
            makers.add(loop.run_until_complete(schedulers.maker(client, schedule_id)))
    assert schedulers.are_of(scheduler, makers)


@pytest.mark.slow
def test_the_model_of_temporal_answers_as_a_server_does_that_is_switched_between_its_schedulers(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    endpoints, run = Endpoints(temporal_port=free_port(), temporal_ui_port=free_port()), loop.run_until_complete
    agents = [(random.Random(seed), uuid.uuid4().hex, ModelTemporal()) for seed in range(16 * TIMES)]  # noqa: S311
    met: set[tuple[bool, bool, bool]] = set()
    for scheduler in (Scheduler.CHASM, Scheduler.V1, Scheduler.CHASM, Scheduler.V1):
        with parts.temporal(endpoints, tmp_path, tmp_path, scheduler):
            client = run(clients.temporal(endpoints))
            for chance, agent_id, model in agents:
                model.rules = RULES[scheduler]
                # What each scheduler remembers of the other one's triggers is not modelled.
                compare(DoingTemporal(client), model, chance, agent_id, run, triggers=False)
            stored = frozenset(stored for _, _, model in agents for stored in model.state)
            met |= {(each.chasm, each.deleted, each.sentinel) for each in stored}
            for each in temporal_model.live(stored):
                assert (run(schedulers.maker(client, each.schedule_id)) is Scheduler.CHASM) is each.chasm
    assert len(met) == 5, "both schedulers' schedules, there and deleted, and the sentinel of a refused create"


def test_a_reserved_id_of_the_model_has_no_schedule_and_refuses_those_of_chasm_alone() -> None:
    create = create_message()
    describe = DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=create.schedule_id)
    state = frozenset({temporal_model.reserved(create.schedule_id)})

    def codes(rules: Rules) -> list[RPCStatusCode | None]:
        replies = [temporal_model.apply(state, METHODS[type(each)], each, 0, rules)[1] for each in (create, describe)]
        return [reply.code if isinstance(reply, TemporalFailure) else None for reply in replies]

    assert codes(Rules.CHASM) == [RPCStatusCode.ALREADY_EXISTS, RPCStatusCode.NOT_FOUND]
    assert codes(Rules.V1) == [None, RPCStatusCode.NOT_FOUND]


def test_calls_at_once_are_answered_as_the_model_answers_them_in_some_order(
    client: Client, scheduler: Scheduler, loop: asyncio.AbstractEventLoop
) -> None:
    run, service = loop.run_until_complete, DoingTemporal(client)

    def explain(state: temporal_model.State, calls: Sequence[Any]) -> Iterator[tuple[dict[int, Any], Any]]:
        """The replies to the calls by number, and the description afterwards, for each order and choice of rules.

        CHASM may also acknowledge a delete that it does not do: that is None.
        """
        choices = [Rules.V1] if scheduler is Scheduler.V1 else [Rules.CHASM, Rules.CHASM_LAX, None]
        for order in itertools.permutations(range(len(calls))):
            for rules in itertools.product(choices, repeat=len(calls)):
                model, replies = ModelTemporal(), {}
                model.state = state
                for number, each in zip(order, rules, strict=True):
                    model.rules = each or Rules.CHASM_LAX
                    before = model.state
                    replies[number] = temporal_reply(model, calls[number], run)
                    if each is None and isinstance(calls[number], DeleteScheduleRequest):
                        model.state = before
                yield replies, temporal_reply(model, describe, run)

    for seed in range(40 * TIMES):
        chance, create = random.Random(seed), create_message()  # noqa: S311 - test data
        describe = DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=create.schedule_id)
        delete = DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=create.schedule_id)
        another = CreateScheduleRequest()
        another.CopyFrom(create)
        another.request_id = "two"
        another.memo.fields["key"].data = b"another"
        model = ModelTemporal(RULES[scheduler])
        earlier: Sequence[Any] = chance.choice([(), (create,), (create, delete)])
        for call in earlier:
            assert temporal_reply(service, call, run) == temporal_reply(model, call, run)
        calls = chance.choices([create, another, delete, delete], k=chance.choice([2, 3]))

        async def at_once(calls: Sequence[Any] = calls) -> list[Any]:
            return await asyncio.gather(*(reply_of(client.workflow_service, call) for call in calls))

        found = dict(enumerate(run(at_once()))), temporal_reply(client.workflow_service, describe, run)
        assert found in list(explain(model.state, calls)), f"{seed}: {[METHODS[type(call)] for call in calls]}"


def test_the_model_of_temporal_tells_when_a_schedule_was_created(
    temporal_service: Any, loop: asyncio.AbstractEventLoop
) -> None:
    async def created() -> list[float]:
        describe = DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=create.schedule_id)
        replies = [
            await service.describe_schedule(describe, timeout=timedelta(seconds=RPC_SECONDS)) for service in services
        ]
        return [reply.info.create_time.ToNanoseconds() / 1e9 for reply in replies]

    create, services = create_message(), (temporal_service, ModelTemporal())
    began = time.time()
    for service in services:
        temporal_reply(service, create, loop.run_until_complete)
    moments = loop.run_until_complete(created())

    # The server notes the time when it first looks at the schedule, which may be after its reply.
    assert all(began <= moment <= time.time() for moment in moments)


def test_the_model_of_temporal_takes_the_cron_expressions_that_temporal_takes(
    temporal_service: Any, loop: asyncio.AbstractEventLoop
) -> None:
    """Given a schedule, so that each create is a repeat, which is checked but makes no other."""
    request = create_message()
    services = (temporal_service, ModelTemporal())
    chance = random.Random(0)  # noqa: S311 - test data

    assert [temporal_reply(service, request, loop.run_until_complete) for service in services] == [None, None]

    answers = []
    for _ in range(500 * TIMES):
        request.schedule.spec.cron_string[:] = [cron := some_cron(chance)]
        real, modelled = (temporal_reply(service, request, loop.run_until_complete) for service in services)
        assert modelled == real, cron
        answers.append(real)
    assert {None, TemporalFailure(RPCStatusCode.INVALID_ARGUMENT)} == set(answers)
    delete = DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=request.schedule_id)
    assert [temporal_reply(service, delete, loop.run_until_complete) for service in services] == [None, None]


def test_a_trigger_that_repeats_a_request_id_starts_nothing_in_the_model_as_in_temporal(
    client: Client, temporal_service: Any, loop: asyncio.AbstractEventLoop
) -> None:
    create = create_message()
    create.schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
    temporal_reply(temporal_service, create, loop.run_until_complete)
    if loop.run_until_complete(schedulers.maker(client, create.schedule_id)) is Scheduler.CHASM:
        pytest.skip("CHASM compares no request ids of triggers, and starts one run for those of one second")
    model = ModelTemporal()
    temporal_reply(model, create, loop.run_until_complete)

    for number, request_id in enumerate(["one", "one", "two", "one", "two"]):
        trigger = PatchScheduleRequest(
            namespace=NAMESPACE, schedule_id=create.schedule_id, patch=TRIGGER, request_id=request_id
        )
        # Two triggers of one second start one run.
        trigger.patch.trigger_immediately.scheduled_time.FromSeconds(1_800_000_000 + 60 * number)
        for service in (temporal_service, model):
            assert temporal_reply(service, trigger, loop.run_until_complete) is None

    async def started() -> int:
        describe = DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=create.schedule_id)
        reply = await temporal_service.describe_schedule(describe, timeout=timedelta(seconds=RPC_SECONDS))
        return int(reply.info.action_count)

    (stored,) = model.state
    eventually(lambda: loop.run_until_complete(started()), lambda count: count >= 2)
    # The server acts on triggers in their order, so that one more makes the last of these visible.
    trigger.request_id = "three"
    trigger.patch.trigger_immediately.scheduled_time.FromSeconds(1_900_000_000)
    temporal_reply(temporal_service, trigger, loop.run_until_complete)
    eventually(lambda: loop.run_until_complete(started()), lambda count: count >= stored.triggers + 1)
    assert loop.run_until_complete(started()) == stored.triggers + 1 == 3


def create_message() -> CreateScheduleRequest:
    """A new schedule that never runs."""
    action = NewWorkflowExecutionInfo(workflow_type=WorkflowType(name="Report"), task_queue=TaskQueue(name="reports"))
    schedule = Schedule(action=ScheduleAction(start_workflow=action), state=ScheduleState(paused=True))
    return CreateScheduleRequest(namespace=NAMESPACE, schedule_id=uuid.uuid4().hex, request_id="one", schedule=schedule)


def some_cron(chance: random.Random) -> str:
    """Fields of numbers, mostly within their limits."""

    def item(least: int, most: int) -> str:
        first, last = (chance.choice([least, most, chance.randint(least, most)]) for _ in range(2))
        if chance.random() < 0.1:
            first = max(0, first + chance.choice([-1, 1, 1]))
        span = chance.choice(["*", f"{first}", f"{min(first, last)}-{max(first, last)}", f"{first}-{last}"])
        return span + chance.choice(["", "", "", f"/{chance.choice([0, 1, 2, 70])}"])

    limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
    fields = [",".join(item(*each) for _ in range(chance.choice([1, 1, 1, 2]))) for each in limits]
    return " ".join(fields[: chance.choice([5] * 20 + [0, 1, 4])])
