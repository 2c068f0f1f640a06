"""local.docker.relay, run as the container runs it: as a script, in a chain of two with a Unix socket between them."""

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.docker import relay
from local.stack.process import HOST
from tests.support.ports import free_port

SECONDS = 10


def start(*addresses: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, relay.__file__, *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.fixture
def path() -> Iterator[str]:
    """The path of a Unix socket; pytest's own temporary paths are too long for one."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        yield str(Path(folder) / "engine")


@pytest.fixture
def target() -> int:
    return free_port()


@pytest.fixture
def entrance(path: str, target: int) -> Iterator[tuple[str, int]]:
    """The address of a chain of two relays that leads to `target`."""
    with start(path, f"{HOST}:{target}") as outside, start("localhost:0", path) as inside:
        assert first_line(outside) == path
        host, _, port = first_line(inside).rpartition(":")
        yield host, int(port)
        for process in (inside, outside):
            process.communicate(timeout=SECONDS)  # closes its standard input
        assert (inside.returncode, outside.returncode) == (0, 0)


def test_bytes_pass_in_both_directions_until_one_side_closes(entrance: tuple[str, int], target: int) -> None:
    sent = bytes(range(256)) * 4096
    received = b""

    def answer_and_close() -> None:
        connection, _ = engine.accept()
        with connection:
            heard = b""
            while len(heard) < len(sent):
                heard += connection.recv(65_536)
            connection.sendall(heard[::-1])

    with socket.create_server((HOST, target)) as engine:
        answering = threading.Thread(target=answer_and_close)
        answering.start()
        with socket.create_connection(entrance, timeout=SECONDS) as caller:
            caller.sendall(sent)
            while chunk := caller.recv(65_536):
                received += chunk
        answering.join(SECONDS)

    assert received == sent[::-1]


def test_a_connection_is_closed_when_nothing_listens_at_the_target(entrance: tuple[str, int]) -> None:
    with socket.create_connection(entrance, timeout=SECONDS) as caller:
        assert caller.recv(1) == b""


def test_it_prints_the_ip_address_on_which_it_listens(entrance: tuple[str, int]) -> None:
    assert entrance[0] == HOST
