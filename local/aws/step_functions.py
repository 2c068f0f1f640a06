# mypy: allow-untyped-calls
# mypy: disable-error-code="arg-type, assignment, attr-defined, method-assign, override, union-attr"
# - replacing parts of moto is what this file is for, and the annotations of moto's two backends contradict each other.
"""Step Functions on a laptop: moto's interpreter runs the shipped ASL, with what it lacks or does otherwise than AWS.

What is added by extending moto's classes comes first: executions that know how they ended (_Execution), machines that
can be run synchronously (StepFunctions), and the API in front of them (StepFunctionsApi). What had to be changed inside
the interpreter itself stands at the end of the file, one function a change, each with its reason.

Where this differs from AWS on purpose: an input may be larger than 262,144 bytes, which AWS refuses at the door, so
that a test can see what the first function says to it; such an execution is then free of that limit throughout. And
executions of Express machines can be described, listed and stopped like those of Standard ones.
"""

import copy
import datetime
import functools
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ClientError
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import InvalidExecutionInput
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser import quotas
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.retry.jitter_strategy_decl import JitterStrategyDecl
from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import Timeout, TimeoutSeconds
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.fail import state_fail
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import (
    AWSExecutionDetails,
    EvaluationDetails,
    ExecutionDetails,
)
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramStopped, ProgramTimedOut
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from local.aws.lambda_runtime import FunctionNotFound, LambdaRuntime
from local.aws.template import StateMachine as TemplateStateMachine
from local.aws.template import TemplateError
from local.stack.endpoints import ACCOUNT, REGION

_ROLE = f"arn:aws:iam::{ACCOUNT}:role/local"
_EXPRESS = "EXPRESS"
_EXPRESS_SECONDS = 300  # AWS ends an Express execution after five minutes, whatever its definition says
_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Backoff:
    """A wait before a retry. `seconds` is what AWS would have waited, jitter included."""

    execution_arn: str
    state: str
    seconds: float


class _Details(AWSExecutionDetails):
    """What the interpreter hands from an execution to every part of it; here also whose execution it is."""

    def __init__(self, step_functions: "StepFunctions", oversized: bool) -> None:
        super().__init__(account=ACCOUNT, region=REGION, role_arn=_ROLE)
        self.step_functions = step_functions
        self.oversized = oversized


def _details(env: Environment) -> _Details:
    details: _Details = env.aws_execution_details
    return details


