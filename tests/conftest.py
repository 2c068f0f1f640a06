"""What several folders of tests share."""

from collections.abc import Iterator

import pytest

from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def running_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """SpiceDB and Temporal, started once for all tests, which keep apart by the names that they use."""
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with engines(endpoints, tmp_path_factory.mktemp("logs"), persist=None):
        yield endpoints
