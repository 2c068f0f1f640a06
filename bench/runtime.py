"""A function in a process of its own, as Lambda starts it: its runtime client, its packages in one folder, byte code
only where the build has made it, and Secrets Manager at the end of a socket.

The page cache is warm, the processor is this machine's, and there is no sandbox to be made.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from local.stack.endpoints import REGION, SPICEDB_TOKEN
from local.stack.process import HOST
from tests.support.sam import RUNTIME

SECONDS = 120.0
# What clock_gettime takes for the processor time of another process: see CPUCLOCK_SCHED in the kernel.
_PROCESS_CLOCK = 2
_INVOCATION = "/2018-06-01/runtime/invocation/"


@dataclass(frozen=True)
class Answered:
    """The end of an invocation.

    Attributes:
        seconds: since the process was started, or the event was given.
        processor: seconds of processor time that the process has used since it began.
        peak_megabytes: the most resident memory so far.
        result: what the handler returned.
    """

    seconds: float
    processor: float
    peak_megabytes: float
    result: Any


class FunctionFailed(Exception):
    """A function returned an error, or its process ended. The text has what it wrote."""


class Process:
    """A function's process. It starts when the block begins, and waits for its first event."""

    def __init__(
        self, code: Path, packages: Path, environment: Mapping[str, str], handler: str = "app.handler"
    ) -> None:
        """``code`` stands for /var/task and ``packages`` for /opt/python."""
        self._code, self._packages, self._handler = code, packages, handler
        self._environment = environment
        self._events: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[float, float, float, str, bytes]] = queue.SimpleQueue()
        self.secrets_read = 0

    def __enter__(self) -> "Process":
        self._server = _Server(self)
        self._log = tempfile.TemporaryFile()
        port = self._server.server_address[1]
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            [RUNTIME, "-m", "awslambdaric", self._handler],
            cwd=self._code,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{self._code}:{self._packages}",
                "PYTHONDONTWRITEBYTECODE": "1",  # /opt and /var/task are read-only
                "LAMBDA_TASK_ROOT": str(self._code),
                "LAMBDA_RUNTIME_DIR": str(RUNTIME.parent),
                "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{port}",
                "AWS_LAMBDA_FUNCTION_NAME": "bench",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{HOST}:{port}",
                "TZ": ":UTC",
                **self._environment,
            },
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._log.close()

    def invoke(self, event: Mapping[str, Any]) -> Answered:
        """Give it an event and wait for the result. At the first one, the time runs since the process was started.

        Raises:
            FunctionFailed: it returned an error, ended, or took longer than `SECONDS`.
        """
        began, self._began = self._began, 0.0
        began = began or time.perf_counter()
        self._events.put(json.dumps(event).encode())
        ends_at = time.monotonic() + SECONDS
        while True:
            try:
                at, processor, peak, kind, body = self._answers.get(timeout=0.5)
                break
            except queue.Empty:
                if self._process.poll() is not None or time.monotonic() > ends_at:
                    raise FunctionFailed(self._written()) from None
        if kind != "response":
            raise FunctionFailed(f"{body.decode()}\n{self._written()}")
        return Answered(at - began, processor, peak, json.loads(body))

    def _written(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-4000:]

    def next_event(self) -> bytes:
        """The next event for the runtime client."""
        return self._events.get()

    def answer(self, kind: str, body: bytes) -> None:
        """Note what the runtime client sends at the end of an invocation."""
        at, pid = time.perf_counter(), self._process.pid
        processor = time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)
        status = Path(f"/proc/{pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        self._answers.put((at, processor, peak, kind, body))


class _Server(ThreadingHTTPServer):
    """Lambda's runtime API, and Secrets Manager."""

    daemon_threads = True

    def __init__(self, process: Process) -> None:
        super().__init__((HOST, 0), _Handler)
        self.process = process
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that is killed resets its connections; any other error is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        event = cast(_Server, self.server).process.next_event()
        self._send(
            200,
            event,
            {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + SECONDS) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:{REGION}:123456789012:function:bench",
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        process = cast(_Server, self.server).process
        if self.headers.get("X-Amz-Target") == "secretsmanager.GetSecretValue":
            process.secrets_read += 1
            secret = {"Name": "bench", "ARN": json.loads(body)["SecretId"], "SecretString": SPICEDB_TOKEN}
            self._send(200, json.dumps(secret).encode(), {"Content-Type": "application/x-amz-json-1.1"})
            return
        process.answer(self.path.rpartition("/")[2] if self.path.startswith(_INVOCATION) else "error", body)
        self._send(202, b"{}", {})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no access log."""
