"""The runs that the fault matrix is made of: what is requested, what the saga meets, and what it then does.

An expected run lists every state that its saga enters and every call that it makes there while nothing fails. The
matrix is made of these lists, and a test of its own shows that they are true: a new call or a new state has to be
listed here, and is then part of the matrix.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.saga.circumstances import (
    a_delete_comes_after_the_second_attempt,
    a_service_made_it,
    alice_granted_many,
    alice_lost_it,
    alice_made_it,
    alice_used_the_key,
    alices_create_comes_late,
    alices_create_comes_late_twice,
    alices_lease_runs,
    another_tool_deletes_it,
    another_tool_deletes_it_late,
    bob_is_making_it,
    bob_left_many,
    bob_lost_it,
    bob_made_it,
    bob_was_interrupted,
    many_are_granted_meanwhile,
    no_attempt_is_heard_of,
    no_delete_is_heard_of,
    nothing,
    someone_wrote_a_grant,
    the_first_attempt_is_lost,
    the_first_delete_is_lost,
    time_runs_out,
    time_runs_out_twice,
)
from tests.saga.scene import Request, Scene


@dataclass(frozen=True)
class ExpectedRun:
    """One request, what it meets, and how the saga then runs.

    Attributes:
        steps: the states that the saga enters, in order, each with the calls that it makes there.
        answer: what the caller gets, as `answer` names it.
        retried: what the caller may get instead after a step was retried; empty: the same.
        again: what a repeat of the request gets while nothing of the first one stands; empty: the same.
        again_beside: the same while the schedule stands that somebody deletes meanwhile.
        spent: whether what happens meanwhile takes the retries, so that a fault is like one that lasts.
        request: makes the request.
        given: makes what both systems hold before the run.
        meanwhile: arranges what happens during the run.
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
    again_beside: str = ""
    spent: bool = False
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


def _create(name: str, *steps: str, answer: str, **more: Any) -> ExpectedRun:
    return ExpectedRun(
        f"create{name}", "create-schedule", ["Accept", *steps], answer, **{"request": Scene.request, **more}
    )


def _delete(name: str, *steps: str, answer: str, **more: Any) -> ExpectedRun:
    return ExpectedRun(f"delete{name}", "delete-schedule", ["Accept", *steps], answer, request=Scene.deletion, **more)


REGISTERED = ("Register CheckPermission WriteRelationships", "RegisterOutcome")
OCCUPIED = ("Register CheckPermission WriteRelationships ReadRelationships", "RegisterOutcome")
SKIPPED = ("Register", "RegisterOutcome")
READ_BACK = ("ReadBack DescribeSchedule", "WasReadBack")
FINISHED = ("Finish", *READ_BACK, "HasLease", "EndLease WriteRelationships", "LeaseOver", "Created")
FINISHED_WITHOUT_LEASE = ("Finish", *READ_BACK, "HasLease", "LeaseOver", "Created")
CREATED = ("CreateSchedule CreateSchedule", "CreateOutcome", *FINISHED)
RETRIED = ("CreateSchedule CreateSchedule CreateSchedule", "CreateOutcome")
CONFIRMED = ("ConfirmRegister WriteRelationships ReadRelationships", "VerifyCreate DescribeSchedule", "VerifyOutcome")
INSPECTED = ("InspectExisting DescribeSchedule", "InspectOutcome")
CONFLICT = (
    "CreateSchedule CreateSchedule DescribeSchedule",
    "InspectConflict DescribeSchedule",
    "ConflictOutcome",
)
RESTORED = ("Restore WriteRelationships", "RestoreOutcome", "LookAfterRestore DescribeSchedule", "Restored")
FAILED = ("OriginalError", "Failed")
COMPENSATED = ("Compensate DeleteRelationships", "CompensateOutcome", *FAILED)
FOUND = ("FindSchedule DescribeSchedule", "Found")
DELETED = ("DeleteSchedule DeleteSchedule",)
LOOKED_AGAIN = ("LookAgain DescribeSchedule", "LookOutcome")
DEREGISTERED = ("Deregister DeleteRelationships", "DeregisterOutcome")
HELD = ("Deregister ReadRelationships", "DeregisterOutcome")
NOT_HELD = ("Deregister ReadRelationships ReadRelationships", "DeregisterOutcome")
# Something is held, and it has no fence: that is read as of the same moment.
UNFENCED = ("Deregister ReadRelationships ReadRelationships ReadRelationships", "DeregisterOutcome")
CLEARED = ("ClearLeft DeleteRelationships", "ClearOutcome")
DONE = ("Deregistered", "Deleted")
# The transaction is refused as too large; then the grants go in a batch, and the rest in a last transaction.
BATCHES = "DeleteRelationships DeleteRelationships DeleteRelationships"

