"""What the emulator lacks, taken out of the built template; everything else is deployed as it is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# The types of resources that the emulator does not know.
_UNKNOWN = {
    "AWS::CloudWatch::CompositeAlarm": "the emulator has no composite alarms",
    "AWS::Logs::QueryDefinition": "the emulator has no saved queries",
}
# Properties of a state machine that need versions and aliases of state machines.
_VERSIONS = ("AutoPublishAlias", "DeploymentPreference")


def adapt(template: Path) -> list[str]:
    """Take what the emulator lacks out of a built template, in place. Returns a line for each thing and its reason."""
    document = yaml.safe_load(template.read_text())
    resources: dict[str, dict[str, Any]] = document["Resources"]
    left_out = dict(_refused(resources))
    for name in left_out:
        del resources[name]
    machines = [name for name, resource in resources.items() if resource["Type"] == "AWS::Serverless::StateMachine"]
    for name in machines:
        for key in _VERSIONS:
            if resources[name]["Properties"].pop(key, None) is not None:
                left_out[f"{name}.{key}"] = "the emulator has no versions of state machines"
    secrets = [name for name, resource in resources.items() if resource["Type"] == "AWS::SecretsManager::Secret"]
    document = _referring(document, set(left_out), machines, secrets)
    for name in secrets:
        left_out[f"!Ref {name}"] = "the emulator's Ref of a secret is its name; !GetAtt Id stands in its place"
    template.write_text(yaml.safe_dump(document, sort_keys=False))
    return [f"{name}: {reason}" for name, reason in left_out.items()]


def _refused(resources: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, resource in resources.items():
        if reason := _UNKNOWN.get(resource["Type"]):
            yield name, reason
        elif resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            yield name, "the emulator has no alarms of metric math"


def _referring(value: Any, gone: set[str], machines: list[str], secrets: list[str]) -> Any:
    """The value without references to what is gone. An alias of a machine becomes the machine."""
    if isinstance(value, dict):
        if isinstance(named := value.get("Ref"), str):
            if named in secrets:
                return {"Fn::GetAtt": [named, "Id"]}
            if machine := next((name for name in machines if re.fullmatch(rf"{name}Alias\w+", named)), None):
                return {"Ref": machine}
        return {k: _referring(item, gone, machines, secrets) for k, item in value.items() if not _refers(item, gone)}
    if isinstance(value, list):
        return [_referring(item, gone, machines, secrets) for item in value if not _refers(item, gone)]
    return value


def _refers(value: Any, gone: set[str]) -> bool:
    if not isinstance(value, dict):
        return False
    target = value.get("Ref") or value.get("Fn::GetAtt")
    return (target[0] if isinstance(target, list) else target) in gone
