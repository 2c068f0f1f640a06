"""How the parts of the laptop stack are started, watched and ended.

Every engine is a child in a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then ends
its children in its own order (Child.stop). A supervisor that is killed outright can end nobody, so every child ends
itself when its parent is gone (die_with_parent). A program that is not ours cannot do that; start_child therefore runs
each one through `python -m local.stack.process`, which arranges it and then becomes the program, or on macOS watches
over it.

An exception raised by a signal comes anywhere: between a child's start and the line that notes it, or while the others
are being ended. A supervisor therefore blocks Ctrl-C's signal and SIGTERM, and looks for them where it waits
(raise_interrupt).
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

HOST = "127.0.0.1"

_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_SECONDS = 0.05
_PARENT_POLL_SECONDS = 0.25
_STOP_SECONDS = 5.0


class StartError(Exception):
    """A part of the stack cannot start, or ended by itself. The text is one line for the person at the terminal."""


def raise_interrupt() -> None:
    """Raise KeyboardInterrupt if this process blocks SIGINT and SIGTERM and one of them has come."""
    if signal.sigpending() & _INTERRUPTS:
        raise KeyboardInterrupt


def accepts_connections(port: int) -> bool:
    """Whether somebody answers on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        # A free port of the ephemeral range may be given to the probe itself, which then connects to itself.
        return probe.connect_ex((HOST, port)) == 0 and probe.getsockname() != probe.getpeername()


def require_free_port(port: int, what: str, override_env: str) -> None:
    """Raise StartError, naming the variable that moves `what` elsewhere, unless this port of 127.0.0.1 is free."""
    # macOS lets 127.0.0.1 be bound beside another program's 0.0.0.0, so that a bind alone would not tell.
    taken = accepts_connections(port)
    if not taken:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not held up by connections just closed
            try:
                probe.bind((HOST, port))
            except OSError:
                taken = True
    if taken:
        raise StartError(f"port {port} ({what}) is taken; set {override_env} to another")


def die_with_parent(parent: int | None = None) -> None:
    """From here on, this process gets SIGTERM when its parent ends, however it ends.

    `parent` is the pid of that parent, where the caller knows it: should it be gone already, SIGTERM comes at once.
    On Linux the kernel sends the signal, also after an exec, and when the *thread* that started this process ends;
    elsewhere a thread looks four times a second.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        _end_if_orphaned(parent)  # it may have ended just before the line above
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _end_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _watch_parent(parent: int) -> None:
    while True:
        _end_if_orphaned(parent)
        time.sleep(_PARENT_POLL_SECONDS)


class Child:
    """A program that start_child started: its name, its process and where its output goes (None: where ours goes)."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log_path: Path | None) -> None:
        self.name = name
        self.process = process
        self.log_path = log_path

    def wait_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()` holds. Raises StartError when the program ends first, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            raise_interrupt()
            if end := self.ended():
                raise StartError(end)
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready within {seconds:g} s{self._where()}")
            time.sleep(_POLL_SECONDS)

    def ended(self) -> str | None:
        """How the program ended, as one line for the person at the terminal; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if code < 0:
            return f"{self.name} was ended by a signal: {signal.strsignal(-code)}{self._where()}"
        return f"{self.name} ended with code {code}: {self._last_line()}{self._where()}"

    def stop(self) -> None:
        """Ask the program to end; after 5 seconds kill it and whatever it started. Repeating it does nothing."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _last_line(self) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path else ""
        return next((line for line in reversed(text.split("\n")) if line.strip()), "it said nothing")

    def _where(self) -> str:
        return f" ({self.log_path})" if self.log_path else ""


def start_child(name: str, argv: list[str], env: Mapping[str, str], log_path: Path | None) -> Child:
    """Start `argv` in a session of its own, so that it ends with this process.

    `env` is added to this process's environment; `log_path` is written anew with what the program prints, and with
    None that goes where this process's output goes. A program that does not exist shows in wait_ready. Call it from a
    thread that lasts as long as the process (die_with_parent tells why).
    """
    with ExitStack() as closing:
        log = None
        if log_path:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            log = closing.enter_context(log_path.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "local.stack.process", str(os.getpid()), *argv],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )
    return Child(name, process, log_path)


def _become(argv: list[str], parent: int) -> NoReturn:
    die_with_parent(parent)
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted


def _watch_over(argv: list[str], parent: int) -> NoReturn:
    """Run the program as a child of this process, for systems that offer no signal at a parent's death."""
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    program = subprocess.Popen(argv)
    while program.poll() is None and os.getppid() == parent and not asked_to_end.is_set():
        time.sleep(_POLL_SECONDS)
    program.terminate()
    try:
        code = program.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        code = program.wait()
    sys.exit(code)


def main() -> NoReturn:
    """`python -m local.stack.process <parent pid> <program> <argument>…`: what start_child runs."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    # A supervisor that blocks signals, to wait for them, hands that on to what it starts, which would never stop.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    run = _become if sys.platform == "linux" else _watch_over
    try:
        run(argv, parent)
    except OSError as error:
        sys.exit(f"cannot start {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
