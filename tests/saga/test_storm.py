"""A storm: hundreds of executions on 50 names while both engines fail again and again. Afterwards nothing differs.

What happens is drawn from a random seed, which is printed. STORM_SEED=<number> draws the same again, although threads
interleave differently each time. `--scheduler` chooses the scheduler of Temporal. The engines are this test's own.
Temporal is cut off, and killed and started again on its data. SpiceDB, whose memory would not survive that, is only cut
off. Before a cut some calls take effect and their replies are lost. Retries wait as long as on AWS, so that some
outlive an outage and some do not. Half-way there is a pause in which all leases expire, so that the second half takes
over what the first one left. After each restart of Temporal a reconciler runs beside the executions. In the end deletes
remove a part of what the storm has left, and a reconciler mends the rest.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from local.stack.clients import own_agent
from local.stack.scheduler import Scheduler
from tests.saga.storm import AT_A_TIME, LIMIT_SECONDS, Storm, registered, storm_stack
from tests.saga.storm_executions import AGENTS, ExecutionResult, deletion, drawn
from tests.saga.storm_judgement import ERRORS, explains, is_plausible
from tests.support import schedulers
from tests.support.api import eventually
from tests.support.proxy import Fault

OUTAGE_SECONDS = 5.0  # the longest outage, if no retry meets it

# What fails in each half: the engines that are cut off, or a restart of Temporal.
RESTART = ("restart",)
OUTAGES = [("spicedb",), ("spicedb",), ("temporal",), ("spicedb", "temporal"), RESTART]
LOSABLE = {
    "spicedb": ("WriteRelationships", "DeleteRelationships"),
    "temporal": ("CreateSchedule", "DeleteSchedule"),
}


def rage(storm: Storm, rng: random.Random, before: int, half: int) -> None:
    """Let the engines fail, each time when a random number of this half's executions has begun.

    ``before`` is the number of executions before this half.
    """
    outages = rng.sample(OUTAGES, len(OUTAGES))
    starts = sorted(rng.randrange(AT_A_TIME // 2, half * 9 // 10) for _ in outages)
    for outage, start in zip(outages, starts, strict=True):
        assert reached(storm.begun, before + start, LIMIT_SECONDS)
        began, retries = time.monotonic(), len(storm.retries)
        if outage is RESTART:
            storm.restart_temporal()
            beside = storm.reconcile(mode="repair")
            assert beside.get("error") in (None, "AuthorizationUnavailable", "TemporalUnavailable")
        else:
            cut_off(storm, rng, outage)
        took, noticed = time.monotonic() - began, len(storm.retries) - retries
        storm.outages.append(f"{' + '.join(outage)}: {took:.1f} s, {noticed} retries")
    storm.calm_down()


def cut_off(storm: Storm, rng: random.Random, names: Sequence[str]) -> None:
    """Cut engines off until a random number of retries has met it: from very short to longer than any retry lasts."""
    lost, noticed = rng.choice([4, 8, 16]), rng.choice([10, 20, 40, 120])
    for name in names:
        for method in LOSABLE[name]:
            storm.proxies[name].inject(method, Fault.LOST_REPLY, times=lost)
    reached(storm.retries, len(storm.retries) + lost, OUTAGE_SECONDS)
    for name in names:
        storm.proxies[name].cut()
    reached(storm.retries, len(storm.retries) + noticed, OUTAGE_SECONDS)
    for name in names:
        storm.proxies[name].clear()


def reached(counted: Sized, number: int, seconds: float) -> bool:
    """Wait until so many are counted, or for so many seconds. Returns whether they were."""
    deadline = time.monotonic() + seconds
    while len(counted) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(counted) >= number


def unfinished(storm: Storm) -> list[str]:
    """The schedules for which an answer left something to be done, unless a later delete has done it."""
    left = []
    for schedule_id in sorted(storm.names()):
        answers = storm.about(schedule_id)
        finishes = [answer.began for answer in answers if answer.finished and not answer.request.creates]
        if any(not answer.finished and not any(began > answer.ended for began in finishes) for answer in answers):
            left.append(schedule_id)
    return left


def mend(storm: Storm) -> dict[str, Any]:
    """Let a reconciler repair what differs, and nothing else. Returns its report."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LEASE_SECONDS", "1")
        eventually(storm.reconcile, lambda report: report.get("waiting") == 0, seconds=LIMIT_SECONDS)
        differing = storm.differences().keys()
        repaired = storm.reconcile(mode="repair", confirm=len(storm.names()))
        assert repaired["stopped"] is None
        assert {item["schedule_id"] for item in repaired["items"] if item["action"].endswith(": done")} == differing
        again = storm.reconcile(mode="repair")
    nobodys = {schedule_id for schedule_id, memo in storm.scheduled().items() if not memo["creator"]}
    assert {(item["schedule_id"], item["kind"]) for item in again["items"]} == {(each, "unmanaged") for each in nobodys}
    return repaired


