"""`python -m tests.explore`: the full exploration, with a table at the end. What `make explore` runs.

--faults N            at most N faults in one interleaving (2)
--only TEXT           only scenarios whose name contains TEXT
--replay MOVES        with --only naming one scenario: show the trace that a counterexample printed
"""

import argparse
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.explore.explorer import Explorer, Scenario
from tests.explore.handlers import driven
from tests.explore.scenarios import AGENTS, scenarios
from tests.explore.traces import parse, spell
from tests.explore.trigger_scenarios import MACHINES, judge_triggers, trigger_scenarios


def explorer(scenario: Scenario) -> Explorer:
    """An explorer of a scenario on the shipped machines."""
    return Explorer(scenario, MACHINES, AGENTS, judge_triggers)


def main() -> int:
    """Explore; 0 if no violation was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description="Every interleaving, judged.")
    parser.add_argument("--faults", type=int, default=2, help="at most so many in one interleaving (default: 2)")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--replay", help="moves, as a counterexample prints them")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    shipped = (*scenarios(most_faults=arguments.faults), *trigger_scenarios(most_faults=arguments.faults))
    chosen = [s for s in shipped if arguments.only in s.name]
    if arguments.replay is not None:
        chosen = [s for s in chosen if s.name == arguments.only]
        if len(chosen) != 1:
            parser.error("--replay wants the whole name of one scenario in --only")
        with driven():
            for line in explorer(chosen[0]).describe(parse(arguments.replay)):
                console.print(line, markup=False, soft_wrap=True)
        return 0

    table = Table("scenario", "interleavings", "worlds", "endings", "seconds", "violations")
    for column in table.columns[1:]:
        column.justify = "right"
    bad = 0
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[worlds]:,} worlds"),
            console=console,
        ) as progress,
        driven(),
    ):
        task = progress.add_task("exploring", total=len(chosen), worlds=0)
        seen = 0
        for scenario in chosen:
            progress.update(task, description=scenario.name)
            exploring = explorer(scenario)

            def count(worlds: int) -> None:
                nonlocal seen
                seen += worlds
                progress.update(task, worlds=seen)

            exploring.progress = count
            began = time.monotonic()
            result = exploring.explore()
            seconds = f"{time.monotonic() - began:.1f}"
            counts = (f"{result.interleavings:,}", f"{result.worlds:,}", f"{result.endings:,}", seconds)
            table.add_row(scenario.name, *counts, "[red]1[/red]" if result.violation else "0")
            progress.advance(task)
            if not console.is_terminal:  # which shows the progress itself
                console.print(f"{scenario.name}: {seconds} s")
            if result.violation:
                bad += 1
                progress.console.print(f"\n[red]{scenario.name}: {result.violation}[/red]")
                for line in exploring.describe(result.trace):
                    progress.console.print(line, markup=False, soft_wrap=True)
                replay = f"--only '{scenario.name}' --replay '{spell(result.trace)}'"
                progress.console.print(f"again: python -m tests.explore {replay}\n", markup=False, soft_wrap=True)
    console.print(table)
    console.print(f"{len(chosen)} scenarios, {seen:,} worlds, {bad} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