EXPECTED_RUNS = [
    _create("", *REGISTERED, *CREATED, answer="created"),
    _create(
        "-with-cold-functions",
        *REGISTERED,
        "CreateSchedule GetSystemInfo CreateSchedule",
        *CREATED[1:],
        answer="created",
        cold=True,
    ),
    _create(
        "-without-creator",
        *SKIPPED,
        *CREATED[:2],
        *FINISHED_WITHOUT_LEASE,
        answer="created",
        request=Scene.request_of,
    ),
    _create(
        "-denied",
        "Register CheckPermission ReadRelationships ReadRelationships",
        *FAILED,
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
        *FAILED,
        answer="ScheduleRejected",
        request=lambda scene: {**scene.request(cron_expression="nonsense"), "principal": None},
    ),
    _create(
        "-rejected-with-many-grants",
        *REGISTERED,
        "CreateSchedule CreateSchedule",
        "WasRegistered",
        "Compensate DeleteRelationships",
        "CompensateOutcome",
        "CompensateOn",
        f"Compensate {BATCHES}",
        "CompensateOutcome",
        *FAILED,
        answer="ScheduleRejected",
        request=lambda scene: scene.request(cron_expression="nonsense"),
        meanwhile=many_are_granted_meanwhile,
    ),
    _create(
        "-retried", *REGISTERED, *RETRIED, *CONFIRMED, "Created", answer="created", meanwhile=the_first_attempt_is_lost
    ),
    _create(
        "-unheard",
        *REGISTERED,
        "CreateSchedule CreateSchedule CreateSchedule",
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
        spent=True,
    ),
    _create(
        "-of-a-reserved-name",
        *REGISTERED,
        "CreateSchedule CreateSchedule DescribeSchedule",
        "WasRegistered",
        *COMPENSATED,
        answer="NameReserved",
        retried="created",
        again="created",
        again_beside="ScheduleAlreadyExists",
        given=a_service_made_it,
        meanwhile=another_tool_deletes_it,
    ),
    _create("-of-bobs-name", *OCCUPIED, *INSPECTED, "AlreadyExists", answer="ScheduleAlreadyExists", given=bob_made_it),
    _create(
        "-of-bobs-name-without-creator",
        *SKIPPED,
        *CONFLICT,
        "AlreadyExists",
        answer="ScheduleAlreadyExists",
        request=Scene.request_of,
        given=bob_made_it,
    ),
    _create(
        "-of-a-services-name",
        *REGISTERED,
        *CONFLICT,
        *COMPENSATED,
        answer="ScheduleAlreadyExists",
        given=a_service_made_it,
    ),
    _create(
        "-of-a-name-that-nobody-owns",
        *REGISTERED,
        *CONFLICT,
        *COMPENSATED,
        answer="ScheduleAlreadyExists",
        given=bob_lost_it,
    ),
    _create("-replayed", *OCCUPIED, *INSPECTED, "Replayed", answer="replayed", given=alice_made_it),
    _create(
        "-replayed-without-creator",
        *SKIPPED,
        *CONFLICT,
        "Replayed",
        answer="replayed",
        request=Scene.request_of,
        given=a_service_made_it,
    ),
    _create(
        "-restored",
        *REGISTERED,
        *CONFLICT,
        *RESTORED,
        "Replayed",
        answer="replayed",
        retried="ScheduleAlreadyExists",  # unverified: whether the registration is restored is not known
        again="replayed",
        given=alice_lost_it,
    ),
    _create(
        "-restored-too-late",
        *REGISTERED,
        *CONFLICT,
        *RESTORED,
        "UndoRestore DeleteRelationships",
        "NotRestored",
        answer="ScheduleNotFound",
        retried="ScheduleAlreadyExists",  # it is deleted before its registration is restored
        again="created",
        again_beside="replayed",
        given=alice_lost_it,
        meanwhile=another_tool_deletes_it_late,
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
        "-over-many-leftovers",
        *OCCUPIED,
        *INSPECTED,
        "ClearStale DeleteRelationships",
        *OCCUPIED,
        *INSPECTED,
        "BeingFreed",
        answer="CreateInProgress",
        again="created",
        given=bob_left_many,
        meanwhile=time_runs_out,
    ),
    _create(
        "-over-a-grant",
        "Register CheckPermission WriteRelationships ReadRelationships ReadRelationships ReadRelationships",
        "RegisterOutcome",
        *INSPECTED,
        "ClearStale DeleteRelationships",
        *REGISTERED,
        *CREATED,
        answer="created",
        given=someone_wrote_a_grant,
    ),
    _delete(
        "",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=alice_made_it,
    ),
    _delete(
        "-while-a-lease-runs",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=alices_lease_runs,
    ),
    _delete(
        "-retried",
        *FOUND,
        "DeleteSchedule DeleteSchedule DescribeSchedule",
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=alice_made_it,
        meanwhile=the_first_delete_is_lost,
    ),
    _delete(
        "-unheard",
        *FOUND,
        "DeleteSchedule DeleteSchedule DescribeSchedule DeleteSchedule",
        "VerifyDelete DescribeSchedule",
        "VerifyOutcome",
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=alice_made_it,
        meanwhile=no_delete_is_heard_of,
        spent=True,
    ),
    _delete(
        "-undone-by-a-late-create",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "BroughtBack",
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        retried="OutcomeUnknown",  # it is deleted again only if its relationships were removed at the first attempt
        again="deleted",
        given=alice_made_it,
        meanwhile=alices_create_comes_late,
    ),
    _delete(
        "-undone-twice",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "BroughtBack",
        *DELETED,
        *DEREGISTERED,
        *LOOKED_AGAIN,
        "OutcomeUnknown",
        answer="OutcomeUnknown",
        retried="deleted",  # it is brought back while the delete is repeated, and only once after it
        again="deleted",
        given=alice_made_it,
        meanwhile=alices_create_comes_late_twice,
    ),
    _delete(
        "-of-many-grants",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        "DeregisterOn",
        f"Deregister {BATCHES}",
        "DeregisterOutcome",
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=alice_granted_many,
        meanwhile=time_runs_out,
    ),
    _delete(
        "-of-too-many-grants",
        *FOUND,
        *DELETED,
        *DEREGISTERED,
        "DeregisterOn",
        *DEREGISTERED,
        "DeregisterDeferred",
        "Deleted",
        answer="deferred",
        again="deleted",
        given=alice_granted_many,
        meanwhile=time_runs_out_twice,
    ),
    # A repeated clear does not find what it has cleared, and cannot say by whom it was removed.
    _delete(
        "-of-leftovers",
        *FOUND,
        *HELD,
        *LOOKED_AGAIN,
        *CLEARED,
        *DONE,
        answer="deleted",
        retried="deferred",
        again="deleted",
        given=bob_was_interrupted,
    ),
    _delete(
        "-of-a-grant",
        *FOUND,
        *UNFENCED,
        *LOOKED_AGAIN,
        *CLEARED,
        *DONE,
        answer="deleted",
        retried="deferred",
        again="deleted",
        given=someone_wrote_a_grant,
    ),
    _delete(
        "-beside-a-create",
        *FOUND,
        *HELD,
        *LOOKED_AGAIN,
        "HeldBack",
        "Deleted",
        answer="deferred",
        again="deleted",
        given=bob_is_making_it,
    ),
    _delete(
        "-of-a-services-schedule",
        *FOUND,
        *DELETED,
        "Deregister DeleteRelationships ReadRelationships ReadRelationships",
        "DeregisterOutcome",
        *LOOKED_AGAIN,
        *DONE,
        answer="deleted",
        given=a_service_made_it,
    ),
    _delete("-of-nothing", *FOUND, *NOT_HELD, *LOOKED_AGAIN, *DONE, answer="deleted"),
]
