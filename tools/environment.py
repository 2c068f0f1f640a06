"""Makes a virtual environment out of a lock file, and shows its progress.

    python -m tools.environment .venv requirements/dev.txt

The Makefile runs it with the machine's own Python: nothing but the standard library can be used here.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

_TERMINAL_SECONDS = 1.0
_LOG_SECONDS = 10.0  # a log gets fewer lines
_SHOWN_LINES = 10


def make(folder: Path, lock_file: Path) -> int:
    """Make the environment anew. Returns pip's exit code."""
    print(f"setting up {folder} (a minute or two, once)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    log_path = folder / "pip.log"
    # The lock file is complete, so pip resolves nothing and checks every hash.
    command: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--requirement", lock_file]
    with log_path.open("wb") as log:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        _show(pip, folder, lock_file, log_path)
    if pip.returncode != 0:
        print("\n".join(log_path.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]), file=sys.stderr)
        print(f"pip could not install {lock_file} into {folder}; all it printed is in {log_path}", file=sys.stderr)
    return pip.returncode


def _show(pip: "subprocess.Popen[bytes]", folder: Path, lock_file: Path, log_path: Path) -> None:
    """Print how far pip is until it ends: on a terminal on one line, elsewhere a line now and then."""
    locked = len(re.findall(r"^\S+==", lock_file.read_text(), re.MULTILINE))
    brought = _packages(folder)  # venv itself installs pip, for example
    terminal = sys.stdout.isatty()
    began = time.monotonic()
    ended = False
    while not ended:
        try:
            pip.wait(_TERMINAL_SECONDS if terminal else _LOG_SECONDS)
            ended = True
        except subprocess.TimeoutExpired:
            pass
        installed = len(_packages(folder) - brought)
        done = progress(log_path.read_text(errors="replace"), locked, installed)
        line = f"  {done}, {time.monotonic() - began:.0f} s"
        if terminal:
            print(f"\r{line:<60}", end="\n" if ended else "", flush=True)
        else:
            print(line, flush=True)


def progress(log: str, locked: int, installed: int) -> str:
    """How far pip is, by its log: first it fetches every package, then it installs them.

    `locked` is the number of packages in the lock file. Some of them are for other systems, and pip ignores those.
    `installed` is the number of packages that pip has installed.
    """
    packages = locked - len(re.findall(r"^Ignoring ", log, re.MULTILINE))
    if "\nInstalling collected packages" in log:
        return f"{installed} of {packages} packages installed"
    return f"{len(re.findall(r'^(?:Collecting|Processing) ', log, re.MULTILINE))} of {packages} packages fetched"


def _packages(folder: Path) -> set[Path]:
    return set(folder.glob("lib/python*/site-packages/*.dist-info"))


def main() -> int:
    """`python -m tools.environment <folder> <lock file>`. Returns the exit code."""
    folder, lock_file = (Path(argument) for argument in sys.argv[1:])
    try:
        return make(folder, lock_file)
    except subprocess.CalledProcessError:
        return 1  # venv has printed why
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
