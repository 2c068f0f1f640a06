"""What can be wrong with a connection or a secret: how it is broken and mended, and what has to be seen."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from authzed.api.v1 import InsecureClient, WriteSchemaRequest

from local.stack.endpoints import SPICEDB_TOKEN
from local.stack.process import HOST
from local.stack.spicedb import LocalSpiceDB
from tests.connections.world import SETTINGS, Answer, Engine, World
from tests.support.certificates import Authority, Issued
from tests.support.in_process import ROOT
from tests.support.relay import Path
from tests.support.secrets_manager import SLOWLY, Refusal

UNAVAILABLE = {Engine.SPICEDB: "AuthorizationUnavailable", Engine.TEMPORAL: "TemporalUnavailable"}
CONFIGURATION = "ConfigurationError"
# Breaks the world, and returns what mends it; None: the setting itself has to be corrected.
Break = Callable[[World], Callable[[], object] | None]


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        name: in words, for people.
        break_: breaks a world that is well.
        settings: the kinds of the settings that the message names, all of them.
        transient: whether the error is the engine's unavailability; otherwise it is a ConfigurationError.
        reason: what the message says besides.
        engines: those that it concerns.
        deployed: whether a deployment mends it; otherwise a warm function is well by itself, once it is mended.
    """

    name: str
    break_: Break
    settings: tuple[str, ...]
    transient: bool = True
    reason: str = ""
    engines: tuple[Engine, ...] = tuple(Engine)
    deployed: bool = False

    def error(self, engine: Engine) -> str:
        """The name of the error."""
        return UNAVAILABLE[engine] if self.transient else CONFIGURATION


@dataclass(frozen=True)
class Observation:
    """What was seen of a fault.

    Attributes:
        answer: the first while it lasted.
        healed: seconds until the warm function was well after the mending; None where it had to start anew.
        leaks: the secrets that an output had.
    """

    answer: Answer
    healed: float | None
    leaks: list[str]


def observe(world: World, fault: Fault) -> Observation:
    """Break the world, call, mend it, and call until it is well."""
    world.well()
    world.restart()
    mend = fault.break_(world)
    assert (mend is None) == fault.deployed
    answer = world.call()
    if mend:
        mend()
    else:
        world.well()
        world.restart()
    _, healed = world.until(lambda answer: answer.error is None)
    said = answer.message + answer.log
    return Observation(answer, healed if mend else None, [value for value in _parts(world) if value in said])


def _parts(world: World) -> Iterator[str]:
    """What no output may have: every secret, and every line of a longer one."""
    for value in world.secret_values:
        for line in value.replace("\\n", "\n").splitlines():
            if len(line) > 8 and "-----" not in line:
                yield line.strip()


def _path(path: Path) -> Break:
    def break_(world: World) -> Callable[[], None]:
        world.relay.set(path)
        return lambda: world.relay.set(Path.OPEN)

    return break_


def _server(
    certificate: Callable[[World], Issued], clients: Callable[[World], Authority | None] | None = None
) -> Break:
    def break_(world: World) -> Callable[[], None]:
        world.serve(certificate(world), clients(world) if clients else None)
        return lambda: world.serve(world.certificate)

    return break_


def _server_without_tls(world: World) -> Callable[[], None]:
    world.serve(None)
    return lambda: world.serve(world.certificate)


def _client_without_tls(world: World) -> Callable[[], None]:
    world.set(world.setting("tls"), "false")
    return lambda: world.serve(None)


def _schema_without_a_permission(world: World) -> Callable[[], object]:
    schema = (ROOT / "schema/schedules.zed").read_text()
    other = LocalSpiceDB(0, SPICEDB_TOKEN, schema.replace("permission update", "permission change"))
    world.closing.callback(other.stop)
    world.gate.turn_to(f"{HOST}:{other.port}")
    client = InsecureClient(f"{HOST}:{other.port}", SPICEDB_TOKEN)
    return lambda: client.WriteSchema(WriteSchemaRequest(schema=schema), timeout=5)


def _pems(broken: Callable[[World], object]) -> Break:
    """A secret with PEMs, of which ``broken`` is the value or the part that is the authority."""

    def break_(world: World) -> Callable[[], None]:
        value = broken(world)
        if isinstance(value, str):
            world.hold_pems(value)
        else:
            world.hold(world.setting("pems"), value)
        return lambda: world.hold_pems(world.authority.pem)

    return break_


def _tls_secret(broken: Callable[[World], str]) -> Break:
    """The whole of Temporal's secret with PEMs."""

    def break_(world: World) -> Callable[[], None]:
        world.hold(world.setting("pems"), broken(world))
        return lambda: world.hold_pems(world.authority.pem)

    return break_


def _key(broken: object, code: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED, *open_methods: str) -> Break:
    def break_(world: World) -> Callable[[], None]:
        world.gate.refusal, world.gate.open_methods = code, frozenset(open_methods)
        world.hold_key(broken)
        return lambda: world.hold_key(world.key)

    return break_


def _no_key(world: World) -> None:
    """The server requires one."""
    world.set(world.setting("key"), "")


