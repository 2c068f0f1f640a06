"""Runs a state machine one task at a time, as pure functions on values: what an explorer needs and no engine offers.

It knows as much of the Amazon States Language as the shipped machines use: Task, Pass, Choice, Fail, and Parallel whose
branches always succeed; reference paths and the context object; States.Format, States.Hash, States.JsonMerge,
States.JsonToString and States.UUID (which gives what the context has under ``UUID``); Retry, of whose
waits only that matters which outlasts a function; Catch. Whatever else it meets is an error. test_interpreter.py holds
it to moto's interpreter on every path.
"""

import hashlib
import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

Json = Any
_FUNCTION = re.compile(r"^\$\{(\w+)FunctionArn\}$")
_NEXT = re.compile(r'"(?:Next|Default|StartAt)":"(\w+)"')
_FIELD = re.compile(r"\$\.(\w+)")
_COMPARISONS = {"NumericEquals": operator.eq, "NumericGreaterThan": operator.gt}
_KEY = re.compile(r"\.(?P<name>\w+)|\[(?P<index>\d+)\]")
# Seconds. A retry that waits longer begins after Lambda has ended the attempts before it.
FUNCTION_TIMEOUT = 7


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
        state: the Task or Parallel state it waits in, or the state it ended in.
        data: the state's input, as canonical JSON text.
        retries: how often each Retry of this task has been used.
        waits: whether the task waits until no earlier attempt can be running.
        branches: where the branches of a Parallel state stand.
        ending: None while it runs.
    """

    state: str
    data: str
    retries: tuple[int, ...] = ()
    waits: bool = False
    branches: tuple["Position", ...] = ()
    ending: Ending | None = None


class Machine:
    """A state machine, or a branch of one, ready to be run.

    A *place* is where a task can stand: None, or the number of a branch of the Parallel state under way.
    """

    def __init__(self, definition: Mapping[str, Any], *, most_retries: int | None = None) -> None:
        """``most_retries`` caps MaxAttempts; None leaves them as they are.

        A Retry that outlasts the function is not capped: what it is for cannot happen often enough to use it up.
        """
        self._definition = definition
        self._most_retries = most_retries
        self.states: Mapping[str, Any] = definition["States"]
        self._branches = {
            name: [Machine(branch, most_retries=most_retries) for branch in state["Branches"]]
            for name, state in self.states.items()
            if state["Type"] == "Parallel"
        }
        self._needed = {name: self._read_from(name) for name in self.states}

    def _read_from(self, name: str) -> frozenset[str] | None:
        """The fields of a state's input that are read there or later; None for all of them."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            following = waiting.pop()
            if following in self.states and following not in seen:
                seen.add(following)
                waiting += _NEXT.findall(dumps(self.states[following]))
        text = dumps([self.states[each] for each in seen])
        return None if '"$"' in text else frozenset(_FIELD.findall(text))

    def start(self, execution_id: str, request: Json, uuid: str = "") -> Position:
        """The position of a new execution."""
        return self._enter(self._definition["StartAt"], request, self.context(execution_id, request, uuid))

    @staticmethod
    def context(execution_id: str, request: Json, uuid: str = "") -> dict[str, Any]:
        """The context object of an execution, less what depends on the state, and with what States.UUID gives."""
        return {"Execution": {"Id": execution_id, "Input": request}, "UUID": uuid}

    def places(self, position: Position) -> list[int | None]:
        """Where tasks stand."""
        if position.ending:
            return []
        if not position.branches:
            return [None]
        return [place for place, branch in enumerate(position.branches) if branch.ending is None]

    def at(self, position: Position, place: int | None) -> tuple["Machine", Position]:
        """The machine and the position of the task in a place."""
        if place is None:
            return self, position
        return self._branches[position.state][place], position.branches[place]

    def task(self, position: Position, context: Json, place: int | None = None) -> tuple[str, str]:
        """(name of the function, its payload as canonical JSON text) of the task that stands in a place."""
        machine, own = self.at(position, place)
        state = machine.states[own.state]
        parameters = _template(state["Parameters"], json.loads(own.data), _within(own, context))
        match = _FUNCTION.match(parameters["FunctionName"])
        if not match:
            raise NotImplementedError(parameters["FunctionName"])
        return match[1], dumps(parameters["Payload"])

    def succeed(self, position: Position, result: Json, context: Json, place: int | None = None) -> Position:
        """The position after the task in a place has answered ``result``."""
        machine, own = self.at(position, place)
        state = machine.states[own.state]
        selected = _template(state["ResultSelector"], {"Payload": result}, _within(own, context))
        moved = machine._enter(state["Next"], _put(json.loads(own.data), state["ResultPath"], selected), context)
        return moved if place is None else self._joined(position, place, moved, context)

    def fail(self, position: Position, error: str, cause: str, context: Json, place: int | None = None) -> Position:
        """The position after the task in a place has failed: before its next attempt, or where its Catch leads."""
        machine, own = self.at(position, place)
        moved = machine._failed(own, error, cause, context)
        return moved if place is None else self._joined(position, place, moved, context)

    def _failed(self, position: Position, error: str, cause: str, context: Json) -> Position:
        state = self.states[position.state]
        used = position.retries or (0,) * len(state["Retry"])
        for number, retry in enumerate(state["Retry"]):
            if _matches(error, retry["ErrorEquals"]):
                waits = retry["IntervalSeconds"] > FUNCTION_TIMEOUT
                attempts = retry["MaxAttempts"]
                most = attempts if self._most_retries is None or waits else min(attempts, self._most_retries)
                if used[number] < most:
                    once_more = (*used[:number], used[number] + 1, *used[number + 1 :])
                    return replace(position, retries=once_more, waits=waits)
                break
        for catch in state["Catch"]:
            if _matches(error, catch["ErrorEquals"]):
                data = _put(json.loads(position.data), catch["ResultPath"], {"Error": error, "Cause": cause})
                return self._enter(catch["Next"], data, context)
        return replace(position, ending=Ending("FAILED", error=error, cause=cause))

    def _joined(self, position: Position, place: int, moved: Position, context: Json) -> Position:
        """The position after a branch has moved."""
        branches = (*position.branches[:place], moved, *position.branches[place + 1 :])
        endings = [branch.ending for branch in branches]
        if not all(endings):
            return replace(position, branches=branches)
        if any(ending and ending.status != "SUCCEEDED" for ending in endings):
            raise NotImplementedError("a branch that fails")
        state = self.states[position.state]
        results = [json.loads(ending.output or "") for ending in endings if ending]
        selected = _template(state["ResultSelector"], results, context)
        return self._enter(state["Next"], _put(json.loads(position.data), state["ResultPath"], selected), context)

    def _enter(self, name: str, data: Json, context: Json) -> Position:
        while True:
            state = self.states[name]
            kind = state["Type"]
            if kind in ("Task", "Parallel"):
                # What nothing reads any more does not tell two positions apart.
                needed = self._needed[name]
                data = data if needed is None else {field: data[field] for field in data if field in needed}
            if kind == "Task":
                return Position(name, dumps(data))
            if kind == "Parallel":
                entered = (
                    branch._enter(branch._definition["StartAt"], data, context) for branch in self._branches[name]
                )
                position = Position(name, dumps(data), branches=tuple(entered))
                if not self.places(position):
                    raise NotImplementedError("a Parallel state without a task")
                return position
            if kind == "Fail":
                error = state["Error"] if "Error" in state else _get(state["ErrorPath"], data, context)
                cause = _value(state["CausePath"], data, context)
                return Position(name, dumps(data), ending=Ending("FAILED", error=error, cause=cause))
            if kind == "Choice":
                name = next((c["Next"] for c in state["Choices"] if _holds(c, data)), state["Default"])
                continue
            if kind != "Pass":
                raise NotImplementedError(kind)
            result = (
                _template(state["Parameters"], data, context) if "Parameters" in state else state.get("Result", data)
            )
            data = _put(data, state["ResultPath"], result) if "ResultPath" in state else result
            if state.get("End"):
                return Position(name, dumps(data), ending=Ending("SUCCEEDED", output=dumps(data)))
            name = state["Next"]


