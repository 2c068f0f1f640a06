"""What CloudWatch makes of log lines: metric filters, EMF, alarms, and queries of Logs Insights.

Only what template.yaml uses. The rules are those of the CloudWatch user guide ("Alarm evaluation", "Configuring how
alarms treat missing data"), of the CloudWatch Logs user guide ("Filter pattern syntax", "Logs Insights query syntax")
and of the specification of the embedded metric format.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Line = Mapping[str, Any]
Condition = Callable[[Line], bool]

_TOKEN = re.compile(r'\(|\)|&&|\|\||!=|=|"[^"]*"|[^\s()="!]+')


def value_of(line: Line, path: str) -> Any:
    """The value of a field, `a.b` for one in an object; None if there is none."""
    value: Any = line.get(path)
    if value is None and "." in path:
        value = line
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


class _Parser:
    """Reads a condition. Metric filters and Logs Insights write the same things with different signs."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        while text := text.strip():
            token = _TOKEN.match(text)
            assert token, f"not understood: {text}"
            self._tokens.append(token[0])
            text = text[token.end() :]

    def whole(self) -> Condition:
        condition = self._any()
        assert not self._tokens, f"left over: {self._tokens}"
        return condition

    def _any(self) -> Condition:
        parts = [self._every()]
        while self._next_is("||", "or"):
            parts.append(self._every())
        return lambda line: any(part(line) for part in parts)

    def _every(self) -> Condition:
        parts = [self._one()]
        while self._next_is("&&", "and"):
            parts.append(self._one())
        return lambda line: all(part(line) for part in parts)

    def _one(self) -> Condition:
        if self._next_is("("):
            inside = self._any()
            assert self._next_is(")")
            return inside
        path, sign, literal = (self._tokens.pop(0) for _ in range(3))
        path, wanted = path.removeprefix("$."), json.loads(literal)
        tests: dict[str, Callable[[str], bool]] = {
            "=": lambda text: fnmatchcase(text, wanted),
            "!=": lambda text: not fnmatchcase(text, wanted),
            "like": lambda text: wanted in text,
        }
        test = tests[sign]
        # A comparison with a field that is not there does not hold.
        return lambda line: (value := value_of(line, path)) is not None and test(str(value))

    def _next_is(self, *signs: str) -> bool:
        if self._tokens and self._tokens[0] in signs:
            self._tokens.pop(0)
            return True
        return False


def condition(text: str) -> Condition:
    """A condition of a metric filter, or of a query's `filter`."""
    return _Parser(text).whole()


