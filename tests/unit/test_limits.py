"""Every limit of the table: the largest input that passes, the first that does not, and the field that it names."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from saga_core import limits
from saga_core.errors import InvalidRequest, SagaError
from saga_core.limits import Limit
from saga_core.requests import CreateRequest, DeleteRequest
from saga_temporal import cron
from tests.support.api import NEW_SCHEDULE, HttpResponse
from tests.support.in_process import InProcessApi


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def schedule(**changes: Any) -> object:
    return CreateRequest.parse({"agent_id": "agent0", "schedule": {**NEW_SCHEDULE, **changes}})


def request(**changes: Any) -> object:
    return CreateRequest.parse({"agent_id": "agent0", "schedule": NEW_SCHEDULE, **changes})


def principal(**ids: str) -> object:
    return request(principal=ids)


Size = Callable[[int], object]
# The limits of what a machine takes: how to send a size, and the field that a refusal names.
BY_THE_MODELS: list[tuple[Limit, Size, str]] = [
    (limits.NAME, lambda size: request(agent_id="a" * size), "agent_id"),
    (limits.NAME, lambda size: schedule(name="a" * size), "schedule.name"),
    (
        limits.NAME,
        lambda size: DeleteRequest.parse({"agent_id": "a", "schedule_name": "a" * size}),
        "schedule_name",
    ),
    (limits.TEXT, lambda size: schedule(workflow_name="w" * size), "schedule.workflow_name"),
    (limits.TEXT, lambda size: schedule(task_queue="é" * (size // 2) + "q" * (size % 2)), "schedule.task_queue"),
    (
        limits.TEXT,
        lambda size: schedule(cron_expression="𝄞" * (size // 4) + "*" * (size % 4)),
        "schedule.cron_expression",
    ),
    (limits.TEXT, lambda size: principal(account_id="я" * (size // 2) + "a" * (size % 2)), "principal.account_id"),
    (limits.PARAMS, lambda size: schedule(workflow_params={"x": "y" * (size - 8)}), "schedule.workflow_params"),
    (
        limits.PARAMS,
        lambda size: schedule(workflow_params={"x": "я" * (size // 2 - 4) + "y" * (size % 2)}),
        "schedule.workflow_params",
    ),
    (limits.DEPTH, lambda size: schedule(workflow_params=nested(size)), "schedule.workflow_params"),
    (limits.DEPTH, lambda size: schedule(workflow_params={"list": [nested(size - 2)]}), "schedule.workflow_params"),
    (limits.SECONDS, lambda size: schedule(interval_seconds=size), "schedule.interval_seconds"),
    (limits.SECONDS, lambda size: schedule(execution_timeout_seconds=size), "schedule.execution_timeout_seconds"),
    (limits.SECONDS, lambda size: schedule(jitter_seconds=size), "schedule.jitter_seconds"),
    (limits.CATCHUP, lambda size: schedule(catchup_window_seconds=size), "schedule.catchup_window_seconds"),
    (limits.IDENTITY, lambda size: principal(user_id="u" * size), "principal.user_id"),
    (limits.IDENTITY, lambda size: principal(service_account_id="u" * size), "principal.service_account_id"),
    (limits.SUBJECT, lambda size: principal(user_id="@" * (size // 3) + "u" * (size % 3 - 1)), "principal.user_id"),
    (limits.KEY, lambda size: request(idempotency_key="k" * size), "idempotency_key"),
]
PAUSE = "/agents/agent0/schedules/daily/pause"


def listed(api: InProcessApi, **query: object) -> HttpResponse:
    return api.call("GET", f"{api.schedules}?{'&'.join(f'{name}={value}' for name, value in query.items())}")


def padded(size: int, *, escaped: bool) -> str:
    """A body of this size, with a character beyond ASCII that is written in one way or in the other."""
    text = json.dumps({"note": "paused \uffff"}, ensure_ascii=escaped)
    return text + " " * (size - len(json.dumps({"note": "paused \uffff"}, ensure_ascii=False).encode()))


# The limits of what only the HTTP API takes, in the same way.
BY_HTTP: list[tuple[Limit, Callable[[InProcessApi, int], HttpResponse], str]] = [
    (limits.TEXT, lambda api, size: api.call("POST", PAUSE, {"note": "é" * (size // 2) + "n" * (size % 2)}), "note"),
    (limits.BODY, lambda api, size: api.call("POST", PAUSE, padded(size, escaped=False)), "the body"),
    (limits.BODY, lambda api, size: api.call("POST", PAUSE, padded(size, escaped=True)), "the body"),
    (limits.PAGE_SIZE, lambda api, size: listed(api, page_size=size), "page_size"),
    (limits.KEY, lambda api, size: api.create(key="k" * size), "idempotency-key"),
]
NAMED = [f"{limit.most} {field}" for limit, _, field in BY_THE_MODELS]


@pytest.mark.parametrize(("limit", "send", "field"), BY_THE_MODELS, ids=NAMED)
def test_the_largest_input_passes_and_the_next_is_refused_with_the_name_of_its_field(
    limit: Limit, send: Size, field: str
) -> None:
    send(limit.most)
    if limit.unit == "seconds":
        send(limit.least)
        with pytest.raises(InvalidRequest, match=rf"^{field}: "):
            send(limit.least - 1)

    with pytest.raises(InvalidRequest, match=rf"^{field}: "):
        send(limit.most + 1)


@pytest.mark.parametrize(("limit", "send", "field"), BY_HTTP, ids=[f"{entry[0].most} {entry[2]}" for entry in BY_HTTP])
def test_the_largest_of_an_http_request_reaches_an_engine_and_the_next_does_not(
    limit: Limit, send: Callable[[InProcessApi, int], HttpResponse], field: str, api: InProcessApi
) -> None:
    assert send(api, limit.most).is_problem(500, "internal error")  # there is no engine
    assert api.calls.pop()

    refused = send(api, limit.most + 1)

    assert refused.status in (413, 422)
    assert refused.body["message"].startswith(field)
    assert api.calls == []


def test_a_page_token_may_be_as_long_as_its_limit(api: InProcessApi) -> None:
    assert "String should have at most" not in listed(api, page_token="t" * limits.PAGE_TOKEN.most).body["message"]
    assert (
        listed(api, page_token="t" * (limits.PAGE_TOKEN.most + 1))
        .body["message"]
        .startswith("page_token: String should have at most 1024 characters")
    )


def test_a_cron_expression_is_its_own_comment_up_to_the_limit() -> None:
    longest = "0 9 * * * # " + "x" * (limits.CRON_TEXT.most - 12)

    assert cron.commented(longest).endswith(longest)
    assert cron.commented(f"{longest}x") == "0 9 * * *"


@pytest.mark.parametrize("character", ["я", "\u2028", "\x7f", "𝄞", "\u0001", '"'])
def test_whatever_fits_a_field_fits_a_body_however_its_json_is_written(character: str, api: InProcessApi) -> None:
    room = limits.PARAMS.most - len('{"x":""}')
    params = {"x": character * (room // len(json.dumps(character, ensure_ascii=False)[1:-1].encode()))}
    new = {**NEW_SCHEDULE, "workflow_params": params, "workflow_name": "é" * 500, "task_queue": "é" * 500}

    for escaped in (True, False):
        body = json.dumps(new, ensure_ascii=escaped)
        assert api.call("POST", api.schedules, body).is_problem(500, "internal error")
        assert api.calls.pop()


def test_json_between_the_limit_and_the_parsers_own_is_refused_by_name(api: InProcessApi) -> None:
    for levels in (101, 199, 255, 500, 900):
        deep = '{"a":' * levels + "1" + "}" * levels
        body = json.dumps(NEW_SCHEDULE)[:-1]
        assert api.call("POST", api.schedules, f'{body}, "workflow_params": {deep}}}').is_problem(
            422, f"workflow_params: is {levels} levels deep; at most 100 are allowed"
        )
        assert api.call("POST", api.schedules, f'{body}, "x": {deep}}}').is_problem(
            422, "x: Extra inputs are not permitted"
        )
    assert api.calls == []


@pytest.mark.parametrize("number", [25, 1000, 12_500])
def test_a_message_keeps_what_fits_and_says_how_many_fields_are_left_out(number: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        request(**{f"unknown{i}": "x" for i in range(number)})

    message = str(refusal.value)
    assert len(message) <= limits.MESSAGE.most
    *named, rest = message.split("; ")
    if number == 25:
        assert len(named) == 24
    else:
        assert rest == f"and {number - len(named)} more"
        assert len(named) > 20
    assert all(part.endswith(": Extra inputs are not permitted") for part in named)


def test_the_name_of_an_unknown_field_is_shortened() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        request(**{"n" * 5000: 1, "s" * limits.FIELD_NAME.most: 1})

    names = [part.partition(": ")[0] for part in str(refusal.value).split("; ")]
    assert names == ["n" * (limits.FIELD_NAME.most - 1) + "…", "s" * limits.FIELD_NAME.most]


def test_a_name_that_no_text_can_hold_is_refused_in_words_that_can_be_written() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        schedule(**{"half \ud800": 1})

    assert str(refusal.value).encode().startswith(b"schedule: Input should be a valid string")


def test_a_message_without_parts_is_cut_at_its_end() -> None:
    assert str(SagaError("m" * limits.MESSAGE.most)) == "m" * limits.MESSAGE.most
    assert str(SagaError("m" * (limits.MESSAGE.most + 1))) == "m" * (limits.MESSAGE.most - 1) + "…"


def test_a_shortened_message_is_not_shortened_again() -> None:
    once = limits.shortened("; ".join(str(uuid.uuid4()) for _ in range(500)))

    assert limits.shortened(once) == once


def test_every_limit_of_the_table_has_a_test() -> None:
    # The last two are tested in tests/api/test_other_tools.py and tests/unit/test_observability.py.
    tested = {limit for limit, _, _ in BY_THE_MODELS} | {limit for limit, _, _ in BY_HTTP}
    others = {limits.CRON_TEXT, limits.PAGE_TOKEN, limits.MESSAGE, limits.FIELD_NAME, limits.OUTPUT, limits.LOG_LINE}

    assert tested | others == set(limits.TABLE)