def _within(position: Position, context: Json) -> Json:
    """The context object of the task at a position."""
    return {**context, "State": {"Name": position.state, "RetryCount": sum(position.retries)}}


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
    if name == "States.UUID":
        return context["UUID"]
    values = [_literal(argument, data, context) for argument in arguments]
    if name == "States.Format":
        pieces = values[0].split("{}")
        texts = [v if isinstance(v, str) else dumps(v) for v in values[1:]]
        return "".join(piece + text for piece, text in zip(pieces, [*texts, ""], strict=True))
    if name == "States.JsonToString":
        return dumps(values[0])
    if name == "States.JsonMerge":
        return {**values[0], **values[1]}
    if name == "States.Hash" and values[1] == "SHA-256":
        return hashlib.sha256(values[0].encode()).hexdigest()
    raise NotImplementedError(expression)


def _literal(argument: str, data: Json, context: Json) -> Json:
    if argument.startswith("'"):
        return argument[1:-1]
    if argument in ("true", "false"):
        return json.loads(argument)
    return _value(argument, data, context)


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
    for key in _KEY.finditer(path):
        root = root[key["name"] if key["name"] else int(key["index"])]
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
    for name, compares in _COMPARISONS.items():
        if name in rule:
            return not isinstance(value, bool) and isinstance(value, int | float) and compares(value, rule[name])
    raise NotImplementedError(str(rule))
