"""What CloudFormation refuses before it creates anything: values of parameters, and the template's Rules.

The same sentences are known here before SAM uploads anything. CloudFormation stays the judge: a value that passes here
can still be refused there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any


def refusals(document: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each reason to refuse these parameters of a template. None of them shows a value."""
    declared: dict[str, Any] = document.get("Parameters", {})
    for name in given.keys() - declared.keys():
        yield f"{name} is not a parameter of the template"
    of: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name not in given and "Default" not in parameter:
            yield f"{name} is missing: {_described(parameter)}"
            continue
        text = str(given.get(name, parameter.get("Default")))
        if re.fullmatch("<.*>", text):
            yield f"{name} is still a placeholder: replace it by {_described(parameter)}"
            continue
        of[name] = [part.strip() for part in text.split(",")] if _is_list(parameter) else text
        if not all(_fits(entry, parameter) for entry in (of[name] if _is_list(parameter) else [text])):
            yield f"{name} must be {_described(parameter)}"
    if of.keys() == declared.keys():
        yield from _broken_rules(document.get("Rules", {}), of)


def _is_list(parameter: Mapping[str, Any]) -> bool:
    return str(parameter["Type"]) == "CommaDelimitedList"


def _described(parameter: Mapping[str, Any]) -> str:
    text: str = parameter.get("ConstraintDescription") or parameter.get("Description") or "a value"
    return text.rstrip(".")


def _fits(value: str, parameter: Mapping[str, Any]) -> bool:
    if not re.fullmatch(parameter.get("AllowedPattern", ".*"), value, re.DOTALL):
        return False
    if value not in [str(allowed) for allowed in parameter.get("AllowedValues", [value])]:
        return False
    if parameter["Type"] != "Number":
        return True
    try:
        number = float(value)
    except ValueError:
        return False
    return float(parameter.get("MinValue", number)) <= number <= float(parameter.get("MaxValue", number))


def _broken_rules(rules: Mapping[str, Any], of: Mapping[str, Any]) -> Iterator[str]:
    for rule in rules.values():
        if _value(rule.get("RuleCondition", True), of):
            yield from (each["AssertDescription"] for each in rule["Assertions"] if not _value(each["Assert"], of))


def _value(node: Any, of: Mapping[str, Any]) -> Any:
    """The value of an expression of a rule."""
    if isinstance(node, list):
        return [_value(part, of) for part in node]
    if not isinstance(node, dict):
        return node
    ((name, argument),) = node.items()
    if name == "Ref":
        return of[argument]
    parts = _value(argument, of)
    match name:
        case "Fn::Equals":
            return parts[0] == parts[1]
        case "Fn::Not":
            return not parts[0]
        case "Fn::And":
            return all(parts)
        case "Fn::Or":
            return any(parts)
        case "Fn::Contains":
            return parts[1] in parts[0]
        case "Fn::EachMemberEquals":
            return all(part == parts[1] for part in parts[0])
        case "Fn::EachMemberIn":
            return all(part in parts[1] for part in parts[0])
    raise NotImplementedError(f"{name} is not known here")
