"""Cron text of Temporal's calendars, into which the server turns every cron expression.

The text that a caller asked for travels as the calendar's own comment, which the server keeps: ``<cron> # <cron>``.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from temporalio.api.schedule.v1 import Range, StructuredCalendarSpec

from saga_core import limits

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("su", "mo", "tu", "we", "th", "fr", "sa")
_PREDEFINED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class _Field(NamedTuple):
    """A field of a calendar: its values, and the beginnings of their names, from the least on."""

    name: str
    least: int
    most: int
    names: Sequence[str] = ()


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day_of_month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day_of_week", 0, 7, _DAYS),
    _Field("year", 2000, 2100),
)


def commented(cron: str) -> str:
    """The cron expression, with its own text as comment; without any where that is too long for the server."""
    expression, _, _ = cron.partition("#")
    if limits.size(cron.strip()) > limits.CRON_TEXT.most:
        return expression.strip()
    return f"{expression.strip()} # {cron.strip()}"


def text(calendar: StructuredCalendarSpec) -> str:
    """A cron expression in Temporal's dialect that means the calendar; its comment is left out."""
    fields = [
        _field(calendar.minute, 0, 59) or "0",
        _field(calendar.hour, 0, 23) or "0",
        _field(calendar.day_of_month, 1, 31) or "*",
        _field(calendar.month, 1, 12) or "*",
        _field(calendar.day_of_week, 0, 6) or "*",
    ]
    second, year = _field(calendar.second, 0, 59) or "0", _field(calendar.year, 0, 0) or "*"
    if second != "0":
        return " ".join([second, *fields, year])
    return " ".join(fields if year == "*" else [*fields, year])


def means(expression: str, calendar: StructuredCalendarSpec) -> bool:
    """Whether the server makes this calendar of a cron expression. A comment and a time zone do not count."""
    try:
        return all(
            asked == set(_values(getattr(calendar, field.name)))
            for field, asked in zip(_FIELDS, _asked(expression), strict=True)
        )
    except ValueError:
        return False


def _asked(expression: str) -> list[set[int]]:
    """The values of each field of a calendar that a cron expression names; none stands for every year.

    Raises:
        ValueError: it is not an expression for a calendar.
    """
    text = expression.partition("#")[0].strip()
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    parts = _PREDEFINED.get(text, text).split()
    if not 5 <= len(parts) <= 7:
        raise ValueError(expression)
    if len(parts) < len(_FIELDS):
        parts = ["0", *parts, "*"][: len(_FIELDS)]
    every_year = ("year", "*")
    return [
        set() if (field.name, part) == every_year else set(_named(field, part))
        for field, part in zip(_FIELDS, parts, strict=True)
    ]


def _named(field: _Field, text: str) -> Iterable[int]:
    for item in text.split(","):
        span, slash, step = item.partition("/")
        begin, dash, end = span.partition("-")
        first = field.least if span == "*" else _value(field, begin)
        last = _value(field, end) if dash else field.most if span == "*" or slash else first
        if not field.least <= first <= last <= field.most:
            raise ValueError(text)
        for value in range(first, last + 1, int(step) if slash else 1):
            yield 0 if (field.name, value) == ("day_of_week", 7) else value


def _value(field: _Field, text: str) -> int:
    for number, name in enumerate(field.names, field.least):
        if text.lower().startswith(name):
            return number
    return int(text)


def _values(ranges: Sequence[Range]) -> Iterable[int]:
    for r in ranges:
        yield from range(r.start, max(r.start, r.end) + 1, max(r.step, 1))


def _field(ranges: Sequence[Range], first: int, last: int) -> str:
    return ",".join(_range(r, first, last) for r in ranges)


def _range(r: Range, first: int, last: int) -> str:
    end, step = max(r.start, r.end), max(r.step, 1)
    if end == r.start:
        return str(r.start)
    whole = "*" if (r.start, end) == (first, last) else f"{r.start}-{end}"
    return whole if step == 1 else f"{whole}/{step}"
