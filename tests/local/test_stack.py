"""`python -m local.stack` as a person uses it: started in a terminal, used from a second one, ended with Ctrl-C."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import boto3
import pytest
from authzed.api.v1 import Consistency, InsecureClient, ReadRelationshipsRequest, RelationshipFilter
from botocore.config import Config
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode

from local.stack.endpoints import Endpoints
from local.stack.process import accepts_connections
from local.stack.show import show
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
PORTS = ("API_PORT", "AWS_LOCAL_PORT", "SPICEDB_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")
UP = "The stack is up."
PAGE = "http://localhost:5173"
IN_THE_SHOW = "1  A schedule is created"
MACHINES = "arn:aws:states:us-east-1:123456789012:stateMachine:"
# What the environment of a second terminal does not have.
NOT_OURS = ("ONCE", "PERSIST", "TEMPORAL_SCHEDULER", "PARAMETERS", *PORTS)


@dataclass
class Run:
    """A stack in its own session, as in its own terminal. Its output goes to files.

    Attributes:
        mark: a text in the environment of all its processes.
    """

    process: "subprocess.Popen[bytes]"
    ports: dict[str, str]
    folder: Path
    mark: str

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(*(int(self.ports[variable]) for variable in PORTS))

    def out(self) -> str:
        return (self.folder / "out").read_text()

    def err(self) -> str:
        return (self.folder / "err").read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this text."""
        self.until(lambda: text in self.out())

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true. It has to become true before the run ends."""
        until(lambda: condition() or self.process.poll() is not None)
        assert condition(), self.err() or self.out()

    def ctrl_c(self) -> None:
        """Send SIGINT to its whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end. Returns the exit code."""
        return self.process.wait(60)

    def processes(self) -> dict[int, str]:
        """Its processes that have not ended: pid and command line."""
        command = ["ps", "axeww", "-o", "pid=,command="]
        listed = subprocess.run(command, text=True, capture_output=True, check=True)
        lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines() if self.mark in line]
        return {int(pid): command for pid, command in lines}

    def blocks_signals(self) -> bool:
        """Whether the supervisor blocks signals, which it does from the first lines of local.stack on."""
        command = ["ps", "-o", "blocked=", "-p", str(self.process.pid)]
        mask = subprocess.run(command, text=True, capture_output=True, check=True).stdout
        return int(mask, 16) != 0

    def pid(self, words: str) -> int:
        """The pid of its only process whose command line contains these words."""
        (pid,) = (pid for pid, command in self.processes().items() if words in command)
        return pid


@contextmanager
def started(folder: Path, variables: Mapping[str, str] = {}, project: Path = ROOT) -> Iterator[Run]:
    """A stack on free ports, or on the ports in the variables."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {variable: variables.get(variable, str(free_port())) for variable in PORTS}
    mark = f"RUN={uuid.uuid4().hex}"
    environment = {**elsewhere(), **variables, **ports, "RUN": mark.partition("=")[2]}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.stack"],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    run = Run(process, ports, folder, mark)
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        until(lambda: not run.processes())
        shutil.rmtree(project / ".local" / "logs" / ports["AWS_LOCAL_PORT"], ignore_errors=True)


def elsewhere() -> dict[str, str]:
    """The environment of a terminal without the variables of a stack or of a `make test` that runs this."""
    return {name: value for name, value in os.environ.items() if name not in (*NOT_OURS, "MAKEFLAGS", "MAKELEVEL")}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder. Temporal keeps its data in `data` below it."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def broken(place: Path) -> Run:
    """A stack in which Temporal kept a schedule, after its SpiceDB was killed."""
    with started(place / "first", {"PERSIST": str(place / "data")}) as run:
        run.wait_for(UP)
        own("kept-agent", run)
        assert create(run.endpoints, "kept-agent")["status"] == "SUCCEEDED"
        os.kill(run.pid("local.stack.spicedb"), signal.SIGKILL)
        run.wait()
        assert not run.processes()
    return run


