"""What a saga does when an engine is down, a reply is lost or late, or a function dies: at each of its steps."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError

from functions.register import app as register
from local.aws.lambda_runtime import LambdaRuntime
from local.stack.endpoints import SPICEDB_TOKEN, Endpoints
from local.stack.process import HOST
from saga_core import connections, secret_store
from tests.saga.circumstances import alices_create_comes_late
from tests.saga.scene import Scene
from tests.support.proxy import Fault, KeyProxy, serving
from tests.support.saga_stack import Ended, Stack
from tests.support.secrets_manager import Refusal, SecretsManager, secrets_manager
from tools.platform_errors import INACTIVE_SECONDS

COMPENSATED = ["Compensate", "CompensateOutcome", "OriginalError", "Failed"]
FAILED_CREATE = ["WasRegistered", *COMPENSATED]


def test_a_register_whose_reply_is_lost_is_recognized_as_its_own_when_it_is_retried(stack: Stack) -> None:
    stack.spicedb.inject("WriteRelationships", Fault.LOST_REPLY)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.waits(created) == ["Register"]
    assert stack.held() == stack.registered(by=created)


def test_a_register_whose_replies_stay_lost_is_compensated(stack: Stack) -> None:
    stack.spicedb.inject("WriteRelationships", Fault.LOST_REPLY, times=None)

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "AuthorizationUnavailable")
    assert failed.states == ["Accept", "Register", *COMPENSATED]
    assert stack.held() == {}
    assert stack.temporal.calls == []


def test_a_repeated_register_is_not_denied_what_it_was_allowed_the_first_time(stack: Stack) -> None:
    """Otherwise a permission withdrawn in between would leave the first attempt's relationships behind."""
    stack.spicedb.inject("WriteRelationships", Fault.LOST_REPLY)
    stack.on_wait("Register", lambda: stack.disown("alice"))

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.held() == stack.registered(by=created)


def test_a_create_whose_reply_is_lost_is_repeated_with_the_same_request_id(stack: Stack) -> None:
    stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert created.states[4:] == ["CreateOutcome", "ConfirmRegister", "VerifyCreate", "VerifyOutcome", "Created"]
    assert stack.waits(created) == ["CreateSchedule"]
    assert stack.held() == stack.registered(by=created, leased=True), "an attempt may still be on its way"


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.SLOW, Fault.KILLED_AFTER])
def test_a_create_that_landed_unheard_is_looked_up_and_not_undone(stack: Stack, fault: Fault) -> None:
    stack.temporal.inject("CreateSchedule", fault, times=None)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert created.states[3:] == ["CreateSchedule", "ConfirmRegister", "VerifyCreate", "VerifyOutcome", "Created"]
    assert created.output["read_back"] is True
    assert stack.held() == stack.registered(by=created, leased=True)
    assert stack.scheduled()


def test_a_create_that_can_neither_be_heard_nor_looked_up_is_compensated_and_says_so(stack: Stack) -> None:
    stack.delete()  # the functions are connected
    stack.temporal.cut()

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "TemporalUnavailable")
    assert failed.states[3:] == [
        "CreateSchedule",
        "ConfirmRegister",
        "VerifyCreate",
        "NotVerified",
        "Unverified",
        *FAILED_CREATE,
    ]
    assert (failed.cause or "").startswith("outcome unverified (TemporalUnavailable): ")
    assert "Temporal: UNAVAILABLE" in (failed.cause or "")
    assert "cut off by the test" not in (failed.cause or "")
    assert stack.held() == {}


def test_spicedb_going_down_after_register_leaves_a_fenced_registration_and_an_alarm(stack: Stack) -> None:
    stack.temporal.inject("CreateSchedule", Fault.REFUSED, times=None)
    stack.on_wait("CreateSchedule", stack.spicedb.cut)

    failed = stack.create()

    assert failed.error == "CompensationFailed"
    assert failed.states[-1] == "CompensationFailed"
    assert stack.held() == stack.registered(by=failed, leased=True)


def test_a_compensation_whose_reply_is_lost_is_repeated_and_finds_nothing_which_is_success(stack: Stack) -> None:
    stack.spicedb.inject("DeleteRelationships", Fault.LOST_REPLY)

    failed = stack.create(stack.request(cron_expression="nonsense"))

    assert failed.error == "ScheduleRejected"
    assert stack.waits(failed) == ["Compensate"]
    assert stack.held() == {}


