"""Runs the functions of template.yaml in this process, with the results that AWS Lambda gives.

A handler is imported when the runtime is created. At every invocation it is looked up in its module again, so that a
test can replace it.

Differences from a deployed function: all functions share one process, one environment and one set of modules.
Concurrent invocations of a function run in threads, while Lambda gives each its own process; what Powertools keeps of a
request is therefore kept by thread (local.aws.powertools_patches). A handler that exceeds its timeout cannot be killed:
the caller gets the timeout error, and the handler's thread goes on in the background.
"""

import importlib
import json
import queue
import threading
import time
import traceback
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from local.aws import powertools_patches
from local.aws.intrinsics import TemplateError
from local.aws.resources import Function


class FunctionNotFound(LookupError):
    """No function has this name or ARN. The text is Lambda's own."""


class InvalidEvent(ValueError):
    """The payload of an invocation is not JSON. The text is Lambda's own."""


@dataclass(frozen=True)
class Invocation:
    """The result of an invocation.

    Attributes:
        payload: JSON text: what the handler returned, or the error object
            `{"errorMessage", "errorType", "requestId", "stackTrace"}`.
        error: "Unhandled" if the function failed, otherwise None.
    """

    request_id: str
    payload: str
    error: str | None = None


@dataclass(frozen=True)
class Context:
    """The second argument of a handler, with the attributes that Lambda's Python runtime gives it."""

    aws_request_id: str
    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    _ends_at: float = field(repr=False)
    function_version: str = "$LATEST"
    log_group_name: str = "local"
    log_stream_name: str = "local"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the timeout of the function."""
        return max(0, int((self._ends_at - time.monotonic()) * 1000))


class LambdaRuntime:
    """The functions of a template, ready to be invoked."""

    def __init__(self, functions: Iterable[Function], time_scale: float = 1.0) -> None:
        """Import every handler. `time_scale` multiplies the timeouts: at 0.1 a function with 3 s gets 0.3 s.

        Raises TemplateError, which names the function, if a handler cannot be imported.
        """
        powertools_patches.install()
        self._time_scale = time_scale
        self._handlers = {function.name: (function, _load(function)) for function in functions}

    def invoke(self, name: str, payload: bytes) -> Invocation:
        """Run a function and wait for its result. `name` is a name or an ARN; an empty payload stands for `{}`.

        Raises FunctionNotFound and InvalidEvent.
        """
        function, module = self._find(name)
        event = _parse(payload)
        request_id = str(uuid.uuid4())
        seconds = function.timeout * self._time_scale
        context = Context(
            aws_request_id=request_id,
            function_name=function.name,
            invoked_function_arn=function.arn,
            memory_limit_in_mb=str(function.memory),
            _ends_at=time.monotonic() + seconds,
        )
        result: queue.SimpleQueue[Invocation] = queue.SimpleQueue()

        def run() -> None:
            result.put(_run(function, module, event, context))

        threading.Thread(target=run, name=function.name, daemon=True).start()
        try:
            return result.get(timeout=seconds)
        except queue.Empty:
            message = f"RequestId: {request_id} Error: Task timed out after {function.timeout:.2f} seconds"
            return _failed(function, request_id, {"errorMessage": message, "errorType": "Sandbox.Timedout"})

    def invoke_event(self, name: str, payload: bytes) -> None:
        """Run a function in the background, once. Lambda repeats an event that failed; this does not.

        Raises FunctionNotFound and InvalidEvent.
        """
        self._find(name)
        _parse(payload)
        threading.Thread(target=self.invoke, args=(name, payload), daemon=True).start()

    def _find(self, name: str) -> tuple[Function, ModuleType]:
        # A name, an ARN, or an account and a name; each with or without a version.
        plain = name.rpartition("function:")[2].partition(":")[0]
        if plain not in self._handlers:
            raise FunctionNotFound(f"Function not found: {name}")
        return self._handlers[plain]


def _load(function: Function) -> ModuleType:
    try:
        module = importlib.import_module(function.module)
    except Exception as error:
        raise TemplateError(
            f"{function.logical_id}: Handler {function.handler}: {function.module} does not import: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(module, _handler_name(function), None)):
        raise TemplateError(
            f"{function.logical_id}: Handler {function.handler}: {function.module} has no such function"
        )
    return module


def _handler_name(function: Function) -> str:
    return function.handler.rpartition(".")[2]


def _parse(payload: bytes) -> Any:
    try:
        return json.loads(payload or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"Could not parse request body into json: {error}") from None


def _run(function: Function, module: ModuleType, event: Any, context: Context) -> Invocation:
    request_id = context.aws_request_id
    try:
        returned = getattr(module, _handler_name(function))(event, context)
    except SystemExit as error:
        message = f"RequestId: {request_id} Error: Runtime exited with error: exit status {error.code or 0}"
        return _failed(function, request_id, {"errorMessage": message, "errorType": "Runtime.ExitError"})
    except Exception as error:  # noqa: BLE001 - any error of a handler is the result of the invocation
        # The first frame is this function's.
        frames = traceback.extract_tb(error.__traceback__)[1:]
        return _failed(function, request_id, _error(error, type(error).__name__, request_id, frames))
    try:
        return Invocation(request_id, json.dumps(returned))
    except (TypeError, ValueError, RecursionError) as error:
        marshal_error = TypeError(f"Unable to marshal response: {error}")
        return _failed(function, request_id, _error(marshal_error, "Runtime.MarshalError", request_id, []))


def _error(error: Exception, name: str, request_id: str, frames: list[traceback.FrameSummary]) -> dict[str, Any]:
    return {
        "errorMessage": str(error),
        "errorType": name,
        "requestId": request_id,
        "stackTrace": traceback.format_list(frames),
    }


def _failed(function: Function, request_id: str, error: dict[str, Any]) -> Invocation:
    # The newline is part of the text, so that lines of several threads do not mix.
    print(f"[ERROR] {function.name} {request_id} {error['errorType']}: {error['errorMessage']}\n", end="", flush=True)
    return Invocation(request_id, json.dumps(error), "Unhandled")
