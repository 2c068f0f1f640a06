"""Writes the tables of docs/security.md, from template.yaml: `python -m tools.permissions_table`.

    <!-- functions -->  … <!-- /functions -->   what the role of each function allows, and whose credentials it can read
    <!-- machines -->   … <!-- /machines -->    what the role of each state machine allows
    <!-- routes -->     … <!-- /routes -->      which token each route of the HTTP API needs

Exit codes: those of tools/pages.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from local.aws.intrinsics import read
from local.aws.template import Template
from tools.pages import ROOT, DocumentError, command

DOCUMENT = "docs/security.md"
ENGINES = ("SpiceDB", "Temporal")
# Written once above the tables, because every function or every machine has them.
COMMON = ("logs", "xray", "ec2")

Allowed = tuple[str, str]  # an action and the resource that it is allowed on
Table = Callable[[Template], str]


def whole_template(root: Path = ROOT) -> Template:
    """template.yaml with every optional parameter given. The value of a parameter is its name."""
    path = root / "template.yaml"
    declared: dict[str, Any] = read(path)["Parameters"]
    return Template(path, {name: name for name, each in declared.items() if "AllowedValues" not in each})


def allowed(template: Template, role_id: str) -> Iterator[Allowed]:
    """Every action that a role allows, with each of its resources. A denial has no place in these policies."""
    role = template.properties("AWS::IAM::Role")[role_id]
    managed = template.properties("AWS::IAM::ManagedPolicy")
    policies = [managed[policy] for policy in role.get("ManagedPolicyArns", ())] + role.get("Policies", [])
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] != "Allow":
                raise DocumentError(f"{role_id}: the tables know no {statement['Effect']}")
            for action in _each(statement["Action"]):
                yield from ((action, resource) for resource in _each(statement["Resource"]))


def role_of(settings: dict[str, Any]) -> str:
    """The logical id of the role of a function or a state machine."""
    role_id, _, _ = str(settings["Role"]).partition(".")
    return role_id


def engines_of(permissions: Iterator[Allowed]) -> list[str]:
    """The engines whose credentials can be read with these permissions."""
    secrets = [resource for action, resource in permissions if action.startswith("secretsmanager:")]
    return [engine for engine in ENGINES if any(secret.startswith(engine) for secret in secrets)]


def functions(template: Template) -> str:
    """The table of functions."""
    rows = ["| function | role | AWS actions besides the common ones | engines whose credentials it can read |"]
    rows.append("|---|---|---|---|")
    for function, settings in template.properties("AWS::Serverless::Function").items():
        role = role_of(settings)
        engines = ", ".join(engines_of(allowed(template, role))) or "none"
        rows.append(f"| `{function}` | `{role}` | {_actions(template, role)} | {engines} |")
    return "\n".join(rows) + "\n"


def machines(template: Template) -> str:
    """The table of state machines."""
    rows = ["| state machine | role | AWS actions besides the common ones |", "|---|---|---|"]
    for machine, settings in template.properties("AWS::Serverless::StateMachine").items():
        rows.append(f"| `{machine}` | `{role_of(settings)}` | {_actions(template, role_of(settings))} |")
    return "\n".join(rows) + "\n"


def routes(template: Template) -> str:
    """The table of routes."""
    rows = ["| route | token | scope |", "|---|---|---|"]
    (api,) = template.http_apis
    for route in sorted(api.routes, key=lambda route: (route.authorizer is None, route.path, route.method)):
        scopes = ", ".join(f"`{scope}`" for scope in route.scopes) or "none"
        rows.append(f"| `{route.key}` | {'yes' if route.authorizer else 'no'} | {scopes} |")
    return "\n".join(rows) + "\n"


def _actions(template: Template, role: str) -> str:
    resources: dict[str, list[str]] = {}
    for action, resource in allowed(template, role):
        if action.partition(":")[0] not in COMMON:
            resources.setdefault(action, []).append(f"`{_name(template, resource)}`")
    return "; ".join(f"`{action}` on {', '.join(dict.fromkeys(on))}" for action, on in resources.items()) or "none"


def _name(template: Template, resource: str) -> str:
    """A resource as the template calls it."""
    names = {each.arn: each.logical_id for each in template.functions}
    names |= {each.arn: each.logical_id for each in template.state_machines}
    return names.get(resource, resource)


def _each(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _parts(root: Path) -> dict[str, str]:
    template = whole_template(root)
    tables = {"functions": functions(template), "machines": machines(template), "routes": routes(template)}
    return {name: f"\n{table}\n" for name, table in tables.items()}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    return command("permissions_table", DOCUMENT, "the tables of", _parts, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
