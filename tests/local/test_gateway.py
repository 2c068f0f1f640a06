"""The local HTTP API, over real HTTP, does what API Gateway does.

The function is a fake. It returns the event that it gets, unless a test gives it another handler.
"""

import base64
import hmac
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from local.aws import gateway, server
from local.aws.gateway import INTEGRATION_SECONDS, MAX_HEAD_BYTES, MAX_PAYLOAD_BYTES
from local.aws.payload import MAX_BODY_BYTES
from local.aws.resources import Route
from local.aws.routes import match
from local.aws.template import Template
from local.stack.issuer import public_keys
from local.stack.process import HOST, StartError
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ISSUER, AUDIENCE = "https://issuer.test/", "schedules"
TEMPLATE = f"""
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Jwt
        Authorizers:
          Jwt:
            IdentitySource: $request.header.Authorization
            JwtConfiguration: {{issuer: {ISSUER}, audience: [other, {AUDIENCE}]}}
      AccessLogSettings:
        Format: '{{"id":"$context.requestId","at":"$context.requestTime","ip":"$context.identity.sourceIp",
          "method":"$context.httpMethod","route":"$context.routeKey","status":"$context.status",
          "length":"$context.responseLength","ms":"$context.responseLatency",
          "invocation":"$context.integration.requestId","why":"$context.integration.error",
          "who":"$context.authorizer.error"}}'
  EchoFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: echo
      CodeUri: fake_api/echo
      Handler: app.handler
      Timeout: 29
      Events:
        Default: {{Type: HttpApi, Properties: {{ApiId: !Ref Api, Method: ANY, Path: $default}}}}
        Item: {{Type: HttpApi, Properties: {{ApiId: !Ref Api, Method: GET, Path: "/items/{{item}}/parts/{{part}}"}}}}
        Put: {{Type: HttpApi, Properties: {{ApiId: !Ref Api, Method: POST, Path: "/items/{{item}}"}}}}
        Open: {{Type: HttpApi, Properties: {{ApiId: !Ref Api, Method: GET, Path: /open, Auth: {{Authorizer: NONE}}}}}}
"""
CODE = """
import json
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(event)}
"""
# The key does not say its algorithm: an issuer does not have to.
KEY = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)

Handler = Callable[[Any, Any], Any]
Behave = Callable[[Handler], None]


@dataclass
class HttpResponse:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def event(self) -> Any:
        """The event that the fake function was given."""
        assert self.status == 200, self.body
        return json.loads(self.body)


