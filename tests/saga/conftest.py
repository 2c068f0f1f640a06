"""The stack of the saga tests: proxies and a server for each module, an agent of its own for each test."""

from collections.abc import Iterator

import pytest

from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.parts import parameters
from tests.support.machines import ROOT
from tests.support.proxy import FaultProxy, fault_proxy
from tests.support.saga_stack import Stack, fresh, serving


@pytest.fixture(scope="module")
def _proxies(running_engines: Endpoints) -> Iterator[tuple[FaultProxy, FaultProxy, Template]]:
    with (
        fault_proxy(running_engines.spicedb) as (spicedb_proxy, spicedb_port),
        fault_proxy(running_engines.temporal) as (temporal_proxy, temporal_port),
    ):
        through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
        yield spicedb_proxy, temporal_proxy, Template(ROOT / "template.yaml", parameters(through))


@pytest.fixture(scope="module")
def _module_stack(running_engines: Endpoints, _proxies: tuple[FaultProxy, FaultProxy, Template]) -> Iterator[Stack]:
    with serving(running_engines, _proxies, time_scale=1) as stack:
        yield stack


@pytest.fixture
def stack(_module_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The running stack. Retries do not wait; they are recorded (`Stack.waits`)."""
    with fresh(_module_stack, monkeypatch) as stack:
        yield stack


@pytest.fixture
def hasty(
    running_engines: Endpoints, _proxies: tuple[FaultProxy, FaultProxy, Template], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """A stack whose functions and tasks have about a seventh of the deployed timeouts."""
    with serving(running_engines, _proxies, time_scale=0.15) as served, fresh(served, monkeypatch) as stack:
        yield stack