@pytest.mark.parametrize(
    ("rpc", "expected"),
    [
        ("CheckPermission", ["Accept", "Register", *COMPENSATED]),
        ("WriteRelationships", ["Accept", "Register", *COMPENSATED]),
    ],
)
def test_a_register_function_that_dies_every_time_is_compensated(stack: Stack, rpc: str, expected: list[str]) -> None:
    stack.spicedb.inject(rpc, Fault.KILLED_AFTER, times=None)

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "Runtime.ExitError")
    assert "Runtime exited" in failed.message
    assert failed.states == expected
    assert stack.held() == {}
    assert stack.temporal.calls == []


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
def test_a_function_that_dies_once_is_invoked_again(stack: Stack, fault: Fault) -> None:
    stack.spicedb.inject("WriteRelationships", fault)
    stack.temporal.inject("CreateSchedule", fault)
    stack.temporal.inject("DescribeSchedule", fault)

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.waits(created) == ["Register", "CreateSchedule", "VerifyCreate"]
    assert created.output["read_back"] is True
    assert stack.held() == stack.registered(by=created, leased=True)


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.LOST_REPLY])
def test_a_delete_is_repeated_until_it_is_done(stack: Stack, fault: Fault) -> None:
    stack.create()
    stack.temporal.inject("DescribeSchedule", fault)
    stack.spicedb.inject("DeleteRelationships", fault)

    deleted = stack.delete()

    assert deleted.output["deregistered"] is True
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_a_delete_that_landed_unheard_is_looked_up_and_finished(stack: Stack) -> None:
    stack.create()
    stack.temporal.inject("DeleteSchedule", Fault.REFUSED)
    stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY)

    deleted = stack.delete()

    assert deleted.output["deregistered"] is True
    assert deleted.states[3:7] == ["DeleteSchedule", "VerifyDelete", "VerifyOutcome", "Deregister"]
    assert stack.held() == {}


def test_a_delete_that_can_neither_be_heard_nor_looked_up_says_so_and_a_repeat_finishes_it(stack: Stack) -> None:
    stack.create()
    stack.temporal.inject("DeleteSchedule", Fault.LOST_REPLY, times=None)
    stack.on_wait("DeleteSchedule", stack.temporal.cut)

    failed = stack.delete()
    assert failed.error == "TemporalUnavailable"
    assert (failed.cause or "").startswith("outcome unverified")
    assert stack.held()

    stack.temporal.clear()
    assert stack.delete().output["deregistered"] is True
    assert stack.held() == {}


def test_a_schedule_that_a_late_attempt_brings_back_is_found_by_the_delete(stack: Stack) -> None:
    """The create's first attempt lands unheard; the delete removes all of it; the second attempt comes after."""
    deleted: list[Ended] = []
    stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY)
    stack.on_wait("CreateSchedule", lambda: deleted.append(stack.delete()))

    created = stack.create()

    assert deleted[0].output["existed"] is True
    assert "LookAgain" in deleted[0].states
    # Temporal may take the late attempt for a repeat of what was deleted, or create anew: both end in step.
    if created.status == "SUCCEEDED":
        assert stack.scheduled()
        assert stack.held() == stack.registered(by=created, leased=True)
    else:
        assert created.error == "ScheduleNotFound"
        assert stack.scheduled() is None
        assert stack.held() == {}


def test_a_delete_that_temporal_acknowledges_and_does_not_do_is_repeated(stack: Stack) -> None:
    """CHASM does that where its own half of a delete fails, and that of V1's sentinel succeeds."""
    stack.create()
    stack.temporal.acknowledge("DeleteSchedule")

    deleted = stack.delete()

    assert "BroughtBack" in deleted.states
    assert (deleted.output["existed"], deleted.output["deregistered"]) == (True, True)
    assert (stack.scheduled(), stack.held()) == (None, {})


def test_a_delete_that_neither_temporal_nor_spicedb_did_is_no_success_and_a_repeat_finishes_it(stack: Stack) -> None:
    created = stack.create()
    stack.temporal.acknowledge("DeleteSchedule")
    stack.spicedb.cut()

    deleted = stack.delete()

    assert (deleted.status, deleted.error) == ("FAILED", "OutcomeUnknown")
    assert str(deleted.cause).endswith("could not be settled; repeat the delete")
    assert stack.scheduled()
    assert stack.held() == stack.registered(by=created)

    stack.spicedb.clear()
    assert stack.delete().output["deregistered"] is True
    assert (stack.scheduled(), stack.held()) == (None, {})


