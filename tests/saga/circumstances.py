"""What an expected run meets: what others have left under the name before it, and what happens while it runs."""

from contextlib import suppress

from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleAlreadyRunningError, ScheduleSpec

from saga_core import ids
from saga_spicedb.messages import BATCH
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


def alices_lease_runs(scene: Scene) -> None:
    """The same request came before, and that create could not end its lease."""
    alice_made_it(scene)
    scene.stack.lease(scene.name)


def alice_lost_it(scene: Scene) -> None:
    """The same request came before, and nobody owns its schedule: the registration is gone."""
    scene.earlier(scene.request(), registered=False)


def alice_granted_many(scene: Scene) -> None:
    """The same request came before, and the schedule has more relationships than a transaction deletes."""
    alice_made_it(scene)
    many_are_granted(scene)


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
    """Bob has a schedule of this name that nobody owns: its registration is gone."""
    scene.earlier(_bobs(scene), registered=False)


def bob_left_many(scene: Scene) -> None:
    """Bob's create was interrupted, and left more relationships than a transaction deletes."""
    bob_was_interrupted(scene)
    many_are_granted(scene)


def someone_wrote_a_grant(scene: Scene) -> None:
    """There is a relationship that no operation has written, and nothing else."""
    scene.stack.grant("viewer", "user:bob", name=scene.name)


def many_are_granted(scene: Scene) -> None:
    """Grants bring the relationships to one more than a transaction deletes, beside owner, parent_agent and fence."""
    scene.stack.grant("viewer", *(f"user:viewer-{number}" for number in range(BATCH - 2)), name=scene.name)


def the_first_attempt_is_lost(scene: Scene) -> None:
    """The schedule is created and the reply is lost."""
    scene.stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY)


def no_attempt_is_heard_of(scene: Scene) -> None:
    """The schedule is created and every reply is lost."""
    scene.stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY, times=2)


def the_first_delete_is_lost(scene: Scene) -> None:
    """The schedule is deleted and the reply is lost."""
    scene.stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY)


def no_delete_is_heard_of(scene: Scene) -> None:
    """The first attempt is refused, and the reply to the second is lost."""
    scene.stack.temporal.inject("DeleteSchedule", Fault.REFUSED)
    scene.stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY)


def many_are_granted_meanwhile(scene: Scene) -> None:
    """The schedule that is being created gets more grants than a transaction deletes; there is no time for all."""
    scene.stack.temporal.on_call("CreateSchedule", 1, lambda: many_are_granted(scene))
    time_runs_out(scene)


def time_runs_out(scene: Scene) -> None:
    """The first function that removes in batches has no time for one."""
    scene.stack.batch_times[:] = [False]


def time_runs_out_twice(scene: Scene) -> None:
    """The first two functions that remove in batches have no time for one."""
    scene.stack.batch_times[:] = [False, False]


def another_tool_deletes_it(scene: Scene) -> None:
    """The schedule is deleted in Temporal before it is looked at."""
    _deleted_before_look(scene, 1)


def another_tool_deletes_it_late(scene: Scene) -> None:
    """The schedule is deleted in Temporal after its registration was restored, before it is looked at again."""
    _deleted_before_look(scene, 3)


def _deleted_before_look(scene: Scene, number: int) -> None:
    scene.stack.temporal.on_call("DescribeSchedule", number, lambda: scene.stack.delete_by_hand(scene.name))


def a_delete_comes_after_the_second_attempt(scene: Scene) -> None:
    """The first attempt is lost; a delete is done before it is looked whether the second is there."""
    the_first_attempt_is_lost(scene)

    def delete() -> None:
        with scene.stack.spicedb.aside(), scene.stack.temporal.aside():
            scene.stack.delete(scene.name)

    scene.stack.temporal.on_call("DescribeSchedule", 1, delete)


def alices_create_comes_late(scene: Scene) -> None:
    """Alice's create makes its schedule again, and registers it again, before the delete looks again."""
    _created_before_look(scene, 2)


def alices_create_comes_late_twice(scene: Scene) -> None:
    """The same, and once more before the delete looks a third time."""
    _created_before_look(scene, 2, 3)


def _created_before_look(scene: Scene, *numbers: int) -> None:
    memo = scene.holdings().memo

    async def create() -> None:
        # Temporal may take a create with the same request id for a repeat, and make nothing.
        schedule = Schedule(
            action=ScheduleActionStartWorkflow("Report", id="late", task_queue="reports"), spec=ScheduleSpec()
        )
        with suppress(ScheduleAlreadyRunningError):  # it may not be deleted yet
            await scene.stack.scheduler.create_schedule(
                ids.schedule_id(scene.stack.agent, scene.name), schedule, memo={MEMO_KEY: memo}
            )

    def come() -> None:
        with scene.stack.spicedb.aside():
            scene.stack.loop.run_until_complete(create())
            scene.earlier(scene.request(), scheduled=False)

    for number in numbers:
        scene.stack.temporal.on_call("DescribeSchedule", number, come)
