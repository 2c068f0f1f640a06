# mypy: allow-untyped-calls
# mypy: disable-error-code="arg-type, attr-defined, override, union-attr"
# - moto has two backends for state machines, and their annotations contradict each other.
"""Step Functions on a laptop: moto's interpreter runs the shipped ASL, corrected where moto differs from AWS.

This module extends moto's classes: executions that know how they ended (_Execution), machines that can run
synchronously (StepFunctions), and the API in front of them (StepFunctionsApi). Changes inside the interpreter itself
are in local.aws.moto_patches.

Intended differences from AWS:
- An input may be larger than 262,144 bytes, so that a test can see what the first function does with it. The limit then
  applies to no state of that execution. AWS refuses such an input.
- An input that is nested deeper than moto's interpreter can copy is refused.
- A machine has no versions: its alias stands for the machine itself.
- Executions of Express machines can be described, listed and stopped like those of Standard machines.
- A machine may remember its last executions alone; AWS remembers those of the last 90 days.
"""

import copy
import datetime
import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import InvalidExecutionInput
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.eval.evaluation_details import EvaluationDetails, ExecutionDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramStopped, ProgramTimedOut
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from local.aws import moto_patches
from local.aws.definitions import EXPRESS, Definitions
from local.aws.intrinsics import TemplateError
from local.aws.lambda_runtime import LambdaRuntime
from local.aws.resources import StateMachine as TemplateStateMachine
from local.stack.endpoints import ACCOUNT, REGION
from saga_core import limits

_ROLE = f"arn:aws:iam::{ACCOUNT}:role/local"
_POLL_SECONDS = 0.001
_MAX_INPUT_DEPTH = 300  # moto copies a state by recursion, and Python ends it at a depth of about 450


@dataclass(frozen=True)
class Backoff:
    """A wait before a retry. `seconds` is how long AWS would wait, jitter included."""

    execution_arn: str
    state: str
    seconds: float


