"""Alarms, dashboard and saved queries: what they name exists, and an alarm is raised by what it is for.

tests/saga/test_alarms.py raises them with the lines of real sagas.
"""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from local.aws.template import Template
from saga_core import errors
from saga_core.errors import SagaError
from tests.support.cloudwatch import AlarmState, Points, Series, condition, emitted
from tests.support.machines import DEFINITIONS, ROOT, states_of, template
from tests.support.reconciliation import step

NAMESPACE = "AgentSchedules"
TEMPLATE = template()
ALARMS = TEMPLATE.properties("AWS::CloudWatch::Alarm")
FILTERS = TEMPLATE.properties("AWS::Logs::MetricFilter")
(COMPOSITE,) = TEMPLATE.properties("AWS::CloudWatch::CompositeAlarm").values()
EVERY_ALARM = pytest.mark.parametrize("alarm", ALARMS.values(), ids=ALARMS.keys())
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"

# How an alarm that is counted from logs is backed by a metric that needs no log; None where the alarm itself has one.
BESIDE = {
    "CompensationFailedAlarm": {"CompensateErrorsAlarm"},
    "UnverifiedAlarm": {"TemporalDescribeErrorsAlarm"},
    "DeregisterDeferredAlarm": {"DeregisterErrorsAlarm", "TemporalDescribeErrorsAlarm"},
    "AuthorizationUnavailableAlarm": {"CreateScheduleFailedAlarm", "DeleteScheduleFailedAlarm"},
    "TemporalUnavailableAlarm": {"CreateScheduleFailedAlarm", "DeleteScheduleFailedAlarm"},
    "FailedUnexpectedlyAlarm": {"CreateScheduleFailedAlarm", "DeleteScheduleFailedAlarm"},
    "UnownedFoundAlarm": {"TemporalCreateErrorsAlarm"},
    "UnexpectedErrorAlarm": {"ApiErrorsAlarm", "RegisterErrorsAlarm", "TemporalCreateErrorsAlarm"},
    "ConfigurationErrorAlarm": {"RegisterErrorsAlarm", "TemporalCreateErrorsAlarm", "ApiServerErrorsAlarm"},
    "DriftAlarm": {"ReconcileFailedAlarm", "ReconcileTimedOutAlarm"},
    "ReconcileStoppedAlarm": {"ReconcileFailedAlarm", "ReconcileTimedOutAlarm"},
}

# The metrics of AWS that are used here, with their dimension.
OF_AWS = {
    "AWS/ApiGateway": ("ApiId", {"4xx", "5xx", "Count", "Latency"}),
    "AWS/Lambda": ("FunctionName", {"Duration", "Errors", "Throttles"}),
    "AWS/States": (
        "StateMachineArn",
        {"ExecutionTime", *(f"Executions{how}" for how in ("Aborted", "Failed", "Succeeded", "TimedOut"))},
    ),
}


def known_values() -> dict[str, set[str]]:
    """The values that the dimensions of AWS's metrics may have."""
    return {
        "ApiId": {api.logical_id for api in TEMPLATE.http_apis},
        "FunctionName": {function.name for function in TEMPLATE.functions},
        "StateMachineArn": {machine.arn for machine in TEMPLATE.state_machines},
    }


@cache
def own_metrics() -> dict[str, set[frozenset[str]]]:
    """The names of the dimensions of every metric that the functions and the metric filters make, by its name."""
    made: dict[str, set[frozenset[str]]] = defaultdict(set)
    for each in FILTERS.values():
        (transformation,) = each["MetricTransformations"]
        assert transformation["MetricNamespace"] == NAMESPACE
        made[transformation["MetricName"]].add(frozenset(d["Key"] for d in transformation.get("Dimensions", ())))
    for path in (*(ROOT / "functions").rglob("*.py"), *(ROOT / "layers").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "count":
                # What is no text is the name of an error.
                names = [call.args[0].value] if isinstance(call.args[0], ast.Constant) else own_errors()
                dimensions = frozenset({"service", *(str(keyword.arg) for keyword in call.keywords)})
                for name in names:
                    made[str(name)].add(dimensions)
    return made


def own_errors() -> set[str]:
    return {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, SagaError)}


