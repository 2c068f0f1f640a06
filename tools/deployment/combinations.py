"""`python -m tools.deployment.combinations`: lints the template with combinations of parameters that its Rules allow.

The parameters that Conditions and Rules ask for are its switches. Every pair of values of two switches that the Rules
allow together is in at least one combination. What the Rules refuse is refused
with a sentence: tests/contract/test_rules.py.

Exit code 1: cfn-lint finds something. It is printed with the combination.
"""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.aws.intrinsics import read
from tools.deployment.checks import ROOT
from tools.deployment.rules import refusals

TEMPLATE = ROOT / "template.yaml"
LINT = ROOT / ".tools" / "bin" / "cfn-lint"
_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-a1B2c3"  # noqa: S105 - an ARN, no secret
_KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"

REQUIRED = {
    "SpiceDBEndpoint": "spicedb.example.com:50051",
    "SpiceDBTokenSecretArn": _SECRET.format("spicedb-token"),
    "TemporalAddress": "temporal.example.com:7233",
    "TemporalNamespace": "default",
    "JwtIssuer": "https://issuer.example.com/",
    "JwtAudience": "agent-schedules",
}
# Values of switches that have no list of their own in the template; the default comes besides.
OTHER_VALUES = {
    "AlarmTopicArn": ["arn:aws:sns:us-east-1:123456789012:alarms"],
    "ApiReservedConcurrency": ["50"],
    "CorsOrigins": ["https://app.example.com,http://localhost:3000", "*"],
    "DataKmsKeyArn": [_KEY],
    "JwtReadScope": ["schedules.read"],
    "JwtWriteScope": ["schedules.write"],
    "PageTokenSecretArn": [_SECRET.format("page-tokens")],
    "SecretsKmsKeyArn": [_KEY],
    "SecurityGroupIds": ["sg-0123456789abcdef0"],
    "SpiceDBCaSecretArn": [_SECRET.format("spicedb-ca")],
    "SubnetIds": ["subnet-0123456789abcdef0,subnet-0123456789abcdef1"],
    "TemporalApiKeySecretArn": [_SECRET.format("temporal-key")],
    "TemporalTlsSecretArn": [_SECRET.format("temporal-tls")],
}
_TRIES = 400
_ALLOWED_TRIES = 20

Combination = dict[str, str]
_Pair = frozenset[tuple[str, str]]


def switches(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values of each switch of a template, the default first."""
    declared: Mapping[str, Any] = document["Parameters"]
    asked = set(_referred(document.get("Conditions", {}))) | set(_referred(document.get("Rules", {})))
    found: dict[str, list[str]] = {}
    for name, parameter in declared.items():
        if name in asked - REQUIRED.keys():
            allowed = parameter.get("AllowedValues", OTHER_VALUES.get(name, []))
            found[name] = list(dict.fromkeys(str(value) for value in (parameter["Default"], *allowed)))
    return found


def combinations(document: Mapping[str, Any]) -> list[Combination]:
    """Combinations of the switches that the Rules allow, with every pair of values that they allow together."""
    values = switches(document)
    chance = random.Random(0)  # noqa: S311 - the same combinations every time
    left = {
        frozenset(((one, a), (other, b)))
        for one, other in itertools.combinations(values, 2)
        for a in values[one]
        for b in values[other]
    }
    found: list[Combination] = []
    while left:
        pair = min(left, key=sorted)
        made = [each for _ in range(_TRIES) if (each := _with(pair, values, chance, document))][:_ALLOWED_TRIES]
        best = max(made, key=lambda each: len(left & _pairs(each)), default=None)
        left -= _pairs(best) if best else {pair}  # without one, the Rules do not allow the pair
        found += [best] if best else []
    return found


def _with(
    pair: _Pair, values: Mapping[str, list[str]], chance: random.Random, document: Mapping[str, Any]
) -> Combination | None:
    """The pair with other values by chance, if the Rules allow it."""
    given = {name: chance.choice(options) for name, options in values.items()} | dict(pair)
    return None if any(refusals(document, {**REQUIRED, **given})) else given


def _pairs(combination: Combination) -> set[_Pair]:
    return {frozenset(pair) for pair in itertools.combinations(combination.items(), 2)}


def _referred(node: Any) -> Iterator[str]:
    """The parameters that an expression refers to."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "Ref":
                yield value
            else:
                yield from _referred(value)
    elif isinstance(node, list):
        for each in node:
            yield from _referred(each)


def _lint(given: Combination) -> str:
    parameters = [f"{name}={value}" for name, value in {**REQUIRED, **given}.items()]
    command = [str(LINT), "--template", str(TEMPLATE), "--regions", "us-east-1", "--parameters", *parameters]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return (ended.stdout + ended.stderr) if ended.returncode else ""


def main() -> int:
    """Lint each combination. Returns the exit code."""
    chosen = combinations(read(TEMPLATE))
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (given, said) in enumerate(zip(chosen, pool.map(_lint, chosen), strict=True), 1):
            if sys.stdout.isatty():
                print(f"\rlinting {number} of {len(chosen)} combinations", end="", flush=True)
            if said:
                failed += 1
                print(f"\nwith {' '.join(f'{name}={value}' for name, value in given.items())}:\n{said}")
    print(f"\r{len(chosen)} combinations of parameters: {failed or 'none'} refused by cfn-lint")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