@pytest.fixture(scope="module")
def stack(place: Path, broken: Run) -> Iterator[Run]:
    """A running stack on the data that `broken` left, open to the pages of an origin. Ctrl-C ends it."""
    assert broken.process.returncode is not None
    variables = {"PERSIST": str(place / "data"), "PARAMETERS": f"CorsOrigins={PAGE} LogLevel=DEBUG"}
    with started(place / "second", variables) as run:
        run.wait_for(UP)
        yield run
        run.ctrl_c()
        assert run.wait() == 0
        assert not run.processes()
        assert run.err() == ""


def own(agent: str, run: Run, owner: str = "bob") -> None:
    """What `make agent` does."""
    command = [sys.executable, "-m", "local.stack.agent", "--owner", owner, "--agent", agent]
    environment = {**elsewhere(), "SPICEDB_PORT": run.ports["SPICEDB_PORT"]}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    assert done.stdout == f"user {owner} owns agent {agent}\n"


def stepfunctions(endpoint_url: str) -> Any:
    return boto3.client(
        "stepfunctions",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(inject_host_prefix=False),
    )


def request(agent: str, name: str) -> str:
    schedule = {"name": name, "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}
    return json.dumps({"agent_id": agent, "principal": {"user_id": "bob"}, "schedule": schedule})


def create(endpoints: Endpoints, agent: str, name: str = "daily") -> Any:
    """Create a schedule and wait for the end. Returns how the execution ended."""
    machine = MACHINES + "create-schedule-express"
    return stepfunctions(endpoints.aws).start_sync_execution(stateMachineArn=machine, input=request(agent, name))


def delete(endpoints: Endpoints, agent: str, name: str = "daily") -> Any:
    """Delete a schedule and wait for the end. Returns how the execution ended."""
    deletion = json.dumps({"agent_id": agent, "schedule_name": name})
    machine = MACHINES + "delete-schedule-express"
    return stepfunctions(endpoints.aws).start_sync_execution(stateMachineArn=machine, input=deletion)


def relationships(address: str, schedule_id: str) -> set[str]:
    """SpiceDB's relationships of a schedule, each as `relation@type:id`."""
    wanted = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id),
    )
    found = [reply.relationship for reply in InsecureClient(address, "local").ReadRelationships(wanted)]
    return {f"{r.relation}@{r.subject.object.object_type}:{r.subject.object.object_id}" for r in found}


def schedule(address: str, schedule_id: str) -> ScheduleDescription | None:
    """A schedule in Temporal, or None."""

    async def describe() -> ScheduleDescription:
        client = await Client.connect(address)
        return await client.get_schedule_handle(schedule_id).describe()

    try:
        return asyncio.run(describe())
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def address(stack: Run, what: str) -> str:
    """The address of a part, as the stack printed it."""
    printed = re.search(rf"^  {what} +(?P<address>[^\s,]+)", stack.out(), re.MULTILINE)
    assert printed, stack.out()
    return printed["address"]


def test_what_is_printed_can_be_read_in_a_pipe(stack: Run) -> None:
    lines = stack.out().splitlines()
    assert "\x1b" not in stack.out()
    assert lines[0] == "starting SpiceDB, Temporal, Step Functions and Lambda …"
    printed = re.findall(r"^   start .*\n((?: {6}.*\n)+)", stack.out(), re.MULTILINE)
    created, rejected, deleted = (json.loads(request) for request in printed)
    assert (created["agent_id"], deleted["agent_id"]) == ("weather-agent", "weather-agent")
    assert rejected == {"name": f"{deleted['schedule_name']}-bad", "cron_expression": "every other day"}
    assert "Every step did what it should." in lines


def test_no_line_is_longer_than_120_columns(stack: Run) -> None:
    assert UP in stack.out()
    assert max(map(len, stack.out().splitlines())) <= 120


def test_no_line_is_longer_than_120_columns_in_a_wider_terminal(stack: Run) -> None:
    environment = {**elsewhere(), **stack.ports, "FORCE_COLOR": "1", "COLUMNS": "250"}
    command = [sys.executable, "-m", "local.stack.show"]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    assert "\x1b[" in done.stdout
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert lines[-1] == "Every step did what it should."
    assert max(map(len, lines)) == 120


