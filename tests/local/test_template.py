"""template.yaml as the laptop reads it. Each test writes the smallest template that shows its point."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from local.aws.intrinsics import TemplateError
from local.aws.resources import Authorizer, Cors, Route
from local.aws.template import Template

PROJECT_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"

SAMPLE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Prefix: {Type: String, Default: ""}
  Address: {Type: String}
  Tls: {Type: String, Default: "true", AllowedValues: ["true", "false"]}
  Subnets: {Type: CommaDelimitedList, Default: "a,b"}
Conditions:
  HasPrefix: !Not [!Equals [!Ref Prefix, ""]]
  Plain: !And [!Not [!Condition HasPrefix], !Equals [!Ref Tls, "false"]]
  Either: !Or [!Condition HasPrefix, !Condition Plain]
Globals:
  Function:
    Handler: app.handler
    Timeout: 8
    MemorySize: 512
    Layers: [shared]
    LoggingConfig: {LogGroup: !Ref Table, LogFormat: Text}
    Environment:
      Variables: {SHARED: !Ref Address, LEVEL: INFO, RETRIES: 3, DEBUG: true}
Resources:
  WorkFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${Prefix}work
      CodeUri: code/work
      Timeout: 5
      Layers: [own]
      LoggingConfig: {LogFormat: JSON}
      Environment:
        Variables:
          LEVEL: DEBUG
          JOINED: !Join ["|", !Ref Subnets]
          TABLE: !GetAtt Table.StreamArn
          SUBSTITUTED: !Sub ["${one}:${Address}:${!literal}:${AWS::Region}:${Table.Arn}", {one: 1}]
          CHOSEN: !If [HasPrefix, !Ref Prefix, none]
          LEFT_OUT: !If [HasPrefix, set, !Ref AWS::NoValue]
      Events:
        Timer: {Type: Schedule, Properties: {Schedule: rate(1 hour)}}
        Rest: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: ANY, Path: $default}}
        Read: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: get, Path: "/things/{thing}"}}
        Open: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /open, Auth: {Authorizer: NONE}}}
  PlainFunction:
    Type: AWS::Serverless::Function
    Condition: Plain
    Properties: {CodeUri: code/work}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Jwt
        Authorizers:
          Jwt:
            IdentitySource: $request.header.X-Token
            JwtConfiguration: {issuer: !Sub "https://${Address}/", audience: !Ref Subnets}
      AccessLogSettings: {DestinationArn: !GetAtt Table.Arn, Format: $context.requestId}
  Table:
    Type: AWS::DynamoDB::Table
    DependsOn: WorkFunction
    Properties: {TableName: !Sub "${Prefix}table"}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: !Sub ${Prefix}machine
      Type: EXPRESS
      DefinitionUri: machine.asl.json
      DefinitionSubstitutions:
        WorkFunctionArn: !GetAtt WorkFunction.Arn
        Seconds: 4
Outputs:
  MachineArn: {Value: !Ref Machine}
"""
MACHINE = '{"StartAt": "A", "States": {"A": {"Type": "Fail", "Error": "${WorkFunctionArn}", "Cause": "${Seconds}"}}}'

