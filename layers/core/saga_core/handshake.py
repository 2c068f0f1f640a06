"""Why an engine cannot be reached: another connection, made by hand, says it in the same words for both engines.

The libraries of the engines give their reasons as text alone, each its own. Here the types and codes of the errors say
what is wrong and which setting may be. A reason has no value of a setting and nothing that the server sent.
"""

import errno
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from saga_core.errors import ConfigurationError, SagaError
from saga_core.secret_store import Secrets

# Seconds, for each step of the connection by hand: connect, handshake, greeting.
EXAMINE_SECONDS = 1.0
_STEPS = 3
# How many addresses of a name are tried.
_ADDRESSES = 2
_SAID_CHARACTERS = 300
# The beginning of HTTP/2, with empty settings. A server answers with settings of its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME, _TLS_ALERT = 4, 21
# X.509 verification codes: the certificate is for another host name, or another address.
_OTHER_NAME = {62, 64}
# OpenSSL's names for a reply that is no TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}


@dataclass(frozen=True)
class Pems:
    """What TLS uses instead of the public authorities, and to identify the client; each a PEM, None if not used."""

    authority: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, **texts: str) -> "Pems":
        """The PEMs in these texts. Only ASCII counts: a byte-order mark, or a comment in any language, does not."""
        return cls(**{name: text.encode("ascii", "ignore").decode() for name, text in texts.items()})


@dataclass(frozen=True)
class Peer:
    """An engine, as the settings say that it is reached.

    Attributes:
        engine: its name in messages.
        address: ``host:port``.
        tls: whether TLS is used.
        settings: the names of the settings that say so, by ``address``, ``tls``, ``pems``, and ``key`` if one is sent.
        unavailable: the error of an engine that is not reached.
    """

    engine: str
    address: str
    tls: bool
    settings: Mapping[str, str]
    unavailable: type[SagaError]


@dataclass(frozen=True)
class Finding:
    """Why a connection fails.

    Attributes:
        reason: in words.
        settings: which of a peer's settings may be wrong.
        secrets_may_be_old: whether other secrets could help: the connection is refused, or the handshake of TLS fails.
    """

    reason: str
    settings: tuple[str, ...] = ("address",)
    secrets_may_be_old: bool = False


