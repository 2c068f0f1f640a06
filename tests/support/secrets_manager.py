"""Secrets Manager, as far as GetSecretValue goes: an HTTP server that holds secrets and fails as it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local.stack.process import HOST


@dataclass(frozen=True)
class Refusal:
    """An error that it responds with."""

    code: str
    status: int = 400


class Slowly:
    """A response that comes byte by byte, and does not end."""


SLOWLY = Slowly()
Value = str | bytes | Refusal | Slowly | None


@dataclass
class SecretsManager:
    """The server.

    Attributes:
        values: by reference: a text, the bytes of a binary secret, a refusal, SLOWLY, or None to respond never.
        reads: the references that were asked for, in order.
    """

    values: dict[str, Value] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def hold(self, name: str, value: Value) -> str:
        """Hold a secret. Returns its reference."""
        reference = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-aBcDeF"
        self.values[reference] = value
        return reference

    def response(self, reference: str) -> tuple[int, dict[str, str]] | Slowly | None:
        """Status and body of the response; None for none."""
        self.reads.append(reference)
        match self.values.get(reference, Refusal("ResourceNotFoundException")):
            case None:
                return None
            case Slowly():
                return SLOWLY
            case Refusal(code, status):
                return status, {"__type": code, "message": "in the words of Secrets Manager"}
            case bytes():
                return 200, {"ARN": reference, "SecretBinary": "AAEC"}
            case text:
                return 200, {"ARN": reference, "SecretString": text}


@contextmanager
def secrets_manager(environment: pytest.MonkeyPatch) -> Iterator[SecretsManager]:
    """A Secrets Manager that boto3's clients use as long as the block lasts."""
    held = SecretsManager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = held.response(asked["SecretId"])
            if response is None:
                held.over.wait()
                return
            if isinstance(response, Slowly):
                self.drip()
                return
            status, body = response
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with suppress(OSError):  # the client has gone
                while not held.over.wait(0.05):
                    self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{HOST}:{server.server_port}")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_ACCESS_KEY_ID", "test")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
    try:
        yield held
    finally:
        held.over.set()
        server.shutdown()
        server.server_close()
