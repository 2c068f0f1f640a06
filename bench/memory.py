"""The peak memory of each function, in a process as Lambda starts it, after its first and its thousandth invocation."""

from bench import builds, events
from bench.runtime import Process
from local.stack.endpoints import Endpoints
from tests.support.sam import ROOT
from tools.figures.figure import Figure, Progress, exact

INVOCATIONS = 1000


def measure(endpoints: Endpoints) -> list[Figure]:
    """Invoke every function a thousand times, each time for another schedule."""
    events.prepare(endpoints)
    figures = []
    units = builds.this_tree(endpoints)
    with Progress("memory", len(units)) as progress:
        for verb, unit in units.items():
            with Process(unit.code, unit.packages, unit.environment, unit.handler) as process:
                first = process.invoke(events.event(verb, ROOT))
                for _ in range(INVOCATIONS - 1):
                    last = process.invoke(events.event(verb, ROOT))
            figures.append(
                exact("memory", verb, "MB", last.peak_megabytes, "its first invocation", first.peak_megabytes)
            )
            progress.step(verb)
    return figures
