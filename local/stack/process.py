"""How the parts of the laptop stack are started, watched and ended.

Every engine is a child in its own session, so Ctrl-C in the terminal reaches only the supervisor, which then ends its
children in order (Child.stop). A supervisor that is killed cannot end its children, so every child ends itself when its
parent is gone (die_with_parent). Other people's programs do not do that. Therefore start_child runs each program
through `python -m local.stack.process`, which sets it up and then becomes the program, or, on macOS, watches it.

An exception that a signal raises can come at any line: between the start of a child and the line that records it, or
while other children are being ended. A supervisor therefore blocks SIGINT (Ctrl-C) and SIGTERM, and checks for them
where it waits (raise_interrupt).
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
    """Raise KeyboardInterrupt if this process blocks SIGINT and SIGTERM and one of them is pending."""
    if signal.sigpending() & _INTERRUPTS:
        raise KeyboardInterrupt


def accepts_connections(port: int) -> bool:
    """Whether a program accepts connections on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        # The system may give a free port of the ephemeral range to the probe itself, which then connects to itself.
        return probe.connect_ex((HOST, port)) == 0 and probe.getsockname() != probe.getpeername()


def require_free_port(port: int, what: str, override_env: str) -> None:
    """Raise StartError unless this port of 127.0.0.1 is free. Its text names the variable that sets another port."""
    # On macOS, a bind to 127.0.0.1 succeeds while another program listens on 0.0.0.0, so a bind alone is not enough.
    taken = accepts_connections(port)
    if not taken:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            try:
                probe.bind((HOST, port))
            except OSError:
                taken = True
    if taken:
        raise StartError(f"port {port} ({what}) is taken; set {override_env} to another")


def die_with_parent(parent: int | None = None) -> None:
    """Make this process receive SIGTERM when its parent ends, however it ends.

    `parent` is the pid of that parent, if the caller knows it: if it has already ended, SIGTERM comes at once.
    On Linux the kernel sends the signal, also after an exec. It does so when the *thread* that started this process
    ends. On other systems a thread of this process checks four times a second.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        _end_if_orphaned(parent)  # it may have ended before the line above
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
    """A program that start_child started.

    Attributes:
        log_path: the file with its output; None if its output goes where ours goes.
    """

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log_path: Path | None) -> None:
        self.name = name
        self.process = process
        self.log_path = log_path

    def wait_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()` is true. Raises StartError if the program ends first, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            raise_interrupt()
            if end := self.ended():
                raise StartError(end)
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready within {seconds:g} s{self._where()}")
            time.sleep(_POLL_SECONDS)

    def ended(self) -> str | None:
        """How the program ended, as one line for the person at the terminal. None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if code < 0:
            return f"{self.name} was ended by a signal: {signal.strsignal(-code)}{self._where()}"
        return f"{self.name} ended with code {code}: {self._last_line()}{self._where()}"

    def stop(self) -> None:
        """Ask the program to end. After 5 seconds, kill it and everything it started. A second call does nothing."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _last_line(self) -> str:
        text = self.log_path.read_text(errors="replace") if self.log_path else ""
        return next((line for line in reversed(text.split("\n")) if line.strip()), "it printed nothing")

    def _where(self) -> str:
        return f" ({self.log_path})" if self.log_path else ""


def start_child(name: str, argv: list[str], env: Mapping[str, str], log_path: Path | None) -> Child:
    """Start `argv` in its own session. It ends with this process.

    `env` is added to this process's environment. What the program prints replaces the content of `log_path`; with None
    it goes where this process's output goes. A program that does not exist is reported by wait_ready. Call this from a
    thread that lasts as long as the process (die_with_parent says why).
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
    """Run the program as a child of this process, on systems that send no signal when a parent ends."""
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
    """Run a program for start_child: `python -m local.stack.process <parent pid> <program> <argument>…`."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    # A supervisor blocks signals, and its children inherit that. With SIGTERM blocked, the program would never stop.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    run = _become if sys.platform == "linux" else _watch_over
    try:
        run(argv, parent)
    except OSError as error:
        sys.exit(f"cannot start {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
