"""The memo: what two releases write, and what this one reads."""

from typing import Any

import pytest
from temporalio.api.common.v1 import Memo as MemoMessage
from temporalio.api.common.v1 import Payload

from saga_core.ids import registration
from saga_core.steps import CreateStep, DescribeStep, Holder, Match, Memo, digest
from saga_temporal import MEMO_KEY, messages, payloads

SCHEDULE = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 60}
REQUEST = {
    "agent_id": "agent0",
    "schedule": SCHEDULE,
    "principal": {"user_id": "alice", "account_id": "acme"},
    "idempotency_key": "k",
}
# As the earlier release wrote it: the whole request, with its defaults.
VERSION_1: dict[str, Any] = {
    "registration": registration("arn:first"),
    "creator": "user:alice",
    "agent_id": "agent0",
    "idempotency_key": "k",
    "request": {
        **SCHEDULE,
        "workflow_params": {"b": [1, None], "a": "ü"},
        "cron_expression": None,
        "execution_timeout_seconds": None,
        "start_at": "2026-01-01T00:00:00Z",
        "end_at": None,
        "paused": False,
        "timezone": None,
        "overlap_policy": "SKIP",
    },
}
ITS_REQUEST: dict[str, Any] = {
    **SCHEDULE,
    "workflow_params": {"a": "ü", "b": [1, None]},
    "start_at": "2026-01-01T01:00:00+01:00",
    "overlap_policy": "SKIP",
}


def step(**schedule: Any) -> CreateStep:
    return CreateStep.parse({"execution_id": "arn:first", "request": {**REQUEST, "schedule": {**SCHEDULE, **schedule}}})


def match(memo: Memo, *, execution_id: str = "arn:second", holder: Holder | None = None, **schedule: Any) -> Match:
    create = {**REQUEST, "schedule": {**SCHEDULE, **schedule}}
    described = {"execution_id": execution_id, "create": create, "holder": holder and holder.to_json()}
    return DescribeStep.parse(described).match(memo)


def test_a_memo_names_the_operation_and_holds_no_copy_of_the_request() -> None:
    memo = Memo.of(step(workflow_params={"text": "x" * 60_000}))

    assert memo.to_json() == {
        "version": 2,
        "registration": registration("arn:first"),
        "execution_id": "arn:first",
        "creator": "user:alice",
        "account_id": "acme",
        "idempotency_key": "k",
        "digest": memo.digest,
    }
    assert len(messages.memo(memo).SerializeToString()) < 1000


@pytest.mark.parametrize(
    "same", [{}, {"paused": False}, {"paused": None}, {"timezone": None}, {"workflow_params": None, "end_at": None}]
)
def test_a_default_that_is_written_out_is_the_same_request(same: dict[str, Any]) -> None:
    assert digest(step(**same).request.schedule) == digest(step().request.schedule)
    assert match(Memo.of(step()), **same) is Match.REPLAY


@pytest.mark.parametrize(
    "other", [{"paused": True}, {"interval_seconds": 61}, {"workflow_params": {}}, {"timezone": "UTC"}]
)
def test_another_request_with_the_same_key_is_not_a_replay(other: dict[str, Any]) -> None:
    assert match(Memo.of(step()), **other) is Match.REUSED


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_are_read_as_they_were_written(version: int) -> None:
    memo = Memo.of(step(cron_expression="0 9 * * *"), version)

    read = messages.memo_of("agent0--daily", messages.memo(memo))

    assert read == memo
    assert match(memo, cron_expression="0 9 * * *") is Match.REPLAY
    assert match(memo, cron_expression="0 8 * * *") is Match.REUSED
    assert match(memo, execution_id="arn:first") is Match.OURS


def test_a_memo_of_the_earlier_release_keeps_its_fence_and_its_replay() -> None:
    memo = Memo.model_validate(VERSION_1)

    assert match(memo, **ITS_REQUEST) is Match.REPLAY
    assert match(memo, execution_id="arn:first") is Match.OURS
    assert match(memo, **{**ITS_REQUEST, "paused": True}) is Match.REUSED
    assert match(memo, holder=Holder(registration="another", lease_seconds=0)) is Match.STRAY


@pytest.mark.parametrize(
    "stricter",
    [{"interval_seconds": 10**18}, {"end_at": "1999-01-01T00:00:00Z"}, {"timezone": "posixrules"}, {"unknown": 1}],
)
def test_a_rule_that_came_later_does_not_make_an_old_memo_unreadable(stricter: dict[str, Any]) -> None:
    memo = Memo.model_validate({**VERSION_1, "request": {**SCHEDULE, **stricter}})

    assert match(memo, execution_id="arn:first") is Match.OURS


@pytest.mark.parametrize(
    "payload",
    [
        Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00\x01"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"{broken"),
        Payload(data=b"{}"),
        payloads.encode("text"),
        payloads.encode([]),
        payloads.encode(None),
        payloads.encode({"creator": "user:alice"}),
        payloads.encode({"registration": 7}),
    ],
)
def test_a_memo_that_cannot_be_read_is_not_one_of_ours(payload: Payload) -> None:
    assert messages.memo_of("agent0--daily", MemoMessage(fields={MEMO_KEY: payload})) is None


def test_a_schedule_without_a_memo_is_not_one_of_ours() -> None:
    assert messages.memo_of("agent0--daily", MemoMessage(fields={"another": payloads.encode(VERSION_1)})) is None
