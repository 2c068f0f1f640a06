"""docs/security.md and the network section of docs/deploying.md say what the template has."""

import re
import shutil
from pathlib import Path

import pytest

from local.aws.intrinsics import read
from tests.support.machines import ROOT
from tools import permissions_table
from tools.permissions_table import allowed, engines_of, functions, machines, main, role_of, routes, whole_template

TEMPLATE = whole_template()
PAGE = (ROOT / "docs" / "security.md").read_text()
ENDPOINT = r"^\| `com\.amazonaws\.<region>\.([a-z-]+)`"
# An endpoint for each service that a function calls itself. Lambda writes the logs and makes the network interfaces,
# and Secrets Manager decrypts.
ENDPOINTS = {"secretsmanager": "secretsmanager", "states:StartSyncExecution": "sync-states", "xray": "xray"}
WITHOUT_ENDPOINT = {"logs", "ec2", "kms"}


@pytest.mark.parametrize("table", [functions, machines, routes], ids=["functions", "machines", "routes"])
def test_the_page_has_the_table_of_the_template(table: permissions_table.Table) -> None:
    assert table(TEMPLATE) in PAGE


def test_a_function_can_read_the_credentials_of_the_engines_that_it_is_told_of_and_no_others() -> None:
    settings = TEMPLATE.properties("AWS::Serverless::Function")
    for function in TEMPLATE.functions:
        told = {name.partition("_")[0] for name in function.environment if name.endswith(("_ENDPOINT", "_ADDRESS"))}
        can_read = engines_of(allowed(TEMPLATE, role_of(settings[function.logical_id])))
        assert {engine.upper() for engine in can_read} == told, function.logical_id


def test_every_endpoint_that_a_function_in_a_vpc_needs_is_named_and_no_other() -> None:
    needed = set()
    for settings in TEMPLATE.properties("AWS::Serverless::Function").values():
        for action, _ in allowed(TEMPLATE, role_of(settings)):
            service = action.partition(":")[0]
            if service not in WITHOUT_ENDPOINT:
                needed.add(ENDPOINTS.get(service) or ENDPOINTS[action])
    page = (ROOT / "docs" / "deploying.md").read_text()

    assert set(re.findall(ENDPOINT, page, re.MULTILINE)) == needed
    description = read(ROOT / "template.yaml")["Parameters"]["SubnetIds"]["Description"]
    assert all(re.search(rf"\b(?<!-){name}\b", description) for name in needed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action: states:StartSyncExecution", "Action: [states:StartSyncExecution, states:StartExecution]"),
        ("ManagedPolicyArns: [!Ref FunctionPolicy, !Ref SpiceDBSecretsPolicy]", "ManagedPolicyArns: []"),
        ("Path: /health, Auth: {Authorizer: NONE}", "Path: /health"),
        ("                  - !GetAtt CompensateFunction.Arn\n", ""),
    ],
    ids=["an action", "a secret", "a token", "a function"],
)
def test_a_permission_that_changes_makes_the_page_stale(
    old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("docs", "functions", "statemachine"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    text = (ROOT / "template.yaml").read_text()
    assert old in text
    (tmp_path / "template.yaml").write_text(text)

    assert main(["--check"], tmp_path) == 0
    (tmp_path / "template.yaml").write_text(text.replace(old, new, 1))
    assert main(["--check"], tmp_path) == 1
    assert "docs/security.md is stale" in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