def test_the_show_prints_what_both_systems_hold_side_by_side(stack: Run) -> None:
    tables = re.findall(r"^   ╭.*?^   ╰", stack.out(), re.MULTILINE | re.DOTALL)
    rows = [[[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines()] for table in tables]
    assert [table[1] for table in rows] == [["SpiceDB: relationships", "Temporal: schedule"]] * 4
    held, *gone = [table[3:-1] for table in rows]
    assert gone == [[["nothing", "nothing"]]] * 3
    left, right = ([cell for cell in column if cell] for column in zip(*held, strict=True))
    assert [line.split()[0] for line in left] == ["owner", "parent_agent", "registered_by"]
    assert [line.split()[0] for line in right[:3]] == ["state", "created", "next"]
    fence = right[1].split()[-1]
    assert left[-1].endswith(f"registration:{fence}")


def test_the_show_prints_the_states_of_its_executions(stack: Run) -> None:
    states = re.findall(r"^   \d\d:\d\d:\d\d\.\d{3}  (\w+)$", stack.out(), re.MULTILINE)
    known = ["Register", "CreateSchedule", "Compensate", "DeleteSchedule", "Deregister"]
    assert list(dict.fromkeys(state for state in states if state in known)) == known


def test_the_logs_are_where_it_says(stack: Run) -> None:
    printed = address(stack, "Logs")
    assert f"started; the logs are in {printed}\n" in stack.out()
    logs = ROOT / printed
    assert {log.name for log in logs.iterdir()} == {"aws.log", "gateway.log", "spicedb.log", "temporal.log"}
    assert '"step done"' in (logs / "aws.log").read_text()


def test_plain_clients_in_a_second_terminal_create_and_delete_a_schedule(stack: Run) -> None:
    own("standard-agent", stack)
    sfn = stepfunctions(address(stack, "Step Functions and Lambda"))
    spicedb, temporal = address(stack, "SpiceDB"), address(stack, "Temporal")

    def run(machine: str, text: str) -> Any:
        arn = sfn.start_execution(stateMachineArn=MACHINES + machine, name=uuid.uuid4().hex, input=text)["executionArn"]
        until(lambda: sfn.describe_execution(executionArn=arn)["status"] != "RUNNING")
        return json.loads(sfn.describe_execution(executionArn=arn)["output"])

    output = run("create-schedule", request("standard-agent", "hourly"))
    assert output["schedule_id"] == "standard-agent--hourly"
    held = relationships(spicedb, "standard-agent--hourly")
    assert {"owner@user:bob", "parent_agent@agent:standard-agent"} < held
    described = schedule(temporal, "standard-agent--hourly")
    assert described
    assert described.schedule.spec.intervals[0].every.total_seconds() == 3600

    output = run("delete-schedule", json.dumps({"agent_id": "standard-agent", "schedule_name": "hourly"}))
    assert (output["existed"], output["deregistered"]) == (True, True)
    assert relationships(spicedb, "standard-agent--hourly") == set()
    assert schedule(temporal, "standard-agent--hourly") is None


def test_the_express_machines_answer_a_caller_who_waits(stack: Run) -> None:
    own("express-agent", stack)
    created = create(stack.endpoints, "express-agent")
    assert json.loads(created["output"])["schedule"]["schedule_id"] == "express-agent--daily"
    refused = create(stack.endpoints, "agent-of-nobody")
    assert (refused["status"], refused["error"]) == ("FAILED", "AgentUpdateDenied")
    assert delete(stack.endpoints, "express-agent")["status"] == "SUCCEEDED"
    assert schedule(stack.endpoints.temporal, "express-agent--daily") is None


def test_a_page_of_an_origin_that_parameters_name_may_ask(stack: Run) -> None:
    connection = HTTPConnection(stack.endpoints.api.removeprefix("http://"), timeout=10)
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    connection.request("OPTIONS", "/agents/a/schedules", headers=asking)
    response = connection.getresponse()
    connection.close()

    assert (response.status, response.headers["access-control-allow-origin"]) == (204, PAGE)


def test_temporals_web_interface_answers(stack: Run) -> None:
    without_proxy = build_opener(ProxyHandler({}))
    with without_proxy.open(address(stack, "Temporal's web interface")) as page:
        assert b"<html" in page.read()


def test_what_it_prints_to_be_pasted_works(stack: Run) -> None:
    pasted = re.search(r"^make agent .*?^END$", stack.out(), re.MULTILINE | re.DOTALL)
    assert pasted
    # As printed, but make must not rebuild .venv, because this test may run from it.
    script = f'make() {{ command make --assume-old=.venv/.ready "$@"; }}\n{pasted[0]}\n'
    shell = ["sh", "-eu"]
    done = subprocess.run(shell, input=script, cwd=ROOT, env=elsewhere(), text=True, capture_output=True, check=True)
    owns, *responses, ended = done.stdout.splitlines()
    assert (owns, ended.partition(" ")[0], done.stderr) == ("user bob owns agent my-agent", "SUCCEEDED", "")
    created, listed, paused, deleted = (json.loads(response) for response in responses)
    assert (created["state"], paused["state"]) == ("ACTIVE", "PAUSED")
    assert listed["next_page_token"] is None, "the list may not contain the schedule yet"
    assert deleted == {"id": "my-agent--daily", "message": "schedule deleted"}
    assert "owner@user:bob" in relationships(stack.endpoints.spicedb, "my-agent--hourly")
    assert schedule(stack.endpoints.temporal, "my-agent--hourly")


def test_what_temporal_keeps_has_no_relationships_until_it_is_deleted_and_created_again(stack: Run) -> None:
    assert f"Temporal keeps its data in {stack.folder.parent / 'data'}." in stack.out()
    assert "SpiceDB keeps its data in memory only" in stack.out()
    temporal, spicedb = stack.endpoints.temporal, stack.endpoints.spicedb
    assert schedule(temporal, "kept-agent--daily")
    assert relationships(spicedb, "kept-agent--daily") == set()
    assert delete(stack.endpoints, "kept-agent")["status"] == "SUCCEEDED"
    own("kept-agent", stack)
    assert create(stack.endpoints, "kept-agent")["status"] == "SUCCEEDED"
    assert schedule(temporal, "kept-agent--daily")
    assert "owner@user:bob" in relationships(spicedb, "kept-agent--daily")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--owner", "bob", "--agent", ""], "both are required: make agent OWNER=<user id> AGENT=<agent id>"),
        (
            ["--owner", "bob", "--agent", "a--b"],
            "AGENT 'a--b' must be letters, digits and single hyphens, with a letter or digit at both ends",
        ),
        (
            ["--owner", "b" * 1025, "--agent", "a"],
            f"OWNER '{'b' * 1025}' must have 1 to 1024 characters once encoded for SpiceDB",
        ),
        (
            ["--owner", "bob", "--agent", "a"],
            "SpiceDB does not respond on 127.0.0.1:{port}; is `make run` up, with the same SPICEDB_PORT?",
        ),
    ],
)
def test_an_agent_that_cannot_be_made_somebodys_is_told_in_one_line(options: list[str], sentence: str) -> None:
    port = str(free_port())
    done = subprocess.run(
        [sys.executable, "-m", "local.stack.agent", *options],
        cwd=ROOT,
        env={**elsewhere(), "SPICEDB_PORT": port},
        text=True,
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"agent: {sentence.format(port=port)}\n")


