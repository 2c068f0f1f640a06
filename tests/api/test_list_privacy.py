"""What a list shows, and to whom: exact agents, filled pages, signed page tokens."""

import base64
import itertools
import json

from authzed.api.v1 import CheckBulkPermissionsRequest, Consistency
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec

from saga_api import listing
from saga_core.ids import Subject
from saga_spicedb import messages
from tests.support.api import Api, eventually

FOREIGN = ["Daily Report", "a.b", "ünïcode", "a%b", 'with "quotes"', "", "-a", "a-", "a\nb", "x" * 65]
RELATIONS = ("owner", "editor", "viewer")


def other_tool_creates(api: Api, *ids: str) -> None:
    """Create schedules as another tool does, with ids of any form."""
    action = ScheduleActionStartWorkflow("Report", id="by-hand", task_queue="reports")
    for id_ in ids:
        api.in_loop(api.scheduler.create_schedule(id_, Schedule(action=action, spec=ScheduleSpec())))


def in_visibility(api: Api, total: int) -> None:
    """Wait until Temporal's list has the schedules whose ids begin with the agent's id, in any case."""

    async def number() -> int:
        query = f'ScheduleId STARTS_WITH "{api.agent}--"'
        return len([entry async for entry in await api.scheduler.list_schedules(query=query)])

    eventually(lambda: api.in_loop(number()), lambda found: found >= total)


def names(api: Api, query: str = "", as_: str = "alice") -> list[str]:
    answer = api.call("GET", f"{api.schedules}?{query}", as_=as_)
    assert answer.status == 200, answer.body
    return [entry["name"] for entry in answer.body["schedules"]]


def test_ids_of_other_tools_are_left_out_counted_and_logged_once_a_page_without_the_ids(api: Api) -> None:
    other_tool_creates(api, *(f"{api.agent}--{name}" for name in FOREIGN))
    api.create()
    in_visibility(api, len(FOREIGN) + 1)

    assert names(api) == ["daily"]

    lines = [line for line in api.logged() if "left out of a list" in line.get("message", "")]
    assert [line["number"] for line in lines] == [len(FOREIGN)]
    assert not any(name in api.log.getvalue() for name in FOREIGN if len(name) > 2)


def test_an_agent_whose_id_differs_only_in_case_shares_no_list(api: Api) -> None:
    api.create()
    lower, upper = api.agent, api.agent.upper()
    api.agent = upper
    api.relate(f"agent:{upper}#owner@user:alice")
    api.create("other")
    api.agent = lower
    in_visibility(api, 2)

    assert names(api) == ["daily"]
    api.agent = upper
    assert names(api) == ["other"]


def test_a_page_is_filled_although_foreign_schedules_and_unreadable_ones_lie_between(api: Api) -> None:
    own = [f"s-{number}" for number in range(4)]
    for name in own:
        other_tool_creates(api, f"{api.agent}--By Hand {name}")
        api.create(name)
    in_visibility(api, 2 * len(own))

    token, pages = None, []
    while True:
        answer = api.call("GET", f"{api.schedules}?page_size=2" + (f"&page_token={token}" if token else ""))
        pages.append([entry["name"] for entry in answer.body["schedules"]])
        token = answer.body["next_page_token"]
        if token is None:
            break
    assert [len(page) for page in pages][:2] == [2, 2]
    assert sorted(itertools.chain(*pages)) == own

    api.relate(f"agent:{api.agent}#viewer@user:bob", f"agent_schedule:{api.id('s-0')}#viewer@user:bob")
    assert names(api, "page_size=2", as_="bob") == ["s-0"]


def test_a_page_makes_at_most_five_fetches_and_the_token_goes_on_from_there(api: Api) -> None:
    other_tool_creates(api, *(f"{api.agent}--By Hand {number}" for number in range(6)))
    in_visibility(api, 6)
    api.calls()

    answer = api.call("GET", f"{api.schedules}?page_size=1")

    assert api.calls()[1] == ["ListSchedules"] * listing.MAX_FETCHES
    assert answer.body["total"] == 0
    assert answer.body["next_page_token"]


def test_without_read_on_the_agent_a_list_is_empty_after_one_check_and_temporal_is_not_called(api: Api) -> None:
    api.create()
    in_visibility(api, 1)
    api.calls()

    for agent in (api.agent, "nobodys-agent"):
        answer = api.call("GET", f"/agents/{agent}/schedules?page_size=1", as_="mallory")
        assert answer.body == {"schedules": [], "total": 0, "next_page_token": None}
        assert api.calls() == (["CheckPermission"], [])


def test_whoever_may_do_anything_with_a_schedule_may_read_it_and_its_agent(api: Api) -> None:
    """So a list loses nothing by the check on the agent, and a denial after `read` hides nothing."""
    subsets = [s for size in range(4) for s in itertools.combinations(RELATIONS, size)]
    for number, (on_schedule, on_agent) in enumerate(itertools.product(subsets, subsets)):
        user = f"{api.agent}-{number}"
        rows = [f"agent_schedule:{api.id()}#{relation}@user:{user}" for relation in on_schedule]
        rows += [f"agent:{api.agent}#{relation}@user:{user}" for relation in on_agent]
        api.relate(f"agent_schedule:{api.id()}#parent_agent@agent:{api.agent}", *rows)
        subject = Subject("user", user)
        asked = messages.check_each([api.id()], ["read", "update", "delete"], subject)
        item = CheckBulkPermissionsRequest(consistency=Consistency(fully_consistent=True), items=asked.items)
        pairs = api.authorization.CheckBulkPermissions(item, timeout=10).pairs
        held = {pair.request.permission for pair in pairs if pair.item.permissionship == 2}
        agent = api.authorization.CheckPermission(messages.check("agent", api.agent, "read", subject), timeout=10)
        assert not held or "read" in held
        assert not held or agent.permissionship == 2


def test_a_page_token_is_good_for_the_caller_and_the_agent_that_it_was_given_to_and_for_nobody_else(api: Api) -> None:
    api.create("a")
    api.create("b")
    in_visibility(api, 2)
    api.relate(f"agent:{api.agent}#viewer@user:bob", f"agent:{api.agent}#viewer@service_account:alice")
    token = api.call("GET", f"{api.schedules}?page_size=1").body["next_page_token"]
    raw = base64.urlsafe_b64decode(token)
    made_up = [raw[32:], b"\0" * 32 + raw[32:], raw[:-1], raw[:32], raw + b"x", json.dumps({"StartTime": 1}).encode()]
    api.calls()

    for bad in [base64.urlsafe_b64encode(text).decode() for text in made_up] + [token[:-1], token + "=", "%C3%A9"]:
        answer = api.call("GET", f"{api.schedules}?page_token={bad}")
        assert answer.is_problem(422), bad
        assert answer.body["message"].startswith("page_token: ")
    path = f"{api.schedules}?page_token={token}"
    assert api.call("GET", path, as_="bob").is_problem(422)
    assert api.call("GET", path, token=api.token("", service_account="alice")).is_problem(422)
    assert api.call("GET", f"/agents/{api.agent}-b/schedules?page_token={token}").is_problem(422)
    assert api.calls() == ([], [])
    assert api.call("GET", f"{path}&page_size=1").body["total"] == 1
