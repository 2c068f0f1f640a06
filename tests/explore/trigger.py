"""A trigger of the HTTP API as the explorer runs it: one function, without the route and the permission around it."""

from saga_api import triggers
from saga_core import ids
from saga_core.deadlines import Deadline
from saga_core.ids import Subject
from saga_core.observability import Context, Event, Result, saga_step

CALLER = Subject("user", "alice")


@saga_step
def handler(event: Event, context: Context) -> Result:
    """Trigger a schedule. Raises what `saga_api.triggers.trigger` raises."""
    request = event["request"]
    schedule_id = ids.schedule_id(request["agent_id"], request["schedule_name"])
    triggered = triggers.trigger(schedule_id, CALLER, request["key"], Deadline.of(context, per_call=3))
    return {"replayed": triggered.replayed}
