"""What can be wrong before SAM is called: the set-up, samconfig.toml, and what was built."""

import platform
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "samconfig.toml"

ARCHITECTURE = "Architecture"
# Its commands use the laptop stack; what it has is refused in a deployment.
LOCAL = ("default", "local")
# The field e_machine of an ELF file, by the processor that SAM and Lambda name so.
_MACHINES = {62: "x86_64", 183: "arm64"}


class Refused(Exception):
    """What was asked for cannot be done. Each argument is a sentence."""


def parameters(configuration_file: Path, environment: str) -> dict[str, str]:
    """The parameters of an environment in samconfig.toml, or a file like it.

    Raises:
        Refused: there is no such environment, or an entry is not NAME=VALUE.
    """
    configuration = tomllib.loads(configuration_file.read_text())
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
