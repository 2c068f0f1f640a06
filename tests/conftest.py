"""What several folders of tests share."""

from collections.abc import Iterator

import pytest

from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from tests.support.ports import free_port

# Whatever starts an engine. A module that imports one of them starts its own.
_STARTERS = {"LocalSpiceDB", "engines", "storm_stack"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need an engine: those that use the shared ones, and those of modules that start their own."""
    if "running_engines" in getattr(item, "fixturenames", ()) or _STARTERS & vars(getattr(item, "module", None)).keys():
        item.add_marker(pytest.mark.engines)


@pytest.fixture(scope="session")
def running_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """SpiceDB and Temporal, started once in each process for all of its tests, which use names of their own."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with engines(endpoints, tmp_path_factory.mktemp("logs"), persist=None):
        yield endpoints
