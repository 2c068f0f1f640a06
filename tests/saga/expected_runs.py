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
    alice_made_it,
    alice_made_it_long_ago,
    alice_used_the_key,
    alices_create_comes_late,
    bob_is_making_it,
    bob_lost_it,
    bob_made_it,
    bob_was_interrupted,
    no_attempt_is_heard_of,
    no_delete_is_heard_of,
    nothing,
    the_first_attempt_is_lost,
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
