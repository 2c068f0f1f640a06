"""Draws the state machines into README.md: `python -m tools.diagrams`, or `--check` to see whether they are up to date.

Each statemachine/<name>.asl.json becomes a Mermaid flowchart between the lines `<!-- diagram:<name> -->` and
`<!-- /diagram:<name> -->`, in place of whatever stands there.

    rectangle  Task: its function, or the service it calls, and how often it is retried
    hexagon    Choice: each way out says when it is taken
    rounded    Pass, and Wait
    pill       where an execution ends: Succeed, or any state with "End", and Fail
    frame      Map and Parallel, around their own states
    dashed     Catch: the errors that lead there, as ASL names them

Exit codes: 0 drawn, or up to date; 1 --check found README.md stale, or something cannot be drawn. The last line says
what.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parent.parent

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
_COMPARISONS = {
    "Equals": "is",
    "LessThan": "<",
    "LessThanEquals": "<=",
    "GreaterThan": ">",
    "GreaterThanEquals": ">=",
    "Matches": "matches",
}
_COMPARISON = re.compile(rf"(?:String|Numeric|Boolean|Timestamp)({'|'.join(_COMPARISONS)})(Path)?")


class DiagramError(Exception):
    """A state machine or the README is not as it must be; the message is one line that says where."""


def draw(machine: dict[str, Any]) -> str:
    """The Mermaid flowchart of a state machine in Amazon States Language (JSONPath), ending with a newline.

    The same machine always gives the same text. Raises DiagramError.
    """
    try:
        lines = ["flowchart TD", *_indent(_states(machine, "")), *_indent(_CLASSES.split("\n")[1:-1])]
    except (KeyError, AttributeError, TypeError) as error:
        raise DiagramError(f"not the States Language: {error!r}") from error
    return "\n".join(lines) + "\n"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _states(machine: dict[str, Any], inside: str) -> list[str]:
    """The lines of a machine's states and their edges; `inside` is the Map or Parallel state they belong to."""
    states: dict[str, dict[str, Any]] = machine["States"]
    start = f"start_of_{_id(inside)}" if inside else "start_"
    edges = [_edge(start, machine["StartAt"], states)]
    lines = [f'{start}((" ")):::start']
    for name, state in states.items():
        lines += _box(name, state)
        edges += _edges(name, state, states)
    return lines + edges


def _box(name: str, state: dict[str, Any]) -> list[str]:
    kind = state["Type"]
    if kind in {"Map", "Parallel"}:
        inner = [state["ItemProcessor"]] if kind == "Map" else state["Branches"]
        what = "for each item" if kind == "Map" else "side by side"
        lines = [f'subgraph {_id(name)}["{_text(name)}: {what}"]', "    direction TB"]
        for number, machine in enumerate(inner, start=1):
            lines += _indent(_states(machine, name if kind == "Map" else f"{name} {number}"))
        return [*lines, "end"]
    if kind in {"Succeed", "Fail"}:
        opening, closing = _PILL
        css = "done" if kind == "Succeed" else "failed"
    elif kind in _SHAPES:
        ends = state.get("End") is True
        opening, closing = _PILL if ends and kind != "Task" else _SHAPES[kind]
        css = "done" if ends else "pass" if kind == "Wait" else kind.lower()
    else:
        raise DiagramError(f"{name}: the type {kind!r} is unknown")
    label = "<br/>".join([_text(name), *(_text(detail) for detail in _details(state))])
    return [f"{_id(name)}{opening}{label}{closing}:::{css}"]


def _details(state: dict[str, Any]) -> list[str]:
    """What a box says below its name."""
    details = []
    if state["Type"] == "Task":
        function = re.fullmatch(r"\$\{(\w+?)(?:Function)?Arn}", str(state.get("Parameters", {}).get("FunctionName")))
        if function:
            details.append("functions/" + re.sub(r"(?<!^)(?=[A-Z])", "_", function[1]).lower())
        else:
            details.append(state["Resource"].removeprefix("arn:aws:states:::"))
    # ASL's own default is 3.
    attempts = max((retrier.get("MaxAttempts", 3) for retrier in state.get("Retry", [])), default=0)
    if attempts:
        details.append("retried once" if attempts == 1 else f"retried up to {attempts} times")
    return details


def _edges(name: str, state: dict[str, Any], states: dict[str, Any]) -> list[str]:
    ways: dict[str, list[str]] = {}
    for rule in state.get("Choices", []):
        ways.setdefault(rule["Next"], []).append(_condition(name, rule))
    if "Default" in state:
        ways.setdefault(state["Default"], []).append("otherwise")
    if "Next" in state:
        ways.setdefault(state["Next"], [])
    edges = [_edge(name, target, states, "\nor ".join(_once(conditions))) for target, conditions in ways.items()]

    caught: dict[str, list[str]] = {}
    for catcher in state.get("Catch", []):
        any_error = "any other error" if caught else "any error"
        errors = [any_error if error == "States.ALL" else error for error in catcher["ErrorEquals"]]
        caught.setdefault(catcher["Next"], []).extend(errors)
    return edges + [
        _edge(name, target, states, "\n".join(_once(errors)), arrow="-.->") for target, errors in caught.items()
    ]


