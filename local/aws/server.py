"""The AWS side of the laptop stack: Step Functions and Lambda on one local endpoint.

    python -m local.aws.server --parameter SpiceDBEndpoint=127.0.0.1:50051 …

deploys what template.yaml says and answers boto3 clients made with `endpoint_url="http://127.0.0.1:8083"`: all of
moto's Step Functions and StartSyncExecution (see local.aws.step_functions), and Lambda's Invoke (see
local.aws.lambda_runtime).
Nothing is stored; nothing is signed or authorized.

boto3 puts `sync-` before the host for start_sync_execution, also where the host is an address, and the result resolves
nowhere. Callers turn that off, with `Config(inject_host_prefix=False)` or AWS_DISABLE_HOST_PREFIX_INJECTION=true.
"""

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moto.core.request import Request
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from local.aws.lambda_runtime import FunctionNotFound, InvalidEvent, LambdaRuntime
from local.aws.step_functions import Backoff, StepFunctions, StepFunctionsApi
from local.aws.template import Template, parameter_argument
from local.stack.endpoints import REGION
from local.stack.process import HOST, StartError, die_with_parent, require_free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DEFAULT_PORT = 8083
PORT_VARIABLE = "AWS_LOCAL_PORT"

_POLL_SECONDS = 0.05  # how soon the server notices that it is to end
_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
_INVOKE_PATH = re.compile(r"/2015-03-31/functions/(.+)/invocations/?")


@contextmanager
def serve(
    template: Template,
    *,
    port: int = 0,
    time_scale: float = 1.0,
    on_backoff: Callable[[Backoff], None] | None = None,
) -> Iterator[str]:
    """Run the functions and state machines of a template on 127.0.0.1 while the context lasts.

    Yields the URL that boto3 clients are given as `endpoint_url`.

    The functions' environment, and one in which boto3 clients reach this server and no other, is set in os.environ for
    as long; it is set before the handlers are imported. Several servers in one process share it: the last one wins.
    What is running at the end is stopped; a handler that is running cannot be, and its (daemon) thread is left.

    Args:
        port: 0 for any free one.
        time_scale: multiplies the timeouts of functions, tasks and machines: at 0.1 a task of 10 s gets one second.
        on_backoff: called in place of every wait before a retry, in the execution's own thread.

    Raises:
        StartError: the template, a handler or a definition is wrong.
    """
    app = _App()
    httpd = make_server(HOST, port, app, threaded=True, request_handler=_QuietHandler)
    endpoint_url = f"http://{HOST}:{httpd.server_port}"
    try:
        with _environment({**template.shared_environment(), **_aws_environment(endpoint_url)}):
            app.functions = LambdaRuntime(template.functions, time_scale, _behind_http(template))
            app.step_functions = StepFunctions(app.functions, time_scale, on_backoff)
            for machine in template.state_machines:
                app.step_functions.deploy(machine)
            thread = threading.Thread(target=httpd.serve_forever, args=(_POLL_SECONDS,), name="aws", daemon=True)
            thread.start()
            try:
                yield endpoint_url
            finally:
                httpd.shutdown()
                thread.join()
                app.step_functions.stop_all()
    finally:
        httpd.server_close()


def _behind_http(template: Template) -> set[str]:
    """The names of the functions that an HTTP API invokes."""
    return {route.function.name for api in template.http_apis for route in api.routes}


class _App:
    """The two APIs, as a WSGI application."""

    functions: LambdaRuntime
    step_functions: StepFunctions

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = _Request(environ)
        if request.headers.get("X-Amz-Target", "").startswith("AWSStepFunctions."):
            response = self._step_functions(request)
        elif request.method == "POST" and (invoked := _INVOKE_PATH.fullmatch(request.path)):
            response = self._invoke(invoked[1], request)
        else:
            response = _error(501, "NotImplemented", "the laptop serves Step Functions and Lambda's Invoke")
        return response(environ, start_response)

    def _step_functions(self, request: "_Request") -> Response:
        try:
            status, headers, body = StepFunctionsApi(self.step_functions)._dispatch(request)
        except NotImplementedError as error:
            return _error(501, "NotImplemented", str(error))
        return Response(body, status, headers)

    def _invoke(self, name: str, request: "_Request") -> Response:
        try:
            if request.headers.get("X-Amz-Invocation-Type") == "Event":
                self.functions.invoke_event(name, request.get_data())
                return Response(status=202)
            invocation = self.functions.invoke(name, request.get_data())
        except FunctionNotFound as error:
            return _error(404, "ResourceNotFoundException", str(error))
        except InvalidEvent as error:
            return _error(400, "InvalidRequestContentException", str(error))
        headers = {"X-Amz-Executed-Version": "$LATEST", "X-Amzn-RequestId": invocation.request_id}
        if invocation.error:
            headers["X-Amz-Function-Error"] = invocation.error
        return Response(invocation.payload, 200, headers, mimetype="application/json")


class _Request(Request):
    from_wsgi_server = True


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Write no line for a request: the functions' own are the log."""


def _error(status: int, code: str, message: str) -> Response:
    body = json.dumps({"__type": code, "message": message})
    return Response(body, status, {"X-Amzn-ErrorType": code}, mimetype="application/json")


def _aws_environment(endpoint_url: str) -> dict[str, str | None]:
    """Where a boto3 client of a function finds this server, whatever the developer's own settings are. None: unset."""
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": None,
        "AWS_PROFILE": None,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    _set_environment(variables)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def main() -> int:
    """The command line; 1 when it cannot start, with one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m local.aws.server", description="Step Functions and Lambda on a laptop."
    )
    parser.add_argument(
        "--port", type=int, default=os.environ.get(PORT_VARIABLE) or DEFAULT_PORT, help="default: %(default)s"
    )
    parser.add_argument("--template", type=Path, default=_TEMPLATE, help="default: the project's template.yaml")
    parser.add_argument(
        "--parameter",
        type=parameter_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the template",
    )
    arguments = parser.parse_args()

    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        require_free_port(arguments.port, "Step Functions and Lambda", PORT_VARIABLE)
        template = Template(arguments.template, dict(arguments.parameter))
        with serve(template, port=arguments.port) as endpoint_url:
            print(f"Step Functions and Lambda ready on {endpoint_url}", flush=True)
            stop.wait()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
