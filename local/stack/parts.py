"""The programs of the laptop stack: how each is started, and when it is ready."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.stack import issuer
from local.stack.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints
from local.stack.process import HOST, Child, StartError, accepts_connections, require_free_port, start_child
from local.stack.scheduler import Scheduler

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
PROBE_SECONDS = 2.0


@contextmanager
def engines(
    endpoints: Endpoints, logs: Path, persist: Path | None, scheduler: Scheduler = Scheduler.V1
) -> Iterator[list[Child]]:
    """SpiceDB and Temporal, each in its own process, ready for use. They end with the block.

    Raises:
        StartError: a port is taken, or an engine does not start. The text is one line for the person at the terminal.
    """
    with _up([_spicedb(endpoints), _temporal(endpoints, persist, scheduler)], logs) as children:
        yield children


@contextmanager
def temporal(
    endpoints: Endpoints, logs: Path, persist: Path | None, scheduler: Scheduler = Scheduler.V1
) -> Iterator[list[Child]]:
    """Temporal alone, ready for use. It ends with the block.

    Raises:
        StartError: as in `engines`.
    """
    with _up([_temporal(endpoints, persist, scheduler)], logs) as children:
        yield children


@contextmanager
def running(
    endpoints: Endpoints, logs: Path, persist: Path | None, scheduler: Scheduler = Scheduler.V1
) -> Iterator[list[Child]]:
    """The whole stack, each part in its own process, ready for use. The parts end with the block.

    Raises:
        StartError: as in `engines`, for any part.
    """
    # The AWS side starts together with the engines: its functions connect at their first call.
    parts = [_spicedb(endpoints), _aws(endpoints), _temporal(endpoints, persist, scheduler), _gateway(endpoints)]
    with _up(parts, logs) as children:
        yield children


def parameters(endpoints: Endpoints) -> dict[str, str]:
    """The values of the template's parameters for a stack on these endpoints."""
    return {
        "SpiceDBEndpoint": endpoints.spicedb,
        "SpiceDBTls": "false",
        "SpiceDBTokenSecretArn": f"plain:{SPICEDB_TOKEN}",
        "PageTokenSecretArn": "plain:local",
        "TemporalAddress": endpoints.temporal,
        "TemporalNamespace": NAMESPACE,
        "TemporalTls": "false",
        "JwtIssuer": issuer.ISSUER,
        "JwtAudience": issuer.AUDIENCE,
        "UserIdClaim": issuer.USER_ID_CLAIM,
        "ServiceAccountIdClaim": issuer.SERVICE_ACCOUNT_ID_CLAIM,
        "AccountIdClaim": issuer.ACCOUNT_ID_CLAIM,
    }


@dataclass(frozen=True)
class _Part:
    """A program of the stack.

    Attributes:
        ports: each with the name of what listens there and the environment variable that sets another.
        log: the name of its log file.
    """

    name: str
    ports: list[tuple[int, str, str]]
    argv: list[str]
    log: str
    ready: Callable[[], bool]


def _spicedb(endpoints: Endpoints) -> _Part:
    port = endpoints.spicedb_port
    schema = str(ROOT / "schema" / "schedules.zed")
    return _Part(
        name="SpiceDB",
        ports=[(port, "SpiceDB", "SPICEDB_PORT")],
        argv=[
            sys.executable,
            "-m",
            "local.stack.spicedb",
            "--port",
            str(port),
            "--token",
            SPICEDB_TOKEN,
            "--schema",
            schema,
        ],
        log="spicedb.log",
        ready=lambda: accepts_connections(port),
    )


def _temporal(endpoints: Endpoints, persist: Path | None, scheduler: Scheduler) -> _Part:
    port, ui_port = endpoints.temporal_port, endpoints.temporal_ui_port
    program = Path(sys.executable).parent / "temporal"
    options = ["server", "start-dev", "--ip", HOST, "--log-level", "warn", "--ui-disable-news-fetch"]
    options += ["--port", str(port), "--ui-port", str(ui_port), *scheduler.options]
    if persist:
        options += ["--db-filename", str(persist / "temporal.db")]
    return _Part(
        name="Temporal",
        ports=[(port, "Temporal", "TEMPORAL_PORT"), (ui_port, "Temporal's web interface", "TEMPORAL_UI_PORT")],
        argv=[str(program), *options],
        log="temporal.log",
        ready=lambda: _temporal_is_ready(endpoints),
    )


def _aws(endpoints: Endpoints) -> _Part:
    port = endpoints.aws_port
    return _Part(
        name="Step Functions and Lambda",
        ports=[(port, "Step Functions and Lambda", "AWS_LOCAL_PORT")],
        argv=[sys.executable, "-m", "local.aws.server", "--port", str(port), *_parameter_options(endpoints)],
        log="aws.log",
        ready=lambda: accepts_connections(port),
    )


def _gateway(endpoints: Endpoints) -> _Part:
    port = endpoints.api_port
    options = ["--port", str(port), "--functions", endpoints.aws, *_parameter_options(endpoints)]
    return _Part(
        name="HTTP API",
        ports=[(port, "HTTP API", "API_PORT")],
        argv=[sys.executable, "-m", "local.aws.gateway", *options],
        log="gateway.log",
        ready=lambda: accepts_connections(port),
    )


def _parameter_options(endpoints: Endpoints) -> list[str]:
    """The stack's own parameters, and after them those that a person gives in PARAMETERS, which replace them."""
    given = os.environ.get("PARAMETERS", "").split()
    for word in given:
        if "=" not in word:
            raise StartError(f"PARAMETERS: {word} is not NAME=VALUE")
    own = [f"{name}={value}" for name, value in parameters(endpoints).items()]
    return [word for parameter in (*own, *given) for word in ("--parameter", parameter)]


def _temporal_is_ready(endpoints: Endpoints) -> bool:
    """Whether the server has its namespace. It accepts connections some time before that."""
    # Imported here, where the parts have been started already, because it takes a while.
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.service import RPCError

    from local.stack import clients

    async def describe() -> None:
        client = await clients.temporal(endpoints)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))

    if not accepts_connections(endpoints.temporal_port):
        return False
    try:
        asyncio.run(asyncio.wait_for(describe(), PROBE_SECONDS))
    except (RuntimeError, RPCError, TimeoutError):  # a failed connect is a bare RuntimeError
        return False
    return True


@contextmanager
def _up(parts: list[_Part], logs: Path) -> Iterator[list[Child]]:
    """The parts, started together and ready for use. They end with the block."""
    taken: dict[int, str] = {}
    for port, what, variable in [port for part in parts for port in part.ports]:
        if port in taken:
            raise StartError(f"{taken[port]} and {variable} are both {port}; each needs its own port")
        require_free_port(port, what, variable)
        taken[port] = variable
    children: list[Child] = []
    try:
        for part in parts:
            child = start_child(part.name, part.argv, {}, logs / part.log)
            children.append(child)
        for child, part in zip(children, parts, strict=True):
            child.wait_ready(part.ready, START_SECONDS)
        yield children
    finally:
        for child in children:  # all at once, because each takes a moment to end
            child.process.terminate()
        for child in children:
            child.stop()
