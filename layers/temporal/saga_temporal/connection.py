"""The connection to the Temporal that the environment names: settings, secrets, client, event loop."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from temporalio.client import Client, TLSConfig

from saga_core.errors import ConfigurationError
from saga_core.settings import TemporalSettings, read_secret
from saga_temporal.calls import Run, WorkflowService
from saga_temporal.gateway import Temporal

T = TypeVar("T")


@cache
def temporal() -> Temporal:
    """The Temporal that the environment names. A warm function keeps it, and its connection from the first call on.

    Raises:
        ConfigurationError: the environment is missing or malformed; at the first call, a secret.
    """
    settings = TemporalSettings.load()

    async def connect(timeout: float) -> WorkflowService:
        return await _connect(settings, timeout)

    return Temporal(connect, settings.temporal_namespace, _loop_in_background())


async def _connect(settings: TemporalSettings, timeout: float) -> WorkflowService:
    api_key = read_secret(settings.temporal_api_key_secret) if settings.temporal_api_key_secret else None
    connecting = Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=api_key,
        tls=_tls(settings),
        connect_timeout=timedelta(seconds=timeout),
    )
    return (await asyncio.wait_for(connecting, timeout)).workflow_service


def _tls(settings: TemporalSettings) -> TLSConfig | bool:
    if not settings.temporal_tls or settings.temporal_tls_secret is None:
        return settings.temporal_tls
    try:
        pems = {key: value.encode() for key, value in json.loads(read_secret(settings.temporal_tls_secret)).items()}
        return TLSConfig(
            server_root_ca_cert=pems.pop("server_root_ca_cert", None),
            client_cert=pems.pop("client_cert", None),
            client_private_key=pems.pop("client_private_key", None),
            **pems,
        )
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            "TEMPORAL_TLS_SECRET must be a JSON object of server_root_ca_cert, client_cert, client_private_key"
        ) from None


def _loop_in_background() -> Run:
    """Start an event loop in a thread of its own: temporalio is asynchronous, and a connection belongs to one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="temporal", daemon=True).start()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return run
