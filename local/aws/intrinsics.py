"""The file format of a CloudFormation template: YAML with short forms, parameters, conditions, intrinsic functions.

It covers what this project's template uses: Ref, GetAtt, Sub, Join, If and the condition functions. The account, the
region and the names are fixed, so that a developer sees the same values in every run. Ref of a resource that the laptop
does not run (an alarm, a log group) resolves to its logical id, and GetAtt to `<logical id>.<attribute>`.

Every name in the template is checked, whether the laptop uses it or not: a Ref, GetAtt, Sub, Condition or DependsOn of
something that does not exist raises TemplateError. Two checks of CloudFormation are left out, because they apply to a
deployment only: the AllowedPattern of a parameter (it requires the ARN of a secret, and a laptop uses `plain:local`)
and the Rules.
"""

import datetime
import re
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from local.stack.endpoints import ACCOUNT, REGION
from local.stack.process import StartError

FUNCTION = "AWS::Serverless::Function"
STATE_MACHINE = "AWS::Serverless::StateMachine"
PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")

_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "local",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/local/local",
    "AWS::URLSuffix": "amazonaws.com",
}
_ATTRIBUTES = {FUNCTION: {"Arn"}, STATE_MACHINE: {"Arn", "Name"}}
_NO_VALUE = object()  # the value of `!Ref AWS::NoValue`: a property or list item with it is left out


class TemplateError(StartError):
    """The template is wrong. The text is one line and begins with the logical id, or the parameter, at fault."""