@dataclass
class Gateway:
    """A running gateway, and the lines of its log."""

    url: str
    log: list[str]

    def ask(
        self,
        path: str = "/items/1/parts/2",
        method: str = "GET",
        token: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Iterator[bytes] | None = None,
    ) -> HttpResponse:
        """Send a request unchanged. The token is valid unless another is given. An empty one is left out."""
        token = issue() if token is None else token
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in [*[("authorization", f"Bearer {token}")] * bool(token), *headers]:
                connection.putheader(name, value)
            if isinstance(body, bytes):
                connection.putheader("content-length", str(len(body)))
            elif body:
                connection.putheader("transfer-encoding", "chunked")
            connection.endheaders(body, encode_chunked=not isinstance(body, bytes))
            response = connection.getresponse()
            return HttpResponse(response.status, response.headers, response.read())
        finally:
            connection.close()


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a valid token, with changes. A change to None leaves a claim out."""
    now = int(time.time())
    every = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 60, **changes}
    return {name: claim for name, claim in every.items() if claim is not None}


def issue(key: RSAKey = KEY, header: Mapping[str, Any] = {}, **changes: Any) -> str:
    """A token that is valid except for the changes to its header and claims."""
    return jwt.encode({"alg": "RS256", "kid": KEY.kid, **header}, claims(**changes), key, algorithms=["RS256"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    code = folder / "fake_api" / "echo"
    code.mkdir(parents=True)
    (code / "app.py").write_text(CODE)
    (folder / "template.yaml").write_text(TEMPLATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def functions(folder: Path) -> Iterator[str]:
    with server.serve(Template(folder / "template.yaml")) as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="module")
def api(folder: Path, functions: str) -> Iterator[Gateway]:
    log: list[str] = []
    with gateway.serve(Template(folder / "template.yaml"), public_keys(KEY), functions, log=log.append) as url:
        yield Gateway(url, log)


@pytest.fixture
def behave(functions: str, monkeypatch: pytest.MonkeyPatch) -> Behave:  # noqa: ARG001 - the server imports it
    """Give the function another handler."""
    return lambda handler: monkeypatch.setattr(importlib.import_module("fake_api.echo.app"), "handler", handler)


# Routes


@pytest.mark.parametrize(
    ("method", "path", "key", "parameters"),
    [
        ("GET", "/a", "GET /a", {}),
        ("GET", "/a/fixed", "GET /a/fixed", {}),
        ("POST", "/a/fixed", "ANY /a/fixed", {}),
        ("GET", "/a/other", "GET /a/{x}", {"x": "other"}),
        ("GET", "/a/fixed/b", "GET /a/fixed/{y}", {"y": "b"}),
        ("GET", "/a/other/b", "GET /a/{x}/b", {"x": "other"}),
        ("GET", "/a/%66ixed", "GET /a/fixed", {}),
        ("GET", "/a/one%20two%2Fthree%C3%A9", "GET /a/{x}", {"x": "one two/threeé"}),
        ("GET", "/a/one+two", "GET /a/{x}", {"x": "one+two"}),
        ("GET", "/a/%ff", "GET /a/{x}", {"x": "\ufffd"}),
        ("GET", "/a/", "$default", {}),
        ("GET", "//b", "$default", {}),
        ("GET", "/a/one/two/three", "$default", {}),
        ("GET", "/A", "$default", {}),
        ("DELETE", "/a", "$default", {}),
        ("GET", "/", "$default", {}),
        ("OPTIONS", "*", "$default", {}),
        ("PUT", "/files/a", "PUT /files/{rest+}", {"rest": "a"}),
        ("PUT", "/files/a/b%2Fc/d%20", "PUT /files/{rest+}", {"rest": "a/b/c/d "}),
        ("PUT", "/files/of/a", "PUT /files/of/{x}", {"x": "a"}),
        ("PUT", "/files/of/a/b", "PUT /files/{rest+}", {"rest": "of/a/b"}),
        ("PUT", "/files", "$default", {}),
        ("PUT", "/files/", "$default", {}),
    ],
)
def test_a_request_takes_the_route_that_fits_it_best(
    folder: Path, method: str, path: str, key: str, parameters: dict[str, str]
) -> None:
    (function,) = Template(folder / "template.yaml").functions
    keys = ["$default", "GET /a/{x}", "ANY /a/fixed", "GET /a/fixed", "GET /a/{x}/b", "GET /a/fixed/{y}", "GET /a"]
    keys += ["PUT /files/{rest+}", "PUT /files/of/{x}"]
    routes = [Route(*key.rpartition(" ")[::2], function, None) for key in keys]

    found = match(routes, method, path)

    assert found
    assert (found[0].key, found[1]) == (key, parameters)
    assert (match(routes[1:], method, path) is None) == (key == "$default")


def test_without_a_default_route_what_fits_none_is_not_found(folder: Path, functions: str, tmp_path: Path) -> None:
    (tmp_path / "fake_api").symlink_to(folder / "fake_api")
    (tmp_path / "template.yaml").write_text(re.sub(" *Default: {.*\n", "", TEMPLATE))
    log: list[str] = []

    with gateway.serve(Template(tmp_path / "template.yaml"), public_keys(KEY), functions, log=log.append) as url:
        response = Gateway(url, log).ask("/nowhere", token="")
        docs = Gateway(url, log).ask("/docs", token="")

    assert (response.status, response.body) == (404, b'{"message":"Not Found"}')
    assert docs.status == 404
    assert json.loads(log[0])["route"] == "-"


# Events


def test_a_function_gets_an_event_of_payload_format_2(api: Gateway) -> None:
    before = int(time.time() * 1000)

    event = api.ask("/items/a%20b/parts/7?q=1%2B1&r=x&q=%C3%A9&s=", headers=[("User-Agent", "tests")]).event

    context = event["requestContext"]
    assert before <= context.pop("timeEpoch") <= time.time() * 1000
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/20\d\d:\d\d:\d\d:\d\d \+0000", context.pop("time"))
    assert re.fullmatch(r"[\w-]{15}=", context.pop("requestId"))
    token = event["headers"].pop("authorization")
    assert context.pop("authorizer")["jwt"]["claims"]["sub"] == "alice"
    assert token.startswith("Bearer ey")
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", event["headers"].pop("x-amzn-trace-id"))
    host = api.url.removeprefix("http://")
    assert event == {
        "version": "2.0",
        "routeKey": "GET /items/{item}/parts/{part}",
        "rawPath": "/items/a b/parts/7",
        "rawQueryString": "q=1%2B1&r=x&q=%C3%A9&s=",
        "headers": {
            "content-length": "0",
            "host": host,
            "user-agent": "tests",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": host.partition(":")[2],
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"q": "1+1,é", "r": "x", "s": ""},
        "pathParameters": {"item": "a b", "part": "7"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "domainName": host,
            "domainPrefix": "127",
            "http": {
                "method": "GET",
                "path": "/items/a b/parts/7",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "tests",
            },
            "routeKey": "GET /items/{item}/parts/{part}",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


def test_what_a_request_has_not_is_not_in_its_event(api: Gateway) -> None:
    event = api.ask("/open", token="").event

    assert event.keys() == {
        "version",
        "routeKey",
        "rawPath",
        "rawQueryString",
        "headers",
        "requestContext",
        "isBase64Encoded",
    }
    assert event["rawQueryString"] == ""
    assert "authorizer" not in event["requestContext"]


def test_headers_come_in_lower_case_joined_and_without_cookies(api: Gateway) -> None:
    sent = [
        ("X-Twice", "one"),
        ("x-twice", "two"),
        ("Cookie", "a=1; b=2;"),
        ("cookie", "c=3"),
        ("X-Folded", "one\r\n two"),
        ("X-Under_Score", "kept"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Connection", "keep-alive"),
    ]

    event = api.ask(headers=sent).event

    assert event["headers"]["x-twice"] == "one,two"
    assert event["headers"]["x-folded"] == "one two"
    assert event["headers"]["x-under_score"] == "kept"
    assert event["headers"]["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert not {"cookie", "connection"} & event["headers"].keys()


def test_a_trace_header_is_kept(api: Gateway) -> None:
    event = api.ask(headers=[("X-Amzn-Trace-Id", "Root=1-67000000-0123456789abcdef01234567;Sampled=1")]).event

    assert event["headers"]["x-amzn-trace-id"] == "Root=1-67000000-0123456789abcdef01234567;Sampled=1"


@pytest.mark.parametrize(
    ("target", "raw_path", "query"),
    [
        ("/items/a%2Fb/parts/2", "/items/a/b/parts/2", ""),
        ("/items/a/parts/b%3Fc/d?e", "/items/a/parts/b", "e"),
        ("/items/a/parts/b?c?d", "/items/a/parts/b", "c?d"),
        ("http://elsewhere/items/a/parts/b?c", "/items/a/parts/b", "c"),
    ],
)
def test_the_raw_path_is_decoded_and_cut_at_a_question_mark(
    api: Gateway, target: str, raw_path: str, query: str
) -> None:
    event = api.ask(target).event

    assert event["routeKey"] == "GET /items/{item}/parts/{part}"
    assert (event["rawPath"], event["rawQueryString"]) == (raw_path, query)


@pytest.mark.parametrize(
    ("content_type", "body", "encoded"),
    [
        ("application/json", b'{"a": "\xc3\xa9"}', False),
        ("Application/JSON; charset=utf-8", b"{}", False),
        ("text/csv", b"a,b", False),
        ("application/xml", b"<a/>", False),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("application/merge-patch+json", b"{}", True),
        ("application/octet-stream", b"\x00\xff", True),
        ("application/json", b"\xff", True),
        (None, b"{}", True),
    ],
)
def test_a_body_is_text_only_of_a_type_that_is(
    api: Gateway, content_type: str | None, body: bytes, encoded: bool
) -> None:
    headers = [("Content-Type", content_type)] if content_type else []

    event = api.ask("/items/1", "POST", headers=headers, body=body).event

    assert event["isBase64Encoded"] is encoded
    assert (base64.b64decode(event["body"]) if encoded else event["body"].encode()) == body
    assert event["headers"]["content-length"] == str(len(body))


def test_a_body_in_chunks_arrives_whole(api: Gateway) -> None:
    event = api.ask("/items/1", "POST", headers=[("Content-Type", "text/plain")], body=iter([b"one", b"two"])).event

    assert (event["body"], event["headers"]["content-length"]) == ("onetwo", "6")
    assert "transfer-encoding" not in event["headers"]


def test_claims_come_as_texts(api: Gateway) -> None:
    token = issue(groups=["a", "b"], level=3, admin=True, scope=None, nested={"a": 1})

    authorizer = api.ask(token=token).event["requestContext"]["authorizer"]

    named = authorizer["jwt"]["claims"]
    assert authorizer["jwt"]["scopes"] is None
    assert int(named.pop("exp")) - int(named.pop("iat")) == 60
    assert named == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "groups": "[a b]",
        "level": "3",
        "admin": "true",
        "nested": '{"a": 1}',
    }


# Tokens


def parts(token: str) -> tuple[str, str, str]:
    header, body, signature = token.split(".")
    return header, body, signature


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unsigned() -> str:
    header = encoded(json.dumps({"alg": "none", "kid": KEY.kid}).encode())
    return f"{header}.{parts(issue())[1]}."


def signed_with_the_public_key() -> str:
    header = encoded(json.dumps({"alg": "HS256", "kid": KEY.kid}).encode())
    message = f"{header}.{parts(issue())[1]}"
    return f"{message}.{encoded(hmac.digest(KEY.as_pem(private=False), message.encode(), sha256))}"


def signed_by_another_issuers_key_of_the_same_name() -> str:
    return issue(RSAKey.generate_key(2048))


def with_another_subject() -> str:
    header, _, signature = parts(issue())
    return f"{header}.{encoded(json.dumps(claims(sub='bob')).encode())}.{signature}"


def with_another_signature() -> str:
    header, body, signature = parts(issue())
    return f"{header}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def soon() -> int:
    return int(time.time()) + 30


EXPIRED = "the token has expired"
NOT_VALID = "the token is not valid"
BAD_SIGNATURE = "the token's signature is not valid"
OTHER_AUDIENCE = "the token does not have a valid audience"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: "garbage", NOT_VALID),
        (lambda: "a.b.c", NOT_VALID),
        (lambda: encoded(b"[" * 2000) + "..", NOT_VALID),
        (lambda: encoded(b'["alg"]') + "..", NOT_VALID),
        (lambda: f"{issue()} {issue()}", NOT_VALID),
        (lambda: issue(exp=soon() - 31), EXPIRED),
        (lambda: issue(exp=int(time.time())), EXPIRED),
        (lambda: issue(exp=None), "the token's claim exp is not valid"),
        (lambda: issue(exp="tomorrow"), "the token's claim exp is not valid"),
        (lambda: issue(nbf=soon()), "the token's claim nbf is not valid"),
        (lambda: issue(iat=soon()), "the token's claim iat is not valid"),
        (lambda: issue(iss="https://issuer.elsewhere/"), "the token's claim iss is not valid"),
        (lambda: issue(iss=ISSUER.rstrip("/")), "the token's claim iss is not valid"),
        (lambda: issue(iss=None), "the token's claim iss is not valid"),
        (lambda: issue(iss=[ISSUER]), "the token's claim iss is not valid"),
        (lambda: issue(aud="another"), OTHER_AUDIENCE),
        (lambda: issue(aud=["another", "one"]), OTHER_AUDIENCE),
        (lambda: issue(aud="another", client_id=AUDIENCE), OTHER_AUDIENCE),
        (lambda: issue(aud=None), OTHER_AUDIENCE),
        (lambda: issue(aud=None, client_id={"a": 1}), OTHER_AUDIENCE),
        (lambda: issue(aud=[]), OTHER_AUDIENCE),
        (lambda: issue(header={"kid": "another"}), NOT_VALID),
        (lambda: jwt.encode({"alg": "RS256"}, claims(), KEY), "the token names no key"),
        (lambda: jwt.encode({"alg": "PS256", "kid": KEY.kid}, claims(), KEY, algorithms=["PS256"]), NOT_VALID),
        (unsigned, NOT_VALID),
        (signed_with_the_public_key, NOT_VALID),
        (signed_by_another_issuers_key_of_the_same_name, BAD_SIGNATURE),
        (with_another_subject, BAD_SIGNATURE),
        (with_another_signature, BAD_SIGNATURE),
    ],
)
def test_a_token_that_is_not_in_order_is_unauthorized(
    api: Gateway, behave: Behave, make: Callable[[], str], why: str
) -> None:
    called: list[Any] = []
    behave(lambda event, _: called.append(event))

    response = api.ask(token=make())

    assert (response.status, response.body) == (401, b'{"message":"Unauthorized"}')
    assert response.headers["content-type"] == "application/json"
    assert response.headers["www-authenticate"] == f'Bearer scope="" error="invalid_token" error_description="{why}"'
    assert json.loads(api.log[-1])["who"] == why
    assert called == []


def test_a_request_without_a_token_is_unauthorized(api: Gateway) -> None:
    response = api.ask(token="")

    assert (response.status, response.body) == (401, b'{"message":"Unauthorized"}')
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_request_with_two_tokens_is_unauthorized(api: Gateway) -> None:
    assert api.ask(headers=[("Authorization", f"Bearer {issue()}")]).status == 401


@pytest.mark.parametrize(
    "make",
    [
        lambda: f"Bearer {issue()}",
        lambda: f"bearer  {issue()}",
        lambda: issue(),
        lambda: issue(aud=["another", AUDIENCE]),
        lambda: issue(aud="other"),
        lambda: issue(aud=None, client_id=AUDIENCE),
        lambda: issue(nbf=int(time.time())),
    ],
)
def test_a_token_that_is_in_order_is_taken(api: Gateway, make: Callable[[], str]) -> None:
    assert api.ask(token="", headers=[("Authorization", make())]).status == 200


def test_a_route_without_authorizer_takes_any_token_and_none(api: Gateway) -> None:
    assert "authorizer" not in api.ask("/open", token="garbage").event["requestContext"]
    assert api.ask("/docs", token="").event["routeKey"] == "GET /docs"


def test_what_no_route_takes_needs_a_token_too(api: Gateway) -> None:
    assert api.ask("/open", "POST").event["routeKey"] == "$default"
    assert api.ask("/open", "POST", token="").status == 401
    assert api.ask("/docs", "POST", token="").status == 401
    assert api.ask("/open/", token="").status == 401


def test_a_key_that_the_issuer_has_added_counts(folder: Path, functions: str) -> None:
    old = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
    keys = KeySet([*public_keys(old), *public_keys(KEY)])

    with gateway.serve(Template(folder / "template.yaml"), keys, functions, log=lambda _: None) as url:
        assert Gateway(url, []).ask().status == 200
        assert Gateway(url, []).ask(token=issue(old, {"kid": old.kid})).status == 200
        assert Gateway(url, []).ask(token=issue(old)).status == 401


# Scopes

SCOPED = TEMPLATE.replace("IdentitySource", "AuthorizationScopes: [read, all]\n            IdentitySource").replace(
    'Path: "/items/{item}"', 'Path: "/items/{item}", Auth: {AuthorizationScopes: [write]}'
)
LACKING = "the token does not have a required scope"


@pytest.fixture(scope="module")
def scoped(folder: Path, functions: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with changed(folder, functions, tmp_path_factory.mktemp("scoped"), SCOPED) as api:
        yield api


@contextmanager
def changed(folder: Path, functions: str, own: Path, template: str) -> Iterator[Gateway]:
    """A gateway of another template for the same function."""
    (own / "fake_api").symlink_to(folder / "fake_api")
    (own / "template.yaml").write_text(template)
    log: list[str] = []
    with gateway.serve(Template(own / "template.yaml"), public_keys(KEY), functions, log=log.append) as url:
        yield Gateway(url, log)


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "read"},
        {"scope": "openid all email"},
        {"scope": ["openid", "read"]},
        {"scp": "read openid"},
        {"scp": ["all"]},
        {"scope": "openid", "scp": ["read"]},
    ],
)
def test_a_token_with_one_of_the_routes_scopes_is_taken(scoped: Gateway, claims: dict[str, Any]) -> None:
    jwt = scoped.ask(token=issue(**claims)).event["requestContext"]["authorizer"]["jwt"]

    assert jwt["scopes"] == ["read", "all"], "those of the route"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"scope": ""},
        {"scope": "write"},
        {"scope": "reader"},
        {"scope": "Read"},
        {"scope": "read,all"},
        {"scope": {"read": True}},
        {"scp": [7, None, "readall"]},
        {"scopes": "read"},
        {"permissions": ["read"]},
    ],
)
def test_a_token_with_none_of_the_routes_scopes_is_forbidden(
    scoped: Gateway, behave: Behave, claims: dict[str, Any]
) -> None:
    called: list[Any] = []
    behave(lambda event, _: called.append(event))

    response = scoped.ask(token=issue(**claims))

    assert (response.status, response.body) == (403, b'{"message":"Forbidden"}')
    expected = f'Bearer scope="read all" error="insufficient_scope" error_description="{LACKING}"'
    assert response.headers["www-authenticate"] == expected
    assert json.loads(scoped.log[-1])["who"] == LACKING
    assert called == []


def test_a_route_with_scopes_of_its_own_needs_those(scoped: Gateway) -> None:
    assert scoped.ask("/items/1", "POST", issue(scope="read all")).status == 403
    assert scoped.ask("/items/1", "POST", issue(scope="write")).status == 200
    assert scoped.ask("/nowhere", token=issue(scope="write")).status == 403, "the $default route has the authorizer's"


def test_a_token_that_is_not_valid_is_unauthorized_whatever_its_scopes(scoped: Gateway) -> None:
    assert scoped.ask(token=issue(scope="read", exp=int(time.time()) - 1)).status == 401
    assert scoped.ask(token="").status == 401
    assert scoped.ask("/open", token="").status == 200, "a route without authorizer has no scopes"


def test_without_scopes_a_function_is_told_of_none(api: Gateway) -> None:
    assert api.ask(token=issue(scope="read")).event["requestContext"]["authorizer"]["jwt"]["scopes"] is None


# Other origins

PAGE = "https://app.example.com:8443"
PREFLIGHT_ROUTE = (
    '        Asked: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: OPTIONS, Path: "/{proxy+}", '
    "Auth: {Authorizer: NONE}}}\n"
)
CORS = """      CorsConfiguration:
        AllowOrigins: [%s]
        AllowMethods: [GET, POST]
        AllowHeaders: [authorization, x-one]
        ExposeHeaders: [retry-after, x-should-retry]
        AllowCredentials: %s
        MaxAge: 600
