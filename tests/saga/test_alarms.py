"""The lines of real sagas raise the alarms that are for them, and no others; and the saved queries find them.

The laptop's Step Functions writes no log. Its records are made here of the history of an execution: the log of a
machine has the same events, with the same types and details, but without inputs and outputs.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from functions.register import app as register
from saga_core import settings
from tests.support.cloudwatch import AlarmState, Points, answered, counted, emitted, fields_read
from tests.support.functions import log_lines_to
from tests.support.machines import template
from tests.support.proxy import Fault
from tests.support.saga_stack import Ended, Stack

TEMPLATE = template()
ALARMS = TEMPLATE.properties("AWS::CloudWatch::Alarm")
(COMPOSITE,) = TEMPLATE.properties("AWS::CloudWatch::CompositeAlarm").values()
QUERIES = {
    query["Name"].rpartition("/")[2]: query["QueryString"]
    for query in TEMPLATE.properties("AWS::Logs::QueryDefinition").values()
}
PERIOD = 300


@dataclass
class Logs:
    """What the functions and the machines wrote.

    Attributes:
        records: of the machines' logs, by the machine's name.
    """

    stack: Stack
    stream: io.StringIO
    capture: pytest.CaptureFixture[str]
    records: dict[str, list[dict[str, Any]]]

    def add(self, ended: Ended) -> Ended:
        """Keep the log records of an execution."""
        machine = ended.arn.split(":")[6]
        history: Any = self.stack.sfn.get_execution_history(executionArn=ended.arn, maxResults=1000)["events"]
        self.records.setdefault(machine, []).extend(_record(event, ended.arn) for event in history)
        return ended

    def metrics(self) -> Points:
        """The data points of everything so far, all at second 0."""
        points: Points = {}
        for machine, records in self.records.items():
            group = "".join(map(str.capitalize, machine.split("-"))) + "LogGroup"
            filters = TEMPLATE.properties("AWS::Logs::MetricFilter").values()
            own = [each for each in filters if each["LogGroupName"] == group]
            points |= counted(own, [(0.0, record) for record in records])
        lines = [json.loads(line) for line in self.capture.readouterr().out.splitlines() if line.startswith('{"_aws"')]
        return points | {series: [(0.0, value) for _, value in data] for series, data in emitted(lines).items()}

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the functions and the records of the machines, numbered in place of their time."""
        functions = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        machines = [record for records in self.records.values() for record in records]
        return [{**line, "@timestamp": at} for at, line in enumerate([*functions, *machines])]


def _record(event: Mapping[str, Any], arn: str) -> dict[str, Any]:
    details: dict[str, Any] = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
    shown = {key: value for key, value in details.items() if key not in ("input", "output")}
    return {"id": event["id"], "type": event["type"], "details": shown, "execution_arn": arn}


@pytest.fixture
def logs(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Iterator[Logs]:
    """The logs of the stack from now on."""
    stream = io.StringIO()
    with log_lines_to(stream):
        yield Logs(stack, stream, capsys, {})


def raised(points: Points) -> set[str]:
    """The alarms that these data points raise."""
    alarms = {name: AlarmState(alarm).evaluate(points, 60) for name, alarm in ALARMS.items()}
    return {name for name, state in alarms.items() if state == "ALARM"}


def promise_lags(alarms: set[str]) -> bool:
    return not alarms.isdisjoint(re.findall(r'ALARM\("(\w+)"\)', COMPOSITE["AlarmRule"]))


def a_create_that_cannot_be_compensated(stack: Stack) -> Ended:
    stack.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)
    return stack.create(stack.request(cron_expression="nonsense"))


def a_create_whose_outcome_is_unknown(stack: Stack) -> Ended:
    stack.temporal.cut()
    return stack.create()


def a_delete_that_leaves_relationships(stack: Stack) -> Ended:
    stack.create()
    stack.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)
    return stack.delete()


def a_create_of_a_schedule_that_nobody_owns(stack: Stack) -> Ended:
    stack.create()
    stack.remove_all()
    return stack.create()


def a_function_that_dies(stack: Stack) -> Ended:
    stack.spicedb.inject("WriteRelationships", Fault.KILLED_BEFORE, times=None)
    return stack.create()


def a_function_that_dies_once(stack: Stack) -> Ended:
    stack.spicedb.inject("WriteRelationships", Fault.KILLED_BEFORE)
    return stack.create()


def a_create_and_a_delete(stack: Stack) -> Ended:
    stack.create()
    return stack.delete()


def a_create_that_is_denied(stack: Stack) -> Ended:
    stack.disown("alice")
    return stack.create()


def a_create_that_is_compensated(stack: Stack) -> Ended:
    return stack.create(stack.request(cron_expression="nonsense"))


def a_create_of_nonsense(stack: Stack) -> Ended:
    return stack.create({"agent_id": 7})


def a_create_of_a_name_that_is_taken(stack: Stack) -> Ended:
    stack.create()
    return stack.create()


def a_delete_of_nonsense(stack: Stack) -> Ended:
    return stack.run("delete-schedule", [])


