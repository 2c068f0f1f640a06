"""Puts a state in Amazon States Language (JSONPath) into words: what it calls, and where it goes, and why.

The diagrams and the state tables of docs/machines.md use the same words.
"""

from __future__ import annotations

import json
import re
from typing import Any

State = dict[str, Any]

_COMPARISONS = {
    "Equals": "is",
    "LessThan": "<",
    "LessThanEquals": "<=",
    "GreaterThan": ">",
    "GreaterThanEquals": ">=",
    "Matches": "matches",
}
_COMPARISON = re.compile(rf"(?:String|Numeric|Boolean|Timestamp)({'|'.join(_COMPARISONS)})(Path)?")
# The Amazon States Language's own default for MaxAttempts.
_DEFAULT_ATTEMPTS = 3


class MachineError(Exception):
    """A state machine cannot be read; the message is one line that says where and why."""


def called(state: State) -> str:
    """What a Task calls: the folder of its function, or the service behind its Resource. Empty for other types."""
    if state["Type"] != "Task":
        return ""
    function = re.fullmatch(r"\$\{(\w+?)(?:Function)?Arn}", str(state.get("Parameters", {}).get("FunctionName")))
    if function:
        return "functions/" + re.sub(r"(?<!^)(?=[A-Z])", "_", function[1]).lower()
    resource: str = state["Resource"]
    return resource.removeprefix("arn:aws:states:::")


def retries(state: State) -> str:
    """How often a state is retried at most, in words. Empty if never. Each of its Retry rules is counted for itself."""
    attempts = sum(retrier.get("MaxAttempts", _DEFAULT_ATTEMPTS) for retrier in state.get("Retry", []))
    if not attempts:
        return ""
    return "retried once" if attempts == 1 else f"retried up to {attempts} times"


def ways(name: str, state: State) -> dict[str, list[str]]:
    """The states that a state goes to, each with the conditions under which it does; none for a plain Next.

    Raises:
        MachineError: a condition cannot be put into words.
    """
    found: dict[str, list[str]] = {}
    for rule in state.get("Choices", []):
        found.setdefault(rule["Next"], []).append(_condition(name, rule))
    if "Default" in state:
        found.setdefault(state["Default"], []).append("otherwise")
    if "Next" in state:
        found.setdefault(state["Next"], [])
    return {target: _distinct(conditions) for target, conditions in found.items()}


def caught(state: State) -> dict[str, list[str]]:
    """The states that a state's Catch branches go to, each with the errors that lead there."""
    found: dict[str, list[str]] = {}
    for catcher in state.get("Catch", []):
        any_error = "any other error" if found else "any error"
        errors = [any_error if error == "States.ALL" else error for error in catcher["ErrorEquals"]]
        found.setdefault(catcher["Next"], []).extend(errors)
    return {target: _distinct(errors) for target, errors in found.items()}


def inner_machines(state: State) -> list[dict[str, Any]]:
    """The machines inside a Map or Parallel state."""
    if state["Type"] == "Map":
        return [state["ItemProcessor"]]
    return list(state.get("Branches", []))


def _distinct(words: list[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _condition(state: str, rule: dict[str, Any]) -> str:
    """A Choice rule in short words: `outcome is registered or skipped`, `not ours`."""
    for operator, word in (("And", " and "), ("Or", " or ")):
        if operator in rule:
            return word.join(_alternatives([_condition(state, part) for part in rule[operator]], word))
    if "Not" in rule:
        inner = _condition(state, rule["Not"])
        return f"not ({inner})" if " " in inner else f"not {inner}"
    path = rule.get("Variable", "")
    variable = _last(path)
    for operator, value in rule.items():
        if operator in {"IsPresent", "IsNull", "IsString", "IsNumeric", "IsBoolean", "IsTimestamp"}:
            return f"{variable} is {'' if value else 'not '}{operator.removeprefix('Is').lower()}"
        match = _COMPARISON.fullmatch(operator)
        if match is None:
            continue
        if operator == "BooleanEquals":
            return variable if value else f"not {variable}"
        if not match[2]:
            return f"{variable} {_COMPARISONS[match[1]]} {value}"
        # Two values of the same name are told apart by what holds them.
        parts = 2 if _last(value) == variable else 1
        return f"{_last(path, parts)} {_COMPARISONS[match[1]]} {_last(value, parts)}"
    raise MachineError(f"{state}: the condition {json.dumps(rule)} cannot be put into words")


def _last(path: str, parts: int = 1) -> str:
    """The last parts of a reference path: `registration` of `$.look.registration`."""
    return ".".join(path.split(".")[-parts:])


def _alternatives(parts: list[str], word: str) -> list[str]:
    """The parts of an And or Or, ready to be joined.

    A part that holds the other operator is put in parentheses. A repeated `x is ` is left out.
    """
    other = " and " if word == " or " else " or "
    subject = parts[0].partition(" is ")[0] + " is "
    if word == " or " and all(part.startswith(subject) for part in parts):
        return [parts[0], *(part.removeprefix(subject) for part in parts[1:])]
    return [f"({part})" if other in part else part for part in parts]
