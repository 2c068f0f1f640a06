"""The scenarios of the fault matrix: what both systems hold beforehand, what is asked, and what a saga then does.

A scenario writes down every state that its saga enters and every call that it makes there while nothing goes wrong. The
matrix is made of these lists, and that they are true is a test of its own: a new call, or a new state, has to be
written down here, and then is in the matrix.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.steps import Memo, TemporalCreateStep
from saga_spicedb import spicedb
from saga_temporal import MEMO_KEY, temporal
from tests.support.proxy import Fault
from tests.support.saga_stack import Ended, Stack

Request = dict[str, Any]

# So seldom that no run is due while the tests last.
INTERVAL_SECONDS = 1_000_000_000


@dataclass(frozen=True)
class World:
    """What the two systems hold under one name: relation to subject in SpiceDB, and the memo of Temporal's schedule."""

    held: dict[str, str]
    memo: dict[str, Any] | None

    @property
    def leased(self) -> bool:
        """Whether the relationships say that a create is in flight."""
        return "creating" in self.held

    @property
    def in_step(self) -> bool:
        """Whether the schedule is its creator's, as its own create registered it, and nothing else is held."""
        if self.memo is None or self.memo["creator"] is None:
            return self.held == {}
        return {relation: subject for relation, subject in self.held.items() if relation != "creating"} == {
            "owner": self.memo["creator"],
            "parent_agent": f"agent:{self.memo['agent_id']}",
            "registered_by": f"registration:{self.memo['registration']}",
        }

    def __str__(self) -> str:
        memo = self.memo and {key: self.memo[key] for key in ("registration", "creator", "idempotency_key")}
        return f"SpiceDB {self.held or 'nothing'}; Temporal {memo or 'nothing'}"


NOTHING = World({}, None)


@dataclass(frozen=True)
class Scene:
    """One schedule name on the running stack."""

    stack: Stack
    name: str

    def world(self) -> World:
        """What the systems hold; they are asked directly, past the proxies."""
        return World(self.stack.held(self.name), self.stack.scheduled(self.name))

    def request(self, **schedule: Any) -> Request:
        """A create request of alice with an idempotency key."""
        return {**self.stack.request(self.name, interval_seconds=INTERVAL_SECONDS, **schedule), "idempotency_key": "k"}

    def request_of(self, **principal: Any) -> Request:
        """The same request of another principal; of none: of a service in its own name."""
        return {**self.request(), "principal": principal}

    def deletion(self) -> Request:
        """A delete request."""
        return self.stack.deletion(self.name)

    def earlier(self, request: Request, *, registered: bool = True, scheduled: bool = True) -> None:
        """Leave what another create leaves, its lease live; or only its relationships, or only its schedule."""
        step = TemporalCreateStep.parse(
            {"execution_id": f"earlier create of {self.name}", "request": request, "registered": True, "attempt": 0}
        )
        deadline = Deadline(ends_at=time.monotonic() + 10, per_call=5)
        if registered:
            spicedb().register_again(step.request, step.registration, step.execution_id, deadline)
        if scheduled:
            temporal().create(step.request, Memo.of(step), deadline, over_stray=False)


def _bobs(scene: Scene) -> Request:
    return {**scene.request_of(user_id="bob"), "idempotency_key": None}


def nothing(_: Scene) -> None:
    """The name is free; nobody else is about."""


def alice_made_it(scene: Scene) -> None:
    """The same request came before."""
    scene.earlier(scene.request())


def alice_made_it_long_ago(scene: Scene) -> None:
    """The same request came before, and the lease of that create is over."""
    alice_made_it(scene)
    scene.stack.end_lease(scene.name)


def alice_used_the_key(scene: Scene) -> None:
    """Another request came before with the same idempotency key."""
    scene.earlier(scene.request(workflow_name="Other"))


def a_service_made_it(scene: Scene) -> None:
    """The same request came before from a service in its own name, so that nobody owns the schedule."""
    scene.earlier(scene.request_of())


def bob_made_it(scene: Scene) -> None:
    """Bob has a schedule of this name."""
    scene.earlier(_bobs(scene))


def bob_is_making_it(scene: Scene) -> None:
    """Bob's create has registered and goes on."""
    scene.earlier(_bobs(scene), scheduled=False)


def bob_was_interrupted(scene: Scene) -> None:
    """Bob's create had registered when it was interrupted, and its lease is over."""
    bob_is_making_it(scene)
    scene.stack.end_lease(scene.name)


def bob_lost_it(scene: Scene) -> None:
    """Bob has a schedule of this name and its registration is gone: a stray."""
    scene.earlier(_bobs(scene), registered=False)


def the_first_attempt_is_lost(scene: Scene) -> None:
    """The schedule is created and the reply is lost."""
    scene.stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY)


def no_attempt_is_heard_of(scene: Scene) -> None:
    """The schedule is created and every reply is lost."""
    scene.stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY, times=3)


def no_delete_is_heard_of(scene: Scene) -> None:
    """The schedule is deleted and every reply is lost."""
    scene.stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY, times=3)


