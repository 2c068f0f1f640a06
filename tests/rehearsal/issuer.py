"""An issuer of tokens that publishes its keys over https, as API Gateway expects it."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from local.stack.process import HOST
from tests.support.certificates import Authority

AUDIENCE = "agent-schedules-rehearsal"
_ALGORITHM = "RS256"
_HOST_NAME = "localhost"
_LIFETIME_SECONDS = 3600


def new_key() -> RSAKey:
    """A key that signs tokens."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": _ALGORITHM}, auto_kid=True)


class Issuer:
    """An issuer with one key.

    Attributes:
        url: what its tokens have as their claim "iss".
    """

    def __init__(self, port: int) -> None:
        self.url = f"https://{_HOST_NAME}:{port}/"
        self._key = new_key()

    def documents(self) -> dict[str, Any]:
        """What it publishes, by path."""
        keys = KeySet([RSAKey.import_key(self._key.as_dict(private=False))])
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}keys"},
            "/keys": keys.as_dict(),
        }

    def token(self, subject: str = "alice", *, key: RSAKey | None = None, **claims: Any) -> str:
        """A token. `claims` replace its own ones; `key` signs it under the name of the issuer's key."""
        now = int(time.time())
        own = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + _LIFETIME_SECONDS}
        header = {"alg": _ALGORITHM, "kid": self._key.kid}
        return jwt.encode(header, {**own, **claims}, key or self._key, algorithms=[_ALGORITHM])


@contextmanager
def publishing_issuer(authority: Authority, folder: Path) -> Iterator[Issuer]:
    """An issuer, and the server of its keys on 127.0.0.1, for as long as the block lasts. `folder` gets its key."""
    identity = authority.issue(_HOST_NAME)
    chain = folder / "issuer.pem"
    chain.write_text(identity.certificate + identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path)
            self.send_response(200 if document else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        issuer = Issuer(server.server_port)
        documents = issuer.documents()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, name="issuer")
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
