"""What the bench runs: this tree and an earlier commit, as `sam build` makes them, and libraries as pip leaves them."""

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from local.aws.template import Template
from local.stack.endpoints import Endpoints
from local.stack.parts import parameters
from tests.support import sam
from tests.support.sam import ROOT
from tools.figures.figure import Progress

FOLDER = ROOT / ".local" / "bench"
# The commit before byte code, with which the work on cold starts began.
EARLIER = "181605a"
# References to secrets, as a deployment has them; bench/runtime.py stands for Secrets Manager.
_REFERENCE = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-AbCdEf"
_PLAIN = Path(__file__).parent / "plain"


@dataclass(frozen=True)
class Unit:
    """A function, ready to run in a process of its own.

    Attributes:
        code, packages: the folders that stand for /var/task and /opt/python.
        environment: what template.yaml sets.
        handler: as in template.yaml.
        size: of all that is unzipped for it, bytes.
    """

    code: Path
    packages: Path
    environment: dict[str, str]
    handler: str
    size: int


def this_tree(endpoints: Endpoints) -> dict[str, Unit]:
    """The functions of this tree, by verb: the names of their folders in functions/."""
    return _units(ROOT, "this", endpoints)


def earlier(endpoints: Endpoints, commit: str = EARLIER) -> dict[str, Unit]:
    """The functions of a commit, by verb; none where the clone does not have it."""
    root = FOLDER / "checkouts" / commit
    if not root.exists():
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)  # noqa: S607 - git on PATH
        if archive.returncode != 0:
            return {}
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(root, filter="data")
    return _units(root, commit, endpoints)


def plain(unit: Unit, layers: list[str], name: str) -> Unit:
    """A function of the usual shape in place of ``unit``: bench/plain/``name``.py, with the same environment.

    Its packages are those of the lock files as pip unpacks them: no byte code, and nothing left out.
    """
    packages = _fresh(FOLDER / "plain" / "-".join(sorted(layers)))
    # All at once: pip replaces a package that two of them share, and `google` is shared by packages of several.
    command: list[str | Path] = [sam.RUNTIME, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-compile", "--only-binary=:all:", "--target", packages]
    for layer in layers:
        command += ["--requirement", ROOT / "layers" / layer.removesuffix("Layer").lower() / "requirements.txt"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    code = FOLDER / "plain" / "code"
    shutil.copytree(_PLAIN, code / "bench" / "plain", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return Unit(code, packages, unit.environment, f"bench.plain.{name}.handler", sam.size(packages))


def _units(root: Path, name: str, endpoints: Endpoints) -> dict[str, Unit]:
    """Build a checkout."""
    folder = _fresh(FOLDER / name)
    with Progress(f"sam build of {name}", 1) as progress:
        built = sam.build(folder / "built", root)
        progress.step("built")
    given = parameters(endpoints) | {
        "SpiceDBTokenSecretArn": _REFERENCE.format("spicedb-token"),
        "TemporalApiKeySecretArn": _REFERENCE.format("temporal-key"),
        "PageTokenSecretArn": _REFERENCE.format("page-token"),
    }
    declared = (root / "template.yaml").read_text().partition("\nResources:")[0]
    known = {name: value for name, value in given.items() if f"\n  {name}:" in declared}
    template = Template(root / "template.yaml", known)
    return {
        function.code.name: Unit(
            built.folder / function.logical_id,
            built.packages(built.layers[function.logical_id]),
            dict(function.environment),
            function.handler,
            built.size(function.logical_id),
        )
        for function in template.functions
    }


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
