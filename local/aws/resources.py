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
        path: `/agents/{agent_id}`, or `$default`.
        authorizer: None if the route needs no token.
    """

    method: str
    path: str
    function: Function
    authorizer: Authorizer | None

    @property
    def key(self) -> str:
        """API Gateway's name for it: `GET /agents/{agent_id}`, or `$default`."""
        return self.path if self.path == DEFAULT_ROUTE else f"{self.method} {self.path}"

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path between the slashes. A parameter keeps its braces."""
        return tuple(self.path.split("/")[1:])


@dataclass(frozen=True)
class HttpApi:
    """An HTTP API.

    Attributes:
        routes: in the order of the file.
        access_log_format: the text of a log line with `$context.…` variables; empty if nothing is logged.
    """

    logical_id: str
    routes: tuple[Route, ...]
    access_log_format: str


def is_parameter(segment: str) -> bool:
    """Whether a segment of a route's path is a parameter, which matches any text."""
    return segment.startswith("{")