class _Worker(ExecutionWorker):
    def __init__(self, program: Program, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._program = program

    def _get_evaluation_entrypoint(self) -> Program:
        return self._program  # moto parses the definition again here, which takes longer than running it


class _Ending(BaseExecutionWorkerCommunication):
    """Receives the end of an execution from the interpreter."""

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
    """An execution that ends once. Its status is set last, so a caller never sees a status without its output."""

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
        self._step_functions = step_functions
        self._details = moto_patches.Details(
            _ROLE,
            step_functions.functions,
            step_functions.time_scale,
            step_functions.backoff,
            oversized=not moto_patches.is_within_size_quota(text),
        )

    def _get_start_execution_worker_comm(self) -> _Ending:
        return _Ending(self)

    def get_start_execution_details(self) -> ExecutionDetails:
        started = self.start_date.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return ExecutionDetails(self.exec_arn, self.name, self.role_arn, self.input_data, started)

    def _get_start_execution_worker(self) -> _Worker:
        machine = self.get_start_state_machine_details()
        return _Worker(
            self._step_functions.definitions.program(machine.definition, machine.typ),
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
        """End the execution as ABORTED at once. A running task goes on in its thread, and no state follows it."""
        # The interpreter cannot be stopped before it has started.
        while (env := self.exec_worker.env) is None or env.program_state() is None:
            time.sleep(_POLL_SECONDS)
        super().stop(stop_date=stop_date, error=error, cause=cause)
        if isinstance(env.program_state(), ProgramStopped):
            self.end(ExecutionStatus.ABORTED, error=error, cause=cause)

    def described(self) -> dict[str, Any]:
        """The members that the responses of DescribeExecution and StartSyncExecution have in common."""
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

    # moto's own pattern, extended to Express executions.
    accepted_exec_arn_format = re.compile(r"arn:aws:states:[^:]+:\d{12}:(execution|express):.+")

    def __init__(
        self,
        functions: LambdaRuntime,
        time_scale: float = 1.0,
        on_backoff: Callable[[Backoff], None] | None = None,
        remembered: int = sys.maxsize,
    ) -> None:
        """`time_scale` multiplies the timeouts of tasks and machines, and the waits before retries.

        With `on_backoff` there are no such waits; it is called in place of each one. `remembered` is how many
        executions that have ended each machine knows; one takes 50 to 100 KB.
        """
        moto_patches.install()
        super().__init__(REGION, ACCOUNT)
        self.functions = functions
        self.time_scale = time_scale
        self._on_backoff = on_backoff
        self._remembered = remembered
        self._starting = threading.Lock()
        self.definitions = Definitions(time_scale)
        self._aliases: dict[str, str] = {}  # ARNs of aliases, with those of their machines

    def backoff(self, execution_arn: str, state: str, seconds: float) -> float:
        """How many seconds to wait before a retry for which AWS waits `seconds`."""
        if self._on_backoff is None:
            return seconds * self.time_scale
        self._on_backoff(Backoff(execution_arn, state, seconds))
        return 0

    def deploy(self, machine: TemplateStateMachine) -> None:
        """Create a machine of the template. Raises TemplateError, which names it, when its definition is not ASL."""
        try:
            deployed = self.create_state_machine(machine.name, machine.definition, _ROLE, sm_type=machine.type)
        except AWSError as error:
            raise TemplateError(f"{machine.logical_id}: {error.message}") from error
        if machine.alias:
            self._aliases[f"{deployed.arn}:{machine.alias}"] = deployed.arn

    def describe_state_machine(self, arn: str) -> StateMachine:
        """The machine with this ARN, or with this alias."""
        return super().describe_state_machine(self._aliases.get(arn, arn))

    def create_state_machine(self, name: str, definition: str, *args: Any, **kwargs: Any) -> StateMachine:
        self.definitions.parsed(definition)  # moto's own method, which is left out here, forgets the result
        machine = super(StepFunctionsParserBackend, self).create_state_machine(name, definition, *args, **kwargs)
        machine.sm_type = machine.type  # moto leaves it at STANDARD
        return machine

    def start_execution(
        self,
        state_machine_arn: str,
        name: str | None = None,
        execution_input: str | None = None,
        trace_header: str | None = None,  # noqa: ARG002 - moto's signature
    ) -> _Execution:
        """Start an execution and return at once.

        As on AWS, an execution without a name gets a random one. If a Standard machine is running an execution of this
        name, that one is returned if its input is the same; otherwise the name is refused. An Express machine runs
        every request, each under its own ARN.
        """
        machine = self.describe_state_machine(state_machine_arn)
        name = name or str(uuid.uuid4())
        self._validate_name(name)
        text = execution_input or "{}"
        try:
            depth = limits.depth(json.loads(text))
        except ValueError as error:
            raise InvalidExecutionInput(f"Invalid State Machine Execution Input: '{error}'") from None
        except RecursionError:
            depth = _MAX_INPUT_DEPTH + 1
        if depth > _MAX_INPUT_DEPTH:
            raise InvalidExecutionInput(
                f"Invalid State Machine Execution Input: 'deeper than {_MAX_INPUT_DEPTH} levels'"
            )
        prefix = f"arn:aws:states:{REGION}:{ACCOUNT}"
        with self._starting:
            if machine.type == EXPRESS:
                arn = f"{prefix}:express:{machine.name}:{name}:{uuid.uuid4()}"
            else:
                arn = f"{prefix}:execution:{machine.name}:{name}"
                if running := machine._handle_name_input_idempotency(name, text):
                    return cast(_Execution, running)
            execution = _Execution(self, machine, arn, name, text)
            # The same list: every execution has a copy of its machine, and so would keep those before it.
            machine.executions[:] = self._without_old_ones(machine.executions)
            machine.executions.append(execution)
            moto_patches.forget()
            execution.start()
        return execution

    def _without_old_ones(self, executions: list[Any]) -> list[Any]:
        ended = [execution for execution in executions if execution.over.is_set()]
        forgotten = set(ended[: max(0, len(ended) - self._remembered)])
        return [execution for execution in executions if execution not in forgotten]

    def start_sync_execution(self, state_machine_arn: str, name: str | None, execution_input: str | None) -> _Execution:
        """Run an Express machine to its end. Raises StateMachineTypeNotSupported for a Standard one."""
        if self.describe_state_machine(state_machine_arn).type != EXPRESS:
            raise AWSError(
                "This operation is not supported by this type of state machine", "StateMachineTypeNotSupported"
            )
        execution = self.start_execution(state_machine_arn, name, execution_input)
        execution.over.wait()
        return execution

    def stop_all(self) -> None:
        """Stop every running execution, so that no further task starts."""
        for machine in self.state_machines:
            for execution in machine.executions:
                if not execution.over.is_set():
                    execution.stop(datetime.datetime.now(tz=datetime.UTC), error=None, cause=None)


class StepFunctionsApi(StepFunctionResponse):
    """One request to the Step Functions API, for the machines of one server."""

    def __init__(self, step_functions: StepFunctions) -> None:
        super().__init__()
        self._step_functions = step_functions

    @property
    def stepfunction_backend(self) -> StepFunctions:
        return self._step_functions

    def start_sync_execution(self) -> ActionResult:
        """StartSyncExecution, which moto does not have."""
        execution = self._step_functions.start_sync_execution(
            self._get_param("stateMachineArn"), self._get_param("name"), self._get_param("input")
        )
        described = execution.described()
        if described["status"] == ExecutionStatus.ABORTED:
            described["status"] = ExecutionStatus.FAILED  # this call has only three statuses, and no other fits
        return ActionResult(described)

    def describe_execution(self) -> ActionResult:
        """DescribeExecution; moto's lacks a timeout's stopDate, and the quotes of an output that is text."""
        return ActionResult(self._step_functions.describe_execution(self._get_param("executionArn")).described())

    def stop_execution(self) -> ActionResult:
        """StopExecution; moto's drops the caller's error and cause."""
        execution = self._step_functions.describe_execution(self._get_param("executionArn"))
        now = datetime.datetime.now(tz=datetime.UTC)
        execution.stop(now, error=self._get_param("error"), cause=self._get_param("cause"))
        return ActionResult({"stopDate": execution.stop_date})
