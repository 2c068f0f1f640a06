"""Step Functions and Lambda of the laptop stack, on one local endpoint.

    python -m local.aws.server --parameter SpiceDBEndpoint=127.0.0.1:50051 …

deploys the functions and state machines of template.yaml, and serves boto3 clients made with
`endpoint_url="http://127.0.0.1:8083"`: every action of moto's Step Functions, StartSyncExecution (see
local.aws.step_functions) and Lambda's Invoke (see local.aws.lambda_runtime).
Nothing is stored on disk. Signatures and permissions are not checked.

For start_sync_execution, boto3 puts `sync-` before the host, even when the host is an address. That name cannot be
resolved. Callers turn it off with `Config(inject_host_prefix=False)` or AWS_DISABLE_HOST_PREFIX_INJECTION=true.
"""

if __name__ == "__main__":
    # Before the imports below, because they import moto.
    from local.aws import light_moto

    light_moto.install()

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from moto.core.request import Request
from werkzeug.wrappers import Response

from local.aws import http_server
from local.aws.lambda_runtime import FunctionNotFound, InvalidEvent, LambdaRuntime
from local.aws.step_functions import Backoff, StepFunctions, StepFunctionsApi
from local.aws.template import Template
from local.stack.endpoints import REGION, Endpoints

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Of each machine, by a server that may run for days.
_REMEMBERED = 100
_PORT_VARIABLE = "AWS_LOCAL_PORT"
_INVOKE_PATH = re.compile(r"/2015-03-31/functions/(.+)/invocations/?")


def serve(
    template: Template,
    *,
    port: int = 0,
    time_scale: float = 1.0,
    on_backoff: Callable[[Backoff], None] | None = None,
    remembered: int = sys.maxsize,
) -> AbstractContextManager[str]:
    """Run the functions and state machines of a template on 127.0.0.1 while the context lasts.

    The context gives the URL that boto3 clients need as `endpoint_url`.

    While it lasts, os.environ holds the functions' variables, and those that make boto3 clients use this server. They
    are set before the handlers are imported. Servers in one process share os.environ: the last one wins. At the end,
    running executions are stopped. A running handler cannot be stopped; its thread is a daemon and goes on.

    Args:
        port: 0 for any free port.
        time_scale: multiplies the timeouts of functions, tasks and machines: at 0.1 a task of 10 s gets one second.
        on_backoff: called in place of every wait before a retry, in the execution's own thread.
        remembered: how many executions that have ended each machine knows.

    Raises:
        StartError: the template, a handler or a definition is wrong.
    """

    @contextmanager
    def deployed(url: str) -> Iterator[_Aws]:
        with _environment({**template.shared_environment(), **_aws_environment(url)}):
            functions = LambdaRuntime(template.functions, time_scale)
            step_functions = StepFunctions(functions, time_scale, on_backoff, remembered)
            for machine in template.state_machines:
                step_functions.deploy(machine)
            try:
                yield _Aws(functions, step_functions)
            finally:
                step_functions.stop_all()

    return http_server.serve(deployed, port=port)


class _Aws:
    """The APIs of Step Functions and Lambda, as one WSGI application."""

    def __init__(self, functions: LambdaRuntime, step_functions: StepFunctions) -> None:
        self._functions, self._machines = functions, step_functions

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
            status, headers, body = StepFunctionsApi(self._machines)._dispatch(request)
        except NotImplementedError as error:
            return _error(501, "NotImplemented", str(error))
        return Response(body, status, headers)

    def _invoke(self, name: str, request: "_Request") -> Response:
        try:
            if request.headers.get("X-Amz-Invocation-Type") == "Event":
                self._functions.invoke_event(name, request.get_data())
                return Response(status=202)
            invocation = self._functions.invoke(name, request.get_data())
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


def _error(status: int, code: str, message: str) -> Response:
    body = json.dumps({"__type": code, "message": message})
    return Response(body, status, {"X-Amzn-ErrorType": code}, mimetype="application/json")


def _aws_environment(endpoint_url: str) -> dict[str, str | None]:
    """The variables that make a boto3 client of a function use this server, whatever the developer's own settings are.

    None removes a variable.
    """
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
    """Run the command line. Returns the exit code."""
    description = "Step Functions and Lambda on a laptop."
    parser = http_server.command_line(
        "python -m local.aws.server", description, port=Endpoints.aws_port, variable=_PORT_VARIABLE
    )
    arguments = parser.parse_args()

    def start(template: Template) -> AbstractContextManager[str]:
        return serve(template, port=arguments.port, remembered=_REMEMBERED)

    return http_server.run("Step Functions and Lambda", arguments, start, variable=_PORT_VARIABLE)


if __name__ == "__main__":
    sys.exit(main())
