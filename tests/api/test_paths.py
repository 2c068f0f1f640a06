"""The event's route and its path parameters are the only reading of a request's path."""

import pytest

from tests.support.api import Api


@pytest.mark.parametrize("name", ["daily%0A", "daily%2F", "%2Fdaily", "da%2Fily", "daily%00", "daily%20", "d%C3%A4ily"])
def test_a_name_that_only_resembles_a_schedule_reaches_no_schedule(name: str, api: Api) -> None:
    api.create()

    assert api.call("DELETE", f"{api.schedules}/{name}").is_problem(422)
    assert api.call("GET", f"{api.schedules}/{name}").is_problem(422)
    assert api.call("POST", f"{api.schedules}/{name}/pause").is_problem(422)
    assert api.get().body["state"] == "ACTIVE"


def test_an_encoded_slash_leads_to_no_other_route(api: Api) -> None:
    api.create()
    encoded = api.schedules.replace("/", "%2F")[3:]

    for method in ("GET", "POST"):
        assert api.call(method, f"/{encoded}", Content_Type="text/plain").status == 404
    assert api.call("GET", f"/agents/{api.agent}%2Fschedules").status == 404
    assert api.call("GET", f"/agents/{api.agent}%2Fschedules/daily").status in (404, 422)
    assert api.call("POST", api.schedules, "{}", Content_Type="text/plain").is_problem(415)
