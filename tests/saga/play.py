"""Plays an expected run: runs its machine in this process, notes every state and call, and stops it on demand."""

import datetime
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from authzed.api.v1 import permission_service_pb2
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel.branch_worker import BranchWorker
from moto.stepfunctions.parser.asl.component.state.state import CommonStateField

from local.aws.step_functions import StepFunctions
from local.stack.endpoints import state_machine_arn
from saga_core.settings import call_settings
from tests.saga.expected_runs import ExpectedRun
from tests.saga.scene import Scene
from tests.support.proxy import FaultProxy
from tests.support.saga_stack import Ended, registration_made

SPICEDB_METHODS = frozenset(permission_service_pb2.DESCRIPTOR.services_by_name["PermissionsService"].methods_by_name)

# As template.yaml has it: no call is late but the one that is made to be, however busy the machine.
PATIENT_SECONDS = "3"
HASTY_SECONDS = "0.25"


def set_rpc_timeout(seconds: str) -> None:
    """Let functions wait so long for a call."""
    os.environ["RPC_TIMEOUT_SECONDS"] = seconds
    call_settings.cache_clear()


def engine(method: str) -> str:
    """The engine that a method belongs to, ``spicedb`` or ``temporal``."""
    return "spicedb" if method in SPICEDB_METHODS else "temporal"


@dataclass
class Play:
    """One execution of an expected run.

    Attributes:
        stop_in: the state that the execution is stopped in, before that state does anything.
        hasty_in: the state whose function waits only a short time for a call, until `be_patient`.
        steps: the states entered so far, each with the calls made in it, in the form of `ExpectedRun.steps`.
    """

    machines: StepFunctions
    scene: Scene
    expected: ExpectedRun
    stop_in: str | None = None
    hasty_in: str | None = None
    steps: list[str] = field(default_factory=list)
    _name: str = field(default_factory=lambda: str(uuid.uuid4()))
    _arn: str = ""
    _stopped: bool = False
    _noted: dict[FaultProxy, int] = field(default_factory=dict)

    def proxy(self, method: str) -> FaultProxy:
        """The proxy that calls of the method go through."""
        proxy: FaultProxy = getattr(self.scene.stack, engine(method))
        return proxy

    def run(self) -> Ended:
        """Run it to its end; where it is stopped while a function runs, to the end of that function."""
        enter = CommonStateField._eval_body
        start: Any = BranchWorker.start

        def start_and_join(worker: Any) -> None:
            if self._stopped:
                worker.stop(datetime.datetime.now(tz=datetime.UTC), error="Stopped", cause="by the test")
                worker._branch_worker_comm.on_terminated(worker.env)
            else:
                start(worker)
                worker._worker_thread.join()

        def entering(state: Any, env: Any) -> None:
            execution = env.states.context_object.context_object_data["Execution"]
            if execution["Name"] == self._name:
                self._enter(execution["Id"], state.name)
            enter(state, env)

        with pytest.MonkeyPatch.context() as moto:
            # The last that moto does between two states, in the execution's own thread.
            moto.setattr(CommonStateField, "_eval_body", entering)
            # Branches run one after the other, so that calls and states are always in the same order.
            moto.setattr(BranchWorker, "start", start_and_join)
            execution = self.machines.start_execution(
                state_machine_arn(self.expected.machine), self._name, json.dumps(self.expected.request(self.scene))
            )
            execution.over.wait()
            described = execution.described()
            if described["status"] == "ABORTED":
                while execution.to_history_output()["events"][-1]["type"] != "ExecutionAborted":
                    time.sleep(0.002)
            events: Any = execution.to_history_output()["events"]
        self._note_calls()
        return Ended(
            arn=self._arn,
            status=described["status"].value,
            states=[step.split()[0] for step in self.steps],
            branch_states=[],
            registration=registration_made(events),
            output=json.loads(described["output"]) if "output" in described else None,
            error=described.get("error"),
            cause=described.get("cause"),
        )

    def stop(self) -> None:
        """Stop the execution, as an operator would."""
        now = datetime.datetime.now(tz=datetime.UTC)
        self._stopped = True
        self.machines.describe_execution(self._arn).stop(now, error="Stopped", cause="by the test")

    def be_patient(self) -> None:
        """Let functions wait for a call as long as they always do."""
        self.hasty_in = None
        set_rpc_timeout(PATIENT_SECONDS)

    def _enter(self, arn: str, state: str) -> None:
        self._arn = arn
        self._note_calls()
        self.steps.append(state)
        if state == self.hasty_in:
            set_rpc_timeout(HASTY_SECONDS)
        if state == self.stop_in:
            self.stop()

    def _note_calls(self) -> None:
        for proxy in (self.scene.stack.spicedb, self.scene.stack.temporal):
            for method in proxy.calls[self._noted.get(proxy, 0) :]:
                self.steps[-1] += f" {method}"
            self._noted[proxy] = len(proxy.calls)
