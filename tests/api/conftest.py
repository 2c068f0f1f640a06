"""The HTTP API on the running stack: gateway, functions, state machines, and real engines with a proxy before each."""

from collections.abc import Callable, Iterator

import pytest

from local.stack.endpoints import Endpoints
from saga_api import executions
from tests.support.api import Api
from tests.support.api_stack import fresh, serving


@pytest.fixture(scope="module")
def _module_api(running_engines: Endpoints) -> Iterator[Api]:
    with serving(running_engines) as api:
        yield api


@pytest.fixture
def api(_module_api: Api) -> Iterator[Api]:
    """The API, without faults, with a new agent that alice owns. Retries do not wait."""
    with fresh(_module_api) as api:
        yield api


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets how many seconds a request waits for its execution."""

    def wait(seconds: float) -> None:
        monkeypatch.setattr(executions, "WAIT_SECONDS", seconds)
        executions._client.cache_clear()

    yield wait
    executions._client.cache_clear()