def _another_engine(world: World) -> Callable[[], object]:
    """The server is the other engine's, or any other one that speaks gRPC."""
    world.gate.unknown = True
    return lambda: setattr(world.gate, "unknown", False)


def _echo(world: World) -> Callable[[], object]:
    """The server repeats the key in its refusal."""
    mend = _key("wrong-key-of-the-test")(world)
    world.gate.echoes = True
    assert mend
    return mend


def _setting(kind: str, value: str) -> Break:
    def break_(world: World) -> None:
        world.set(world.setting(kind), value)

    return break_


def _mutual(client: Callable[[World], Issued | None]) -> Break:
    """The server admits only clients of its authority, and the client has another certificate, or none."""

    def break_(world: World) -> Callable[[], None]:
        world.serve(world.certificate, world.authority)
        world.hold_pems(world.authority.pem, client(world))
        return lambda: world.hold_pems(world.authority.pem, world.authority.issue("client"))

    return break_


def _json(world: World, **pems: str) -> str:
    return json.dumps({"server_root_ca_cert": world.authority.pem, **pems})


def _foreign_key(world: World) -> str:
    certificate, other = world.authority.issue("client"), world.authority.issue("other")
    world.secret_values.append(other.key)
    return _json(world, client_cert=certificate.certificate, client_private_key=other.key)


OTHER = Authority("another authority")
TEMPORAL = (Engine.TEMPORAL,)
SPICEDB = (Engine.SPICEDB,)

