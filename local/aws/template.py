"""Reads template.yaml for the laptop: its functions, state machines and HTTP APIs, with every reference resolved.

It reads the file as SAM does, as far as this project's template needs it: Globals, and the events of functions that are
routes of an HTTP API. local.aws.intrinsics says what of CloudFormation is supported.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local.aws.intrinsics import FUNCTION, PLACEHOLDER, STATE_MACHINE, Intrinsics, TemplateError, as_text, read
from local.aws.resources import (
    DEFAULT_ROUTE,
    Authorizer,
    Cors,
    Function,
    HttpApi,
    Route,
    StateMachine,
    is_greedy,
    is_parameter,
)

_HTTP_API = "AWS::Serverless::HttpApi"

# Lambda's own defaults, seconds and MB.
_DEFAULT_TIMEOUT = 3
_DEFAULT_MEMORY = 128

_METHODS = {"ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_NO_AUTHORIZER = "NONE"
_PATH_PARAMETER = re.compile(r"\{(\w+)\+?\}")
_HEADER_SOURCE = re.compile(r"\$request\.header\.([A-Za-z0-9-]+)")


class Template:
    """A template file, its references resolved for the given parameter values.

    Attributes:
        functions: every AWS::Serverless::Function whose condition holds, in the order of the file.
        state_machines: every AWS::Serverless::StateMachine whose condition holds, in the order of the file.
        http_apis: every AWS::Serverless::HttpApi whose condition holds, in the order of the file.
    """

    def __init__(self, path: Path, parameters: Mapping[str, str] | None = None) -> None:
        """Read `path`; `parameters` override the defaults in it. Raises TemplateError."""
        self._folder = path.resolve().parent
        document = read(path)
        self._outputs: dict[str, Any] = document.get("Outputs", {})
        self._intrinsics = Intrinsics(document, parameters or {})
        self._globals: dict[str, Any] = self._intrinsics.resolve(document.get("Globals", {}), "Globals")
        self.functions = tuple(self._function(logical_id) for logical_id in self._intrinsics.present(FUNCTION))
        self.state_machines = tuple(
            self._state_machine(logical_id) for logical_id in self._intrinsics.present(STATE_MACHINE)
        )
        self.http_apis = tuple(self._http_api(logical_id) for logical_id in self._intrinsics.present(_HTTP_API))

    def properties(self, resource_type: str) -> dict[str, dict[str, Any]]:
        """The resolved Properties of every resource of a type whose condition holds, by logical id.

        Those of a function include Globals.
        """
        return {
            logical_id: self._settings(logical_id)
            if resource_type == FUNCTION
            else self._intrinsics.properties(logical_id)
            for logical_id in self._intrinsics.present(resource_type)
        }

    def outputs(self) -> dict[str, Any]:
        """The resolved values of the outputs, by name."""
        return {name: self._intrinsics.resolve(output["Value"], name) for name, output in self._outputs.items()}

    def shared_environment(self) -> dict[str, str]:
        """The variables of all functions together, for a process that runs all of them.

        Raises TemplateError when two functions need different values of one variable.
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

    def _settings(self, logical_id: str) -> dict[str, Any]:
        """The properties of a function, those of Globals included."""
        merged: dict[str, Any] = _merged(self._globals.get("Function", {}), self._intrinsics.properties(logical_id))
        return merged

    def _function(self, logical_id: str) -> Function:
        settings = self._settings(logical_id)
        handler = _required(settings, "Handler", logical_id)
        folder = Path(_required(settings, "CodeUri", logical_id))
        module_name, _, _ = handler.rpartition(".")
        code = self._folder / folder
        source = code / f"{module_name.replace('.', '/')}.py"
        if not source.is_file():
            missing = folder / source.relative_to(code)
            raise TemplateError(f"{logical_id}: Handler {handler} needs {missing}, which does not exist")
        variables = settings.get("Environment", {}).get("Variables", {})
        return Function(
            logical_id=logical_id,
            name=self._intrinsics.physical_name(logical_id),
            arn=self._intrinsics.arn(logical_id),
            code=code,
            handler=handler,
            module=".".join((*folder.parts, *module_name.split("."))),
            environment={name: as_text(value, f"{logical_id}: {name}") for name, value in variables.items()},
            timeout=int(settings.get("Timeout", _DEFAULT_TIMEOUT)),
            memory=int(settings.get("MemorySize", _DEFAULT_MEMORY)),
        )

    def _state_machine(self, logical_id: str) -> StateMachine:
        settings = self._intrinsics.properties(logical_id)
        uri = _required(settings, "DefinitionUri", logical_id)
        try:
            text = (self._folder / uri).read_text()
        except OSError as error:
            raise TemplateError(f"{logical_id}: DefinitionUri {uri}: {error.strerror}") from None
        definition = _substituted(text, settings.get("DefinitionSubstitutions", {}), f"{logical_id}: {uri}")
        try:
            json.loads(definition)
        except ValueError as error:
            raise TemplateError(f"{logical_id}: {uri} is not JSON: {error}") from None
        return StateMachine(
            logical_id=logical_id,
            name=self._intrinsics.physical_name(logical_id),
            arn=self._intrinsics.arn(logical_id),
            type=settings.get("Type", "STANDARD"),
            alias=settings.get("AutoPublishAlias", ""),
            definition=definition,
        )

    def _http_api(self, logical_id: str) -> HttpApi:
        settings = self._intrinsics.properties(logical_id)
        auth = settings.get("Auth", {})
        authorizers = {
            name: _authorizer(name, declared, logical_id) for name, declared in auth.get("Authorizers", {}).items()
        }
        # As in SAM, an authorizer's scopes are those of every route that has none of its own.
        scopes = {
            name: _texts(declared, "AuthorizationScopes", f"{logical_id}: {name}")
            for name, declared in auth.get("Authorizers", {}).items()
        }
        default = auth.get("DefaultAuthorizer", _NO_AUTHORIZER)
        _check_authorizer(default, authorizers, f"{logical_id}: DefaultAuthorizer")
        routes: list[Route] = []
        for function, where, event in self._http_events():
            if event["ApiId"] != logical_id:
                continue
            own = {"Authorizer": default, **event.get("Auth", {})}
            if not own.keys() <= {"Authorizer", "AuthorizationScopes"}:
                raise TemplateError(f"{where}: Auth is more than an Authorizer and scopes: not known on the laptop")
            name = own["Authorizer"]
            _check_authorizer(name, authorizers, f"{where}: Authorizer")
            if name == _NO_AUTHORIZER and "AuthorizationScopes" in own:
                raise TemplateError(f"{where}: AuthorizationScopes needs an Authorizer")
            method, path = _required(event, "Method", where).upper(), _required(event, "Path", where)
            needed = _texts(own, "AuthorizationScopes", where) or scopes.get(name, ())
            route = Route(method, path, function, authorizers.get(name), needed)
            _check_route(route, routes, where)
            routes.append(route)
        log = settings.get("AccessLogSettings", {}).get("Format", "")
        return HttpApi(logical_id, tuple(routes), log, _cors(settings.get("CorsConfiguration"), logical_id))

    def _http_events(self) -> Iterator[tuple[Function, str, dict[str, Any]]]:
        """Every event that is a route: its function, its name for an error, and its properties."""
        apis = set(self._intrinsics.present(_HTTP_API))
        for function in self.functions:
            for name, event in self._settings(function.logical_id).get("Events", {}).items():
                if event.get("Type") == "HttpApi":
                    where, properties = f"{function.logical_id}: {name}", event.get("Properties", {})
                    if (api := _required(properties, "ApiId", where)) not in apis:
                        raise TemplateError(f"{where}: ApiId {api} is not an HTTP API of the template")
                    yield function, where, properties


