"""The local Step Functions and Lambda, used through boto3, do what AWS does.

The functions are fakes in a temporary folder, and each test gives them another behaviour. The machines are small
definitions, created through the API.
"""

import gc
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.aws.lambda_runtime import LambdaRuntime
from local.aws.resources import StateMachine
from local.aws.server import serve
from local.aws.step_functions import Backoff, StepFunctions
from local.aws.template import Template
from local.stack.process import StartError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

ROOT = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::123456789012:role/any"
ARN = "arn:aws:states:us-east-1:123456789012"
SCALE = 0.1
BACKOFFS: list[Backoff] = []
TEMPLATE = """
Resources:
  WorkFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: work
      CodeUri: fake_code/work
      Handler: app.handler
      Timeout: 10
      AutoPublishAlias: live
      MemorySize: 256
      Environment: {Variables: {SET_IN_THE_TEMPLATE: before the import}}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: deployed
      Type: EXPRESS
      AutoPublishAlias: live
      DefinitionUri: machine.asl.json
      DefinitionSubstitutions: {WorkFunctionArn: !Ref WorkFunction.Version}
"""
MACHINE = """{"StartAt": "Work", "States": {"Work": {
  "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
  "Parameters": {"FunctionName": "${WorkFunctionArn}", "Payload.$": "$"}, "OutputPath": "$.Payload"
}}}"""
WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
CODE = """
import os
seen_at_import = os.environ["SET_IN_THE_TEMPLATE"]
def handler(event, context):
    return event
"""

Handler = Callable[[Any, Any], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    code = folder / "fake_code" / "work"
    code.mkdir(parents=True)
    (code / "app.py").write_text(CODE)
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "machine.asl.json").write_text(MACHINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """Everything takes a tenth of its time, and no retry waits."""
    with serve(Template(folder / "template.yaml"), time_scale=SCALE, on_backoff=BACKOFFS.append) as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="module")
def sfn(server: str) -> "SFNClient":
    return boto3.client("stepfunctions", endpoint_url=server, config=Config(retries={"max_attempts": 0}))


@pytest.fixture(scope="module")
def functions(server: str) -> "LambdaClient":
    return boto3.client("lambda", endpoint_url=server, config=Config(retries={"max_attempts": 0}))


@pytest.fixture
def code(server: str) -> ModuleType:  # noqa: ARG001 - the server imports it
    return importlib.import_module("fake_code.work.app")


@pytest.fixture
def behave(code: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """Give the function another handler."""
    return lambda handler: monkeypatch.setattr(code, "handler", handler)


class Hanging:
    """A handler that hangs until it is released, and then fails."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.begun, self.released, self.finished = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, event: Any, _context: Any) -> None:
        self.events.append(event)
        self.begun.set()
        self.released.wait(10)
        self.finished.set()
        raise LookupError

    def let_go(self) -> None:
        """Release the handler and wait until it has gone on."""
        assert not self.finished.is_set()
        self.released.set()
        assert self.finished.wait(10)


@pytest.fixture
def hanging(behave: Callable[[Handler], None]) -> Iterator[Hanging]:
    """The function hangs."""
    handler = Hanging()
    behave(handler)
    yield handler
    handler.released.set()
    for thread in threading.enumerate():
        if thread.name == "work":
            thread.join(10)


_numbers = itertools.count()


@pytest.fixture
def make(sfn: "SFNClient") -> Callable[..., str]:
    """Create a machine of these states, starting with the first, and return its ARN."""

    def make(kind: str = "EXPRESS", timeout: int | None = None, **states: Any) -> str:
        definition: dict[str, Any] = {"StartAt": next(iter(states)), "States": states}
        if timeout:
            definition["TimeoutSeconds"] = timeout
        machine = sfn.create_state_machine(
            name=f"machine-{next(_numbers)}",
            definition=json.dumps(definition),
            roleArn=ROLE,
            type="EXPRESS" if kind == "EXPRESS" else "STANDARD",
        )
        return machine["stateMachineArn"]

    return make


@pytest.fixture
def run(sfn: "SFNClient", make: Callable[..., str]) -> Callable[..., Any]:
    """Run states synchronously. Returns StartSyncExecution's response, with its output parsed."""

    def run(event: Any = None, **states: Any) -> dict[str, Any]:
        response = sfn.start_sync_execution(stateMachineArn=make(**states), input=json.dumps(event or {}))
        return {**response, "output": json.loads(response.get("output", "null"))}

    return run


def task(function: str = "work", **fields: Any) -> dict[str, Any]:
    """A Task that invokes the function with its input and ends the execution."""
    following = {} if "Next" in fields else {"End": True}
    parameters = {"FunctionName": function, "Payload.$": "$"}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": parameters,
        **following,
        **fields,
    }


