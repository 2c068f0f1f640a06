"""Makes the state table of a state machine: one row for each state, as Markdown.

What a state does is its `Comment` in the definition. Everything else in a row is read from the rest of the state.
"""

from __future__ import annotations

from typing import Any

from tools.asl import MachineError, State, called, caught, inner_machines, retries, ways

_HEAD = "| state | what it does | then | on error |\n|---|---|---|---|\n"


def table(machine: dict[str, Any]) -> str:
    """The table of a machine in Amazon States Language (JSONPath), which ends with a newline.

    The states of a Map or Parallel state follow it. They end that state, and not the execution.

    Raises:
        MachineError: a state has no Comment, or one that is not a line of text.
    """
    try:
        return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows(machine, "*success*"))
    except (KeyError, AttributeError, TypeError) as error:
        raise MachineError(f"not the States Language: {error!r}") from error


def _rows(machine: dict[str, Any], end: str) -> list[list[str]]:
    """The rows of a machine's states; `end` is what a state means that ends the machine well."""
    rows = []
    for name, state in machine["States"].items():
        rows.append([_name(name, state), _comment(name, state), _then(name, state, end), _on_error(state)])
        for inner in inner_machines(state):
            rows += _rows(inner, f"*end of {_cell(name)}*")
    return rows


def _name(name: str, state: State) -> str:
    return "<br/>".join([f"**{_cell(name)}**", *([_cell(called(state))] if called(state) else [])])


def _comment(name: str, state: State) -> str:
    comment = state.get("Comment")
    if not isinstance(comment, str) or not comment.strip() or "\n" in comment:
        raise MachineError(f"{name}: its Comment has to be one line that says what the state does")
    return _cell(comment)


def _then(name: str, state: State, end: str) -> str:
    if state.get("End") is True or state["Type"] == "Succeed":
        return end
    if state["Type"] == "Fail":
        return "*failure*"
    return "<br/>".join(
        f"{_cell(' or '.join(conditions))}: {_cell(target)}" if conditions else _cell(target)
        for target, conditions in ways(name, state).items()
    )


def _on_error(state: State) -> str:
    lines = [retries(state)] if retries(state) else []
    for target, errors in caught(state).items():
        names = [error if error.startswith("any ") else f"`{error}`" for error in errors]
        lines.append(f"{', '.join(names)}: {_cell(target)}")
    return "<br/>".join(lines)


def _cell(words: str) -> str:
    """Words in a cell of a table, where Markdown gives some characters a meaning."""
    for character in "\\|*`":
        words = words.replace(character, f"\\{character}")
    return words.replace("<", "&lt;").replace(">", "&gt;")
