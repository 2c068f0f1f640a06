"""`python -m local.stack`: the laptop stack, and the project's main job shown on it. What `make run` starts.

Starts SpiceDB, Temporal and the AWS side, each in a process of its own, shows a create, a compensated create and a
delete (local.stack.show), then stays up until Ctrl-C or SIGTERM. With ONCE=1 it ends after the show. With
PERSIST=<folder> Temporal keeps its data there between runs.

Exit codes: 0 when every step of the show did what it should, also when Ctrl-C then ends the stack; 130 when Ctrl-C
comes before the show is over; 1 when a part cannot start or ends by itself, or a step of the show went wrong.
"""

import signal
import sys

if __name__ == "__main__":
    # Before anything else, because the imports take a moment; local.stack.process says why.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from local.stack.endpoints import Endpoints, bypass_proxies
from local.stack.parts import ROOT, running
from local.stack.process import Child, StartError, raise_interrupt, start_child
from local.stack.show import plain_console, print_manual

LOGS = ROOT / ".local" / "logs"
POLL_SECONDS = 0.05

_PERSISTING = """
Temporal keeps its data in {folder}.
SpiceDB's memory does not persist: every run starts without relationships, those that make somebody own an agent too.
So a schedule that Temporal has kept from an earlier run has none, and nobody may see or change it. Delete it with
delete-schedule, make somebody own its agent (make agent), and create it again."""


def _persist() -> Path | None:
    """The folder that PERSIST names, made if need be."""
    if not (name := os.environ.get("PERSIST")):
        return None
    folder = Path(name).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"PERSIST={name} cannot be a folder: {error.strerror}") from error
    return folder


@contextmanager
def _progress(console: Console, text: str) -> Iterator[None]:
    """Say what takes a while: in a terminal with a sign of life, elsewhere in a plain line."""
    if console.is_interactive:
        with console.status(text):
            yield
    else:
        console.print(text)
        yield


def _watch(parts: list[Child], show: Child | None) -> bool:
    """Wait for the end of the show, if there is one, and answer whether it was good; without one wait for ever.

    Raises:
        StartError: a part ended by itself.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    while True:
        code = show.process.poll() if show else None
        raise_interrupt()
        for part in parts:  # after a look at the show, which fails when a part does
            if end := part.ended():
                raise StartError(end)
        if show and code is not None:
            if code < 0 and (end := show.ended()):
                raise StartError(end)
            return code == 0
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Run the stack. Answers the exit code."""
    console = plain_console()
    once = os.environ.get("ONCE", "") not in ("", "0")
    was_good = False
    bypass_proxies()
    try:
        endpoints = Endpoints.from_environment()
        persist = _persist()
        logs = LOGS / str(endpoints.aws_port)  # a folder for each of several stacks
        with ExitStack() as stack:
            with _progress(console, "starting SpiceDB, Temporal, Step Functions and Lambda …"):
                parts = stack.enter_context(running(endpoints, logs, persist))
            stack.callback(console.print, "ending …")
            console.print(f"started; the logs are in {logs}")
            if persist:
                console.print(_PERSISTING.format(folder=persist))
            show = start_child("The show", [sys.executable, "-m", "local.stack.show"], {}, None)
            stack.callback(show.stop)
            was_good = _watch(parts, show)
            if was_good and not once:
                print_manual(endpoints, logs)
                _watch(parts, None)
    except StartError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if was_good else 130
    return 0 if was_good else 1


if __name__ == "__main__":
    sys.exit(main())