def test_a_rotated_token_is_read_anew_at_the_next_try(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REPLACE_SECONDS", 0)
    monkeypatch.setattr(secret_store, "READ_AGAIN_SECONDS", 0)
    stack.reconnect()
    secrets = ["local", "old"]
    monkeypatch.setattr(secret_store, "read_secret", lambda *_: secrets[-1])
    stack.on_wait("Register", secrets.pop)
    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.waits(created) == ["Register"]
    stack.reconnect()


def test_a_wrong_token_is_an_unavailability_and_never_shown(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.reconnect()
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "plain:hunter2")

    failed = stack.create()

    assert failed.error == "CompensationFailed", "nothing of SpiceDB answers, the compensation included"
    assert "does not accept the token (SPICEDB_TOKEN_SECRET)" in (failed.cause or "")
    assert "hunter2" not in (failed.cause or "")
    assert stack.held() == {}
    assert stack.temporal.calls == [], "no schedule is made that nobody owns"
    stack.reconnect()


@pytest.fixture
def secrets(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsManager]:
    """The Secrets Manager that holds the stack's token."""
    with secrets_manager(monkeypatch) as manager:
        secret_store._client.cache_clear()
        monkeypatch.setenv("SPICEDB_TOKEN_SECRET", manager.hold("token", SPICEDB_TOKEN))
        stack.reconnect()
        yield manager
    secret_store._client.cache_clear()
    stack.reconnect()


def test_a_token_that_may_not_be_read_ends_the_create_before_anything_is_asked(
    stack: Stack, secrets: SecretsManager
) -> None:
    secrets.hold("token", Refusal("AccessDeniedException"))

    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "ConfigurationError")
    assert "the secret of SPICEDB_TOKEN_SECRET: AccessDeniedException" in (failed.cause or "")
    assert failed.states == ["Accept", "Register", "OriginalError", "Failed"]
    assert stack.waits(failed) == [], "nothing here gets better by trying again"
    assert stack.spicedb.calls == stack.temporal.calls == []


def test_a_compensation_that_finds_secrets_manager_throttled_is_tried_again(
    stack: Stack, secrets: SecretsManager
) -> None:
    stack.temporal.inject("CreateSchedule", Fault.REFUSED, times=None)

    def throttle() -> None:
        secrets.hold("token", Refusal("ThrottlingException"))
        stack.reconnect()

    stack.temporal.on_call("DescribeSchedule", 1, throttle)
    stack.on_wait("Compensate", lambda: secrets.hold("token", SPICEDB_TOKEN))
    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "TemporalUnavailable")
    assert "Compensate" in stack.waits(failed)
    assert stack.held() == {}


def test_a_register_that_may_have_landed_is_said_to_be_left_if_a_setting_is_wrong_by_then(
    stack: Stack, secrets: SecretsManager
) -> None:
    stack.spicedb.inject("WriteRelationships", Fault.LOST_REPLY)

    def forbid() -> None:
        secrets.hold("token", Refusal("AccessDeniedException"))
        stack.reconnect()

    stack.on_wait("Register", forbid)
    failed = stack.create()

    assert (failed.status, failed.error) == ("FAILED", "CompensationFailed")
    assert "whether an earlier attempt took effect is not known" in (failed.cause or "")
    assert stack.temporal.calls == [], "no schedule is made that nobody owns"
    assert stack.held() != {}


def test_a_key_that_temporal_refuses_compensates_the_create_and_is_never_shown(
    stack: Stack, running_engines: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.reconnect()
    gate = KeyProxy(running_engines.temporal)
    gate.refusal, gate.open_methods = grpc.StatusCode.PERMISSION_DENIED, frozenset({"GetSystemInfo"})
    with serving(gate) as port:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"{HOST}:{port}")
        monkeypatch.setenv("TEMPORAL_API_KEY_SECRET", "plain:hunter2")
        failed = stack.create()
        stack.reconnect()

    assert (failed.status, failed.error) == ("FAILED", "ConfigurationError")
    assert failed.states[4:6] == ["WasRegistered", "Compensate"]
    assert "TEMPORAL_API_KEY_SECRET" in (failed.cause or "")
    assert not (failed.cause or "").startswith("outcome unverified"), "nothing was made, and that is known"
    assert "hunter2" not in (failed.cause or "")
    assert stack.waits(failed) == [], "nothing here gets better by trying again"
    assert stack.held() == {}
    assert stack.scheduled() is None