def parameter_argument(text: str) -> tuple[str, str]:
    """A template's parameter on a command line, `NAME=VALUE`, as argparse's `type`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _merged(common: Any, own: Any) -> Any:
    """A property of Globals and the resource's own, merged by SAM's rules: mappings by key, lists by concatenation."""
    if isinstance(common, dict) and isinstance(own, dict):
        return common | {key: _merged(common[key], value) if key in common else value for key, value in own.items()}
    if isinstance(common, list) and isinstance(own, list):
        return common + own
    return own


def _authorizer(name: str, settings: dict[str, Any], logical_id: str) -> Authorizer:
    where = f"{logical_id}: {name}"
    source = _HEADER_SOURCE.fullmatch(_required(settings, "IdentitySource", where))
    if not source:
        raise TemplateError(f"{where}: IdentitySource {settings['IdentitySource']} is not $request.header.<name>")
    token = settings.get("JwtConfiguration", {})
    issuer, audience = _required(token, "issuer", where), token.get("audience")
    if not isinstance(audience, list):
        raise TemplateError(f"{where}: audience is not a list")
    audience = [as_text(entry, f"{where}: audience") for entry in audience]
    if not audience or not all(text.strip() for text in (issuer, *audience)):
        raise TemplateError(f"{where}: an empty issuer or audience would let anybody in")
    return Authorizer(name, source[1].lower(), issuer, tuple(audience))


def _cors(settings: Any, logical_id: str) -> Cors | None:
    if settings is None:
        return None
    where = f"{logical_id}: CorsConfiguration"
    if not isinstance(settings, dict):
        raise TemplateError(f"{where} is not a mapping")
    known = {"AllowOrigins", "AllowMethods", "AllowHeaders", "ExposeHeaders", "MaxAge", "AllowCredentials"}
    for name in settings.keys() - known:
        raise TemplateError(f"{where}: {name} is not known")
    cors = Cors(
        origins=_texts(settings, "AllowOrigins", where),
        methods=_texts(settings, "AllowMethods", where),
        headers=_texts(settings, "AllowHeaders", where),
        exposed=_texts(settings, "ExposeHeaders", where),
        max_age=settings.get("MaxAge"),
        credentials=settings.get("AllowCredentials", False),
    )
    if cors.credentials and any("*" in origin for origin in cors.origins):
        raise TemplateError(f"{where}: AllowCredentials needs origins without *")
    return cors


def _texts(settings: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of texts; empty where it is absent."""
    found = settings.get(key, [])
    if not isinstance(found, list):
        raise TemplateError(f"{where}: {key} is not a list")
    return tuple(as_text(entry, f"{where}: {key}") for entry in found)


