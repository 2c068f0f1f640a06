"""Makes the table of every limit, as Markdown, from `saga_core.limits`."""

from __future__ import annotations

from saga_core.limits import TABLE, Limit

_HEAD = "| limit of | allowed | why |\n|---|---|---|\n"


def table() -> str:
    """The table, one row for each limit, which ends with a newline."""
    return _HEAD + "".join(f"| {limit.of} | {_allowed(limit)} | {limit.why} |\n" for limit in TABLE)


def _allowed(limit: Limit) -> str:
    least = f"{limit.least:,} to " if limit.least else "at most "
    return f"{least}{limit.most:,} {limit.unit}"
