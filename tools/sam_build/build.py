"""Builds a function or a layer from the current folder: its code, its packages without what no function needs, and
byte code. A folder with a requirements.txt is a layer.

`sam build` runs it through the Makefile beside it. It needs Python 3.13, whose byte code it writes, and nothing but the
standard library.

The byte code is written in the mode `unchecked-hash`: Python uses it without a look at the source. The other modes
compare the source's time or hash, and the times in a zip file are not those of the source. /opt and /var/task are
read-only, so a function without byte code compiles every module at every cold start.

Two builds of the same files are the same, byte for byte, so that a deployment publishes no new version of a layer that
has not changed.

Exit code 1, with a sentence: something is missing or wrong in the output.
"""

import argparse
import compileall
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

from tools.sam_build import left_out
from tools.sam_build.symbols import without_symbols

VERSION = (3, 13)
# Lambda's python3.13 runs on Amazon Linux 2023, whose glibc is 2.34.
GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
WHEELS = {"x86_64": "x86_64", "arm64": "aarch64"}
# The four bytes after the magic number: a hash follows, and the source is not compared with it.
UNCHECKED_HASH = (0b01).to_bytes(4, "little")


class BuildError(Exception):
    """The output is not what it has to be. The text is a sentence for the person who builds."""


def build(name: str, source: Path, target: Path, architecture: str) -> None:
    """Build the folder ``source`` of the layer or function ``name`` into ``target``, which is empty or absent.

    Raises:
        BuildError: pip has failed, or the output is not what it has to be.
    """
    is_layer = (source / "requirements.txt").exists()
    code = target / "python" if is_layer else target
    code.mkdir(parents=True, exist_ok=True)
    if is_layer:
        _install(source / "requirements.txt", code, architecture)
        left_out.remove(code, name)
        for library in sorted(code.rglob("*.so")):
            library.write_bytes(without_symbols(library.read_bytes()))
    ignored = shutil.ignore_patterns("__pycache__", "requirements.txt")
    shutil.copytree(source, code, ignore=ignored, dirs_exist_ok=True)
    _compile(code, "/opt/python" if is_layer else "/var/task")
    for problem in problems(code):
        raise BuildError(problem)


def problems(code: Path) -> Iterator[str]:
    """What is wrong with the byte code in a folder, a sentence each."""
    sources = sorted(code.rglob("*.py"))
    if not sources:
        yield f"{code} has no module."
    for path in sources:
        cached = byte_code(path)
        head = cached.read_bytes()[:8] if cached.exists() else b""
        if head != importlib.util.MAGIC_NUMBER + UNCHECKED_HASH:
            yield f"{path} has no byte code that Python {VERSION[0]}.{VERSION[1]} uses unchecked."


def byte_code(path: Path) -> Path:
    """Where Python looks for the byte code of a module."""
    return path.parent / "__pycache__" / f"{path.stem}.cpython-{VERSION[0]}{VERSION[1]}.pyc"


def _install(requirements: Path, target: Path, architecture: str) -> None:
    # The hashes in the lock file make pip check every package. Only wheels: nothing is compiled for another machine.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-compile", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={VERSION[0]}.{VERSION[1]}"]
    command += [f"--platform={system}_{WHEELS[architecture]}" for system in GLIBC]
    command += ["--requirement", str(requirements), "--target", str(target)]
    if subprocess.run(command, check=False).returncode != 0:
        raise BuildError(f"pip could not install {requirements}; its own message stands above.")


def _compile(code: Path, place: str) -> None:
    """Write the byte code of every module, with the file names that tracebacks show where the code runs."""
    # In order and by one process: the same source gives the same bytes.
    for path in sorted(code.rglob("*.py")):
        compiled = compileall.compile_file(
            path,
            ddir=str(Path(place) / path.relative_to(code).parent),
            force=True,
            quiet=1,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
        if not compiled:
            raise BuildError(f"{path} cannot be compiled; Python's own message stands above.")


def main() -> int:
    """Build as the command line says."""
    parser = argparse.ArgumentParser(prog="build.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True, help="the logical id in template.yaml")
    parser.add_argument("--architecture", choices=sorted(WHEELS), required=True)
    parser.add_argument("--target", type=Path, required=True)
    options = parser.parse_args()
    if sys.version_info[:2] != VERSION or os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set in the byte code depends on the seed.
        print(f"Python {VERSION[0]}.{VERSION[1]} has to run it, with PYTHONHASHSEED=0", file=sys.stderr)
        return 1
    try:
        build(options.name, Path.cwd(), options.target, options.architecture)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
