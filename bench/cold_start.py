"""Cold start: from the start of the process to the first answer, of every function in a process of its own.

Lambda's runtime client runs them, from what `sam build` made. Against the same of an earlier commit, and against
functions of the usual shape with the same libraries as pip leaves them (bench/plain); their boto3 is Lambda's own.
"""

from functools import partial
from pathlib import Path
from typing import Any

from bench import builds, events
from bench.builds import EARLIER, FOLDER, Unit
from bench.runtime import Process
from local.stack.endpoints import Endpoints
from tests.support.sam import ROOT
from tools.figures.figure import Figure, compared, rounds

_SPICEDB, _TEMPORAL = ["CoreLayer", "SpiceDBLayer"], ["CoreLayer", "TemporalLayer"]
_BOTH = ["CoreLayer", "SpiceDBLayer", "TemporalLayer"]
# Which plain function does a function's kind of work, with which layers.
_PLAIN = {
    "register": ("spicedb", _SPICEDB),
    "compensate": ("spicedb", _SPICEDB),
    "deregister": ("spicedb", _SPICEDB),
    "temporal_create": ("temporal", _TEMPORAL),
    "temporal_describe": ("temporal", _TEMPORAL),
    "temporal_delete": ("temporal", _TEMPORAL),
    "reconcile": ("both", _BOTH),
    "api": ("both", _BOTH),
}
_MEASURED = {"processor": ("processor time", "s"), "seconds": ("time", "s"), "peak_megabytes": ("peak memory", "MB")}


def measure(endpoints: Endpoints, number: int, commit: str = EARLIER) -> list[Figure]:
    """Start every function ``number`` times."""
    events.prepare(endpoints)
    this, before = builds.this_tree(endpoints), builds.earlier(endpoints, commit)
    plains: dict[str, Unit] = {}
    figures: dict[str, list[Figure]] = {key: [] for key in _MEASURED}
    for verb, unit in this.items():
        name, layers = _PLAIN[verb]
        if name not in plains:
            plains[name] = builds.plain(this["api"], layers, name)
        sides = {"this": partial(_start, unit, verb, ROOT), "plain imports": partial(_start_plain, plains[name], name)}
        if verb in before:
            sides[commit] = partial(_start, before[verb], verb, FOLDER / "checkouts" / commit)
        found = rounds(number, sides, f"cold start of {verb}")
        for side in list(sides)[1:]:
            for key, (what, unit_) in _MEASURED.items():
                values, bases = found["this"][key], found[side][key]
                figures[key].append(compared("cold_start", f"{verb}: {what}", unit_, values, side, bases))
    return [figure for each in figures.values() for figure in each]


def _start(unit: Unit, verb: str, root: Path) -> dict[str, float]:
    return _started(unit, events.event(verb, root))


def _start_plain(unit: Unit, name: str) -> dict[str, float]:
    asked = events.event("api", ROOT) if name == "both" else {"agent_id": events.AGENT, "user_id": events.OWNER}
    return _started(unit, asked)


def _started(unit: Unit, event: dict[str, Any]) -> dict[str, float]:
    with Process(unit.code, unit.packages, unit.environment, unit.handler) as process:
        answered = process.invoke(event)
    return {name: getattr(answered, name) for name in _MEASURED}
