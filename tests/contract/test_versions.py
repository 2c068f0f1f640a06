"""What makes a deployment safe: versions of functions and machines, and who calls which."""

import json
import os
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from local.aws import intrinsics
from local.aws.lambda_runtime import Context
from tests.support.machines import PARAMETERS, ROOT, SAGAS, template

TEMPLATE = intrinsics.read(ROOT / "template.yaml")
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = {name: each for name, each in RESOURCES.items() if each["Type"] == intrinsics.FUNCTION}
IN_VPC = template(SubnetIds="subnet-12345678", SecurityGroupIds="sg-12345678")
# Its Python has SAM's own translator.
SAM = ROOT / ".tools" / "bin" / "python"
# Prints the function versions that SAM makes of a template, FILE NAME=VALUE …, by logical id. A new id is published.
TRANSLATION = """
import json, sys
from unittest.mock import MagicMock
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(open(sys.argv[1]).read())
for resource in template["Resources"].values():
    for key in {"CodeUri", "ContentUri", "DefinitionUri"} & resource.get("Properties", {}).keys():
        resource["Properties"][key] = "s3://bucket/" + resource["Properties"][key]  # as `sam package` writes it
given = dict(argument.split("=", 1) for argument in sys.argv[2:])
made = transform(template, given, MagicMock(load=dict))["Resources"]
json.dump({key: each for key, each in made.items() if each["Type"] == "AWS::Lambda::Version"}, sys.stdout)
"""
# They are of the function, not of its versions.
NOT_OF_A_VERSION = {"Events", "FunctionName", "ReservedConcurrentExecutions"}


def references(node: Any) -> Iterator[str]:
    """The names of parameters, resources and conditions in a part of the template."""
    if isinstance(node, list):
        for each in node:
            yield from references(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Fn::Sub":
                yield from intrinsics.PLACEHOLDER.findall(value if isinstance(value, str) else value[0])
            elif key == "Fn::If":
                yield value[0]
                yield from references(TEMPLATE["Conditions"][value[0]])
            elif key in ("Ref", "Condition") and isinstance(value, str):
                yield value
                yield from references(TEMPLATE["Conditions"].get(value))
            yield from references(value)


def test_every_parameter_that_a_function_is_deployed_with_makes_new_versions_when_it_changes() -> None:
    """One that is missing here is to be added to the Content of ParametersVersion."""
    of_functions = [
        {key: value for key, value in each["Properties"].items() if key not in NOT_OF_A_VERSION}
        for each in FUNCTIONS.values()
    ]
    used = {*references(TEMPLATE["Globals"]), *references(of_functions)} & TEMPLATE["Parameters"].keys()
    kept = set(references(RESOURCES["ParametersVersion"])) & TEMPLATE["Parameters"].keys()

    assert used - kept == set()


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_a_function_is_published_anew_with_its_parameters_and_keeps_the_versions_that_executions_call(
    function: dict[str, Any],
) -> None:
    properties = {**TEMPLATE["Globals"]["Function"], **function["Properties"]}

    assert properties["AutoPublishAlias"] == "live"
    assert properties["AutoPublishAliasAllProperties"] is True
    assert properties["VersionDescription"] == {"Fn::Sub": "parameters ${ParametersVersion}"}
    # With the number in the environment, the function has changed whenever the description has.
    assert TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]["PARAMETERS_VERSION"] == {
        "Ref": "ParametersVersion"
    }
    assert function["UpdateReplacePolicy"] == "Retain"
    assert "DeletionPolicy" not in function, "SAM would pass it on to the versions, which it retains by itself"


def published(document: Path) -> set[str]:
    """The logical ids of the versions that SAM makes of a template."""
    given = [f"{name}={value}" for name, value in PARAMETERS.items()]
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1"}
    run = subprocess.run(
        [SAM, "-c", TRANSLATION, document, *given],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=120,
    )
    versions = json.loads(run.stdout)
    for version in versions.values():
        assert version["DeletionPolicy"] == version["UpdateReplacePolicy"] == "Retain"
    return set(versions)


@pytest.mark.skipif(not SAM.exists(), reason="`make check` sets up .tools, which has SAM's translator")
@pytest.mark.parametrize(
    ("before", "after", "anew"),
    [
        ("ContentUri: layers/core", "ContentUri: layers/core2", 8),
        ("ContentUri: layers/temporal", "ContentUri: layers/temporal2", 5),
        ("CodeUri: functions/register", "CodeUri: functions/register2", 1),
        ("MemorySize: 1024", "MemorySize: 512", 8),
        ("ThrottlingBurstLimit: !Ref ApiBurstLimit", "ThrottlingBurstLimit: 7", 0),
    ],
)
def test_a_changed_layer_makes_new_versions_of_the_functions_that_use_it(
    before: str, after: str, anew: int, tmp_path: Path
) -> None:
    shipped = (ROOT / "template.yaml").read_text()
    assert before in shipped
    changed = tmp_path / "template.yaml"
    changed.write_text(shipped.replace(f"{before}\n", f"{after}\n"))

    assert len(published(changed) - published(ROOT / "template.yaml")) == anew


