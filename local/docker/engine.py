"""Sees to it that a Docker engine answers, and on request starts one: as root, on Linux.

Docker's client talks to an engine, which on a laptop usually runs already. A fresh machine without one, such as a CI
worker, gets one from here for as long as it is needed. Whoever asked for it ends it, by the process id in PID_FILE.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from local.stack.process import StartError

# In the folder that the caller names.
PID_FILE = "dockerd.pid"
LOG_FILE = "dockerd.log"

_PACKAGES = ["docker.io", "iptables"]  # Debian's and Ubuntu's names
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.25


def require_engine(start_in: Path | None) -> None:
    """Return when a Docker engine answers. Where none does, start one if `start_in` names a folder for its files.

    The engine outlives this process. Its process id is in the folder's PID_FILE until it ends.

    Raises:
        StartError: no engine answers, and none was to be started or none could be.
    """
    if _answers():
        return
    if start_in is None:
        raise StartError("no Docker engine answers; start Docker, or let `make lambda-image ENGINE=<folder>` start it")
    if sys.platform != "linux":
        raise StartError("no Docker engine answers, and only on Linux can one be started from here; start Docker")
    if os.geteuid() != 0:
        raise StartError("no Docker engine answers, and only root can start one; start Docker, or run this as root")
    if not shutil.which("dockerd"):
        _install()
        if _answers():  # where systemd runs, the package starts the engine
            return
    _start(start_in)


def _answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _install() -> None:
    if not shutil.which("apt-get"):
        raise StartError("no Docker engine answers, and there is no apt-get to install one with; install Docker")
    packages = " ".join(_PACKAGES)
    print(f"image: no Docker engine is installed: installing {packages} with apt-get", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *_PACKAGES]):
        ended = subprocess.run(
            ["apt-get", "--quiet", "--quiet", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise StartError(f"apt-get cannot install {packages}: {last_line(ended.stdout)}")


def _start(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / LOG_FILE
    print(f"image: no Docker engine answers: starting dockerd (log: {log_path})", flush=True)
    # It has a session of its own, so Ctrl-C does not reach it, and the next command finds it too.
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            ["dockerd", "--pidfile", str((folder / PID_FILE).resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers():
        if process.poll() is not None:
            raise StartError(f"dockerd ended: {last_line(log_path.read_text(errors='replace'))} ({log_path})")
        if time.monotonic() > deadline:
            _end(process)
            raise StartError(f"dockerd was not ready within {_START_SECONDS:g} s ({log_path})")
        time.sleep(_POLL_SECONDS)
    print(f"image: dockerd runs with process id {process.pid}", flush=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def last_line(text: str) -> str:
    """The last line of a program's output that is not empty, for an error of one line."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
