"""Which route of an HTTP API a request takes, by API Gateway's rules."""

from collections.abc import Iterable

from local.aws import payload
from local.aws.resources import DEFAULT_ROUTE, Route, is_greedy, is_parameter


def match(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and its path parameters, or None if no route fits.

    Segments are compared from the left, and a fixed segment takes precedence over a parameter. `$default` fits what no
    other route does. A parameter stands for one segment that is not empty, and a greedy one for all that follow. `path`
    is percent-encoded: an encoded slash belongs to its segment.
    """
    asked = [payload.decoded(segment) for segment in path.split("/")[1:]]
    default = None
    for route in sorted(routes, key=_vagueness):
        if route.path == DEFAULT_ROUTE:
            default = route, dict[str, str]()
        elif route.method in (method, "ANY") and _fits(route.segments, asked):
            values = zip(route.segments, _taken(route.segments, asked), strict=True)
            return route, {segment[1:-1].rstrip("+"): value for segment, value in values if is_parameter(segment)}
    return default


def _vagueness(route: Route) -> tuple[list[int], bool]:
    return [is_parameter(segment) + is_greedy(segment) for segment in route.segments], route.method == "ANY"


def _fits(segments: tuple[str, ...], asked: list[str]) -> bool:
    taken = _taken(segments, asked)
    return len(segments) == len(taken) and all(
        value != "" if is_parameter(segment) else value == segment
        for segment, value in zip(segments, taken, strict=True)
    )


def _taken(segments: tuple[str, ...], asked: list[str]) -> list[str]:
    """The segments of a path, those that a greedy parameter at the end of a route takes in one."""
    if not is_greedy(segments[-1]) or len(asked) < len(segments):
        return asked
    last = len(segments) - 1
    return [*asked[:last], "/".join(asked[last:])]
