"""The model. Counts are exact for operations that succeed at once and find all warm; times are `Times`, assumed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MEMORY_GB = 1.0  # MemorySize in template.yaml is 1,024 MB
# Of a page of schedules, and of one of relationships.
PAGE = 1000
# Of a schedule that exists: owner, parent_agent and the fence. A create adds the lease, until its end.
RELATIONSHIPS, LEASES = 3, 1
# Of a trigger with an Idempotency-Key, for so long.
RECORDS, RECORD_SECONDS = 1, 24 * 3600
# An invocation of the reconciler begins another page while 35 of its 120 s are left.
SWEEP_SECONDS = 85.0
SHARDS_AT_ONCE = 8


@dataclass(frozen=True)
class Work:
    """What one operation takes.

    Attributes:
        spicedb, temporal: its calls, by method; those that run side by side in any order.
        invocations: of functions.
        states: that its machine enters, those in branches included; 0 without a machine.
        branch: the calls, invocations and states that run beside a longer branch, so that nobody waits for them.
    """

    spicedb: tuple[str, ...] = ()
    temporal: tuple[str, ...] = ()
    invocations: int = 1
    states: int = 0
    branch: tuple[int, int, int] = (0, 0, 0)

    @property
    def calls(self) -> int:
        """To both engines."""
        return len(self.spicedb) + len(self.temporal)


CREATE = Work(
    ("CheckPermission", "WriteRelationships", "WriteRelationships"),
    ("CreateSchedule", "DescribeSchedule"),
    invocations=4,
    states=12,
    branch=(1, 1, 2),
)
DELETE = Work(
    ("DeleteRelationships",), ("DescribeSchedule", "DeleteSchedule", "DescribeSchedule"), invocations=4, states=10
)
# Of the API's function, without the machine that it waits for.
BEFORE_CREATE = Work(("CheckPermission",))
BEFORE_DELETE = Work(("CheckBulkPermissions",))
GET = Work(("CheckBulkPermissions",), ("DescribeSchedule",))
LIST = Work(("CheckPermission", "CheckBulkPermissions"), ("ListSchedules",))
PAUSE = TRIGGER = Work(("CheckBulkPermissions",), ("PatchSchedule", "DescribeSchedule"))
TRIGGER_WITH_KEY = Work(
    ("CheckBulkPermissions", "ReadRelationships", "WriteRelationships", "WriteRelationships"),
    ("PatchSchedule", "DescribeSchedule"),
)


@dataclass(frozen=True)
class Times:
    """Seconds. They depend on where the engines are, and on AWS; nothing in this repository can measure them.

    Attributes:
        call: a call about one schedule.
        page: a call about a page of a thousand.
        invocation: a function's own processor time, as bench/warm.py measures it, on 0.6 of a processor.
        state: Step Functions, from one state to the next.
        schedule: the reconciler's own processor time for each schedule, as bench/scale.py measures it, on 0.6 of a
            processor.
    """

    call: float = 0.010
    page: float = 0.050
    invocation: float = 0.002
    state: float = 0.020
    schedule: float = 0.00025

    def lambda_seconds(self, work: Work) -> float:
        """That the functions of an operation run, added up."""
        return work.calls * self.call + work.invocations * self.invocation

    def seconds(self, work: Work) -> float:
        """From the start of an operation to its end."""
        calls, invocations, states = work.branch
        beside = calls * self.call + invocations * self.invocation
        return self.lambda_seconds(work) - beside + (work.states - states) * self.state


def a_second(
    api: Sequence[Work], machine: Sequence[Work] = (), rate: float = 1.0, times: Times | None = None
) -> dict[str, float]:
    """What operations take that are asked for ``rate`` times a second, by what quotas are counted in.

    ``api``: what the API's function does itself, one request each. ``machine``: what machines do, one execution each;
    with ``api``, it waits for them.
    """
    times = times or Times()
    every = (*api, *machine)
    waits = sum(times.seconds(work) for work in machine) if api else 0.0
    found = {
        "requests": len(api),
        "starts": len(machine),
        "states": sum(work.states for work in machine),
        "invocations": sum(work.invocations for work in every),
        # So many functions run at once, and so many GB-seconds are paid for in a second.
        "concurrency": waits + sum(times.lambda_seconds(work) for work in every),
        "SpiceDB calls": sum(len(work.spicedb) for work in every),
        "Temporal calls": sum(len(work.temporal) for work in every),
        "lists": sum(work.temporal.count("ListSchedules") for work in every),
        "updates": sum(
            work.spicedb.count("WriteRelationships") + work.spicedb.count("DeleteRelationships") for work in every
        ),
    }
    return {name: rate * count for name, count in found.items()}


def relationships(schedules: float, grants: float = 0.0, triggers_a_second: float = 0.0) -> float:
    """That SpiceDB holds while nothing is created: those of schedules, with so many grants each, and the records of
    triggers with a key."""
    return schedules * (RELATIONSHIPS + grants) + triggers_a_second * RECORDS * RECORD_SECONDS


@dataclass(frozen=True)
class Sweep:
    """What a report of the reconciler takes on schedules that agree.

    Attributes:
        calls: by method.
        invocations: of the function.
        states: that the machine enters.
        lambda_seconds: of the function.
        seconds: from the start of the machine to its end.
    """

    calls: Counter[str]
    invocations: int
    states: int
    lambda_seconds: float
    seconds: float


def sweep_calls(shards: Sequence[int], relations: int = RELATIONSHIPS) -> Counter[str]:
    """The calls of a report on shards of so many schedules, each of so many relationships."""
    calls: Counter[str] = Counter()
    for schedules in shards:
        # A page that is full may be the last one: only the next one, which is empty, tells.
        lists, reads = schedules // PAGE + 1, relations * schedules // PAGE + 1
        # Temporal is asked about the ids of a page of relationships, without the one that the page before ended with.
        asked = min(schedules, relations * (schedules - 1) // PAGE + 1) if schedules else 0
        calls += Counter(
            ListSchedules=lists + asked, CheckBulkPermissions=math.ceil(schedules / PAGE), ReadRelationships=reads
        )
    return calls


def sweep(schedules: int, shards: int = 1, relations: int = RELATIONSHIPS, times: Times | None = None) -> Sweep:
    """A report on so many schedules, whose ids begin with every letter and digit equally often."""
    times = times or Times()
    even = -(-schedules // shards)  # the largest shard
    calls = sweep_calls([even], relations)
    seconds = even * times.schedule + calls.total() * times.page
    invocations = sweep_invocations(seconds)
    in_turn = math.ceil(shards / min(shards, SHARDS_AT_ONCE))
    return Sweep(
        calls=Counter({method: shards * number for method, number in calls.items()}),
        invocations=3 + shards * invocations,
        states=sweep_states(shards, shards * invocations),
        lambda_seconds=shards * seconds,
        seconds=in_turn * seconds,
    )


def sweep_invocations(seconds: float) -> int:
    """That a shard takes whose sweep takes so long."""
    return max(1, math.ceil(seconds / SWEEP_SECONDS))


def sweep_states(shards: int, invocations: int) -> int:
    """The states of a report that finds nothing: those around the shards, and for each its beginning, its end, and two
    for each of the invocations that sweep."""
    return 8 + 2 * shards + 2 * invocations