Load = Callable[..., Template]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write the sample, with some of its text replaced, and read it."""
    code = tmp_path / "code" / "work"
    code.mkdir(parents=True)
    (code / "app.py").write_text("def handler(event, context): ...")

    def write(
        *replacements: tuple[str, str], machine: str = MACHINE, parameters: Mapping[str, str] | None = None
    ) -> Template:
        text = SAMPLE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "template.yaml").write_text(text)
        (tmp_path / "machine.asl.json").write_text(machine)
        return Template(tmp_path / "template.yaml", {"Address": "host:1", **(parameters or {})})

    return write


def test_a_function_has_its_name_arn_code_and_limits(load: Load, tmp_path: Path) -> None:
    (function,) = load().functions

    assert function.logical_id == "WorkFunction"
    assert function.name == "work"
    assert function.arn == "arn:aws:lambda:us-east-1:123456789012:function:work"
    assert function.code == tmp_path / "code" / "work"
    assert (function.module, function.handler) == ("code.work.app", "app.handler")
    assert (function.timeout, function.memory) == (5, 512)


def test_a_functions_own_variables_override_those_of_globals(load: Load) -> None:
    (function,) = load().functions

    assert function.environment == {
        "SHARED": "host:1",
        "LEVEL": "DEBUG",
        "RETRIES": "3",
        "DEBUG": "true",
        "JOINED": "a|b",
        "TABLE": "Table.StreamArn",
        "SUBSTITUTED": "1:host:1:${literal}:us-east-1:Table.Arn",
        "CHOSEN": "none",
    }


def test_parameters_decide_names_and_conditions(load: Load) -> None:
    with_prefix = load(parameters={"Prefix": "dev-"})
    plain = load(parameters={"Tls": "false"})

    (function,) = with_prefix.functions
    assert (function.name, function.environment["CHOSEN"], function.environment["LEFT_OUT"]) == (
        "dev-work",
        "dev-",
        "set",
    )
    assert [function.logical_id for function in plain.functions] == ["WorkFunction", "PlainFunction"]


def test_a_function_without_a_name_has_its_logical_id_as_name_and_lambdas_defaults(load: Load) -> None:
    function = load(("    Timeout: 8\n    MemorySize: 512\n", ""), parameters={"Tls": "false"}).functions[1]

    assert (function.name, function.timeout, function.memory) == ("PlainFunction", 3, 128)


PUBLISHED = (
    ("    Handler: app.handler", "    Handler: app.handler\n    AutoPublishAlias: live"),
    ("      Type: EXPRESS", "      Type: EXPRESS\n      AutoPublishAlias: live"),
)


@pytest.mark.parametrize(
    ("reference", "arn"),
    [
        ("!Ref WorkFunction.Version", "arn:aws:lambda:us-east-1:123456789012:function:work:1"),
        ("!Ref WorkFunction.Alias", "arn:aws:lambda:us-east-1:123456789012:function:work:live"),
        ("!Ref MachineAliaslive", "arn:aws:states:us-east-1:123456789012:stateMachine:machine:live"),
    ],
)
def test_the_versions_and_aliases_that_sam_publishes_can_be_referred_to(load: Load, reference: str, arn: str) -> None:
    template = load(*PUBLISHED, ("{Value: !Ref Machine}", f"{{Value: {reference}}}"))

    assert template.outputs() == {"MachineArn": arn}
    assert [machine.alias for machine in template.state_machines] == ["live"]
    name = reference.removeprefix("!Ref ")
    with pytest.raises(TemplateError, match=f"MachineArn: nothing in the template is called {re.escape(name)}"):
        load(("{Value: !Ref Machine}", f"{{Value: {reference}}}"))


def test_the_definition_of_a_state_machine_has_everything_substituted(load: Load) -> None:
    (machine,) = load().state_machines

    assert (machine.logical_id, machine.name, machine.type) == ("Machine", "machine", "EXPRESS")
    assert machine.arn == "arn:aws:states:us-east-1:123456789012:stateMachine:machine"
    assert json.loads(machine.definition)["States"]["A"] == {
        "Type": "Fail",
        "Error": "arn:aws:lambda:us-east-1:123456789012:function:work",
        "Cause": "4",
    }


def test_an_http_api_has_its_routes_and_their_authorizers(load: Load) -> None:
    template = load()

    (api,) = template.http_apis
    assert (api.logical_id, api.access_log_format) == ("Api", "$context.requestId")
    jwt = Authorizer("Jwt", header="x-token", issuer="https://host:1/", audience=("a", "b"))
    (function,) = template.functions
    assert api.routes == (
        Route("ANY", "$default", function, jwt),
        Route("GET", "/things/{thing}", function, jwt),
        Route("GET", "/open", function, None),
    )
    assert [(route.key, route.segments) for route in api.routes] == [
        ("$default", ()),
        ("GET /things/{thing}", ("things", "{thing}")),
        ("GET /open", ("open",)),
    ]


def test_the_properties_of_every_type_are_resolved(load: Load) -> None:
    assert load(parameters={"Prefix": "dev-"}).properties("AWS::DynamoDB::Table") == {
        "Table": {"TableName": "dev-table"}
    }


def test_the_properties_of_a_function_include_globals(load: Load) -> None:
    """SAM's rules: own scalars override, mappings are merged by key, lists are concatenated."""
    properties = load().properties("AWS::Serverless::Function")["WorkFunction"]

    assert properties["Handler"] == "app.handler"
    assert properties["Timeout"] == 5
    assert properties["LoggingConfig"] == {"LogGroup": "Table", "LogFormat": "JSON"}
    assert properties["Layers"] == ["shared", "own"]
    assert properties["Environment"]["Variables"].items() >= {"SHARED": "host:1", "LEVEL": "DEBUG"}.items()