def a_delete_comes_after_the_second_attempt(scene: Scene) -> None:
    """The first attempt is lost; a delete is done before it is looked whether the second is there."""
    the_first_attempt_is_lost(scene)

    def delete() -> None:
        with scene.stack.spicedb.aside(), scene.stack.temporal.aside():
            scene.stack.delete(scene.name)

    scene.stack.temporal.on_call("DescribeSchedule", 1, delete)


def alices_create_comes_late(scene: Scene) -> None:
    """Alice's create makes its schedule again, and registers it again, before the delete looks again."""
    memo = scene.world().memo

    async def create() -> None:
        # Temporal may take a create with the same request id for a repeat, and make nothing.
        schedule = Schedule(
            action=ScheduleActionStartWorkflow("Report", id="late", task_queue="reports"), spec=ScheduleSpec()
        )
        await scene.stack.scheduler.create_schedule(
            ids.schedule_id(scene.stack.agent, scene.name), schedule, memo={MEMO_KEY: memo}
        )

    def come() -> None:
        with scene.stack.spicedb.aside():
            scene.stack.loop.run_until_complete(create())
            scene.earlier(scene.request(), scheduled=False)

    scene.stack.temporal.on_call("DescribeSchedule", 2, come)


@dataclass(frozen=True)
class Scenario:
    """One request, and what it meets.

    Attributes:
        steps: the states that the saga enters, in order, each with the calls that it makes there.
        answer: what the caller is told, as `answer` has it.
        retried: what the caller may be told instead once a step was retried; the same, if empty.
        again: what a repeat of the request is told as long as nothing of the first one stands; the same, if empty.
        request: what is asked.
        given: makes what both systems hold beforehand.
        meanwhile: arranges what goes on while the saga runs.
        cold: whether the functions connect anew.
    """

    name: str
    machine: str
    steps: list[str]
    answer: str
    request: Callable[[Scene], Request]
    given: Callable[[Scene], None] = nothing
    meanwhile: Callable[[Scene], None] = nothing
    retried: str = ""
    again: str = ""
    cold: bool = False

    @property
    def states(self) -> list[str]:
        """The states alone."""
        return [step.split()[0] for step in self.steps]

    @property
    def calls(self) -> Iterator[tuple[str, str, int]]:
        """Every call: the state, the method, and the number of the call among those of the method."""
        methods: list[str] = []
        for step in self.steps:
            state, *called = step.split()
            for method in called:
                methods.append(method)
                yield state, method, methods.count(method)


def answer(ended: Ended) -> str:
    """What an execution told its caller: the outcome in a word, or the name of the error."""
    if ended.status != "SUCCEEDED":
        return ended.error or ended.status
    if ended.output["outcome"] == "created":
        return "replayed" if ended.output["replayed"] else "created"
    return "deleted" if ended.output["deregistered"] else "deferred"


def _create(name: str, *steps: str, answer: str, **more: Any) -> Scenario:
    return Scenario(
        f"create{name}", "create-schedule", ["Accept", *steps], answer, **{"request": Scene.request, **more}
    )


def _delete(name: str, *steps: str, answer: str, **more: Any) -> Scenario:
    return Scenario(f"delete{name}", "delete-schedule", ["Accept", *steps], answer, request=Scene.deletion, **more)


REGISTERED = ("Register CheckPermission WriteRelationships", "RegisterOutcome")
OCCUPIED = ("Register CheckPermission WriteRelationships ReadRelationships", "RegisterOutcome")
SKIPPED = ("Register", "RegisterOutcome")
CREATED = ("CreateSchedule CreateSchedule", "CreateOutcome", "ReadBack DescribeSchedule", "Created")
RETRIED = ("CreateSchedule CreateSchedule CreateSchedule", "CreateOutcome")
CONFIRMED = ("ConfirmRegister WriteRelationships ReadRelationships", "VerifyCreate DescribeSchedule", "VerifyOutcome")
INSPECTED = ("InspectExisting DescribeSchedule", "InspectOutcome")
COMPENSATED = ("Compensate DeleteRelationships", "OriginalError", "Failed")
FOUND = ("FindSchedule DescribeSchedule", "Found")
DELETED = ("DeleteSchedule DeleteSchedule",)
LOOKED_AGAIN = ("LookAgain DescribeSchedule", "BroughtBack")
DEREGISTERED = ("Deregister ReadRelationships DeleteRelationships", "DeregisterOutcome")
NOT_DEREGISTERED = ("Deregister ReadRelationships", "DeregisterOutcome")

