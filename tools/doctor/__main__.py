"""Asks whether Temporal and SpiceDB agree about every schedule: `python -m tools.doctor`.

It runs the machine reconcile-schedules and prints what that found, by kind and by schedule. Without `--repair` nothing
is changed. docs/operations.md says what each kind means and what a repair does.

    python -m tools.doctor                                           # the laptop stack; `make doctor`
    python -m tools.doctor --repair --confirm 40                     # `make reconcile ARGS="--confirm 40"`
    python -m tools.doctor --machine-arn arn:aws:states:…            # a deployment, with the credentials of boto3
    python -m tools.doctor --explain weather-agent--daily            # one schedule, read from both engines

`--explain` needs no machine. It takes the addresses and secrets of the engines from the environment, by the variables
of the functions (SPICEDB_…, TEMPORAL_…).

Exit codes
    0  the two systems agree
    1  failed, or stopped at a bound: the last line says why
    2  findings are left

Ctrl-C stops the execution. What it has repaired until then stays repaired.
"""

import argparse
import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from local.stack.console import plain_console
from local.stack.endpoints import bypass_proxies
from local.stack.process import StartError
from saga_core.drift import Kind
from saga_core.errors import InvalidRequest
from saga_core.observability import logger
from saga_reconcile.requests import ReconcileRequest
from tools.doctor import machine, report
from tools.doctor.explain import Unexplained, explain
from tools.doctor.machine import Failed, Machine
from tools.doctor.report import EXIT_FAILED, Report, Unreadable

_ARN = re.compile(r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d{12}:stateMachine:[\w-]+(:[\w-]+)?")


class _Parser(argparse.ArgumentParser):
    """A command line whose errors are not mistaken for drift."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_FAILED, f"doctor: {message}\n")


def _adoption(value: str) -> tuple[str, str]:
    schedule_id, separator, owner = value.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{value!r} is not AGENT--NAME=user:ID or AGENT--NAME=service_account:ID")
    return schedule_id, owner


def _machine_arn(value: str) -> str:
    if not _ARN.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not the ARN of a state machine")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+/?", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a URL (http://HOST:PORT)")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tools.doctor",
        description="Show where Temporal and SpiceDB do not agree about schedules; with --repair, mend it.",
        allow_abbrev=False,
        epilog="Exit codes: 0 the systems agree; 1 failed, or stopped at a bound; 2 findings are left.",
    )
    where = parser.add_argument_group("which machine")
    where.add_argument("--machine-arn", type=_machine_arn, metavar="ARN", help="of a deployment; else the laptop's")
    where.add_argument("--endpoint", type=_url, metavar="URL", help="of Step Functions; default: the laptop's port")
    what = parser.add_argument_group("what to look at (default: everything)")
    what.add_argument("--agent", metavar="ID", help="the schedules of one agent")
    what.add_argument("--schedule", metavar="ID", help="one schedule")
    what.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=list(map(str, Kind)),
        help="these findings alone; may be repeated",
    )
    how = parser.add_argument_group("what to change (default: nothing)")
    how.add_argument("--repair", action="store_true", help="mend what can be mended")
    how.add_argument("--max-repairs", type=int, metavar="N", help="end the run after so many repairs")
    how.add_argument("--confirm", type=int, metavar="N", help="allow up to N repairs where the run would stop")
    how.add_argument(
        "--adopt",
        type=_adoption,
        action="append",
        default=[],
        metavar="ID=user:NAME",
        help="name an owner; may be repeated",
    )
    how.add_argument(
        "--pause-revoked", action="store_true", help="pause schedules whose owners may not update the agent"
    )
    parser.add_argument("--explain", metavar="ID", help="tell the story of one schedule instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _input(given: argparse.Namespace) -> dict[str, Any]:
    """The input of the machine; what was not given has the machine's default."""
    asked = {
        "agent_id": given.agent,
        "schedule_id": given.schedule,
        "kinds": given.kind or None,
        "max_repairs": given.max_repairs,
        "confirm": given.confirm,
        "adopt": dict(given.adopt) or None,
        "revoked": "pause" if given.pause_revoked else None,
    }
    return {
        "mode": "repair" if given.repair else "report",
        **{name: value for name, value in asked.items() if value is not None},
    }


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse what the machine would refuse, and options that say nothing together, before anything starts."""
    asked = _input(given)
    if given.explain is not None and (asked != {"mode": "report"} or given.machine_arn or given.endpoint):
        parser.error("--explain reads one schedule from both engines; of the other options only --json goes with it")
    if not given.repair and (given.adopt or given.max_repairs is not None or given.confirm is not None):
        parser.error("--adopt, --max-repairs and --confirm are about repairs: give --repair too")
    if len(dict(given.adopt)) < len(given.adopt):
        parser.error("--adopt names a schedule twice")
    try:
        ReconcileRequest.parse(asked if given.explain is None else {"schedule_id": given.explain})
    except InvalidRequest as error:
        parser.error(str(error))


def _run(given: argparse.Namespace) -> str:
    """Run the machine, with a progress bar on a terminal. Returns its output."""
    if given.machine_arn:
        where = Machine.deployed(given.machine_arn, given.endpoint)
    else:
        where = Machine.on_the_laptop(given.endpoint)
    execution = where.start(_input(given))
    try:
        return _followed(where, execution)
    except KeyboardInterrupt:
        where.stop(execution)
        raise Failed(f"stopped {execution}; what it has repaired stays repaired") from None


def _followed(where: Machine, execution: str) -> str:
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"doctor: {execution}", file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[far]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking at both systems", total=None, far="")

        def note(progress: machine.Progress) -> None:
            if progress.shards:
                far = f"{progress.shards_ended}/{progress.shards} shards, {progress.steps} steps"
                bar.update(task, completed=progress.shards_ended, total=progress.shards, far=far)

        return where.output(execution, note)


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check(parser, given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bypass_proxies()
    try:
        if given.explain is not None:
            story = explain(given.explain)
            if given.json:
                _print_json(story.to_json())
            else:
                story.show(plain_console())
            return story.exit_code
        output = _run(given)
        found = Report.of(output).of_kinds(given.kind)
        if given.json:
            _print_json(json.loads(output))
        else:
            report.show(found, plain_console())
    except (Failed, Unexplained, Unreadable, StartError) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return found.exit_code


if __name__ == "__main__":
    logger.setLevel("CRITICAL")  # the lines of the layers are for a log, and would stand among what is printed
    sys.exit(main())
