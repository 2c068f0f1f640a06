"""What the template offers to callers: browsers, holders of tokens, and other services of the account."""

import json
from collections.abc import Iterator
from typing import Any

from local.aws.intrinsics import read
from local.aws.template import Template
from tests.support.machines import ROOT, SAGAS, template
from tests.support.specification import OPERATIONS, SPECIFICATION

PAGE = "https://app.example.com"
DOCUMENT = read(ROOT / "template.yaml")
SCOPED = template(JwtReadScope="schedules.read", JwtWriteScope="schedules.write")
FOR_BROWSERS = template(CorsOrigins=f"{PAGE}, http://localhost:3000")


def api(deployment: Template) -> Any:
    (only,) = deployment.http_apis
    return only


def names(node: Any) -> Iterator[str]:
    """Every text in a part of the template, and the target of every reference."""
    if isinstance(node, dict):
        for value in node.values():
            yield from names(value)
    elif isinstance(node, list):
        for value in node:
            yield from names(value)
    else:
        yield str(node)


# Tokens


def test_without_scopes_every_valid_token_is_accepted() -> None:
    assert {route.scopes for route in api(template()).routes} == {()}


def test_what_reads_needs_one_scope_and_what_writes_the_other() -> None:
    for route in api(SCOPED).routes:
        if route.authorizer is None:
            assert route.scopes == ()
        else:
            reads = route.method in ("GET", "ANY")  # ANY is the $default route, which does nothing
            assert route.scopes == (("schedules.read",) if reads else ("schedules.write",)), route.key


def test_the_same_scopes_are_in_the_environment_of_the_api_for_its_specification() -> None:
    (function,) = (each for each in SCOPED.functions if each.logical_id == "ApiFunction")

    assert function.environment["JWT_READ_SCOPE"] == "schedules.read"
    assert function.environment["JWT_WRITE_SCOPE"] == "schedules.write"


def test_only_routes_that_call_no_engine_need_no_token() -> None:
    public = {route.key for route in api(SCOPED).routes if not route.authorizer}

    assert public == {"GET /health", "GET /openapi.json", "OPTIONS /{proxy+}"}


# Browsers


def test_no_page_of_another_origin_may_call_the_api_by_default() -> None:
    assert api(template()).cors is None


def test_a_page_may_send_and_read_all_that_the_specification_has() -> None:
    cors = api(FOR_BROWSERS).cors
    operations = [(method, each) for path in SPECIFICATION["paths"].values() for method, each in path.items()]
    parameters = [parameter for each in OPERATIONS.values() for parameter in each.get("parameters", ())]
    sent = {parameter["name"].lower() for parameter in parameters if parameter["in"] == "header"}
    answers = [response for each in OPERATIONS.values() for response in each["responses"].values()]
    received = {name.lower() for response in answers for name in response.get("headers", {})}

    assert cors.origins == (PAGE, "http://localhost:3000")
    assert set(cors.methods) == {method.upper() for method, _ in operations}
    assert set(cors.headers) == {"authorization", "content-type", *sent}
    # The specification leaves out the request's id, a 405's Allow, and the reason of a 401.
    assert set(cors.exposed) == {"apigw-requestid", "allow", "www-authenticate", *received}
    assert not cors.credentials


def test_credentials_are_for_named_origins() -> None:
    assert api(template(CorsOrigins=PAGE, CorsCredentials="true")).cors.credentials is True


def test_no_name_in_the_cors_configuration_is_one_that_sam_writes_anew() -> None:
    """SAM replaces `AllowOrigins` by `allowOrigins` in the text of the whole value, also within a name."""
    _, settings, _ = DOCUMENT["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]["Fn::If"]

    for value in settings.values():
        assert not [name for name in names(value) if any(key in name for key in settings)]


# Other services


def test_the_policy_for_callers_starts_the_sagas_and_nothing_else() -> None:
    deployment = template()
    by_name = {machine.name: machine.arn for machine in deployment.state_machines}
    policy = deployment.properties("AWS::IAM::ManagedPolicy")["StartMachinesPolicy"]["PolicyDocument"]
    allowed = {
        (statement["Action"], resource) for statement in policy["Statement"] for resource in statement["Resource"]
    }

    sagas = [saga.replace("_", "-") for saga in SAGAS]
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    assert allowed == {
        *(("states:StartExecution", by_name[saga]) for saga in sagas),
        *(("states:StartSyncExecution", by_name[f"{saga}-express"]) for saga in sagas),
    }


def test_no_role_of_this_application_has_the_policy_for_callers() -> None:
    roles = template().properties("AWS::IAM::Role").values()

    assert all("StartMachinesPolicy" not in role.get("ManagedPolicyArns", ()) for role in roles)


def test_what_other_services_need_is_exported_and_in_parameters_under_the_same_names() -> None:
    exported = {
        output["Export"]["Name"]["Fn::Sub"]: json.dumps(output["Value"])
        for output in DOCUMENT["Outputs"].values()
        if "Export" in output
    }
    parameters = {
        resource["Properties"]["Name"]["Fn::Sub"]: json.dumps(resource["Properties"]["Value"])
        for resource in DOCUMENT["Resources"].values()
        if resource["Type"] == "AWS::SSM::Parameter"
    }

    offered = {"api-url", "start-machines-policy-arn"}
    offered |= {f"{saga.replace('_', '-')}{express}-arn" for saga in SAGAS for express in ("", "-express")}
    assert exported.keys() == {f"agent-schedules:${{NamePrefix}}{name}" for name in offered}
    assert parameters == {f"/{name.replace(':', '/')}": value for name, value in exported.items()}
