"""`python -m local.stack`: the laptop stack, and the project's main job shown on it. What `make run` starts.

Starts SpiceDB, Temporal and the AWS side, each in a process of its own, shows a create, a compensated create and a
delete, then stays up until Ctrl-C. With ONCE=1 it ends after the show: exit code 0 only if every step did what it
should. With PERSIST=<folder> Temporal keeps its data there between runs.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError

from local.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints
from local.process import HOST, Child, StartError, accepts_connections, require_free_port, start_child
from local.show import print_manual, show

ROOT = Path(__file__).parents[1]
LOGS = ROOT / ".local" / "logs"
START_SECONDS = 60.0


@contextmanager
def engines(endpoints: Endpoints, logs: Path, persist: Path | None) -> Iterator[list[Child]]:
    """SpiceDB and Temporal, each in a process of its own, ready to be used; they end with the block.

    Raises:
        StartError: a port is taken, or an engine does not start. The text is one line for the person at the terminal.
    """
    require_free_port(endpoints.spicedb_port, "SpiceDB", "SPICEDB_PORT")
    require_free_port(endpoints.temporal_port, "Temporal", "TEMPORAL_PORT")
    require_free_port(endpoints.temporal_ui_port, "Temporal's web interface", "TEMPORAL_UI_PORT")
    with ExitStack() as ends:
        spicedb = start_child("SpiceDB", _spicedb(endpoints), {}, logs / "spicedb.log")
        ends.callback(spicedb.stop)
        temporal = start_child("Temporal", _temporal(endpoints, persist), {}, logs / "temporal.log")
        ends.callback(temporal.stop)
        spicedb.wait_ready(lambda: accepts_connections(endpoints.spicedb_port), START_SECONDS)
        temporal.wait_ready(lambda: _temporal_answers(endpoints), START_SECONDS)
        yield [spicedb, temporal]


@contextmanager
def running(endpoints: Endpoints, logs: Path, persist: Path | None) -> Iterator[list[Child]]:
    """The whole stack, likewise."""
    require_free_port(endpoints.aws_port, "Step Functions and Lambda", "AWS_LOCAL_PORT")
    # The AWS side starts along with the engines: its functions connect at their first call.
    aws = start_child("AWS", _aws(endpoints), {}, logs / "aws.log")
    try:
        with engines(endpoints, logs, persist) as children:
            aws.wait_ready(lambda: accepts_connections(endpoints.aws_port), START_SECONDS)
            yield [*children, aws]
    finally:
        aws.stop()


def parameters(endpoints: Endpoints) -> dict[str, str]:
    """The template's parameters for a stack on these endpoints."""
    return {
        "SpiceDBEndpoint": endpoints.spicedb,
        "SpiceDBTls": "false",
        "SpiceDBTokenSecretArn": f"plain:{SPICEDB_TOKEN}",
        "TemporalAddress": endpoints.temporal,
        "TemporalNamespace": NAMESPACE,
        "TemporalTls": "false",
    }


def _spicedb(endpoints: Endpoints) -> list[str]:
    schema = str(ROOT / "schema" / "schedules.zed")
    options = ["--port", str(endpoints.spicedb_port), "--token", SPICEDB_TOKEN, "--schema", schema]
    return [sys.executable, "-m", "local.spicedb", *options]


def _temporal(endpoints: Endpoints, persist: Path | None) -> list[str]:
    program = Path(sys.executable).parent / "temporal"
    options = ["server", "start-dev", "--ip", HOST, "--log-level", "warn", "--ui-disable-news-fetch"]
    options += ["--port", str(endpoints.temporal_port), "--ui-port", str(endpoints.temporal_ui_port)]
    if persist:
        persist.mkdir(parents=True, exist_ok=True)
        options += ["--db-filename", str(persist / "temporal.db")]
    return [str(program), *options]


def _aws(endpoints: Endpoints) -> list[str]:
    options = [word for name, value in parameters(endpoints).items() for word in ("--parameter", f"{name}={value}")]
    return [sys.executable, "-m", "local.aws", "--port", str(endpoints.aws_port), *options]


def _temporal_answers(endpoints: Endpoints) -> bool:
    """Whether the server has its namespace; it listens a good while before."""

    async def ask() -> None:
        client = await endpoints.temporal_client()
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))

    if not accepts_connections(endpoints.temporal_port):
        return False
    try:
        asyncio.run(ask())
    except (RuntimeError, RPCError):  # a failed connect is a bare RuntimeError
        return False
    return True


def _stay_up(children: list[Child]) -> int:
    """Wait for Ctrl-C, or for a part to end by itself. Answers the exit code."""
    try:
        while True:
            for child in children:
                if (code := child.process.poll()) is not None:
                    print(f"{child.name} ended with code {code}; see {child.log_path}", file=sys.stderr)
                    return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0


def main() -> int:
    """Run the stack. Answers the exit code."""
    console = Console(highlight=False)
    once = os.environ.get("ONCE", "") not in ("", "0")
    persist = Path(os.environ["PERSIST"]).absolute() if os.environ.get("PERSIST") else None
    try:
        endpoints = Endpoints.from_environment()
        with ExitStack() as stack:
            with console.status("starting SpiceDB, Temporal, Step Functions and Lambda …"):
                children = stack.enter_context(running(endpoints, LOGS, persist))
            if persist:
                console.print(f"Temporal keeps its data in {persist}. SpiceDB's memory does not persist.")
            good = show(endpoints, console)
            if once or not good:
                return 0 if good else 1
            print_manual(endpoints, console)
            code = _stay_up(children)
            console.print("\nending …")
            return code
    except StartError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
