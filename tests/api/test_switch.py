"""A Temporal that is switched from one scheduler to the other, on the data that it has, while SpiceDB goes on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from local.stack import parts
from local.stack.endpoints import Endpoints
from local.stack.scheduler import Scheduler
from tests.support.api import Api, HttpResponse, eventually
from tests.support.api_stack import serving
from tests.support.ports import free_port

Serve = Callable[[Scheduler], AbstractContextManager[Api]]


@pytest.fixture
def on(running_engines: Endpoints, tmp_path: Path) -> Serve:
    """Starts the API on a Temporal with this scheduler, and with the data of the Temporal before it."""
    endpoints = replace(running_engines, temporal_port=free_port(), temporal_ui_port=free_port())

    @contextmanager
    def serve(scheduler: Scheduler) -> Iterator[Api]:
        with parts.temporal(endpoints, tmp_path, tmp_path, scheduler), serving(endpoints) as api:
            api.agent = "switched-agent"
            api.relate(f"agent:{api.agent}#owner@user:alice")
            yield api

    return serve


def is_reserved(response: HttpResponse, schedule_id: str) -> bool:
    """Whether the response says that Temporal does not free the name yet, and that the request may be repeated."""
    may_be_repeated = response.headers.get("retry-after") == "5" and "x-should-retry" not in response.headers
    return may_be_repeated and response.is_problem(
        409, f"Temporal does not free the name of schedule {schedule_id} yet"
    )


@pytest.mark.slow
def test_schedules_outlive_the_switch_and_a_name_that_was_deleted_before_it_is_reserved(on: Serve) -> None:
    with on(Scheduler.V1) as api:
        body = api.create(key="once", cron_expression="0 9 * * MON", interval_seconds=None).body
        assert [api.create(name).status for name in ("weekly", "gone")] == [201, 201]
        assert api.delete("gone").status == 200
        assert api.maker() is Scheduler.V1

    with on(Scheduler.CHASM) as api:
        eventually(api.get, lambda answer: answer.status == 200)  # a server that has just started can be slow
        assert api.get().body == body
        assert api.create(key="once", cron_expression="0 9 * * MON", interval_seconds=None).body == body
        assert api.create().status == 409
        operations = ("pause", "unpause", "trigger")
        answers = [api.call("POST", f"{api.schedules}/daily/{operation}") for operation in operations]
        assert [answer.body["state"] for answer in answers] == ["PAUSED", "ACTIVE", "ACTIVE"]
        assert api.create("new").status == 201
        assert (api.maker(), api.maker("new")) == (Scheduler.V1, Scheduler.CHASM)
        listed = eventually(lambda: api.call("GET", api.schedules).body["schedules"], lambda found: len(found) == 3)
        assert {schedule["name"] for schedule in listed} == {"daily", "weekly", "new"}

        assert api.delete().status == 200
        for name in ("daily", "gone"):
            assert is_reserved(api.create(name), api.id(name)), "V1's sentinel holds the name"
            assert (api.scheduled(name), api.held(name)) == (False, [])
            assert api.delete(name).status == 404
            assert api.get(name).status == 404

    with on(Scheduler.V1) as api:
        eventually(lambda: api.get("weekly"), lambda answer: answer.status == 200)
        assert [api.get(name).status for name in ("weekly", "new")] == [200, 200]
        assert api.call("POST", f"{api.schedules}/new/pause").body["state"] == "PAUSED"
        assert [api.delete(name).status for name in ("weekly", "new")] == [200, 200]
        reserved = api.create("gone")
        assert is_reserved(reserved, api.id("gone")), "the create that was refused has left CHASM's sentinel"
        assert api.create("new").status == 201, "otherwise that sentinel ends with its schedule"
        assert api.maker("new") is Scheduler.V1