def raising(name: str, message: str = "no") -> Handler:
    """A handler that raises an error whose class has this name."""

    def handler(_event: Any, _context: Any) -> None:
        raise type(name, (Exception,), {})(message)

    return handler


def ended(sfn: "SFNClient", arn: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline, "the execution does not end"
        time.sleep(0.01)
    return {**described}


def history(sfn: "SFNClient", arn: str) -> list[str]:
    return [event["type"] for event in sfn.get_execution_history(executionArn=arn)["events"]]


def wait_for_last_event(sfn: "SFNClient", arn: str, kind: str) -> None:
    deadline = time.monotonic() + 10
    while history(sfn, arn)[-1] != kind:
        assert time.monotonic() < deadline, history(sfn, arn)
        time.sleep(0.01)


# Lambda


def test_an_invocation_gives_what_the_handler_returned(functions: "LambdaClient") -> None:
    response = functions.invoke(FunctionName="work", Payload=json.dumps({"a": [1, "é"]}))

    assert (response["StatusCode"], response["ExecutedVersion"], "FunctionError" in response) == (200, "$LATEST", False)
    assert json.load(response["Payload"]) == {"a": [1, "é"]}


@pytest.mark.parametrize(
    "name",
    ["work", "arn:aws:lambda:us-east-1:123456789012:function:work", "work:$LATEST", "123456789012:function:work"],
)
def test_a_function_goes_by_its_name_or_arn(functions: "LambdaClient", name: str) -> None:
    assert json.load(functions.invoke(FunctionName=name, Payload=b"1")["Payload"]) == 1


def test_no_payload_is_an_empty_event_and_no_answer_is_null(
    functions: "LambdaClient", behave: Callable[[Handler], None]
) -> None:
    events: list[Any] = []

    def handler(event: Any, _context: Any) -> None:
        events.append(event)

    behave(handler)

    assert functions.invoke(FunctionName="work")["Payload"].read() == b"null"
    assert events == [{}]


def test_an_error_comes_back_as_the_python_runtime_puts_it(
    functions: "LambdaClient", behave: Callable[[Handler], None]
) -> None:
    behave(raising("AgentUpdateDenied", "not yours"))

    response = functions.invoke(FunctionName="work", Payload=b"{}")

    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    payload = json.load(response["Payload"])
    assert payload.keys() == {"errorMessage", "errorType", "requestId", "stackTrace"}
    assert (payload["errorType"], payload["errorMessage"]) == ("AgentUpdateDenied", "not yours")
    assert payload["requestId"] == response["ResponseMetadata"]["RequestId"]
    assert [line.split(",")[2].split()[1] for line in payload["stackTrace"]] == ["handler"]


def test_an_answer_that_is_not_json_is_a_marshal_error(
    functions: "LambdaClient", behave: Callable[[Handler], None]
) -> None:
    behave(lambda *_: {1, 2})

    payload = json.load(functions.invoke(FunctionName="work")["Payload"])

    assert payload["errorType"] == "Runtime.MarshalError"
    assert payload["errorMessage"] == "Unable to marshal response: Object of type set is not JSON serializable"


def test_a_handler_that_exits_is_an_exit_error(functions: "LambdaClient", behave: Callable[[Handler], None]) -> None:
    behave(lambda *_: sys.exit(3))

    payload = json.load(functions.invoke(FunctionName="work")["Payload"])

    assert payload["errorType"] == "Runtime.ExitError"
    assert payload["errorMessage"].endswith("Runtime exited with error: exit status 3")


def test_a_function_is_cut_off_at_its_timeout_and_its_handler_goes_on(
    functions: "LambdaClient", hanging: Hanging
) -> None:
    started = time.monotonic()
    response = functions.invoke(FunctionName="work")

    assert 10 * SCALE <= time.monotonic() - started < 10
    assert response["FunctionError"] == "Unhandled"
    payload = json.load(response["Payload"])
    assert payload["errorType"] == "Sandbox.Timedout"
    request_id = response["ResponseMetadata"]["RequestId"]
    assert payload["errorMessage"] == f"RequestId: {request_id} Error: Task timed out after 10.00 seconds"
    hanging.let_go()


def test_the_context_is_lambdas(functions: "LambdaClient", behave: Callable[[Handler], None]) -> None:
    def handler(_event: Any, context: Any) -> dict[str, Any]:
        first = context.get_remaining_time_in_millis()
        while (second := context.get_remaining_time_in_millis()) == first:
            pass
        names = ("aws_request_id", "function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb")
        return {"times": [first, second], **{name: getattr(context, name) for name in names}}

    behave(handler)

    response = functions.invoke(FunctionName="work")
    payload = json.load(response["Payload"])
    first, second = payload.pop("times")
    assert 10_000 * SCALE >= first > second > 0
    assert payload == {
        "aws_request_id": response["ResponseMetadata"]["RequestId"],
        "function_name": "work",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:work",
        "memory_limit_in_mb": "256",
    }


def test_an_event_invocation_returns_before_the_handler_does(functions: "LambdaClient", hanging: Hanging) -> None:
    started = time.monotonic()
    response = functions.invoke(FunctionName="work", InvocationType="Event", Payload=b"[7]")

    assert (response["StatusCode"], time.monotonic() - started < 10 * SCALE) == (202, True)
    assert hanging.begun.wait(10)
    hanging.let_go()
    assert hanging.events == [[7]]


def test_an_unknown_function_and_a_broken_event_are_refused(functions: "LambdaClient") -> None:
    with pytest.raises(functions.exceptions.ResourceNotFoundException, match="Function not found: nobody"):
        functions.invoke(FunctionName="nobody")
    with pytest.raises(functions.exceptions.InvalidRequestContentException, match="Could not parse request body"):
        functions.invoke(FunctionName="work", Payload=b"{")


def test_what_is_not_served_is_said_in_so_many_words(functions: "LambdaClient", sfn: "SFNClient") -> None:
    with pytest.raises(ClientError, match="Step Functions and Lambda's Invoke"):
        functions.list_functions()
    with pytest.raises(ClientError, match="validate_state_machine_definition action has not been implemented"):
        sfn.validate_state_machine_definition(definition="{}")


def test_the_environment_of_the_functions_is_set_before_they_are_imported(code: ModuleType, server: str) -> None:
    assert code.seen_at_import == "before the import"
    assert os.environ["SET_IN_THE_TEMPLATE"] == "before the import"
    assert os.environ["AWS_ENDPOINT_URL"] == server


# The server


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise OSError('boom')", "WorkFunction: Handler app.handler: broken.work.app does not import: OSError: boom"),
        ("handler = 1", "WorkFunction: Handler app.handler: broken.work.app has no such function"),
    ],
)
def test_a_handler_that_cannot_be_had_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    code = tmp_path / "broken" / "work"
    code.mkdir(parents=True)
    (code / "app.py").write_text(source)
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("fake_code", "broken"))
    (tmp_path / "machine.asl.json").write_text(MACHINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken.work.app", raising=False)
    monkeypatch.delitem(sys.modules, "broken.work", raising=False)
    monkeypatch.delitem(sys.modules, "broken", raising=False)

    with pytest.raises(StartError) as raised, serve(Template(tmp_path / "template.yaml")):
        pass

    assert str(raised.value) == message


def test_a_definition_that_is_no_asl_ends_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fake_code").symlink_to(folder / "fake_code")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "machine.asl.json").write_text(MACHINE.replace('"Type": "Task"', '"Type": "Tusk"'))

    with pytest.raises(StartError, match=r"^Machine: ") as raised, serve(Template(tmp_path / "template.yaml")):
        pass

    assert "\n" not in str(raised.value)


def test_servers_in_one_process_hold_machines_of_their_own(server: str, sfn: "SFNClient", folder: Path) -> None:
    with serve(Template(folder / "template.yaml")) as other:
        assert other != server
        client = boto3.client("stepfunctions", endpoint_url=other)
        for number in range(2):
            client.start_execution(stateMachineArn=f"{ARN}:stateMachine:deployed", input=str(number))
        assert len(client.list_executions(stateMachineArn=f"{ARN}:stateMachine:deployed")["executions"]) == 2
        assert os.environ["AWS_ENDPOINT_URL"] == other

    assert sfn.list_executions(stateMachineArn=f"{ARN}:stateMachine:deployed")["executions"] == []
    assert os.environ["AWS_ENDPOINT_URL"] == server


def test_a_server_that_ends_stops_what_it_was_running_and_leaves_no_thread_to_wait_for(
    folder: Path, hanging: Hanging
) -> None:
    with ThreadPoolExecutor(1) as pool, serve(Template(folder / "template.yaml")) as server:
        client = boto3.client("stepfunctions", endpoint_url=server)
        waiting = pool.submit(client.start_sync_execution, stateMachineArn=f"{ARN}:stateMachine:deployed")
        assert hanging.begun.wait(10)

    response = waiting.result(10)
    assert (response["status"], "error" in response) == ("FAILED", False)  # stopped, and not by the handler's error
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    threads = [thread for thread in threads if not thread.name.startswith("pytest_timeout ")]  # this test's time limit
    assert threads == [threading.main_thread()]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(server.rpartition(":")[2]))) != 0