"""
ASKING = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")]


def with_cors(origins: str, credentials: bool = False) -> str:
    settings = CORS % (origins, str(credentials).lower())
    return TEMPLATE.replace("      Auth:\n", f"{settings}      Auth:\n", 1) + PREFLIGHT_ROUTE


def cors_headers(response: HttpResponse) -> dict[str, str]:
    prefix = "access-control-"
    found = {name.lower(): value for name, value in response.headers.items()}
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def open_to_pages(folder: Path, functions: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    own = tmp_path_factory.mktemp("cors")
    with changed(folder, functions, own, with_cors(f"'{PAGE}', 'http://localhost:3000'")) as api:
        yield api


def test_a_preflight_request_is_answered_without_a_token_and_without_the_function(
    open_to_pages: Gateway, behave: Behave
) -> None:
    called: list[Any] = []
    behave(lambda event, _: called.append(event))

    response = open_to_pages.ask("/items/1", "OPTIONS", "", [("Origin", PAGE), *ASKING])

    assert (response.status, response.body, called) == (204, b"", [])
    assert cors_headers(response) == {
        "allow-origin": PAGE,
        "allow-methods": "GET,POST",
        "allow-headers": "authorization,x-one",
        "expose-headers": "retry-after,x-should-retry",
        "max-age": "600",
    }
    assert json.loads(open_to_pages.log[-1])["route"] == "OPTIONS /{proxy+}"


ALLOWED_BY = {
    PAGE: [PAGE],
    "http://localhost:3000": ["http://localhost:3000"],
    "*": [PAGE, "http://localhost:3000", "null", "app://x"],
    "https://*": [PAGE, "https://other.example"],
    "http://*": ["http://localhost:3000"],
}
NOT_ALLOWED_BY = {
    PAGE: ["https://app.example.com", "http://app.example.com:8443", f"{PAGE}/", f"{PAGE}.evil.example", "null"],
    "https://*": ["http://localhost:3000", "null", "ahttps://x"],
    "http://*": [PAGE],
}


@pytest.mark.parametrize("configured", ALLOWED_BY)
def test_an_origin_is_allowed_that_is_named_or_falls_under_a_wildcard(
    folder: Path, functions: str, tmp_path: Path, configured: str
) -> None:
    with changed(folder, functions, tmp_path, with_cors(f"'https://first.example', '{configured}'")) as api:
        for origin in ALLOWED_BY[configured]:
            for response in (
                api.ask("/items/1", "OPTIONS", "", [("Origin", origin), *ASKING]),
                api.ask(headers=[("Origin", origin)]),
            ):
                assert cors_headers(response)["allow-origin"] == ("*" if configured == "*" else origin)
        for origin in NOT_ALLOWED_BY.get(configured, []):
            preflight = api.ask("/items/1", "OPTIONS", "", [("Origin", origin), *ASKING])
            response = api.ask(headers=[("Origin", origin)])
            assert (preflight.status, cors_headers(preflight)) == (204, {})
            assert (response.status, cors_headers(response)) == (200, {})


def test_credentials_are_allowed_where_the_configuration_says_so(folder: Path, functions: str, tmp_path: Path) -> None:
    with changed(folder, functions, tmp_path, with_cors(f"'{PAGE}'", credentials=True)) as api:
        assert cors_headers(api.ask(headers=[("Origin", PAGE)]))["allow-credentials"] == "true"
        preflight = api.ask("/items/1", "OPTIONS", "", [("Origin", PAGE), *ASKING])
        assert cors_headers(preflight)["allow-credentials"] == "true"


def test_a_response_says_what_a_page_may_read_and_nothing_that_the_function_says_of_origins(
    open_to_pages: Gateway, behave: Behave
) -> None:
    own = {"Access-Control-Allow-Origin": "*", "access-control-max-age": "9", "X-Other": "kept"}
    behave(lambda *_: {"statusCode": 503, "headers": own, "body": "{}"})

    response = open_to_pages.ask(headers=[("Origin", PAGE)])

    assert (response.status, response.headers["x-other"]) == (503, "kept")
    assert cors_headers(response) == {"allow-origin": PAGE, "expose-headers": "retry-after,x-should-retry"}
    assert cors_headers(open_to_pages.ask()) == {}, "without an origin it is no request of a page"


def test_the_gateways_own_errors_say_nothing_of_origins(open_to_pages: Gateway) -> None:
    """API Gateway adds the headers to the responses of an integration."""
    response = open_to_pages.ask(token="", headers=[("Origin", PAGE)])

    assert (response.status, cors_headers(response)) == (401, {})


def test_options_that_are_no_preflight_request_reach_the_function(open_to_pages: Gateway) -> None:
    for headers in ([("Origin", PAGE)], ASKING, []):
        response = open_to_pages.ask("/items/1", "OPTIONS", "", headers)
        assert response.event["routeKey"] == "OPTIONS /{proxy+}"


def test_a_default_route_that_needs_a_token_refuses_a_preflight_request(
    folder: Path, functions: str, tmp_path: Path
) -> None:
    """As AWS documents it. A browser sends none, so the API needs a route for these requests."""
    with changed(folder, functions, tmp_path, with_cors(f"'{PAGE}'").removesuffix(PREFLIGHT_ROUTE)) as api:
        assert api.ask("/items/1", "OPTIONS", "", [("Origin", PAGE), *ASKING]).status == 401


def test_without_a_configuration_a_function_decides_about_origins(api: Gateway, behave: Behave) -> None:
    behave(lambda *_: {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}})

    assert cors_headers(api.ask(headers=[("Origin", PAGE)])) == {"allow-origin": "*"}
    assert api.ask("/items/1", "OPTIONS", "", [("Origin", PAGE), *ASKING]).status == 401


# Limits


def test_a_head_that_is_too_large_is_refused(api: Gateway) -> None:
    def ask(length: int) -> HttpResponse:
        return api.ask("/open", token="", headers=[("X-Padding", "x" * length)])

    line = len("GET /open HTTP/1.1\r\n") + len(api.url.removeprefix("http://"))
    assert ask(MAX_HEAD_BYTES - line).status == 200
    response = ask(MAX_HEAD_BYTES - line + 1)
    assert (response.status, response.body) == (431, b'{"message":"Request Header Fields Too Large"}')
    response = ask(70_000)
    assert (response.status, response.body) == (431, b'{"message":"Request Header Fields Too Large"}')


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(api: Gateway, chunked: bool) -> None:
    body = bytes(MAX_BODY_BYTES + 1)

    # Without a token: the size is checked first.
    response = api.ask("/items/1", "POST", token="", body=iter([body]) if chunked else body)

    assert (response.status, response.body) == (413, b'{"message":"Request Entity Too Large"}')
    assert MAX_BODY_BYTES == 10_485_760


def test_an_event_that_lambda_would_not_take_is_refused(api: Gateway) -> None:
    text = [("Content-Type", "text/plain")]

    assert api.ask("/items/1", "POST", headers=text, body=b"x" * (MAX_PAYLOAD_BYTES - 10_000)).status == 200
    assert api.ask("/items/1", "POST", headers=text, body=b"x" * MAX_PAYLOAD_BYTES).status == 413


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /open or not HTTP/1.1\r\n\r\n",
        b"POST /open HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"POST /open HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort",
    ],
)
def test_what_is_no_http_is_told_so_in_json(api: Gateway, sent: bytes) -> None:
    with socket.create_connection((HOST, int(api.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as received:
            head, _, body = received.read().partition(b"\r\n\r\n")

    assert head.split()[1] == b"400"
    assert body == b'{"message":"Bad Request"}'


# Responses


@pytest.mark.parametrize(
    ("returned", "status", "body", "headers"),
    [
        ({"statusCode": 201, "body": "é"}, 201, "é".encode(), {"content-type": "text/plain; charset=utf-8"}),
        ({"statusCode": "404", "body": "no"}, 404, b"no", {}),
        ({"statusCode": 204}, 204, b"", {}),
        (
            {"statusCode": 200, "headers": {"Content-Type": "a/b", "X-Count": 3, "X-Is": True}, "body": "x"},
            200,
            b"x",
            {"content-type": "a/b", "x-count": "3", "x-is": "true"},
        ),
        ({"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}, 200, b"\x00\xff", {"content-length": "2"}),
        (
            {"statusCode": 200, "headers": {"Content-Length": "9", "Transfer-Encoding": "chunked"}, "body": "x"},
            200,
            b"x",
            {"content-length": "1", "transfer-encoding": None},
        ),
        (
            {"statusCode": 200, "multiValueHeaders": {"x-many": ["1"]}, "headers": None, "body": None},
            200,
            b"",
            {"x-many": None},
        ),
        ({"message": "hi"}, 200, b'{"message": "hi"}', {"content-type": "application/json"}),
        (["a"], 200, b'["a"]', {"content-type": "application/json"}),
        (None, 200, b"null", {"content-type": "application/json"}),
    ],
)
def test_a_functions_answer_becomes_the_response(
    api: Gateway, behave: Behave, returned: Any, status: int, body: bytes, headers: dict[str, str]
) -> None:
    behave(lambda *_: returned)

    response = api.ask()

    assert (response.status, response.body) == (status, body)
    assert {name: response.headers[name] for name in headers} == headers
    assert re.fullmatch(r"[\w-]{15}=", response.headers["apigw-requestid"])


def test_every_cookie_is_a_header_of_its_own(api: Gateway, behave: Behave) -> None:
    behave(lambda *_: {"statusCode": 200, "cookies": ["a=1; Path=/", "b=2"], "headers": {"Set-Cookie": "c=3"}})

    assert api.ask().headers.get_all("set-cookie") == ["c=3", "a=1; Path=/", "b=2"]


def test_an_answer_to_head_has_no_body(api: Gateway, behave: Behave) -> None:
    behave(lambda *_: {"statusCode": 200, "body": "four"})

    response = api.ask(method="HEAD")

    assert (response.status, response.body, response.headers["content-length"]) == (200, b"", "4")


def fails(*_: Any) -> None:
    raise LookupError("a secret")


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (fails, "the function failed: Unhandled"),
        *(
            (lambda *_, returned=returned: returned, "the function's response is malformed")
            for returned in [
                {"statusCode": "fine"},
                {"statusCode": None},
                {"statusCode": 99},
                {"statusCode": 600},
                {"statusCode": 200, "body": {"a": 1}},
                {"statusCode": 200, "headers": ["a"]},
                {"statusCode": 200, "headers": {"a": ["b"]}},
                {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
                {"statusCode": 200, "headers": {"a": "\u2713"}},
                {"statusCode": 200, "cookies": [{}]},
                {"statusCode": 200, "body": "no base64", "isBase64Encoded": True},
            ]
        ),
        (lambda *_: "x" * MAX_PAYLOAD_BYTES, "the function's response is too large"),
    ],
)
def test_a_function_that_fails_is_an_internal_error_without_a_word_on_how(
    api: Gateway, behave: Behave, handler: Handler, why: str
) -> None:
    behave(handler)

    response = api.ask()

    assert (response.status, response.body) == (500, b'{"message":"Internal Server Error"}')
    assert json.loads(api.log[-1])["why"] == why


def test_no_answer_in_time_is_unavailable(folder: Path, functions: str, behave: Behave) -> None:
    released, finished = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        released.wait(10)
        finished.set()

    behave(hang)
    log: list[str] = []
    with gateway.serve(
        Template(folder / "template.yaml"), public_keys(KEY), functions, seconds=0.2, log=log.append
    ) as url:
        began = time.monotonic()
        response = Gateway(url, log).ask()
        waited = time.monotonic() - began
    released.set()
    assert finished.wait(10)

    assert (response.status, response.body) == (503, b'{"message":"Service Unavailable"}')
    assert 0.2 <= waited < 5
    assert json.loads(log[0])["why"] == "no response within 0.2 s"
    assert INTEGRATION_SECONDS == 30


def test_a_lambda_that_does_not_answer_is_an_internal_error(folder: Path) -> None:
    log: list[str] = []
    nobody = f"http://{HOST}:{free_port()}"
    with gateway.serve(Template(folder / "template.yaml"), public_keys(KEY), nobody, log=log.append) as url:
        response = Gateway(url, log).ask()

    assert (response.status, response.body) == (500, b'{"message":"Internal Server Error"}')
    assert json.loads(log[0])["why"].startswith("the local Lambda does not respond: ")


# The log


def test_every_request_is_a_line_that_names_its_route_and_nothing_else_that_was_sent(api: Gateway) -> None:
    response = api.ask("/items/secret%22path/parts/2?secret=query", headers=[("X-Secret", "header")])

    line = json.loads(api.log[-1])
    assert line.pop("id") == response.headers["apigw-requestid"]
    assert re.fullmatch(r"[\d/A-Za-z:]+ \+0000", line.pop("at"))
    assert re.fullmatch(r"[0-9a-f-]{36}", line.pop("invocation"))
    assert int(line.pop("ms")) >= 0
    assert line == {
        "ip": "127.0.0.1",
        "method": "GET",
        "route": "GET /items/{item}/parts/{part}",
        "status": "200",
        "length": str(len(response.body)),
        "why": "-",
        "who": "-",
    }
    assert "secret" not in api.log[-1]
    assert "\n" not in api.log[-1]


def test_a_log_that_asks_for_what_is_not_known_ends_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fake_api").symlink_to(folder / "fake_api")
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("$context.status", "$context.state"))

    with pytest.raises(StartError) as raised, gateway.serve(Template(tmp_path / "template.yaml"), KeySet([]), ""):
        pass

    assert str(raised.value) == "Api: AccessLogSettings: $context.state is not known on the laptop"


def test_a_template_without_an_http_api_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: {}")

    with (
        pytest.raises(StartError, match="the template has 0"),
        gateway.serve(Template(tmp_path / "template.yaml"), KeySet([]), ""),
    ):
        pass


# The program


@dataclass
class Program:
    """`python -m local.aws.gateway` in its own process."""

    process: "subprocess.Popen[str]"

    @classmethod
    def start(cls, template: Path, *options: str, **environment: str) -> "Program":
        command = [sys.executable, "-m", "local.aws.gateway", "--template", str(template), *options]
        environment = {**os.environ, **environment}
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))

    def __enter__(self) -> "subprocess.Popen[str]":
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_takes_the_tokens_of_make_token_logs_and_ends_when_asked(
    folder: Path, tmp_path: Path, functions: str, number: int
) -> None:
    (tmp_path / "fake_api").symlink_to(folder / "fake_api")
    template = TEMPLATE.replace(ISSUER, "!Ref Issuer").replace(AUDIENCE, "!Ref Audience")
    declared = "\nParameters: {Issuer: {Type: String}, Audience: {Type: String}}\n"
    (tmp_path / "template.yaml").write_text(declared + template)
    options = ["--parameter", "Issuer=https://issuer.local/", "--parameter", "Audience=agent-schedules-local"]
    port = free_port()
    url = f"http://{HOST}:{port}"
    with Program.start(tmp_path / "template.yaml", "--functions", functions, *options, API_PORT=str(port)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"HTTP API ready on {url}\n"

        command = [sys.executable, "-m", "local.stack.issuer", "--subject", "alice"]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert Gateway(url, []).ask(token=printed.stdout.strip()).status == 200
        assert Gateway(url, []).ask(token=issue()).status == 401

        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
    assert [json.loads(line)["status"] for line in output.splitlines()] == ["200", "401"]
    assert (process.returncode, errors) == (0, "")


def test_a_taken_port_and_a_wrong_parameter_are_one_line_and_exit_1(folder: Path, api: Gateway) -> None:
    taken = api.url.rpartition(":")[2]
    with Program.start(folder / "template.yaml", "--port", taken) as process:
        message = f"port {taken} (HTTP API) is taken; set API_PORT to another\n"
        assert process.communicate(timeout=20) == ("", message)
        assert process.returncode == 1
    with Program.start(folder / "template.yaml", "--port", "0", "--parameter", "Wrong=1") as process:
        assert process.communicate(timeout=20) == ("", "Wrong: the template has no such parameter\n")
        assert process.returncode == 1
