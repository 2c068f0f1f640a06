"""The peak memory of each function, in a process as Lambda starts it, after its first and its thousandth invocation."""

from concurrent.futures import ThreadPoolExecutor

from bench import builds, events
from bench.builds import Unit
from bench.runtime import Process
from local.stack.endpoints import Endpoints
from tests.support.sam import ROOT
from tools.figures.figure import Figure, Progress, exact

INVOCATIONS = 1000
# Memory does not depend on how busy the machine is.
_AT_ONCE = 4


def measure(endpoints: Endpoints) -> list[Figure]:
    """Invoke every function a thousand times, each time for another schedule; some functions at once."""
    events.prepare(endpoints)
    units = builds.this_tree(endpoints)
    with Progress("memory", len(units)) as progress, ThreadPoolExecutor(_AT_ONCE) as pool:

        def measured(verb: str) -> Figure:
            figure = _measured(verb, units[verb])
            progress.step(verb)
            return figure

        return list(pool.map(measured, units))


def _measured(verb: str, unit: Unit) -> Figure:
    with Process(unit.code, unit.packages, unit.environment, unit.handler) as process:
        first = process.invoke(events.event(verb, ROOT))
        for _ in range(INVOCATIONS - 1):
            last = process.invoke(events.event(verb, ROOT))
    return exact("memory", verb, "MB", last.peak_megabytes, "its first invocation", first.peak_megabytes)
