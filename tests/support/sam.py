"""What `sam build` makes of template.yaml, and the Python with which Lambda runs it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.aws.template import Template
from local.docker.image import ARCHITECTURE
from tests.support.machines import PARAMETERS

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".tools" / "bin" / "sam"
RUNTIME = ROOT / ".runtime" / "bin" / "python"


@dataclass(frozen=True)
class Built:
    """The output of `sam build`.

    Attributes:
        folder: a folder for each function and layer, by logical id.
        layers: the layers of each function, in the template's order.
    """

    folder: Path
    layers: dict[str, list[str]]

    def packages(self, layers: Sequence[str]) -> Path:
        """A folder with the files of these layers, as /opt/python has them: a package may be in two of them."""
        together = self.folder.with_name(f"{self.folder.name}-opt") / "-".join(layers)
        if not together.exists():
            for layer in layers:
                shutil.copytree(self.folder / layer / "python", together, dirs_exist_ok=True, copy_function=_linked)
        return together

    def size(self, function: str) -> int:
        """What Lambda unzips for a function, in bytes."""
        return sum(size(self.folder / part) for part in (function, *self.layers[function]))


def build(folder: Path, root: Path = ROOT, architecture: str = ARCHITECTURE) -> Built:
    """Run `sam build` on a checkout, with ``folder`` for its output.

    Raises:
        subprocess.CalledProcessError: it has failed; its words are in the error's note.
    """
    command: list[str | Path] = [SAM, "build", "--no-cached", "--parallel", "--build-dir", folder]
    command += ["--parameter-overrides", f"Architecture={architecture}"]
    path = f"{RUNTIME.parent}:{os.environ['PATH']}"  # with the Python of the functions
    environment = {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0"}
    sam = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    try:
        sam.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(sam.stderr)
        raise
    return Built(folder, layers(root))


def layers(root: Path = ROOT) -> dict[str, list[str]]:
    """The layers of each function in a checkout's template, by logical ids."""
    properties = Template(root / "template.yaml", PARAMETERS).properties("AWS::Serverless::Function")
    return {name: list(each["Layers"]) for name, each in properties.items()}


def _linked(source: str, target: str) -> None:
    """A later layer's file replaces an earlier one's."""
    Path(target).unlink(missing_ok=True)
    os.link(source, target)


def size(folder: Path) -> int:
    """The size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
