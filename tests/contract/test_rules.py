"""What a deployment refuses before it creates anything: patterns of parameters, and Rules, each with a sentence.

CloudFormation evaluates both; tools.deployment.rules does so too, as its documentation says.
"""

from collections.abc import Mapping

import pytest

from local.aws.intrinsics import read
from tests.support.machines import PARAMETERS, ROOT
from tools.deployment import rules

DOCUMENT = read(ROOT / "template.yaml")
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-a1B2c3"
GIVEN = {**PARAMETERS, "SpiceDBTokenSecretArn": SECRET.format("token")}
BOTH = {"JwtReadScope": "schedules.read", "JwtWriteScope": "schedules.write"}


def refusals(given: Mapping[str, str]) -> list[str]:
    """The sentences with which a deployment refuses these parameters."""
    return list(rules.refusals(DOCUMENT, {**GIVEN, **given}))


ACCEPTED: list[dict[str, str]] = [
    {},
    {"TemporalTls": "false"},
    {"SubnetIds": "subnet-0123456789abcdef0, subnet-12345678", "SecurityGroupIds": "sg-12345678"},
    {"TemporalTlsSecretArn": SECRET.format("tls")},
    BOTH,
    {"JwtReadScope": "https://api.example.com/schedules", "JwtWriteScope": "https://api.example.com/schedules"},
    {"JwtReadScope": "api://a/b:c_d~e+f=", "JwtWriteScope": "!#$x"} | BOTH,
    *(
        {"CorsOrigins": origins}
        for origins in (
            "https://app.example.com",
            "https://app.example.com:8443",
            "http://localhost:3000, http://127.0.0.1:3000",
            "*",
            "https://*",
            "http://*,https://app.example.com",
        )
    ),
    {"CorsOrigins": "https://a.example,https://b.example", "CorsCredentials": "true"},
]
REFUSED: list[tuple[dict[str, str], str]] = [
    *(
        (network, "SubnetIds and SecurityGroupIds are given together")
        for network in (
            {"SubnetIds": "subnet-12345678"},
            {"SecurityGroupIds": "sg-12345678"},
            {"SubnetIds": "subnet-12345678,", "SecurityGroupIds": "sg-12345678"},
        )
    ),
    ({"SpiceDBTls": "false"}, "SpiceDBTls must be true"),
    ({"TemporalTls": "false", "TemporalApiKeySecretArn": SECRET.format("key")}, "TemporalTls must be true"),
    ({"JwtReadScope": "a"}, "are given together or not at all"),
    ({"JwtWriteScope": "a"}, "are given together or not at all"),
    *(
        ({**BOTH, name: scope}, f"{name} must be empty, or one scope")
        for name in BOTH
        for scope in ("a b", "a,b", 'a"', "a\\", "é", "a" * 257, " ", "a\n")
    ),
    *(
        ({"CorsOrigins": origins}, "CorsOrigins must be empty, or origins separated by commas")
        for origins in (
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://App.example.com",
            "https://*.example.com",
            "https://app.example.com:",
            "https://a.example https://b.example",
            "ftp://a.example",
            "null",
            "https://user@a.example",
        )
    ),
    ({"CorsOrigins": "https://a.example,"}, "a comma too many"),
    ({"CorsOrigins": ",https://a.example"}, "a comma too many"),
    *(
        ({"CorsOrigins": origins, "CorsCredentials": "true"}, "CorsOrigins must name each origin")
        for origins in ("*", "https://*", "http://*", "https://a.example,*", "")
    ),
    ({"CorsOrigins": "https://a.example", "CorsCredentials": "yes"}, "CorsCredentials must be true or false"),
]


@pytest.mark.parametrize("given", ACCEPTED, ids=str)
def test_a_deployment_accepts(given: dict[str, str]) -> None:
    assert refusals(given) == []


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=str)
def test_a_deployment_refuses_with_a_sentence(given: dict[str, str], sentence: str) -> None:
    said = refusals(given)

    assert any(sentence in each for each in said), said


def test_every_rule_refuses_something_here() -> None:
    sentences = {each["AssertDescription"] for rule in DOCUMENT["Rules"].values() for each in rule["Assertions"]}

    assert sentences <= {said for given, _ in REFUSED for said in refusals(given)}
