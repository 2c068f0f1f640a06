"""The emulator of AWS that the rehearsal deploys into, and the image on which it runs the functions.

The emulator listens on 127.0.0.1 alone, checks signatures and policies, and runs each function in a container. A
container reaches the emulator and the engines through the relay of local.docker.bridge.
"""

import http.client
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.docker.bridge import HOST_NAME, relayed
from local.docker.image import ARCHITECTURE, IMAGE, docker
from local.stack.endpoints import REGION
from local.stack.process import HOST, start_child
from tests.support.containers import remove

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".rehearsal" / "bin" / "ministack"
ACCOUNT = "123456789012"
# The keys of the emulator's root user. It is for one machine.
ROOT_KEY = "rehearsal"
START_SECONDS = 60.0

# What the emulator runs the functions on, with a prefix before it: an image of our own.
_RUNTIME_IMAGE = "public.ecr.aws/lambda/python:3.13"
_INTERFACE_EMULATOR = "/usr/local/bin/aws-lambda-rie"
_ENTRYPOINT = "/usr/local/bin/rehearsal-entrypoint"
# What the image's own entrypoint does; the stand-in for it has none.
_START = f"""#!/bin/sh
export _HANDLER="$1"
exec {_INTERFACE_EMULATOR} /var/runtime/bootstrap
"""


@dataclass(frozen=True)
class Emulator:
    """The running emulator.

    Attributes:
        url: the endpoint of every service.
        port: its port, on 127.0.0.1.
        log: the file with its output.
    """

    url: str
    port: int
    log: Path

    def environment(self) -> dict[str, str]:
        """What a program has to have in its environment to use the emulator as its root user."""
        return {
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }


@contextmanager
def emulator(port: int, hosts: Mapping[str, tuple[int, str]], authority: Path, logs: Path) -> Iterator[Emulator]:
    """The emulator on `port`, for as long as the block lasts. Its containers are gone after it.

    `hosts` has the names that the functions can reach: each with its port, and the `host:port` of this machine behind
    it. `authority` is the certificate of whom the emulator trusts when it fetches the issuer's keys.

    Raises:
        StartError: Docker does not answer, or the emulator does not start.
    """
    targets = {port: f"{HOST}:{port}", **dict(hosts.values())}
    owner = f"rehearsal-{port}"
    with (
        tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch,
        _runtime_image(owner),
        relayed(targets) as address,
    ):
        names = [HOST_NAME, *hosts]
        environment = {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "MINISTACK_HOSTNAME": owner,
            "MINISTACK_IMAGE_PREFIX": owner,
            "LAMBDA_EXECUTOR": "docker",
            "LAMBDA_STRICT": "1",
            "LAMBDA_DOCKER_FLAGS": " ".join(f"--add-host {name}:{address}" for name in names),
            "IOT_MTLS_ENABLED": "0",  # it would listen on every address of this machine
            "SSL_CERT_FILE": str(authority),
            "STATE_DIR": f"{scratch}/state",
            "TMPDIR": scratch,  # the code of the functions, which the containers mount
            "NO_PROXY": f"{HOST},localhost",
            "no_proxy": f"{HOST},localhost",
        }
        log = logs / "emulator.log"
        child = start_child("the emulator", [str(PROGRAM)], environment, log)
        running = Emulator(f"http://{HOST}:{port}", port, log)
        try:
            child.wait_ready(lambda: _answers(running), START_SECONDS)
            yield running
        finally:
            child.stop()
            remove(lambda: _containers(f"{owner}:{port}"))


def containers(emulator_: Emulator) -> list[str]:
    """The ids of the emulator's containers."""
    return _containers(f"rehearsal-{emulator_.port}:{emulator_.port}")


def _containers(instance: str) -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"label=ministack.instance={instance}").split()


def _answers(emulator_: Emulator) -> bool:
    connection = http.client.HTTPConnection(HOST, emulator_.port, timeout=2)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _runtime_image(prefix: str) -> Iterator[None]:
    """Lambda's image, or its stand-in, with the interface emulator that SAM brings, while the block lasts."""
    programs = (ROOT / ".tools").glob(f"lib/*/site-packages/samcli/local/rapid/aws-lambda-rie-{ARCHITECTURE}")
    image = f"{prefix}/{_RUNTIME_IMAGE}"
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch:
        root = Path(scratch) / "root"
        contents = {_ENTRYPOINT: _START.encode(), _INTERFACE_EMULATOR: next(programs).read_bytes()}
        for path, content in contents.items():
            file = root / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o755)
        container = docker("create", IMAGE, "sh")
        try:
            docker("cp", f"{root}/.", f"{container}:/")
            docker("commit", "--change", f'ENTRYPOINT ["{_ENTRYPOINT}"]', container, image)
        finally:
            docker("rm", container)
    try:
        yield
    finally:
        docker("image", "rm", image)
