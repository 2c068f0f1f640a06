"""Remote calls, counted at the wire.

Of every function when it is cold and when it is warm, and of every request of the HTTP API when all is warm.
"""

from collections.abc import Callable

from bench import builds, events
from bench.chains import quiet
from bench.runtime import Process
from local.stack.endpoints import Endpoints
from tests.support.api import Api, HttpResponse
from tests.support.api_stack import fresh, serving
from tests.support.proxy import fault_proxy
from tests.support.sam import ROOT
from tools.figures.figure import Figure, Progress, exact

_ROUTES: dict[str, Callable[[Api], HttpResponse]] = {
    "POST …/schedules": Api.create,
    "GET …/schedules": lambda api: api.call("GET", api.schedules),
    "GET …/{name}": Api.get,
    "POST …/{name}/pause": lambda api: api.call("POST", f"{api.schedules}/daily/pause"),
    "POST …/{name}/unpause": lambda api: api.call("POST", f"{api.schedules}/daily/unpause"),
    "POST …/{name}/trigger": Api.trigger,
    "POST …/{name}/trigger with a key": lambda api: api.trigger(key="once"),
    "DELETE …/{name}": Api.delete,
}


def measure(endpoints: Endpoints) -> list[Figure]:
    """Count the calls of every function, then those of every request."""
    events.prepare(endpoints)
    return [*_functions(endpoints), *_requests(endpoints)]


def _functions(endpoints: Endpoints) -> list[Figure]:
    figures = []
    with (
        fault_proxy(endpoints.spicedb) as (spicedb, spicedb_port),
        fault_proxy(endpoints.temporal) as (temporal, temporal_port),
    ):
        units = builds.this_tree(Endpoints(spicedb_port=spicedb_port, temporal_port=temporal_port))
        with Progress("calls of functions", len(units)) as progress:
            for verb, unit in units.items():
                with Process(unit.code, unit.packages, unit.environment, unit.handler) as process:
                    counts = []
                    for _ in ("cold", "warm"):
                        spicedb.clear()
                        temporal.clear()
                        process.secrets_read = 0
                        process.invoke(events.event(verb, ROOT))
                        counts.append(len(spicedb.calls) + len(temporal.calls) + process.secrets_read)
                figures.append(exact("calls", f"{verb}, cold", "calls", counts[0], "warm", counts[1]))
                progress.step(verb)
    return figures


def _requests(endpoints: Endpoints) -> list[Figure]:
    figures = []
    with quiet(), serving(endpoints) as served, fresh(served) as api:
        api.call("GET", api.schedules)  # the functions are connected
        for route, request in _ROUTES.items():
            api.calls()
            status = request(api).status
            if status not in (200, 201):
                raise AssertionError(f"{route}: {status}")
            figures.append(exact("calls", route, "calls", sum(map(len, api.calls()))))
    return figures
