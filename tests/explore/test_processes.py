"""`python -m tests.explore` explores in several processes, and says what they find."""

import re
import signal
import subprocess
import sys

import pytest

from tests.explore import __main__ as command
from tests.explore.scenarios import scenarios
from tests.explore.test_mutations import without_verify_create
from tests.support.machines import DEFINITIONS

SECONDS = 60
# Explores what takes minutes in two processes, and prints how many worlds it has seen.
PROGRAM = """
from tests.explore.processes import explore
from tests.explore.trigger_scenarios import MACHINES, trigger_scenarios
slow = [each for each in trigger_scenarios() if len(each.operations) == 4]
explore(slow, MACHINES, 2, lambda worlds, _: print(worlds, flush=True))
"""


def run(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    patch.setattr(sys, "argv", ["explore", *arguments])
    return command.main()


def test_every_scenario_has_a_row_in_order_and_its_worlds_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--only", "two creates of one key", "--faults", "1", "--jobs", "2") == 0

    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line[0] == "│"]
    names = [each.name for each in scenarios() if "two creates of one key" in each.name]
    assert [row[0] for row in rows] == names
    assert {row[-1] for row in rows} == {"0"}
    worlds = sum(int(row[2].replace(",", "")) for row in rows)
    assert printed.splitlines()[-1] == f"{len(names)} scenarios, {worlds:,} worlds, 0 violations"
    assert f"{len(names)}/{len(names)}" in printed
    assert f"{worlds:,} worlds\n" in printed, "the progress bar has counted all of them"


def test_a_counterexample_is_printed_with_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "MACHINES", {**DEFINITIONS, **without_verify_create(monkeypatch)})
    assert run(monkeypatch, "--only", "a create, 0 retries", "--faults", "1", "--jobs", "1") == 1

    printed = capsys.readouterr().out
    again = re.search(r"\nagain: python -m tests.explore --only '(.+)' --replay '(.+)'\n", printed)
    assert again
    assert run(monkeypatch, "--only", again[1], "--replay", again[2], "--faults", "1") == 0
    trace = capsys.readouterr().out
    assert "CreateSchedule" in trace
    assert trace + again[0][1:] in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlasts_the_command(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any(int(line) > 0 for line in process.stdout)
        process.send_signal(number)
        process.communicate(timeout=SECONDS)  # until no process has its standard output any more

        assert process.returncode == -number