def summary(
    storm: Storm,
    stormy: Sequence[ExecutionResult],
    memos: Mapping[str, Mapping[str, Any]],
    repaired: Mapping[str, Any],
    seconds: float,
) -> Table:
    """What happened, for a person."""
    changes = sorted([(a.began, 1) for a in stormy] + [(a.ended, -1) for a in stormy])
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    table = Table("count", "of", title=f"{len(stormy)} executions in {seconds:.0f} s, up to {peak} at a time")
    for said, count in sorted(Counter(map(str, stormy)).items()):
        table.add_row(str(count), said)
    table.add_section()
    table.add_row(str(len(storm.retries)), "retries")
    table.add_row(str(len(storm.outages)), "outages")
    for outage in storm.outages:
        table.add_row("", outage)
    table.add_section()
    table.add_row(str(len(storm.answers) - len(stormy)), "repeated deletes")
    for kind, counts in sorted(repaired["kinds"].items()):
        table.add_row(str(counts["repaired"]), f"{kind}, repaired, of {counts['found']}")
    table.add_row(str(len(memos)), f"schedules in the end, {len(registered(memos))} of them owned")
    return table


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "executions", [200, *(pytest.param(500, id=f"500, {storm}", marks=pytest.mark.slow) for storm in ("a", "b", "c"))]
)
def test_after_a_storm_the_two_systems_do_not_differ(tmp_path: Path, executions: int, scheduler: Scheduler) -> None:
    seed = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"STORM_SEED={seed}")
    rng = random.Random(seed)  # noqa: S311 - no secret
    began = time.monotonic()
    with storm_stack(tmp_path, scheduler, seed) as storm:
        for agent in AGENTS:
            own_agent(storm.authorization, agent, "alice")
        half = executions // 2
        for before in (0, half):
            storm.run(drawn(rng, half), meanwhile=partial(rage, storm, rng, before, half))
            left = unfinished(storm)
            unsaid = [text for name, text in storm.differences().items() if name not in left]
            assert not unsaid, "\n".join(unsaid)
            storm.end_leases()
        stormy = list(storm.answers)
        storm.run(map(deletion, left[::2]), meanwhile=storm.calm_down)
        repaired = mend(storm)
        memos = storm.scheduled()
        Console().print(summary(storm, stormy, memos, repaired, time.monotonic() - began))

        assert [str(answer) for answer in storm.answers[executions:] if not answer.finished] == []
        differences = storm.differences()
        assert not differences, "\n".join(differences.values())
        assert schedulers.are_of(scheduler, storm.makers())
        assert {answer.error for answer in stormy if answer.error} <= ERRORS
        repeated = Counter(backoff.execution_arn for backoff in storm.retries if backoff.state == "DeleteSchedule")
        for name in sorted(storm.names()):
            answers = storm.about(name)
            last = memos[name]["execution_id"] if name in memos else None
            assert explains(answers, repeated, last), f"{last} {storm.trace(name)}"
            for answer in answers:
                assert is_plausible(answer, answers), f"{answer} {storm.trace(name)}"
