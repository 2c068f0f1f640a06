"""A gRPC proxy that stands between the functions and an engine and does what a network, or a dying function, does.

It forwards bytes and knows no messages, so it serves SpiceDB and Temporal alike. Faults are told by method name:

    proxy.inject("WriteRelationships", Fault.LOST_REPLY)                  once
    proxy.inject("WriteRelationships", Fault.REFUSED, times=None)         until `clear`
    proxy.inject("WriteRelationships", Fault.REFUSED, times=None, at=2)   from the second call since `clear` on
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from typing import Any

import grpc

from local.stack.process import HOST

WORKERS = 64
AGES = 3600.0
# What gRPC itself sets for a call; passing it on would set it twice.
_OWN_METADATA = ("user-agent", "content-type", "te", "grpc-accept-encoding", "grpc-encoding", "grpc-timeout")


class Fault(Enum):
    """What happens to a call."""

    REFUSED = "refused before it took effect"
    LOST_REPLY = "took effect, but the reply was lost"
    SLOW = "took effect, but the reply came after the deadline"
    KILLED_BEFORE = "the function was killed before it took effect"
    KILLED_AFTER = "the function was killed after it took effect"

    @property
    def takes_effect(self) -> bool:
        """Whether the engine sees the call."""
        return self not in (Fault.REFUSED, Fault.KILLED_BEFORE)

    @property
    def kills(self) -> bool:
        """Whether the function that made the call dies of it."""
        return self in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)


class FaultProxy(grpc.GenericRpcHandler):
    """One proxy in front of one engine.

    Attributes:
        calls: the method of every call that came, in order.
        killed: set when a call killed the function that made it; the one who plays Lambda clears it.
    """

    def __init__(self, upstream: str) -> None:
        self._channel = grpc.insecure_channel(upstream)
        # By method and number of the call since `clear`; a lasting fault by the number of its first call.
        self._faults: dict[tuple[str, int], Fault] = {}
        self._lasting: dict[str, tuple[int, Fault]] = {}
        self._acts: dict[tuple[str, int], list[Callable[[], object]]] = {}
        self._acknowledged: set[str] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._aside = False
        self.calls: list[str] = []
        self.killed = threading.Event()

    def inject(self, method: str, fault: Fault, times: int | None = 1, at: int | None = None) -> None:
        """Let ``times`` calls of ``method`` meet ``fault``; None: all until `clear`.

        ``at`` is the number of the first of them, counted from 1 at `clear`; None is the next one that no fault awaits.
        A fault injected later replaces one that awaits the same call.
        """
        with self._lock:
            awaited = [number for name, number in self._faults if name == method]
            first = at or max([self.calls.count(method), *awaited]) + 1
            if times is None:
                self._lasting[method] = (first, fault)
                for number in awaited:
                    if number >= first:
                        del self._faults[method, number]
            else:
                self._faults.update({(method, first + more): fault for more in range(times)})

    def on_call(self, method: str, number: int, act: Callable[[], object]) -> None:
        """Do something in the middle of a call, before its fault and before the engine sees it; numbered as above."""
        with self._lock:
            self._acts.setdefault((method, number), []).append(act)

    def acknowledge(self, method: str) -> None:
        """Answer the next call of ``method`` with an empty message. The engine does not see it."""
        self._acknowledged.add(method)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """In the block every call is forwarded, and neither counted nor noted: others are calling."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def cut(self) -> None:
        """Refuse every call until `clear`: the engine is down."""
        self._cut = True

    def clear(self) -> None:
        """Forget all faults and all calls; forward everything."""
        with self._lock:
            self._cut = False
            self._faults.clear()
            self._lasting.clear()
            self._acts.clear()
            self._acknowledged.clear()
            self.calls.clear()
            self.killed.clear()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Handle any method as a stream of bytes in and a stream of bytes out; a unary call is a stream of one."""
        path = handler_call_details.method
        method = path.rpartition("/")[2]

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            fault, acts = self._meet(method)
            for act in acts:
                act()
            if method in self._acknowledged:
                self._acknowledged.remove(method)
                yield b""
                return
            if fault and fault.kills:
                self.killed.set()
            if fault and not fault.takes_effect:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut off by the test")
            sent = self._metadata(context)
            call: Any = self._channel.stream_stream(path)
            error: Any = None
            left = context.time_remaining()
            try:
                # Without a deadline gRPC says that ages remain, more than it takes as a timeout itself.
                replies = list(call(requests, timeout=left if left < AGES else None, metadata=sent))
            except grpc.RpcError as refusal:
                error = refusal
            if fault is Fault.SLOW:
                time.sleep(context.time_remaining() + 0.05)
            if fault:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the test lost the reply")
            if error:
                context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
                context.abort(error.code(), error.details())
            yield from replies

        return grpc.stream_stream_rpc_method_handler(forward)

    def _metadata(self, context: grpc.ServicerContext) -> tuple[tuple[str, Any], ...]:
        """What is sent to the engine with the call."""
        return tuple((key, value) for key, value in context.invocation_metadata() if key not in _OWN_METADATA)

    def _meet(self, method: str) -> tuple[Fault | None, list[Callable[[], object]]]:
        with self._lock:
            if self._aside:
                return None, []
            self.calls.append(method)
            number = self.calls.count(method)
            acts = self._acts.pop((method, number), [])
            if self._cut:
                return Fault.REFUSED, acts
            first, lasting = self._lasting.get(method, (0, None))
            return self._faults.pop((method, number), lasting if number >= first else None), acts


class KeyProxy(FaultProxy):
    """A proxy that refuses every call without the right key, as a deployed engine does.

    Attributes:
        key: the right one.
        engine_key: the one that the engine requires.
        refusal: the code of a refusal.
        open_methods: may be called without a key.
        echoes: whether a refusal repeats the key that was sent.
        unknown: whether it knows no method.
    """

    key = ""
    engine_key = ""
    refusal = grpc.StatusCode.UNAUTHENTICATED
    open_methods: frozenset[str] = frozenset()
    echoes = False
    unknown = False

    def turn_to(self, upstream: str) -> None:
        """Forward to another engine from now on."""
        self._channel.close()
        self._channel = grpc.insecure_channel(upstream)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Refuse the call, or forward it."""
        method = handler_call_details.method.rpartition("/")[2]
        sent = [value for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        if not self.unknown and (sent == [f"Bearer {self.key}"] or method in self.open_methods):
            return super().service(handler_call_details)
        self.calls.append(method)

        def refuse(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if self.unknown:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")
            context.abort(self.refusal, f"not the right key: {sent}" if self.echoes else "the key is not the right one")
            yield b""

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _metadata(self, context: grpc.ServicerContext) -> tuple[tuple[str, Any], ...]:
        others = [(key, value) for key, value in super()._metadata(context) if key != "authorization"]
        return (*others, ("authorization", f"Bearer {self.engine_key}"))


@contextmanager
def fault_proxy(upstream: str) -> Iterator[tuple[FaultProxy, int]]:
    """A proxy in front of ``upstream`` and its port on 127.0.0.1, for as long as the block lasts."""
    proxy = FaultProxy(upstream)
    with serving(proxy) as port:
        yield proxy, port
    proxy._channel.close()


@contextmanager
def serving(proxy: FaultProxy, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    """A port on 127.0.0.1 where the proxy listens for as long as the block lasts; with TLS, if it has credentials."""
    server = grpc.server(ThreadPoolExecutor(WORKERS), handlers=[proxy], options=[("grpc.so_reuseport", 0)])
    address = f"{HOST}:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
