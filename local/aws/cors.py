"""What API Gateway does for the pages of other origins, if an HTTP API has a CORS configuration.

It answers a preflight request itself, and sets the headers of every other response that a function gives: those that
the function has set are dropped. A request without an Origin gets none, and so does one of an origin that is not
allowed: the browser then keeps the response from the page. Its own errors (401, 403, 429) get none either.
"""

from collections.abc import Iterator

from werkzeug.wrappers import Response

from local.aws.payload import Request
from local.aws.resources import Cors

_PREFIX = "access-control-"


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if it may send a request to another origin."""
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= request.fields.keys()


def preflight(cors: Cors, request: Request) -> Response:
    """The response to a preflight request."""
    allowed = dict(_allowed(cors, request))
    if allowed:
        allowed |= {f"{_PREFIX}allow-{what}": ",".join(getattr(cors, what)) for what in ("methods", "headers")}
        if cors.max_age is not None:
            allowed[f"{_PREFIX}max-age"] = str(cors.max_age)
    return Response(status=204, headers={name: value for name, value in allowed.items() if value})


def add(cors: Cors, request: Request, response: Response) -> None:
    """Set the headers of a function's response."""
    for name in {name for name, _ in response.headers if name.lower().startswith(_PREFIX)}:
        response.headers.remove(name)
    response.headers.extend(dict(_allowed(cors, request)))


def _allowed(cors: Cors, request: Request) -> Iterator[tuple[str, str]]:
    """The headers that every response to an allowed origin has; none for any other."""
    origin = ",".join(request.fields.get("origin", []))
    scheme, separator, _ = origin.partition("://")
    if not origin or not {origin, "*", f"{scheme}{separator}*"} & {*cors.origins}:
        return
    yield f"{_PREFIX}allow-origin", "*" if "*" in cors.origins else origin
    if cors.exposed:
        yield f"{_PREFIX}expose-headers", ",".join(cors.exposed)
    if cors.credentials:
        yield f"{_PREFIX}allow-credentials", "true"
