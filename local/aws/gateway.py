"""The HTTP API of the laptop stack: API Gateway's part, as template.yaml describes it.

    python -m local.aws.gateway --parameter SpiceDBEndpoint=127.0.0.1:50051 …

listens on http://127.0.0.1:3000, finds the route of a request, checks the token that the route asks for, invokes the
route's function on the local Lambda (local.aws.server) with an event of payload format 2.0, and returns its response.
Errors of the gateway's own, its limits and the lines of its access log are those of an HTTP API.

What is different here: the issuer is local.stack.issuer, and its keys come from a file instead of the issuer's address;
nothing is throttled; CORS is not known; and GET /docs is open to anybody, for the Swagger UI that the function of the
$default route serves there.
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
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from joserfc import jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError
from joserfc.jwk import KeySet
from werkzeug import exceptions
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from local.aws import payload
from local.aws.payload import Request
from local.aws.template import (
    DEFAULT_ROUTE,
    Authorizer,
    Function,
    HttpApi,
    Route,
    Template,
    TemplateError,
    is_parameter,
    parameter_argument,
)
from local.stack.issuer import public_keys, signing_key
from local.stack.process import HOST, StartError, die_with_parent, require_free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DEFAULT_PORT = 3000
PORT_VARIABLE = "API_PORT"

MAX_HEAD_BYTES = 10_240
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024  # Lambda's, for the event and the answer of an invocation
INTEGRATION_SECONDS = 30.0

_ALGORITHMS = ["RS256"]
# What the access log may ask for, as `$context.<name>`.
_LOGGED = {
    "authorizer.error",
    "httpMethod",
    "identity.sourceIp",
    "integration.error",
    "integration.requestId",
    "requestId",
    "requestTime",
    "responseLatency",
    "responseLength",
    "routeKey",
    "status",
}
_LOG_VARIABLE = re.compile(r"\$context\.([A-Za-z]+(?:\.[A-Za-z]+)*)")
_MESSAGES = {413: "Request Entity Too Large"}  # where AWS has not the words of Python's newer versions
_DOCS_PATH = "/docs"
_POLL_SECONDS = 0.05  # how soon the server notices that it is to end
_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"


@contextmanager
def serve(
    template: Template,
    keys: KeySet,
    functions: str,
    *,
    port: int = 0,
    seconds: float = INTEGRATION_SECONDS,
    log: Callable[[str], None] = lambda line: print(f"{line}\n", end="", flush=True),
) -> Iterator[str]:
    """Run the HTTP API of a template on 127.0.0.1 while the context lasts. Yields its URL.

    Args:
        keys: the public keys of the issuer.
        functions: the URL of the local Lambda.
        port: 0 for any free one.
        seconds: how long a function may take to answer.
        log: is given each line of the access log.

    Raises:
        StartError: the template has not exactly one HTTP API, or its access log asks for what is not known here.
    """
    app = _App(_only(template), keys, functions, seconds, log)
    httpd = make_server(HOST, port, app, threaded=True, request_handler=_Handler)
    try:
        thread = threading.Thread(target=httpd.serve_forever, args=(_POLL_SECONDS,), name="gateway", daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()
    finally:
        httpd.server_close()


# Which route a request takes.


def match(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request, and its path parameters; None if there is none.

    Of several routes it is the one with a fixed segment where others have a parameter, from the left; `$default` comes
    last. A parameter stands for one segment that is not empty. `path` is percent-encoded: an encoded slash is part of
    its segment.
    """
    asked = [payload.decoded(segment) for segment in path.split("/")[1:]]
    default = None
    for route in sorted(routes, key=_vagueness):
        if route.path == DEFAULT_ROUTE:
            default = route, dict[str, str]()
        elif route.method in (method, "ANY") and _fits(route.segments, asked):
            values = zip(route.segments, asked, strict=True)
            return route, {segment[1:-1]: value for segment, value in values if is_parameter(segment)}
    return default


def _vagueness(route: Route) -> tuple[list[bool], bool]:
    return [is_parameter(segment) for segment in route.segments], route.method == "ANY"


def _fits(segments: tuple[str, ...], asked: list[str]) -> bool:
    return len(segments) == len(asked) and all(
        value != "" if is_parameter(segment) else value == segment
        for segment, value in zip(segments, asked, strict=True)
    )


