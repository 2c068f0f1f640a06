"""The emulated account with the deployed stack, as an operator, a service and a caller of the HTTP API use it."""

import http.client
import json
import os
import subprocess
import sys
import time
import tomllib
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from local.aws.template import Template
from local.docker.image import ARCHITECTURE
from local.stack.endpoints import NAMESPACE, REGION
from local.stack.process import HOST
from tests.rehearsal.adapted import adapt
from tests.rehearsal.emulator import ACCOUNT, ROOT, ROOT_KEY, Emulator
from tests.rehearsal.engines import SPICEDB_HOST, TEMPORAL_HOST, Engines
from tests.rehearsal.issuer import AUDIENCE, Issuer
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

ENVIRONMENT = "dev"  # of samconfig.toml
_SHIPPED: dict[str, Any] = tomllib.loads((ROOT / "samconfig.toml").read_text())[ENVIRONMENT]
STACK: str = _SHIPPED["global"]["parameters"]["stack_name"]
PREFIX = "dev-"
SAM = ROOT / ".tools" / "bin" / "sam"
SAM_SECONDS = 240
END_SECONDS = 120
WARM_ATTEMPTS = 5
_NOT_WARM = ("Sandbox.Timedout", "Runtime.ExitError", "Runtime.DockerError")


@dataclass(frozen=True)
class Ended:
    """An execution that is over. `output` is decoded; None unless it succeeded."""

    status: str
    output: Any
    error: str | None
    cause: str | None