def test_a_machine_may_call_every_version_of_its_functions_and_of_no_others() -> None:
    roles = template().properties("AWS::IAM::Role")
    machines = template().properties(intrinsics.STATE_MACHINE)
    for logical_id, machine in machines.items():
        (policy,) = roles[machine["Role"].partition(".")[0]]["Policies"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        called = {arn.removesuffix(":1") for arn in machine["DefinitionSubstitutions"].values()}
        assert set(statement["Resource"]) == called | {f"{arn}:*" for arn in called}, logical_id


def test_the_api_and_other_stacks_are_given_the_aliases_of_the_saga_machines() -> None:
    by_name = {machine.name: f"{machine.arn}:live" for machine in template().state_machines}
    (api,) = (each for each in template().functions if each.logical_id == "ApiFunction")
    outputs = template().outputs()

    for saga in (each.split("_")[0] for each in SAGAS):
        express = by_name[f"{saga}-schedule-express"]
        assert api.environment[f"{saga.upper()}_SCHEDULE_STATE_MACHINE_ARN"] == express
        assert outputs[f"{saga.capitalize()}ScheduleExpressStateMachineArn"] == express
        assert outputs[f"{saga.capitalize()}ScheduleStateMachineArn"] == by_name[f"{saga}-schedule"]


def test_other_stacks_are_offered_no_layer_because_the_next_deployment_deletes_it() -> None:
    layers = template().properties("AWS::Serverless::LayerVersion")

    assert {layer["RetentionPolicy"] for layer in layers.values()} == {"Delete"}
    assert not {layer for layer in layers if layer in json.dumps(TEMPLATE["Outputs"])}


@pytest.mark.parametrize(("type_", "steps"), [("ALL_AT_ONCE", {}), ("CANARY", {"Percentage": "10", "Interval": "10"})])
def test_the_aliases_shift_by_parameter_and_back_on_the_alarms_of_their_machine(
    type_: str, steps: dict[str, str]
) -> None:
    deployed = template(DeploymentType=type_)
    alarms = deployed.properties("AWS::CloudWatch::Alarm")
    machines = deployed.properties(intrinsics.STATE_MACHINE)
    saga_machines = {name: each for name, each in machines.items() if not name.startswith("Reconcile")}

    assert len(saga_machines) == 2 * len(SAGAS)
    for logical_id, machine in saga_machines.items():
        preference = dict(machine["DeploymentPreference"])
        watched = preference.pop("Alarms")
        assert preference == {"Type": type_, **steps}
        assert watched
        saga = logical_id.removesuffix("StateMachine").removesuffix("Express").removesuffix("Schedule").lower()
        assert all(alarms[alarm]["AlarmName"].startswith(f"{saga}-schedule-") for alarm in watched)


def test_in_a_vpc_every_function_is_called_daily() -> None:
    pinged = IN_VPC.properties("AWS::Scheduler::Schedule").values()
    (policy,) = IN_VPC.properties("AWS::IAM::Role")["PingRole"]["Policies"]
    aliases = sorted(f"{function.arn}:live" for function in IN_VPC.functions)

    assert sorted(each["Target"]["Arn"] for each in pinged) == aliases
    assert sorted(policy["PolicyDocument"]["Statement"][0]["Resource"]) == aliases
    assert {each["ScheduleExpression"] for each in pinged} == {"rate(1 day)"}
    assert {each["Target"]["Input"] for each in pinged} == {'{"ping": true}'}
    assert template().properties("AWS::Scheduler::Schedule") == {}
    assert "PingRole" not in template().properties("AWS::IAM::Role")


@pytest.mark.parametrize("function", template().functions, ids=lambda function: str(function.logical_id))
def test_a_daily_call_does_nothing(function: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in function.environment:
        if not name.startswith("POWERTOOLS"):
            monkeypatch.delenv(name, raising=False)
    context = Context("1", function.name, function.arn, "512", 0.0)

    assert import_module(function.module).handler({"ping": True}, context) == {}
    assert capsys.readouterr().out == ""


def test_the_concurrency_of_the_api_is_reserved_by_parameter() -> None:
    reserved = {
        value: template(ApiReservedConcurrency=value).properties(intrinsics.FUNCTION)["ApiFunction"]
        for value in ("0", "200")
    }

    assert "ReservedConcurrentExecutions" not in reserved["0"]
    assert reserved["200"]["ReservedConcurrentExecutions"] == "200"
