"""Payload format 2.0: from an HTTP request to a function's event, and from a function's result to an HTTP response.

This follows API Gateway's behaviour, which differs from its manual: the path is decoded, and cut at an encoded question
mark; a body is text only for a few content types, and forms are not among them; a result without a status code is
itself the body.
"""

import base64
import json
import re
import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from werkzeug import wrappers
from werkzeug.serving import WSGIRequestHandler

from local.stack.endpoints import ACCOUNT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_BODY_BYTES = 10 * 1024 * 1024

_TEXT_TYPES = {"application/json", "application/javascript", "application/xml"}
# Hop-by-hop headers. They are not forwarded.
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class Request(wrappers.Request):
    """A request as it was sent, without the changes that WSGI makes to it, and its id and time.

    Attributes:
        id: in API Gateway's form, 15 characters and an equals sign.
        fields: the values of each header, by its name in lower case.
        head_bytes: the size that API Gateway limits: the request line and the values of the headers.
        encoded_path: percent-encoded.
        query: percent-encoded.
    """

    max_content_length = MAX_BODY_BYTES + 1  # Werkzeug silently cuts a chunked body at this size

    def __init__(self, environ: "WSGIEnvironment", raw: WSGIRequestHandler) -> None:
        super().__init__(environ)
        self.time = datetime.now(UTC)
        self.id = base64.urlsafe_b64encode(secrets.token_bytes(11)).decode()
        self.fields: dict[str, list[str]] = {}
        for name, value in raw.headers.items():
            self.fields.setdefault(name.lower(), []).append(value.replace("\r\n", ""))
        self.head_bytes = len(raw.raw_requestline) + sum(len(value) for value in raw.headers.values())
        target = raw.path
        if not target.startswith("/"):  # absolute form: http://host/path
            target = urlsplit(target)._replace(scheme="", netloc="").geturl()
        path, _, self.query = target.partition("?")
        self.encoded_path = re.split("%3f", path, maxsplit=1, flags=re.IGNORECASE)[0]

    @property
    def time_text(self) -> str:
        """The time as API Gateway and web servers write it: 23/Nov/2026:09:00:00 +0000."""
        return f"{self.time:%d/%b/%Y:%H:%M:%S +0000}"


def event(
    request: Request,
    body: bytes,
    route_key: str,
    parameters: dict[str, str],
    claims: dict[str, str] | None,
    scopes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A function's event. Parts that the request does not have are left out.

    `claims` is None without an authorizer. `scopes` are those of the route.
    """
    headers = _headers(request, body)
    context: dict[str, Any] = {
        "accountId": ACCOUNT,
        "apiId": "local",
        "domainName": headers["host"],
        "domainPrefix": headers["host"].partition(".")[0],
        "http": {
            "method": request.method,
            "path": decoded(request.encoded_path),
            "protocol": request.environ["SERVER_PROTOCOL"],
            "sourceIp": request.remote_addr,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.id,
        "routeKey": route_key,
        "stage": "$default",
        "time": request.time_text,
        "timeEpoch": int(request.time.timestamp() * 1000),
    }
    if claims is not None:
        context["authorizer"] = {"jwt": {"claims": claims, "scopes": [*scopes] or None}}
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": decoded(request.encoded_path),
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    cookies = [part.strip() for line in request.fields.get("cookie", []) for part in line.split(";")]
    if any(cookies):
        made["cookies"] = [cookie for cookie in cookies if cookie]
    if request.query:
        made["queryStringParameters"] = _joined(parse_qsl(request.query, keep_blank_values=True))
    if parameters:
        made["pathParameters"] = parameters
    if body:
        made["body"], made["isBase64Encoded"] = _body(body, request.mimetype)
    return made


def response(content: bytes) -> wrappers.Response:
    """The HTTP response for a function's result, which is JSON.

    Raises ValueError, TypeError or AttributeError if the result is malformed.
    """
    result = json.loads(content)
    if not isinstance(result, dict) or "statusCode" not in result:
        return wrappers.Response(content, 200, mimetype="application/json")
    status, body = int(result["statusCode"]), result.get("body") or ""
    if not HTTPStatus.OK <= status < 600 or not isinstance(body, str):
        raise ValueError
    made = wrappers.Response(base64.b64decode(body, validate=True) if result.get("isBase64Encoded") else body, status)
    cookies = [("set-cookie", cookie) for cookie in result.get("cookies") or []]
    for name, value in [*(result.get("headers") or {}).items(), *cookies]:
        if name.lower() == "content-type":
            made.headers[name] = _header(value)
        elif name.lower() not in _HOP_BY_HOP:
            made.headers.add(name, _header(value))
    return made


def decoded(path: str) -> str:
    """A path, or a part of one, without percent-encoding. http.server read its bytes as Latin-1."""
    return unquote_to_bytes(path.encode("latin-1")).decode(errors="replace")


def _headers(request: Request, body: bytes) -> dict[str, str]:
    """The client's headers without cookies and hop-by-hop headers, and the headers that the gateway adds."""
    left_out = {"cookie", *_HOP_BY_HOP}
    headers = {name: ",".join(values) for name, values in request.fields.items() if name not in left_out}
    headers.setdefault("host", "")
    headers["content-length"] = str(len(body))
    # The time in hex and 96 random bits, which is X-Ray's format.
    headers.setdefault("x-amzn-trace-id", f"Root=1-{int(request.time.timestamp()):08x}-{secrets.token_hex(12)}")
    headers["x-forwarded-for"] = ", ".join([*request.fields.get("x-forwarded-for", []), str(request.remote_addr)])
    headers["x-forwarded-port"] = request.environ["SERVER_PORT"]
    headers["x-forwarded-proto"] = "http"
    return headers


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: ",".join(several) for name, several in values.items()}


def _body(body: bytes, mimetype: str) -> tuple[str, bool]:
    """The body as text, and whether that text is base64."""
    if mimetype.startswith("text/") or mimetype in _TEXT_TYPES:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _header(value: object) -> str:
    """The value of a header that a function set. Raises ValueError or TypeError if it is not valid."""
    if not isinstance(value, str | int | float):
        raise TypeError
    text = value if isinstance(value, str) else json.dumps(value)
    text.encode("latin-1")
    return text
