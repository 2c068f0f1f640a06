"""One engine behind real TLS, and the function that calls it, as it runs in Lambda: with secrets and a time limit."""

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import pytest

from functions.register import app as register
from functions.temporal_describe import app as describe
from local.aws.lambda_runtime import Context
from local.stack.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints
from saga_core import connections, secret_store
from saga_core.errors import AgentUpdateDenied, SagaError
from tests.support.certificates import NAME, Authority, Issued
from tests.support.functions import forget_clients, log_lines_to
from tests.support.in_process import ROOT, template
from tests.support.proxy import KeyProxy, serving
from tests.support.relay import Path, Relay, relays
from tests.support.secrets_manager import SecretsManager, secrets_manager

# Seconds, as in template.yaml.
LAMBDA_SECONDS = 7.0
# What is not well by then does not heal by itself. A machine that has nothing else to do needs a few seconds.
HEAL_SECONDS = 30.0
_PAUSE = 0.1


class Engine(StrEnum):
    """The engine that a function calls."""

    SPICEDB = "SpiceDB"
    TEMPORAL = "Temporal"


# Their names, by kind.
SETTINGS = {
    "address": {Engine.SPICEDB: "SPICEDB_ENDPOINT", Engine.TEMPORAL: "TEMPORAL_ADDRESS"},
    "tls": {Engine.SPICEDB: "SPICEDB_TLS", Engine.TEMPORAL: "TEMPORAL_TLS"},
    "pems": {Engine.SPICEDB: "SPICEDB_CA_SECRET", Engine.TEMPORAL: "TEMPORAL_TLS_SECRET"},
    "key": {Engine.SPICEDB: "SPICEDB_TOKEN_SECRET", Engine.TEMPORAL: "TEMPORAL_API_KEY_SECRET"},
    "namespace": {Engine.TEMPORAL: "TEMPORAL_NAMESPACE"},
}


@dataclass(frozen=True)
class Answer:
    """What a function returned or raised, and after how many seconds.

    Attributes:
        error: the name of the error's class; None if the engine was asked and has responded.
        message: of the error.
        log: the lines that the function logged, and its metrics.
        reasons: those that it logged for a failure.
    """

    error: str | None
    message: str
    log: str
    seconds: float

    @property
    def reasons(self) -> list[str]:
        return [line["reason"] for line in map(json.loads, self.log.splitlines()) if "reason" in line]


