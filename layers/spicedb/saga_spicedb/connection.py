"""The connection to the SpiceDB that the environment names: settings, secrets, client."""

from datetime import timedelta
from functools import cache

from authzed.api.v1 import Client, InsecureClient
from grpcutil import bearer_token_credentials

from saga_core.settings import SpiceDBSettings, read_secret
from saga_spicedb.gateway import SpiceDB


@cache
def spicedb() -> SpiceDB:
    """The SpiceDB that the environment names. A warm function keeps it, and its client from the first call on.

    Raises:
        ConfigurationError: the environment is missing or malformed; at the first call, a secret.
    """
    settings = SpiceDBSettings.load()
    return SpiceDB(lambda: _connect(settings), timedelta(seconds=settings.lease_seconds))


def _connect(settings: SpiceDBSettings) -> Client:
    token = read_secret(settings.spicedb_token_secret)
    if not settings.spicedb_tls:
        return InsecureClient(settings.spicedb_endpoint, token)
    authority = read_secret(settings.spicedb_ca_secret).encode() if settings.spicedb_ca_secret else None
    return Client(settings.spicedb_endpoint, bearer_token_credentials(token, authority))
