"""Lets the containers of `sam local` reach the engines of `make run`, on Linux, until Ctrl-C.

    python -m local.docker.bridge

The engines listen on 127.0.0.1. A container has a 127.0.0.1 of its own, SAM leaves every function on Docker's bridge,
and an engine that listened there too could be reached from elsewhere. So nothing listens on an address of this machine:

    function's container ─TCP─▶ relay in a container ─Unix socket in a shared folder─▶ relay here ─TCP─▶ 127.0.0.1

Docker Desktop needs none of this: its host.docker.internal leads to 127.0.0.1 by itself.
"""

import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from local.docker import relay
from local.stack.endpoints import Endpoints
from local.stack.process import StartError

# The name that samconfig.toml's parameters of `sam local invoke` have for this machine.
HOST_NAME = "host.docker.internal"

# What SAM calls the processor of this machine.
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"

# The image that SAM runs the functions on, so it is wanted here anyway.
_IMAGE = f"public.ecr.aws/lambda/python:3.13-{ARCHITECTURE}"
_INSIDE = "relay"
_STOP_SECONDS = 10.0


@contextmanager
def bridge(endpoints: Endpoints) -> Iterator[str]:
    """Let containers reach the engines on `endpoints` while the block lasts.

    Answers the IP address at which they find them, each at its usual port, whatever its port in `endpoints` is.

    Raises:
        StartError: Docker does not answer, or has no such image and cannot get it.
    """
    program = Path(relay.__file__)
    # A short path, which the address of a Unix socket has to be.
    with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
        outside = [sys.executable, str(program)]
        outside += [f"{folder}/spicedb", endpoints.spicedb, f"{folder}/temporal", endpoints.temporal]
        inside = ["docker", "run", "--rm", "--interactive", "--hostname", _INSIDE]
        inside += ["--volume", f"{folder}:/bridge", "--volume", f"{program}:/relay.py:ro"]
        inside += ["--entrypoint", "python3", _IMAGE, "/relay.py"]
        inside += [f"{_INSIDE}:{Endpoints.spicedb_port}", "/bridge/spicedb"]
        inside += [f"{_INSIDE}:{Endpoints.temporal_port}", "/bridge/temporal"]
        with _running(outside), _running(inside) as (listens_at, *_):
            yield listens_at.rpartition(":")[0]


@contextmanager
def _running(argv: list[str]) -> Iterator[list[str]]:
    """Run a relay of two addresses. Answers where it listens."""
    # It ends when its standard input does: at the end of the block, and also when this process is killed. In a session
    # of its own it hears no Ctrl-C.
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        raise StartError(f"cannot start {argv[0]}: {error.strerror}") from None
    with process:
        output = cast(IO[str], process.stdout)
        listens_at = [output.readline().strip() for _ in range(2)]
        if not all(listens_at):
            raise StartError(f"{argv[0]} ended with code {process.wait(_STOP_SECONDS)}; why, it said above")
        yield listens_at


def main() -> int:
    """Bridge to the stack on the usual ports, or those that the environment names. Answers the exit code."""
    try:
        with bridge(Endpoints.from_environment()) as address:
            print(
                "Containers reach the engines now. In another terminal, for example:\n"
                f"  .tools/bin/sam local invoke RegisterFunction --event events/register.json "
                f"--add-host {HOST_NAME}:{address}\n"
                "Ctrl-C ends it.",
                flush=True,
            )
            threading.Event().wait()
    except StartError as error:
        print(f"bridge: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
