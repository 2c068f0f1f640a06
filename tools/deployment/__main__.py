"""Builds and deploys with the SAM CLI, after checks whose errors are sentences: `python -m tools.deployment`.

    python -m tools.deployment build --env dev      # sam build, for the processor that dev has in samconfig.toml
    python -m tools.deployment deploy --env dev     # the same, then sam deploy; what follows -- is passed to it

`make build` and `make deploy` call it. It checks that Python 3.13 is there, which builds the layers; that the
environment's parameters are complete and of the right form; and that the compiled code in the built layers is for the
processor that is deployed. It prints every problem that it finds, and calls SAM only if there is none.

Exit codes: 1 for a problem, and nothing was called; 2 for a wrong command line; else SAM's own.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.aws.intrinsics import read
from tools.deployment.rules import refusals

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "samconfig.toml"
TEMPLATE = ROOT / "template.yaml"
BUILT = ROOT / ".aws-sam" / "build" / "template.yaml"
SAM = ROOT / ".tools" / "bin" / "sam"

ARCHITECTURE = "Architecture"
# Its commands use the laptop stack; what it has is refused in a deployment.
LOCAL = ("default", "local")
# The field e_machine of an ELF file, by the processor that SAM and Lambda name so.
_MACHINES = {62: "x86_64", 183: "arm64"}


class Refused(Exception):
    """What was asked for cannot be done. Each argument is a sentence."""


def parameters(configuration: Mapping[str, Any], environment: str) -> dict[str, str]:
    """The parameters of an environment in samconfig.toml.

    Raises:
        Refused: there is no such environment, or an entry is not NAME=VALUE.
    """
    environments = [name for name, value in configuration.items() if isinstance(value, dict)]
    if environment not in environments:
        raise Refused(f"samconfig.toml has no environment {environment or '(empty)'}: it has {', '.join(environments)}")
    given = configuration[environment].get("global", {}).get("parameters", {}).get("parameter_overrides", [])
    entries = shlex.split(given) if isinstance(given, str) else given
    if wrong := [entry for entry in entries if "=" not in entry]:
        raise Refused(f"{environment} in samconfig.toml: parameter_overrides has {len(wrong)} entries without a =")
    return dict(entry.split("=", 1) for entry in entries)


def target(given: Mapping[str, str], environment: str, template: Mapping[str, Any]) -> str:
    """The processor to build for: that of the environment, or of this machine where the functions run on it.

    Raises:
        Refused: the environment's value is not one of the template's.
    """
    declared = template["Parameters"][ARCHITECTURE]
    own = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    asked = given.get(ARCHITECTURE, own if environment in LOCAL else declared["Default"])
    if asked not in declared["AllowedValues"]:
        raise Refused(f"{ARCHITECTURE} must be {declared['ConstraintDescription'].rstrip('.')}")
    return asked


def require_python() -> None:
    """Raises Refused if python3.13 does not run."""
    try:
        # A shim of pyenv is on PATH also when its version is not switched on, and fails then.
        subprocess.run(["python3.13", "--version"], capture_output=True, check=True)  # noqa: S607 - the one on PATH
    except (OSError, subprocess.CalledProcessError):
        raise Refused("Python 3.13 is needed to build the layers: put python3.13 on PATH") from None


def built_for_another(built: Path, architecture: str) -> Iterator[str]:
    """A sentence for each layer or function in a build whose compiled code is for another processor."""
    for folder in sorted(path for path in built.parent.iterdir() if path.is_dir()):
        for library in sorted(folder.rglob("*.so")):
            with library.open("rb") as file:
                header = file.read(20)
            machine = _MACHINES.get(int.from_bytes(header[18:20], "little"), "an unknown processor")
            if header[:4] == b"\x7fELF" and machine != architecture:
                yield f"{folder.name} was built for {machine}, and {architecture} is to be deployed: build it anew"
                break


def build(environment: str, configuration_file: Path = CONFIGURATION) -> int:
    """Check, then call `sam build`. Returns its exit code. Raises Refused."""
    require_python()
    given = parameters(tomllib.loads(configuration_file.read_text()), environment)
    given[ARCHITECTURE] = target(given, environment, read(TEMPLATE))
    overrides = [f"{name}={value}" for name, value in given.items()]
    return _sam("build", environment, configuration_file, ["--parameter-overrides", *overrides])


def deploy(environment: str, configuration_file: Path, built: Path | None, options: Sequence[str]) -> int:
    """Check, build unless `built` names a built template, then call `sam deploy`. Returns SAM's exit code.

    Raises:
        Refused: see the top of this file.
    """
    template = read(TEMPLATE)
    if environment in LOCAL:
        raise Refused(f"the environment {environment} is for `sam local`; name another one: make deploy ENV=dev")
    given = parameters(tomllib.loads(configuration_file.read_text()), environment)
    if problems := list(refusals(template, given)):
        raise Refused(*(f"{environment} in samconfig.toml: {problem}" for problem in problems))
    if built is None:
        built = BUILT
        if code := build(environment, configuration_file):
            return code
    if problems := list(built_for_another(built, target(given, environment, template))):
        raise Refused(*problems)
    return _sam("deploy", environment, configuration_file, ["--template-file", str(built), *options])


def _sam(command: str, environment: str, configuration_file: Path, options: Sequence[str]) -> int:
    where = ["--config-env", environment, "--config-file", str(configuration_file)]
    settings = {**os.environ, "SAM_CLI_TELEMETRY": "0"}
    return subprocess.run([SAM, command, *where, *options], cwd=ROOT, env=settings, check=False).returncode


def main() -> int:
    """Run the command line. Returns the exit code."""
    arguments, options = sys.argv[1:], list[str]()
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(prog="python -m tools.deployment", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["build", "deploy"])
    parser.add_argument("--env", required=True, help="an environment of samconfig.toml")
    parser.add_argument("--config-file", type=Path, default=CONFIGURATION, help="another samconfig.toml")
    parser.add_argument("--template-file", type=Path, help="deploy: what is built already; nothing is built then")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "build":
            return build(asked.env, asked.config_file)
        return deploy(asked.env, asked.config_file, asked.template_file, options)
    except Refused as refused:
        for sentence in refused.args:
            print(f"{asked.command}: {sentence}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
