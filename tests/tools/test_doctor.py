"""The command line of the doctor: what it asks of Step Functions, what it prints, and how it ends."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from saga_core.drift import Action, Kind
from tests.support.ports import free_port
from tools.doctor import machine
from tools.doctor.__main__ import main
from tools.doctor.kinds import ADVICE, REPAIRS
from tools.doctor.machine import Machine, Progress

ROOT = Path(__file__).resolve().parents[2]
FENCE = "f" * 64
ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:prod-reconcile-schedules"


def item(kind: str, schedule_id: str = "weather--daily", action: str = "none", **detail: Any) -> dict[str, Any]:
    return {"schedule_id": schedule_id, "kind": kind, "action": action, "detail": detail}


def output(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A report with these findings, none of which is repaired."""
    kinds: dict[str, dict[str, int]] = {}
    for each in items:
        count = kinds.setdefault(each["kind"], {"found": 0, "repaired": 0, "left": 0})
        count["found"] += 1
        count["left"] += 1
    whole = {"mode": "report", "seen": {"schedules": 41, "registrations": 39}, "kinds": kinds, "would_repair": 0}
    return {**whole, "waiting": 0, "stopped": None, "items": list(items), "items_left_out": 0, **changes}


def denied(operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not for you"}}, operation)


@dataclass
class FakeStepFunctions:
    """Step Functions, with one execution that ends as the test says.

    Attributes:
        ended: what DescribeExecution returns after `running` calls, besides the status RUNNING.
        pages: what GetExecutionHistory returns, call by call; nothing new after them.
    """

    ended: dict[str, Any]
    running: int = 0
    pages: list[Any] = field(default_factory=list)
    started: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def start_execution(self, **given: Any) -> dict[str, Any]:
        self.started.append(given)
        return {"executionArn": "arn:execution"}

    def describe_execution(self, **_: Any) -> dict[str, Any]:
        self.running -= 1
        return {"status": "RUNNING"} if self.running >= 0 else self.ended

    def get_execution_history(self, **given: Any) -> dict[str, Any]:
        self.asked.append(given)
        page = self.pages.pop(0) if self.pages else {"events": []}
        if isinstance(page, Exception):
            raise page
        assert isinstance(page, dict)
        return page

    def stop_execution(self, **given: Any) -> None:
        self.stopped.append(given["executionArn"])

    @property
    def input(self) -> Any:
        """The input of the one execution that was started."""
        (started,) = self.started
        return json.loads(started["input"])


@dataclass
class Steps:
    """Lets boto3 make fakes, and notes with which configuration."""

    fake: FakeStepFunctions
    configuration: dict[str, Any] = field(default_factory=dict)

    def client(self, _service: str, **configuration: Any) -> FakeStepFunctions:
        self.configuration = configuration
        return self.fake


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Step Functions whose execution finds that the systems agree, until a test says otherwise."""
    made = Steps(FakeStepFunctions({"status": "SUCCEEDED", "output": json.dumps(output())}))
    monkeypatch.setattr(boto3, "client", made.client)
    monkeypatch.setattr(machine, "_FIRST_POLL_SECONDS", 0.001)
    handler = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, handler)


def ends(steps: Steps, report: dict[str, Any]) -> None:
    steps.fake.ended = {"status": "SUCCEEDED", "output": json.dumps(report)}


def test_systems_that_agree_are_exit_code_0(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0

    assert "The two systems agree (schedules in Temporal: 41, registrations in SpiceDB: 39)." in capsys.readouterr().out
    assert steps.fake.input == {"mode": "report"}


def test_findings_that_are_left_are_exit_code_2_and_shown_with_what_to_do(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    created_at = (datetime.now(UTC) - timedelta(days=3, hours=4, minutes=5)).isoformat()
    unowned = item("unowned", "weather--daily", "restore", created_at=created_at, creator="user:=alice=40x")
    other = item("other_owner", "weather--hourly", owners=["user:bob", "user:carol"], creator="user:alice")
    ends(steps, output(unowned, other, item("orphan", "sea--tide", "remove", fence=FENCE), would_repair=2))

    assert main([]) == 2

    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert ["unowned", "1", "0", "1", "a schedule with a creator, and no"] in [row[:5] for row in cells]
    assert ["weather--daily", "unowned", "(user:alice@x)", "3 d 4 h"] in [row[:4] for row in cells]
    assert ["weather--hourly", "other_owner", "user:bob, user:carol", "-"] in [row[:4] for row in cells]
    assert "a repair removes the relationships" in next(row[4] for row in cells if row[0] == "sea--tide")
    assert "Findings left: 3 " in out
    assert "A repair changes 2: add --repair" in out


def test_what_a_repair_has_done_is_told_from_what_it_has_left(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    report = output(item("orphan", "a--x", "remove: done"), item("orphan", "a--y", "remove"), mode="repair")
    ends(steps, {**report, "kinds": {"orphan": {"found": 2, "repaired": 1, "left": 1}}, "would_repair": 2})

    assert main(["--repair"]) == 2

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "a--x" in line and "done: it removes" in line]
    assert [line for line in lines if "a--y" in line and "a repair removes" in line]
    assert not [line for line in lines if "add --repair" in line]


def test_a_repair_that_leaves_nothing_is_exit_code_0(steps: Steps) -> None:
    report = output(item("orphan", "a--x", "remove: done"), mode="repair")
    ends(steps, {**report, "kinds": {"orphan": {"found": 1, "repaired": 1, "left": 0}}})

    assert main(["--repair"]) == 0


def test_ids_that_are_not_ours_are_counted_and_no_drift(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ends(steps, output(kinds={"foreign": {"found": 7, "repaired": 0, "left": 7}}))

    assert main([]) == 0

    assert "foreign" in capsys.readouterr().out


def test_a_run_that_stopped_at_a_bound_is_exit_code_1_and_says_why(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(steps, output(item("orphan", action="remove"), mode="repair", stopped="90 repairs are more than 20"))

    assert main(["--repair"]) == 1

    assert "Stopped: 90 repairs are more than 20" in capsys.readouterr().out


def test_schedules_that_are_too_young_and_items_left_out_are_named(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(steps, output(item("orphan"), waiting=5, items_left_out=12))

    main([])

    out = capsys.readouterr().out
    assert "Not judged: 5, in flight or younger than the lease" in out
    assert "… and 12 more" in out


def test_kinds_that_are_asked_for_alone_decide_the_exit_code(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ends(steps, output(item("orphan", "sea--tide"), item("unowned", "weather--daily")))

    assert main(["--kind", "orphan"]) == 2
    assert "weather--daily" not in capsys.readouterr().out
    assert main(["--kind", "revoked", "--kind", "incomplete"]) == 0
    assert json.loads(steps.fake.started[1]["input"])["kinds"] == ["revoked", "incomplete"]


def test_json_is_the_output_of_the_machine(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    report = output(item("orphan", fence=FENCE))
    ends(steps, report)

    assert main(["--json"]) == 2

    assert json.loads(capsys.readouterr().out) == report


def test_every_option_reaches_the_machine(steps: Steps) -> None:
    repair = ["--repair", "--max-repairs", "9", "--confirm", "40", "--pause-revoked", "--agent", "weather"]
    adopt = ["--adopt", "weather--daily=user:al=ice", "--adopt", "sea--tide=service_account:bot"]

    assert main([*repair, *adopt]) == 0

    assert steps.fake.input == {
        "mode": "repair",
        "agent_id": "weather",
        "max_repairs": 9,
        "confirm": 40,
        "revoked": "pause",
        "adopt": {"weather--daily": "user:al=ice", "sea--tide": "service_account:bot"},
    }


def test_a_deployment_is_asked_in_its_region_with_the_credentials_of_the_person(steps: Steps) -> None:
    assert main(["--machine-arn", ARN]) == 0

    assert steps.configuration["region_name"] == "eu-west-1"
    assert "aws_access_key_id" not in steps.configuration
    assert steps.fake.started[0]["stateMachineArn"] == ARN


def test_the_laptop_is_asked_at_its_port(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LOCAL_PORT", "9123")

    assert main([]) == 0

    assert steps.configuration["endpoint_url"] == "http://127.0.0.1:9123"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--agent", "no agent"], "agent_id"),
        (["--schedule", "daily"], "schedule_id"),
        (["--schedule", "weather--Daily"], "schedule_id"),
        (["--schedule", ""], "schedule_id"),
        (["--agent", "weather", "--schedule", "weather--daily"], "exclude"),
        (["--kind", "broken"], "--kind"),
        (["--repair", "--max-repairs", "0"], "max_repairs"),
        (["--repair", "--max-repairs", "many"], "--max-repairs"),
        (["--repair", "--confirm", "-1"], "confirm"),
        (["--max-repairs", "3"], "--repair"),
        (["--confirm", "3"], "--repair"),
        (["--adopt", "weather--daily=user:alice"], "--repair"),
        (["--repair", "--adopt", "weather--daily"], "--adopt"),
        (["--repair", "--adopt", "weather--daily=alice"], "adopt"),
        (["--repair", "--adopt", "weather--daily=agent:alice"], "adopt"),
        (["--repair", "--adopt", "weather--daily=user:"], "adopt"),
        (["--repair", "--adopt", "daily=user:alice"], "adopt"),
        (["--repair", "--adopt", "a--b=user:alice", "--adopt", "a--b=user:bob"], "twice"),
        (["--machine-arn", "reconcile-schedules"], "--machine-arn"),
        (["--endpoint", "127.0.0.1:8083"], "--endpoint"),
        (["--explain", "daily"], "schedule_id"),
        (["--explain", ""], "schedule_id"),
        (["--explain", "weather--daily", "--repair"], "--explain"),
        (["--explain", "weather--daily", "--endpoint", "http://127.0.0.1:8083"], "--explain"),
        (["--rep"], "--rep"),
        (["weather--daily"], "weather--daily"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_starts(
    arguments: list[str], says: str, steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1
    assert steps.fake.started == []


def test_a_port_that_is_none_is_refused(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LOCAL_PORT", "eighty")

    assert main([]) == 1

    assert "AWS_LOCAL_PORT=eighty" in capsys.readouterr().err
    assert steps.fake.started == []


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (
            {"status": "FAILED", "error": "TemporalUnavailable", "cause": '{"errorMessage": "Temporal: UNAVAILABLE"}'},
            "FAILED: TemporalUnavailable: Temporal: UNAVAILABLE",
        ),
        (
            {
                "status": "FAILED",
                "error": "E",
                "cause": '{"Error": "E", "Cause": "{\\"errorMessage\\": \\"in a shard\\"}"}',
            },
            "FAILED: E: in a shard",
        ),
        ({"status": "FAILED", "error": "States.Runtime", "cause": "no\x1b[31m path"}, "no\\x1b[31m path"),
        ({"status": "TIMED_OUT"}, "TIMED_OUT"),
        ({"status": "ABORTED"}, "ABORTED"),
        ({"status": "SUCCEEDED", "output": '{"mode": "report"}'}, "not a report"),
        ({"status": "SUCCEEDED", "output": "[]"}, "not a report"),
    ],
)
def test_a_run_without_a_report_is_exit_code_1_and_one_line(
    ended: dict[str, Any], says: str, steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.fake.ended = ended

    assert main([]) == 1

    printed = capsys.readouterr()
    assert says in printed.err.splitlines()[-1]
    assert printed.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_who_ends_the_command_ends_the_execution(
    number: signal.Signals, steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps.fake, "describe_execution", lambda **_: signal.raise_signal(number))

    assert main(["--repair"]) == 1

    assert steps.fake.stopped == ["arn:execution"]
    assert "stopped arn:execution; what it has repaired stays repaired" in capsys.readouterr().err


def test_an_end_that_cannot_be_asked_for_names_the_execution(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(steps.fake, "describe_execution", unreachable)

    assert main([]) == 1

    assert "may go on: arn:execution" in capsys.readouterr().err


def test_a_stack_that_is_not_running_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--endpoint", f"http://127.0.0.1:{free_port()}"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "is `make run` up" in line


def test_a_person_who_may_not_start_the_machine_is_told_so(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise denied("StartExecution")

    monkeypatch.setattr(steps.fake, "start_execution", refuse)

    assert main(["--machine-arn", ARN]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "AccessDeniedException" in line


def test_a_history_that_may_not_be_read_ends_the_count_and_not_the_run(steps: Steps) -> None:
    steps.fake.running, steps.fake.pages = 3, [denied("GetExecutionHistory")]

    assert main([]) == 0

    assert len(steps.fake.asked) == 1


def event(number: int, of_type: str, **details: Any) -> dict[str, Any]:
    return {"id": number, "type": of_type, **details}


BEGUN = event(2, "MapStateStarted", mapStateStartedEventDetails={"length": 3})
FIRST = event(3, "TaskSucceeded")
ENDED = event(4, "MapIterationSucceeded")


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(
            [
                {"events": [BEGUN, event(1, "ExecutionStarted")]},
                {"events": [ENDED], "nextToken": "older"},
                {"events": [FIRST, BEGUN], "nextToken": "older still"},
            ],
            id="newest first, in pages",
        ),
        pytest.param(
            [
                {"events": [event(1, "ExecutionStarted"), BEGUN]},
                {"events": [event(1, "ExecutionStarted"), BEGUN, FIRST, ENDED]},
            ],
            id="all of it, oldest first",
        ),
    ],
)
def test_shards_and_steps_are_counted_once(pages: list[Any], steps: Steps) -> None:
    steps.fake.running, steps.fake.pages = 3, pages
    noted: list[Progress] = []

    Machine.on_the_laptop(None).output("arn:execution", noted.append)

    assert noted == [Progress(3, 0, 0), Progress(3, 1, 1), Progress(3, 1, 1)]
    assert all(asked["includeExecutionData"] is False for asked in steps.fake.asked)


def test_every_kind_and_every_repair_is_explained_here_and_in_the_runbook() -> None:
    assert set(ADVICE) == set(Kind)
    assert set(REPAIRS) == set(Action) - {Action.NONE}
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [kind for kind in Kind if f"| `{kind}` |" not in runbook] == []


def test_a_kind_of_a_later_release_is_shown(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ends(steps, output(item("doubled", action="halve")))

    assert main([]) == 2

    out = capsys.readouterr().out
    assert "see docs/operations.md" in out
    assert "a repair halve" in out
