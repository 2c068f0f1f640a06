"""What a deployment refuses before it creates anything: patterns of parameters, and Rules, each with a sentence.

CloudFormation evaluates both. The evaluation here follows its documentation: a pattern has to match the whole value,
and of a list each entry; a rule is checked if its condition holds.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from local.aws.intrinsics import read
from tests.support.machines import PARAMETERS, ROOT

DOCUMENT = read(ROOT / "template.yaml")
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-a1B2c3"
GIVEN = {**PARAMETERS, "SpiceDBTokenSecretArn": SECRET.format("token")}
BOTH = {"JwtReadScope": "schedules.read", "JwtWriteScope": "schedules.write"}


def values(given: Mapping[str, str]) -> dict[str, Any]:
    """The value of each parameter, as Ref gives it."""
    found: dict[str, Any] = {}
    for name, declared in DOCUMENT["Parameters"].items():
        text = str(given.get(name, declared.get("Default")))
        is_list = declared["Type"] == "CommaDelimitedList"
        found[name] = [part.strip() for part in text.split(",")] if is_list else text
    return found


def holds(node: Any, of: Mapping[str, Any]) -> Any:
    """The value of a rule's expression."""
    if not isinstance(node, dict):
        return [holds(each, of) for each in node] if isinstance(node, list) else node
    ((name, argument),) = node.items()
    if name == "Ref":
        return of[argument]
    parts = holds(argument, of)
    match name:
        case "Fn::Equals":
            return parts[0] == parts[1]
        case "Fn::Not":
            return not parts[0]
        case "Fn::And":
            return all(parts)
        case "Fn::Or":
            return any(parts)
        case "Fn::Contains":
            return parts[1] in parts[0]
        case "Fn::EachMemberEquals":
            return all(entry == parts[1] for entry in parts[0])
    raise AssertionError(f"{name} is not a function of rules")


def refusals(given: Mapping[str, str]) -> Iterator[str]:
    """The sentences with which CloudFormation refuses these parameters."""
    of = values({**GIVEN, **given})
    for name, declared in DOCUMENT["Parameters"].items():
        entries = of[name] if isinstance(of[name], list) else [of[name]]
        pattern = declared.get("AllowedPattern", ".*")
        allowed = [str(value) for value in declared.get("AllowedValues", entries)]
        if not all(re.fullmatch(pattern, entry) and entry in allowed for entry in entries):
            yield f"{name}: {declared['ConstraintDescription']}"
    for rule in DOCUMENT["Rules"].values():
        if holds(rule.get("RuleCondition", True), of):
            yield from (each["AssertDescription"] for each in rule["Assertions"] if not holds(each["Assert"], of))


ACCEPTED: list[dict[str, str]] = [
    {},
    {"TemporalTls": "false"},
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
    ({"SpiceDBTls": "false"}, "SpiceDBTls must be true"),
    ({"TemporalTls": "false", "TemporalApiKeySecretArn": SECRET.format("key")}, "TemporalTls must be true"),
    ({"JwtReadScope": "a"}, "are given together or not at all"),
    ({"JwtWriteScope": "a"}, "are given together or not at all"),
    *(
        ({**BOTH, name: scope}, f"{name}: empty, or one scope")
        for name in BOTH
        for scope in ("a b", "a,b", 'a"', "a\\", "é", "a" * 257, " ", "a\n")
    ),
    *(
        ({"CorsOrigins": origins}, "CorsOrigins: empty, or origins separated by commas")
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
    ({"CorsOrigins": "https://a.example", "CorsCredentials": "yes"}, "CorsCredentials: true or false"),
]


@pytest.mark.parametrize("given", ACCEPTED, ids=str)
def test_a_deployment_accepts(given: dict[str, str]) -> None:
    assert list(refusals(given)) == []


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=str)
def test_a_deployment_refuses_with_a_sentence(given: dict[str, str], sentence: str) -> None:
    said = list(refusals(given))

    assert any(sentence in each for each in said), said


def test_every_rule_refuses_something_here() -> None:
    sentences = {each["AssertDescription"] for rule in DOCUMENT["Rules"].values() for each in rule["Assertions"]}

    assert sentences <= {said for given, _ in REFUSED for said in refusals(given)}