class _Worker(ExecutionWorker):
    def __init__(self, program: Program, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._program = program

    def _get_evaluation_entrypoint(self) -> Program:
        return self._program  # moto parses the definition anew here, which takes longer than running it


class _Ending(BaseExecutionWorkerCommunication):
    """Told by the interpreter that an execution is over."""

    execution: "_Execution"

    def terminated(self) -> None:
        env = self.execution.exec_worker.env
        match env.program_state():
            case ProgramEnded():
                self.execution.end(ExecutionStatus.SUCCEEDED, output=env.states.get_input())
            case ProgramError(error=error):
                self.execution.end(ExecutionStatus.FAILED, error=error.get("error"), cause=error.get("cause"))
            case ProgramStopped(error=error, cause=cause):
                self.execution.end(ExecutionStatus.ABORTED, error=error, cause=cause)
            case ProgramTimedOut():
                self.execution.end(ExecutionStatus.TIMED_OUT)


class _Execution(Execution):
    """An execution that ends once, with its status set last: a caller never sees a status without its output."""

    def __init__(self, step_functions: "StepFunctions", machine: StateMachine, arn: str, name: str, text: str) -> None:
        super().__init__(
            name=name,
            sm_type=machine.sm_type,
            role_arn=_ROLE,
            exec_arn=arn,
            account_id=ACCOUNT,
            region_name=REGION,
            # An execution keeps the definition that it started with. moto makes a deep copy, which costs more.
            state_machine=copy.copy(machine),
            start_date=datetime.datetime.now(tz=datetime.UTC),
            cloud_watch_logging_session=None,
            activity_store={},
            input_data=text,
        )
        self.over = threading.Event()
        self._ending = threading.Lock()
        self._details = _Details(step_functions, oversized=not quotas.is_within_size_quota(text))

    def _get_start_execution_worker_comm(self) -> _Ending:
        return _Ending(self)

    def get_start_execution_details(self) -> ExecutionDetails:
        started = self.start_date.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return ExecutionDetails(self.exec_arn, self.name, self.role_arn, self.input_data, started)

    def _get_start_execution_worker(self) -> _Worker:
        machine = self.get_start_state_machine_details()
        return _Worker(
            self._details.step_functions.program(machine.definition, machine.typ),
            EvaluationDetails(self._details, self.get_start_execution_details(), machine),
            exec_comm=self._get_start_execution_worker_comm(),
            cloud_watch_logging_session=None,
            activity_store=self._activity_store,
        )

    def end(
        self, status: ExecutionStatus, output: Any = None, error: str | None = None, cause: str | None = None
    ) -> None:
        """Set how the execution ended, unless it has ended already."""
        with self._ending:
            if not self.over.is_set():
                self.stop_date = datetime.datetime.now(tz=datetime.UTC)
                self.output, self.error, self.cause = output, error, cause
                self.exec_status = status
                self.over.set()

    def stop(self, stop_date: datetime.datetime, error: str | None, cause: str | None) -> None:
        """End the execution as ABORTED at once; a task that is running goes on by itself, and nothing follows it."""
        # The interpreter takes no stop before it has begun.
        while (env := self.exec_worker.env) is None or env.program_state() is None:
            time.sleep(_POLL_SECONDS)
        super().stop(stop_date=stop_date, error=error, cause=cause)
        if isinstance(env.program_state(), ProgramStopped):
            self.end(ExecutionStatus.ABORTED, error=error, cause=cause)

    def described(self) -> dict[str, Any]:
        """The members that DescribeExecution and StartSyncExecution have in common."""
        status = self.exec_status
        described = {
            "executionArn": self.exec_arn,
            "stateMachineArn": self.state_machine_arn,
            "name": self.name,
            "status": status,
            "startDate": self.start_date,
            "input": self.execution_input,
            "inputDetails": self.input_details,
        }
        if status != ExecutionStatus.RUNNING:
            described |= {"stopDate": self.stop_date, "error": self.error, "cause": self.cause}
        if status == ExecutionStatus.SUCCEEDED:
            described |= {
                "output": json.dumps(self.output, separators=(",", ":")),
                "outputDetails": self.output_details,
            }
        return {key: value for key, value in described.items() if value is not None}


class StepFunctions(StepFunctionsParserBackend):
    """The state machines of one server, and their executions."""

    # As moto's own, and Express executions too.
    accepted_exec_arn_format = re.compile(r"arn:aws:states:[^:]+:\d{12}:(execution|express):.+")

    def __init__(
        self, functions: LambdaRuntime, time_scale: float = 1.0, on_backoff: Callable[[Backoff], None] | None = None
    ) -> None:
        """`time_scale` multiplies the timeouts of tasks and machines, and the waits before retries.

        With `on_backoff` there are no such waits: it is told of each one instead.
        """
        super().__init__(REGION, ACCOUNT)
        self.functions = functions
        self.time_scale = time_scale
        self.on_backoff = on_backoff
        self._starting = threading.Lock()
        self._programs: dict[tuple[str, str], Program] = {}

    def deploy(self, machine: TemplateStateMachine) -> None:
        """Make a machine of the template. Raises TemplateError, which names it, when its definition is not ASL."""
        try:
            self.create_state_machine(machine.name, machine.definition, _ROLE, sm_type=machine.type)
        except AWSError as error:
            raise TemplateError(f"{machine.logical_id}: {error.message}") from error

    def create_state_machine(self, *args: Any, **kwargs: Any) -> StateMachine:
        machine = super().create_state_machine(*args, **kwargs)
        machine.sm_type = machine.type  # moto leaves it at STANDARD
        return machine

    def program(self, definition: str, machine_type: str) -> Program:
        """The parsed definition, which executions share: running it changes nothing in it."""
        key = (definition, machine_type)
        if key not in self._programs:
            program: Any = AmazonStateLanguageParser.parse(definition)[0]
            seconds = program.timeout_seconds.timeout_seconds if program.timeout_seconds else None
            if machine_type == _EXPRESS:
                seconds = min(seconds or _EXPRESS_SECONDS, _EXPRESS_SECONDS)
            if seconds:
                program.timeout_seconds = TimeoutSeconds(seconds * self.time_scale)
            self._programs[key] = program
        return self._programs[key]

    def start_execution(
        self,
        state_machine_arn: str,
        name: str | None = None,
        execution_input: str | None = None,
        trace_header: str | None = None,  # noqa: ARG002 - moto's signature
    ) -> _Execution:
        """Start an execution and return at once.

        As on AWS, a name is made up if none is given; a Standard machine that is already running one of this name
        with this input gives that one back, and refuses the name otherwise; an Express machine runs every request,
        each under an ARN of its own.
        """
        machine = self.describe_state_machine(state_machine_arn)
        name = name or str(uuid.uuid4())
        self._validate_name(name)
        text = execution_input or "{}"
        try:
            json.loads(text)
        except ValueError as error:
            raise InvalidExecutionInput(f"Invalid State Machine Execution Input: '{error}'") from None
        prefix = f"arn:aws:states:{REGION}:{ACCOUNT}"
        with self._starting:
            if machine.type == _EXPRESS:
                arn = f"{prefix}:express:{machine.name}:{name}:{uuid.uuid4()}"
            else:
                arn = f"{prefix}:execution:{machine.name}:{name}"
                if running := machine._handle_name_input_idempotency(name, text):
                    return cast(_Execution, running)
            execution = _Execution(self, machine, arn, name, text)
            machine.executions.append(execution)
            execution.start()
        return execution

    def start_sync_execution(self, state_machine_arn: str, name: str | None, execution_input: str | None) -> _Execution:
        """Run an Express machine to its end. Raises StateMachineTypeNotSupported for a Standard one."""
        if self.describe_state_machine(state_machine_arn).type != _EXPRESS:
            raise AWSError(
                "This operation is not supported by this type of state machine", "StateMachineTypeNotSupported"
            )
        execution = self.start_execution(state_machine_arn, name, execution_input)
        execution.over.wait()
        return execution

    def stop_all(self) -> None:
        """Stop whatever is running, so that no further task begins."""
        for machine in self.state_machines:
            for execution in machine.executions:
                if not execution.over.is_set():
                    execution.stop(datetime.datetime.now(tz=datetime.UTC), error=None, cause=None)


class StepFunctionsApi(StepFunctionResponse):
    """One request to the Step Functions API, answered from the given machines."""

    def __init__(self, step_functions: StepFunctions) -> None:
        super().__init__()
        self._step_functions = step_functions

    @property
    def stepfunction_backend(self) -> StepFunctions:
        return self._step_functions

    def start_sync_execution(self) -> ActionResult:
        """StartSyncExecution, which moto has not."""
        execution = self._step_functions.start_sync_execution(
            self._get_param("stateMachineArn"), self._get_param("name"), self._get_param("input")
        )
        described = execution.described()
        if described["status"] == ExecutionStatus.ABORTED:
            described["status"] = ExecutionStatus.FAILED  # the three that this call knows have no other for it
        return ActionResult(described)

    def describe_execution(self) -> ActionResult:
        """DescribeExecution; moto's leaves out when one timed out, and the quotes of an output that is text."""
        return ActionResult(self._step_functions.describe_execution(self._get_param("executionArn")).described())

    def stop_execution(self) -> ActionResult:
        """StopExecution; moto's drops the caller's error and cause."""
        execution = self._step_functions.describe_execution(self._get_param("executionArn"))
        now = datetime.datetime.now(tz=datetime.UTC)
        execution.stop(now, error=self._get_param("error"), cause=self._get_param("cause"))
        return ActionResult({"stopDate": execution.stop_date})


# What had to be changed inside the interpreter. The changes hold for the whole process; each of them finds out from
# the execution it is called in (_Details) what its server wants.

# The interpreter logs every failed task and every retry as an error of its own.
logging.getLogger("moto").setLevel(logging.CRITICAL)

# Paths are parsed anew at every use, and building the parser takes milliseconds.
json_path.parse = functools.cache(json_path.parse)
result_path.parse = functools.cache(result_path.parse)

# Made up when first asked for, which two executions of one parsed program could do at the same time.
EvalComponent.heap_key = property(lambda self: str(id(self)))


def _invoke_in_process(env: Environment, parameters: dict[str, Any], **_: Any) -> None:
    """Runs the function here: moto makes a boto3 client for every task, which calls back to the server over HTTP."""
    try:
        invocation = _details(env).step_functions.functions.invoke(
            parameters["FunctionName"], parameters.get("Payload") or b"{}"
        )
    except FunctionNotFound as error:
        # What boto3 raises, because that is what moto makes `Lambda.ResourceNotFoundException` of.
        response = {
            "Error": {"Code": "ResourceNotFoundException", "Message": str(error)},
            "ResponseMetadata": {"HTTPStatusCode": 404, "RequestId": str(uuid.uuid4())},
        }
        raise ClientError(response, "Invoke") from None
    if invocation.error:
        raise lambda_eval_utils.LambdaFunctionErrorException(invocation.error, invocation.payload)
    env.stack.append({"ExecutedVersion": "$LATEST", "Payload": json.loads(invocation.payload), "StatusCode": 200})


lambda_eval_utils.execute_lambda_function_integration = _invoke_in_process


def _scale_timeout(self: Timeout, env: Environment) -> None:
    """Gives a task its timeout in the server's own time."""
    env.stack.append(self._eval_seconds(env=env) * _details(env).step_functions.time_scale)


Timeout._eval_body = _scale_timeout

_add_jitter = JitterStrategyDecl._eval_body


def _take_backoff(self: JitterStrategyDecl, env: Environment) -> None:
    """Reports or scales the wait before a retry: this is the last that moto does before it sleeps."""
    _add_jitter(self, env)
    step_functions = _details(env).step_functions
    seconds = env.stack.pop()
    if step_functions.on_backoff is None:
        env.stack.append(seconds * step_functions.time_scale)
        return
    context: Any = env.states.context_object.context_object_data
    step_functions.on_backoff(Backoff(context["Execution"]["Id"], context["State"]["Name"], seconds))
    env.stack.append(0)


JitterStrategyDecl._eval_body = _take_backoff


def _any_error_name(name: str) -> ErrorName:
    """Lets a Fail state pass on an error of Step Functions' own, States.Timeout say: moto made it States.Runtime."""
    try:
        return StatesErrorName.from_name(name)
    except ValueError:
        return ErrorName(name)


state_fail.CustomErrorName = _any_error_name

_set_error = Environment.set_error


def _keep_first_ending(self: Environment, error: Any) -> None:
    """Keeps an execution stopped or timed out whose running task fails later; moto wrote it down as failed."""
    if not isinstance(self.program_state(), ProgramStopped | ProgramTimedOut):
        _set_error(self, error)


Environment.set_error = _keep_first_ending

_set_next_field_name = Environment.next_field_name.fset


def _go_nowhere_once_over(self: Environment, name: str) -> None:
    """Lets a state that was left as its execution was stopped be the last one; moto's thread died of it."""
    if self.is_running():
        try:
            _set_next_field_name(self, name)
        except RuntimeError:
            if self.is_running():  # else it was stopped between the two lines above
                raise


Environment.next_field_name = Environment.next_field_name.setter(_go_nowhere_once_over)


def _spare_oversized(verify: Callable[[Any, Environment, Any], None]) -> Callable[[Any, Environment, Any], None]:
    def verify_size_quota(self: Any, env: Environment, value: Any) -> None:
        """Holds the size of states against an execution only if AWS would have let it start."""
        if not _details(env).oversized:
            verify(self, env, value)

    return verify_size_quota


CommonStateField._verify_size_quota = _spare_oversized(CommonStateField._verify_size_quota)
StateTaskService._verify_size_quota = _spare_oversized(StateTaskService._verify_size_quota)
