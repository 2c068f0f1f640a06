"""The connection to the Temporal that the environment names: settings, secrets, client, event loops."""

import asyncio
import json
import re
import traceback
from collections import deque
from collections.abc import Coroutine
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from temporalio.service import ConnectConfig, ServiceClient, TLSConfig

from saga_core import handshake
from saga_core.connections import Connected, Connection
from saga_core.deadlines import Deadline
from saga_core.errors import ConfigurationError, TemporalUnavailable
from saga_core.secret_store import Secrets
from saga_core.settings import TemporalSettings
from saga_temporal.calls import WorkflowService
from saga_temporal.gateway import Temporal

_KEY = "TEMPORAL_API_KEY_SECRET"
# The key is named also where none is set: a server may require one.
_SETTINGS = {"address": "TEMPORAL_ADDRESS", "tls": "TEMPORAL_TLS", "pems": "TEMPORAL_TLS_SECRET", "key": _KEY}
_TLS_KEYS = {"server_root_ca_cert": "authority", "client_cert": "certificate", "client_private_key": "key"}
# How temporalio shows the response to the call that it makes when it connects.
_REFUSED = re.compile(r"Status \{ code: '?(\w+)")
# Seconds after which temporalio gives up a connection that nobody waits for any more.
_ABANDONED_SECONDS = 1.0
# Not in use now: there are as many as there were calls at the same time.
_idle_loops: deque[asyncio.AbstractEventLoop] = deque()

T = TypeVar("T")


@cache
def temporal() -> Temporal:
    """The Temporal that the environment names. A warm function keeps it, and its connection from the first call on.

    Raises:
        ConfigurationError: the environment is missing or malformed; at the first call, a secret.
    """
    settings = TemporalSettings.load()
    secrets = Secrets(TemporalUnavailable)
    connection = Connection(lambda timeout: connect(settings, secrets, timeout), secrets.expire)
    return Temporal(connection, settings.temporal_namespace, _run)


def connect(settings: TemporalSettings, secrets: Secrets, timeout: float) -> Connected[WorkflowService]:
    """A service whose connection is made within ``timeout`` seconds.

    Raises:
        TemporalUnavailable: Temporal was not reached, and nothing was asked of it; or a secret cannot be read now.
        ConfigurationError: a secret cannot be used.
    """
    with secrets.before_connecting("Temporal", timeout) as deadline:
        api_key = _api_key(settings, secrets, deadline)
        pems = _pems(settings, secrets, deadline)
    left = deadline.left()
    config = ConnectConfig(
        settings.temporal_address,
        api_key=api_key,
        tls=_tls(pems) if settings.temporal_tls else False,
        keep_alive_config=None,  # Lambda stops the clocks between two calls
        connect_timeout=timedelta(seconds=left + _ABANDONED_SECONDS),
    )
    said = None
    try:
        client: ServiceClient = _run(asyncio.wait_for(ServiceClient.connect(config), left))
    except TimeoutError:
        pass
    except ValueError:
        raise ConfigurationError(f"{_SETTINGS['address']}: temporalio does not take the address") from None
    except RuntimeError as error:
        # All that temporalio raises when it cannot connect, or when Temporal does not say who it is.
        said = _said(error)
    else:
        # The connection ends with the client, whose parts refer to each other.
        return Connected(client.workflow_service, vars(client).clear)
    peer = handshake.Peer("Temporal", settings.temporal_address, settings.temporal_tls, _SETTINGS, TemporalUnavailable)
    raise handshake.not_reached(peer, pems, secrets, said, deadline.left())


def _said(error: RuntimeError) -> str:
    """The library's reason. Of a response that refuses the first call, the code: the rest is the server's own words."""
    said = str(error)
    refused = _REFUSED.search(said)
    if refused is None:
        return said
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", refused[1]).upper()
    return f"the first call is refused: {code}"


def _api_key(settings: TemporalSettings, secrets: Secrets, deadline: Deadline) -> str | None:
    if settings.temporal_api_key_secret is None:
        return None
    key = secrets.read(_KEY, settings.temporal_api_key_secret, deadline.left())
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{_KEY}: the key has characters that no key has")
    return key


def _pems(settings: TemporalSettings, secrets: Secrets, deadline: Deadline) -> handshake.Pems:
    if not settings.temporal_tls or settings.temporal_tls_secret is None:
        return handshake.Pems()
    setting = _SETTINGS["pems"]
    try:
        held = json.loads(secrets.read(setting, settings.temporal_tls_secret, deadline.left()))
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or not held or not all(isinstance(held.get(key, ""), str) for key in held):
        raise ConfigurationError(f"{setting} must be a JSON object of PEMs: any of {', '.join(_TLS_KEYS)}")
    if not held.keys() <= _TLS_KEYS.keys():
        raise ConfigurationError(f"{setting} has other keys than {', '.join(_TLS_KEYS)}")
    pems = handshake.Pems.of(**{_TLS_KEYS[key]: value for key, value in held.items()})
    handshake.context(pems, setting)
    return pems


def _tls(pems: handshake.Pems) -> TLSConfig:
    def encoded(pem: str | None) -> bytes | None:
        return pem.encode() if pem else None

    return TLSConfig(
        server_root_ca_cert=encoded(pems.authority),
        client_cert=encoded(pems.certificate),
        client_private_key=encoded(pems.key),
    )


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in this thread. temporalio's client may be used from any event loop."""
    try:
        loop = _idle_loops.pop()
    except IndexError:
        loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    except Exception as error:
        # An error, its cause and their frames refer to each other, and a frame has the client, which would stay open.
        for each in (error, error.__context__):
            if each:
                traceback.clear_frames(each.__traceback__)
        raise
    finally:
        _idle_loops.append(loop)
