"""What several folders of tests share."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from local.stack.scheduler import Scheduler
from tests.support import schedulers
from tests.support.ports import free_port

# Whatever starts an engine. A module that imports one of them starts its own.
_STARTERS = {"LocalSpiceDB", "engines", "storm_stack"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--scheduler``: which of Temporal's schedulers makes the schedules of the tests."""
    parser.addoption("--scheduler", type=Scheduler, choices=list(Scheduler), help="Temporal's scheduler (default: v1)")


def pytest_configure() -> None:
    """Let the processes of the tests be interrupted, also where a shell has started these in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need an engine: those that use the shared ones, and those of modules that start their own."""
    if "running_engines" in getattr(item, "fixturenames", ()) or _STARTERS & vars(getattr(item, "module", None)).keys():
        item.add_marker(pytest.mark.engines)


@pytest.fixture(scope="module")
def scheduler(request: pytest.FixtureRequest) -> Scheduler:
    """The scheduler that the command line names, or V1. A module may have parameters for it instead."""
    return request.config.getoption("--scheduler") or Scheduler.V1


@pytest.fixture(scope="session")
def _engines_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Scheduler], Endpoints]]:
    with ExitStack() as running:

        @cache
        def start(scheduler: Scheduler) -> Endpoints:
            endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
            running.enter_context(engines(endpoints, tmp_path_factory.mktemp("logs"), None, scheduler))
            asyncio.run(schedulers.prove(endpoints, scheduler))
            return endpoints

        yield start


@pytest.fixture(scope="module")
def running_engines(_engines_of: Callable[[Scheduler], Endpoints], scheduler: Scheduler) -> Endpoints:
    """SpiceDB and Temporal, started once in each process for all of its tests, which use names of their own.

    It is seen that Temporal makes schedules with the scheduler that is asked for.
    """
    return _engines_of(scheduler)
