"""Writes the tables of "Scale" in docs/performance.md, from the model: `python -m tools.scale.document`.

Exit codes: those of tools/pages.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.pages import ROOT, command
from tools.scale import model, quotas

DOCUMENT = "docs/performance.md"
RATES = (1, 10, 100, 1_000)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
DAY = 86_400
HOUR = 3600


def rates() -> str:
    """What creates and as many deletes take in a second, over HTTP."""
    slow = model.Times(call=1.0)
    rows = []
    for rate in RATES:
        used, waiting = (
            model.a_second([model.BEFORE_CREATE, model.BEFORE_DELETE], [model.CREATE, model.DELETE], rate, times)
            for times in (model.Times(), slow)
        )
        counts = (used[name] for name in ("requests", "invocations", "SpiceDB calls", "Temporal calls", "states"))
        paid = used["concurrency"] * model.MEMORY_GB * DAY
        rows.append([rate, *counts, used["concurrency"], waiting["concurrency"], paid])
    head = (
        "creates a second, and deletes",
        "requests",
        "invocations",
        "calls to SpiceDB",
        "calls to Temporal",
        "states",
        "functions at once",
        "at 1 s a call",
        "GB-seconds a day",
    )
    return _table(head, ([number(cell) for cell in row] for row in rows))


def sizes() -> str:
    """What so many schedules take, and a report of the reconciler on them."""
    rows = []
    for size in SIZES:
        one, many = model.sweep(size), model.sweep(size, shards=62)
        rows.append(
            [
                number(size),
                number(model.relationships(size)),
                number(one.calls.total()),
                f"{duration(one.seconds)}, {duration(many.seconds)}",
                f"{number(quotas.lists_a_second(size, 1))}, {number(quotas.lists_a_second(size, 62))}",
                f"{number(one.invocations)}, {number(many.invocations)}",
                f"{number(one.states)}, {number(many.states)}",
                number(one.lambda_seconds * model.MEMORY_GB),
                f"{number(size / HOUR)}, {number(size / DAY)}",
            ]
        )
    head = (
        "schedules",
        "relationships",
        "calls of a report",
        "its time: 1 shard, 62",
        "its lists a second",
        "its invocations",
        "its states",
        "its GB-seconds",
        "starts a second if each fires hourly, daily",
    )
    return _table(head, rows)


def creates() -> str:
    """The quotas that creates meet, the first one first."""
    rows = []
    for quota in quotas.QUOTAS["create"]:
        for way in quota["ways"]:
            most = quotas.most_creates(quota, way)
            limit = f"[{number(quota['limit'])}]({quota['source']})"
            via = {"http": "HTTP", "standard": "Standard machine"}[way]
            rows.append((most, [number(most), via, quota["name"], limit, quota["moves"]]))
    head = ("creates a second", "over", "quota", "default", "what moves it")
    return _table(head, (row for _, row in sorted(rows, key=lambda row: row[0])))


def schedules() -> str:
    """The quotas that a number of schedules meets, the first one first."""
    rows: list[tuple[float, list[str]]] = []

    def add(most: float, what: str, quota: dict[str, object]) -> None:
        limit = f"[{number(float(str(quota['limit'])))}]({quota['source']})"
        rows.append((most, [number(most), what, str(quota["name"]), limit, str(quota["moves"])]))

    for quota in quotas.QUOTAS["fire"]:
        add(quota["limit"] * HOUR, "each fires hourly", quota)
        add(quota["limit"] * DAY, "each fires daily", quota)
    for quota in quotas.QUOTAS["list"]:
        add(
            quotas.most_schedules_by_lists(quota, quotas.RUN_SECONDS),
            f"a report in {duration(quotas.RUN_SECONDS)}",
            quota,
        )
    for quota in quotas.QUOTAS["run"]:
        add(quotas.most_schedules(quota), "a report", quota)
    head = ("schedules", "when", "quota", "default", "what moves it")
    return _table(head, (row for _, row in sorted(rows, key=lambda row: row[0])))


def number(value: float) -> str:
    """Two or three digits that count, and a word for the rest."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= unit:
            return (
                f"{value / (unit if unit > 1e4 else 1e3):.3g}{name}"
                if value < 1000 * unit
                else f"{value / unit:,.0f}{name}"
            )
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for unit, name in ((HOUR, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.2g} {name}" if seconds < 100 * unit else f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _parts(_root: Path) -> dict[str, str]:
    tables = {"rates": rates(), "sizes": sizes(), "creates": creates(), "schedules": schedules()}
    return {name: f"\n{table}\n" for name, table in tables.items()}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    return command("scale.document", DOCUMENT, "tables of", _parts, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
