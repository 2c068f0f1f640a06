"""`python -m tools.deployment.combinations` tries every pair of values that the Rules allow, and says what is found."""

import itertools
from pathlib import Path

import pytest

from local.aws.intrinsics import read
from tools.deployment import combinations
from tools.deployment.rules import refusals

DOCUMENT = read(combinations.TEMPLATE)
CHOSEN = combinations.combinations(DOCUMENT)


def test_every_parameter_that_a_condition_or_a_rule_asks_for_has_another_value_than_its_default() -> None:
    values = combinations.switches(DOCUMENT)

    assert {name for name, options in values.items() if len(options) < 2} == set()
    assert combinations.OTHER_VALUES.keys() <= values.keys()


def test_the_rules_allow_every_combination() -> None:
    assert [list(refusals(DOCUMENT, {**combinations.REQUIRED, **given})) for given in CHOSEN] == [[]] * len(CHOSEN)


def test_every_pair_of_values_is_in_one_unless_the_rules_refuse_it() -> None:
    values = combinations.switches(DOCUMENT)
    covered = {frozenset(pair) for given in CHOSEN for pair in itertools.combinations(given.items(), 2)}

    missing = {
        frozenset(((one, a), (other, b)))
        for one, other in itertools.combinations(values, 2)
        for a in values[one]
        for b in values[other]
    } - covered

    rules = str(DOCUMENT["Rules"])
    free = [dict(pair) for pair in missing if not any(name in rules for name, _ in pair)]
    assert free == [], "a parameter of which no Rule speaks goes with every value of every other such one"


@pytest.mark.parametrize(("code", "said"), [(0, "none refused by cfn-lint"), (4, "E0000 a finding")])
def test_a_finding_is_printed_with_its_combination(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lint := tmp_path / "cfn-lint").write_text(f"#!/bin/sh\necho 'E0000 a finding'\nexit {code}\n")
    lint.chmod(0o755)
    monkeypatch.setattr(combinations, "LINT", lint)

    assert combinations.main() == (1 if code else 0)

    printed = capsys.readouterr().out
    assert said in printed
    assert ("with DeploymentType=" in printed) == bool(code)