FAULTS = [
    Fault("the engine is down", _path(Path.CLOSED), ("address",), reason="refused"),
    Fault("the path swallows every byte", _path(Path.SWALLOWS), ("address",), reason="no answer in time"),
    Fault("the path resets connections", _path(Path.RESETS), ("address",), reason="ECONNRESET"),
    Fault(
        "a host name that does not exist",
        _setting("address", "nowhere.invalid:443"),
        ("address",),
        reason="does not resolve",
        deployed=True,
    ),
    Fault("a wrong authority", _pems(lambda _: OTHER.pem), ("pems",), reason="unable to get local issuer"),
    Fault(
        "the server's certificate has expired",
        _server(lambda w: w.authority.issue(days=-1)),
        ("pems",),
        reason="expired",
    ),
    Fault(
        "the server's certificate is for another name",
        _server(lambda w: w.authority.issue("example.org")),
        ("address",),
        reason="another name",
    ),
    Fault("TLS, and the server does not use it", _server_without_tls, ("tls",), reason="TLS: "),
    Fault("no TLS, and the server requires it", _client_without_tls, ("tls",)),
    Fault(
        "the server requires a client certificate, and there is none",
        _mutual(lambda _: None),
        ("pems",),
        reason="client certificate",
        engines=TEMPORAL,
    ),
    Fault(
        "the server requires a client certificate, which SpiceDB's clients do not have",
        _server(lambda w: w.certificate, lambda w: w.authority),
        ("pems",),
        reason="client certificate",
        engines=SPICEDB,
    ),
    Fault(
        "a client certificate of another authority",
        _mutual(lambda _: OTHER.issue("client")),
        ("pems",),
        reason="client certificate",
        engines=TEMPORAL,
    ),
    Fault(
        "a client certificate that has expired",
        _mutual(lambda w: w.authority.issue("client", days=-1)),
        ("pems",),
        reason="client certificate",
        engines=TEMPORAL,
    ),
    Fault(
        "a wrong key, refused with UNAUTHENTICATED",
        _key("wrong-key-of-the-test"),
        ("key",),
        reason="UNAUTHENTICATED",
    ),
    Fault(
        "a wrong key, refused with PERMISSION_DENIED",
        _key("wrong-key-of-the-test", grpc.StatusCode.PERMISSION_DENIED),
        ("key",),
        reason="PERMISSION_DENIED",
    ),
    Fault(
        "a wrong key, refused with PERMISSION_DENIED, after the connect",
        _key("wrong-key-of-the-test", grpc.StatusCode.PERMISSION_DENIED, "GetSystemInfo"),
        ("key",),
        transient=False,
        reason="PERMISSION_DENIED",
        engines=TEMPORAL,
    ),
    Fault("a wrong key that the server repeats in its refusal", _echo, ("key",)),
    Fault("the server requires a key, and there is none", _no_key, ("key",), engines=TEMPORAL, deployed=True),
    Fault(
        "Secrets Manager is throttled",
        _key(Refusal("ThrottlingException")),
        ("key",),
        reason="ThrottlingException",
    ),
    Fault(
        "Secrets Manager fails",
        _key(Refusal("InternalServiceError", 500)),
        ("key",),
        reason="InternalServiceError",
    ),
    Fault("Secrets Manager does not respond", _key(None), ("key",), reason="ReadTimeoutError"),
    Fault("Secrets Manager responds byte by byte, without end", _key(SLOWLY), ("key",), reason="TimeoutError"),
    Fault(
        "the secret may not be read",
        _key(Refusal("AccessDeniedException")),
        ("key",),
        transient=False,
        reason="AccessDeniedException",
    ),
    Fault(
        "there is no such secret",
        _key(Refusal("ResourceNotFoundException")),
        ("key",),
        transient=False,
        reason="ResourceNotFoundException",
    ),
    Fault(
        "the secret cannot be decrypted",
        _key(Refusal("DecryptionFailure")),
        ("key",),
        transient=False,
        reason="DecryptionFailure",
    ),
    Fault("the secret is binary", _key(b"\0"), ("key",), transient=False, reason="no text"),
    Fault("the secret is empty", _key(" \n"), ("key",), transient=False, reason="empty"),
    Fault(
        "a key with a line end inside",
        _key("one-half\nother-half-of-the-key"),
        ("key",),
        transient=False,
        reason="characters",
    ),
    Fault(
        "the authority is junk",
        _pems(lambda _: "junk-and-no-certificate"),
        ("pems",),
        transient=False,
        reason="no PEM",
    ),
    Fault(
        "the authority is JSON",
        _pems(lambda w: json.dumps({"ca": w.authority.pem})),
        ("pems",),
        transient=False,
        reason="no PEM",
    ),
    Fault(
        r"the authority has a literal \n for each line end",
        _pems(lambda w: w.authority.pem.replace("\n", "\\n")),
        ("pems",),
        transient=False,
        reason="no PEM",
    ),
    Fault(
        "the authority ends in the middle",
        _pems(lambda w: w.authority.pem[:300]),
        ("pems",),
        transient=False,
        reason="no PEM",
    ),
    Fault(
        "the authority is a private key",
        _pems(lambda w: w.authority.issue("client").key),
        ("pems",),
        transient=False,
        reason="no PEM",
    ),
    Fault(
        "the secret with certificates may not be read",
        _pems(lambda _: Refusal("AccessDeniedException")),
        ("pems",),
        transient=False,
        reason="AccessDeniedException",
    ),
    Fault(
        "the TLS secret is no JSON",
        _tls_secret(lambda w: w.authority.pem),
        ("pems",),
        transient=False,
        reason="JSON",
        engines=TEMPORAL,
    ),
    Fault(
        "the TLS secret is JSON without end",
        _tls_secret(lambda _: "[" * 50_000),
        ("pems",),
        transient=False,
        reason="JSON",
        engines=TEMPORAL,
    ),
    Fault(
        "the TLS secret has an unknown key",
        _tls_secret(lambda w: _json(w, client_key="key-under-another-name")),
        ("pems",),
        transient=False,
        reason="other keys",
        engines=TEMPORAL,
    ),
    Fault(
        "a client certificate without its private key",
        _tls_secret(lambda w: _json(w, client_cert=w.authority.issue("client").certificate)),
        ("pems",),
        transient=False,
        reason="private key",
        engines=TEMPORAL,
    ),
    Fault(
        "a private key without its client certificate",
        _tls_secret(lambda w: _json(w, client_private_key=w.authority.issue("client").key)),
        ("pems",),
        transient=False,
        reason="private key",
        engines=TEMPORAL,
    ),
    Fault(
        "a client certificate with the key of another",
        _tls_secret(_foreign_key),
        ("pems",),
        transient=False,
        reason="belong together",
        engines=TEMPORAL,
    ),
    Fault(
        "a client certificate that is junk",
        _tls_secret(
            lambda w: _json(w, client_cert="junk-and-no-certificate", client_private_key=w.authority.issue("x").key)
        ),
        ("pems",),
        transient=False,
        reason="belong together",
        engines=TEMPORAL,
    ),
    Fault(
        "port 99999",
        _setting("address", "localhost:99999"),
        ("address",),
        transient=False,
        reason="65535",
        deployed=True,
    ),
    Fault(
        "a URL instead of an address",
        _setting("address", "https://localhost:443"),
        ("address",),
        transient=False,
        deployed=True,
    ),
    Fault(
        "a host that no name can be",
        _setting("address", "engine..internal:443"),
        ("address",),
        transient=False,
        reason="no name",
        deployed=True,
    ),
    Fault("another service is at the address", _another_engine, ("address",), transient=False, reason="UNIMPLEMENTED"),
    Fault(
        "the schema lacks a permission",
        _schema_without_a_permission,
        ("address",),
        transient=False,
        reason="schema/schedules.zed",
        engines=SPICEDB,
    ),
    Fault(
        "a namespace that does not exist",
        _setting("namespace", "no-such-namespace"),
        ("namespace",),
        transient=False,
        engines=TEMPORAL,
        deployed=True,
    ),
]


def table() -> str:
    """The faults as they are documented: in Markdown, one a line."""
    lines = ["| what is wrong | error | the message names | well again |", "|---|---|---|---|"]
    for fault in FAULTS:
        error = f"`{CONFIGURATION}`"
        if fault.transient:
            error = " or ".join(f"`{UNAVAILABLE[engine]}`" for engine in fault.engines)
        names = " or ".join(f"`{SETTINGS[kind][engine]}`" for kind in fault.settings for engine in fault.engines)
        well = "after a deployment" if fault.deployed else "by itself, once it is mended"
        lines.append(f"| {fault.name} | {error} | {names} | {well} |")
    return "\n".join(lines) + "\n"