@pytest.mark.parametrize("variable", PORTS)
def test_a_port_that_is_taken_is_told_in_one_line(stack: Run, tmp_path: Path, variable: str) -> None:
    port = stack.ports[variable]
    with started(tmp_path, {variable: port}) as run:
        assert run.wait() == 1
        assert re.fullmatch(rf"run: port {port} \([^)]+\) is taken; set {variable} to another\n", run.err())
        assert not run.processes()
    assert stack.process.poll() is None


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"AWS_LOCAL_PORT": "abc"}, "AWS_LOCAL_PORT=abc is not a port number (1 to 65535)"),
        ({"TEMPORAL_UI_PORT": "65536"}, "TEMPORAL_UI_PORT=65536 is not a port number (1 to 65535)"),
        (
            {"SPICEDB_PORT": "64999", "TEMPORAL_PORT": "64999"},
            "SPICEDB_PORT and TEMPORAL_PORT are both 64999; each needs its own port",
        ),
        ({"PARAMETERS": "CorsOrigins=* JwtReadScope"}, "PARAMETERS: JwtReadScope is not NAME=VALUE"),
        ({"TEMPORAL_SCHEDULER": "V2"}, "TEMPORAL_SCHEDULER=V2 is not one of v1, chasm, mixed"),
        ({"PERSIST": __file__}, f"PERSIST={__file__} cannot be a folder: File exists"),
        (
            {"SPICEDB_LIBRARY_PATH": "/nowhere"},
            "SpiceDB ended with code 1: SpiceDB's engine is not installed (/nowhere is missing)",
        ),
    ],
)
def test_a_stack_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    with started(tmp_path, variables) as run:
        assert run.wait() == 1
        assert run.err().startswith(f"run: {sentence}")
        assert run.err().count("\n") == 1
        assert not run.processes()


