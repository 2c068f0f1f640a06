"""The connection to the SpiceDB that the environment names: settings, secrets, client."""

from datetime import timedelta
from functools import cache
from queue import Empty, SimpleQueue

import grpc
from authzed.api.v1 import TokenAuthorization  # type: ignore[attr-defined] # authzed's stubs leave it out

from saga_core import handshake
from saga_core.connections import Connected, Connection
from saga_core.deadlines import Deadline
from saga_core.errors import AuthorizationUnavailable, ConfigurationError
from saga_core.secret_store import Secrets
from saga_core.settings import SpiceDBSettings
from saga_spicedb.calls import Client
from saga_spicedb.gateway import SpiceDB

_SETTINGS = {"address": "SPICEDB_ENDPOINT", "tls": "SPICEDB_TLS", "pems": "SPICEDB_CA_SECRET"}
_OPTIONS = [
    # Otherwise a new channel uses the connection of the one that it replaces, and waits as long before the next try.
    ("grpc.use_local_subchannel_pool", 1),
    # Milliseconds. Without a limit, gRPC waits up to two minutes between two tries. There is no keepalive: SpiceDB
    # refuses one under five minutes, and Lambda stops the clocks.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
]
# A call that any server may get, with an empty message. It is made only where there is no connection.
_HEALTH = "/grpc.health.v1.Health/Check"
_SAID_SECONDS = 0.5


@cache
def spicedb() -> SpiceDB:
    """The SpiceDB that the environment names. A warm function keeps it, and its client from the first call on.

    Raises:
        ConfigurationError: the environment is missing or malformed; at the first call, a secret.
    """
    settings = SpiceDBSettings.load()
    secrets = Secrets(AuthorizationUnavailable)
    connection = Connection(lambda timeout: connect(settings, secrets, timeout), secrets.expire)
    return SpiceDB(connection, timedelta(seconds=settings.lease_seconds))


def connect(settings: SpiceDBSettings, secrets: Secrets, timeout: float) -> Connected[Client]:
    """A client whose connection is made within ``timeout`` seconds.

    Raises:
        AuthorizationUnavailable: SpiceDB was not reached, and nothing was asked of it; or a secret cannot be read now.
        ConfigurationError: a secret cannot be used.
    """
    with secrets.before_connecting("SpiceDB", timeout) as deadline:
        token = _token(settings, secrets, deadline)
        pems = _pems(settings, secrets, deadline)
    channel = _channel(settings, pems)
    state = _state(channel, deadline.left())
    if state is grpc.ChannelConnectivity.READY:
        return Connected(Client(grpc.intercept_channel(channel, TokenAuthorization(token))), channel.close)
    said = _said(channel) if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE else None
    channel.close()
    peer = handshake.Peer(
        "SpiceDB", settings.spicedb_endpoint, settings.spicedb_tls, _SETTINGS, AuthorizationUnavailable
    )
    raise handshake.not_reached(peer, pems, secrets, said, deadline.left())


def _token(settings: SpiceDBSettings, secrets: Secrets, deadline: Deadline) -> str:
    token = secrets.read("SPICEDB_TOKEN_SECRET", settings.spicedb_token_secret, deadline.left())
    if not (token.isascii() and token.isprintable()):
        raise ConfigurationError("SPICEDB_TOKEN_SECRET: the token has characters that no token has")
    return token


def _pems(settings: SpiceDBSettings, secrets: Secrets, deadline: Deadline) -> handshake.Pems:
    if not settings.spicedb_tls or settings.spicedb_ca_secret is None:
        return handshake.Pems()
    authority = secrets.read(_SETTINGS["pems"], settings.spicedb_ca_secret, deadline.left())
    pems = handshake.Pems.of(authority=authority)
    handshake.context(pems, _SETTINGS["pems"])
    return pems


def _channel(settings: SpiceDBSettings, pems: handshake.Pems) -> grpc.Channel:
    if not settings.spicedb_tls:
        return grpc.insecure_channel(settings.spicedb_endpoint, _OPTIONS)
    authority = pems.authority.encode() if pems.authority else None
    return grpc.secure_channel(settings.spicedb_endpoint, grpc.ssl_channel_credentials(authority), _OPTIONS)


def _state(channel: grpc.Channel, timeout: float) -> grpc.ChannelConnectivity | None:
    """READY or TRANSIENT_FAILURE, whichever comes first; None if ``timeout`` seconds pass before."""
    states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            states.put(state)

    channel.subscribe(changed, try_to_connect=True)
    try:
        return states.get(timeout=max(timeout, 0))
    except Empty:
        return None
    finally:
        channel.unsubscribe(changed)


def _said(channel: grpc.Channel) -> str:
    """gRPC's own reason for a failed connection, which only a call gets."""
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)
    try:
        check(b"", timeout=_SAID_SECONDS)
    except grpc.RpcError as error:
        return str(error.details())
    return "the connection has failed once"