class Intrinsics:
    """A template's parameters, conditions and resources, by which references resolve.

    `where` is always the logical id that an error names.

    Attributes:
        resources: the Resources section, not resolved.
    """

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        """Use the values in `parameters` instead of the defaults.

        Raises TemplateError when a parameter or a reference in `document` is wrong.
        """
        self.resources: dict[str, Any] = document.get("Resources", {})
        self._conditions: dict[str, Any] = document.get("Conditions", {})
        self._parameters = _parameter_values(document.get("Parameters", {}), parameters)
        self._qualified = dict(_qualified(document))
        self._check_names(document)

    def present(self, resource_type: str) -> Iterator[str]:
        """The logical ids of every resource of a type whose condition holds, in the order of the file."""
        for logical_id, resource in self.resources.items():
            condition = resource.get("Condition")
            if resource.get("Type") == resource_type and (condition is None or self._holds(condition)):
                yield logical_id

    def properties(self, logical_id: str) -> dict[str, Any]:
        """The resolved Properties of a resource."""
        properties: dict[str, Any] = self.resolve(self.resources[logical_id].get("Properties", {}), logical_id)
        return properties

    def physical_name(self, logical_id: str) -> str:
        """The name of a function or a state machine; without one, its logical id."""
        properties = self.resources[logical_id].get("Properties", {})
        key = "FunctionName" if self._type(logical_id) == FUNCTION else "Name"
        return as_text(self.resolve(properties.get(key, logical_id), logical_id), f"{logical_id}: {key}")

    def arn(self, logical_id: str) -> str:
        """The ARN of a function or a state machine."""
        kind = "lambda:{}:{}:function" if self._type(logical_id) == FUNCTION else "states:{}:{}:stateMachine"
        return f"arn:aws:{kind.format(REGION, ACCOUNT)}:{self.physical_name(logical_id)}"

    def resolve(self, node: Any, where: str) -> Any:
        """A part of the template with every intrinsic function replaced by its value."""
        if isinstance(node, list):
            return [item for item in (self.resolve(part, where) for part in node) if item is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        name, argument = _intrinsic(node)
        if name:
            if name not in _RESOLVERS:
                raise TemplateError(f"{where}: {name} is not known on the laptop")
            return _RESOLVERS[name](self, argument, where)
        resolved = {key: self.resolve(value, where) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not _NO_VALUE}

    def _type(self, logical_id: str) -> str | None:
        resource_type: str | None = self.resources.get(logical_id, {}).get("Type")
        return resource_type

    # The intrinsic functions.

    def _ref(self, name: str, _where: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in _PSEUDO_PARAMETERS:
            return _PSEUDO_PARAMETERS[name]
        if name in self._parameters:
            return self._parameters[name]
        if name in self._qualified:
            logical_id, qualifier = self._qualified[name]
            return f"{self.arn(logical_id)}:{qualifier}"
        if self._type(name) == FUNCTION:
            return self.physical_name(name)
        return self.arn(name) if self._type(name) == STATE_MACHINE else name

    def _get_att(self, target: Any, _where: str) -> str:
        logical_id, attribute = _split_target(target)
        if self._type(logical_id) not in _ATTRIBUTES:
            return f"{logical_id}.{attribute}"
        return self.arn(logical_id) if attribute == "Arn" else self.physical_name(logical_id)

    def _sub(self, argument: Any, where: str) -> str:
        text, own = argument if isinstance(argument, list) else (argument, {})
        values = self.resolve(own, where)

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in values:
                value = values[name]
            else:
                value = self._get_att(name, where) if "." in name else self._ref(name, where)
            return as_text(value, f"{where}: ${{{name}}}")

        return PLACEHOLDER.sub(replace, text)

    def _join(self, argument: Any, where: str) -> str:
        separator, parts = argument
        return str(separator).join(as_text(part, f"{where}: Fn::Join") for part in self.resolve(parts, where))

    def _if(self, argument: Any, where: str) -> Any:
        condition, then, otherwise = argument
        return self.resolve(then if self._holds(condition) else otherwise, where)

    # Conditions.

    def _holds(self, condition: str) -> bool:
        return bool(self.resolve(self._conditions[condition], condition))

    def _condition(self, name: str, _where: str) -> bool:
        return self._holds(name)

    def _equals(self, argument: Any, where: str) -> bool:
        left, right = (as_text(side, f"{where}: Fn::Equals") for side in self.resolve(argument, where))
        return left == right

    def _not(self, argument: Any, where: str) -> bool:
        (only,) = self.resolve(argument, where)
        return not only

    def _and(self, argument: Any, where: str) -> bool:
        return all(self.resolve(argument, where))

    def _or(self, argument: Any, where: str) -> bool:
        return any(self.resolve(argument, where))

    # Names: every target of a reference must exist.

    def _check_names(self, document: Mapping[str, Any]) -> None:
        for section in ("Rules", "Conditions", "Resources", "Outputs"):
            for name, entry in document.get(section, {}).items():
                self._check_references(entry, name)
        self._check_references(document.get("Globals", {}), "Globals")
        for logical_id, resource in self.resources.items():
            depends_on = resource.get("DependsOn", [])
            for name in [depends_on] if isinstance(depends_on, str) else depends_on:
                _check_name(name, self.resources, logical_id)

    def _check_references(self, entry: Any, where: str) -> None:
        for kind, name in _references(entry):
            if kind == "Condition":
                _check_name(name, self._conditions, where)
            elif kind == "Fn::GetAtt":
                logical_id, attribute = _split_target(name)
                _check_name(logical_id, self.resources, where)
                if attribute not in _ATTRIBUTES.get(self._type(logical_id) or "", {attribute}):
                    raise TemplateError(f"{where}: {logical_id} has no attribute {attribute}")
            elif name not in self._parameters and name not in _PSEUDO_PARAMETERS and name != "AWS::NoValue":
                _check_name(name, self.resources.keys() | self._qualified.keys(), where)


_RESOLVERS: dict[str, Callable[[Intrinsics, Any, str], Any]] = {
    "Condition": Intrinsics._condition,
    "Fn::And": Intrinsics._and,
    "Fn::Equals": Intrinsics._equals,
    "Fn::GetAtt": Intrinsics._get_att,
    "Fn::If": Intrinsics._if,
    "Fn::Join": Intrinsics._join,
    "Fn::Not": Intrinsics._not,
    "Fn::Or": Intrinsics._or,
    "Fn::Sub": Intrinsics._sub,
    "Ref": Intrinsics._ref,
}


def _qualified(document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The names that SAM gives to the versions and aliases that it publishes, each with (logical id, qualifier).

    `!Ref F.Version` and `!Ref F.Alias` of a function, `!Ref MAliaslive` of a state machine with the alias `live`. A
    function has one version on the laptop.
    """
    of_all_functions = document.get("Globals", {}).get("Function", {})
    for logical_id, resource in document.get("Resources", {}).items():
        properties = resource.get("Properties", {})
        if resource.get("Type") == FUNCTION and (alias := {**of_all_functions, **properties}.get("AutoPublishAlias")):
            yield f"{logical_id}.Version", (logical_id, "1")
            yield f"{logical_id}.Alias", (logical_id, alias)
        elif resource.get("Type") == STATE_MACHINE and (alias := properties.get("AutoPublishAlias")):
            yield f"{logical_id}Alias{alias}", (logical_id, alias)


def as_text(value: Any, where: str) -> str:
    """A scalar as CloudFormation writes it. Raises TemplateError for a list or a mapping."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | datetime.date):
        return str(value)
    raise TemplateError(f"{where} is not a text or a number")


def _check_name(name: str, known: Container[str], where: str) -> None:
    if name not in known:
        raise TemplateError(f"{where}: nothing in the template is called {name}")


def _intrinsic(node: dict[str, Any]) -> tuple[str, Any]:
    """The function that this mapping calls and its argument; an empty name if it is an ordinary mapping."""
    if len(node) == 1:
        ((name, argument),) = node.items()
        # In an IAM statement `Condition` is an ordinary key, and holds a mapping.
        if name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str)):
            return name, argument
    return "", None


def _references(node: Any) -> Iterator[tuple[str, Any]]:
    """Every reference in a part of the template, as ("Ref" | "Fn::GetAtt" | "Condition", target)."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        if isinstance(condition := node.get("Condition"), str):
            yield "Condition", condition
        name, argument = _intrinsic(node)
        if name in ("Ref", "Fn::GetAtt"):
            yield name, argument
        elif name == "Fn::If":
            yield "Condition", argument[0]
        elif name == "Fn::Sub":
            text, own = argument if isinstance(argument, list) else (argument, {})
            for placeholder in PLACEHOLDER.findall(text):
                if not placeholder.startswith("!") and placeholder not in own:
                    yield "Fn::GetAtt" if "." in placeholder else "Ref", placeholder
        for value in node.values():
            yield from _references(value)


def _split_target(target: Any) -> tuple[str, str]:
    """The logical id and the attribute of a GetAtt, written as `A.Arn` or `[A, Arn]`."""
    logical_id, _, attribute = (target if isinstance(target, str) else ".".join(target)).partition(".")
    return logical_id, attribute


def _parameter_values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    for name in given:
        if name not in declared:
            raise TemplateError(f"{name}: the template has no such parameter")
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        if name not in given and "Default" not in declaration:
            raise TemplateError(f"{name}: this parameter has no default and needs a value")
        value = as_text(given.get(name, declaration.get("Default")), name)
        allowed = [as_text(choice, name) for choice in declaration.get("AllowedValues", [value])]
        if value not in allowed:
            raise TemplateError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        is_list = declaration.get("Type") == "CommaDelimitedList" or declaration.get("Type", "").startswith("List<")
        values[name] = [part.strip() for part in value.split(",")] if is_list else value
    return values


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Sub x` reads as {"Fn::Sub": "x"}."""


def _construct_intrinsic(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    argument: Any
    if isinstance(node, yaml.ScalarNode):
        argument = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        argument = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101 - YAML has these three kinds of node
        argument = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": argument}


_Loader.add_multi_constructor("!", _construct_intrinsic)


def read(path: Path) -> dict[str, Any]:
    """The template in a file, not resolved. Raises TemplateError."""
    try:
        with path.open() as file:
            document = yaml.load(file, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise TemplateError(f"{path.name}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise TemplateError(f"{path.name}: line {line}: {error.problem}") from None
    if not isinstance(document, dict):
        raise TemplateError(f"{path.name} is not a template")
    return document