class CommandLine:
    """`python -m local.aws.server` as a program of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local.aws.server", "--template", str(folder / "template.yaml"), *arguments],
            env={**os.environ, "PYTHONPATH": str(folder), **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "subprocess.Popen[str]":
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_when_it_is_ready_and_ends_when_asked(folder: Path, free_port: int, number: int) -> None:
    with CommandLine(folder, AWS_LOCAL_PORT=str(free_port)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Step Functions and Lambda ready on http://127.0.0.1:{free_port}\n"

        client = boto3.client("stepfunctions", endpoint_url=f"http://127.0.0.1:{free_port}")
        response = client.start_sync_execution(stateMachineArn=f"{ARN}:stateMachine:deployed", input='{"a": 1}')
        assert json.loads(response["output"]) == {"a": 1}

        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, output, errors) == (0, "", "")


def test_a_taken_port_and_a_wrong_parameter_are_one_line_and_exit_1(folder: Path, server: str) -> None:
    taken = server.rpartition(":")[2]
    with CommandLine(folder, "--port", taken) as process:
        assert process.communicate(timeout=20) == (
            "",
            f"port {taken} (Step Functions and Lambda) is taken; set AWS_LOCAL_PORT to another\n",
        )
        assert process.returncode == 1
    with CommandLine(folder, "--port", "0", "--parameter", "Wrong=1") as process:
        assert process.communicate(timeout=20) == ("", "Wrong: the template has no such parameter\n")
        assert process.returncode == 1


def test_the_host_prefix_can_be_turned_off_by_the_caller_or_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_sync(config: Config | None) -> str:
        client = boto3.client("stepfunctions", endpoint_url=server, config=config)
        return client.start_sync_execution(stateMachineArn=f"{ARN}:stateMachine:deployed")["status"]

    assert start_sync(None) == "SUCCEEDED"  # serve() has set AWS_DISABLE_HOST_PREFIX_INJECTION
    monkeypatch.delenv("AWS_DISABLE_HOST_PREFIX_INJECTION")
    assert start_sync(Config(inject_host_prefix=False)) == "SUCCEEDED"


# Executions


def test_a_synchronous_execution_answers_as_aws_does(sfn: "SFNClient") -> None:
    response = sfn.start_sync_execution(
        stateMachineArn=f"{ARN}:stateMachine:deployed", name="one", input='{"a": {"b": null}}'
    )

    prefix, _, last = response["executionArn"].rpartition(":")
    assert (prefix, len(last)) == (f"{ARN}:express:deployed:one", 36)
    assert (response["status"], response["name"], response["input"]) == ("SUCCEEDED", "one", '{"a": {"b": null}}')
    assert json.loads(response["output"]) == {"a": {"b": None}}
    assert response["startDate"] <= response["stopDate"]
    assert "error" not in response


def test_only_express_machines_run_synchronously(sfn: "SFNClient", make: Callable[..., str]) -> None:
    standard = make("STANDARD", Done={"Type": "Succeed"})

    with pytest.raises(ClientError) as raised:
        sfn.start_sync_execution(stateMachineArn=standard)
    assert raised.value.response["Error"]["Code"] == "StateMachineTypeNotSupported"
    with pytest.raises(sfn.exceptions.StateMachineDoesNotExist):
        sfn.start_sync_execution(stateMachineArn=f"{ARN}:stateMachine:nobody")
    with pytest.raises(sfn.exceptions.InvalidExecutionInput):
        sfn.start_sync_execution(stateMachineArn=f"{ARN}:stateMachine:deployed", input="{")


def test_the_alias_of_a_machine_stands_for_the_machine_itself(sfn: "SFNClient") -> None:
    alias = f"{ARN}:stateMachine:deployed:live"

    response = sfn.start_sync_execution(stateMachineArn=alias, name="by-alias")
    started = sfn.start_execution(stateMachineArn=alias, name="by-alias-too")

    assert response["status"] == "SUCCEEDED"
    assert response["executionArn"].startswith(f"{ARN}:express:deployed:by-alias:")
    assert started["executionArn"].startswith(f"{ARN}:express:deployed:by-alias-too:")
    listed = sfn.list_executions(stateMachineArn=alias)["executions"]
    assert {"by-alias", "by-alias-too"} <= {execution["name"] for execution in listed}
    for unknown in ("dead", "1"):
        with pytest.raises(sfn.exceptions.StateMachineDoesNotExist):
            sfn.start_sync_execution(stateMachineArn=f"{ARN}:stateMachine:deployed:{unknown}")


def test_executions_without_a_name_get_one_each(sfn: "SFNClient", make: Callable[..., str]) -> None:
    machine = make("STANDARD", Done={"Type": "Succeed"})

    arns = {sfn.start_execution(stateMachineArn=machine)["executionArn"] for _ in range(3)}

    assert len(arns) == 3
    assert all(len(arn.rpartition(":")[2]) == 36 for arn in arns)


def test_a_standard_execution_is_started_once_per_name(
    sfn: "SFNClient", make: Callable[..., str], hanging: Hanging
) -> None:
    machine = make("STANDARD", Work=task())

    with ThreadPoolExecutor(8) as pool:
        responses = pool.map(lambda _: sfn.start_execution(stateMachineArn=machine, name="n", input="[1]"), range(8))
        arns = {response["executionArn"] for response in responses}
    assert arns == {machine.replace("stateMachine", "execution") + ":n"}
    with pytest.raises(sfn.exceptions.ExecutionAlreadyExists):
        sfn.start_execution(stateMachineArn=machine, name="n", input="[2]")

    hanging.released.set()
    ended(sfn, *arns)
    assert hanging.events == [[1]]
    with pytest.raises(sfn.exceptions.ExecutionAlreadyExists):
        sfn.start_execution(stateMachineArn=machine, name="n", input="[1]")


def test_an_express_execution_is_a_new_one_every_time(sfn: "SFNClient", make: Callable[..., str]) -> None:
    machine = make(Show={"Type": "Pass", "Parameters": {"id.$": "$$.Execution.Id"}, "End": True})

    arns = [sfn.start_execution(stateMachineArn=machine, name="same")["executionArn"] for _ in range(2)]

    assert arns[0] != arns[1]
    prefix = machine.replace("stateMachine", "express") + ":same:"
    for arn in arns:
        assert arn.startswith(prefix)
        assert json.loads(ended(sfn, arn)["output"]) == {"id": arn}


def test_an_input_that_aws_would_refuse_reaches_the_first_function(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(raising("InvalidRequest", "too long"))
    catch = [{"ErrorEquals": ["InvalidRequest"], "ResultPath": "$.error", "Next": "Failed"}]

    response = run(
        {"name": "x" * 1_000_000},
        Keep={"Type": "Pass", "Next": "Work"},
        Work=task(Catch=catch),
        Failed={"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
    )

    assert (response["status"], response["error"]) == ("FAILED", "InvalidRequest")


def test_a_state_that_grows_too_large_fails_as_on_aws(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(lambda *_: "x" * 300_000)

    assert run(Work=task())["error"] == "States.DataLimitExceeded"


def test_executions_side_by_side_keep_apart(sfn: "SFNClient", make: Callable[..., str]) -> None:
    machine = make(First=task(Next="Second", ResultPath="$.first"), Second=task(ResultPath="$.second"))

    def run(number: int) -> Any:
        response = sfn.start_sync_execution(stateMachineArn=machine, input=json.dumps({"number": number}))
        output = json.loads(response["output"])
        return output["first"]["Payload"]["number"], output["second"]["Payload"]["first"]["Payload"]["number"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(40))) == [(number, number) for number in range(40)]


# The interpreter: what this project relies on


def test_moto_is_changed_by_who_runs_it_and_not_by_an_import() -> None:
    code = (
        "from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import Timeout\n"
        "from moto.stepfunctions.parser.asl.eval.environment import Environment\n"
        "from local.aws import moto_patches, server\n"
        "def bodies(): return Timeout._eval_body, Environment.set_error, Environment.next_field_name.fset\n"
        "untouched = bodies()\n"
        "server.StepFunctions(server.LambdaRuntime([]))\n"
        "changed = bodies()\n"
        "moto_patches.install()\n"
        "print([b.__module__.split('.')[0] for b in untouched], [b.__module__ for b in changed], bodies() == changed)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)

    assert done.stdout == f"{['moto'] * 3} {['local.aws.moto_patches'] * 3} True\n"


CATCH_ALL = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.caught", "Next": "Failed"}]
FAILED = {"Type": "Fail", "ErrorPath": "$.caught.Error", "CausePath": "$.caught.Cause"}


@pytest.mark.usefixtures("hanging")
def test_a_task_that_runs_out_of_time_is_caught_as_a_timeout(run: Callable[..., Any]) -> None:
    catch = [{"ErrorEquals": ["States.Timeout"], "ResultPath": "$.caught", "Next": "Show"}]

    response = run({"kept": 1}, Work=task(TimeoutSeconds=1, Catch=catch), Show={"Type": "Pass", "End": True})

    assert response["output"] == {"kept": 1, "caught": {"Error": "States.Timeout", "Cause": ""}}


@pytest.mark.usefixtures("hanging")
def test_a_fail_state_passes_on_a_timeout_by_its_own_name(run: Callable[..., Any]) -> None:
    response = run(Work=task(TimeoutSeconds=1, Catch=CATCH_ALL), Failed=FAILED)

    assert (response["status"], response["error"]) == ("FAILED", "States.Timeout")


@pytest.mark.parametrize("name", ["AgentUpdateDenied", "States.Timeout", "States.OfNoSuchKind", "Sandbox.Timedout"])
def test_a_fail_state_gives_exactly_the_error_and_cause_it_finds(run: Callable[..., Any], name: str) -> None:
    cause = '{"quoted": "é", "n": 1}'

    response = run({"caught": {"Error": name, "Cause": cause}}, Failed=FAILED)

    assert (response["status"], response["error"], response["cause"]) == ("FAILED", name, cause)


def test_a_retried_task_waits_longer_each_time_up_to_the_limit(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(raising("Busy"))
    retry = {"ErrorEquals": ["Busy"], "IntervalSeconds": 2, "BackoffRate": 3, "MaxDelaySeconds": 10, "MaxAttempts": 4}

    response = run(Work=task(Retry=[retry]))

    assert response["error"] == "Busy"
    mine = [backoff for backoff in BACKOFFS if backoff.execution_arn == response["executionArn"]]
    assert [(backoff.state, backoff.seconds) for backoff in mine] == [("Work", s) for s in (2, 6, 10, 10)]


def test_full_jitter_takes_any_wait_up_to_the_computed_one(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(raising("Busy"))
    retry = {"ErrorEquals": ["Busy"], "IntervalSeconds": 5, "BackoffRate": 1, "JitterStrategy": "FULL"}

    response = run(Work=task(Retry=[{**retry, "MaxAttempts": 20}]))

    waits = [b.seconds for b in BACKOFFS if b.execution_arn == response["executionArn"]]
    assert len(waits) == len(set(waits)) == 20
    assert all(0 <= wait <= 5 for wait in waits)


def test_a_retry_waits_for_real_unless_told_otherwise(folder: Path, behave: Callable[[Handler], None]) -> None:
    calls: list[float] = []

    def handler(_event: Any, _context: Any) -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise LookupError

    behave(handler)
    retry = [{"ErrorEquals": ["LookupError"], "IntervalSeconds": 2}]
    with serve(Template(folder / "template.yaml"), time_scale=SCALE) as server:
        client = boto3.client("stepfunctions", endpoint_url=server)
        machine = client.create_state_machine(
            name="retrying",
            definition=json.dumps({"StartAt": "Work", "States": {"Work": task(Retry=retry)}}),
            roleArn=ROLE,
            type="EXPRESS",
        )
        response = client.start_sync_execution(stateMachineArn=machine["stateMachineArn"])

    assert response["status"] == "SUCCEEDED"
    assert calls[1] - calls[0] >= 2 * SCALE
    assert not [b for b in BACKOFFS if b.execution_arn == response["executionArn"]]


def test_a_machine_that_runs_out_of_time_is_timed_out_and_begins_no_further_task(
    sfn: "SFNClient", make: Callable[..., str], hanging: Hanging
) -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 5}]
    machine = make("STANDARD", timeout=5, Work=task(Retry=retry, Next="Again"), Again=task())

    arn = sfn.start_execution(stateMachineArn=machine)["executionArn"]
    described = ended(sfn, arn)

    assert described["status"] == "TIMED_OUT"
    assert described["stopDate"] >= described["startDate"]
    hanging.let_go()
    wait_for_last_event(sfn, arn, "ExecutionTimedOut")
    assert len(hanging.events) == 1
    assert sfn.describe_execution(executionArn=arn)["status"] == "TIMED_OUT"


@pytest.mark.usefixtures("hanging")
def test_a_synchronous_machine_that_runs_out_of_time_says_so(sfn: "SFNClient", make: Callable[..., str]) -> None:
    response = sfn.start_sync_execution(stateMachineArn=make(timeout=1, Work=task()))

    assert response["status"] == "TIMED_OUT"
    assert "output" not in response


def test_the_context_object_tells_of_the_execution_and_the_state(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    events: list[Any] = []

    def handler(event: Any, _context: Any) -> None:
        events.append(event)
        if event["retries"] < 2:
            raise LookupError

    behave(handler)
    payload = {
        "input.$": "$$.Execution.Input",
        "id.$": "$$.Execution.Id",
        "name.$": "$$.Execution.Name",
        "started.$": "$$.Execution.StartTime",
        "machine.$": "$$.StateMachine.Id",
        "state.$": "$$.State.Name",
        "entered.$": "$$.State.EnteredTime",
        "retries.$": "$$.State.RetryCount",
    }
    retry = [{"ErrorEquals": ["LookupError"]}]

    response = run(
        {"a": 1},
        Change={"Type": "Pass", "Result": "something else", "Next": "Work"},
        Work=task(Parameters={"FunctionName": "work", "Payload": payload}, Retry=retry),
    )

    assert response["status"] == "SUCCEEDED"
    assert [event["retries"] for event in events] == [0, 1, 2]
    last = events[-1]
    assert (last["input"], last["id"], last["name"]) == ({"a": 1}, response["executionArn"], response["name"])
    assert (last["machine"], last["state"]) == (response["stateMachineArn"], "Work")
    assert datetime.fromisoformat(last["started"]) <= datetime.fromisoformat(last["entered"])


def test_a_stopped_execution_is_aborted_at_once_and_its_task_left(
    sfn: "SFNClient", make: Callable[..., str], hanging: Hanging
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Again"}]
    arn = sfn.start_execution(stateMachineArn=make("STANDARD", Work=task(Catch=catch), Again=task()))["executionArn"]
    assert hanging.begun.wait(10)

    stopped = sfn.stop_execution(executionArn=arn, error="Enough", cause="of that")

    described = sfn.describe_execution(executionArn=arn)
    assert (described["status"], described["error"], described["cause"]) == ("ABORTED", "Enough", "of that")
    assert described["stopDate"] == stopped["stopDate"]
    hanging.let_go()
    wait_for_last_event(sfn, arn, "ExecutionAborted")
    assert len(hanging.events) == 1
    assert sfn.describe_execution(executionArn=arn)["stopDate"] == described["stopDate"]


@pytest.fixture
def waiting() -> Iterator[tuple[StepFunctions, str]]:
    """A machine that waits, without a server. Threads switch as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    step_functions = StepFunctions(LambdaRuntime([]))
    arn = f"{ARN}:stateMachine:waiting"
    step_functions.deploy(StateMachine("Machine", "waiting", arn, "STANDARD", json.dumps(WAITING)))
    yield step_functions, arn
    step_functions.stop_all()
    sys.setswitchinterval(interval)


