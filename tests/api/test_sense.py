"""Requests that fit and yet make no sense are refused, or the response says so."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.api import Api


def test_an_end_in_the_past_is_refused_before_anything_is_written(api: Api) -> None:
    response = api.create(end_at="2020-01-01T00:00:00Z")

    assert response.is_problem(422, "end_at: is in the past")
    assert (api.held(), api.scheduled()) == ([], False)


def test_a_retry_after_the_end_gets_its_replay(api: Api) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=4)
    created = api.create(key="once", end_at=ends_at.isoformat())
    assert created.status == 201

    while datetime.now(UTC) <= ends_at:
        api.get()
    replayed = api.create(key="once", end_at=ends_at.isoformat())

    assert replayed.status == 201
    assert replayed.body["created_at"] == created.body["created_at"]
    assert api.create("another", key="twice", end_at=ends_at.isoformat()).status == 422


@pytest.mark.parametrize(
    "zone",
    ["localtime", "posixrules", "Factory", "right/UTC", "posix/Europe/Lisbon", "Mars/Olympus", "../UTC", "UTC+1"],
)
def test_what_is_not_a_time_zone_of_the_database_is_refused(zone: str, api: Api) -> None:
    assert api.create(timezone=zone).is_problem(422, "timezone: is not a time zone of the IANA database")


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 9 * * * 2001"])
def test_a_schedule_that_never_runs_says_so(cron: str, api: Api) -> None:
    never = api.create("never", cron_expression=cron, interval_seconds=None)
    always = api.create("always", paused=True)

    assert (never.status, len(never.body["warnings"])) == (201, 1)
    assert (always.status, always.body["warnings"]) == (201, [])


@pytest.mark.parametrize("window", [0, 9, -1, "60", 1.5])
def test_a_catch_up_window_under_ten_seconds_is_refused(window: object, api: Api) -> None:
    response = api.create(catchup_window_seconds=window)

    assert (response.status, "catchup_window_seconds" in response.body["message"]) == (422, True)


def test_a_pause_without_a_note_says_who_paused(api: Api) -> None:
    api.create()

    assert api.call("POST", f"{api.schedules}/daily/pause").body["note"] == "paused by alice"
    assert api.call("POST", f"{api.schedules}/daily/unpause").body["note"] == "unpaused by alice"
    assert api.call("POST", f"{api.schedules}/daily/pause", {"note": "holidays"}).body["note"] == "holidays"
