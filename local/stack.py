"""`python -m local.stack`: the laptop stack, and the project's main job shown on it. What `make run` starts.

Starts SpiceDB, Temporal and the AWS side, each in a process of its own, shows a create, a compensated create and a
delete (local.show), then stays up until Ctrl-C or SIGTERM. With ONCE=1 it ends after the show. With PERSIST=<folder>
Temporal keeps its data there between runs.

Exit codes: 0 when every step of the show did what it should, also when Ctrl-C then ends the stack; 130 when Ctrl-C
comes before the show is over; 1 when a part cannot start or ends by itself, or a step of the show went wrong.
"""

import signal
import sys

if __name__ == "__main__":
    # Before anything else, because the imports take a moment; local.process tells why, and looks for what has come.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError

from local import token
from local.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints, bypass_proxies
from local.process import (
    HOST,
    Child,
    StartError,
    accepts_connections,
    raise_interrupt,
    require_free_port,
    start_child,
)
from local.show import plain_console, print_manual

ROOT = Path(__file__).parents[1]
LOGS = ROOT / ".local" / "logs"
START_SECONDS = 60.0
PROBE_SECONDS = 2.0
POLL_SECONDS = 0.05

_PERSISTING = """
Temporal keeps its data in {folder}.
SpiceDB's memory does not persist: every run starts without relationships, those that make somebody own an agent too.
So a schedule that Temporal has kept from an earlier run has none, and nobody may see or change it. Delete it with
delete-schedule, make somebody own its agent (make agent), and create it again."""


@contextmanager
def engines(endpoints: Endpoints, logs: Path, persist: Path | None) -> Iterator[list[Child]]:
    """SpiceDB and Temporal, each in a process of its own, ready to be used; they end with the block.

    Raises:
        StartError: a port is taken, or an engine does not start. The text is one line for the person at the terminal.
    """
    with _up([_spicedb(endpoints), _temporal(endpoints, persist)], logs) as children:
        yield children


@contextmanager
def running(endpoints: Endpoints, logs: Path, persist: Path | None) -> Iterator[list[Child]]:
    """The whole stack, likewise."""
    # The AWS side starts along with the engines: its functions connect at their first call.
    parts = [_spicedb(endpoints), _aws(endpoints), _temporal(endpoints, persist), _gateway(endpoints)]
    with _up(parts, logs) as children:
        yield children


def parameters(endpoints: Endpoints) -> dict[str, str]:
    """The template's parameters for a stack on these endpoints."""
    return {
        "SpiceDBEndpoint": endpoints.spicedb,
        "SpiceDBTls": "false",
        "SpiceDBTokenSecretArn": f"plain:{SPICEDB_TOKEN}",
        "TemporalAddress": endpoints.temporal,
        "TemporalNamespace": NAMESPACE,
        "TemporalTls": "false",
        "JwtIssuer": token.ISSUER,
        "JwtAudience": token.AUDIENCE,
        "UserIdClaim": token.USER_ID_CLAIM,
        "ServiceAccountIdClaim": token.SERVICE_ACCOUNT_ID_CLAIM,
        "AccountIdClaim": token.ACCOUNT_ID_CLAIM,
    }


