"""The same create twice, under one Idempotency-Key."""

from typing import Any

import pytest

from tests.support.api import Api


def test_a_repeat_with_the_same_key_is_201_with_the_same_body(api: Api) -> None:
    first = api.create(key="once", workflow_params={"city": "Lisbon"})
    held = api.held()

    again = api.create(key="once", workflow_params={"city": "Lisbon"})

    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["location"] == first.headers["location"]
    assert api.held() == held
    assert api.temporal.calls.count("CreateSchedule") == 1


def test_the_same_time_in_another_notation_is_the_same_request(api: Api) -> None:
    first = api.create(key="once", start_at="2030-01-01T00:00:00")
    again = api.create(key="once", start_at="2030-01-01T01:00:00+01:00", end_at=None)

    assert (again.status, again.body) == (201, first.body)


@pytest.mark.parametrize("change", [{"interval_seconds": 60}, {"workflow_params": {"a": 1}}, {"paused": True}])
def test_the_key_with_another_request_is_409_and_changes_nothing(change: dict[str, Any], api: Api) -> None:
    first = api.create(key="once")

    assert api.create(key="once", **change).is_problem(409)
    assert api.get().body == first.body


def test_the_key_of_another_creator_is_409(api: Api) -> None:
    api.create(key="once")
    api.relate(f"agent:{api.agent}#owner@user:bob")

    assert api.create(key="once", as_="bob").is_problem(409)
    assert "owner@user:alice" in api.held()


def test_keys_that_differ_after_a_comma_differ(api: Api) -> None:
    assert api.create(key="a,b").status == 201
    assert api.create(key="a,c").is_problem(409)
    assert api.create(key="a,b").status == 201


def test_without_a_key_a_repeat_is_409(api: Api) -> None:
    assert api.create().status == 201
    assert api.create().is_problem(409)
    assert api.create(key="late").is_problem(409)


def test_a_key_lives_as_long_as_its_schedule(api: Api) -> None:
    api.create(key="once")
    api.delete()

    assert api.create(key="once", interval_seconds=60).status == 201


@pytest.mark.parametrize("key", ["x" * 128, "~!@#$%^&*()", "0"])
def test_any_printable_ascii_without_spaces_may_be_a_key(key: str, api: Api) -> None:
    assert api.create(key=key).status == 201
    assert api.create(key=key).status == 201
