"""The shipped state machines and template, as the contract tests read them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.aws.template import Template

ROOT = Path(__file__).parents[2]
PARAMETERS = {
    "SpiceDBEndpoint": "spicedb:50051",
    "SpiceDBTokenSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:spicedb-token",
    "TemporalAddress": "temporal:7233",
    "TemporalNamespace": "default",
    "JwtIssuer": "https://issuer.example.com/",
    "JwtAudience": "agent-schedules",
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    path.name.removesuffix(".asl.json"): json.loads(path.read_text())
    for path in sorted((ROOT / "statemachine").glob("*.asl.json"))
}
# The machines of operations: each is an Express machine too, and a create's lease outlasts them.
SAGAS = ("create_schedule", "delete_schedule")
State = Mapping[str, Any]


def template(**parameters: str) -> Template:
    """template.yaml as a deployment resolves it, with no optional parameters except the given ones."""
    return Template(ROOT / "template.yaml", {**PARAMETERS, **parameters})


def states_of(definition: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    """(name, state) for every state of a machine, also those in a Map or Parallel state."""
    for name, state in definition["States"].items():
        yield name, state
        for inner in inner_machines(state):
            yield from states_of(inner)


def inner_machines(state: State) -> list[Mapping[str, Any]]:
    """The machines in a Map or Parallel state."""
    return [state["ItemProcessor"]] if "ItemProcessor" in state else list(state.get("Branches", ()))


def states() -> Iterator[tuple[str, State]]:
    """(``machine.State``, state) for every state of every machine."""
    for machine, definition in DEFINITIONS.items():
        for name, state in states_of(definition):
            yield f"{machine}.{name}", state


def tasks() -> dict[str, State]:
    """Every Task state, by ``machine.State``."""
    return {name: state for name, state in states() if state["Type"] == "Task"}


def targets(state: State) -> Iterator[str]:
    """The states that ``state`` can go to; of a Map or Parallel state, also those where what is in it begins."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for branch in (*state.get("Choices", ()), *state.get("Catch", ())):
        yield branch["Next"]
    for inner in inner_machines(state):
        yield inner["StartAt"]
