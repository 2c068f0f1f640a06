"""Threads and descriptors stay as many as they were, however often an engine refuses."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path as File

import grpc
import pytest

from local.stack.endpoints import Endpoints
from tests.connections.world import Engine, World, world
from tests.support.relay import Path

# Of threads or of descriptors: those that come and go.
SPARE = 12

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.fixture(scope="module", params=list(Engine))
def any_world(request: pytest.FixtureRequest, running_engines: Endpoints) -> Iterator[World]:
    """Every call of a client that has failed makes a new one."""
    with world(request.param, running_engines, seconds=0) as made:
        yield made


def used() -> tuple[int, int]:
    """The threads and the open descriptors of this process."""
    threads, descriptors = (len(list(File("/proc/self", kind).iterdir())) for kind in ("task", "fd"))
    return threads, descriptors


def _wrong_key(world: World) -> None:
    world.hold_key("wrong-key-of-the-test")


def _no_permission(world: World) -> None:
    world.gate.refusal, world.gate.open_methods = grpc.StatusCode.PERMISSION_DENIED, frozenset({"GetSystemInfo"})
    _wrong_key(world)


def _down(world: World) -> None:
    world.relay.set(Path.CLOSED)


def _wrong_authority(world: World) -> None:
    world.hold_pems(type(world.authority)("another").pem)


@pytest.mark.parametrize(
    ("refusal", "times"),
    [
        (_wrong_key, 20),
        (_no_permission, 20),
        (_down, 20),
        (_wrong_authority, 20),
        pytest.param(_wrong_key, 1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_refusals_leave_no_threads_and_no_descriptors(
    any_world: World, refusal: Callable[[World], None], times: int
) -> None:
    any_world.well()
    any_world.restart()
    refusal(any_world)
    for _ in range(10):
        assert any_world.call().error
    threads, descriptors = used()

    gc.disable()  # a connection ends when it is left, not when garbage happens to be collected
    try:
        for _ in range(times):
            assert any_world.call().error
        after = used()
    finally:
        gc.enable()

    print(f"{any_world.engine}, {refusal.__name__}, {times}: {(threads, descriptors)} → {after}")
    assert after[0] <= threads + SPARE
    assert after[1] <= descriptors + SPARE
    any_world.relay.set(Path.OPEN)