def watched(alarm: Mapping[str, Any]) -> list[Series]:
    """The metrics that an alarm reads."""
    if "Metrics" not in alarm:
        return [Series.of(alarm)]
    return [Series.of(each["MetricStat"]["Metric"]) for each in alarm["Metrics"] if "MetricStat" in each]


def check(series: Series) -> None:
    """Fail unless something makes this metric, with these dimensions."""
    names = frozenset(name for name, _ in series.dimensions)
    if series.namespace == NAMESPACE:
        assert names in own_metrics().get(series.name, set()), f"nothing makes {series}"
        (service,) = {function.environment["POWERTOOLS_SERVICE_NAME"] for function in TEMPLATE.functions}
        assert dict(series.dimensions).get("service", service) == service
        assert dict(series.dimensions).get("error", "InvalidRequest") in own_errors()
        return
    dimension, metrics = OF_AWS[series.namespace]
    assert series.name in metrics
    assert names == {dimension}
    assert dict(series.dimensions)[dimension] in known_values()[dimension]


@EVERY_ALARM
def test_every_metric_of_an_alarm_is_made_by_something(alarm: Mapping[str, Any]) -> None:
    for series in watched(alarm):
        check(series)


def test_metrics_go_to_the_namespace_that_functions_write_to() -> None:
    assert {each.environment["POWERTOOLS_METRICS_NAMESPACE"] for each in TEMPLATE.functions} == {NAMESPACE}


@pytest.mark.parametrize("topic", ["", TOPIC])
def test_every_alarm_and_every_recovery_goes_to_the_topic_if_there_is_one(topic: str) -> None:
    deployed = template(AlarmTopicArn=topic)

    for kind in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        for alarm in deployed.properties(kind).values():
            assert [alarm.get(each) for each in ("AlarmActions", "OKActions")] == (
                [[topic]] * 2 if topic else [None] * 2
            )


@EVERY_ALARM
def test_no_alarm_fills_a_metric_up_or_lasts_longer_than_cloudwatch_allows(alarm: Mapping[str, Any]) -> None:
    expressions = [each["Expression"] for each in alarm.get("Metrics", ()) if "Expression" in each]
    (period,) = {*(each["MetricStat"]["Period"] for each in alarm.get("Metrics", ()) if "MetricStat" in each)} or {
        alarm["Period"]
    }

    assert not any("FILL" in expression for expression in expressions)
    assert alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
    assert period * alarm["EvaluationPeriods"] <= 86_400


def raising(alarm: Mapping[str, Any], at: float) -> Points:
    """Data that raises an alarm if it is there in time: in its latest periods before `at`, one beside the other."""
    points: Points = {}
    if "Metrics" in alarm:
        (period,) = {each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each}
        value = 1.0
    else:
        period, value = alarm["Period"], float(alarm["Threshold"])
    for series in watched(alarm):
        points[series] = [(at - number * period, value) for number in range(alarm["DatapointsToAlarm"])]
    return points


@pytest.mark.parametrize("lookback", [0, 1, 5])
@EVERY_ALARM
def test_an_alarm_is_raised_though_its_data_comes_minutes_late_and_recovers(
    alarm: Mapping[str, Any], lookback: int
) -> None:
    happened, minutes_late = 1_000_000 * 60.0, 9
    points, state = raising(alarm, happened), AlarmState(alarm, lookback)

    for minute in range(minutes_late):
        assert state.evaluate({}, happened + 60 * minute) == "OK"
    assert state.evaluate(points, happened + 60 * minutes_late) == "ALARM"
    for minute in range(minutes_late, 120):
        state.evaluate(points, happened + 60 * minute)
    assert state.state == ("ALARM" if alarm["TreatMissingData"] == "ignore" else "OK")


