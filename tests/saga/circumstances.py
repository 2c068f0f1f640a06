"""What an expected run meets: what others have left under the name before it, and what happens while it runs."""

from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from saga_core import ids
from saga_temporal import MEMO_KEY
from tests.saga.scene import Request, Scene
from tests.support.proxy import Fault


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
    memo = scene.holdings().memo

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