@dataclass
class World:
    """An engine, the way to it, and the environment of the function that calls it.

    Attributes:
        relay: the way to the engine.
        gate: stands between relay and engine, ends TLS, and admits only the key ``key``.
        upstream: the engine's address.
        authority: signs the server's certificate; clients know it.
        secret_values: what no output may have.
    """

    engine: Engine
    relay: Relay
    gate: KeyProxy
    upstream: str
    secrets: SecretsManager
    environment: pytest.MonkeyPatch
    closing: ExitStack
    authority: Authority = field(default_factory=Authority)
    key: str = "key-that-nobody-may-see"
    secret_values: list[str] = field(default_factory=list)
    ports: dict[tuple[Issued | None, Authority | None], int] = field(default_factory=dict)

    @cached_property
    def certificate(self) -> Issued:
        """The server's."""
        return self.authority.issue()

    def setting(self, kind: str) -> str:
        """The name of one of the engine's settings."""
        return SETTINGS[kind][self.engine]

    def well(self) -> None:
        """Let everything be as it should: TLS with the authority that clients know, and the right key."""
        self.gate.key = self.key
        self.gate.refusal, self.gate.open_methods = KeyProxy.refusal, KeyProxy.open_methods
        self.gate.echoes = self.gate.unknown = False
        self.gate.turn_to(self.upstream)
        self.relay.set(Path.OPEN)
        self.serve(self.certificate)
        self.set(self.setting("address"), f"{NAME}:{self.relay.port}")
        self.set(self.setting("tls"), "true")
        self.set("TEMPORAL_NAMESPACE", NAMESPACE)
        self.set("RPC_TIMEOUT_SECONDS", "3")
        self.hold_key(self.key)
        self.hold_pems(self.authority.pem)

    def serve(self, certificate: Issued | None, clients: Authority | None = None) -> None:
        """Let the server have this certificate, and admit only clients of an authority; without one, no TLS."""
        port = self.ports.get((certificate, clients))
        if port is None:
            credentials = certificate.server(clients) if certificate else None
            port = self.ports[certificate, clients] = self.closing.enter_context(serving(self.gate, credentials))
        self.relay.upstream = port

    def set(self, name: str, value: str) -> None:
        """Set a variable of the function's environment."""
        self.environment.setenv(name, value)

    def hold(self, setting: str, value: Any) -> None:
        """Put a value into the secret that a setting refers to."""
        if isinstance(value, str):
            self.secret_values.append(value)
        self.set(setting, self.secrets.hold(setting.lower().replace("_", "-"), value))

    def hold_key(self, value: Any) -> None:
        """Put a value into the secret with the key."""
        self.hold(self.setting("key"), value)

    def hold_pems(self, authority: str, client: Issued | None = None, **more: str) -> None:
        """Put PEMs into the secret: SpiceDB's has the authority alone, Temporal's is JSON."""
        if self.engine is Engine.SPICEDB:
            self.hold(self.setting("pems"), authority)
            return
        pems = {"server_root_ca_cert": authority, **more}
        if client:
            pems |= {"client_cert": client.certificate, "client_private_key": client.key}
            self.secret_values.append(client.key)
        self.hold(self.setting("pems"), json.dumps(pems))

    def restart(self) -> None:
        """Let the function start anew, as after a deployment."""
        forget_clients()
        secret_store._client.cache_clear()

    def call(self) -> Answer:
        """Invoke the function once."""
        name = "register" if self.engine is Engine.SPICEDB else "temporal_describe"
        event = json.loads((ROOT / f"events/{name}.json").read_text())
        context: Any = Context("request", name, "arn:aws:lambda:local", "512", time.monotonic() + LAMBDA_SECONDS)
        handler = register.handler if self.engine is Engine.SPICEDB else describe.handler
        log = io.StringIO()
        began = time.monotonic()
        error, message = None, ""
        with redirect_stdout(log), log_lines_to(log):
            try:
                handler(event, context)
            except AgentUpdateDenied:
                pass  # nobody owns the agent of the sample event: SpiceDB has responded
            except SagaError as raised:
                # Not the error itself: it and this frame would refer to each other, and keep the client of the call.
                error, message = type(raised).__name__, str(raised)
        return Answer(error, message, log.getvalue(), time.monotonic() - began)

    def until(self, is_so: Callable[[Answer], bool]) -> tuple[Answer, float]:
        """Invoke the function until its answer is so. Returns it, and after how many seconds it came."""
        began = time.monotonic()
        while not is_so(answer := self.call()):
            assert time.monotonic() - began < HEAL_SECONDS, f"it does not change: {answer}"
            time.sleep(_PAUSE)
        return answer, time.monotonic() - began


@contextmanager
def world(engine: Engine, endpoints: Endpoints, *, seconds: float = connections.REPLACE_SECONDS) -> Iterator[World]:
    """A world of an engine that runs on ``endpoints``, in which everything is well.

    ``seconds``: after which a client is replaced at the earliest, and a secret read again.
    """
    upstream = endpoints.spicedb if engine is Engine.SPICEDB else endpoints.temporal
    with ExitStack() as closing:
        environment = closing.enter_context(pytest.MonkeyPatch.context())
        environment.setattr(connections, "REPLACE_SECONDS", seconds)
        environment.setattr(secret_store, "READ_AGAIN_SECONDS", seconds)
        for name, value in template().shared_environment().items():
            environment.setenv(name, value)
        secrets = closing.enter_context(secrets_manager(environment))
        gate = KeyProxy(upstream)
        relay = Relay(closing.enter_context(relays()), 0)
        closing.callback(relay.stop)
        made = World(engine, relay, gate, upstream, secrets, environment, closing)
        gate.engine_key = SPICEDB_TOKEN
        made.well()
        made.restart()
        closing.callback(made.restart)
        yield made
