"""Serves the HTTP API for tests: gateway, functions, state machines, and real engines with a proxy before each."""

import asyncio
import io
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.aws import gateway, server
from local.aws.template import Template
from local.stack import clients
from local.stack.endpoints import Endpoints
from local.stack.issuer import public_keys, signing_key
from local.stack.parts import parameters
from saga_core import connections
from tests.support.api import Api
from tests.support.functions import forget_clients, log_lines_to
from tests.support.proxy import fault_proxy

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(endpoints: Endpoints, **given: str) -> Iterator[Api]:
    """The API of the shipped template, for as long as the block lasts. Retries do not wait.

    ``given``: parameters of the template besides those of the laptop.
    """
    with (
        fault_proxy(endpoints.spicedb) as (spicedb_proxy, spicedb_port),
        fault_proxy(endpoints.temporal) as (temporal_proxy, temporal_port),
    ):
        through = Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port)
        template = Template(ROOT / "template.yaml", {**parameters(through), **given})
        loop = asyncio.new_event_loop()
        key, access_log = signing_key(), list[str]()
        forget_clients()
        with (
            server.serve(template, on_backoff=lambda _: None) as functions,
            gateway.serve(template, public_keys(key), functions, log=access_log.append) as url,
            pytest.MonkeyPatch.context() as environment,
        ):
            # Tests count calls, and temporalio makes one of its own when it connects.
            environment.setattr(connections, "REPLACE_SECONDS", math.inf)
            yield Api(
                port=int(url.rpartition(":")[2]),
                spicedb=spicedb_proxy,
                temporal=temporal_proxy,
                authorization=clients.spicedb(endpoints),
                scheduler=loop.run_until_complete(clients.temporal(endpoints)),
                loop=loop,
                key=key,
                access_log=access_log,
                aws=functions,
            )
        forget_clients()
        loop.close()


@contextmanager
def fresh(api: Api) -> Iterator[Api]:
    """The API, without faults, with a new agent that alice owns and an empty log."""
    api.spicedb.clear()
    api.temporal.clear()
    api.agent = f"agent-{uuid.uuid4().hex[:12]}"
    api.relate(f"agent:{api.agent}#owner@user:alice")
    api.log = io.StringIO()
    with log_lines_to(api.log):
        yield api
    api.spicedb.clear()
    api.temporal.clear()
