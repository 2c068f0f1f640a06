"""The request's path as the application reads it: from the event's route and path parameters, and from nothing else.

The raw path is decoded, so a slash or a newline of an id cannot be told from one of the path. It also begins with the
stage or with the base path of an API mapping, if there is one.
"""

import re
from urllib.parse import quote

from saga_api.bodies import NO_ROUTE
from saga_core import ids, limits
from saga_core.observability import Event


def by_route(event: Event) -> dict[str, object]:
    """The event, with the method and the path that its route and its path parameters give.

    A parameter is percent-encoded, so that it stays one segment. A well-formed id does not change by it; any other
    stays malformed. Where API Gateway found no route, the path is one that no operation has.
    """
    method, _, route = event["routeKey"].rpartition(" ")
    parameters = event.get("pathParameters") or {}
    path = re.sub(r"\{(\w+)\}", lambda name: quote(parameters.get(name[1]) or "", safe="", errors="replace"), route)
    context = event["requestContext"]
    http = context["http"] if event["routeKey"] == NO_ROUTE else {**context["http"], "method": method}
    # The resolver would cut the name of any other stage from the path.
    return {**event, "rawPath": path, "requestContext": {**context, "http": http, "stage": "$default"}}


def well_formed_ids(event: Event) -> dict[str, str]:
    """The ``agent_id`` and the ``schedule_name`` of the path, for the log; none that no agent or schedule can have."""
    checks = {"agent_id": ids.check_agent_id, "schedule_name": ids.check_schedule_name}
    found = {}
    for name, value in (event.get("pathParameters") or {}).items():
        try:
            limits.NAME.check(len(value))
            found[name] = checks[name](value)
        except (KeyError, ValueError):
            pass  # The response says what is wrong with it.
    return found


def base(rewritten: Event) -> str:
    """What the caller's path has before the route's: a stage, a base path, or nothing. Takes a result of `by_route`."""
    sent: str = rewritten["requestContext"]["http"]["path"]
    path: str = rewritten["rawPath"]
    return sent.removesuffix(path) if sent.endswith(path) else ""
