"""The resources of template.yaml that run on a laptop: functions, state machines and HTTP APIs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROUTE = "$default"  # the path of the route for requests that no other route matches


@dataclass(frozen=True)
class Function:
    """A Lambda function.

    Attributes:
        code: the CodeUri folder, absolute.
        handler: the Handler property, `<module>.<name>`, inside that folder.
        module: the module of the handler, seen from the template's folder: `functions.register.app`.
        environment: its variables, those of Globals included.
        timeout: seconds.
        memory: MB.
    """

    logical_id: str
    name: str
    arn: str
    code: Path
    handler: str
    module: str
    environment: Mapping[str, str]
    timeout: int
    memory: int


@dataclass(frozen=True)
class StateMachine:
    """A state machine.

    Attributes:
        type: STANDARD or EXPRESS.
        definition: the ASL text, with every `${…}` substituted.
        alias: the name under which SAM publishes its latest version; empty if it publishes none.
    """

    logical_id: str
    name: str
    arn: str
    type: str
    definition: str
    alias: str = ""


@dataclass(frozen=True)
class Authorizer:
    """A JWT authorizer of an HTTP API.

    Attributes:
        header: the request header that holds the token, in lower case.
        issuer: the only value of the token's `iss` that is accepted.
        audience: the token's `aud` must contain one of these.
    """

    name: str
    header: str
    issuer: str
    audience: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """A route of an HTTP API.

    Attributes:
        method: in capitals; ANY means every method.
        path: `/agents/{agent_id}`, `/files/{rest+}`, or `$default`.
        authorizer: None if the route needs no token.
        scopes: the token needs at least one of them; empty if it needs none.
    """

    method: str
    path: str
    function: Function
    authorizer: Authorizer | None
    scopes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """API Gateway's name for it: `GET /agents/{agent_id}`, or `$default`."""
        return self.path if self.path == DEFAULT_ROUTE else f"{self.method} {self.path}"

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path between the slashes. A parameter keeps its braces."""
        return tuple(self.path.split("/")[1:])


@dataclass(frozen=True)
class Cors:
    """What an HTTP API allows to the pages of other origins.

    Attributes:
        origins: each as a browser sends it, or `*`, `https://*`, `http://*`.
        methods, headers: of the requests that they may send; `*` allows all.
        exposed: the headers of a response that they may read.
        max_age: for how many seconds a browser may keep the answer to a preflight request; None says nothing of it.
        credentials: whether a browser may send cookies along.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool = False


@dataclass(frozen=True)
class HttpApi:
    """An HTTP API.

    Attributes:
        routes: in the order of the file.
        access_log_format: the text of a log line with `$context.…` variables; empty if nothing is logged.
        cors: None if pages of other origins may not call it.
    """

    logical_id: str
    routes: tuple[Route, ...]
    access_log_format: str
    cors: Cors | None = None


def is_parameter(segment: str) -> bool:
    """Whether a segment of a route's path is a parameter, which matches any text."""
    return segment.startswith("{")


def is_greedy(segment: str) -> bool:
    """Whether a segment is a parameter that matches the rest of a path, `{rest+}`."""
    return segment.endswith("+}")
