"""The HTTP API of the laptop stack: what API Gateway does for the HTTP API in template.yaml.

    python -m local.aws.gateway --parameter SpiceDBEndpoint=127.0.0.1:50051 …

listens on http://127.0.0.1:3000. It finds the route of a request, checks the token and its scopes if the route has an
authorizer, invokes the route's function on the local Lambda (local.aws.server) with an event of payload format 2.0, and
returns the function's response. The gateway's own errors, limits, CORS and access log are those of an HTTP API.

Differences from API Gateway: the issuer is local.stack.issuer, and its keys are read from a file instead of the
issuer's address; requests are not throttled; and GET /docs, the Swagger UI that the function of the $default route
serves, needs no token.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from joserfc.jwk import KeySet
from werkzeug import exceptions
from werkzeug.wrappers import Response

from local.aws import authorizer, cors, http_server, payload
from local.aws.access_log import AccessLog
from local.aws.payload import Request
from local.aws.resources import DEFAULT_ROUTE, Authorizer, Function, HttpApi, Route
from local.aws.routes import match
from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.issuer import public_keys, signing_key
from local.stack.process import HOST, StartError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_HEAD_BYTES = 10_240
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024  # Lambda's limit for the event and for the result of an invocation
INTEGRATION_SECONDS = 30.0

_PORT_VARIABLE = "API_PORT"
_REASONS = {413: "Request Entity Too Large"}  # where newer versions of Python have other words than AWS
_DOCS_PATH = "/docs"
# Only the laptop has this issuer, so only the laptop's page tells how to get a token.
_TOKEN_NOTE = (
    b"<p>To call the API from this page: <code>make -s token SUBJECT=alice</code> prints a token, and "
    b"<code>make agent OWNER=alice AGENT=weather-agent</code> makes alice the owner of an agent. Paste the token under "
    b"Authorize.</p>"
)


def serve(
    template: Template,
    keys: KeySet,
    functions: str,
    *,
    port: int = 0,
    seconds: float = INTEGRATION_SECONDS,
    log: Callable[[str], None] = lambda line: print(f"{line}\n", end="", flush=True),
) -> AbstractContextManager[str]:
    """Run the HTTP API of a template on 127.0.0.1 while the context lasts. The context gives its URL.

    Args:
        keys: the public keys of the issuer.
        functions: the URL of the local Lambda.
        port: 0 for any free port.
        seconds: how long a function may run.
        log: called with each line of the access log.

    Raises:
        StartError: the template does not have exactly one HTTP API, or its access log contains an unknown variable.
    """
    if len(template.http_apis) != 1:
        raise StartError(f"the laptop serves one HTTP API, and the template has {len(template.http_apis)}")
    (api,) = template.http_apis
    app = _Gateway(api, keys, functions, seconds, AccessLog(api, log))
    return http_server.serve(lambda _url: nullcontext(app), port=port, handler=_Handler)


class _Refused(Exception):
    """The gateway itself responds. `record` is for the access log."""

    def __init__(self, status: int, record: Mapping[str, str] = {}, headers: Mapping[str, str] = {}) -> None:
        super().__init__(status)
        self.status, self.record, self.headers = status, record, headers


class _Gateway:
    """The HTTP API as a WSGI application."""

    def __init__(self, api: HttpApi, keys: KeySet, functions: str, seconds: float, log: AccessLog) -> None:
        self._routes, self._cors = _with_docs(api.routes), api.cors
        self._keys, self._functions, self._seconds, self._log = keys, urlsplit(functions).netloc, seconds, log

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ, environ["gateway.handler"])
        record: dict[str, str] = {}
        try:
            response = self._respond(request, record)
        except _Refused as refusal:
            record |= refusal.record
            response = Response(_message(refusal.status), refusal.status, refusal.headers, mimetype="application/json")
        response.headers["apigw-requestid"] = request.id
        self._log.add(request, response, record)
        return response(environ, start_response)

    def _respond(self, request: Request, record: dict[str, str]) -> Response:
        if request.head_bytes > MAX_HEAD_BYTES:
            raise _Refused(431)
        try:
            body = request.get_data()
        except exceptions.RequestEntityTooLarge:
            raise _Refused(413) from None
        except (exceptions.HTTPException, OSError):  # the body is too short, or its chunks are malformed
            raise _Refused(400) from None
        if len(body) > payload.MAX_BODY_BYTES:
            raise _Refused(413)
        found = match(self._routes, request.method, request.encoded_path)
        preflight = cors.preflight(self._cors, request) if self._cors and cors.is_preflight(request) else None
        if not found:
            if preflight:
                return preflight
            raise _Refused(404)
        route, parameters = found
        record["routeKey"] = route.key
        claims = self._claims(request, route.authorizer, route.scopes) if route.authorizer else None
        if preflight:
            return preflight
        event = payload.event(request, body, route.key, parameters, claims, route.scopes)
        result = self._invoke(route.function, event, record)
        try:
            response = payload.response(result)
        except (ValueError, TypeError, AttributeError):
            raise _failed("the function's response is malformed") from None
        if route.path == _DOCS_PATH and response.mimetype == "text/html":
            response.set_data(response.get_data().replace(b"<body>", b"<body>" + _TOKEN_NOTE, 1))
        if self._cors:
            cors.add(self._cors, request, response)
        return response

    def _claims(self, request: Request, settings: Authorizer, scopes: tuple[str, ...]) -> dict[str, str]:
        try:
            return authorizer.verified_claims(request.fields.get(settings.header, []), settings, self._keys, scopes)
        except authorizer.TokenRefused as error:
            status = 403 if isinstance(error, authorizer.ScopeMissing) else 401
            record, headers = {"authorizer.error": str(error)}, {"www-authenticate": error.challenge}
            raise _Refused(status, record, headers) from None

    def _invoke(self, function: Function, event: dict[str, Any], record: dict[str, str]) -> bytes:
        content = json.dumps(event).encode()
        if len(content) > MAX_PAYLOAD_BYTES:
            raise _Refused(413)
        path = f"/2015-03-31/functions/{quote(function.name)}/invocations"
        trace = {"X-Amzn-Trace-Id": event["headers"]["x-amzn-trace-id"]}
        connection = HTTPConnection(self._functions, timeout=self._seconds)
        try:
            connection.request("POST", path, content, trace)
            response = connection.getresponse()
            result = response.read()
        except TimeoutError:
            raise _failed(f"no response within {self._seconds:g} s", 503) from None
        except (OSError, HTTPException) as error:
            raise _failed(f"the local Lambda does not respond: {error}") from None
        finally:
            connection.close()
        record["integration.requestId"] = response.headers.get("X-Amzn-RequestId", "-")
        if response.status != HTTPStatus.OK or "X-Amz-Function-Error" in response.headers:
            raise _failed(f"the function failed: {response.headers.get('X-Amz-Function-Error', response.reason)}")
        if len(result) > MAX_PAYLOAD_BYTES:
            raise _failed("the function's response is too large")
        return result


def _with_docs(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes, and one without authorizer to the Swagger UI of the function of the $default route."""
    defaults = [route for route in routes if route.path == DEFAULT_ROUTE]
    return (*routes, *(replace(route, method="GET", path=_DOCS_PATH, authorizer=None) for route in defaults))


