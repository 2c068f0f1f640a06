"""Cron text of Temporal's calendars, into which the server turns every cron expression.

The text that a caller asked for travels as the calendar's own comment, which the server keeps: ``<cron> # <cron>``.
"""

from collections.abc import Sequence

from temporalio.api.schedule.v1 import Range, StructuredCalendarSpec

from saga_core import limits


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


def _field(ranges: Sequence[Range], first: int, last: int) -> str:
    return ",".join(_range(r, first, last) for r in ranges)


def _range(r: Range, first: int, last: int) -> str:
    end, step = max(r.start, r.end), max(r.step, 1)
    if end == r.start:
        return str(r.start)
    whole = "*" if (r.start, end) == (first, last) else f"{r.start}-{end}"
    return whole if step == 1 else f"{whole}/{step}"
