"""Runs a state machine one task at a time, as pure functions on values: what an explorer needs and no engine offers.

It knows as much of the Amazon States Language as the shipped machines use: Task, Pass, Choice and Fail; reference paths
and the context object; States.Format, States.JsonToString and States.JsonMerge; Retry without its waits; Catch.
Whatever else it meets is an error. test_interpreter.py holds it to moto's interpreter on every path.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

Json = Any
_FUNCTION = re.compile(r"^\$\{(\w+)FunctionArn\}$")


@dataclass(frozen=True)
class Ending:
    """How an execution ended.

    Attributes:
        status: SUCCEEDED, FAILED or ABORTED.
        output: JSON text; None unless it succeeded.
        error, cause: None unless it failed.
    """

    status: str
    output: str | None = None
    error: str | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Position:
    """Where an execution stands: before a task, or at its end.

    Attributes:
        state: the Task state it waits in, or the state it ended in.
        data: the state's input, as canonical JSON text.
        retries: how often this task has been retried.
        ending: None while it runs.
    """

    state: str
    data: str
    retries: int = 0
    ending: Ending | None = None


class Machine:
    """A state machine, ready to be run."""

    def __init__(self, definition: Mapping[str, Any], *, most_retries: int | None = None) -> None:
        """``most_retries`` caps MaxAttempts of every Retry; None leaves them as they are."""
        self._definition = definition
        self._most_retries = most_retries
        self.states: Mapping[str, Any] = definition["States"]

    def start(self, execution_id: str, request: Json) -> Position:
        """The position of a new execution."""
        return self._enter(self._definition["StartAt"], request, self.context(execution_id, request))

    @staticmethod
    def context(execution_id: str, request: Json) -> dict[str, Any]:
        """The context object of an execution, less what depends on the state."""
        return {"Execution": {"Id": execution_id, "Input": request}}

    def task(self, position: Position, context: Json) -> tuple[str, str]:
        """(name of the function, its payload as canonical JSON text) of the task that an execution waits in."""
        state = self.states[position.state]
        within = {**context, "State": {"Name": position.state, "RetryCount": position.retries}}
        parameters = _template(state["Parameters"], json.loads(position.data), within)
        match = _FUNCTION.match(parameters["FunctionName"])
        if not match:
            raise NotImplementedError(parameters["FunctionName"])
        return match[1], dumps(parameters["Payload"])

    def succeed(self, position: Position, result: Json, context: Json) -> Position:
        """The position after the task has answered ``result``."""
        state = self.states[position.state]
        data = json.loads(position.data)
        selected = _template(state["ResultSelector"], {"Payload": result}, context)
        return self._enter(state["Next"], _put(data, state["ResultPath"], selected), context)

    def fail(self, position: Position, error: str, cause: str, context: Json) -> Position:
        """The position after the task has failed: before its next attempt, or where its Catch leads."""
        state = self.states[position.state]
        for retry in state["Retry"]:
            if _matches(error, retry["ErrorEquals"]):
                attempts = retry["MaxAttempts"]
                most = attempts if self._most_retries is None else min(attempts, self._most_retries)
                if position.retries < most:
                    return replace(position, retries=position.retries + 1)
                break
        for catch in state["Catch"]:
            if _matches(error, catch["ErrorEquals"]):
                data = _put(json.loads(position.data), catch["ResultPath"], {"Error": error, "Cause": cause})
                return self._enter(catch["Next"], data, context)
        return replace(position, ending=Ending("FAILED", error=error, cause=cause))

    def _enter(self, name: str, data: Json, context: Json) -> Position:
        while True:
            state = self.states[name]
            kind = state["Type"]
            if kind == "Task":
                return Position(name, dumps(data))
            if kind == "Fail":
                error = state["Error"] if "Error" in state else _get(state["ErrorPath"], data, context)
                cause = _value(state["CausePath"], data, context)
                return Position(name, dumps(data), ending=Ending("FAILED", error=error, cause=cause))
            if kind == "Choice":
                name = next((c["Next"] for c in state["Choices"] if _holds(c, data)), state["Default"])
                continue
            if kind != "Pass":
                raise NotImplementedError(kind)
            result = _template(state["Parameters"], data, context) if "Parameters" in state else state["Result"]
            data = _put(data, state["ResultPath"], result) if "ResultPath" in state else result
            if state.get("End"):
                return Position(name, dumps(data), ending=Ending("SUCCEEDED", output=dumps(data)))
            name = state["Next"]


def dumps(value: Json) -> str:
    """Canonical JSON text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _matches(error: str, names: list[str]) -> bool:
    return error in names or "States.ALL" in names