SCENARIOS = [
    _create("", *REGISTERED, *CREATED, answer="created"),
    _create(
        "-with-cold-functions",
        *REGISTERED,
        "CreateSchedule GetSystemInfo CreateSchedule",
        *CREATED[1:],
        answer="created",
        cold=True,
    ),
    _create("-without-creator", *SKIPPED, *CREATED, answer="created", request=Scene.request_of),
    _create(
        "-denied",
        "Register CheckPermission ReadRelationships",
        "OriginalError",
        "Failed",
        answer="AgentUpdateDenied",
        request=lambda scene: scene.request_of(user_id="mallory"),
    ),
    _create(
        "-rejected",
        *REGISTERED,
        "CreateSchedule CreateSchedule",
        "WasRegistered",
        *COMPENSATED,
        answer="ScheduleRejected",
        request=lambda scene: scene.request(cron_expression="nonsense"),
    ),
    _create(
        "-rejected-without-creator",
        *SKIPPED,
        "CreateSchedule CreateSchedule",
        "WasRegistered",
        "OriginalError",
        "Failed",
        answer="ScheduleRejected",
        request=lambda scene: {**scene.request(cron_expression="nonsense"), "principal": None},
    ),
    _create(
        "-retried", *REGISTERED, *RETRIED, *CONFIRMED, "Created", answer="created", meanwhile=the_first_attempt_is_lost
    ),
    _create(
        "-unheard",
        *REGISTERED,
        "CreateSchedule CreateSchedule CreateSchedule CreateSchedule",
        *CONFIRMED,
        "Created",
        answer="created",
        meanwhile=no_attempt_is_heard_of,
    ),
    _create(
        "-overtaken-by-a-delete",
        *REGISTERED,
        *RETRIED,
        *CONFIRMED,
        "Vanished",
        "WasRegistered",
        *COMPENSATED,
        answer="ScheduleNotFound",
        again="created",
        meanwhile=a_delete_comes_after_the_second_attempt,
    ),
    _create("-of-bobs-name", *OCCUPIED, *INSPECTED, "AlreadyExists", answer="ScheduleAlreadyExists", given=bob_made_it),
    _create(
        "-of-bobs-name-without-creator",
        *SKIPPED,
        "CreateSchedule CreateSchedule DescribeSchedule",
        "Conflict",
        *INSPECTED,
        "AlreadyExists",
        answer="ScheduleAlreadyExists",
        request=Scene.request_of,
        given=bob_made_it,
    ),
    _create(
        "-of-a-services-name",
        *REGISTERED,
        "CreateSchedule CreateSchedule DescribeSchedule",
        "Conflict",
        *COMPENSATED,
        answer="ScheduleAlreadyExists",
        given=a_service_made_it,
    ),
    _create("-replayed", *OCCUPIED, *INSPECTED, "Replayed", answer="replayed", given=alice_made_it),
    _create(
        "-replayed-without-creator",
        *SKIPPED,
        "CreateSchedule CreateSchedule DescribeSchedule",
        "Conflict",
        *INSPECTED,
        "Replayed",
        answer="replayed",
        request=Scene.request_of,
        given=a_service_made_it,
    ),
    _create(
        "-with-a-used-key",
        *OCCUPIED,
        *INSPECTED,
        "KeyReused",
        answer="IdempotencyKeyReused",
        given=alice_used_the_key,
    ),
    _create(
        "-beside-bobs",
        *OCCUPIED,
        *INSPECTED,
        "InProgress",
        answer="CreateInProgress",
        again="created",
        given=bob_is_making_it,
    ),
    _create(
        "-over-leftovers",
        *OCCUPIED,
        *INSPECTED,
        "ClearStale DeleteRelationships",
        *REGISTERED,
        *CREATED,
        answer="created",
        given=bob_was_interrupted,
    ),
    _create(
        "-over-a-stray",
        *REGISTERED,
        "CreateSchedule CreateSchedule DescribeSchedule DeleteSchedule CreateSchedule",
        *CREATED[1:],
        answer="created",
        retried="ScheduleAlreadyExists",  # by then the name may have changed hands: only a first attempt replaces
        given=bob_lost_it,
    ),
    _delete(
        "",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "Deleted",
        answer="deleted",
        given=alice_made_it,
    ),
    _delete(
        "-of-an-old-schedule",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        "Deleted",
        answer="deleted",
        given=alice_made_it_long_ago,
    ),
    _delete(
        "-unheard",
        *FOUND,
        "DeleteSchedule DeleteSchedule DeleteSchedule DeleteSchedule",
        "VerifyDelete DescribeSchedule",
        "VerifyOutcome",
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "Deleted",
        answer="deleted",
        given=alice_made_it,
        meanwhile=no_delete_is_heard_of,
    ),
    _delete(
        "-undone-by-a-late-create",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "Deleted",
        answer="deleted",
        given=alice_made_it,
        meanwhile=alices_create_comes_late,
    ),
    _delete("-of-leftovers", *FOUND, *DEREGISTERED, "Deleted", answer="deleted", given=bob_was_interrupted),
    _delete(
        "-beside-a-create",
        *FOUND,
        *NOT_DEREGISTERED,
        "Deleted",
        answer="deferred",
        again="deleted",
        given=bob_is_making_it,
    ),
    _delete(
        "-of-a-services-schedule",
        *FOUND,
        *DELETED,
        *NOT_DEREGISTERED,
        *LOOKED_AGAIN,
        "Deleted",
        answer="deleted",
        given=a_service_made_it,
    ),
    _delete("-of-nothing", *FOUND, *NOT_DEREGISTERED, "Deleted", answer="deleted"),
]
