"""Promises 1 to 7 of the design, each on the real engines: what SpiceDB and Temporal hold, the states, the answer.

They run with both of Temporal's schedulers, unless the command line names one.
"""

import json

import pytest

from local.stack.scheduler import Scheduler
from tests.support.proxy import Fault
from tests.support.saga_stack import Stack


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let each test run with every scheduler."""
    named = metafunc.config.getoption("--scheduler")
    metafunc.parametrize("scheduler", [named] if named else [Scheduler.V1, Scheduler.CHASM], ids=str, scope="module")


def test_1_register_writes_edge_owner_fence_and_lease_before_temporal_is_touched(stack: Stack) -> None:
    held: list[dict[str, str]] = []
    stack.temporal.on_call("CreateSchedule", 1, lambda: held.append(stack.held()))

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert held == [stack.registered(by=created, leased=True)]
    assert created.states == [
        "Accept",
        "Register",
        "RegisterOutcome",
        "CreateSchedule",
        "CreateOutcome",
        "Finish",
        "Created",
    ]
    assert created.branch_states == ["EndLease", "HasLease", "LeaseOver", "ReadBack", "WasReadBack"]
    assert created.output.pop("schedule")["schedule_id"] == f"{stack.agent}--daily"
    assert created.output == {
        "outcome": "created",
        "schedule_id": f"{stack.agent}--daily",
        "registered": True,
        "read_back": True,
        "replayed": False,
    }
    assert stack.held() == stack.registered(by=created)
    memo = stack.scheduled()
    assert memo
    assert memo["registration"] == created.registration
    assert memo["creator"] == "user:alice"
    assert stack.spicedb.calls.count("WriteRelationships") == 2, "one transaction, and the end of the lease"


def test_1_nothing_is_asked_of_temporal_while_register_has_not_answered(stack: Stack) -> None:
    stack.spicedb.inject("WriteRelationships", Fault.REFUSED)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.waits(created) == ["Register"]
    assert stack.temporal.calls.count("CreateSchedule") == 1


def test_2_a_denied_register_means_that_temporal_is_never_called(stack: Stack) -> None:
    request = {**stack.request(), "principal": {"user_id": "mallory"}}

    denied = stack.create(request)

    assert (denied.status, denied.error) == ("FAILED", "AgentUpdateDenied")
    assert denied.message == f"the creator may not update agent {stack.agent}"
    assert denied.states == ["Accept", "Register", "OriginalError", "Failed"]
    assert stack.temporal.calls == []
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_2_an_unavailable_spicedb_means_that_temporal_is_never_called(stack: Stack) -> None:
    stack.spicedb.inject("CheckPermission", Fault.REFUSED, times=None)

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "AuthorizationUnavailable")
    assert failed.message == "SpiceDB: UNAVAILABLE"
    assert failed.states == ["Accept", "Register", "Compensate", "CompensateOutcome", "OriginalError", "Failed"]
    assert stack.waits(failed) == ["Register"]
    assert stack.temporal.calls == []
    assert stack.held() == {}


def test_3_a_rejected_create_is_compensated_and_the_caller_sees_temporals_error(stack: Stack) -> None:
    failed = stack.create(stack.request(cron_expression="every other day"))

    assert (failed.status, failed.error) == ("FAILED", "ScheduleRejected")
    assert failed.message == (
        "Temporal rejects the schedule (it checks schedule.task_queue, schedule.cron_expression): "
        "CronString does not have 5-7 fields"
    )
    assert failed.states == [
        *(
            "Accept",
            "Register",
            "RegisterOutcome",
            "CreateSchedule",
            "WasRegistered",
            "Compensate",
            "CompensateOutcome",
            "OriginalError",
            "Failed",
        ),
    ]
    assert stack.waits(failed) == [], "what cannot get better is not tried again"
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_3_a_create_that_never_reached_temporal_is_compensated_with_the_original_error(stack: Stack) -> None:
    stack.temporal.inject("CreateSchedule", Fault.REFUSED, times=None)

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "TemporalUnavailable")
    assert failed.message == "Temporal: UNAVAILABLE"
    assert failed.states[4:7] == ["ConfirmRegister", "VerifyCreate", "VerifyOutcome"]
    assert failed.states[7:] == ["WasRegistered", "Compensate", "CompensateOutcome", "OriginalError", "Failed"]
    assert stack.waits(failed) == ["CreateSchedule"]
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_3_a_compensation_that_fails_too_says_so_with_both_errors(stack: Stack) -> None:
    stack.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)

    failed = stack.create(stack.request(cron_expression="every other day"))

    assert (failed.status, failed.error) == ("FAILED", "CompensationFailed")
    errors = json.loads(failed.cause or "")
    assert errors["original"]["Error"] == "ScheduleRejected"
    assert errors["compensation"]["Error"] == "AuthorizationUnavailable"
    assert failed.states[-2:] == ["Compensate", "CompensationFailed"]
    assert stack.waits(failed) == ["Compensate"] * 2
    assert stack.held() == stack.registered(by=failed, leased=True), "what is left is fenced, for the reconciler"


def test_4_a_failed_read_back_never_compensates(stack: Stack) -> None:
    stack.temporal.inject("DescribeSchedule", Fault.REFUSED, times=None)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert "NotReadBack" in created.branch_states
    assert created.output == {
        "outcome": "created",
        "schedule_id": f"{stack.agent}--daily",
        "registered": True,
        "read_back": False,
        "replayed": False,
        "schedule": None,
    }
    assert stack.held() == stack.registered(by=created)
    assert stack.scheduled()


def test_5_without_a_creator_registration_is_skipped_with_a_warning_and_a_metric(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    created = stack.create({**stack.request(), "principal": None})

    assert created.status == "SUCCEEDED"
    assert created.output["registered"] is False
    assert stack.held() == {}
    assert stack.spicedb.calls == []
    memo = stack.scheduled()
    assert memo
    assert memo["creator"] is None
    metrics = [json.loads(line) for line in capfd.readouterr().out.splitlines() if '"RegistrationSkipped"' in line]
    assert [metric["RegistrationSkipped"] for metric in metrics] == [[1.0]]


def test_5_a_failed_create_without_a_creator_has_nothing_to_compensate(stack: Stack) -> None:
    failed = stack.create({**stack.request(cron_expression="nonsense"), "principal": {}})

    assert (failed.status, failed.error) == ("FAILED", "ScheduleRejected")
    assert failed.states[-3:] == ["WasRegistered", "OriginalError", "Failed"]
    assert stack.spicedb.calls == []


def test_6_delete_goes_to_temporal_first_and_removes_every_relationship(stack: Stack) -> None:
    stack.create()
    stack.grant("viewer", "user:bob")
    stack.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)

    stack.delete()
    assert stack.scheduled() is None, "Temporal first: it is gone although SpiceDB was down"
    assert stack.held()["viewer"] == "user:bob"

    stack.spicedb.clear()
    deleted = stack.delete()

    assert deleted.status == "SUCCEEDED"
    assert deleted.states == [
        *("Accept", "FindSchedule", "Found", "Deregister", "DeregisterOutcome", "LookAgain", "LookOutcome"),
        *("ClearLeft", "ClearOutcome", "Deregistered", "Deleted"),
    ]
    assert deleted.output == {
        "outcome": "deleted",
        "schedule_id": f"{stack.agent}--daily",
        "existed": False,
        "deregistered": True,
    }
    assert stack.held() == {}


def test_6_a_delete_leaves_nothing_in_either_system(stack: Stack) -> None:
    stack.create()

    deleted = stack.delete()

    assert deleted.output["existed"] is True
    assert deleted.output["deregistered"] is True
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_6_a_delete_that_temporal_does_not_answer_fails_and_deregisters_nothing(stack: Stack) -> None:
    created = stack.create()
    stack.temporal.inject("DeleteSchedule", Fault.REFUSED, times=None)

    failed = stack.delete()

    assert (failed.status, failed.error) == ("FAILED", "TemporalUnavailable")
    assert failed.states[3:] == ["DeleteSchedule", "VerifyDelete", "VerifyOutcome", "OriginalError", "Failed"]
    assert stack.held() == stack.registered(by=created)
    assert stack.scheduled()


def test_7_a_deregister_that_stays_broken_neither_blocks_nor_fails_the_delete(stack: Stack) -> None:
    created = stack.create()
    stack.spicedb.cut()

    deleted = stack.delete()

    assert deleted.status == "SUCCEEDED"
    assert deleted.states[2:] == [
        *("Found", "DeleteSchedule", "Deregister", "LookAnyway", "LookedAnyway", "DeregisterDeferred", "Deleted"),
    ]
    assert deleted.output["deregistered"] is False
    assert stack.waits(deleted) == ["Deregister"]
    assert stack.scheduled() is None
    assert stack.held() == stack.registered(by=created)


def test_7_deleting_what_is_in_neither_system_is_no_error(stack: Stack) -> None:
    deleted = stack.delete("never-was")

    assert deleted.output["existed"] is False
    assert deleted.output["deregistered"] is True