def _once(words: list[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _edge(source: str, target: str, states: dict[str, Any], label: str = "", arrow: str = "-->") -> str:
    if target not in states:
        raise DiagramError(f"{source} leads to {target}, which is not there")
    words = "<br/>".join(_text(line) for line in label.split("\n"))
    return f"{_id(source)} {arrow}" + (f'|"{words}"|' if label else "") + f" {_id(target)}"


def _condition(state: str, rule: dict[str, Any]) -> str:
    """A Choice rule in short words: `outcome is registered or skipped`, `not ours`."""
    for operator, word in (("And", " and "), ("Or", " or ")):
        if operator in rule:
            return word.join(_alternatives([_condition(state, part) for part in rule[operator]], word))
    if "Not" in rule:
        inner = _condition(state, rule["Not"])
        return f"not ({inner})" if " " in inner else f"not {inner}"
    variable = rule.get("Variable", "").rsplit(".", 1)[-1]
    for operator, value in rule.items():
        if operator in {"IsPresent", "IsNull", "IsString", "IsNumeric", "IsBoolean", "IsTimestamp"}:
            return f"{variable} is {'' if value else 'not '}{operator.removeprefix('Is').lower()}"
        match = _COMPARISON.fullmatch(operator)
        if match is None:
            continue
        if operator == "BooleanEquals":
            return variable if value else f"not {variable}"
        return f"{variable} {_COMPARISONS[match[1]]} {value.rsplit('.', 1)[-1] if match[2] else value}"
    raise DiagramError(f"{state}: the condition {json.dumps(rule)} cannot be put into words")


def _alternatives(parts: list[str], word: str) -> list[str]:
    """The parts of an And or Or: in parentheses where they hold the other one, and a repeated `x is ` said once."""
    other = " and " if word == " or " else " or "
    subject = parts[0].partition(" is ")[0] + " is "
    if word == " or " and all(part.startswith(subject) for part in parts):
        return [parts[0], *(part.removeprefix(subject) for part in parts[1:])]
    return [f"({part})" if other in part else part for part in parts]


def _id(name: str) -> str:
    clean = re.sub(r"\W", "_", name)
    return f"{clean}_" if clean in _RESERVED else clean


def _text(words: str) -> str:
    """Words in a label between quotes, where Mermaid wants `#…;` for what means something to it."""
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        words = words.replace(character, code)
    return words


def embed(readme: str, diagrams: dict[str, str]) -> str:
    """The README's text with each diagram, by its name, between its two markers. Raises DiagramError."""
    for name, diagram in diagrams.items():
        opening, closing = f"<!-- diagram:{name} -->", f"<!-- /diagram:{name} -->"
        if readme.count(opening) != 1 or readme.count(closing) != 1 or readme.index(opening) > readme.index(closing):
            raise DiagramError(f"README.md does not have {opening} and {closing} once each, in this order")
        before, _, rest = readme.partition(opening)
        after = rest.partition(closing)[2]
        readme = f"{before}{opening}\n```mermaid\n{diagram}```\n{closing}{after}"
    for name in re.findall(r"<!-- diagram:(\S+) -->", readme):
        if name not in diagrams:
            raise DiagramError(f"README.md has a place for {name}, but there is no statemachine/{name}.asl.json")
    return readme


def _machines(root: Path) -> dict[str, str]:
    diagrams: dict[str, str] = {}
    for path in sorted((root / "statemachine").glob("*.asl.json")):
        try:
            diagrams[path.name.removesuffix(".asl.json")] = draw(json.loads(path.read_text(encoding="utf-8")))
        except (DiagramError, ValueError) as error:
            raise DiagramError(f"{path.relative_to(root)}: {error}") from error
    return diagrams


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.diagrams", description="Draw the state machines into README.md."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md is stale")
    check = parser.parse_args(arguments).check
    path = root / "README.md"
    try:
        readme = path.read_text(encoding="utf-8")
        drawn = embed(readme, _machines(root))
    except (DiagramError, OSError) as error:
        print(f"diagrams: {error}", file=sys.stderr)
        return 1
    if drawn == readme:
        print("README.md is up to date")
    elif check:
        print("diagrams: README.md is stale: `make diagrams` draws it anew", file=sys.stderr)
        return 1
    else:
        path.write_text(drawn, encoding="utf-8")
        print("README.md is drawn anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
