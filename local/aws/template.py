"""What template.yaml comes to on a laptop: its functions, state machines and HTTP APIs, every reference resolved.

It is read as SAM and CloudFormation read it, as far as this project's template goes: Globals, parameters, conditions,
Ref, GetAtt, Sub, Join, If and the condition functions. The account, the region and the names are fixed, so that what a
developer sees on the laptop is the same every time. A resource that the laptop does not run (an alarm, a log group)
answers Ref with its logical id and GetAtt with `<logical id>.<attribute>`.

Every name in the template is checked, used on the laptop or not: a Ref, GetAtt, Sub, Condition or DependsOn of
something that is not there is a TemplateError. What CloudFormation asks of a deployment alone is not asked here: a
parameter's AllowedPattern (which wants the ARN of a secret where a laptop gives `plain:local`) and the Rules.
"""

import argparse
import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.stack.endpoints import ACCOUNT, REGION
from local.stack.process import StartError

_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "local",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/local/local",
    "AWS::URLSuffix": "amazonaws.com",
}
_FUNCTION = "AWS::Serverless::Function"
_STATE_MACHINE = "AWS::Serverless::StateMachine"
_HTTP_API = "AWS::Serverless::HttpApi"
_ATTRIBUTES = {_FUNCTION: {"Arn"}, _STATE_MACHINE: {"Arn", "Name"}}
_NO_VALUE = object()  # what `!Ref AWS::NoValue` resolves to: the property that has it is left out

# Lambda's own defaults, seconds and MB.
_DEFAULT_TIMEOUT = 3
_DEFAULT_MEMORY = 128

