"""`sam local` as a developer calls it: with the options of samconfig.toml, but a network and a port of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.docker.image import ARCHITECTURE, docker
from local.stack.endpoints import REGION
from local.stack.process import accepts_connections, start_child
from tests.support.containers import remove
from tests.support.machines import ROOT
from tests.support.ports import free_port
from tools.deployment.checks import CONFIGURATION, parameters

SAM = ROOT / ".tools" / "bin" / "sam"
# A developer's `make bridge` may run beside the tests.
NETWORK = f"agent-schedules-{os.getpid()}"
STOP_SECONDS = 60
SECONDS = 300  # the first invocation of each function builds an image

ENVIRONMENT = {"SAM_CLI_TELEMETRY": "0", "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}


def sam_local(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Call `sam local` and wait for its end."""
    return subprocess.run(
        [SAM, "local", *arguments, *_options()],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@contextmanager
def serving(command: str, logs: Path) -> Iterator[int]:
    """The port of `sam local start-api` or `start-lambda` on 127.0.0.1, for as long as the block lasts.

    Its containers are gone after the block.
    """
    port = free_port()
    argv = [str(SAM), "local", command, "--port", str(port), *_options()]
    server = start_child(f"sam local {command}", argv, ENVIRONMENT, logs / f"{command}.log")
    try:
        server.wait_ready(lambda: accepts_connections(port), SECONDS)
        yield port
    finally:
        server.process.terminate()
        try:
            server.process.wait(STOP_SECONDS)  # SAM removes its containers, but not always the last one
        finally:
            server.stop()
            remove(_containers)


def _containers() -> list[str]:
    """The ids of the containers that SAM has put into the network."""
    listed = docker("ps", "--all", "--filter", f"network={NETWORK}", "--format", "{{.ID}} {{.Image}}").splitlines()
    return [entry.split()[0] for entry in listed if entry.split()[1].startswith("samcli/")]


def _options() -> list[str]:
    # An architecture that this machine does not have could not run. Parameters on the command line replace those of the
    # file, so all of them are named.
    own = parameters(CONFIGURATION, "local") | {"Architecture": ARCHITECTURE}
    overrides = [f"{name}={value}" for name, value in own.items()]
    return ["--docker-network", NETWORK, "--parameter-overrides", *overrides]
