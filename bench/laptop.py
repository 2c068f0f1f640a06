"""The laptop stack: how long until it is ready, and how the memory of its AWS process grows with its executions."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from bench import events
from local.stack import clients
from local.stack.endpoints import Endpoints, state_machine_arn
from local.stack.parts import running, temporal
from tests.support.ports import free_port
from tests.support.sam import ROOT
from tools.figures.figure import Figure, Progress, compared, exact, rounds

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

# It grows until it knows as many executions as it ever will, and a while longer; the growth is measured after that.
_BEFORE, _CYCLES = 300, 300
_READY = "started;"
_PORTS = ("API_PORT", "AWS_LOCAL_PORT", "SPICEDB_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")


def measure(number: int) -> list[Figure]:
    """Start the stack ``number`` times, in turn with Temporal alone; then run creates and deletes on one."""
    found = rounds(number, {"this": _stack, "Temporal alone": _temporal}, "laptop")
    base = found["Temporal alone"]["seconds"]
    return [
        compared("laptop", "from make run to ready", "s", found["this"]["seconds"], "Temporal alone", base),
        _growth(),
    ]


def _stack() -> dict[str, float]:
    ports = {name: str(free_port()) for name in _PORTS}
    began = time.perf_counter()
    stack = subprocess.Popen(
        [sys.executable, "-m", "local.stack"], cwd=ROOT, env={**os.environ, **ports}, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in stack.stdout or ():
            if line.startswith(_READY):
                return {"seconds": time.perf_counter() - began}
    finally:
        stack.send_signal(signal.SIGTERM)
        stack.communicate()
    raise RuntimeError("the laptop stack did not start")


def _temporal() -> dict[str, float]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as logs, temporal(_endpoints(), Path(logs), None):
        return {"seconds": time.perf_counter() - began}


def _growth() -> Figure:
    endpoints = _endpoints()
    with tempfile.TemporaryDirectory() as logs, running(endpoints, Path(logs), None) as children:
        events.prepare(endpoints)
        sfn = clients.stepfunctions(endpoints)
        (aws,) = (child.process.pid for child in children if child.name == "Step Functions and Lambda")
        with Progress("memory of the AWS process", _BEFORE + _CYCLES) as progress:
            for number in range(_BEFORE + _CYCLES):
                if number == _BEFORE:
                    before = _resident(aws)
                _cycle(sfn)
                progress.step("a create and a delete")
        after = _resident(aws)
    what = f"AWS process after {_CYCLES} creates and deletes"
    return exact("laptop", what, "MB", after, "before them", before)


def _cycle(sfn: "SFNClient") -> None:
    name = uuid.uuid4().hex
    for verb, text in (("create", events.creation(name)), ("delete", events.deletion(name))):
        machine = state_machine_arn(f"{verb}-schedule-express")
        ended = sfn.start_sync_execution(stateMachineArn=machine, input=text)
        if ended["status"] != "SUCCEEDED":
            raise RuntimeError(f"{verb}: {ended['status']}: {ended.get('error')}")


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def _endpoints() -> Endpoints:
    return Endpoints(*(free_port() for _ in range(5)))
