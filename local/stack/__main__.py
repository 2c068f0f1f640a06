"""`python -m local.stack`: starts the laptop stack and shows the project's main job on it. `make run` runs this.

It starts SpiceDB, Temporal, Step Functions with Lambda, and the HTTP API, each in its own process. It shows a create, a
compensated create and a delete (local.stack.show), prints a manual, and stays up until Ctrl-C or SIGTERM. With ONCE=1
it ends after the show. With PERSIST=<folder> Temporal keeps its data in that folder between runs. TEMPORAL_SCHEDULER
(v1, chasm or mixed) chooses the scheduler that makes new schedules. PARAMETERS="NAME=VALUE …" sets parameters of
template.yaml.

Exit codes: 0 when every step of the show did what it should, also if Ctrl-C ends the stack afterwards; 130 when Ctrl-C
comes before the end of the show; 1 when a part cannot start or ends by itself, or a step of the show went wrong.
"""

import signal
import sys

if __name__ == "__main__":
    # Before the imports below, because they take a moment. local.stack.process says why the signals are blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from local.stack.console import plain_console, say
from local.stack.endpoints import Endpoints, bypass_proxies
from local.stack.manual import print_manual
from local.stack.parts import ROOT, running
from local.stack.process import Child, StartError, raise_interrupt, start_child
from local.stack.scheduler import Scheduler

LOGS = ROOT / ".local" / "logs"
POLL_SECONDS = 0.05

_PERSISTING = """\
SpiceDB keeps its data in memory only: every run starts without relationships, and so without owners of agents. \
A schedule that Temporal kept from an earlier run has no relationships, so nobody may see or change it. \
Delete it with delete-schedule, make somebody the owner of its agent (make agent), and create it again."""


def _persist() -> Path | None:
    """The folder that PERSIST names. It is created if it does not exist."""
    if not (name := os.environ.get("PERSIST")):
        return None
    folder = Path(name).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"PERSIST={name} cannot be a folder: {error.strerror}") from error
    return folder


def _shown(path: Path) -> Path:
    """A path as it is printed: short where it lies below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextmanager
def _progress(console: Console, text: str) -> Iterator[None]:
    """Print what takes a while: with a spinner in a terminal, elsewhere as a plain line."""
    if console.is_interactive:
        with console.status(text):
            yield
    else:
        console.print(text)
        yield


def _watch(parts: list[Child], show: Child | None) -> bool:
    """Wait for the end of the show and return whether it was good. Without a show, wait for ever.

    Raises:
        StartError: a part ended by itself.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    while True:
        code = show.process.poll() if show else None
        raise_interrupt()
        for part in parts:  # after the show, which fails when a part does
            if end := part.ended():
                raise StartError(end)
        if show and code is not None:
            if code < 0 and (end := show.ended()):
                raise StartError(end)
            return code == 0
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Run the stack. Returns the exit code."""
    console = plain_console()
    once = os.environ.get("ONCE", "") not in ("", "0")
    was_good = False
    bypass_proxies()
    try:
        endpoints = Endpoints.from_environment()
        scheduler = Scheduler.from_environment()
        persist = _persist()
        logs = LOGS / str(endpoints.aws_port)  # several stacks may run, each with its own folder
        with ExitStack() as stack:
            with _progress(console, "starting SpiceDB, Temporal, Step Functions and Lambda …"):
                parts = stack.enter_context(running(endpoints, logs, persist, scheduler))
            stack.callback(console.print, "ending …")
            say(console, f"started; the logs are in {_shown(logs)}", indent=0)
            say(console, scheduler.sentence, indent=0)
            if persist:
                console.print()
                say(console, f"Temporal keeps its data in {persist}.", indent=0)
                say(console, _PERSISTING, indent=0)
            show = start_child("The show", [sys.executable, "-m", "local.stack.show"], {}, None)
            stack.callback(show.stop)
            was_good = _watch(parts, show)
            if was_good and not once:
                print_manual(endpoints, _shown(logs))
                _watch(parts, None)
    except StartError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if was_good else 130
    return 0 if was_good else 1


if __name__ == "__main__":
    sys.exit(main())
