"""How many calls to the engines each request of the HTTP API makes, those of its state machine included."""

from collections.abc import Callable

import pytest

from tests.support.api import Api, HttpResponse, eventually

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


# What is there, the request, its calls to SpiceDB and to Temporal. The calls of a Parallel state run side by side.
REQUESTS: dict[str, tuple[Callable[[Api], None], Request, list[str], list[str]]] = {
    "create": (
        nothing,
        Api.create,
        ["CheckPermission", "CheckPermission", "WriteRelationships", "WriteRelationships"],
        ["CreateSchedule", "DescribeSchedule"],
    ),
    "list": (created_and_listed, listed, ["CheckPermission", "CheckBulkPermissions"], ["ListSchedules"]),
    "get": (created, Api.get, ["CheckBulkPermissions"], ["DescribeSchedule"]),
    "pause": (created, changed("pause"), ["CheckBulkPermissions"], ["PatchSchedule", "DescribeSchedule"]),
    "unpause": (created, changed("unpause"), ["CheckBulkPermissions"], ["PatchSchedule", "DescribeSchedule"]),
    "trigger": (created, changed("trigger"), ["CheckBulkPermissions"], ["PatchSchedule", "DescribeSchedule"]),
    "trigger with a key": (
        created,
        triggered_with_key,
        ["CheckBulkPermissions", "ReadRelationships", "WriteRelationships", "WriteRelationships"],
        ["PatchSchedule", "DescribeSchedule"],
    ),
    "replayed trigger": (
        triggered,
        triggered_with_key,
        ["CheckBulkPermissions", "ReadRelationships", "WriteRelationships", "ReadRelationships"],
        ["DescribeSchedule"],
    ),
    "delete": (
        created,
        Api.delete,
        ["CheckBulkPermissions", "DeleteRelationships"],
        ["DescribeSchedule", "DeleteSchedule", "DescribeSchedule"],
    ),
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