@dataclass
class Account:
    """The account.

    Attributes:
        parameters: those of the deployed stack.
        left_out: what was taken out of the template, with the reasons.
        agent: the agent whose schedules the rehearsal creates; alice owns it.
    """

    emulator: Emulator
    engines: Engines
    issuer: Issuer
    build: Path
    parameters: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    agent: str = "weather-agent"

    # --- the operator ---

    def sam(self, *arguments: str, fails: bool = False) -> str:
        """What the SAM CLI prints, with the options of samconfig.toml's `dev`. It fails if `fails` says so."""
        where = ["--config-file", str(self.configuration), "--config-env", ENVIRONMENT]
        return self._called([str(SAM), *arguments, *where], fails)

    def deploy(self, *, checked: bool = True, fails: bool = False, **changes: str) -> str:
        """Deploy what is built, with these parameters changed, as `make deploy ENV=dev` does. Returns what is printed.

        SAM is called alone, and nothing is checked before, if `checked` is false.
        """
        parameters = {**self.parameters, **changes}
        self._configure(parameters)
        template = ["--template-file", str(self.build / "template.yaml")]
        quietly = ["--no-confirm-changeset", "--no-progressbar"]
        if checked:
            where = ["--config-file", str(self.configuration), "--env", ENVIRONMENT]
            program = [sys.executable, "-m", "tools.deployment", "deploy", *where, *template, "--"]
            printed = self._called([*program, *quietly], fails)
        else:
            printed = self.sam("deploy", *template, *quietly, fails=fails)
        if not fails:
            self.parameters = parameters
        return printed

    @property
    def configuration(self) -> Path:
        """The samconfig.toml of the rehearsal: the one that is shipped, with the parameters of the account."""
        return self.build / "samconfig.toml"

    def _configure(self, parameters: dict[str, str]) -> None:
        overrides = {"parameter_overrides": [f"{name}={value}" for name, value in parameters.items()]}
        lines = ["version = 0.1"]
        for command, section in _SHIPPED.items():
            settings = section["parameters"] | (overrides if command == "global" else {})
            lines += [f"[{ENVIRONMENT}.{command}.parameters]"]
            # A text, a truth value and a list of texts are written in TOML as in JSON.
            lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.configuration.write_text("\n".join(lines) + "\n")

    def _called(self, command: list[str], fails: bool) -> str:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **self.emulator.environment(), "SAM_CLI_TELEMETRY": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SAM_SECONDS,
        )
        printed = ended.stdout + ended.stderr
        assert (ended.returncode != 0) == fails, printed
        return printed

    def client(self, service: str) -> Any:
        """A client of one of AWS's services, as the root user."""
        return _client(service, self.emulator.url)

    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        [stack] = self.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def resources(self, kind: str) -> dict[str, str]:
        """The physical ids of the stack's resources of a type, by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=STACK)
        entries = [entry for page in pages for entry in page["StackResourceSummaries"]]
        return {e["LogicalResourceId"]: e["PhysicalResourceId"] for e in entries if e["ResourceType"] == kind}

    def secret(self, name: str, value: str) -> str:
        """Store a secret, or its new value. Returns the secret's ARN."""
        secrets = self.client("secretsmanager")
        held = {entry["Name"]: entry["ARN"] for entry in secrets.list_secrets()["SecretList"]}
        if name in held:
            return str(secrets.put_secret_value(SecretId=held[name], SecretString=value)["ARN"])
        return str(secrets.create_secret(Name=name, SecretString=value)["ARN"])

    def put_routes(self) -> None:
        """Give the deployed HTTP API the routes of the template, which the emulator does not import.

        They are read from the template as the laptop stack reads it.
        """
        gateway = self.client("apigatewayv2")
        [api] = Template(ROOT / "template.yaml", self.parameters).http_apis
        api_id = self.api_id()
        authorizers, integrations = dict[str, str](), dict[str, str]()
        for route in api.routes:
            function = route.function.logical_id
            if function not in integrations:
                arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function(function)}"
                created = gateway.create_integration(
                    ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
                )
                integrations[function] = created["IntegrationId"]
            authorization: dict[str, Any] = {}
            if jwt := route.authorizer:
                if jwt.name not in authorizers:
                    created = gateway.create_authorizer(
                        ApiId=api_id,
                        Name=jwt.name,
                        AuthorizerType="JWT",
                        IdentitySource=[f"$request.header.{jwt.header}"],
                        JwtConfiguration={"Issuer": jwt.issuer, "Audience": list(jwt.audience)},
                    )
                    authorizers[jwt.name] = created["AuthorizerId"]
                authorization = {"AuthorizationType": "JWT", "AuthorizerId": authorizers[jwt.name]}
            target = f"integrations/{integrations[function]}"
            gateway.create_route(ApiId=api_id, RouteKey=route.key, Target=target, **authorization)

    def warm(self) -> None:
        """Start a container of every function that has none.

        The emulator counts the start of a container as a part of the function's time, which AWS does not.
        """
        for logical_id in self.resources("AWS::Lambda::Function"):
            name = self.function(logical_id)
            for attempt in range(1, WARM_ATTEMPTS + 1):
                answer = self.client("lambda").invoke(FunctionName=name, Payload=b"{}")
                payload = json.load(answer["Payload"])
                if isinstance(payload, dict) and payload.get("errorType") not in _NOT_WARM:
                    break
                assert attempt < WARM_ATTEMPTS, f"{name} does not start: {payload}"

    def function(self, logical_id: str) -> str:
        """The name by which a function is called: with its alias, if the template gives it one."""
        name = self.resources("AWS::Lambda::Function")[logical_id]
        aliases = self.client("lambda").list_aliases(FunctionName=name)["Aliases"]
        return f"{name}:{aliases[0]['Name']}" if aliases else name

    def function_logs(self, pattern: str) -> list[str]:
        """The lines of the functions that have the pattern, from the beginning."""
        group = f"/aws/lambda/{PREFIX}agent-schedule-functions"
        found = self.client("logs").filter_log_events(logGroupName=group, filterPattern=pattern)
        return [event["message"] for event in found["events"]]

    def api_id(self) -> str:
        """The id of the HTTP API."""
        [api_id] = self.resources("AWS::ApiGatewayV2::Api").values()
        return api_id

    # --- a service that starts the machines ---

    def request(self, name: str, **changes: Any) -> dict[str, Any]:
        """A create request of alice, who owns the agent."""
        schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
        return {"agent_id": self.agent, "principal": {"user_id": "alice"}, "schedule": {**schedule, **changes}}

    def run(self, machine: str, request: object) -> Ended:
        """Run an execution of a machine: Express ones synchronously, as their callers do."""
        steps: SFNClient = self.client("stepfunctions")
        arn = self.outputs()[f"{machine}StateMachineArn"]
        text, name = json.dumps(request), str(uuid.uuid4())
        ended: Any
        if "Express" in machine:
            ended = steps.start_sync_execution(stateMachineArn=arn, input=text, name=name)
        else:
            execution = steps.start_execution(stateMachineArn=arn, input=text, name=name)["executionArn"]
            ended = steps.describe_execution(executionArn=execution)
            deadline = time.monotonic() + END_SECONDS
            while ended["status"] == "RUNNING":
                assert time.monotonic() < deadline, f"{execution} does not end"
                time.sleep(0.1)
                ended = steps.describe_execution(executionArn=execution)
        output = json.loads(ended["output"]) if ended.get("output") else None
        return Ended(ended["status"], output, ended.get("error"), ended.get("cause"))

    # --- a caller of the HTTP API ---

    def call(
        self, method: str, path: str = "", body: object = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """The status and the decoded body of a response. `path` follows the agent's schedules, unless it begins so."""
        full = path if path.startswith("//") else f"/agents/{self.agent}/schedules{path}"
        sent = {"Host": f"{self.api_id()}.execute-api.localhost:{self.emulator.port}", **headers}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        text = None
        if body is not None:
            text, sent["Content-Type"] = json.dumps(body), "application/json"
        connection = http.client.HTTPConnection(HOST, self.emulator.port, timeout=60)
        connection.request(method, full.replace("//", "/"), text, sent)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if content else None


def prepared(account: Account, authority: Authority) -> Account:
    """Adapt what was built, and store what the functions need: the secrets, and the parameters that name them."""
    account.left_out = adapt(account.build / "template.yaml")
    engines, client = account.engines, account.engines.client
    tls = {
        "server_root_ca_cert": authority.pem,
        "client_cert": client.certificate,
        "client_private_key": client.key,
    }
    account.parameters = {
        "NamePrefix": PREFIX,
        "Architecture": ARCHITECTURE,
        "LogLevel": "DEBUG",
        "SpiceDBEndpoint": f"{SPICEDB_HOST}:{engines.direct.spicedb_port}",
        "SpiceDBTokenSecretArn": account.secret("spicedb-token", engines.spicedb.key),
        "SpiceDBCaSecretArn": account.secret("spicedb-ca", authority.pem),
        "TemporalAddress": f"{TEMPORAL_HOST}:{engines.direct.temporal_port}",
        "TemporalNamespace": NAMESPACE,
        "TemporalApiKeySecretArn": account.secret("temporal-key", engines.temporal.key),
        "TemporalTlsSecretArn": account.secret("temporal-tls", json.dumps(tls)),
        "JwtIssuer": account.issuer.url,
        "JwtAudience": AUDIENCE,
    }
    return account


@cache
def _client(service: str, url: str) -> Any:
    make: Any = boto3.client  # its stubs know only some services
    return make(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ROOT_KEY,
        aws_secret_access_key=ROOT_KEY,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=330, proxies={}),
    )