def test_an_execution_can_be_stopped_the_moment_it_was_started(waiting: tuple[StepFunctions, str]) -> None:
    step_functions, machine = waiting

    for _ in range(50):
        execution = step_functions.start_execution(machine)
        execution.stop(datetime.now(UTC), None, None)
        assert execution.status == "ABORTED"


def test_a_machine_forgets_its_oldest_executions_and_none_that_runs() -> None:
    step_functions = StepFunctions(LambdaRuntime([]), remembered=3)
    arn = f"{ARN}:stateMachine:waiting"
    step_functions.deploy(StateMachine("Machine", "waiting", arn, "STANDARD", json.dumps(WAITING)))
    running = step_functions.start_execution(arn)

    started = []
    for _ in range(10):
        execution = step_functions.start_execution(arn)
        execution.stop(datetime.now(UTC), None, None)
        started.append(weakref.ref(execution))
    step_functions.start_execution(arn)

    known: list[Any] = step_functions.describe_state_machine(arn).executions
    assert [each.status for each in known] == ["RUNNING", "ABORTED", "ABORTED", "ABORTED", "RUNNING"]
    assert known[0] is running
    assert known[3] is execution
    step_functions.stop_all()
    eventually_forgotten(started[0])


def eventually_forgotten(reference: "weakref.ref[Any]") -> None:
    """Wait until an object is gone; what was stopped goes on in its thread for a moment."""
    ends_at = time.monotonic() + 10
    while gc.collect() is not None and reference() is not None:
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def test_callers_who_start_the_same_execution_together_share_it(waiting: tuple[StepFunctions, str]) -> None:
    step_functions, machine = waiting

    with ThreadPoolExecutor(8) as pool:
        for name in map(str, range(50)):
            started = pool.map(step_functions.start_execution, [machine] * 8, [name] * 8)
            assert len({id(execution) for execution in started}) == 1


