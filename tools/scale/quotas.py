"""Which quota is met first: the quotas of quotas.toml, and the rate or the size at which each is met."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.scale import model

QUOTAS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "quotas.toml").read_text())
# How long a run of the reconciler may take.
RUN_SECONDS: float = QUOTAS["run"][0]["limit"]
# Events in the history of the reconciler's machine, for each invocation of its function.
EVENTS = 7
_MOST = 10**12


def every() -> Iterator[dict[str, Any]]:
    """All of them."""
    for kind in ("create", "list", "fire", "run"):
        yield from QUOTAS[kind]


def most_creates(quota: dict[str, Any], way: str) -> float:
    """The creates a second that meet one of the quotas of creates.

    ``way``: ``http``, or ``standard``: a service starts a Standard machine itself.
    """
    api = [model.BEFORE_CREATE] if way == "http" else []
    times = model.Times(call=quota.get("call", model.Times.call))
    return float(quota["limit"] / model.a_second(api, [model.CREATE], times=times)[quota["of"]])


def used_by_run(quota: dict[str, Any], schedules: int) -> float:
    """What a report of the reconciler on so many schedules uses of one of the quotas of runs."""
    run = model.sweep(schedules, quota["shards"])
    return run.seconds if quota["of"] == "seconds" else float(EVENTS * run.invocations)


def most_schedules(quota: dict[str, Any]) -> int:
    """The most schedules with which a report stays below one of the quotas of runs."""
    low, high = 0, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if used_by_run(quota, middle) <= quota["limit"] else (low, middle)
    return low


def lists_a_second(schedules: int, shards: int) -> float:
    """The lists that a report asks for in a second."""
    run = model.sweep(schedules, shards)
    return run.calls["ListSchedules"] / run.seconds


def most_schedules_by_lists(quota: dict[str, Any], seconds: float) -> float:
    """The schedules that a report can list in so much time, at the rate of one of the quotas of lists."""
    thousand = model.sweep_calls([1_000_000])["ListSchedules"] / 1_000_000
    return float(quota["limit"] * seconds / thousand)
