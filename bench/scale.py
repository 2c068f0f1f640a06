"""The model of what grows with what (tools/scale) against reports of the reconciler, and its curves.

The reports are on schedules that are made when they are read (bench/reconcile.py). The calls have to be those of the
model, and the invocations those of the time that the report took. Time and memory are compared with those of the
smallest report: the model has them grow with the number of schedules, and not at all.
"""

from pathlib import Path

from bench import reconcile
from tests.support.fleet import LETTERS, Fleet
from tools.figures.figure import Figure, Progress, exact
from tools.scale import curves, model

SIZES = (10_000, 100_000)
LARGEST = 1_000_000
_SHARDED = 20_000


def measure(folder: Path, largest: bool) -> list[Figure]:
    """Run the reports, and write the curves to ``folder``; ``largest``: with a million schedules too."""
    sizes = (*SIZES, LARGEST) if largest else SIZES
    figures = []
    with Progress("reports", len(sizes) + 1) as progress:
        smallest = None
        for size in sizes:
            run = reconcile.measured_apart(size, 1)
            smallest = smallest or run
            what = f"report on {size:,}"
            calls, time = model.sweep_calls([size]).total(), smallest["microseconds"]
            invoked = model.sweep_invocations(run["seconds"])
            figures += [
                exact("scale", f"{what}: calls", "calls", run["calls"], "model", calls),
                exact("scale", f"{what}: invocations", "invocations", run["invocations"], "model", invoked),
                exact("scale", f"{what}: processor time", "µs a schedule", run["microseconds"], "smallest", time),
                exact("scale", f"{what}: memory", "MB", run["peak_megabytes"], "smallest", smallest["peak_megabytes"]),
            ]
            progress.step(what)
        run, fleet = reconcile.measured_apart(_SHARDED, len(LETTERS)), Fleet(_SHARDED)
        calls = model.sweep_calls([len(fleet.beginning_with(letter)) for letter in LETTERS]).total()
        what = f"report on {_SHARDED:,} in {len(LETTERS)} shards: calls"
        figures.append(exact("scale", what, "calls", run["calls"], "model", calls))
        progress.step(what)
    folder.mkdir(parents=True, exist_ok=True)
    curves.write(folder)
    return figures
