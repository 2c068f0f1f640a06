"""A path to an engine that breaks and comes back: a warm function is well soon after its return.

Seconds are printed and not compared: a busy machine needs more. A function that does not heal fails the test.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path as File

import grpc
import pytest

from local.stack.endpoints import Endpoints
from saga_core.handshake import Pems
from saga_core.settings import SpiceDBSettings
from saga_spicedb import connection
from tests.connections.world import HEAL_SECONDS, Engine, World, world
from tests.support.relay import Path, Relay, relays

# After which a client is replaced, and a secret read again.
SECONDS = 1.0
# After so many, gRPC waits for more than ten seconds, if it has no limit.
TRIES = 8
MOST_SECONDS = 12


@pytest.fixture(scope="module", params=list(Engine))
def any_world(request: pytest.FixtureRequest, running_engines: Endpoints) -> Iterator[World]:
    with world(request.param, running_engines, seconds=SECONDS) as made:
        yield made


@pytest.fixture
def warm(any_world: World) -> World:
    """A world in which the function is warm: it has called before."""
    any_world.well()
    any_world.restart()
    any_world.set("RPC_TIMEOUT_SECONDS", "1")
    any_world.until(lambda answer: answer.error is None)
    return any_world


@pytest.mark.parametrize("path", [Path.SWALLOWS, Path.RESETS, Path.CLOSED])
@pytest.mark.parametrize("outage", [0.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_warm_function_is_well_soon_after_the_path_is_back(warm: World, path: Path, outage: float) -> None:
    warm.relay.set(path)
    warm.until(lambda answer: "nothing was asked" in answer.message)
    until = time.monotonic() + outage
    while time.monotonic() < until:
        assert warm.call().error, "nothing passes"
    warm.relay.set(Path.OPEN)

    _, seconds = warm.until(lambda answer: answer.error is None)

    print(f"{warm.engine}, {path.name}, {outage} s: well after {seconds:.1f} s")


def test_a_path_that_carries_nothing_any_more_is_left_for_a_new_one(warm: World) -> None:
    """The connection stays open, nobody is told, and new connections work: a firewall has forgotten it."""
    warm.relay.lose()

    warm.until(lambda answer: answer.error is None)


def test_an_engine_that_is_down_is_asked_for_no_more_connections_than_there_are_calls(warm: World) -> None:
    warm.relay.set(Path.RESETS)
    before = warm.relay.accepted
    for _ in range(20):
        warm.call()

    # Each connect is followed by one that finds out why it fails. The client that was there tries again by itself.
    assert warm.relay.accepted - before <= 2 * 20 + 10
    warm.relay.set(Path.OPEN)


def test_a_client_that_fails_all_the_time_is_replaced_once_in_a_few_seconds(warm: World) -> None:
    warm.gate.key = "the key was changed, and Secrets Manager does not know"
    before, began = warm.relay.accepted, time.monotonic()
    read = len(warm.secrets.reads)
    while time.monotonic() - began < 5 * SECONDS:
        assert warm.call().error
        time.sleep(0.05)

    replaced = (time.monotonic() - began) // SECONDS + 1
    if warm.engine is Engine.SPICEDB:  # Temporal's client is refused already when it connects
        assert warm.relay.accepted - before <= replaced
    assert len(warm.secrets.reads) - read <= 2 * replaced


@pytest.mark.parametrize("what", ["authority", "key"])
def test_what_is_rotated_while_a_function_is_warm_is_read_anew(warm: World, what: str) -> None:
    if what == "key":
        warm.gate.key = "rotated-key-of-the-test"
        warm.hold_key(warm.gate.key)
    else:
        other = type(warm.authority)("the next authority")
        warm.serve(other.issue())
        warm.relay.set(Path.RESETS)  # a server that starts anew ends its connections
        warm.relay.set(Path.OPEN)
        warm.hold_pems(other.pem)

    _, seconds = warm.until(lambda answer: answer.error is None)

    print(f"{warm.engine}, {what}: well after {seconds:.1f} s")


@pytest.mark.parametrize("trouble", [Path.SWALLOWS, "a name that does not resolve"])
def test_secrets_are_not_read_anew_for_what_no_secret_can_mend(warm: World, trouble: Path | str) -> None:
    if isinstance(trouble, Path):
        warm.relay.set(trouble)
    else:
        warm.set(warm.setting("address"), "nowhere.invalid:443")
        warm.restart()
        warm.call()
    warm.until(lambda answer: "nothing was asked" in answer.message)
    before, began = len(warm.secrets.reads), time.monotonic()
    while time.monotonic() - began < 2 * SECONDS:
        assert warm.call().error

    assert len(warm.secrets.reads) == before


@pytest.mark.slow
def test_grpc_waits_no_longer_than_seconds_before_it_connects_again(running_engines: Endpoints) -> None:
    """However long an outage has lasted: without a limit it is two minutes."""
    host, port = running_engines.spicedb.split(":")
    with ExitStack() as closing:
        relay = Relay(closing.enter_context(relays()), int(port))
        closing.callback(relay.stop)
        settings = SpiceDBSettings(
            spicedb_endpoint=f"{host}:{relay.port}", spicedb_tls=False, spicedb_token_secret="plain:local"
        )
        channel = connection._channel(settings, Pems())
        closing.callback(channel.close)
        relay.set(Path.RESETS)
        ready = threading.Event()

        def note(state: grpc.ChannelConnectivity) -> None:
            if state is grpc.ChannelConnectivity.READY:
                ready.set()

        channel.subscribe(note, try_to_connect=True)
        while relay.accepted < TRIES:
            time.sleep(0.05)
        relay.set(Path.OPEN)

        assert ready.wait(MOST_SECONDS)
        channel.unsubscribe(note)


class Caller:
    """A process that calls an engine."""

    def __init__(self, engine: Engine, *prefix: str) -> None:
        command = [*prefix, sys.executable, "-m", "tests.connections.caller", engine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self) -> str:
        """What it says of one call; empty if the engine was asked and has responded."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def until_well(self) -> float:
        """Call until it is well. Returns after how many seconds that is."""
        began = time.monotonic()
        while said := self.call():
            assert time.monotonic() - began < HEAL_SECONDS, said
            time.sleep(0.1)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def test_a_lambda_that_was_frozen_while_its_connection_was_forgotten_is_well_soon(warm: World) -> None:
    caller = Caller(warm.engine)
    try:
        caller.until_well()
        os.kill(caller.process.pid, signal.SIGSTOP)
        warm.relay.lose()
        os.kill(caller.process.pid, signal.SIGCONT)

        seconds = caller.until_well()
    finally:
        caller.stop()

    print(f"{warm.engine}: well {seconds:.1f} s after it was woken")


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
OWN_HOSTS = (*NAMESPACE, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


def _may_have_own_hosts() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _may_have_own_hosts(), reason="it needs the right to make a mount namespace")
def test_an_engine_whose_name_gets_another_address_is_found_there(warm: World, tmp_path: File) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 engine.test\n")
    warm.serve(warm.authority.issue("engine.test"))
    warm.set(warm.setting("address"), f"engine.test:{warm.relay.port}")
    there = Relay(warm.relay._loop, warm.relay.upstream, "127.0.0.2", warm.relay.port)
    caller = Caller(warm.engine, *OWN_HOSTS, str(hosts))
    try:
        caller.until_well()
        assert not there.accepted
        warm.relay.set(Path.SWALLOWS)
        hosts.write_text("127.0.0.1 localhost\n127.0.0.2 engine.test\n")

        seconds = caller.until_well()

        assert there.accepted
    finally:
        caller.stop()
        there.stop()

    print(f"{warm.engine}: well {seconds:.1f} s after the address has changed")