def test_an_express_execution_is_over_after_five_minutes(folder: Path) -> None:
    with serve(Template(folder / "template.yaml"), time_scale=0.0005) as server:
        client = boto3.client("stepfunctions", endpoint_url=server)
        machine = client.create_state_machine(
            name="waiting", definition=json.dumps(WAITING), roleArn=ROLE, type="EXPRESS"
        )
        response = client.start_sync_execution(stateMachineArn=machine["stateMachineArn"])

    assert response["status"] == "TIMED_OUT"


def test_format_and_string_to_json_work(run: Callable[..., Any]) -> None:
    parameters = {
        "text.$": "States.Format('{}--{}', $.agent, $.name)",
        "parsed.$": "States.StringToJson($.cause)",
        "type.$": "$.cause",
    }

    response = run(
        {"agent": "a", "name": "b", "cause": '{"errorType": "X", "n": [1]}'},
        Show={"Type": "Pass", "Parameters": parameters, "End": True},
    )

    assert response["output"]["text"] == "a--b"
    assert response["output"]["parsed"] == {"errorType": "X", "n": [1]}


@pytest.mark.parametrize(
    ("event", "chosen"),
    [
        ({"done": True, "outcome": "registered"}, "Both"),
        ({"done": True, "outcome": "skipped"}, "Neither"),
        ({"outcome": "skipped", "done": False}, "Skipped"),
        ({"outcome": "x"}, "Neither"),
        ({}, "Neither"),
    ],
)
def test_choices_by_presence_boolean_and_text(run: Callable[..., Any], event: dict[str, Any], chosen: str) -> None:
    present = [{"Variable": "$.done", "IsPresent": True}]
    both = [{"Variable": "$.done", "BooleanEquals": True}, {"Variable": "$.outcome", "StringEquals": "registered"}]
    skipped = [{"Variable": "$.done", "BooleanEquals": False}, {"Variable": "$.outcome", "StringEquals": "skipped"}]

    response = run(
        event,
        Choose={
            "Type": "Choice",
            "Choices": [{"And": present + both, "Next": "Both"}, {"And": present + skipped, "Next": "Skipped"}],
            "Default": "Neither",
        },
        **{name: {"Type": "Pass", "Result": name, "End": True} for name in ("Both", "Skipped", "Neither")},
    )

    assert response["output"] == chosen


