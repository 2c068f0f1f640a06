"""Explores several scenarios at a time, each in a process of its own."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from multiprocessing.sharedctypes import Synchronized
from typing import Any, NamedTuple

from tests.explore.explorer import Explorer, Result, Scenario
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS
from tests.explore.trigger_scenarios import judge_triggers

# A fork would copy the threads' locks as they happen to be.
_PROCESSES = multiprocessing.get_context("spawn")
_TICK = 0.2  # seconds


class Explored(NamedTuple):
    """What was found in a scenario.

    Attributes:
        seconds: of CPU.
        description: of the trace of a counterexample, line by line.
    """

    scenario: Scenario
    result: Result
    seconds: float
    description: list[str]


def explorer(scenario: Scenario, machines: Mapping[str, Any]) -> Explorer:
    """An explorer of a scenario with or without triggers."""
    return Explorer(scenario, machines, AGENTS, judge_triggers)


def explore(
    scenarios: Iterable[Scenario], machines: Mapping[str, Any], jobs: int, report: Callable[[int, list[Explored]], None]
) -> None:
    """Explore scenarios in so many processes. However it ends, it leaves none.

    ``report`` is told several times a second how many worlds have been seen, and which scenarios have ended since.
    """
    worlds = _PROCESSES.Value("q", 0)
    pool = ProcessPoolExecutor(jobs, _PROCESSES, _begin, (worlds, machines))
    try:
        # What takes longest begins first, so that no process is left alone with it.
        waiting = {pool.submit(_explore, scenario) for scenario in sorted(scenarios, key=_length, reverse=True)}
        while waiting:
            ended, waiting = wait(waiting, timeout=_TICK, return_when=FIRST_COMPLETED)
            report(worlds.value, [future.result() for future in ended])
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _length(scenario: Scenario) -> tuple[int, ...]:
    """What tells long scenarios from short ones."""
    return len(scenario.operations), scenario.most_faults, len(scenario.before)


# What follows runs in the processes that explore.

_until_the_end = ExitStack()
_worlds: "Synchronized[int]"
_machines: Mapping[str, Any]


def _begin(worlds: "Synchronized[int]", machines: Mapping[str, Any]) -> None:
    """Drive the handlers until the process ends, which it does with its parent at the latest."""
    global _worlds, _machines
    _worlds, _machines = worlds, machines
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _until_the_end.enter_context(driven())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _explore(scenario: Scenario) -> Explored:
    began = time.process_time()
    exploring = explorer(scenario, _machines)
    exploring.progress = _count
    result = exploring.explore()
    description = list(exploring.describe(result.trace)) if result.violation else []
    return Explored(scenario, result, time.process_time() - began, description)


def _count(worlds: int) -> None:
    with _worlds.get_lock():
        _worlds.value += worlds
