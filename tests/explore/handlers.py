"""Runs the real handlers, with their real gateways, one RPC at a time.

A handler is a function of its event and of the replies to its RPCs. So it can be run from its beginning with the
replies so far, up to its next RPC; there it is thrown away, and run again once that RPC has been answered. Nothing is
faked but the stubs under the gateways, and no result is computed twice.
"""

import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from functions.compensate import app as compensate
from functions.deregister import app as deregister
from functions.register import app as register
from functions.temporal_create import app as temporal_create
from functions.temporal_delete import app as temporal_delete
from functions.temporal_describe import app as temporal_describe
from saga_api import schedules, triggers
from saga_core import settings
from saga_core.connections import Connected, Connection
from saga_reconcile import repairs, sweep
from saga_reconcile import steps as reconcile
from saga_spicedb import SpiceDB, messages
from saga_temporal import Temporal
from tests.explore import spicedb_model, temporal_model, trigger
from tests.explore.interpreter import dumps
from tests.explore.spicedb_requests import SpiceDBFailure

APPS: dict[str, ModuleType] = {
    "Register": register,
    "TemporalCreate": temporal_create,
    "TemporalDescribe": temporal_describe,
    "Compensate": compensate,
    "TemporalDelete": temporal_delete,
    "Deregister": deregister,
    "Reconcile": reconcile,
    "ReconcileLater": reconcile,
    "Trigger": trigger,
}
START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=720)
# When every lease is over, and every schedule is old enough to be repaired.
LATER = START + 2 * LEASE
# As many as a create writes. More are removed in batches.
MOST_DELETED = 4


@dataclass(frozen=True)
class Rpc:
    """A handler's next RPC."""

    engine: str
    method: str
    request: bytes


@dataclass(frozen=True)
class Returned:
    """What a handler returned, as canonical JSON text."""

    text: str


@dataclass(frozen=True)
class Raised:
    """What a handler raised: the name Step Functions sees, and the cause."""

    name: str
    cause: str


@dataclass(frozen=True)
class Reply:
    """What an engine answered. ``body`` is a message's bytes, a tuple of them for a stream, or the engine's failure."""

    kind: str
    body: Any


Next = Rpc | Returned | Raised


class _Suspended(BaseException):
    """The replies so far are used up: the handler waits for its next RPC."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc


class _Tape:
    """The replies that the handler under way gets, and how many it has had."""

    replies: tuple[Reply, ...] = ()
    position = 0

    def call(self, engine: str, method: str, request: Any) -> Any:
        if self.position == len(self.replies):
            raise _Suspended(Rpc(engine, method, request.SerializeToString(deterministic=True)))
        reply = self.replies[self.position]
        self.position += 1
        if reply.kind == "failure":
            raise (spicedb_model if engine == "spicedb" else temporal_model).error(reply.body)
        if reply.kind == "stream":
            return [_RESPONSES[method].FromString(body) for body in reply.body]
        return _RESPONSES[method].FromString(reply.body)


_TAPE = _Tape()
_RESPONSES: dict[str, Any] = {}
_REQUESTS: dict[str, Any] = {}


class _Client:
    """Stands where the authzed client stands."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(request: Any, *, timeout: float) -> Any:
            assert timeout > 0
            _REQUESTS[method] = type(request)
            return _TAPE.call("spicedb", method, request)

        return call


class _Service:
    """Stands where temporalio's workflow service stands."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(request: Any, *, timeout: timedelta) -> Any:
            assert timeout > timedelta()
            _REQUESTS[method] = type(request)
            return _TAPE.call("temporal", method, request)

        return call


class _Context:
    function_name = "explored"
    aws_request_id = "explored"
    now = START

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 120_000


def _run_at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a coroutine waits for something")


@cache
def step(function: str, payload: str, replies: tuple[Reply, ...]) -> Next:
    """Run a handler up to its next RPC, or to its end."""
    _TAPE.replies, _TAPE.position = replies, 0
    _Context.now = LATER if function == "ReconcileLater" else START
    try:
        # The frame around a handler only logs and counts; without it the same handler is many times faster.
        answer = APPS[function].handler.__wrapped__(json.loads(payload), _Context())
    except _Suspended as suspended:
        return suspended.rpc
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its result
        name = type(error).__name__
        return Raised(name, dumps({"errorMessage": str(error), "errorType": name}))
    return Returned(dumps(answer))


@cache
def apply(
    rpc: Rpc, spicedb: Any, temporal: Any, now: float, rules: temporal_model.Rules = temporal_model.Rules.V1
) -> tuple[Any, Any, Reply]:
    """Let an RPC take effect: the two models' new states, and the reply."""
    request = _REQUESTS[rpc.method].FromString(rpc.request)
    if rpc.engine == "spicedb":
        spicedb, reply = spicedb_model.apply(spicedb, rpc.method, request, now)
        failed = isinstance(reply, SpiceDBFailure)
    else:
        temporal, reply = temporal_model.apply(temporal, rpc.method, request, now, rules)
        failed = isinstance(reply, temporal_model.TemporalFailure)
    if failed:
        return spicedb, temporal, Reply("failure", reply)
    if isinstance(reply, list):
        if reply:
            _RESPONSES[rpc.method] = type(reply[0])
        return spicedb, temporal, Reply("stream", tuple(m.SerializeToString(deterministic=True) for m in reply))
    _RESPONSES[rpc.method] = type(reply)
    return spicedb, temporal, Reply("message", reply.SerializeToString(deterministic=True))


@contextmanager
def driven() -> Iterator[pytest.MonkeyPatch]:
    """Let `step` drive the handlers for as long as the block lasts; whatever is patched through it ends with it."""
    with pytest.MonkeyPatch.context() as patch:
        clients: Connection[Any] = Connection(lambda _timeout: Connected(_Client()))
        services: Connection[Any] = Connection(lambda _timeout: Connected(_Service()))
        spicedb = SpiceDB(clients, LEASE, now=lambda: START)
        temporal = Temporal(services, "default", _run_at_once)
        for app in (*APPS.values(), schedules, triggers):
            for name, value in (("spicedb", spicedb), ("temporal", temporal)):
                if hasattr(app, name):
                    patch.setattr(app, name, lambda value=value: value)
            if hasattr(app, "count"):
                patch.setattr(app, "count", lambda _metric: None)
        for module in (repairs, sweep):
            patch.setattr(module, "spicedb", lambda: spicedb)
            patch.setattr(module, "temporal", lambda: temporal)
        patch.setattr(sweep, "count", lambda _metric: None)
        patch.setattr(repairs, "_now", lambda: _Context.now)
        patch.setattr(settings.SpiceDBSettings, "load", lambda: SimpleNamespace(lease_seconds=LEASE.total_seconds()))
        patch.setattr(messages, "BATCH", MOST_DELETED)
        logging.disable(logging.CRITICAL)
        for cached in (step, apply, settings.call_settings):
            cached.cache_clear()
        try:
            yield patch
        finally:
            logging.disable(logging.NOTSET)
    for cached in (step, apply, settings.call_settings):
        cached.cache_clear()