@dataclass(frozen=True)
class Series:
    """Which metric: namespace, name and dimensions."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, metric: Mapping[str, Any]) -> "Series":
        """The series that an alarm, or a metric in one, names."""
        dimensions = frozenset((each["Name"], each["Value"]) for each in metric.get("Dimensions", ()))
        return cls(metric["Namespace"], str(metric["MetricName"]), dimensions)


Points = dict[Series, list[tuple[float, float]]]


def counted(filters: Iterable[Mapping[str, Any]], records: Iterable[tuple[float, Line]]) -> Points:
    """The data points, (seconds, value), that metric filters make of (seconds, log record)."""
    points: Points = defaultdict(list)
    prepared = [(condition(each["FilterPattern"].strip("{ }")), each["MetricTransformations"][0]) for each in filters]
    for at, record in records:
        for holds, transformation in prepared:
            matches, default = holds(record), transformation.get("DefaultValue")
            if not matches and default is None:
                continue
            dimensions = frozenset(
                (each["Key"], str(value_of(record, each["Value"].removeprefix("$."))))
                for each in transformation.get("Dimensions", ())
            )
            series = Series(transformation["MetricNamespace"], transformation["MetricName"], dimensions)
            points[series].append((at, float(transformation["MetricValue"] if matches else default)))
    return points


def emitted(lines: Iterable[Line]) -> Points:
    """The data points in lines of the embedded metric format. Other lines have none."""
    points: Points = defaultdict(list)
    for line in lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            for keys in directive["Dimensions"]:
                dimensions = frozenset((key, line[key]) for key in keys)
                for metric in directive["Metrics"]:
                    values = line[metric["Name"]]
                    series = Series(directive["Namespace"], metric["Name"], dimensions)
                    points[series] += [(line["_aws"]["Timestamp"] / 1000, value) for value in values]
    return points


@dataclass
class AlarmState:
    """An alarm, evaluated again and again as time goes on.

    `lookback` is how many periods before its own ones CloudWatch reads in addition, where data is missing. It does not
    say how many, so a conclusion has to hold for any number.
    """

    settings: Mapping[str, Any]
    lookback: int = 0
    state: str = "OK"
    history: list[str] = field(default_factory=list)

    def evaluate(self, points: Points, now: float) -> str:
        """The state at `now`, seconds, from the data points that have arrived by then."""
        periods = int(self.settings["EvaluationPeriods"])
        enough = int(self.settings.get("DatapointsToAlarm", periods))
        values = self._values(points, now)
        assert self.settings["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        # The most recent ones that exist; what is missing fills up to the number of periods.
        present = [value >= float(self.settings["Threshold"]) for value in values if value is not None][-periods:]
        missing, treat = periods - len(present), self.settings["TreatMissingData"]
        breaching = sum(present) + (missing if treat == "breaching" else 0)
        if breaching >= enough:
            self.state = "ALARM"
        elif treat != "ignore" or present:
            self.state = "OK"
        self.history.append(self.state)
        return self.state

    def _values(self, points: Points, now: float) -> list[float | None]:
        """The value of each period that is read, the oldest first."""
        expression = next((each for each in self.settings.get("Metrics", ()) if "Expression" in each), None)
        number = int(self.settings["EvaluationPeriods"]) + self.lookback
        if expression is None:
            return self._sums(Series.of(self.settings), int(self.settings["Period"]), number, points, now)
        stats = {each["Id"]: each["MetricStat"] for each in self.settings["Metrics"] if "MetricStat" in each}
        sums = {
            name: self._sums(Series.of(stat["Metric"]), int(stat["Period"]), number, points, now)
            for name, stat in stats.items()
        }
        # Where one of the metrics has no data point, the expression has none.
        rows = [dict(zip(sums, row, strict=True)) for row in zip(*sums.values(), strict=True)]
        code = compile(expression["Expression"], "expression", "eval")
        return [None if None in row.values() else eval(code, {"__builtins__": {}}, row) for row in rows]  # noqa: S307

    @staticmethod
    def _sums(series: Series, period: int, number: int, points: Points, now: float) -> list[float | None]:
        ends = now // period * period + period
        buckets: list[float | None] = [None] * number
        for at, value in points.get(series, ()):
            index = number - 1 - int((ends - period - at // period * period) // period)
            if 0 <= index < number:
                buckets[index] = (buckets[index] or 0) + value
        return buckets


def fields_of(query: str) -> dict[str, list[str]]:
    """What a query shows: its name, and the fields of a log line that it is taken from, the first that is there."""
    (text,) = (part.removeprefix("fields ") for part in _commands(query) if part.startswith("fields "))
    shown = {}
    for item in re.split(r",\s*(?![^()]*\))", text):
        expression, _, name = item.partition(" as ")
        sources = re.fullmatch(r"coalesce\((.*)\)", expression)
        shown[name or expression] = re.split(r",\s*", sources[1]) if sources else [expression]
    return shown


def fields_read(query: str) -> set[str]:
    """Every field of a log line that a query reads."""
    filters = " ".join(part for part in _commands(query) if part.startswith("filter "))
    filtered = re.findall(r"([@\w.]+) (?:=|!=|like) ", filters)
    return {each for sources in fields_of(query).values() for each in sources} | set(filtered)


def answered(query: str, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The rows that a query gives, those with the same time in the order of `lines`."""
    conditions = [condition(part.removeprefix("filter ")) for part in _commands(query) if part.startswith("filter ")]
    (order,) = (part.split()[1:] for part in _commands(query) if part.startswith("sort "))
    chosen = [line for line in lines if all(holds(line) for holds in conditions)]
    chosen.sort(key=lambda line: value_of(line, order[0]), reverse=order[1] == "desc")
    return [dict(_row(line, fields_of(query))) for line in chosen]


def _row(line: Line, shown: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Any]]:
    for name, sources in shown.items():
        yield name, next((value for each in sources if (value := value_of(line, each)) is not None), None)


def _commands(query: str) -> list[str]:
    return [part.strip() for part in query.split("\n| ")]
