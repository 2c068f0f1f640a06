"""Our client of Secrets Manager asks the same as boto3's, in whatever environment."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import URLLib3Session

from saga_core.secrets_manager import SecretsManager

REFERENCE = "arn:aws:secretsmanager:us-east-1:123456789012:secret:token-aBcDeF"
LAMBDA = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "variable", "AWS_SECRET_ACCESS_KEY": "secret"}
PROFILE = """
[default]
aws_access_key_id = default
aws_secret_access_key = secret
[other]
region = ca-central-1
aws_access_key_id = other
aws_secret_access_key = secret
aws_session_token = token
"""


class Sent:
    """What an HTTP session was asked to send, and how it was made; it responds as it is told."""

    def __init__(self, environment: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status, self.body = 200, b'{"SecretString": "value"}'
        environment.setattr(URLLib3Session, "__init__", lambda session, **made: session.__dict__.update(made))
        environment.setattr(URLLib3Session, "send", lambda session, request: self._send(session.__dict__, request))

    def _send(self, made: dict[str, Any], request: Any) -> AWSResponse:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        scope = re.search(r"Credential=(\w+)/\d+/([\w/-]+),", headers["authorization"])
        signed = re.search(r"SignedHeaders=([\w;-]+),", headers["authorization"])
        assert scope
        assert signed
        kept = {name: headers.get(name) for name in ("content-type", "x-amz-target", "x-amz-security-token")}
        self.asked.append(
            {"method": request.method, "url": request.url, "body": json.loads(_text(request.body))}
            | {"scope": scope.groups(), "signed": signed[1], "headers": kept}
            | {name: made[name] for name in ("verify", "proxies", "timeout")}
        )
        return AWSResponse(request.url, self.status, HTTPHeaders(), _Body(self.body))


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def ours() -> Any:
    return SecretsManager(1, 1).get_secret_value(REFERENCE)["SecretString"]


def of_boto3() -> Any:
    config = Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1})
    make: Any = boto3.session.Session().client  # its stubs know only some services
    return make("secretsmanager", config=config).get_secret_value(SecretId=REFERENCE)["SecretString"]


@pytest.mark.parametrize(
    "variables",
    [
        LAMBDA,
        LAMBDA | {"AWS_SESSION_TOKEN": "session"},
        LAMBDA | {"AWS_SESSION_TOKEN": "session", "AWS_SECURITY_TOKEN": "older"},
        LAMBDA | {"AWS_SESSION_TOKEN": ""},
        LAMBDA | {"AWS_REGION": "us-west-2"},
        LAMBDA | {"AWS_DEFAULT_REGION": "cn-north-1"},
        LAMBDA | {"AWS_DEFAULT_REGION": "us-gov-west-1"},
        LAMBDA | {"AWS_DEFAULT_REGION": "us-iso-east-1"},
        LAMBDA | {"AWS_DEFAULT_REGION": "xx-new-1"},
        LAMBDA | {"AWS_USE_FIPS_ENDPOINT": "true"},
        LAMBDA | {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        LAMBDA | {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "True"},
        LAMBDA | {"AWS_USE_FIPS_ENDPOINT": "false", "AWS_USE_DUALSTACK_ENDPOINT": "no"},
        LAMBDA | {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_DEFAULT_REGION": "eusc-de-east-1"},
        LAMBDA
        | {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_USE_FIPS_ENDPOINT": "1", "AWS_DEFAULT_REGION": "cn-north-1"},
        LAMBDA | {"AWS_ENDPOINT_URL": "http://emulator:4566"},
        LAMBDA | {"AWS_ENDPOINT_URL": "http://emulator:4566/"},
        LAMBDA | {"AWS_ENDPOINT_URL": "http://emulator:4566/base"},
        LAMBDA | {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "https://one:2"},
        LAMBDA | {"AWS_ENDPOINT_URL": "http://all:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        LAMBDA | {"AWS_CA_BUNDLE": "/one.pem", "REQUESTS_CA_BUNDLE": "/two.pem"},
        LAMBDA | {"REQUESTS_CA_BUNDLE": "/two.pem"},
        LAMBDA | {"HTTPS_PROXY": "http://proxy:3128"},
        LAMBDA | {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".amazonaws.com"},
        LAMBDA | {"AWS_PROFILE": "other"},
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"AWS_PROFILE": "other"},
        {"AWS_PROFILE": "other", "AWS_DEFAULT_REGION": "eu-central-1"},
    ],
    ids=lambda variables: " ".join(f"{name}={variables[name]}" for name in variables if name not in LAMBDA) or "plain",
)
def test_the_same_is_asked_as_by_boto3(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "profiles").write_text(PROFILE)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profiles"))
    for name in LAMBDA:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert ours() == of_boto3() == "value"
    assert sent.asked[0] == sent.asked[1]


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "alone"},
        {"AWS_ACCESS_KEY_ID": "variable", "AWS_SECRET_ACCESS_KEY": "secret"},
        {"AWS_PROFILE": "missing"},
    ],
    ids=str,
)
def test_what_boto3_cannot_do_for_its_settings_we_cannot_either(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in LAMBDA:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(BotoCoreError) as theirs:
        of_boto3()
    with pytest.raises(type(theirs.value)):
        ours()
    assert sent.asked == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"__type": "AccessDeniedException", "Message": "no"}'),
        (400, b'{"__type": "com.amazonaws.secretsmanager#ResourceNotFoundException"}'),
        (400, b'{"__type": "ThrottlingException:http://internal/"}'),
        (400, b"{}"),
        (404, b"no JSON"),
        (301, b""),
        (500, b'{"__type": "InternalServiceError"}'),
        (503, b"<html><body>Service Unavailable</body></html>"),
        (502, b""),
    ],
    ids=str,
)
def test_a_failure_has_the_code_that_it_has_for_boto3(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    sent.status, sent.body = status, body
    for name, value in LAMBDA.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ClientError) as theirs:
        of_boto3()
    with pytest.raises(ClientError) as raised:
        ours()

    assert raised.value.response["Error"] == theirs.value.response["Error"]
    status_of = [error.value.response["ResponseMetadata"]["HTTPStatusCode"] for error in (raised, theirs)]
    assert status_of == [status, status]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"\xff"])
def test_a_response_that_is_no_json_object_has_no_keys(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    sent.body = body
    for name, value in LAMBDA.items():
        monkeypatch.setenv(name, value)

    assert SecretsManager(1, 1).get_secret_value(REFERENCE) == {}