DEFAULT_ROUTE = "$default"  # the path of the route that takes what no other does
_METHODS = {"ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_HEADER_SOURCE = re.compile(r"\$request\.header\.([A-Za-z0-9-]+)")


class TemplateError(StartError):
    """The template is wrong. The text is one line and begins with the logical id, or the parameter, at fault."""


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template.

    Attributes:
        code: the CodeUri folder, absolute.
        handler: the Handler property, `<module>.<name>`, inside that folder.
        module: the module that holds the handler, as seen from the template's folder: `functions.register.app`.
        environment: its own variables over those of Globals.
        timeout: seconds.
        memory: MB.
    """

    logical_id: str
    name: str
    arn: str
    code: Path
    handler: str
    module: str
    environment: Mapping[str, str]
    timeout: int
    memory: int


@dataclass(frozen=True)
class StateMachine:
    """A state machine of the template.

    Attributes:
        type: STANDARD or EXPRESS.
        definition: the ASL text, its `${…}` substituted.
    """

    logical_id: str
    name: str
    arn: str
    type: str
    definition: str


@dataclass(frozen=True)
class Authorizer:
    """A JWT authorizer of an HTTP API.

    Attributes:
        header: the request header that holds the token, in lower case.
        issuer: what the token's `iss` has to be.
        audience: what the token's `aud` has to name one of.
    """

    name: str
    header: str
    issuer: str
    audience: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """A route of an HTTP API.

    Attributes:
        method: in capitals; ANY stands for every method.
        path: `/agents/{agent_id}`, or `$default`.
        authorizer: None if anybody may call.
    """

    method: str
    path: str
    function: Function
    authorizer: Authorizer | None

    @property
    def key(self) -> str:
        """What API Gateway calls it: `GET /agents/{agent_id}`, or `$default`."""
        return self.path if self.path == DEFAULT_ROUTE else f"{self.method} {self.path}"

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path that slashes separate; a parameter keeps its braces."""
        return tuple(self.path.split("/")[1:])


@dataclass(frozen=True)
class HttpApi:
    """An HTTP API of the template.

    Attributes:
        routes: in the order of the file.
        access_log_format: the text of a log line, with `$context.…` in it; empty if nothing is logged.
    """

    logical_id: str
    routes: tuple[Route, ...]
    access_log_format: str


class Template:
    """A template file, its references resolved for the given parameter values.

    Attributes:
        functions: every AWS::Serverless::Function whose condition holds, in the order of the file.
        state_machines: every AWS::Serverless::StateMachine whose condition holds, in the order of the file.
        http_apis: every AWS::Serverless::HttpApi whose condition holds, in the order of the file.
    """

    def __init__(self, path: Path, parameters: Mapping[str, str] | None = None) -> None:
        """Read `path`; `parameters` override the defaults in it. Raises TemplateError."""
        self._path = path.resolve()
        document = _read(self._path)
        self._globals: dict[str, Any] = document.get("Globals", {})
        self._conditions: dict[str, Any] = document.get("Conditions", {})
        self._resources: dict[str, Any] = document.get("Resources", {})
        self._parameters = _parameter_values(document.get("Parameters", {}), parameters or {})
        self._check_names(document)
        self.functions = tuple(self._function(logical_id) for logical_id in self._present(_FUNCTION))
        self.state_machines = tuple(self._state_machine(logical_id) for logical_id in self._present(_STATE_MACHINE))
        self.http_apis = tuple(self._http_api(logical_id) for logical_id in self._present(_HTTP_API))

    def properties(self, resource_type: str) -> dict[str, dict[str, Any]]:
        """The resolved Properties of every resource of a type whose condition holds, by logical id.

        Globals are not merged into them.
        """
        return {
            logical_id: self._resolve(self._resources[logical_id].get("Properties", {}), logical_id)
            for logical_id in self._present(resource_type)
        }

    def shared_environment(self) -> dict[str, str]:
        """The variables of all functions together, for a process that runs all of them.

        Raises TemplateError when two functions want different values of one variable.
        """
        shared: dict[str, str] = {}
        owners: dict[str, str] = {}
        for function in self.functions:
            for name, value in function.environment.items():
                if shared.setdefault(name, value) != value:
                    raise TemplateError(
                        f"{function.logical_id}: {name} differs from that of {owners[name]}, "
                        "and on the laptop all functions share one environment"
                    )
                owners.setdefault(name, function.logical_id)
        return shared

    # What a resource becomes.

    def _present(self, resource_type: str) -> Iterator[str]:
        for logical_id, resource in self._resources.items():
            condition = resource.get("Condition")
            if resource.get("Type") == resource_type and (condition is None or self._holds(condition)):
                yield logical_id

    def _function(self, logical_id: str) -> Function:
        common = self._resolve(self._globals.get("Function", {}), "Globals")
        own = self._resolve(self._resources[logical_id].get("Properties", {}), logical_id)
        settings = {**common, **own}
        variables = {
            **common.get("Environment", {}).get("Variables", {}),
            **own.get("Environment", {}).get("Variables", {}),
        }
        handler = _required(settings, "Handler", logical_id)
        folder = Path(_required(settings, "CodeUri", logical_id))
        module_name, _, _ = handler.rpartition(".")
        code = self._path.parent / folder
        source = code / f"{module_name.replace('.', '/')}.py"
        if not source.is_file():
            raise TemplateError(f"{logical_id}: Handler {handler} needs {folder / source.relative_to(code)}, not there")
        return Function(
            logical_id=logical_id,
            name=self._physical_name(logical_id),
            arn=self._arn(logical_id),
            code=code,
            handler=handler,
            module=".".join((*folder.parts, *module_name.split("."))),
            environment={name: _text(value, f"{logical_id}: {name}") for name, value in variables.items()},
            timeout=int(settings.get("Timeout", _DEFAULT_TIMEOUT)),
            memory=int(settings.get("MemorySize", _DEFAULT_MEMORY)),
        )

    def _state_machine(self, logical_id: str) -> StateMachine:
        settings = self._resolve(self._resources[logical_id].get("Properties", {}), logical_id)
        uri = _required(settings, "DefinitionUri", logical_id)
        try:
            text = (self._path.parent / uri).read_text()
        except OSError as error:
            raise TemplateError(f"{logical_id}: DefinitionUri {uri}: {error.strerror}") from None
        substitutions = settings.get("DefinitionSubstitutions", {})
        definition = _substitute(text, substitutions, f"{logical_id}: {uri}")
        try:
            json.loads(definition)
        except ValueError as error:
            raise TemplateError(f"{logical_id}: {uri} is not JSON: {error}") from None
        return StateMachine(
            logical_id=logical_id,
            name=self._physical_name(logical_id),
            arn=self._arn(logical_id),
            type=settings.get("Type", "STANDARD"),
            definition=definition,
        )

    def _http_api(self, logical_id: str) -> HttpApi:
        settings = self._resolve(self._resources[logical_id].get("Properties", {}), logical_id)
        auth = settings.get("Auth", {})
        authorizers = {
            name: _authorizer(name, asked, logical_id) for name, asked in auth.get("Authorizers", {}).items()
        }
        default = auth.get("DefaultAuthorizer", _NO_AUTHORIZER)
        _check_authorizer(default, authorizers, f"{logical_id}: DefaultAuthorizer")
        routes: list[Route] = []
        for function, where, event in self._http_events():
            if event["ApiId"] != logical_id:
                continue
            own = {"Authorizer": default, **event.get("Auth", {})}
            if own.keys() != {"Authorizer"}:
                raise TemplateError(f"{where}: Auth is more than an Authorizer, which is not known on the laptop")
            _check_authorizer(own["Authorizer"], authorizers, f"{where}: Authorizer")
            method, path = _required(event, "Method", where).upper(), _required(event, "Path", where)
            route = Route(method, path, function, authorizers.get(own["Authorizer"]))
            _check_route(route, routes, where)
            routes.append(route)
        return HttpApi(logical_id, tuple(routes), settings.get("AccessLogSettings", {}).get("Format", ""))

    def _http_events(self) -> Iterator[tuple[Function, str, dict[str, Any]]]:
        """Every event that is a route: its function, its name for an error, and its properties."""
        apis = set(self._present(_HTTP_API))
        for function in self.functions:
            settings = self._resolve(self._resources[function.logical_id].get("Properties", {}), function.logical_id)
            for name, event in settings.get("Events", {}).items():
                if event.get("Type") == "HttpApi":
                    where, properties = f"{function.logical_id}: {name}", event.get("Properties", {})
                    if (api := _required(properties, "ApiId", where)) not in apis:
                        raise TemplateError(f"{where}: ApiId {api} is no HTTP API of the template")
                    yield function, where, properties

    def _physical_name(self, logical_id: str) -> str:
        properties = self._resources[logical_id].get("Properties", {})
        key = "FunctionName" if self._type(logical_id) == _FUNCTION else "Name"
        return _text(self._resolve(properties.get(key, logical_id), logical_id), f"{logical_id}: {key}")

    def _arn(self, logical_id: str) -> str:
        kind = "lambda:{}:{}:function" if self._type(logical_id) == _FUNCTION else "states:{}:{}:stateMachine"
        return f"arn:aws:{kind.format(REGION, ACCOUNT)}:{self._physical_name(logical_id)}"

    def _type(self, logical_id: str) -> str | None:
        resource_type: str | None = self._resources.get(logical_id, {}).get("Type")
        return resource_type

    # What an intrinsic function comes to. `where` is the logical id to name in an error.

    def _resolve(self, node: Any, where: str) -> Any:
        if isinstance(node, list):
            return [item for item in (self._resolve(part, where) for part in node) if item is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        name, argument = _intrinsic(node)
        if name:
            if name not in _RESOLVERS:
                raise TemplateError(f"{where}: {name} is not known on the laptop")
            return _RESOLVERS[name](self, argument, where)
        resolved = {key: self._resolve(value, where) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not _NO_VALUE}

    def _ref(self, name: str, _where: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in _PSEUDO_PARAMETERS:
            return _PSEUDO_PARAMETERS[name]
        if name in self._parameters:
            return self._parameters[name]
        if self._type(name) == _FUNCTION:
            return self._physical_name(name)
        return self._arn(name) if self._type(name) == _STATE_MACHINE else name

    def _get_att(self, target: Any, _where: str) -> str:
        logical_id, attribute = _split_target(target)
        if self._type(logical_id) not in _ATTRIBUTES:
            return f"{logical_id}.{attribute}"
        return self._arn(logical_id) if attribute == "Arn" else self._physical_name(logical_id)

    def _sub(self, argument: Any, where: str) -> str:
        text, own = argument if isinstance(argument, list) else (argument, {})
        values = self._resolve(own, where)

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in values:
                value = values[name]
            else:
                value = self._get_att(name, where) if "." in name else self._ref(name, where)
            return _text(value, f"{where}: ${{{name}}}")

        return _PLACEHOLDER.sub(replace, text)

    def _join(self, argument: Any, where: str) -> str:
        separator, parts = argument
        return str(separator).join(_text(part, f"{where}: Fn::Join") for part in self._resolve(parts, where))

    def _if(self, argument: Any, where: str) -> Any:
        condition, then, otherwise = argument
        return self._resolve(then if self._holds(condition) else otherwise, where)

    # Conditions.

    def _holds(self, condition: str) -> bool:
        return bool(self._resolve(self._conditions[condition], condition))

    def _condition(self, name: str, _where: str) -> bool:
        return self._holds(name)

    def _equals(self, argument: Any, where: str) -> bool:
        left, right = (_text(side, f"{where}: Fn::Equals") for side in self._resolve(argument, where))
        return left == right

    def _not(self, argument: Any, where: str) -> bool:
        (only,) = self._resolve(argument, where)
        return not only

    def _and(self, argument: Any, where: str) -> bool:
        return all(self._resolve(argument, where))

    def _or(self, argument: Any, where: str) -> bool:
        return any(self._resolve(argument, where))

    # Names: everything that is referred to has to be there.

    def _check_names(self, document: dict[str, Any]) -> None:
        for section in ("Rules", "Conditions", "Resources", "Outputs"):
            for name, entry in document.get(section, {}).items():
                self._check_references(entry, name)
        self._check_references(self._globals, "Globals")
        for logical_id, resource in self._resources.items():
            depends_on = resource.get("DependsOn", [])
            for name in [depends_on] if isinstance(depends_on, str) else depends_on:
                self._check_name(name, self._resources, logical_id)

    def _check_references(self, entry: Any, where: str) -> None:
        for kind, name in _references(entry):
            if kind == "Condition":
                self._check_name(name, self._conditions, where)
            elif kind == "Fn::GetAtt":
                logical_id, attribute = _split_target(name)
                self._check_name(logical_id, self._resources, where)
                if attribute not in _ATTRIBUTES.get(self._type(logical_id) or "", {attribute}):
                    raise TemplateError(f"{where}: {logical_id} has no attribute {attribute}")
            elif name not in self._parameters and name not in _PSEUDO_PARAMETERS and name != "AWS::NoValue":
                self._check_name(name, self._resources, where)

    def _check_name(self, name: str, known: Mapping[str, Any], where: str) -> None:
        if name not in known:
            raise TemplateError(f"{where}: nothing in the template is called {name}")


_RESOLVERS: dict[str, Callable[[Template, Any, str], Any]] = {
    "Condition": Template._condition,
    "Fn::And": Template._and,
    "Fn::Equals": Template._equals,
    "Fn::GetAtt": Template._get_att,
    "Fn::If": Template._if,
    "Fn::Join": Template._join,
    "Fn::Not": Template._not,
    "Fn::Or": Template._or,
    "Fn::Sub": Template._sub,
    "Ref": Template._ref,
}
_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
_NO_AUTHORIZER = "NONE"


def parameter_argument(text: str) -> tuple[str, str]:
    """A template's parameter on a command line, `NAME=VALUE`, as argparse's `type`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _authorizer(name: str, settings: dict[str, Any], logical_id: str) -> Authorizer:
    where = f"{logical_id}: {name}"
    source = _HEADER_SOURCE.fullmatch(_required(settings, "IdentitySource", where))
    if not source:
        raise TemplateError(f"{where}: IdentitySource {settings['IdentitySource']} is not $request.header.<name>")
    asked = settings.get("JwtConfiguration", {})
    issuer, audience = _required(asked, "issuer", where), asked.get("audience")
    if not isinstance(audience, list):
        raise TemplateError(f"{where}: audience is not a list")
    audience = [_text(entry, f"{where}: audience") for entry in audience]
    if not audience or not all(text.strip() for text in (issuer, *audience)):
        raise TemplateError(f"{where}: an empty issuer or audience would let anybody in")
    return Authorizer(name, source[1].lower(), issuer, tuple(audience))


def _check_authorizer(name: str, known: Mapping[str, Authorizer], where: str) -> None:
    if name != _NO_AUTHORIZER and name not in known:
        raise TemplateError(f"{where} {name} is none of the HTTP API's Authorizers")


def _check_route(route: Route, others: Iterable[Route], where: str) -> None:
    """Raise TemplateError unless a route can be told from the others, and names its path's parameters as they do."""
    if route.method not in _METHODS:
        raise TemplateError(f"{where}: {route.method} is no method")
    if route.path != DEFAULT_ROUTE and not route.path.startswith("/"):
        raise TemplateError(f"{where}: Path {route.path} does not begin with /")
    for segment in route.segments:
        if ("{" in segment or "}" in segment) and not _PATH_PARAMETER.fullmatch(segment):
            raise TemplateError(f"{where}: {segment} in Path {route.path} is not known on the laptop")
    parameters = [segment for segment in route.segments if is_parameter(segment)]
    if len(set(parameters)) < len(parameters):
        raise TemplateError(f"{where}: Path {route.path} has two parameters of one name")
    for other in others:
        if other.key == route.key:
            raise TemplateError(f"{where}: there is another route {route.key}")
        for ours, theirs in zip(route.segments, other.segments, strict=False):
            if ours != theirs and is_parameter(ours) and is_parameter(theirs):
                raise TemplateError(f"{where}: {ours} in Path {route.path} is {theirs} in Path {other.path}")
            if ours != theirs:
                break


def is_parameter(segment: str) -> bool:
    """Whether this segment of a route's path stands for any text."""
    return segment.startswith("{")


def _intrinsic(node: dict[str, Any]) -> tuple[str, Any]:
    """The function that this mapping calls and its argument; an empty name if it is an ordinary mapping."""
    if len(node) == 1:
        ((name, argument),) = node.items()
        # In an IAM statement `Condition` is an ordinary key, and holds a mapping.
        if name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str)):
            return name, argument
    return "", None


def _references(node: Any) -> Iterator[tuple[str, Any]]:
    """Everything that is referred to in a part of the template, as ("Ref" | "Fn::GetAtt" | "Condition", target)."""
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
            for placeholder in _PLACEHOLDER.findall(text):
                if not placeholder.startswith("!") and placeholder not in own:
                    yield "Fn::GetAtt" if "." in placeholder else "Ref", placeholder
        for value in node.values():
            yield from _references(value)


def _split_target(target: Any) -> tuple[str, str]:
    """`A.Arn` and `[A, Arn]` are the two ways to write what GetAtt gets."""
    logical_id, _, attribute = (target if isinstance(target, str) else ".".join(target)).partition(".")
    return logical_id, attribute


def _text(value: Any, where: str) -> str:
    """A scalar as CloudFormation writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | datetime.date):
        return str(value)
    raise TemplateError(f"{where} is not a text or a number")


def _required(settings: dict[str, Any], key: str, logical_id: str) -> str:
    if key not in settings:
        raise TemplateError(f"{logical_id}: {key} is missing")
    return _text(settings[key], f"{logical_id}: {key}")


def _substitute(text: str, substitutions: Mapping[str, Any], where: str) -> str:
    """Put the values in the place of `${name}`. A name that only one side has is an error, as it is when deployed."""
    names = set(_PLACEHOLDER.findall(text))
    for name in sorted(names - substitutions.keys()):
        raise TemplateError(f"{where} has ${{{name}}}, which is not among its DefinitionSubstitutions")
    for name in sorted(substitutions.keys() - names):
        raise TemplateError(f"{where} has no ${{{name}}}, which is among its DefinitionSubstitutions")
    return _PLACEHOLDER.sub(lambda match: _text(substitutions[match[1]], f"{where}: ${{{match[1]}}}"), text)


def _parameter_values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    for name in given:
        if name not in declared:
            raise TemplateError(f"{name}: the template has no such parameter")
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        if name not in given and "Default" not in declaration:
            raise TemplateError(f"{name}: this parameter has no default and needs a value")
        value = _text(given.get(name, declaration.get("Default")), name)
        allowed = [_text(choice, name) for choice in declaration.get("AllowedValues", [value])]
        if value not in allowed:
            raise TemplateError(f"{name}: {value!r} is none of {', '.join(allowed)}")
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


def _read(path: Path) -> dict[str, Any]:
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
