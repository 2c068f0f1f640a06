"""Writes the generated parts of docs/machines.md: `python -m tools.diagrams`. `--check` fails if a part is stale.

The page has these places, each between two markers; the first two for each statemachine/<name>.asl.json:

    <!-- diagram:<name> --> … <!-- /diagram:<name> -->   a Mermaid flowchart
    <!-- states:<name> -->  … <!-- /states:<name> -->    the state table (tools/state_table.py)
    <!-- limits -->         … <!-- /limits -->           the table of limits (tools/limits_table.py)

In a diagram:

    rectangle  Task: its function, or the service it calls, and how often it is retried
    hexagon    Choice: each way out says when it is taken
    rounded    Pass, and Wait
    pill       where an execution ends: Succeed, or any state with "End", and Fail
    frame      Map and Parallel, around their own states, whose ends are not ends of the execution
    dashed     Catch: the errors that lead there, as ASL names them

Exit codes: those of tools/pages.py.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from tools import limits_table
from tools.asl import MachineError, State, called, caught, inner_machines, retries, ways
from tools.pages import ROOT, DocumentError, command
from tools.state_table import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

DOCUMENT = "docs/machines.md"

# Both colours are given, so that a label stays readable on GitHub's dark pages.
_CLASSES = """
classDef task fill:#dbeafe,stroke:#1d4ed8,color:#111827
classDef choice fill:#fef3c7,stroke:#b45309,color:#111827
classDef pass fill:#f3f4f6,stroke:#6b7280,color:#111827
classDef done fill:#dcfce7,stroke:#15803d,color:#111827
classDef failed fill:#fee2e2,stroke:#b91c1c,color:#111827
classDef start fill:#6b7280,stroke:#6b7280,color:#6b7280
"""
_SHAPES = {"Task": ('["', '"]'), "Choice": ('{{"', '"}}'), "Pass": ('("', '")'), "Wait": ('("', '")')}
_PILL = ('(["', '"])')
_RESERVED = {"call", "class", "click", "default", "end", "graph", "href", "style", "subgraph"}  # in Mermaid


def draw(machine: dict[str, Any]) -> str:
    """The Mermaid flowchart of a state machine in Amazon States Language (JSONPath), ending with a newline.

    The same machine always gives the same text.

    Raises:
        MachineError: a state has an unknown type, or leads to a state that does not exist.
    """
    try:
        lines = ["flowchart TD", *_indent(_states(machine, "")), *_indent(_CLASSES.split("\n")[1:-1])]
    except (KeyError, AttributeError, TypeError) as error:
        raise MachineError(f"not the States Language: {error!r}") from error
    return "\n".join(lines) + "\n"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _states(machine: dict[str, Any], inside: str) -> list[str]:
    """The lines of a machine's states and edges; `inside` names the Map or Parallel state that they belong to."""
    states: dict[str, dict[str, Any]] = machine["States"]
    start = f"start_of_{_id(inside)}" if inside else "start_"
    edges = [_edge(start, machine["StartAt"], states)]
    lines = [f'{start}((" ")):::start']
    for name, state in states.items():
        lines += _box(name, state, inside)
        edges += _edges(name, state, states)
    return lines + edges


def _box(name: str, state: State, inside: str) -> list[str]:
    kind = state["Type"]
    if kind in {"Map", "Parallel"}:
        what = "for each item" if kind == "Map" else "side by side"
        lines = [f'subgraph {_id(name)}["{_text(name)}: {what}"]', "    direction TB"]
        for number, machine in enumerate(inner_machines(state), start=1):
            lines += _indent(_states(machine, name if kind == "Map" else f"{name} {number}"))
        return [*lines, "end"]
    if kind in {"Succeed", "Fail"}:
        opening, closing = _PILL
        css = "failed" if kind == "Fail" else "pass" if inside else "done"
    elif kind in _SHAPES:
        ends = state.get("End") is True and not inside
        opening, closing = _PILL if ends and kind != "Task" else _SHAPES[kind]
        css = "done" if ends else "pass" if kind == "Wait" else kind.lower()
    else:
        raise MachineError(f"{name}: the type {kind!r} is unknown")
    details = [detail for detail in (called(state), retries(state)) if detail]
    label = "<br/>".join(_text(line) for line in [name, *details])
    return [f"{_id(name)}{opening}{label}{closing}:::{css}"]


def _edges(name: str, state: State, states: dict[str, Any]) -> list[str]:
    edges = [_edge(name, target, states, "\nor ".join(conditions)) for target, conditions in ways(name, state).items()]
    return edges + [
        _edge(name, target, states, "\n".join(errors), arrow="-.->") for target, errors in caught(state).items()
    ]


def _edge(source: str, target: str, states: dict[str, Any], label: str = "", arrow: str = "-->") -> str:
    if target not in states:
        raise MachineError(f"{source} leads to {target}, which does not exist")
    words = "<br/>".join(_text(line) for line in label.split("\n"))
    return f"{_id(source)} {arrow}" + (f'|"{words}"|' if label else "") + f" {_id(target)}"


def _id(name: str) -> str:
    clean = re.sub(r"\W", "_", name)
    return f"{clean}_" if clean in _RESERVED else clean


def _text(words: str) -> str:
    """Words in a quoted label. Mermaid gives some characters a meaning, so they are written as `#…;`."""
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        words = words.replace(character, code)
    return words


def _parts(root: Path) -> dict[str, str]:
    parts: dict[str, str] = {}
    for path in sorted((root / "statemachine").glob("*.asl.json")):
        name = path.name.removesuffix(".asl.json")
        try:
            machine = json.loads(path.read_text(encoding="utf-8"))
            parts[f"diagram:{name}"] = f"```mermaid\n{draw(machine)}```\n"
            parts[f"states:{name}"] = f"\n{table(machine)}\n"
        except (MachineError, ValueError) as error:
            raise DocumentError(f"{path.relative_to(root)}: {error}") from error
    return {**parts, "limits": f"\n{limits_table.table()}\n"}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    return command("diagrams", DOCUMENT, "the diagrams and the tables into", _parts, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
