"""The largest requests over HTTP, and the responses to those that are larger."""

import json

import pytest

from saga_core import ids, limits
from tests.support.api import NEW_SCHEDULE, Api


@pytest.mark.parametrize("character", ["y", "я", "𝄞", '"', "\u0001"])
@pytest.mark.parametrize("escaped", [True, False])
def test_the_largest_parameters_are_created_replayed_and_shown(character: str, escaped: bool, api: Api) -> None:
    size = len(json.dumps(character, ensure_ascii=False)[1:-1].encode())
    params = {"x": character * ((limits.PARAMS.most - len('{"x":""}')) // size)}
    text = "é" * (limits.TEXT.most // 2)
    new = {**NEW_SCHEDULE, "workflow_params": params, "workflow_name": text, "task_queue": text}
    body = json.dumps(new, ensure_ascii=escaped)

    created, replayed = (api.call("POST", api.schedules, body, Idempotency_Key="k" * 128) for _ in range(2))

    assert (created.status, replayed.status) == (201, 201)
    assert created.body["created_at"] == replayed.body["created_at"]
    paused = api.call("POST", f"{api.schedules}/daily/pause", {"note": text})
    shown = api.get()
    assert (paused.status, shown.status, shown.body["note"]) == (200, 200, text)
    assert shown.body["action"]["workflow_params"] == [params]
    assert (shown.body["action"]["workflow_name"], shown.body["action"]["task_queue"]) == (text, text)


def test_the_deepest_parameters_are_created_replayed_and_shown(api: Api) -> None:
    deepest: dict[str, object] = {}
    for _ in range(limits.DEPTH.most - 1):
        deepest = {"a": deepest}

    created, replayed = (api.create(key="once", workflow_params=deepest) for _ in range(2))

    assert (created.status, replayed.status) == (201, 201)
    assert created.body["created_at"] == replayed.body["created_at"]
    assert api.get().body["action"]["workflow_params"] == [deepest]
    assert api.call("GET", f"{api.schedules}?page_size={limits.PAGE_SIZE.most}").status == 200
    refused = api.create("deeper", workflow_params={"a": deepest})
    assert refused.is_problem(422, "workflow_params: is 101 levels deep; at most 100 are allowed")
    assert (api.held("deeper"), api.scheduled("deeper")) == ([], False)


@pytest.mark.parametrize("field", ["workflow_name", "task_queue", "cron_expression"])
def test_text_of_too_many_bytes_is_422_and_nothing_is_called(field: str, api: Api) -> None:
    response = api.create(**{field: "é" * 501})

    assert response.is_problem(422, f"{field}: is 1,002 bytes in UTF-8; at most 1,000 are allowed")
    assert api.calls() == ([], [])


def test_a_note_of_too_many_bytes_is_422_and_the_schedule_stays_active(api: Api) -> None:
    api.create()

    response = api.call("POST", f"{api.schedules}/daily/pause", {"note": "é" * 501})

    assert response.is_problem(422, "note: is 1,002 bytes in UTF-8; at most 1,000 are allowed")
    assert api.get().body["state"] == "ACTIVE"


def test_a_caller_with_the_longest_name_can_pause_without_a_note(api: Api) -> None:
    caller = "@" * (limits.SUBJECT.most // 3)
    api.create()
    api.grant("editor", ids.encode_subject_id(caller))

    paused = api.call("POST", f"{api.schedules}/daily/pause", as_=caller)

    assert (paused.status, paused.body["note"]) == (200, f"paused by {caller}")


def test_a_response_to_thousands_of_unknown_fields_and_every_log_line_about_it_are_short(api: Api) -> None:
    response = api.create(**{f"field{i}": "" for i in range(5000)})

    assert response.status == 422
    assert len(response.body["message"]) <= limits.MESSAGE.most
    assert response.body["message"].endswith(" more")
    assert max(len(line.encode()) for line in api.log.getvalue().splitlines()) <= limits.LOG_LINE.most
