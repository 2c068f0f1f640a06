# mypy: allow-untyped-calls
# mypy: disable-error-code="assignment, attr-defined, method-assign"
# - to replace parts of moto is the purpose of this file, and its annotations do not allow for it.
"""Changes inside moto's interpreter of state machines, for what it lacks or does differently from AWS.

`install` makes them, and StepFunctions calls it. They hold for the whole process. Each change reads from the execution
that it runs in (Details) what the server of that execution needs. Everything that can be added from outside, by
extending moto's classes, is in local.aws.step_functions.
"""

import functools
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.retry.jitter_strategy_decl import JitterStrategyDecl
from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import Timeout
from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
from moto.stepfunctions.parser.asl.component.state import state
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.fail import state_fail
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import AWSExecutionDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped, ProgramTimedOut
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.quotas import MAX_STATE_SIZE_UTF8_BYTES
from moto.stepfunctions.parser.utils import TMP_THREADS

from local.aws.lambda_runtime import FunctionNotFound, LambdaRuntime
from local.stack.endpoints import ACCOUNT, REGION

Verify = Callable[[Any, Environment, Any], None]

# What each change keeps using of moto's own. It is read here, once, so that `install` may run any number of times.
_parse_path = functools.cache(json_path.parse)
_add_jitter = JitterStrategyDecl._eval_body
_set_error = Environment.set_error
_set_next_state = Environment.next_field_name.fset
_verify_state_size = CommonStateField._verify_size_quota
_verify_task_size = StateTaskService._verify_size_quota


def install() -> None:
    """Make the changes in this process. Calling it again changes nothing."""
    # moto logs every failed task and every retry as an error of its own; AWS has only the execution's history.
    logging.getLogger("moto").setLevel(logging.CRITICAL)
    # moto parses a path at every use, and building its parser takes milliseconds.
    json_path.parse = result_path.parse = _parse_path
    # moto makes this key when it is first read, so two executions that share a parsed program could make it twice.
    EvalComponent.heap_key = property(lambda self: str(id(self)))
    lambda_eval_utils.execute_lambda_function_integration = _invoke_in_process
    Timeout._eval_body = _scale_timeout
    JitterStrategyDecl._eval_body = _take_backoff
    state_fail.CustomErrorName = _any_error_name
    Environment.set_error = _keep_first_ending
    Environment.next_field_name = Environment.next_field_name.setter(_stay_once_over)
    state.is_within_size_quota = state_task_service.is_within_size_quota = is_within_size_quota
    CommonStateField._verify_size_quota = _spare_oversized(_verify_state_size)
    StateTaskService._verify_size_quota = _spare_oversized(_verify_task_size)


class Details(AWSExecutionDetails):
    """What the interpreter passes to every part of an execution, and here also what the changes need.

    Attributes:
        functions: run the tasks.
        time_scale: multiplies the timeout of a task.
        backoff: called before a retry with the execution's ARN, the state and the seconds that AWS would wait; returns
            the seconds to wait.
        oversized: the input is larger than AWS accepts.
    """

    def __init__(
        self,
        role: str,
        functions: LambdaRuntime,
        time_scale: float,
        backoff: Callable[[str, str, float], float],
        *,
        oversized: bool,
    ) -> None:
        super().__init__(account=ACCOUNT, region=REGION, role_arn=role)
        self.functions, self.time_scale, self.backoff, self.oversized = functions, time_scale, backoff, oversized


def forget() -> None:
    """Empty what moto keeps of every execution and never reads: its threads, and its copy of the machine."""
    TMP_THREADS.clear()
    StateMachine.instances_tracked.clear()


def _details(env: Environment) -> Details:
    details: Details = env.aws_execution_details
    return details


def _invoke_in_process(env: Environment, parameters: dict[str, Any], **_: Any) -> None:
    """Runs a function directly; moto makes a boto3 client for every task, which calls back to the server over HTTP."""
    try:
        invocation = _details(env).functions.invoke(parameters["FunctionName"], parameters.get("Payload") or b"{}")
    except FunctionNotFound as error:
        # moto turns what boto3 raises into `Lambda.ResourceNotFoundException`.
        response: Any = {
            "Error": {"Code": "ResourceNotFoundException", "Message": str(error)},
            "ResponseMetadata": {"HTTPStatusCode": 404, "RequestId": str(uuid.uuid4())},
        }
        raise ClientError(response, "Invoke") from None
    if invocation.error:
        raise lambda_eval_utils.LambdaFunctionErrorException(invocation.error, invocation.payload)
    env.stack.append({"ExecutedVersion": "$LATEST", "Payload": json.loads(invocation.payload), "StatusCode": 200})


def _scale_timeout(self: Timeout, env: Environment) -> None:
    """Multiplies the timeout of a task by the server's time scale; moto can only wait as long as AWS does."""
    env.stack.append(self._eval_seconds(env=env) * _details(env).time_scale)


def _take_backoff(self: JitterStrategyDecl, env: Environment) -> None:
    """Lets the server decide how long to wait before a retry; moto can only wait as long as AWS does.

    Computing the jitter is the last thing that moto does before it sleeps.
    """
    _add_jitter(self, env)
    context: Any = env.states.context_object.context_object_data
    seconds = env.stack.pop()
    env.stack.append(_details(env).backoff(context["Execution"]["Id"], context["State"]["Name"], seconds))


def _any_error_name(name: str) -> ErrorName:
    """Lets a Fail state end with a predefined error such as States.Timeout; moto turns that into States.Runtime."""
    try:
        return StatesErrorName.from_name(name)
    except ValueError:
        return ErrorName(name)


def _keep_first_ending(self: Environment, error: Any) -> None:
    """Keeps an execution stopped or timed out when its running task fails later; moto changes it to failed."""
    if not isinstance(self.program_state(), ProgramStopped | ProgramTimedOut):
        _set_error(self, error)


def _stay_once_over(self: Environment, name: str) -> None:
    """Enters no further state when the execution was stopped in this one; in moto the execution's thread dies of it."""
    if self.is_running():
        try:
            _set_next_state(self, name)
        except RuntimeError:
            if self.is_running():  # otherwise the execution was stopped between the two lines above
                raise


def is_within_size_quota(value: Any) -> bool:
    """Whether a state, or text of JSON, is no larger than AWS allows; moto counts `\\uXXXX` for what is not ASCII."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="surrogatepass")) <= MAX_STATE_SIZE_UTF8_BYTES


def _spare_oversized(verify: Verify) -> Verify:
    def verify_size_quota(self: Any, env: Environment, value: Any) -> None:
        """Applies the limit for a state's size only if AWS would have accepted the input; moto always applies it."""
        if not _details(env).oversized:
            verify(self, env, value)

    return verify_size_quota
