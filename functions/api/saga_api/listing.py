"""A page of an agent's schedules, filled with those that the caller may read."""

from saga_api import paging
from saga_api.bodies import SchedulePage
from saga_core.deadlines import Deadline
from saga_core.ids import Subject
from saga_core.observability import count, logger
from saga_core.views import ScheduleSummary
from saga_spicedb import spicedb
from saga_temporal import temporal

# Calls to Temporal for one page.
MAX_FETCHES = 5


def page(agent_id: str, size: int, page_token: str | None, caller: Subject, deadline: Deadline) -> SchedulePage:
    """One page of the agent's schedules that the caller may read, at most ``size``.

    Each call to Temporal asks for as many schedules as the page still lacks. So the token of the next page never points
    into the middle of what was fetched.

    Raises:
        InvalidRequest: no list of this agent has given the page token to this caller. Nothing was called.
    """
    following = paging.opened(page_token, agent_id, caller)
    if not spicedb().may_list(caller, agent_id, deadline):
        # Whether the agent has schedules must not show, in the response or in its time.
        return SchedulePage(schedules=[], total=0, next_page_token=None)
    shown: list[ScheduleSummary] = []
    foreign = 0
    for _ in range(MAX_FETCHES):
        fetched = temporal().page(agent_id, size - len(shown), following, deadline)
        held = spicedb().permissions(caller, ["read"], [entry.schedule_id for entry in fetched.schedules], deadline)
        shown += [entry for entry in fetched.schedules if held[entry.schedule_id]]
        foreign += fetched.foreign
        following = fetched.following
        if not following or len(shown) == size:
            break
    if foreign:
        # Only the number: the ids are of any form, and another tool chose them.
        logger.warning("schedules with ids that are not this agent's are left out of a list", number=foreign)
        count("ForeignSchedule", foreign)
    token = paging.sealed(following, agent_id, caller) if following else None
    return SchedulePage(schedules=shown, total=len(shown), next_page_token=token)