def test_an_alarm_of_one_period_over_a_filled_metric_would_miss_what_comes_late() -> None:
    """Why no alarm is one: with FILL, the newest period has a value before its data has come."""
    late = {**ALARMS["CreateScheduleTimedOutAlarm"], "EvaluationPeriods": 1, "DatapointsToAlarm": 1}
    happened, (series,) = 1_000_000 * 60.0, watched(late)
    state = AlarmState(late)

    for minute in range(60):
        now = happened + 60 * minute
        filled = [(now, 0.0)] + ([(happened, 1.0)] if minute >= 2 else [])
        state.evaluate({series: filled}, now)

    assert set(state.history) == {"OK"}


def requests(minutes: Iterable[int], failed: Iterable[int], of_each: int = 1) -> Points:
    """Requests in these minutes, so many in each, of which one fails in some. A minute without any has no data."""
    count, broken = (Series.of(each["MetricStat"]["Metric"]) for each in outage_metrics())
    failing = set(failed)
    return {
        count: [(60.0 * minute, float(of_each)) for minute in minutes],
        broken: [(60.0 * minute, 1.0 if minute in failing else 0.0) for minute in minutes],
    }


def outage_metrics() -> list[Mapping[str, Any]]:
    metrics = {each["Id"]: each for each in ALARMS["ApiOutageAlarm"]["Metrics"]}
    return [metrics["requests"], metrics["errors"]]


@pytest.mark.parametrize("lookback", [0, 5])
@pytest.mark.parametrize(
    ("points", "raised"),
    [
        pytest.param(requests([100, 120], [100, 120]), True, id="one request in twenty minutes, and each fails"),
        pytest.param(requests(range(60, 121), range(60, 121)), True, id="one request a minute, and each fails"),
        pytest.param(requests([90, 120], [120]), False, id="one of two fails"),
        pytest.param(requests([70, 80, 90, 100, 110, 120], [80]), False, id="one of a few fails"),
        pytest.param(requests(range(60, 121), range(60, 121, 5), of_each=100), False, id="one in five hundred fails"),
        pytest.param(requests([], []), False, id="no request at all"),
    ],
)
def test_a_total_outage_is_noticed_with_few_requests_and_a_single_failure_is_not(
    points: Points, raised: bool, lookback: int
) -> None:
    state = AlarmState(ALARMS["ApiOutageAlarm"], lookback)

    for minute in range(60, 121):
        until = {series: [(at, value) for at, value in data if at <= 60 * minute] for series, data in points.items()}
        state.evaluate(until, 60.0 * minute)

    assert ("ALARM" in state.history) is raised


@pytest.mark.parametrize("lookback", [0, 5])
def test_drift_stays_an_alarm_from_one_run_of_the_reconciler_to_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lookback: int
) -> None:
    (function,) = (each for each in TEMPLATE.functions if each.code.name == "reconcile")
    for name, value in function.environment.items():
        monkeypatch.setenv(name, value)

    def report(left: int, at: float) -> Points:
        kinds = {"unowned": {"found": left, "repaired": 0, "left": left}} if left else {}
        tally = {"seen": {"schedules": 9, "registrations": 9}, "kinds": kinds}
        step("report", {}, tallies=[{"prefix": "", "tally": tally}])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
        (left_over,) = watched(ALARMS["DriftAlarm"])
        return {left_over: [(at, value) for _, value in emitted(lines)[left_over]]}

    hour, state = 60, AlarmState(ALARMS["DriftAlarm"], lookback)
    reported = report(3, 0)
    repaired = {series: [*data, (120.0, 0.0)] for series, data in reported.items()}
    assert report(0, 120) == {series: [(120, 0.0)] for series in reported}, "zero is reported too"

    assert [state.evaluate(reported, 60.0 * minute) for minute in range(6 * hour)] == ["ALARM"] * 6 * hour
    assert state.evaluate({series: [(0.0, 0.0)] for series in reported}, 60) == "OK", "the next run leaves none"
    assert state.evaluate(reported, 60) == "ALARM"
    for minute in range(2, hour):
        state.evaluate(repaired, 60.0 * minute)
    assert state.state == "OK", "a repair two minutes later ends it"