def test_a_route_has_the_scopes_of_its_authorizer_or_its_own(load: Load) -> None:
    scoped = load(
        ("IdentitySource:", "AuthorizationScopes: [!Ref Address, !Ref AWS::NoValue]\n            IdentitySource:"),
        ('Path: "/things/{thing}"', 'Path: "/things/{thing}", Auth: {AuthorizationScopes: [c, d]}'),
    )

    (api,) = scoped.http_apis
    assert {route.key: route.scopes for route in api.routes} == {
        "$default": ("host:1",),
        "GET /things/{thing}": ("c", "d"),
        "GET /open": (),
    }


def test_an_http_api_has_its_cors_configuration(load: Load) -> None:
    settings = (
        "{AllowOrigins: !Ref Subnets, AllowMethods: [GET], AllowHeaders: [x-a], ExposeHeaders: [x-b], MaxAge: 60, "
        "AllowCredentials: !If [HasPrefix, true, false]}"
    )
    replaced = ("      Auth:\n", f"      CorsConfiguration: {settings}\n      Auth:\n")

    (without,) = load(replaced).http_apis
    (with_credentials,) = load(replaced, parameters={"Prefix": "dev-"}).http_apis
    assert without.cors == Cors(("a", "b"), ("GET",), ("x-a",), ("x-b",), 60)
    assert with_credentials.cors == replace(without.cors, credentials=True)
    assert load().http_apis[0].cors is None


