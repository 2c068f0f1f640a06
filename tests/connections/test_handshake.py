"""What a connection by hand finds out, where a server of gRPC's cannot be made to behave so."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from local.stack.process import HOST
from saga_core.errors import TemporalUnavailable
from saga_core.handshake import Finding, Peer, Pems, examine
from tests.support.certificates import NAME, Authority, Issued

AUTHORITY = Authority()
SERVER = AUTHORITY.issue()
SETTINGS = {"address": "ADDRESS", "tls": "TLS", "pems": "PEMS"}


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port whose first connection is given to ``serve``."""
    with socket.create_server((HOST, 0)) as server:

        def accept() -> None:
            connection = server.accept()[0]
            with connection, suppress(OSError):  # the client has gone
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join()


def found(serve: Callable[[socket.socket], object], *, tls: bool = True, client: Issued | None = None) -> Finding:
    pems = Pems(AUTHORITY.pem, client.certificate, client.key) if client else Pems(AUTHORITY.pem)
    with listening(serve) as port:
        return examine(
            Peer("Temporal", f"{NAME}:{port}", tls, SETTINGS, TemporalUnavailable), pems, "the library's own"
        )


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    both = tmp_path / "both.pem"
    both.write_text(SERVER.certificate + SERVER.key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(both)
    made.set_alpn_protocols(["h2"])
    return made


def ends_tls(context: ssl.SSLContext) -> Callable[[socket.socket], object]:
    """Ends TLS, and reads what comes first."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    return serve


@pytest.mark.parametrize(
    ("client", "said"),
    # Python before 3.13 has no name for the first alert.
    [(None, r"CERTIFICATE_REQUIRED|refuses the client"), (Authority("other").issue("client"), "UNKNOWN_CA")],
)
def test_an_alert_about_the_clients_certificate_is_named(
    context: ssl.SSLContext, client: Issued | None, said: str
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=AUTHORITY.pem)

    finding = found(ends_tls(context), client=client)

    assert re.search(said, finding.reason)
    assert finding.settings == ("pems",)
    assert finding.secrets_may_be_old


def test_a_server_that_offers_no_http_2_is_named(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["http/1.1"])

    assert found(ends_tls(context)) == Finding("the server does not offer HTTP/2")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "the server requires TLS"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "the server does not speak HTTP/2"),
        (b"", "the server closes the connection"),
    ],
)
def test_what_a_server_says_to_a_client_without_tls_is_named(reply: bytes, said: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(reply)

    finding = found(serve, tls=False)

    assert finding.reason == said
    assert "tls" in finding.settings
    assert not finding.secrets_may_be_old


def test_a_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga_core.handshake.EXAMINE_SECONDS", 0.1)
    over = threading.Event()

    def serve(_connection: socket.socket) -> None:
        over.wait()

    with listening(serve) as port:
        peer = Peer("Temporal", f"{HOST}:{port}", True, SETTINGS, TemporalUnavailable)
        finding = examine(peer, Pems(AUTHORITY.pem), "")
        over.set()

    assert finding == Finding("no answer in time")


def test_the_librarys_reason_is_given_only_where_the_connection_by_hand_works_and_never_in_full() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"\0\0\0\4\0\0\0\0\0")

    with listening(serve) as port:
        peer = Peer("Temporal", f"{HOST}:{port}", False, SETTINGS, TemporalUnavailable)
        finding = examine(peer, Pems(), "x" * 5000)

    assert finding.reason == "x" * 300
