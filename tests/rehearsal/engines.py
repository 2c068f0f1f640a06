"""The laptop stack's engines, as a production network has them: behind TLS, and asking for credentials.

    functions ─TLS, token──────────────────────────▶ front ─▶ SpiceDB
    functions ─mutual TLS, client certificate, key─▶ front ─▶ Temporal

A front decrypts, checks the credential of every call and forwards the call. The credential can be changed meanwhile.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.stack.endpoints import SPICEDB_TOKEN, Endpoints
from local.stack.parts import engines
from tests.support.certificates import Authority, Issued
from tests.support.proxy import KeyProxy, serving

SPICEDB_HOST = "spicedb.rehearsal.internal"
TEMPORAL_HOST = "temporal.rehearsal.internal"


class Front(KeyProxy):
    """What stands before one engine: it takes calls with its own key, and forwards them with the engine's."""

    def __init__(self, upstream: str, engine_key: str) -> None:
        super().__init__(upstream)
        self.engine_key = engine_key
        self.rotate()

    def rotate(self) -> str:
        """Refuse the key from now on, and return the one that is accepted instead."""
        self.key = secrets.token_urlsafe(24)
        return self.key


@dataclass(frozen=True)
class Engines:
    """The running engines.

    Attributes:
        direct: where the tests themselves reach the engines, without TLS.
        spicedb, temporal: their fronts.
        spicedb_port, temporal_port: of the fronts, on 127.0.0.1.
        client: the certificate that Temporal's front accepts.
    """

    direct: Endpoints
    spicedb: Front
    temporal: Front
    spicedb_port: int
    temporal_port: int
    client: Issued


@contextmanager
def guarded_engines(endpoints: Endpoints, authority: Authority, logs: Path) -> Iterator[Engines]:
    """Both engines and their fronts, for as long as the block lasts. Raises StartError as `engines` does."""
    with engines(endpoints, logs, persist=None):
        # Temporal's development server looks at no key.
        spicedb, temporal = Front(endpoints.spicedb, SPICEDB_TOKEN), Front(endpoints.temporal, "")
        with (
            serving(spicedb, authority.issue(SPICEDB_HOST).server()) as spicedb_port,
            serving(temporal, authority.issue(TEMPORAL_HOST).server(authority)) as temporal_port,
        ):
            client = authority.issue("functions.rehearsal.internal")
            yield Engines(endpoints, spicedb, temporal, spicedb_port, temporal_port, client)