@dataclass(frozen=True)
class _Part:
    """A program of the stack.

    Attributes:
        ports: each with what answers there and the variable that moves it.
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
        argv=[sys.executable, "-m", "local.spicedb", "--port", str(port), "--token", SPICEDB_TOKEN, "--schema", schema],
        log="spicedb.log",
        ready=lambda: accepts_connections(port),
    )


def _temporal(endpoints: Endpoints, persist: Path | None) -> _Part:
    port, ui_port = endpoints.temporal_port, endpoints.temporal_ui_port
    program = Path(sys.executable).parent / "temporal"
    options = ["server", "start-dev", "--ip", HOST, "--log-level", "warn", "--ui-disable-news-fetch"]
    options += ["--port", str(port), "--ui-port", str(ui_port)]
    if persist:
        options += ["--db-filename", str(persist / "temporal.db")]
    return _Part(
        name="Temporal",
        ports=[(port, "Temporal", "TEMPORAL_PORT"), (ui_port, "Temporal's web interface", "TEMPORAL_UI_PORT")],
        argv=[str(program), *options],
        log="temporal.log",
        ready=lambda: _temporal_answers(endpoints),
    )


def _aws(endpoints: Endpoints) -> _Part:
    port = endpoints.aws_port
    return _Part(
        name="Step Functions and Lambda",
        ports=[(port, "Step Functions and Lambda", "AWS_LOCAL_PORT")],
        argv=[sys.executable, "-m", "local.aws", "--port", str(port), *_parameter_options(endpoints)],
        log="aws.log",
        ready=lambda: accepts_connections(port),
    )


def _gateway(endpoints: Endpoints) -> _Part:
    port = endpoints.api_port
    options = ["--port", str(port), "--functions", endpoints.aws, *_parameter_options(endpoints)]
    return _Part(
        name="HTTP API",
        ports=[(port, "HTTP API", "API_PORT")],
        argv=[sys.executable, "-m", "local.gateway", *options],
        log="gateway.log",
        ready=lambda: accepts_connections(port),
    )


def _parameter_options(endpoints: Endpoints) -> list[str]:
    return [word for name, value in parameters(endpoints).items() for word in ("--parameter", f"{name}={value}")]


def _temporal_answers(endpoints: Endpoints) -> bool:
    """Whether the server has its namespace; it listens a good while before."""

    async def ask() -> None:
        client = await endpoints.temporal_client()
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))

    if not accepts_connections(endpoints.temporal_port):
        return False
    try:
        asyncio.run(asyncio.wait_for(ask(), PROBE_SECONDS))
    except (RuntimeError, RPCError, TimeoutError):  # a failed connect is a bare RuntimeError
        return False
    return True


@contextmanager
def _up(parts: list[_Part], logs: Path) -> Iterator[list[Child]]:
    """All the parts, started side by side and ready to be used; they end with the block."""
    taken: dict[int, str] = {}
    for port, what, variable in [port for part in parts for port in part.ports]:
        if port in taken:
            raise StartError(f"{taken[port]} and {variable} are both {port}; each needs a port of its own")
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
        for child in children:  # all are told first, because each takes its moment
            child.process.terminate()
        for child in children:
            child.stop()


def _persist() -> Path | None:
    """The folder that PERSIST names, made if need be."""
    if not (name := os.environ.get("PERSIST")):
        return None
    folder = Path(name).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"PERSIST={name} cannot be a folder: {error.strerror}") from error
    return folder


@contextmanager
def _progress(console: Console, text: str) -> Iterator[None]:
    """Say what takes a while: in a terminal with a sign of life, elsewhere in a plain line."""
    if console.is_interactive:
        with console.status(text):
            yield
    else:
        console.print(text)
        yield


def _watch(parts: list[Child], show: Child | None) -> bool:
    """Wait for the end of the show, if there is one, and answer whether it was good; without one wait for ever.

    Raises:
        StartError: a part ended by itself.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    while True:
        code = show.process.poll() if show else None
        raise_interrupt()
        for part in parts:  # after a look at the show, which fails when a part does
            if end := part.ended():
                raise StartError(end)
        if show and code is not None:
            if code < 0 and (end := show.ended()):
                raise StartError(end)
            return code == 0
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Run the stack. Answers the exit code."""
    console = plain_console()
    once = os.environ.get("ONCE", "") not in ("", "0")
    was_good = False
    bypass_proxies()
    try:
        endpoints = Endpoints.from_environment()
        persist = _persist()
        logs = LOGS / str(endpoints.aws_port)  # a folder for each of several stacks
        with ExitStack() as stack:
            with _progress(console, "starting SpiceDB, Temporal, Step Functions and Lambda …"):
                parts = stack.enter_context(running(endpoints, logs, persist))
            stack.callback(console.print, "ending …")
            console.print(f"started; the logs are in {logs}")
            if persist:
                console.print(_PERSISTING.format(folder=persist))
            show = start_child("The show", [sys.executable, "-m", "local.show"], {}, None)
            stack.callback(show.stop)
            was_good = _watch(parts, show)
            if was_good and not once:
                print_manual(endpoints, logs)
                _watch(parts, None)
    except StartError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if was_good else 130
    return 0 if was_good else 1


if __name__ == "__main__":
    sys.exit(main())
