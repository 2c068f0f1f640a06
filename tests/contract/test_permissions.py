"""What a function's role allows, and where a function logs. All of it is derived from template.yaml."""

from collections.abc import Iterator
from typing import Any

import pytest

from local.aws.template import Template
from tests.support.machines import template

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-a1B2c3"
OPTIONAL = {
    "SpiceDBCaSecretArn": SECRET.format("spicedb-ca"),
    "TemporalApiKeySecretArn": SECRET.format("temporal-api-key"),
    "TemporalTlsSecretArn": SECRET.format("temporal-tls"),
    "SecretsKmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555",
    "SubnetIds": "subnet-12345678",
    "SecurityGroupIds": "sg-12345678",
}
DEPLOYMENTS = {"without-optional-parameters": template(), "with-optional-parameters": template(**OPTIONAL)}
EVERY_FUNCTION = pytest.mark.parametrize(
    ("deployment", "function"),
    [
        pytest.param(deployment, function.logical_id, id=f"{function.logical_id}-{name}")
        for name, deployment in DEPLOYMENTS.items()
        for function in deployment.functions
    ],
)


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def allowed(deployment: Template, function: str) -> Iterator[tuple[str, str]]:
    """Every (action, resource) that the role of a function allows."""
    role_id, _, _ = deployment.properties("AWS::Serverless::Function")[function]["Role"].partition(".")
    role = deployment.properties("AWS::IAM::Role")[role_id]
    managed = deployment.properties("AWS::IAM::ManagedPolicy")
    policies = [policy["PolicyDocument"] for policy in role.get("Policies", ())]
    policies += [managed[policy]["PolicyDocument"] for policy in role["ManagedPolicyArns"]]
    for policy in policies:
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Allow"
            for action in as_list(statement["Action"]):
                for resource in as_list(statement["Resource"]):
                    yield action, resource


def test_all_functions_log_to_one_group() -> None:
    for deployment in DEPLOYMENTS.values():
        groups = deployment.properties("AWS::Logs::LogGroup")
        of_lambda = [name for name, group in groups.items() if group["LogGroupName"].startswith("/aws/lambda/")]
        functions = deployment.properties("AWS::Serverless::Function").values()

        assert len(of_lambda) == 1
        assert [function["LoggingConfig"]["LogGroup"] for function in functions] == of_lambda * len(functions)


@EVERY_FUNCTION
def test_a_function_reads_the_secrets_of_its_engine_and_no_others(deployment: Template, function: str) -> None:
    (environment,) = (f.environment for f in deployment.functions if f.logical_id == function)
    secrets = {value for name, value in environment.items() if name.endswith("_SECRET") and value}

    assert {(action, resource) for action, resource in allowed(deployment, function) if "secret" in action} == {
        ("secretsmanager:GetSecretValue", secret) for secret in secrets
    }


@EVERY_FUNCTION
def test_a_function_writes_to_its_log_group_and_no_other(deployment: Template, function: str) -> None:
    group = deployment.properties("AWS::Serverless::Function")[function]["LoggingConfig"]["LogGroup"]

    assert {(action, resource) for action, resource in allowed(deployment, function) if action.startswith("logs:")} == {
        ("logs:CreateLogStream", f"{group}.Arn"),
        ("logs:PutLogEvents", f"{group}.Arn"),
    }


@EVERY_FUNCTION
def test_only_tracing_and_network_interfaces_are_allowed_on_every_resource(deployment: Template, function: str) -> None:
    """These actions cannot be limited to a resource."""
    everywhere = {action for action, resource in allowed(deployment, function) if "*" in resource}

    assert {action.partition(":")[0] for action in everywhere} <= {"xray", "ec2"}
    assert not any("*" in action for action, _ in allowed(deployment, function))


def test_only_the_api_starts_machines_and_only_express_ones() -> None:
    deployment = DEPLOYMENTS["with-optional-parameters"]
    express = {machine.arn for machine in deployment.state_machines if machine.type == "EXPRESS"}

    starts = {
        (function.logical_id, action, resource)
        for function in deployment.functions
        for action, resource in allowed(deployment, function.logical_id)
        if action.startswith("states:")
    }
    assert starts == {("ApiFunction", "states:StartSyncExecution", arn) for arn in express}