def test_a_path_parameter_may_have_another_name_on_another_path(load: Load) -> None:
    (api,) = load(("Path: /open", 'Path: "/others/{other}"')).http_apis

    assert api.routes[2].segments == ("others", "{other}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("!GetAtt Table.StreamArn", "!GetAtt Tabel.Arn", "WorkFunction: nothing in the template is called Tabel"),
        ("!GetAtt WorkFunction.Arn", "!GetAtt WorkFunction.Name", "Machine: WorkFunction has no attribute Name"),
        ("SHARED: !Ref Address", "SHARED: !Ref Adress", "Globals: nothing in the template is called Adress"),
        ("!Sub ${Prefix}work", "!Sub ${Prefiks}work", "WorkFunction: nothing in the template is called Prefiks"),
        ("${Table.Arn}", "${Tabel.Arn}", "WorkFunction: nothing in the template is called Tabel"),
        ("Condition: Plain", "Condition: Plane", "PlainFunction: nothing in the template is called Plane"),
        ("!If [HasPrefix, set", "!If [HasPrefx, set", "WorkFunction: nothing in the template is called HasPrefx"),
        ("!Condition Plain]", "!Condition Plane]", "Either: nothing in the template is called Plane"),
        ("DependsOn: WorkFunction", "DependsOn: Work", "Table: nothing in the template is called Work"),
        ("{Value: !Ref Machine}", "{Value: !Ref Engine}", "MachineArn: nothing in the template is called Engine"),
        ("CodeUri: code/work\n", "CodeUri: code/wrok\n", "WorkFunction: Handler app.handler needs code/wrok/app.py"),
        ("Handler: app.handler", "Handler: ap.handler", "WorkFunction: Handler ap.handler needs code/work/ap.py"),
        ("    Handler: app.handler\n", "", "WorkFunction: Handler is missing"),
        ("machine.asl.json", "machin.asl.json", "Machine: DefinitionUri machin.asl.json: No such file"),
        ("        Seconds: 4\n", "", "Machine: machine.asl.json has ${Seconds}, which is not among"),
        ("Seconds: 4", "Seconds: 4\n        Unused: 1", "Machine: machine.asl.json has no ${Unused}, which is among"),
        ("LEVEL: DEBUG", "LEVEL: [DEBUG]", "WorkFunction: LEVEL is not a text or a number"),
        ("!Ref Subnets", "!Split [a, b]", "WorkFunction: Fn::Split is not known on the laptop"),
        ("Transform:", "Transform: [", "template.yaml: line "),
        ("DefaultAuthorizer: Jwt", "DefaultAuthorizer: Jot", "Api: DefaultAuthorizer Jot is not one of"),
        ("Authorizer: NONE", "Authorizer: Jot", "WorkFunction: Open: Authorizer Jot is not one of"),
        ("Authorizer: NONE", "OverrideApiAuth: true", "WorkFunction: Open: Auth is more than an Authorizer"),
        ("Authorizer: NONE", "AuthorizationScopes: a", "WorkFunction: Open: AuthorizationScopes is not a list"),
        (
            "Authorizer: NONE",
            "Authorizer: NONE, AuthorizationScopes: [a]",
            "WorkFunction: Open: AuthorizationScopes needs an Authorizer",
        ),
        ("      Auth:\n", "      CorsConfiguration: true\n      Auth:\n", "Api: CorsConfiguration is not a mapping"),
        (
            "      Auth:\n",
            "      CorsConfiguration: {Origins: [a]}\n      Auth:\n",
            "Api: CorsConfiguration: Origins is not known",
        ),
        (
            "      Auth:\n",
            "      CorsConfiguration: {AllowOrigins: a}\n      Auth:\n",
            "Api: CorsConfiguration: AllowOrigins is not a list",
        ),
        (
            "      Auth:\n",
            "      CorsConfiguration: {AllowOrigins: ['https://*'], AllowCredentials: true}\n      Auth:\n",
            "Api: CorsConfiguration: AllowCredentials needs origins without *",
        ),
        ("header.X-Token", "headers.X-Token", "Api: Jwt: IdentitySource $request.headers.X-Token is not"),
        ("{issuer: ", "{Issuer: ", "Api: Jwt: issuer is missing"),
        ("!Ref Subnets}", "a}", "Api: Jwt: audience is not a list"),
        ("!Ref Subnets}", "[]}", "Api: Jwt: an empty issuer or audience would let anybody in"),
        ('!Sub "https://${Address}/"', '" "', "Api: Jwt: an empty issuer or audience would let anybody in"),
        (
            "{ApiId: !Ref Api, Method: get",
            "{ApiId: !Ref Table, Method: get",
            "WorkFunction: Read: ApiId Table is not an HTTP",
        ),
        ("{ApiId: !Ref Api, Method: get", "{Method: get", "WorkFunction: Read: ApiId is missing"),
        ("Method: get", "Method: git", "WorkFunction: Read: GIT is not a method"),
        ("Path: /open", "Path: open", "WorkFunction: Open: Path open does not begin with /"),
        (
            "Path: /open",
            'Path: "/things/{thong}/of"',
            "WorkFunction: Open: {thong} in Path /things/{thong}/of is {thing}",
        ),
        ("Path: /open", 'Path: "/{a}/{a}"', "WorkFunction: Open: Path /{a}/{a} has two parameters of one name"),
        ("Path: /open", 'Path: "/a{b}"', "WorkFunction: Open: a{b} in Path /a{b} is not known"),
        ("Path: /open", 'Path: "/{all+}/a"', "WorkFunction: Open: {all+} in Path /{all+}/a is not its end"),
        ("Path: /open", 'Path: "/{all*}"', "WorkFunction: Open: {all*} in Path /{all*} is not known"),
        ("Path: /open", 'Path: "/things/{thing}"', "WorkFunction: Open: there is another route GET /things/{thing}"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_where_it_is(load: Load, old: str, new: str, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        load((old, new))

    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_definition_that_is_not_json_is_refused(load: Load) -> None:
    with pytest.raises(TemplateError, match=r"^Machine: machine\.asl\.json is not JSON: .*line 1"):
        load(machine=MACHINE.removesuffix("}"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"Adress": "x"}, "Adress: the template has no such parameter"),
        ({"Tls": "yes"}, "Tls: 'yes' is not one of true, false"),
    ],
)
def test_a_wrong_parameter_is_refused(load: Load, parameters: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        load(parameters=parameters)

    assert str(raised.value) == message


def test_a_parameter_without_default_needs_a_value(load: Load, tmp_path: Path) -> None:
    load()

    with pytest.raises(TemplateError, match=r"^Address: this parameter has no default"):
        Template(tmp_path / "template.yaml")


def test_a_file_that_is_missing_or_not_a_template_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"

    with pytest.raises(TemplateError, match=r"^template\.yaml: No such file"):
        Template(path)
    path.write_text("just text")
    with pytest.raises(TemplateError, match=r"^template\.yaml is not a template"):
        Template(path)


def test_functions_share_one_environment_if_they_agree(load: Load) -> None:
    own = "Properties: {CodeUri: code/work, Environment: {Variables: {%s}}}"
    replace = "Properties: {CodeUri: code/work}"

    agreeing = load((replace, own % "LEVEL: DEBUG, MORE: 1"), parameters={"Tls": "false"})
    assert agreeing.shared_environment()["MORE"] == "1"

    differing = load(parameters={"Tls": "false"})
    with pytest.raises(TemplateError, match=r"^PlainFunction: LEVEL differs from that of WorkFunction"):
        differing.shared_environment()


def test_the_projects_own_template_is_read_whole() -> None:
    template = Template(
        PROJECT_TEMPLATE,
        {
            "SpiceDBEndpoint": "127.0.0.1:50051",
            "SpiceDBTokenSecretArn": "plain:local",
            "TemporalAddress": "127.0.0.1:7233",
            "TemporalNamespace": "default",
            "JwtIssuer": "https://issuer.example.com/",
            "JwtAudience": "agent-schedules",
        },
    )

    assert {machine.name: machine.type for machine in template.state_machines}.items() >= {
        "create-schedule": "STANDARD",
        "create-schedule-express": "EXPRESS",
        "delete-schedule": "STANDARD",
        "delete-schedule-express": "EXPRESS",
    }.items()
    assert {function.module for function in template.functions} >= {
        f"functions.{verb}.app"
        for verb in ("register", "compensate", "deregister", "temporal_create", "temporal_describe", "temporal_delete")
    }
    (api,) = template.http_apis
    assert "$default" in {route.key for route in api.routes}
    public = {"GET /openapi.json", "GET /health", "OPTIONS /{proxy+}"}
    assert {route.key for route in api.routes if not route.authorizer} == public
    assert (
        template.shared_environment().items()
        >= {
            "SPICEDB_TOKEN_SECRET": "plain:local",
            "TEMPORAL_NAMESPACE": "default",
        }.items()
    )
