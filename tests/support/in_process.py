"""The handler of the HTTP API, called in this process: without gateway, Lambda, state machines and engines.

Requests become events by the laptop gateway's own code, with the routes of template.yaml. tests/api compares these
events with the events that the running gateway sends. There is no token: the claims are given as verified.
"""

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPMessage, parse_headers
from pathlib import Path
from typing import Any, cast

from werkzeug.serving import WSGIRequestHandler
from werkzeug.test import EnvironBuilder

from local.aws import payload
from local.aws.lambda_runtime import Context
from local.aws.routes import match
from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.parts import parameters
from local.stack.process import HOST
from saga_api import routes
from tests.support.api import NEW_SCHEDULE, HttpResponse, encoded

ALICE = {"sub": "alice"}
ROOT = Path(__file__).parents[2]
_PORT = 3000


@cache
def template() -> Template:
    """template.yaml with the parameters of the laptop stack."""
    return Template(ROOT / "template.yaml", parameters(Endpoints()))


@dataclass(frozen=True)
class _Raw:
    """The attributes of a request handler that an event needs."""

    raw_requestline: bytes
    path: str
    headers: HTTPMessage


def event(
    method: str, path: str, content: bytes | None, headers: Mapping[str, str], claims: Mapping[str, str]
) -> dict[str, Any]:
    """The event that the gateway makes of a request whose token has these claims."""
    length = {"Content-Length": str(len(content or b""))} if content is not None or method == "POST" else {}
    sent = {"Host": f"{HOST}:{_PORT}", "Accept-Encoding": "identity", **length, **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    head = parse_headers(io.BytesIO(f"{lines}\r\n".encode("latin-1")))
    raw = _Raw(f"{method} {path} HTTP/1.1\r\n".encode(), path, head)
    environ = EnvironBuilder(
        method=method, headers=list(sent.items()), environ_base={"REMOTE_ADDR": HOST}
    ).get_environ()
    environ["SERVER_PORT"] = str(_PORT)
    request = payload.Request(environ, cast(WSGIRequestHandler, raw))
    (api,) = template().http_apis
    found = match(api.routes, method, request.encoded_path)
    assert found, f"template.yaml has no route for {method} {path}"
    route, path_parameters = found
    verified = dict(claims) if route.authorizer else None
    return payload.event(request, content or b"", route.key, path_parameters, verified)


@dataclass
class InProcessApi:
    """The handler, as a caller sees it.

    Attributes:
        agent: the agent in the paths of `create` and `schedules`.
        calls: the calls of engines and state machines that the handler has tried. Each has failed.
        log: the log lines, as text.
    """

    agent: str = "agent0"
    calls: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def schedules(self) -> str:
        """The path of the agent's schedules."""
        return f"/agents/{self.agent}/schedules"

    def call(
        self, method: str, path: str, body: object = None, *, claims: Mapping[str, str] = ALICE, **headers: str
    ) -> HttpResponse:
        """Make a request (see `encoded`)."""
        content, sent = encoded(body, headers)
        context: Any = Context("req-1", "http-api", "arn:aws:lambda:local", "512", time.monotonic() + 30)
        result = routes.handler(event(method, path, content, sent, claims), context)
        response = payload.response(json.dumps(result).encode())
        return HttpResponse.of(response.status_code, dict(response.headers), response.get_data())

    def create(self, *, claims: Mapping[str, str] = ALICE, key: str | None = None, **changes: Any) -> HttpResponse:
        """Create a schedule."""
        headers = {} if key is None else {"Idempotency_Key": key}
        return self.call("POST", self.schedules, {**NEW_SCHEDULE, **changes}, claims=claims, **headers)

    def refuse(self, name: str) -> None:
        """Note a call, and fail it."""
        self.calls.append(name)
        raise RuntimeError(f"{name} was called, and nothing is running")


@dataclass(frozen=True)
class AbsentEngine:
    """Stands where a gateway to an engine would be. Every call of a method is noted and fails."""

    api: InProcessApi
    name: str

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *_: self.api.refuse(f"{self.name}.{method}")
