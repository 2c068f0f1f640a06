"""Lets the containers of `sam local` reach the engines of `make run`, on Linux, until Ctrl-C.

    python -m local.docker.bridge

The engines listen on 127.0.0.1. A container has its own 127.0.0.1, and SAM puts every function on Docker's bridge
network. An engine that listened on an address of this machine that containers can reach could be reached by other
machines too. So only a relay in a container listens on that network, and a Unix socket leads out of it:

    function's container ─TCP─▶ relay in a container ─Unix socket in a shared folder─▶ relay here ─TCP─▶ 127.0.0.1

SAM puts the functions on the network of samconfig.toml too, where the relay has the name host.docker.internal. Docker
Desktop needs the network alone: its host.docker.internal leads to 127.0.0.1 of the machine.
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from local.docker import relay
from local.docker.image import IMAGE, docker
from local.stack.endpoints import Endpoints
from local.stack.process import StartError

# The name of this machine in the parameters of samconfig.toml's `default`, and the docker_network there.
HOST_NAME = "host.docker.internal"
NETWORK = "agent-schedules"

_INSIDE = "relay"  # the host name of the relay's container
_STOP_SECONDS = 10.0


@contextmanager
def bridge(endpoints: Endpoints, network: str = NETWORK) -> Iterator[None]:
    """Let the containers of a network reach the engines on `endpoints` while the block lasts.

    In them HOST_NAME is the host of the engines. Each has its usual port there, also when `endpoints` says another one.
    The network is made if there is none of this name, and removed at the end unless a container is still in it.

    Raises:
        StartError: Docker does not answer, or has no Lambda image and cannot pull it.
    """
    targets = {Endpoints.spicedb_port: endpoints.spicedb, Endpoints.temporal_port: endpoints.temporal}
    with _present(network), relayed(targets, network):
        yield


@contextmanager
def relayed(targets: Mapping[int, str], network: str | None = None) -> Iterator[str]:
    """Let containers reach addresses of this machine while the block lasts.

    `targets` has a `host:port` of this machine for each port on which containers reach it. Yields the IP address that
    has these ports for a container. With a network, its containers know the address by HOST_NAME.

    Raises:
        StartError: as in `bridge`.
    """
    program = Path(relay.__file__)
    # The path of a Unix socket must be short, and the system's temporary folder may be deep.
    with tempfile.TemporaryDirectory(prefix="bridge-") as folder:
        outside = [sys.executable, str(program)]
        inside = ["docker", "run", "--rm", "--interactive", "--hostname", _INSIDE]
        if network:
            inside += ["--network", network, "--network-alias", HOST_NAME]
        inside += ["--volume", f"{folder}:/bridge", "--volume", f"{program}:/relay.py:ro"]
        inside += ["--entrypoint", "python3", IMAGE, "/relay.py"]
        for port, target in targets.items():
            outside += [f"{folder}/{port}", target]
            inside += [f"{_INSIDE}:{port}", f"/bridge/{port}"]
        with _running(outside, len(targets)), _running(inside, len(targets)) as (listens_at, *_):
            yield listens_at.rpartition(":")[0]


@contextmanager
def _present(network: str) -> Iterator[None]:
    """See that the network exists while the block lasts."""
    if not docker("network", "ls", "--quiet", "--filter", f"name=^{network}$"):
        docker("network", "create", network)
    try:
        yield
    finally:
        with suppress(StartError):  # a container that is still in it keeps it: the next bridge finds it then
            docker("network", "rm", network)


@contextmanager
def _running(argv: list[str], addresses: int) -> Iterator[list[str]]:
    """Run a relay while the block lasts. Yields the addresses on which it listens."""
    # The relay ends when its standard input does: at the end of the block, and also when this process is killed. It has
    # a session of its own, so Ctrl-C does not reach it.
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        raise StartError(f"cannot start {argv[0]}: {error.strerror}") from None
    with process:
        output = cast(IO[str], process.stdout)
        listens_at = [output.readline().strip() for _ in range(addresses)]
        if not all(listens_at):
            raise StartError(f"{argv[0]} ended with code {process.wait(_STOP_SECONDS)}; its output above says why")
        yield listens_at


def main() -> int:
    """Bridge to the stack on the usual ports, or those that the environment names. Returns the exit code."""
    try:
        with bridge(Endpoints.from_environment()) if sys.platform == "linux" else _present(NETWORK):
            print(
                "Containers can reach the engines now. In another terminal, for example:\n"
                "  .tools/bin/sam local invoke RegisterFunction --event events/register.json\n"
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
