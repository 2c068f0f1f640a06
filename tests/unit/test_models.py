from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from saga_core.errors import InvalidRequest
from saga_core.ids import Subject
from saga_core.requests import CreateRequest, DeleteRequest, Principal
from saga_core.steps import CreateStep, Memo

SCHEDULE = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 60}
REQUEST = {"agent_id": "agent0", "schedule": SCHEDULE, "principal": {"user_id": "alice"}}


def with_schedule(**changes: Any) -> dict[str, Any]:
    return {**REQUEST, "schedule": {**SCHEDULE, **changes}}


def without(field: str) -> dict[str, Any]:
    return {**REQUEST, "schedule": {key: value for key, value in SCHEDULE.items() if key != field}}


def test_a_plain_request_is_accepted_with_its_defaults() -> None:
    request = CreateRequest.parse(REQUEST)

    assert request.schedule_id == "agent0--daily"
    assert request.creator == Subject("user", "alice")
    assert request.schedule.paused is False


def test_optional_fields_may_be_null() -> None:
    nothing = dict.fromkeys(("workflow_params", "cron_expression", "start_at", "end_at", "timezone", "overlap_policy"))

    assert CreateRequest.parse(with_schedule(**nothing)) == CreateRequest.parse(REQUEST)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ([], "input"),
        ("text", "input"),
        (None, "input"),
        ({"schedule": SCHEDULE}, "agent_id"),
        ({"agent_id": "agent0"}, "schedule"),
        ({**REQUEST, "agent_id": 7}, "agent_id"),
        ({**REQUEST, "agent_id": "a--b"}, "agent_id"),
        ({**REQUEST, "agent_id": "-a"}, "agent_id"),
        ({**REQUEST, "agent_id": "a" * 65}, "agent_id"),
        ({**REQUEST, "agent_id": "agent0\n"}, "agent_id"),
        ({**REQUEST, "agentid": "x"}, "agentid"),
        (without("name"), "schedule.name"),
        (without("workflow_name"), "schedule.workflow_name"),
        (without("task_queue"), "schedule.task_queue"),
        (without("interval_seconds"), "cron_expression or interval_seconds"),
        (with_schedule(name="Daily"), "schedule.name"),
        (with_schedule(name="daily-"), "schedule.name"),
        (with_schedule(name=""), "schedule.name"),
        (with_schedule(name="a" * 65), "schedule.name"),
        (with_schedule(workflow_name="  "), "schedule.workflow_name"),
        (with_schedule(interval_seconds="60"), "schedule.interval_seconds"),
        (with_schedule(interval_seconds=0), "schedule.interval_seconds"),
        (with_schedule(interval_seconds=True), "schedule.interval_seconds"),
        (with_schedule(interval_seconds=10**18), "schedule.interval_seconds"),
        (with_schedule(execution_timeout_seconds=-1), "schedule.execution_timeout_seconds"),
        (with_schedule(paused="yes"), "schedule.paused"),
        (with_schedule(start_at=1700000000), "schedule.start_at"),
        (with_schedule(end_at="tomorrow"), "schedule.end_at"),
        (with_schedule(start_at="2026-02-01T00:00:00Z", end_at="2026-01-01T00:00:00Z"), "end_at must be later"),
        (with_schedule(start_at="2026-02-01T00:00:00", end_at="2026-02-01T00:00:00Z"), "end_at must be later"),
        (with_schedule(timezone="Mars/Olympus"), "schedule.timezone"),
        (with_schedule(timezone="../../etc/passwd"), "schedule.timezone"),
        (with_schedule(overlap_policy="WAIT"), "schedule.overlap_policy"),
        (with_schedule(workflow_params=[1]), "schedule.workflow_params"),
        (with_schedule(workflow_params={"x": "y" * 1_000_000}), "schedule.workflow_params"),
        (with_schedule(cron="* * * * *"), "schedule.cron"),
        ({**REQUEST, "principal": "alice"}, "principal"),
        ({**REQUEST, "principal": {"user_id": ""}}, "principal.user_id"),
        ({**REQUEST, "principal": {"user_id": "  "}}, "principal.user_id"),
        ({**REQUEST, "principal": {"user_id": "é" * 500}}, "principal.user_id"),
        ({**REQUEST, "principal": {"user_id": "a", "service_account_id": "b"}}, "principal"),
        ({**REQUEST, "principal": {"name": "alice"}}, "principal.name"),
        ({**REQUEST, "idempotency_key": ""}, "idempotency_key"),
        ({**REQUEST, "idempotency_key": "k" * 129}, "idempotency_key"),
        ({**REQUEST, "idempotency_key": "a b"}, "idempotency_key"),
        ({**REQUEST, "idempotency_key": "ключ"}, "idempotency_key"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_the_field_is_named(request_: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        CreateRequest.parse(request_)

    assert field in str(refusal.value)


def test_every_wrong_field_is_named_and_no_value_is_repeated() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        CreateRequest.parse(with_schedule(name="SECRET NAME", interval_seconds="hush"))

    text = str(refusal.value)
    assert "schedule.name: " in text
    assert "schedule.interval_seconds: " in text
    assert "SECRET" not in text
    assert "hush" not in text


def test_the_text_of_a_models_own_error_repeats_no_value_either() -> None:
    with pytest.raises(ValidationError) as refusal:
        CreateRequest.model_validate(with_schedule(name="SECRET NAME", interval_seconds="hush"))

    assert "SECRET" not in str(refusal.value)
    assert "hush" not in str(refusal.value)


def test_a_time_without_an_offset_is_utc() -> None:
    schedule = CreateRequest.parse(with_schedule(start_at="2026-01-01T00:00:00")).schedule

    assert schedule.start_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_principal_is_a_user_or_a_service_account_in_spicedbs_alphabet() -> None:
    assert Principal(user_id="a@b").creator == Subject("user", "=a=40b")
    assert Principal(service_account_id="robot").creator == Subject("service_account", "robot")


@pytest.mark.parametrize("principal", [None, {}, {"user_id": None}, {"account_id": "acme"}])
def test_without_a_user_or_service_account_no_creator_can_be_resolved(principal: object) -> None:
    assert CreateRequest.parse({**REQUEST, "principal": principal}).creator is None


def test_a_step_ignores_what_only_other_states_need() -> None:
    step = CreateStep.parse({"execution_id": "abc", "request": REQUEST, "register": {"outcome": "registered"}})

    assert step.registration.startswith("ba7816bf")


def test_a_steps_error_names_the_field_as_the_caller_wrote_it() -> None:
    with pytest.raises(InvalidRequest, match=r"^agent_id: "):
        CreateStep.parse({"execution_id": "abc", "request": {"schedule": SCHEDULE}})


def test_a_memo_survives_its_way_through_json() -> None:
    request = {**with_schedule(start_at="2026-01-01T00:00:00Z", overlap_policy="SKIP"), "idempotency_key": "k"}
    memo = Memo.of(CreateStep.parse({"execution_id": "abc", "request": request}))

    assert Memo.model_validate(memo.to_json()) == memo
    assert memo.creator == "user:alice"


@pytest.mark.parametrize("name", ["", "Daily", "a_b", 3, None])
def test_a_delete_request_needs_a_well_formed_name(name: object) -> None:
    with pytest.raises(InvalidRequest, match="schedule_name"):
        DeleteRequest.parse({"agent_id": "agent0", "schedule_name": name})