def _failed(why: str, status: int = 500) -> _Refused:
    """The function failed or could not be invoked. Only the access log says why; the caller is not told."""
    return _Refused(status, {"integration.error": why})


def _message(status: int) -> str:
    return json.dumps({"message": _REASONS.get(status) or HTTPStatus(status).phrase}, separators=(",", ":"))


class _Handler(http_server.QuietHandler):
    """Passes itself to the application, which needs what WSGI leaves out, and reports malformed HTTP in JSON."""

    def make_environ(self) -> "WSGIEnvironment":
        return {**super().make_environ(), "gateway.handler": self}

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the signature of http.server
        """Respond to a request that cannot be parsed."""
        body = _message(code).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = http_server.command_line(
        "python -m local.aws.gateway", "The HTTP API on a laptop.", port=Endpoints.api_port, variable=_PORT_VARIABLE
    )
    parser.add_argument(
        "--functions",
        metavar="URL",
        default=f"http://{HOST}:{os.environ.get('AWS_LOCAL_PORT') or Endpoints.aws_port}",
        help="the local Lambda; default: %(default)s",
    )
    arguments = parser.parse_args()

    def start(template: Template) -> AbstractContextManager[str]:
        return serve(template, public_keys(signing_key()), arguments.functions, port=arguments.port)

    return http_server.run("HTTP API", arguments, start, variable=_PORT_VARIABLE)


if __name__ == "__main__":
    sys.exit(main())
