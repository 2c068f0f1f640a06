"""A rehearsal of the deployment: what `sam build` made is deployed with `sam deploy` into an emulator of AWS, and used.

The tests run in the order of this file, each on what the ones before it have left: they are the life of one stack, from
the refused parameters to its deletion. The functions run in Lambda's containers. They reach the laptop stack's engines
through TLS and mutual TLS with a private authority, with credentials from the emulator's Secrets Manager.

A rehearsal that passes is evidence for packaging, Rules, the functions' permissions, TLS, secrets and JWT. NOT_SHOWN
lists what it is no evidence for.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.rehearsal import scene
from tests.rehearsal.account import STACK, Account
from tests.rehearsal.emulator import containers
from tests.rehearsal.issuer import new_key
from tests.rehearsal.scene import Meeting
from tests.support.api import eventually
from tools.sam_build.build import byte_code

KINDS = pytest.mark.parametrize("kind", ["", "Express"], ids=["standard", "express"])

# What each error of a create meets, and what SpiceDB holds afterwards.
REGISTERED = {"owner", "parent_agent", "registered_by"}
ERRORS: dict[str, tuple[Meeting, set[str]]] = {
    "InvalidRequest": (scene.bad_id, set()),
    "AgentUpdateDenied": (scene.stranger, set()),
    "ScheduleAlreadyExists": (scene.taken, REGISTERED),
    "IdempotencyKeyReused": (scene.used_key, REGISTERED),
    "CreateInProgress": (scene.leased, {"registered_by", "parent_agent", "creating"}),
    "ScheduleRejected": (scene.bad_cron, set()),
    "ScheduleNotFound": (scene.deleted_meanwhile, set()),
    "AuthorizationUnavailable": (scene.no_spicedb, set()),
    "TemporalUnavailable": (scene.no_temporal, set()),
    "CompensationFailed": (scene.no_way_back, {*REGISTERED, "creating"}),
    "OutcomeUnknown": (scene.lost_from_sight, REGISTERED),
}

NOT_SHOWN = {
    "alarms of metric math": "the emulator refuses them: they are not deployed",
    "metric filters": "the emulator stores them and counts nothing",
    "roles of the state machines": "the emulator starts their functions without them",
    "permission of the HTTP API to start its function": "the emulator starts it without",
    "permission of the functions to write logs": "the emulator writes their lines by itself",
    "logs of the state machines and of the HTTP API": "the emulator writes none",
    "import of the HTTP API's definition": "the emulator ignores the Body: put_routes makes the routes that it has",
    "throttling of the HTTP API": "the emulator has none",
    "the reconciler's schedule": "it would start in hours; the machine is started by hand",
    "a VPC, KMS keys, X-Ray": "the emulator's containers have none of them",
    "NameReserved": "it needs Temporal's other scheduler: tests/api/test_switch.py",
}


@pytest.fixture(autouse=True)
def no_faults(account: Account) -> Iterator[None]:
    """Each test begins and ends with engines that work."""
    account.engines.spicedb.clear()
    account.engines.temporal.clear()
    yield
    account.engines.spicedb.clear()
    account.engines.temporal.clear()


# --- deploying ---


@pytest.mark.parametrize(
    ("parameter", "value", "sentence"),
    [
        ("SpiceDBTls", "false", "Every call to SpiceDB carries its token, so SpiceDBTls must be true"),
        ("TemporalTls", "false", "TemporalApiKeySecretArn or TemporalTlsSecretArn is given, so TemporalTls must be"),
        ("SpiceDBTokenSecretArn", "plain:local", "the full ARN of a Secrets Manager secret"),
    ],
)
def test_a_bad_parameter_is_refused_with_its_sentence(
    account: Account, parameter: str, value: str, sentence: str
) -> None:
    printed = account.deploy(checked=False, fails=True, **{parameter: value})

    assert sentence in " ".join(printed.split())


def test_the_stack_is_deployed_as_make_deploy_does(account: Account) -> None:
    account.deploy()
    account.put_routes()
    account.warm()

    assert set(account.outputs()) >= {"ApiUrl", "CreateScheduleStateMachineArn", "StartMachinesPolicyArn"}


# --- a service that starts the machines ---


@KINDS
def test_a_schedule_is_created_and_deleted(account: Account, kind: str) -> None:
    name = f"daily{kind.lower()}"

    created = account.run(f"CreateSchedule{kind}", account.request(name))
    registered = scene.held(account, name)
    deleted = account.run(f"DeleteSchedule{kind}", {"agent_id": account.agent, "schedule_name": name})

    assert (created.status, created.output["outcome"], created.output["read_back"]) == ("SUCCEEDED", "created", True)
    assert registered == REGISTERED
    assert (deleted.status, deleted.output["deregistered"]) == ("SUCCEEDED", True)
    assert scene.held(account, name) == set()


@KINDS
@pytest.mark.parametrize("error", ERRORS)
def test_a_create_that_fails_ends_with_its_error(account: Account, error: str, kind: str) -> None:
    meet, left = ERRORS[error]
    name = f"{error.lower()}{kind.lower()}"
    request = meet(account, name)

    failed = account.run(f"CreateSchedule{kind}", request)

    assert (failed.status, failed.error) == ("FAILED", error), failed.cause
    assert scene.held(account, name) == left


@KINDS
@pytest.mark.parametrize("error", ["InvalidRequest", "TemporalUnavailable"])
def test_a_delete_that_fails_ends_with_its_error(account: Account, error: str, kind: str) -> None:
    meet, _ = ERRORS[error]
    request = {"agent_id": meet(account, "daily")["agent_id"], "schedule_name": "daily"}

    failed = account.run(f"DeleteSchedule{kind}", request)

    assert (failed.status, failed.error) == ("FAILED", error), failed.cause


def test_the_reconciler_finds_and_repairs_what_a_deletion_by_hand_left(account: Account) -> None:
    assert account.run("CreateSchedule", account.request("orphaned")).status == "SUCCEEDED"
    scene.delete_by_hand(account, "orphaned")
    request = {"schedule_id": f"{account.agent}--orphaned"}

    found = account.run("ReconcileSchedules", request)
    before = scene.held(account, "orphaned")
    repaired = account.run("ReconcileSchedules", {**request, "mode": "repair"})

    assert (found.status, repaired.status) == ("SUCCEEDED", "SUCCEEDED"), (found, repaired)
    assert before == REGISTERED
    assert scene.held(account, "orphaned") == set()


# --- a caller of the HTTP API ---


def test_a_caller_uses_every_route(account: Account) -> None:
    token = account.issuer.token()
    body = account.request("hourly")["schedule"]

    steps = [
        account.call("POST", "", body, token),
        account.call("GET", "", None, token),
        account.call("GET", "/hourly", None, token),
        account.call("POST", "/hourly/pause", {}, token),
        account.call("POST", "/hourly/unpause", {}, token),
        account.call("POST", "/hourly/trigger", {}, token),
        account.call("DELETE", "/hourly", None, token),
        account.call("GET", "/hourly", None, token),
        account.call("GET", "//openapi.json"),
    ]

    assert [status for status, _ in steps] == [201, 200, 200, 200, 200, 200, 200, 404, 200], steps


def test_an_error_of_a_machine_is_a_problem_for_its_caller(account: Account) -> None:
    token, body = account.issuer.token(), account.request("twice")["schedule"]
    account.call("POST", "", body, token)

    assert account.call("POST", "", {**body, "workflow_name": "Other"}, token)[0] == 409
    assert account.call("POST", "", body, account.issuer.token("bob"))[0] == 403
    assert account.call("GET", "/twice", None, account.issuer.token("bob"))[0] == 404
    assert account.call("POST", "", {**body, "name": "Twice"}, token)[0] == 422


def test_only_a_token_of_the_issuer_for_this_api_gets_in(account: Account) -> None:
    issue, now = account.issuer.token, int(time.time())
    bad = {
        "no token": None,
        "no JWT": "a.b",
        "another key": issue(key=new_key()),
        "another issuer": issue(iss="https://other.example.com/"),
        "another audience": issue(aud="another"),
        "expired": issue(exp=now - 60),
        "not yet valid": issue(nbf=now + 600),
        "unsigned": issue().rpartition(".")[0] + ".",
    }

    assert {why: account.call("GET", "", None, token)[0] for why, token in bad.items()} == dict.fromkeys(bad, 401)
    assert account.call("GET", "", None, issue())[0] == 200


# --- credentials and permissions ---


@pytest.mark.parametrize(
    ("engine", "secret", "error"),
    [("spicedb", "spicedb-token", "CompensationFailed"), ("temporal", "temporal-key", "TemporalUnavailable")],
)
def test_a_rotated_secret_needs_no_deployment(account: Account, engine: str, secret: str, error: str) -> None:
    request = account.request(f"rotated-{engine}")
    running = set(containers(account.emulator))
    new = getattr(account.engines, engine).rotate()

    refused = account.run("CreateSchedule", request)
    account.secret(secret, new)
    # A function does not read a secret again that it has read in the last few seconds.
    created = eventually(lambda: account.run("CreateSchedule", request), lambda ended: ended.error != error)
    listed = [account.call("GET", "", None, account.issuer.token())[0] for _ in range(2)]

    assert (refused.status, refused.error) == ("FAILED", error), refused.cause
    assert (created.status, created.error) == ("SUCCEEDED", None), created.cause
    assert listed == [503, 200], "the API reads the secret at its next try"
    assert set(containers(account.emulator)) == running


def test_a_function_reads_only_the_secrets_that_its_role_allows(account: Account) -> None:
    request = account.request("without-policy")
    account.secret("spicedb-token", account.engines.spicedb.rotate())

    with _detached(account, "SpiceDBRole", "SpiceDBSecretsPolicy"):
        denied = account.run("CreateSchedule", request)
    allowed = account.run("CreateSchedule", request)

    assert (denied.status, denied.error) == ("FAILED", "CompensationFailed")
    assert "Secrets Manager refuses the secret of SPICEDB_TOKEN_SECRET" in (denied.cause or "")
    assert allowed.status == "SUCCEEDED", allowed.cause


def test_the_api_starts_only_the_machines_that_its_role_allows(account: Account) -> None:
    iam, role = account.client("iam"), account.resources("AWS::IAM::Role")["ApiRole"]
    policy = {"RoleName": role, "PolicyName": "express-machines"}
    document = iam.get_role_policy(**policy)["PolicyDocument"]
    body, token = account.request("by-api")["schedule"], account.issuer.token()

    iam.delete_role_policy(**policy)
    denied = account.call("POST", "", body, token)
    iam.put_role_policy(**policy, PolicyDocument=json.dumps(document))

    assert denied[0] == 503, denied
    assert account.call("POST", "", body, token)[0] == 201


# --- operating ---


def test_sam_shows_what_is_deployed_and_what_it_does(account: Account) -> None:
    listed = json.loads(_json_of(account.sam("list", "resources", "--output", "json")))
    outputs = json.loads(_json_of(account.sam("list", "stack-outputs", "--output", "json")))
    endpoints = account.sam("list", "endpoints", "--output", "json")
    invoked = account.sam("remote", "invoke", "RegisterFunction", "--event-file", "events/register.json")
    logs = account.sam("logs", "--name", "RegisterFunction")

    assert {"RegisterFunction", "HttpApi"} <= {entry["LogicalResourceId"] for entry in listed}
    assert {entry["OutputKey"] for entry in outputs} == set(account.outputs())
    assert account.api_id() in endpoints
    assert '"outcome"' in invoked
    assert "step done" in logs


def test_an_update_of_a_definition_and_a_function_is_in_use_at_once(account: Account) -> None:
    _insert_state(account, "Rehearsed")
    handler = account.build / "RegisterFunction" / "app.py"
    handler.write_text(handler.read_text() + '\nprint("the second build")\n')
    byte_code(handler).unlink()  # which Python would use unchecked

    account.deploy()
    account.warm()
    created = account.run("CreateSchedule", account.request("updated"))

    assert created.status == "SUCCEEDED", created.cause
    assert "Rehearsed" in _states(account)
    assert account.function_logs('"the second build"')


def test_a_changed_parameter_reaches_the_function_that_it_is_for(account: Account) -> None:
    assert account.run("CreateSchedule", account.request("newer-memo")).status == "SUCCEEDED"

    account.deploy(MemoVersion="1")
    account.warm()

    created = account.run("CreateSchedule", account.request("older-memo"))

    assert created.status == "SUCCEEDED", created.cause
    assert scene.memo(account, "newer-memo")["version"] == 2
    assert "version" not in scene.memo(account, "older-memo"), "as release 0.1 writes them"


@pytest.mark.parametrize("what", NOT_SHOWN)
def test_what_the_emulator_cannot_show(what: str) -> None:
    pytest.skip(f"{what}: {NOT_SHOWN[what]}")


# --- the end ---


def test_the_stack_is_deleted_and_leaves_nothing(account: Account) -> None:
    account.sam("delete", "--no-prompts")

    assert _left(account) == {}


def _left(account: Account) -> dict[str, list[str]]:
    """What the account has of a deployment, by service. SAM's own bucket and the engines' secrets are not of it."""
    client = account.client
    found = {
        "functions": [f["FunctionName"] for f in client("lambda").list_functions()["Functions"]],
        "layers": [layer["LayerName"] for layer in client("lambda").list_layers()["Layers"]],
        "machines": [m["name"] for m in client("stepfunctions").list_state_machines()["stateMachines"]],
        "apis": [api["Name"] for api in client("apigatewayv2").get_apis()["Items"]],
        "roles": [r["RoleName"] for r in client("iam").list_roles()["Roles"] if STACK in r["RoleName"]],
        "policies": [p["PolicyName"] for p in client("iam").list_policies(Scope="Local")["Policies"]],
        "log groups": [g["logGroupName"] for g in client("logs").describe_log_groups()["logGroups"]],
        "alarms": [a["AlarmName"] for a in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "schedules": [s["Name"] for s in client("scheduler").list_schedules()["Schedules"]],
        "secrets": [
            secret["Name"]
            for secret in client("secretsmanager").list_secrets()["SecretList"]
            if secret["ARN"] not in account.parameters.values()
        ],
        "stacks": [
            stack["StackName"]
            for stack in client("cloudformation").describe_stacks()["Stacks"]
            if stack["StackName"] == STACK and stack["StackStatus"] != "DELETE_COMPLETE"
        ],
    }
    return {what: names for what, names in found.items() if names}


@contextmanager
def _detached(account: Account, role: str, policy: str) -> Iterator[None]:
    """Take a managed policy away from a role while the block lasts."""
    iam = account.client("iam")
    names = {
        "RoleName": account.resources("AWS::IAM::Role")[role],
        "PolicyArn": account.resources("AWS::IAM::ManagedPolicy")[policy],
    }
    iam.detach_role_policy(**names)
    try:
        yield
    finally:
        iam.attach_role_policy(**names)


def _insert_state(account: Account, name: str) -> None:
    """Let the built definition of a create begin with a state more."""
    path = account.build / "statemachine" / "create_schedule.asl.json"
    definition = json.loads(path.read_text())
    definition["States"][name] = {"Type": "Pass", "Next": definition["StartAt"]}
    definition["StartAt"] = name
    path.write_text(json.dumps(definition))


def _states(account: Account) -> list[str]:
    """The states that the latest execution of a create entered."""
    steps: Any = account.client("stepfunctions")
    arn = account.outputs()["CreateScheduleStateMachineArn"]
    [latest] = steps.list_executions(stateMachineArn=arn, maxResults=1)["executions"]
    events = steps.get_execution_history(executionArn=latest["executionArn"], maxResults=1000)["events"]
    return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]


def _json_of(printed: str) -> str:
    """The JSON document in what SAM prints."""
    return printed[printed.index("[") : printed.rindex("]") + 1]
