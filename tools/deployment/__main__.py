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
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from local.aws.intrinsics import read
from tools.deployment.checks import (
    ARCHITECTURE,
    CONFIGURATION,
    LOCAL,
    ROOT,
    Refused,
    built_for_another,
    parameters,
    require_python,
    target,
)
from tools.deployment.rules import refusals

TEMPLATE = ROOT / "template.yaml"
BUILT = ROOT / ".aws-sam" / "build" / "template.yaml"
SAM = ROOT / ".tools" / "bin" / "sam"


def build(environment: str, configuration_file: Path = CONFIGURATION) -> int:
    """Check, then call `sam build`. Returns its exit code. Raises Refused."""
    require_python()
    given = parameters(configuration_file, environment)
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
    given = parameters(configuration_file, environment)
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
