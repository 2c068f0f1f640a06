"""Measures a report of the reconciler: `python -m bench.reconcile --schedules 10000 100000 1000000`.

The schedules are made when they are read, so the memory is the reconciler's own, with Python and its libraries. Calls
take no time, so the time is that of the reconciler and of making the replies. Each size runs in a process of its own.

Prints a table, and with ``--json`` one line of JSON for each size. Exit codes: 0 measured; 1 more than 512 MB, a count
that is wrong, or a growth of calls that is not linear; 2 wrong command line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.fleet import Fleet, FleetEngines
from tests.support.reconciliation import reconciled
from tools.scale.model import sweep_calls

_MOST_MEGABYTES = 512
_BAR = 30
_COLUMNS = (
    ("schedules", "schedules", "{:,}"),
    ("shards", "shards", "{}"),
    ("invocations", "invocations", "{:,}"),
    ("seconds", "seconds", "{:.1f}"),
    ("CPU µs a schedule", "microseconds", "{:.0f}"),
    ("calls", "calls", "{:,}"),
    ("calls a thousand", "calls_a_thousand", "{:.2f}"),
    ("peak MB", "peak_megabytes", "{:.0f}"),
)


def measure(schedules: int, shards: int) -> dict[str, Any]:
    """Run one report in this process; progress goes to stderr."""
    engines = FleetEngines(Fleet(schedules))
    expected = sweep_calls([schedules]).total()
    invocations, shown = 0, -1

    def progress() -> None:
        nonlocal shown
        filled = min(_BAR, engines.calls.total() * _BAR // expected)
        if filled != shown:
            shown = filled
            print(f"\r{schedules:>11,} [{'#' * filled}{'.' * (_BAR - filled)}]", end="", file=sys.stderr, flush=True)

    def invoked(_: object) -> None:
        nonlocal invocations
        invocations += 1

    engines.on_call = progress
    logging.disable(logging.CRITICAL)
    began, busy = time.perf_counter(), time.process_time()
    with engines.behind_the_reconciler(), contextlib.redirect_stdout(io.StringIO()):
        report = reconciled({"shards": shards}, invoked)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    print(file=sys.stderr)
    calls = engines.calls.total()
    return {
        "schedules": schedules,
        "shards": shards,
        "invocations": invocations,
        "seconds": seconds,
        "microseconds": 1e6 * busy / schedules,
        "calls": calls,
        "calls_a_thousand": 1000 * calls / schedules,
        "by_method": dict(engines.calls),
        "peak_megabytes": _peak_megabytes(),
        "right": report["seen"] == {"schedules": schedules, "registrations": schedules} and not report["kinds"],
    }


def _peak_megabytes() -> float:
    """The most memory of this process. ``ru_maxrss`` also counts that of the process that has started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # macOS counts bytes


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    rows = [[form.format(result[key]) for _, key, form in _COLUMNS] for result in results]
    lines = [[title for title, _, _ in _COLUMNS], ["---:"] * len(_COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the sizes of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconcile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--schedules", type=int, nargs="+", default=[10_000, 100_000], help="sizes (default: %(default)s)"
    )
    parser.add_argument("--shards", type=int, choices=(1, 62), default=1)
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each size besides")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(measure(options.schedules[0], options.shards)))
        return 0
    results = [measured_apart(schedules, options.shards) for schedules in options.schedules]
    print(table(results))
    if options.json:
        for result in results:
            print(json.dumps(result))
    fine = [result["right"] and result["peak_megabytes"] < _MOST_MEGABYTES for result in results]
    least = min(result["calls_a_thousand"] for result in results)
    linear = options.shards > 1 or all(result["calls_a_thousand"] <= 1.1 * least for result in results)
    return 0 if all(fine) and linear else 1


def measured_apart(schedules: int, shards: int) -> dict[str, Any]:
    """As `measure`, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "bench.reconcile",
        "--here",
        "--schedules",
        str(schedules),
        "--shards",
        str(shards),
    ]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


if __name__ == "__main__":
    sys.exit(main())
