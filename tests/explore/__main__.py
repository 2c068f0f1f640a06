"""`python -m tests.explore`: the full exploration, with a table at the end. What `make explore` runs.

--faults N            at most N faults in one interleaving (2)
--jobs N              processes (one for each CPU)
--only TEXT           only scenarios whose name contains TEXT
--replay MOVES        with --only naming one scenario: show the trace that a counterexample printed
"""

import argparse
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.explore.handlers import driven
from tests.explore.processes import Explored, explore, explorer
from tests.explore.scenarios import scenarios
from tests.explore.traces import parse, spell
from tests.explore.trigger_scenarios import MACHINES, trigger_scenarios


def main() -> int:
    """Explore; 0 if no violation was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description="Every interleaving, judged.")
    parser.add_argument("--faults", type=int, default=2, help="at most so many in one interleaving (default: 2)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each CPU)")
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
            for line in explorer(chosen[0], MACHINES).describe(parse(arguments.replay)):
                console.print(line, markup=False, soft_wrap=True)
        return 0

    found: list[Explored] = []
    with Progress(
        TextColumn("exploring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[worlds]:,} worlds"),
        console=console,
    ) as progress:
        task = progress.add_task("", total=len(chosen), worlds=0)

        def report(worlds: int, ended: list[Explored]) -> None:
            for each in ended:
                show(each, progress.console)
            found.extend(ended)
            progress.update(task, completed=len(found), worlds=worlds)

        explore(chosen, MACHINES, arguments.jobs, report)
    console.print(as_table(sorted(found, key=lambda each: chosen.index(each.scenario))))
    bad = sum(bool(each.result.violation) for each in found)
    console.print(f"{len(found)} scenarios, {sum(each.result.worlds for each in found):,} worlds, {bad} violations")
    return 1 if bad else 0


def show(explored: Explored, console: Console) -> None:
    """Print the counterexample, if there is one."""
    name, result = explored.scenario.name, explored.result
    if not console.is_terminal:  # which shows the progress itself
        console.print(f"{name}: {explored.seconds:.1f} s")
    if result.violation:
        console.print(f"\n[red]{name}: {result.violation}[/red]")
        again = f"again: python -m tests.explore --only '{name}' --replay '{spell(result.trace)}'\n"
        for line in (*explored.description, again):
            console.print(line, markup=False, soft_wrap=True)


def as_table(found: list[Explored]) -> Table:
    """A row for each scenario."""
    table = Table("scenario", "interleavings", "worlds", "endings", "CPU seconds", "violations")
    for column in table.columns[1:]:
        column.justify = "right"
    for scenario, result, seconds, _ in found:
        counts = (f"{result.interleavings:,}", f"{result.worlds:,}", f"{result.endings:,}", f"{seconds:.1f}")
        table.add_row(scenario.name, *counts, "[red]1[/red]" if result.violation else "0")
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
