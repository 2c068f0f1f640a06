"""Measures this tree: `python -m bench [part…]`; without a part, all of them.

Prints a table, and writes it to docs/performance/ as results.json with a plot of each part. Progress goes to stderr.
Exit code 2: wrong command line.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import calls, cold_start, cost, laptop, lists, memory, scale, sizes, warm
from bench.builds import EARLIER
from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from tests.support.functions import forget_clients
from tests.support.ports import free_port
from tests.support.sam import ROOT
from tools.figures import machine, report
from tools.figures.figure import Figure

RESULTS = ROOT / "docs" / "performance"
Part = Callable[[argparse.Namespace], list[Figure]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(_PARTS)}")
    parser.add_argument("--rounds", type=int, default=10, help="of what is compared in rounds (default: %(default)s)")
    parser.add_argument("--against", default=EARLIER, help="an earlier commit (default: %(default)s)")
    parser.add_argument("--million", action="store_true", help="of scale: with a million schedules too, in 3 minutes")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of the results (default: %(default)s)")
    options = parser.parse_args(arguments)
    if wrong := set(options.parts) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    figures: list[Figure] = []
    machines = {}
    for part in options.parts or _PARTS:
        machines[part] = machine.described()
        print(f"{part}: {machine.line(machines[part])}", file=sys.stderr)
        measured = _PARTS[part](options)
        figures += measured
        report.write(options.output, {part: machines[part]}, measured)
        print(report.table(measured), flush=True)
    return 0


@contextlib.contextmanager
def _engines() -> Iterator[Endpoints]:
    endpoints = Endpoints(*(free_port() for _ in range(5)))
    forget_clients()  # those of another part, which run in this process
    with tempfile.TemporaryDirectory() as logs, engines(endpoints, Path(logs), None):
        yield endpoints


def _with_engines(measure: Callable[[Endpoints, argparse.Namespace], list[Figure]]) -> Part:
    def part(options: argparse.Namespace) -> list[Figure]:
        with _engines() as endpoints:
            return measure(endpoints, options)

    return part


_PARTS: dict[str, Part] = {
    "sizes": lambda options: sizes.measure(options.against),
    "calls": _with_engines(lambda endpoints, _: calls.measure(endpoints)),
    "cold_start": _with_engines(
        lambda endpoints, options: cold_start.measure(endpoints, options.rounds, options.against)
    ),
    "memory": _with_engines(lambda endpoints, _: memory.measure(endpoints)),
    "warm": _with_engines(lambda endpoints, options: warm.measure(endpoints, options.rounds)),
    "throughput": _with_engines(lambda endpoints, options: warm.throughput(endpoints, options.rounds)),
    "lists": _with_engines(lambda endpoints, options: lists.measure(endpoints, options.rounds)),
    "laptop": lambda options: laptop.measure(options.rounds),
    "scale": lambda options: scale.measure(options.output, options.million),
    "cost": _with_engines(lambda endpoints, _: cost.measure(endpoints)),
}


if __name__ == "__main__":
    sys.exit(main())