def _check_authorizer(name: str, known: Mapping[str, Authorizer], where: str) -> None:
    if name != _NO_AUTHORIZER and name not in known:
        raise TemplateError(f"{where} {name} is not one of the HTTP API's Authorizers")


def _check_route(route: Route, others: Iterable[Route], where: str) -> None:
    """Raise TemplateError if a route equals another one, or names a parameter of the same path differently."""
    if route.method not in _METHODS:
        raise TemplateError(f"{where}: {route.method} is not a method")
    if route.path != DEFAULT_ROUTE and not route.path.startswith("/"):
        raise TemplateError(f"{where}: Path {route.path} does not begin with /")
    for segment in route.segments:
        if ("{" in segment or "}" in segment) and not _PATH_PARAMETER.fullmatch(segment):
            raise TemplateError(f"{where}: {segment} in Path {route.path} is not known on the laptop")
        if is_greedy(segment) and segment in route.segments[:-1]:
            raise TemplateError(f"{where}: {segment} in Path {route.path} is not its end")
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


def _required(settings: dict[str, Any], key: str, where: str) -> str:
    if key not in settings:
        raise TemplateError(f"{where}: {key} is missing")
    return as_text(settings[key], f"{where}: {key}")


def _substituted(text: str, substitutions: Mapping[str, Any], where: str) -> str:
    """`text` with a value for every `${name}`. As in a deployment, a name that only one side has is an error."""
    names = set(PLACEHOLDER.findall(text))
    for name in sorted(names - substitutions.keys()):
        raise TemplateError(f"{where} has ${{{name}}}, which is not among its DefinitionSubstitutions")
    for name in sorted(substitutions.keys() - names):
        raise TemplateError(f"{where} has no ${{{name}}}, which is among its DefinitionSubstitutions")
    return PLACEHOLDER.sub(lambda match: as_text(substitutions[match[1]], f"{where}: ${{{match[1]}}}"), text)
