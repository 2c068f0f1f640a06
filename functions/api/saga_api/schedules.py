"""One schedule, as the HTTP API shows it."""

from saga_core.deadlines import Deadline
from saga_core.errors import ScheduleNotFound
from saga_core.views import ScheduleView
from saga_temporal import temporal


def described(schedule_id: str, deadline: Deadline) -> ScheduleView:
    """The schedule as it is now.

    Raises:
        ScheduleNotFound: there is no such schedule.
    """
    found = temporal().describe(schedule_id, deadline)
    if found is None:
        raise ScheduleNotFound("schedule not found")
    return found.schedule