def test_a_result_is_selected_from_the_payload_and_put_beside_the_input(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(lambda event, _: {"seen": event, "outcome": "registered"})
    selector = {"outcome.$": "$.Payload.outcome", "seen.$": "$.Payload.seen", "version.$": "$.ExecutedVersion"}
    parameters = {"FunctionName": "work", "Payload": {"id.$": "$.id", "fixed": True}}

    response = run({"id": 7}, Work=task(Parameters=parameters, ResultSelector=selector, ResultPath="$.a.b"))

    expected = {"outcome": "registered", "seen": {"id": 7, "fixed": True}, "version": "$LATEST"}
    assert response["output"] == {"id": 7, "a": {"b": expected}}


def test_an_error_of_a_function_is_retried_and_caught_by_its_exact_name(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(raising("AgentUpdateDenied", "not yours"))
    retry = [{"ErrorEquals": ["AgentUpdate", "Denied"]}, {"ErrorEquals": ["AgentUpdateDenied"], "MaxAttempts": 1}]
    catch = [
        {"ErrorEquals": ["AgentUpdate"], "Next": "Wrong"},
        {"ErrorEquals": ["AgentUpdateDenied"], "ResultPath": "$.caught", "Next": "Right"},
    ]

    response = run(
        {"kept": 1},
        Work=task(Retry=retry, Catch=catch),
        Wrong={"Type": "Fail"},
        Right={"Type": "Pass", "End": True},
    )

    assert (response["status"], response["output"]["kept"]) == ("SUCCEEDED", 1)
    assert len([b for b in BACKOFFS if b.execution_arn == response["executionArn"]]) == 1
    caught = response["output"]["caught"]
    assert caught["Error"] == "AgentUpdateDenied"
    cause = json.loads(caught["Cause"])
    assert (cause["errorType"], cause["errorMessage"]) == ("AgentUpdateDenied", "not yours")
    assert cause.keys() == {"errorType", "errorMessage", "requestId", "stackTrace"}


def test_an_uncaught_error_ends_the_execution_with_its_name_and_cause(
    run: Callable[..., Any], behave: Callable[[Handler], None]
) -> None:
    behave(raising("TemporalUnavailable"))

    response = run(Work=task())

    assert (response["status"], response["error"]) == ("FAILED", "TemporalUnavailable")
    assert json.loads(response["cause"])["errorType"] == "TemporalUnavailable"


@pytest.mark.usefixtures("hanging")
def test_a_function_that_times_out_is_a_sandbox_error_to_the_machine(run: Callable[..., Any]) -> None:
    assert run(Work=task(TimeoutSeconds=20))["error"] == "Sandbox.Timedout"


def test_a_task_of_an_unknown_function_fails_as_on_aws(run: Callable[..., Any]) -> None:
    response = run(Work=task("nobody"))

    assert response["error"] == "Lambda.ResourceNotFoundException"
    assert response["cause"].startswith("Function not found: nobody")


def test_the_history_tells_what_ran(sfn: "SFNClient", make: Callable[..., str]) -> None:
    arn = sfn.start_execution(stateMachineArn=make("STANDARD", Work=task(TimeoutSeconds=5)))["executionArn"]
    ended(sfn, arn)

    assert history(sfn, arn) == [
        "ExecutionStarted",
        "TaskStateEntered",
        "TaskScheduled",
        "TaskStarted",
        "TaskSucceeded",
        "TaskStateExited",
        "ExecutionSucceeded",
    ]
