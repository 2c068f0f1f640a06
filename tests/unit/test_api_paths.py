"""What the handler does with a path that API Gateway has read: stages, base paths of mappings, odd ids."""

from typing import Any

import pytest

from saga_api import paths


def event(route: str, sent: str, **parameters: str) -> dict[str, Any]:
    http = {"method": route.partition(" ")[0], "path": sent}
    return {
        "routeKey": route,
        "rawPath": sent,
        "pathParameters": parameters,
        "requestContext": {"http": http, "stage": "prod"},
    }


@pytest.mark.parametrize("before", ["", "/prod", "/v1", "/a/b"])
def test_a_stage_or_the_base_path_of_a_mapping_is_not_part_of_the_path(before: str) -> None:
    sent = event("GET /agents/{agent_id}/schedules", f"{before}/agents/a/schedules", agent_id="a")

    read = paths.by_route(sent)

    assert read["rawPath"] == "/agents/a/schedules"
    assert paths.base(read) == before


@pytest.mark.parametrize("name", ["a/b", "a\n", "a?b", "a%b", "..", "ä", "a b"])
def test_an_odd_id_stays_one_segment(name: str) -> None:
    route = "GET /agents/{agent_id}/schedules/{schedule_name}"

    read = paths.by_route(event(route, f"/agents/a/schedules/{name}", agent_id="a", schedule_name=name))

    assert str(read["rawPath"]).count("/") == 4
    assert "\n" not in str(read["rawPath"])