@pytest.mark.parametrize(
    ("run", "alarms"),
    [
        (a_create_that_cannot_be_compensated, {"CompensationFailedAlarm"}),
        (a_create_whose_outcome_is_unknown, {"UnverifiedAlarm"}),
        (a_delete_that_leaves_relationships, {"DeregisterDeferredAlarm"}),
        (a_create_of_a_schedule_that_nobody_owns, {"UnownedFoundAlarm"}),
        (a_function_that_dies, {"FailedUnexpectedlyAlarm"}),
        (a_function_that_dies_once, set()),
        (a_create_and_a_delete, set()),
        (a_create_that_is_denied, set()),
        (a_create_that_is_compensated, set()),
        (a_create_of_nonsense, set()),
        (a_create_of_a_name_that_is_taken, set()),
        (a_delete_of_nonsense, set()),
    ],
)
def test_a_saga_raises_the_alarm_of_what_it_leaves_and_no_other(
    stack: Stack, logs: Logs, run: Callable[[Stack], Ended], alarms: set[str]
) -> None:
    logs.add(run(stack))

    found = raised(logs.metrics())

    assert found == alarms
    assert promise_lags(found) == bool(alarms - {"FailedUnexpectedlyAlarm"})


@pytest.mark.parametrize(
    ("engine", "alarm"), [("temporal", "TemporalUnavailableAlarm"), ("spicedb", "AuthorizationUnavailableAlarm")]
)
def test_an_engine_that_is_down_raises_its_alarm_with_the_second_saga_that_fails_of_it(
    stack: Stack, logs: Logs, engine: str, alarm: str
) -> None:
    getattr(stack, engine).cut()
    logs.add(stack.create() if engine == "spicedb" else stack.delete())
    once = logs.metrics()

    half_an_hour_before = {series: [(at - 1800, value) for at, value in data] for series, data in once.items()}
    twice = {series: [*half_an_hour_before[series], *data] for series, data in once.items()}

    assert alarm not in raised(once)
    assert alarm in raised(twice)


def test_a_wrong_configuration_raises_an_alarm(stack: Stack, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPC_TIMEOUT_SECONDS", "soon")
    settings.call_settings.cache_clear()
    logs.add(stack.create())
    settings.call_settings.cache_clear()

    assert "ConfigurationErrorAlarm" in raised(logs.metrics())


def test_an_error_that_nobody_expected_raises_alarms(stack: Stack, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(register, "_registered", surprise)
    logs.add(stack.create())

    assert raised(logs.metrics()) == {"UnexpectedErrorAlarm", "FailedUnexpectedlyAlarm"}
    (row,) = (row for row in rows(logs, "failures") if row["failed"] == "KeyError" and row["message"])
    assert row["because"].startswith("Traceback")


def rows(logs: Logs, query: str, **placeholders: str) -> list[dict[str, Any]]:
    """What a saved query finds, once what is in capitals is replaced."""
    text = QUERIES[query]
    for name, value in placeholders.items():
        assert name in text
        text = text.replace(name, value)
    return answered(text, logs.lines())


def test_saved_queries_show_one_saga_why_it_failed_and_who_registered_its_schedule(stack: Stack, logs: Logs) -> None:
    made = logs.add(stack.create())
    refused = logs.add(stack.create())
    schedule = f"{stack.agent}--daily"

    saga = rows(logs, "one-saga", EXECUTION_ARN=made.arn)
    why = rows(logs, "why-did-this-create-fail", SCHEDULE_ID=schedule)
    who = rows(logs, "who-registered-this-schedule", SCHEDULE_ID=schedule)
    failures = rows(logs, "failures")

    assert {"agent-schedule-register", "agent-schedule-temporal-create", "ExecutionSucceeded"} <= {
        row["what"] for row in saga
    }
    assert {"step done", "CreateSchedule"} <= {row["happened"] for row in saga}
    assert refused.arn not in str(saga)
    assert [row["execution"] for row in why if row["failed"] == "ScheduleAlreadyExists"] == [refused.arn] * len(
        [row for row in why if row["failed"]]
    )
    assert {row["execution"] for row in who} == {made.arn}
    assert {(row["execution"], row["failed"]) for row in failures} == {(refused.arn, "ScheduleAlreadyExists")}


def test_every_field_that_a_saved_query_reads_is_in_lines_that_were_really_written(stack: Stack, logs: Logs) -> None:
    logs.add(stack.create())
    logs.add(stack.create())
    logs.add(stack.delete())
    stack.spicedb.inject("WriteRelationships", Fault.KILLED_BEFORE, times=None)
    logs.add(stack.create(stack.request("other")))

    written = set().union(*(paths(line) for line in logs.lines()))

    for name in ("one-saga", "why-did-this-create-fail", "who-registered-this-schedule", "failures"):
        # What CloudWatch adds to every line; what tests/api shows to be in the API's lines.
        unknown = fields_read(QUERIES[name]) - written - {"@message", "exception", "exception_name", "execution_id"}
        assert not unknown, name


def paths(line: Mapping[str, Any]) -> set[str]:
    """The fields of a line as Logs Insights names them."""
    inner = {f"{key}.{path}" for key, value in line.items() if isinstance(value, Mapping) for path in paths(value)}
    return {*line, *inner}
