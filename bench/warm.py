"""A create and a delete when all is warm: time and processor time, and how many a second by 32 callers at once."""

import math
import statistics
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench import chains, events
from bench.chains import Bare, Chain, Functions, Service
from local.stack.endpoints import Endpoints
from tools.figures.figure import Figure, compared, rounds

CALLERS = 32
# In a round.
_OPERATIONS, _AT_ONCE = 40, 160
_WARM_UP = 5
_BASELINES = {"bare clients": Bare, "asynchronous service": Service}


def measure(endpoints: Endpoints, number: int) -> list[Figure]:
    """One after another, in ``number`` rounds."""
    events.prepare(endpoints)
    with chains.quiet():
        made = _made(endpoints)
        found = rounds(number, {name: partial(_one_by_one, chain) for name, chain in made.items()}, "warm")
    return [
        compared("warm", what, "ms", found["this"][what], side, found[side][what])
        for side in _BASELINES
        for what in found["this"]
    ]


def throughput(endpoints: Endpoints, number: int) -> list[Figure]:
    """By `CALLERS` at once, in ``number`` rounds. Bare clients have an event loop each, so they are one a caller."""
    events.prepare(endpoints)
    with chains.quiet():
        functions, bare = Functions(endpoints), [Bare(endpoints) for _ in range(CALLERS)]
        sides = {
            "this": partial(_at_once, [functions] * CALLERS),
            "bare clients": partial(_at_once, bare),
        }
        found = rounds(number, sides, "throughput")
    what = "seconds for a create and a delete"
    return [
        compared(
            "throughput",
            f"{what}, {CALLERS} callers",
            "s",
            found["this"][what],
            "bare clients",
            found["bare clients"][what],
        )
    ]


def _made(endpoints: Endpoints) -> dict[str, Chain]:
    made: dict[str, Chain] = {"this": Functions(endpoints)}
    made |= {name: make(endpoints) for name, make in _BASELINES.items()}
    for chain in made.values():
        for _ in range(_WARM_UP):
            name = uuid.uuid4().hex
            chain.create(name)
            chain.delete(name)
    return made


def _one_by_one(chain: Chain) -> dict[str, float]:
    creates, deletes = list[float](), list[float]()
    processor = time.process_time()
    for _ in range(_OPERATIONS):
        name = uuid.uuid4().hex
        times = [time.perf_counter()]
        chain.create(name)
        times.append(time.perf_counter())
        chain.delete(name)
        times.append(time.perf_counter())
        creates.append(1000 * (times[1] - times[0]))
        deletes.append(1000 * (times[2] - times[1]))
    return {
        "create, p50": statistics.median(creates),
        "create, p99": _percentile(creates, 0.99),
        "delete, p50": statistics.median(deletes),
        "delete, p99": _percentile(deletes, 0.99),
        "create and delete, processor time": 1000 * (time.process_time() - processor) / _OPERATIONS,
    }


def _at_once(callers: Sequence[Chain]) -> dict[str, float]:
    began = time.perf_counter()
    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(_some, callers))
    return {"seconds for a create and a delete": (time.perf_counter() - began) / _AT_ONCE}


def _some(chain: Chain) -> None:
    for _ in range(_AT_ONCE // CALLERS):
        name = uuid.uuid4().hex
        chain.create(name)
        chain.delete(name)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]
