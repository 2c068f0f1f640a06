"""How many calls to the engines each request of the HTTP API makes, those of its state machine included."""

from collections.abc import Callable

import pytest

from tests.support.api import Api, HttpResponse, eventually
from tools.scale import model
from tools.scale.model import Work

Request = Callable[[Api], HttpResponse]


def created(api: Api) -> None:
    """There is a schedule."""
    assert api.create().status == 201


def nothing(_: Api) -> None:
    """There is none."""


def created_and_listed(api: Api) -> None:
    """There is a schedule, and Temporal's list has it."""
    created(api)
    eventually(lambda: listed(api).body["total"], lambda total: total == 1)


def triggered(api: Api) -> None:
    """There is a schedule, and the same request has triggered it."""
    created(api)
    assert triggered_with_key(api).status == 200


def listed(api: Api) -> HttpResponse:
    return api.call("GET", api.schedules)


def changed(verb: str) -> Request:
    return lambda api: api.call("POST", f"{api.schedules}/daily/{verb}")


def triggered_with_key(api: Api) -> HttpResponse:
    return api.trigger(key="once")


def calls(*works: Work) -> tuple[list[str], list[str]]:
    """To SpiceDB, and to Temporal, as the model of docs/performance.md has them."""
    return [each for work in works for each in work.spicedb], [each for work in works for each in work.temporal]


# What is there, the request, its calls to SpiceDB and to Temporal. The calls of a Parallel state run side by side.
REQUESTS: dict[str, tuple[Callable[[Api], None], Request, list[str], list[str]]] = {
    "create": (nothing, Api.create, *calls(model.BEFORE_CREATE, model.CREATE)),
    "list": (created_and_listed, listed, *calls(model.LIST)),
    "get": (created, Api.get, *calls(model.GET)),
    "pause": (created, changed("pause"), *calls(model.PAUSE)),
    "unpause": (created, changed("unpause"), *calls(model.PAUSE)),
    "trigger": (created, changed("trigger"), *calls(model.TRIGGER)),
    "trigger with a key": (created, triggered_with_key, *calls(model.TRIGGER_WITH_KEY)),
    "replayed trigger": (
        triggered,
        triggered_with_key,
        ["CheckBulkPermissions", "ReadRelationships", "WriteRelationships", "ReadRelationships"],
        ["DescribeSchedule"],
    ),
    "delete": (created, Api.delete, *calls(model.BEFORE_DELETE, model.DELETE)),
}


@pytest.mark.parametrize(("given", "request_", "spicedb", "temporal"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_makes_these_calls_and_no_others(
    api: Api, given: Callable[[Api], None], request_: Request, spicedb: list[str], temporal: list[str]
) -> None:
    listed(api)  # the functions are connected
    given(api)
    api.spicedb.clear()
    api.temporal.clear()

    assert request_(api).status in (200, 201)

    assert (api.spicedb.calls, api.temporal.calls) == (spicedb, temporal)