def test_the_alarm_of_a_promise_watches_every_alarm_of_what_may_be_left_behind() -> None:
    named = set(re.findall(r'ALARM\("(\w+)"\)', COMPOSITE["AlarmRule"]))

    assert re.fullmatch(r'ALARM\("\w+"\)( OR ALARM\("\w+"\))*', COMPOSITE["AlarmRule"])
    cut_short = {
        name for name, each in ALARMS.items() if each.get("MetricName") in ("ExecutionsTimedOut", "ExecutionsAborted")
    }
    left = {"CompensationFailedAlarm", "UnverifiedAlarm", "DeregisterDeferredAlarm", "UnownedFoundAlarm", "DriftAlarm"}
    assert named == left | (cut_short - {"ReconcileTimedOutAlarm"})


def test_what_is_counted_from_logs_has_a_metric_beside_it() -> None:
    counted = {name for name, each in ALARMS.items() if each.get("Namespace") == NAMESPACE}

    assert BESIDE.keys() == counted
    for beside in BESIDE.values():
        assert all(series.namespace.startswith("AWS/") for name in beside for series in watched(ALARMS[name]))


def test_every_function_and_every_machine_is_watched() -> None:
    by_metric: dict[str, set[str]] = defaultdict(set)
    for series in (each for alarm in ALARMS.values() for each in watched(alarm)):
        by_metric[series.name] |= {value for _, value in series.dimensions}

    machines = {machine.arn for machine in TEMPLATE.state_machines}
    assert by_metric["ExecutionsFailed"] == machines
    assert by_metric["ExecutionsTimedOut"] == machines
    # Executions of Express machines cannot be stopped, and to stop the reconciler does no harm.
    standard = {machine.arn for machine in TEMPLATE.state_machines if machine.type == "STANDARD"}
    assert by_metric["ExecutionsAborted"] == {arn for arn in standard if "reconcile" not in arn}
    # A failure of the reconciler's function fails its machine.
    functions = {function.name for function in TEMPLATE.functions if function.code.name != "reconcile"}
    assert by_metric["Errors"] == functions
    firsts = {DEFINITIONS[saga]["States"][first]["Parameters"]["FunctionName"] for saga, first in FIRST.items()}
    named = {f"${{{function.logical_id}Arn}}": function.name for function in TEMPLATE.functions}
    assert by_metric["Throttles"] == {named[each] for each in firsts} | {"agent-schedule-api"}


# The first Task of each saga.
FIRST = {"create_schedule": "Register", "delete_schedule": "FindSchedule"}

# The metric filters' log groups.
MACHINES_OF = {"CreateScheduleLogGroup": "create_schedule", "DeleteScheduleLogGroup": "delete_schedule"}


def counted_states() -> dict[str, set[str]]:
    """The states that metric filters count, by the log group of their machine."""
    counted: dict[str, set[str]] = {group: set() for group in MACHINES_OF}
    for properties in FILTERS.values():
        names = re.findall(r'\$\.details\.name = "(\w+)"', properties["FilterPattern"])
        counted[properties["LogGroupName"]].update(names)
    return counted


def test_every_state_that_is_counted_exists() -> None:
    for group, counted in counted_states().items():
        assert counted <= {name for name, _ in states_of(DEFINITIONS[MACHINES_OF[group]])}


