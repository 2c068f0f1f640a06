"""What a response tells a client that repeats requests by itself."""

from collections.abc import Callable
from http import HTTPStatus

import pytest

from saga_api.problems import MAX_RETRY_AFTER, Repeat, headers_for
from saga_core.errors import CreateInProgress
from tests.support.api import Api, HttpResponse

NEVER = "false"
SETTLED: dict[str, tuple[int, Callable[[Api], HttpResponse]]] = {
    "a bad cron expression": (400, lambda api: api.create("other", cron_expression="99 * * * *")),
    "a denied create": (403, lambda api: api.create(as_="mallory")),
    "an absent schedule": (404, lambda api: api.get("absent")),
    "a name that is taken": (409, lambda api: api.create()),
    "an unknown method": (405, lambda api: api.call("PUT", api.schedules)),
    "a body that is too large": (413, lambda api: api.call("POST", api.schedules, "x" * 140_000)),
    "a body that is not JSON": (415, lambda api: api.call("POST", api.schedules, "{}", Content_Type="text/plain")),
    "a field that does not fit": (422, lambda api: api.create(name="Daily")),
}


@pytest.mark.parametrize(("status", "call"), SETTLED.values(), ids=SETTLED)
def test_a_conflict_and_a_settled_4xx_tell_a_client_not_to_repeat(
    status: int, call: Callable[[Api], HttpResponse], api: Api
) -> None:
    api.create()

    answer = call(api)

    assert answer.status == status
    assert answer.headers["x-should-retry"] == NEVER
    assert "retry-after" not in answer.headers


def test_a_create_in_progress_says_when_the_lease_ends_and_at_most_a_minute(api: Api) -> None:
    api.interrupted()

    answer = api.create()

    assert answer.is_problem(409)
    assert (answer.headers["x-should-retry"], answer.headers["retry-after"]) == (NEVER, str(MAX_RETRY_AFTER))


@pytest.mark.parametrize(
    ("cause", "seconds"), [("held; try again in 7 seconds", 7), ("held; try again in 700 seconds", 60), ("", 60)]
)
def test_retry_after_is_the_rest_of_the_lease_or_a_minute(cause: str, seconds: int) -> None:
    headers = headers_for(HTTPStatus.CONFLICT, CreateInProgress(cause))

    assert headers == {"x-should-retry": NEVER, "Retry-After": str(seconds)}


def test_a_settled_outage_says_when_to_try_again(api: Api) -> None:
    api.spicedb.cut()

    answer = api.create()

    assert answer.is_problem(503)
    assert 0 < int(answer.headers["retry-after"]) <= MAX_RETRY_AFTER
    assert "x-should-retry" not in answer.headers


def test_an_unknown_outcome_is_repeated_by_itself_only_where_that_is_harmless(api: Api) -> None:
    api.temporal.cut()

    without, with_key = api.create(), api.create(key="once")

    assert (without.status, with_key.status) == (503, 503)
    assert without.headers["x-should-retry"] == NEVER
    assert "Idempotency-Key" not in without.body["message"]
    assert "x-should-retry" not in with_key.headers
    assert with_key.body["message"].endswith("repeat the request with the same Idempotency-Key")
    assert not {"retry-after"} & (without.headers.keys() | with_key.headers.keys())


@pytest.mark.parametrize("repeat", Repeat)
@pytest.mark.parametrize("status", [500, 503, 504])
def test_no_unknown_outcome_carries_retry_after(status: int, repeat: Repeat) -> None:
    headers = headers_for(HTTPStatus(status), unsettled=repeat)

    assert headers == ({"x-should-retry": NEVER} if repeat is Repeat.DECIDED_BY_CALLER else {})


@pytest.mark.parametrize("verb", ["pause", "unpause", "trigger", "delete"])
def test_a_reader_gets_403_for_what_it_may_not_do_after_the_same_work_as_a_stranger(verb: str, api: Api) -> None:
    api.create()
    api.grant("viewer", "bob")

    def call(who: str) -> HttpResponse:
        path = f"{api.schedules}/daily"
        return api.call("DELETE", path, as_=who) if verb == "delete" else api.call("POST", f"{path}/{verb}", as_=who)

    api.calls()
    reader, work = call("bob"), api.calls()
    stranger, work_of_stranger = call("mallory"), api.calls()

    needed = "delete" if verb == "delete" else "update"
    assert reader.is_problem(403, f"the caller may not {needed} schedule {api.id()}")
    assert stranger.is_problem(404, "schedule not found")
    assert work == work_of_stranger == (["CheckBulkPermissions"], [])
