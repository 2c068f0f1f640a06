"""docs/operations.md against template.yaml: an entry for each alarm and each query; what encrypts and keeps data."""

import re
from collections.abc import Iterator
from itertools import pairwise

from local.aws import intrinsics
from tests.contract.test_alarms import ALARMS, BESIDE, COMPOSITE, own_errors, own_metrics
from tests.support.machines import ROOT, template

RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def section(heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    text = RUNBOOK.partition(f"\n{heading}\n")[2]
    assert text, heading
    return re.split(rf"^#{{1,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables in a text, without heads."""
    for line, following in pairwise([*text.splitlines(), ""]):
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---"):
            yield [cell.strip() for cell in line.split("|")[1:-1]]


def entries() -> dict[str, list[str]]:
    """The cells of the entry of each alarm, by the alarm's name."""
    found: dict[str, list[str]] = {}
    for heading in (
        "### Something may have been left behind",
        "### Executions or functions fail",
        "### The HTTP API does not serve its callers",
    ):
        for first, *others in rows(section(heading)):
            for name in re.findall(r"`([a-z-]+)`", first):
                assert name not in found, f"{name} has two entries"
                found[name] = others
    return found


def names() -> dict[str, str]:
    """The alarms' names, by logical id."""
    return {logical_id: alarm["AlarmName"] for logical_id, alarm in ALARMS.items()}


def test_every_alarm_has_one_entry_that_says_what_it_means_what_to_look_at_and_what_to_run() -> None:
    found = entries()

    assert sorted(found) == sorted([*names().values(), COMPOSITE["AlarmName"]])
    assert all(len(cells) == 3 and all(cells) for cells in found.values())


def test_the_first_table_has_the_alarms_of_the_composite_one() -> None:
    watched = {names()[each] for each in re.findall(r'ALARM\("(\w+)"\)', COMPOSITE["AlarmRule"])}
    first = section("### Something may have been left behind")

    listed = {name for cells in rows(first) for name in re.findall(r"`([a-z-]+)`", cells[0])}
    assert listed == watched | {COMPOSITE["AlarmName"]}


def test_the_alarms_beside_those_that_are_counted_from_logs_are_the_ones_that_the_runbook_names() -> None:
    table = {cells[0]: cells[1] for cells in rows(section("### Counted from logs")) if len(cells) == 2}

    for logical_id in ("CompensationFailedAlarm", "UnverifiedAlarm", "DeregisterDeferredAlarm"):
        beside = set(re.findall(r"`([a-z-]+)`", table[f"`{names()[logical_id]}`"]))
        assert beside == {names()[each] for each in BESIDE[logical_id]}


def test_the_runbook_says_how_many_alarms_are_paid_for() -> None:
    assert f"{len(ALARMS)} metric alarms and a composite one" in RUNBOOK


def test_every_saved_query_has_an_entry_that_names_what_to_replace() -> None:
    table = {cells[0].strip("`"): cells for cells in rows(section("## Saved queries"))}
    queries = {
        each["Name"].rpartition("/")[2]: each["QueryString"]
        for each in template().properties("AWS::Logs::QueryDefinition").values()
    }

    assert table.keys() == queries.keys()
    for name, text in queries.items():
        in_capitals = set(re.findall(r'"([A-Z_]+)"', text))
        assert set(re.findall(r"`([A-Z_]+)`", table[name][1])) == in_capitals


def test_a_customer_key_encrypts_every_log_group_and_every_environment_and_functions_may_decrypt_with_it() -> None:
    deployed, plain = template(DataKmsKeyArn=KEY), template()

    groups = deployed.properties("AWS::Logs::LogGroup").values()
    assert {each.get("KmsKeyId") for each in groups} == {KEY}
    assert {each.get("KmsKeyArn") for each in deployed.properties("AWS::Serverless::Function").values()} == {KEY}
    statements = deployed.properties("AWS::IAM::ManagedPolicy")["FunctionPolicy"]["PolicyDocument"]["Statement"]
    assert [each["Resource"] for each in statements if each["Action"] == "kms:Decrypt"] == [KEY]
    for kind in ("AWS::Logs::LogGroup", "AWS::Serverless::Function", "AWS::IAM::ManagedPolicy"):
        assert not re.search("KmsKey|kms:", str(plain.properties(kind)))


def test_whatever_holds_data_says_what_becomes_of_it() -> None:
    resources = intrinsics.read(ROOT / "template.yaml")["Resources"]
    holders = [
        each for each in resources.values() if each["Type"] in ("AWS::Logs::LogGroup", "AWS::SecretsManager::Secret")
    ]

    assert {(each["DeletionPolicy"], each["UpdateReplacePolicy"]) for each in holders} == {("Delete", "Delete")}
    groups = template(LogRetentionDays="90").properties("AWS::Logs::LogGroup").values()
    assert {each["RetentionInDays"] for each in groups} == {"90"}


def test_every_metric_of_the_application_is_in_the_list_of_metrics() -> None:
    listed = (ROOT / "docs" / "deploying.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]

    # The errors are listed together.
    assert {name for name in own_metrics() if f"`{name}`" not in listed} <= own_errors()