def test_every_state_that_raises_an_alarm_is_counted() -> None:
    for group, counted in counted_states().items():
        states = states_of(DEFINITIONS[MACHINES_OF[group]])
        assert {name for name, state in states if "raises an alarm" in state["Comment"]} <= counted


# The HTTP API raises them; no execution fails with them.
OF_THE_API = {
    *("PermissionDenied", "StepFunctionsUnavailable", "TooManyTriggers"),
    *("TriggerOutcomeUnknown", "TriggerUnconfirmed", "Unauthorized"),
}


def test_an_execution_fails_unexpectedly_unless_its_error_is_the_callers_an_outage_or_counted_otherwise() -> None:
    (pattern,) = {each["FilterPattern"] for name, each in FILTERS.items() if name.endswith("UnexpectedMetric")}
    holds = condition(pattern.strip("{ }"))

    def unexpected(error: str) -> bool:
        return holds({"type": "ExecutionFailed", "details": {"error": error}})

    assert len(pattern) <= 1024
    assert all(map(unexpected, ("States.Runtime", "States.Timeout", "Runtime.ExitError", "KeyError", "Lambda.Unknown")))
    of_sagas = own_errors() - {"SagaError"} - OF_THE_API
    assert {name for name in of_sagas if unexpected(name)} == {"ConfigurationError"}


def dashboard(deployed: Template = TEMPLATE) -> list[dict[str, Any]]:
    (properties,) = deployed.properties("AWS::CloudWatch::Dashboard").values()
    widgets: list[dict[str, Any]] = json.loads(properties["DashboardBody"])["widgets"]
    return widgets


def shown() -> Iterator[Series]:
    """The metrics of the dashboard."""
    for metric in (metric for widget in dashboard() for metric in widget["properties"].get("metrics", ())):
        if isinstance(metric[0], dict):
            schema, name = re.fullmatch(  # type: ignore[union-attr] # otherwise the test fails, as it should
                r"""SEARCH\('\{([\w,]+)\} MetricName="(\w+)"', 'Sum', 300\)""", metric[0]["expression"]
            ).groups()
            namespace, *dimensions = schema.split(",")
            values = dict.fromkeys(dimensions, "") | (
                {"service": "agent-schedule-saga"} if "service" in dimensions else {}
            )
            values |= {"error": "InvalidRequest"} if "error" in dimensions else {}
            yield Series(namespace, name, frozenset(values.items()))
        else:
            namespace, name, *pairs = [each for each in metric if isinstance(each, str)]
            yield Series(namespace, name, frozenset(zip(pairs[::2], pairs[1::2], strict=True)))


def test_the_dashboard_is_json_with_a_prefix_too_and_its_widgets_do_not_overlap() -> None:
    taken = [
        (x, y)
        for widget in dashboard(template(NamePrefix="dev-"))
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_every_metric_of_the_dashboard_is_made_by_something() -> None:
    for series in shown():
        check(series)


def test_the_dashboard_shows_every_alarm_and_every_metric_of_the_application() -> None:
    alarms = [arn for widget in dashboard() for arn in widget["properties"].get("alarms", ())]
    own = own_metrics().keys() - (
        own_errors() - {"AuthorizationUnavailable", "TemporalUnavailable", "ConfigurationError"}
    )

    assert sorted(alarms) == sorted(f"{name}.Arn" for name in (*ALARMS, "PromiseLagsAlarm"))
    # A list that leaves out schedules of other applications is no event of this one.
    assert {series.name for series in shown() if series.namespace == NAMESPACE} | {"CompensationFailed"} >= own - {
        "ForeignSchedule"
    }


def test_saved_queries_search_log_groups_of_the_template() -> None:
    groups = TEMPLATE.properties("AWS::Logs::LogGroup")

    for query in TEMPLATE.properties("AWS::Logs::QueryDefinition").values():
        assert set(query["LogGroupNames"]) <= groups.keys()
        assert len(query["QueryString"]) <= 10_000