def context(pems: Pems, setting: str) -> ssl.SSLContext:
    """What Python's TLS needs. It is made also to check the PEMs.

    Raises:
        ConfigurationError: the value of ``setting`` has something that is no PEM, or a certificate without its key.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.set_alpn_protocols(["h2"])
    try:
        if pems.authority is None:
            made.load_default_certs()
        else:
            made.load_verify_locations(cadata=pems.authority)
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(f"{setting}: the certificate authority is no PEM of certificates") from None
    if (pems.certificate is None) != (pems.key is None):
        raise ConfigurationError(f"{setting}: a client certificate and its private key are needed, or neither")
    if pems.certificate is not None and pems.key is not None:
        with TemporaryDirectory() as folder:  # which only this process's user may enter
            files = Path(folder, "certificate"), Path(folder, "key")
            for file, pem in zip(files, (pems.certificate, pems.key), strict=True):
                file.write_text(pem)
            try:
                # The password is never asked for: a key that needs one is refused.
                made.load_cert_chain(*files, password=lambda: "")
            except (ssl.SSLError, ValueError):
                raise ConfigurationError(
                    f"{setting}: the client certificate and its private key are no PEMs that belong together"
                ) from None
    return made


def not_reached(peer: Peer, pems: Pems, secrets: Secrets, said: str | None, seconds: float) -> SagaError:
    """The error of an engine that was not reached; nothing was asked of it. Secrets that may be the cause expire.

    ``said`` is the library's reason; None if it ran out of time. It takes about ``seconds`` to find a better one.
    """
    if said is None:
        finding = Finding("no answer in time")
    elif seconds <= 0:
        finding = _unexplained(peer, secrets.hidden(said))
    else:
        finding = examine(peer, pems, secrets.hidden(said), min(EXAMINE_SECONDS, seconds / _STEPS))
    if finding.secrets_may_be_old:
        secrets.expire()
    names = " or ".join(peer.settings[name] for name in finding.settings)
    return peer.unavailable(f"{peer.engine} cannot be reached ({names}): {finding.reason}; nothing was asked of it")


def examine(peer: Peer, pems: Pems, said: str, seconds: float = EXAMINE_SECONDS) -> Finding:
    """Why a connection that failed just now fails. ``said`` is the library's reason, used if this connection works.

    Each step of it takes ``seconds`` at most.
    """
    host, _, port = peer.address.rpartition(":")
    host = host.strip("[]")
    try:
        if not peer.tls:
            with socket.create_connection((host, int(port)), seconds) as plain:
                return _examine_greeting(plain, peer) or _unexplained(peer, said)
        with _connected(host, int(port), context(pems, peer.settings["pems"]), seconds) as secure:
            return _examine_tls(secure, peer) or _unexplained(peer, said)
    except socket.gaierror:
        return Finding("the name does not resolve")
    except ConnectionRefusedError:
        return Finding("the connection is refused", secrets_may_be_old=True)
    except TimeoutError:
        return Finding("no answer in time")
    except OSError as error:
        return Finding(f"the connection is lost ({_name(error)})", ("address", "tls"), secrets_may_be_old=peer.tls)


def _connected(host: str, port: int, tls: ssl.SSLContext, seconds: float) -> ssl.SSLSocket:
    """A connection whose handshake is still to be made.

    The socket is wrapped before it is connected: of one that is reset already, Python would leave a descriptor open.
    """
    error: OSError = TimeoutError()
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:_ADDRESSES]:
        opened = tls.wrap_socket(socket.socket(family, kind), server_hostname=host, do_handshake_on_connect=False)
        opened.settimeout(seconds)
        try:
            opened.connect(address)
        except OSError as failed:
            error = failed
            opened.close()
        else:
            return opened
    raise error


def _examine_tls(secure: ssl.SSLSocket, peer: Peer) -> Finding | None:
    try:
        secure.do_handshake()
        if secure.selected_alpn_protocol() != "h2":
            return Finding("the server does not offer HTTP/2")
        return _examine_greeting(secure, peer)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OTHER_NAME:
            return Finding("TLS: the server's certificate is for another name", secrets_may_be_old=True)
        return Finding(f"TLS: {error.verify_message}", ("pems",), secrets_may_be_old=True)
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLEOFError):
            return Finding("TLS: the server closes the connection", ("address", "tls"), secrets_may_be_old=True)
        names = ("address", "tls") if error.reason in _NO_TLS else ("pems",)
        return Finding(f"TLS: {error.reason or 'the server refuses the client'}", names, secrets_may_be_old=True)


def _examine_greeting(opened: socket.socket, peer: Peer) -> Finding | None:
    """None if the server speaks HTTP/2. With TLS 1.3, the refusal of a client certificate comes only here."""
    # A server that has refused already may be gone before the greeting, and its refusal can still be read.
    with suppress(ssl.SSLEOFError, BrokenPipeError):
        opened.sendall(_HELLO)
    reply = b""
    with suppress(ssl.SSLEOFError):
        reply = opened.recv(16)
    if reply[3:4] == bytes([_SETTINGS_FRAME]):
        return None
    if reply[:1] == bytes([_TLS_ALERT]):
        return Finding("the server requires TLS", ("tls",))
    if not reply:
        if peer.tls:
            said = "TLS: the server closes the connection after the handshake, as if it required a client certificate"
            return Finding(said, ("address", "pems"), secrets_may_be_old=True)
        return Finding("the server closes the connection", ("address", "tls"))
    return Finding("the server does not speak HTTP/2", ("address", "tls"))


def _unexplained(peer: Peer, said: str) -> Finding:
    """The handshake is well, so the library, or what the server says to this client, is stricter."""
    names = ("address", *(("pems",) if peer.tls else ()), *(("key",) if "key" in peer.settings else ()))
    return Finding(said[:_SAID_CHARACTERS], names, secrets_may_be_old=len(names) > 1)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