def _with_docs(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes, and one to the Swagger UI of the function that takes what no other does."""
    defaults = [route for route in routes if route.path == DEFAULT_ROUTE]
    return (*routes, *(replace(route, method="GET", path=_DOCS_PATH, authorizer=None) for route in defaults))


# Who calls.


class InvalidToken(Exception):
    """A token is refused. The text says why, in words of ours: nothing that the token holds is in it."""


def verified(token: str, authorizer: Authorizer, keys: KeySet) -> dict[str, Any]:
    """The claims of a token that API Gateway would take; clocks get no leeway.

    Raises:
        InvalidToken: it is no JWT, not signed with RS256 by a key of the set that it names, not meant for this API,
            expired, or not valid yet.
    """
    required = jwt.JWTClaimsRegistry(iss={"essential": True, "value": authorizer.issuer}, exp={"essential": True})
    try:
        decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
        required.validate(decoded.claims)
    except ExpiredTokenError:
        raise InvalidToken("the token has expired") from None
    except BadSignatureError:
        raise InvalidToken("the token's signature is not valid") from None
    except ClaimError as error:
        raise InvalidToken(f"the token's claim {error.claim} is not valid") from None
    except Exception:  # noqa: BLE001 - whatever a token makes the library stumble over, it is not a valid one
        raise InvalidToken("the token is not valid") from None
    # Where a token names no key, the library has taken the only one.
    if "kid" not in decoded.header:
        raise InvalidToken("the token names no key")
    # API Gateway looks at client_id where there is no aud.
    audience = decoded.claims.get("aud", decoded.claims.get("client_id"))
    if not any(name in (audience if isinstance(audience, list) else [audience]) for name in authorizer.audience):
        raise InvalidToken("the token does not have a valid audience")
    return decoded.claims


def _claims(request: Request, authorizer: Authorizer, keys: KeySet) -> dict[str, str]:
    """The verified claims of a request as the function gets them: texts, all of them."""
    # Two headers are one value with a comma in it, which is no token.
    token = re.sub("^bearer +", "", ",".join(request.fields.get(authorizer.header, [])), flags=re.IGNORECASE)
    if not token:
        raise _Refused(401, {"authorizer.error": "no token"}, {"www-authenticate": "Bearer"})
    try:
        return {name: _text(claim) for name, claim in verified(token, authorizer, keys).items()}
    except InvalidToken as error:
        challenge = f'Bearer scope="" error="invalid_token" error_description="{error}"'
        raise _Refused(401, {"authorizer.error": str(error)}, {"www-authenticate": challenge}) from None


def _text(claim: object) -> str:
    """A claim as API Gateway writes it: a list in brackets, with spaces between."""
    if isinstance(claim, list):
        return f"[{' '.join(_text(entry) for entry in claim)}]"
    return claim if isinstance(claim, str) else json.dumps(claim)


# From a request to an answer.


class _Refused(Exception):
    """The gateway answers by itself. `record` is what the access log is told besides."""

    def __init__(self, status: int, record: Mapping[str, str] = {}, headers: Mapping[str, str] = {}) -> None:
        super().__init__(status)
        self.status, self.record, self.headers = status, record, headers


class _App:
    """The gateway, as a WSGI application."""

    def __init__(self, api: HttpApi, keys: KeySet, functions: str, seconds: float, log: Callable[[str], None]) -> None:
        self._routes, self._log_format = _with_docs(api.routes), api.access_log_format
        self._keys, self._functions, self._seconds, self._log = keys, urlsplit(functions).netloc, seconds, log

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ, environ["gateway.handler"])
        record: dict[str, str] = {}
        try:
            response = self._answer(request, record)
        except _Refused as refusal:
            record |= refusal.record
            response = Response(_message(refusal.status), refusal.status, refusal.headers, mimetype="application/json")
        response.headers["apigw-requestid"] = request.id
        self._write(request, response, record)
        return response(environ, start_response)

    def _answer(self, request: Request, record: dict[str, str]) -> Response:
        if request.head_bytes > MAX_HEAD_BYTES:
            raise _Refused(431)
        try:
            body = request.get_data()
        except exceptions.RequestEntityTooLarge:
            raise _Refused(413) from None
        except (exceptions.HTTPException, OSError):  # it ends before its time, or its chunks are none
            raise _Refused(400) from None
        if len(body) > payload.MAX_BODY_BYTES:
            raise _Refused(413)
        found = match(self._routes, request.method, request.encoded_path)
        if not found:
            raise _Refused(404)
        route, parameters = found
        record["routeKey"] = route.key
        claims = _claims(request, route.authorizer, self._keys) if route.authorizer else None
        content = self._invoke(route.function, payload.event(request, body, route.key, parameters, claims), record)
        try:
            return payload.response(content)
        except (ValueError, TypeError, AttributeError):
            raise _failed("the function's answer is malformed") from None

    def _invoke(self, function: Function, event: dict[str, Any], record: dict[str, str]) -> bytes:
        content = json.dumps(event).encode()
        if len(content) > MAX_PAYLOAD_BYTES:
            raise _Refused(413)
        path = f"/2015-03-31/functions/{quote(function.name)}/invocations"
        trace = {"X-Amzn-Trace-Id": event["headers"]["x-amzn-trace-id"]}
        connection = HTTPConnection(self._functions, timeout=self._seconds)
        try:
            connection.request("POST", path, content, trace)
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError:
            raise _failed(f"no answer within {self._seconds:g} s", 503) from None
        except (OSError, HTTPException) as error:
            raise _failed(f"the local Lambda does not answer: {error}") from None
        finally:
            connection.close()
        record["integration.requestId"] = answer.headers.get("X-Amzn-RequestId", "-")
        if answer.status != HTTPStatus.OK or "X-Amz-Function-Error" in answer.headers:
            raise _failed(f"the function failed: {answer.headers.get('X-Amz-Function-Error', answer.reason)}")
        if len(content) > MAX_PAYLOAD_BYTES:
            raise _failed("the function's answer is too large")
        return content

    def _write(self, request: Request, response: Response, record: dict[str, str]) -> None:
        """Write a line of the access log, if there is one."""
        record |= {
            "httpMethod": request.method,
            "identity.sourceIp": str(request.remote_addr),
            "requestId": request.id,
            "requestTime": request.time_text,
            "responseLatency": str(round((datetime.now(UTC) - request.time).total_seconds() * 1000)),
            "responseLength": str(response.calculate_content_length()),
            "status": str(response.status_code),
        }
        if self._log_format:
            # A value may have to go between quotes.
            self._log(_LOG_VARIABLE.sub(lambda name: json.dumps(record.get(name[1], "-"))[1:-1], self._log_format))


def _failed(why: str, status: int = 500) -> _Refused:
    """The function, or the way to it, has failed. The caller does not learn how."""
    return _Refused(status, {"integration.error": why})


def _message(status: int) -> str:
    return json.dumps({"message": _MESSAGES.get(status) or HTTPStatus(status).phrase}, separators=(",", ":"))


class _Handler(WSGIRequestHandler):
    """Hands itself on, for what WSGI leaves out, and says in JSON what is no HTTP."""

    def make_environ(self) -> "WSGIEnvironment":
        return {**super().make_environ(), "gateway.handler": self}

    def log_request(self, *_: object) -> None:
        """Write no line for a request: the access log has one."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what cannot be parsed."""
        body = _message(code).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _only(template: Template) -> HttpApi:
    """The template's HTTP API, after a look at its log format."""
    if len(template.http_apis) != 1:
        raise StartError(f"the laptop serves one HTTP API, and the template has {len(template.http_apis)}")
    (api,) = template.http_apis
    for name in _LOG_VARIABLE.findall(api.access_log_format):
        if name not in _LOGGED:
            raise TemplateError(f"{api.logical_id}: AccessLogSettings: $context.{name} is not known on the laptop")
    return api


def main() -> int:
    """The command line; 1 when it cannot start, with one line that says why."""
    parser = argparse.ArgumentParser(prog="python -m local.aws.gateway", description="The HTTP API on a laptop.")
    parser.add_argument(
        "--port", type=int, default=os.environ.get(PORT_VARIABLE) or DEFAULT_PORT, help="default: %(default)s"
    )
    parser.add_argument(
        "--functions",
        metavar="URL",
        default=f"http://{HOST}:{os.environ.get('AWS_LOCAL_PORT') or 8083}",
        help="the local Lambda; default: %(default)s",
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
        require_free_port(arguments.port, "HTTP API", PORT_VARIABLE)
        template = Template(arguments.template, dict(arguments.parameter))
        keys = public_keys(signing_key())
        with serve(template, keys, arguments.functions, port=arguments.port) as url:
            print(f"HTTP API ready on {url}", flush=True)
            stop.wait()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
