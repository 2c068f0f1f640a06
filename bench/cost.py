"""What a million creates and a million deletes cost, by the durations of this run and a dated list of prices.

The durations are those of this machine, with the engines beside it: a function on Lambda waits longer for engines that
are further away, and pays for the wait. arm64 differs by its price alone; the durations are taken as x86_64's. Not
counted: cold starts, the logs of state machines, X-Ray, network, the engines.
"""

import io
import statistics
import time
import tomllib
import uuid
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from bench import events
from bench.chains import Functions
from local.stack.endpoints import Endpoints
from tests.support.functions import log_lines_to
from tools.figures.figure import Figure, exact
from tools.scale import model

PRICES: dict[str, Any] = tomllib.loads((Path(__file__).parent / "prices.toml").read_text())
MILLION = 1_000_000
_WORK = {"create": model.CREATE, "delete": model.DELETE}
_OPERATIONS = 100
_HOURS_A_MONTH = 730
# Two of the smallest containers that run an asynchronous service: a quarter of a processor, half a GB.
_CONTAINERS, _VCPU, _CONTAINER_GB = 2, 0.25, 0.5


def measure(endpoints: Endpoints) -> list[Figure]:
    """Run creates and deletes, and price their durations."""
    events.prepare(endpoints)
    functions = Functions(endpoints)
    durations: dict[str, list[float]] = {"create": [], "delete": []}
    billed: dict[str, list[float]] = {"create": [], "delete": []}
    text = io.StringIO()
    with redirect_stdout(text), log_lines_to(text):
        for number in range(_OPERATIONS + 5):
            name = uuid.uuid4().hex
            for verb, run in (("create", functions.create), ("delete", functions.delete)):
                functions.milliseconds.clear()
                began = time.perf_counter()
                run(name)
                if number >= 5:  # the functions are connected
                    durations[verb].append(time.perf_counter() - began)
                    billed[verb].append(sum(functions.milliseconds) / 1000)
    gigabytes = len(text.getvalue().encode()) / (_OPERATIONS + 5) / 1e9  # of log lines, for both
    month = _containers("")
    figures = []
    for architecture in ("", "_arm64"):
        name = architecture.removeprefix("_") or "x86_64"
        functions_cost = sum(_functions(verb, statistics.median(billed[verb]), architecture) for verb in billed)
        logs = MILLION * gigabytes * PRICES["logs"]["gb"]
        for kind in ("Express", "Standard"):
            machines = sum(_machine(kind, verb, statistics.median(durations[verb])) for verb in durations)
            what = f"a million creates and deletes, {kind}, {name}"
            total = functions_cost + logs + machines
            figures.append(exact("cost", what, "$", total, "two containers, a month", _containers(architecture)))
    return [*figures, exact("cost", "two containers, a month, x86_64", "$", month)]


def _functions(verb: str, seconds: float, architecture: str) -> float:
    prices: Mapping[str, float] = PRICES["lambda"]
    requests = _WORK[verb].invocations * prices["million_requests"]
    return requests + MILLION * seconds * model.MEMORY_GB * prices[f"gb_second{architecture}"]


def _machine(kind: str, verb: str, seconds: float) -> float:
    prices: Mapping[str, float] = PRICES["step_functions"]
    if kind == "Standard":
        return MILLION / 1000 * _WORK[verb].states * prices["thousand_transitions"]
    return prices["million_express_requests"] + (
        MILLION * seconds * prices["express_chunk_mb"] / 1024 * prices["express_gb_second"]
    )


def _containers(architecture: str) -> float:
    prices: Mapping[str, float] = PRICES["fargate"]
    hour = _VCPU * prices[f"vcpu_hour{architecture}"] + _CONTAINER_GB * prices[f"gb_hour{architecture}"]
    return _CONTAINERS * _HOURS_A_MONTH * hour