def _template(template: Json, data: Json, context: Json) -> Json:
    """A payload template with its ``.$`` keys filled in."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): _value(value, data, context)
            if key.endswith(".$")
            else _template(value, data, context)
            for key, value in template.items()
        }
    return template


def _value(expression: str, data: Json, context: Json) -> Json:
    if expression.startswith("$"):
        return _get(expression, data, context)
    name, arguments = _parse(expression)
    values = [json.loads(a) if a in ("true", "false") else _literal(a, data, context) for a in arguments]
    if name == "States.Format":
        pieces = values[0].split("{}")
        texts = [v if isinstance(v, str) else dumps(v) for v in values[1:]]
        return "".join(piece + text for piece, text in zip(pieces, [*texts, ""], strict=True))
    if name == "States.JsonToString":
        return dumps(values[0])
    if name == "States.JsonMerge":
        return {**values[0], **values[1]}
    raise NotImplementedError(name)


def _literal(argument: str, data: Json, context: Json) -> Json:
    return argument[1:-1] if argument.startswith("'") else _value(argument, data, context)


@lru_cache
def _parse(expression: str) -> tuple[str, tuple[str, ...]]:
    """The function and the arguments of an intrinsic call; commas inside quotes and inner calls part nothing."""
    name, _, rest = expression.partition("(")
    arguments, depth, quoted = [""], 0, False
    for character in rest[:-1]:
        if character == "'":
            quoted = not quoted
        depth += {"(": 1, ")": -1}.get(character, 0) if not quoted else 0
        if character == "," and not quoted and not depth:
            arguments.append("")
        else:
            arguments[-1] += character
    return name, tuple(argument.strip() for argument in arguments)


def _get(path: str, data: Json, context: Json) -> Json:
    root = data
    if path.startswith("$$"):
        root, path = context, path[1:]
    for key in path.split(".")[1:]:
        root = root[key]
    return root


def _put(data: Json, path: str, value: Json) -> Json:
    """``data`` with ``value`` at a reference path; what lies on the way is copied or made."""
    keys = path.split(".")[1:]
    if not keys:
        return value
    copy = {**data}
    node = copy
    for key in keys[:-1]:
        node[key] = {**node.get(key, {})}
        node = node[key]
    node[keys[-1]] = value
    return copy


def _holds(rule: Mapping[str, Any], data: Json) -> bool:
    if "And" in rule:
        return all(_holds(inner, data) for inner in rule["And"])
    if "Or" in rule:
        return any(_holds(inner, data) for inner in rule["Or"])
    try:
        value = _get(rule["Variable"], data, None)
    except (KeyError, TypeError):
        if "IsPresent" in rule:
            return not rule["IsPresent"]
        raise
    if "IsPresent" in rule:
        return bool(rule["IsPresent"])
    if "StringEquals" in rule:
        return isinstance(value, str) and value == rule["StringEquals"]
    if "StringEqualsPath" in rule:
        return isinstance(value, str) and value == _get(rule["StringEqualsPath"], data, None)
    if "IsNull" in rule:
        return (value is None) is rule["IsNull"]
    if "BooleanEquals" in rule:
        return value is rule["BooleanEquals"]
    if "NumericGreaterThan" in rule:
        return not isinstance(value, bool) and isinstance(value, int | float) and value > rule["NumericGreaterThan"]
    raise NotImplementedError(str(rule))