def test_a_part_that_dies_ends_the_stack_and_is_told_in_one_line(broken: Run) -> None:
    log = ROOT / ".local" / "logs" / broken.ports["AWS_LOCAL_PORT"] / "spicedb.log"
    assert broken.err() == f"run: SpiceDB was ended by a signal: Killed ({log})\n"
    assert broken.process.returncode == 1


@pytest.mark.parametrize(
    ("when", "signal_of"),
    [
        ("while it is imported", "Ctrl-C"),
        ("while its parts start", "Ctrl-C"),
        ("while its parts start", "kill"),
        ("in the show", "Ctrl-C"),
    ],
)
def test_interrupted_before_the_show_is_over_it_ends_everything(tmp_path: Path, when: str, signal_of: str) -> None:
    with started(tmp_path) as run:
        if when == "while it is imported":
            run.until(run.blocks_signals)
        elif when == "while its parts start":
            run.until(lambda: len(run.processes()) >= 4)
        else:
            run.wait_for(IN_THE_SHOW)
        if signal_of == "kill":
            run.process.terminate()
        else:
            run.ctrl_c()
        # If the show ended before the signal, the exit code is that of the show.
        assert run.wait() == (0 if UP in run.out() else 130)
        assert run.err() == ""
        assert not run.processes()


def test_what_it_started_ends_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.until(lambda: len(run.processes()) >= 4)
        run.process.kill()
        run.wait()
        until(lambda: not run.processes(), seconds=10)


def test_once_it_ends_after_a_good_show(tmp_path: Path) -> None:
    with started(tmp_path, {"ONCE": "1", "TEMPORAL_SCHEDULER": "chasm"}) as run:
        assert run.wait() == 0
        assert "\nTemporal makes new schedules with the CHASM scheduler (V2).\n" in run.out()
        assert run.out().endswith("Every step did what it should.\nending …\n")
        assert run.err() == ""
        assert not run.processes()


def test_a_show_in_which_spicedb_answers_wrong_fails_and_says_what_differs(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("functions", "layers", "local", "schema", "statemachine"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "template.yaml", project)
    (project / "node_modules").symlink_to(ROOT / "node_modules")
    schema = project / "schema" / "schedules.zed"
    right = schema.read_text()
    wrong = right.replace("permission update = owner + editor\n", "permission update = editor\n")
    assert wrong != right
    schema.write_text(wrong)

    with started(tmp_path / "run", {"ONCE": "1"}, project) as run:
        assert run.wait() == 1
        assert "not so: the execution succeeded\n       expected: SUCCEEDED\n       found:    FAILED" in run.out()
        assert "AgentUpdateDenied" in run.out()
        assert "expected: owner@user:alice\n" in run.out()
        assert "A step went wrong." in run.out()
        assert not run.processes()


@pytest.mark.parametrize("part", ["aws_port", "spicedb_port", "temporal_port"])
def test_a_show_on_a_stack_in_which_a_part_is_cut_off_fails_and_says_so(
    stack: Run, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    assert not accepts_connections(port)
    assert show(replace(stack.endpoints, **{part: port})) is False
    printed = capsys.readouterr().out
    assert "✘ not so: the show can go on\n" in printed
    assert str(port) in printed
    assert "Traceback" not in printed
