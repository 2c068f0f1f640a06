"""Gets the image that `sam local` runs the functions on: Lambda's own, or a stand-in for it.

    python -m local.docker.image [--start-engine FOLDER]

Lambda's image is pulled where the registry can be reached. Elsewhere a stand-in gets its name. It is made of what this
machine has: its Python 3.13, the shared libraries of that Python, the few programs that SAM calls in the image, and
Lambda's runtime client from the package index (requirements/lambda-image.txt). Nothing is done when the image is there.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local.docker.engine import last_line, require_engine
from local.stack.process import StartError

# What SAM calls the processor of this machine.
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"

IMAGE = f"public.ecr.aws/lambda/python:3.13-{ARCHITECTURE}"

_LOCK_FILE = Path(__file__).parents[2] / "requirements" / "lambda-image.txt"

# SAM adds its emulator and the layers to the image with mv, chmod, cp and rm, each called by sh.
_PROGRAMS = ["sh", "mv", "chmod", "cp", "rm"]

# The paths are those of Lambda's image.
_PYTHON_HOME = "var/lang"
_RUNTIME = "var/runtime"
_FOLDERS = ["bin", "dev", "etc", "opt", "proc", "sys", "tmp", "usr/bin", "var/task", _PYTHON_HOME, _RUNTIME]
_BOOTSTRAP = f"""#!/bin/sh
export PYTHONPATH=/var/task:/opt/python:/{_RUNTIME}
exec /{_PYTHON_HOME}/bin/python3.13 -m awslambdaric "$_HANDLER"
"""
_FILES = {
    f"{_RUNTIME}/bootstrap": _BOOTSTRAP,
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    # /etc/hosts comes first: Docker writes the names of --add-host there.
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_CHANGES = [
    "WORKDIR /var/task",
    f"ENV LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/{_RUNTIME} LANG=C.UTF-8 TZ=:UTC",
    f"ENV PATH=/{_PYTHON_HOME}/bin:/usr/bin:/bin",
]

# Parts of the standard library that no function uses. Some of them are large or need libraries of the desktop.
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "idlelib", "tkinter", "_tkinter.*", "turtledemo", "ensurepip", "config-*"
)

# Libraries that a wheel may take for granted on Linux, and those with which the C library resolves names.
_EXPECTED_LIBRARIES = [
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libnss_dns.so.2",
    "libnss_files.so.2",
]

# What the stand-in must be able to load before it gets the image's name.
_PROOF = "import awslambdaric.bootstrap, boto3, ctypes, ssl, zoneinfo"


@dataclass(frozen=True)
class Python:
    """A Python 3.13 of this machine: its program and its standard library."""

    program: Path
    library: Path


def require_image() -> None:
    """Return when the engine has the image: it was there, it is pulled, or a stand-in is built.

    Raises:
        StartError: the image is not there, cannot be pulled, and no stand-in can be built.
    """
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode == 0:
        return
    print(f"image: pulling {IMAGE}", flush=True)
    pulled = subprocess.run(["docker", "pull", IMAGE], stderr=subprocess.PIPE, text=True, check=False)
    if pulled.returncode == 0:
        return
    print(f"image: cannot pull it: {pulled.stderr.strip()}", flush=True)
    if sys.platform != "linux":
        raise StartError(f"{IMAGE} cannot be pulled, and only Linux can build a stand-in for it")
    python = find_python()
    print(f"image: building a stand-in out of {python.program} (half a minute, once)", flush=True)
    with tempfile.TemporaryDirectory(prefix="lambda-image-") as scratch:
        root = Path(scratch) / "root"
        stage(root, python)
        _import(root, Path(scratch) / "root.tar")
    print(f"image: the stand-in has the name {IMAGE}", flush=True)


def find_python() -> Python:
    """The Python 3.13 that `python3.13` on PATH starts.

    Raises:
        StartError: there is none.
    """
    code = (
        "import json, os, sys, sysconfig\n"
        "print(json.dumps([os.path.realpath(sys.executable), sysconfig.get_path('stdlib')]))"
    )
    try:
        # A shim of pyenv is on PATH also when its version is not switched on, and fails then.
        output = subprocess.run(["python3.13", "-c", code], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise StartError(
            f"{IMAGE} cannot be pulled, and there is no Python 3.13 to build a stand-in for it: "
            "put python3.13 on PATH (`make lambda-image` finds pyenv's too)"
        ) from None
    program, library = json.loads(output)
    return Python(Path(program), Path(library))


def stage(root: Path, python: Python) -> None:
    """Write all files of the stand-in under `root`, which does not exist yet.

    Raises:
        StartError: a package cannot be installed, or a program that SAM needs is not on PATH.
    """
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    for path, text in _FILES.items():
        (root / path).write_text(text)
    (root / _RUNTIME / "bootstrap").chmod(0o755)
    (root / "tmp").chmod(0o1777)

    for name in _PROGRAMS:
        program = shutil.which(name)
        if program is None:
            raise StartError(f"the image needs the program {name}, which is not on PATH")
        shutil.copy2(program, root / "bin" / name)

    home = root / _PYTHON_HOME
    (home / "bin").mkdir()
    shutil.copy2(python.program, home / "bin" / "python3.13")
    (home / "bin" / "python3").symlink_to("python3.13")
    shutil.copytree(python.library, home / "lib" / "python3.13", ignore=_LEFT_OUT, ignore_dangling_symlinks=True)
    _install_runtime_client(root / _RUNTIME, python)
    _add_libraries(root)


def _install_runtime_client(folder: Path, python: Python) -> None:
    # Our own pip, run by that Python, which need not have one.
    command = [sys.executable, "-m", "pip", "--python", str(python.program), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--root-user-action", "ignore", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--target", str(folder), "--requirement", str(_LOCK_FILE)]
    installed = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if installed.returncode != 0:
        raise StartError(f"pip cannot install {_LOCK_FILE.name}: {last_line(installed.stderr)}")


def _add_libraries(root: Path) -> None:
    """Copy the shared libraries that the programs and modules under `root` load, and the loader itself."""
    binaries = [path for path in root.rglob("*") if not path.is_symlink() and path.is_file() and _is_elf(path)]
    output = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    libraries = {Path(path) for path in re.findall(r"=> (/\S+)", output)}
    # The loader is the one library with a path instead of a name. A program finds it at this very path.
    loaders = {Path(path) for path in re.findall(r"^\s+(/\S+) \(", output, re.MULTILINE)}
    libraries -= loaders

    # All go into the folder of the C library, because the loader searches that one on every system.
    folder = next(path for path in libraries if path.name == "libc.so.6").parent
    libraries |= {folder / name for name in _EXPECTED_LIBRARIES if (folder / name).exists()}
    for source, target in [*((path, folder / path.name) for path in libraries), *((path, path) for path in loaders)]:
        inside = root / target.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, inside)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _import(root: Path, archive: Path) -> None:
    """Make an image of the files under `root`, and give it the name when it has proved to work."""
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".", filter=_owned_by_root)
    changes = [argument for change in _CHANGES for argument in ("--change", change)]
    image = docker("import", "--message", "a stand-in for Lambda's image", *changes, str(archive))
    try:
        docker("run", "--rm", "--entrypoint", "python3", "--env", f"PYTHONPATH=/{_RUNTIME}", image, "-c", _PROOF)
    except StartError:
        docker("image", "rm", image)
        raise
    docker("tag", image, IMAGE)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def docker(*arguments: str) -> str:
    """What a command of Docker's client prints. Raises StartError if it fails, or there is no client."""
    try:
        ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise StartError(f"cannot start docker: {error.strerror}") from None
    if ended.returncode != 0:
        raise StartError(f"docker {arguments[0]} failed: {last_line(ended.stderr)}")
    return ended.stdout.strip()


def main() -> int:
    """Get an engine and the image. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.docker.image", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--start-engine",
        metavar="FOLDER",
        type=Path,
        help="where no Docker engine answers, start one that has its files dockerd.pid and dockerd.log in this folder",
    )
    arguments = parser.parse_args()
    try:
        require_engine(arguments.start_engine)
        require_image()
    except StartError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