def test_a_key_that_is_refused_after_an_attempt_that_may_have_landed_leaves_the_outcome_unknown(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.temporal.inject("CreateSchedule", Fault.LOST_REPLY)

    def turn_away() -> None:
        stack.reconnect()
        monkeypatch.delenv("TEMPORAL_NAMESPACE")

    stack.on_wait("CreateSchedule", turn_away)
    failed = stack.create()
    stack.reconnect()

    assert (failed.status, failed.error) == ("FAILED", "TemporalUnavailable")
    assert (failed.cause or "").startswith("outcome unverified")


@pytest.mark.parametrize(
    ("missing", "state"), [("SPICEDB_ENDPOINT", "Register"), ("TEMPORAL_NAMESPACE", "CreateSchedule")]
)
def test_a_function_without_its_environment_names_the_variable(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, missing: str, state: str
) -> None:
    stack.reconnect()
    monkeypatch.delenv(missing)

    failed = stack.create()

    assert state in failed.states
    assert missing in (failed.cause or "")
    assert stack.waits(failed) == [], "nothing here gets better by trying again"
    stack.reconnect()


class Hung:
    """Invocations of one function that never answer, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
        self.let_go = threading.Event()
        invoke: Callable[..., Any] = LambdaRuntime.invoke

        def hang(runtime: LambdaRuntime, name: str, payload: bytes) -> Any:
            if function in name:
                self.let_go.wait()
            return invoke(runtime, name, payload)

        monkeypatch.setattr(LambdaRuntime, "invoke", hang)


class Inactive:
    """A function in a VPC that was not called for weeks: the first invocations are refused, and run nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        invoke: Callable[..., Any] = LambdaRuntime.invoke

        def refuse(runtime: LambdaRuntime, name: str, payload: bytes) -> Any:
            if self.errors and function in name:
                refusal: Any = {
                    "Error": {"Code": self.errors.pop(0), "Message": "not ready"},
                    "ResponseMetadata": {"HTTPStatusCode": 502, "RequestId": "1"},
                }
                raise ClientError(refusal, "Invoke")
            return invoke(runtime, name, payload)

        monkeypatch.setattr(LambdaRuntime, "invoke", refuse)


def slept(stack: Stack, ended: Ended, state: str) -> float:
    """Seconds that an execution has waited in a state before retries."""
    return sum(each.seconds for each in stack.backoffs if (each.execution_arn, each.state) == (ended.arn, state))


BECOMING_ACTIVE = ["ResourceNotReadyException", "ResourceConflictException"]


def test_a_compensation_waits_until_its_function_is_active(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    inactive = Inactive(monkeypatch, "compensate", BECOMING_ACTIVE)

    failed = stack.create(stack.request(cron_expression="every other day"))

    assert inactive.errors == []
    assert (failed.status, failed.error) == ("FAILED", "ScheduleRejected")
    assert slept(stack, failed, "Compensate") >= INACTIVE_SECONDS
    assert stack.held() == {}


def test_a_delete_waits_until_the_function_that_removes_the_relationships_is_active(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.create()
    Inactive(monkeypatch, "deregister", BECOMING_ACTIVE)

    deleted = stack.delete()

    assert deleted.output["deregistered"] is True
    assert slept(stack, deleted, "Deregister") >= INACTIVE_SECONDS
    assert stack.held() == {}


def test_a_schedule_that_is_brought_back_during_that_wait_is_not_deleted_again_in_the_time_that_is_left(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(stack, "daily")
    scene.earlier(scene.request())
    alices_create_comes_late(scene)
    Inactive(monkeypatch, "deregister", BECOMING_ACTIVE)

    unknown = stack.delete()

    assert (unknown.status, unknown.error) == ("FAILED", "OutcomeUnknown")
    assert unknown.states.count("DeleteSchedule") == 1
    stack.end_lease()
    assert stack.delete().output["deregistered"] is True
    assert stack.scheduled() is None


@pytest.mark.parametrize("error", sorted(set(BECOMING_ACTIVE) | {"ServiceException", "EC2ThrottledException"}))
def test_a_register_is_repeated_after_a_failure_inside_lambda(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    Inactive(monkeypatch, "register", [error])

    created = stack.create()

    assert created.status == "SUCCEEDED"
    assert stack.waits(created) == ["Register"]


def test_a_task_that_times_out_is_compensated_and_the_caller_sees_the_timeout(
    hasty: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = Hung(monkeypatch, "temporal-create")
    try:
        failed = hasty.create()
    finally:
        hung.let_go.set()

    assert (failed.status, failed.error) == ("FAILED", "States.Timeout")
    assert failed.states[3:] == ["CreateSchedule", "ConfirmRegister", "VerifyCreate", "VerifyOutcome", *FAILED_CREATE]
    assert hasty.waits(failed) == ["CreateSchedule"]
    assert hasty.held() == {}


def test_a_function_that_lambda_cuts_off_is_repeated_and_then_compensated(
    hasty: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(register, "handler", lambda _event, _context: let_go.wait())
    try:
        failed = hasty.create()
    finally:
        let_go.set()

    assert (failed.status, failed.error) == ("FAILED", "Sandbox.Timedout")
    assert "timed out" in failed.message
    assert failed.states == ["Accept", "Register", *COMPENSATED]
    assert hasty.temporal.calls == []
    assert hasty.held() == {}
