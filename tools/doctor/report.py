"""The report of the machine reconcile-schedules: read, judged and printed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from local.stack.console import say
from saga_core.drift import Kind
from tools.doctor.kinds import advice, repair
from tools.doctor.text import age, owner, plain

EXIT_AGREE = 0
EXIT_FAILED = 1
EXIT_DRIFT = 2


class Unreadable(Exception):
    """The output is not a report. The text is one line."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Seen(_Part):
    """How many schedules of Temporal and registrations of SpiceDB the run has looked at."""

    schedules: int
    registrations: int


class Count(_Part):
    """How many findings of a kind there were, how many were repaired, and how many are left."""

    found: int
    repaired: int
    left: int


class Item(_Part):
    """One finding.

    Attributes:
        action: what a repair does about it; ``none`` where a person decides. With ``: done`` it has been done.
        detail: ids, and the time of creation.
    """

    schedule_id: str
    kind: str
    action: str
    detail: Mapping[str, Any]

    @property
    def owners(self) -> str:
        """The owners in SpiceDB, or else the creator in the memo, in brackets."""
        owners = [owner(str(each)) for each in self.detail.get("owners") or []]
        creator = self.detail.get("creator")
        return ", ".join(owners) or (f"({owner(str(creator))})" if creator else "-")

    def age(self, now: datetime) -> str:
        """Since when the schedule exists."""
        created_at = self.detail.get("created_at")
        return age(datetime.fromisoformat(created_at), now) if created_at else "-"


class Report(_Part):
    """The output of the machine.

    Attributes:
        would_repair: how many findings a repair would mend.
        waiting: schedules that are too young, or in flight, to say anything about.
        stopped: why the run stopped before its end; null if it did not.
        items: the first findings.
        items_left_out: how many more there are.
    """

    mode: str
    seen: Seen
    kinds: Mapping[str, Count]
    would_repair: int
    waiting: int
    stopped: str | None
    items: list[Item]
    items_left_out: int

    @classmethod
    def of(cls, output: str) -> "Report":
        """The report in an execution's output.

        Raises:
            Unreadable: it is not a report.
        """
        try:
            return cls.model_validate_json(output)
        except ValidationError as error:
            places = sorted({".".join(map(str, each["loc"])) or "the whole" for each in error.errors()})
            raise Unreadable(f"the machine's output is not a report: {', '.join(places[:3])}") from None

    def of_kinds(self, kinds: Collection[str]) -> "Report":
        """The report with the findings of these kinds alone; no kind means all."""
        if not kinds:
            return self
        return self.model_copy(
            update={
                "kinds": {kind: count for kind, count in self.kinds.items() if kind in kinds},
                "items": [item for item in self.items if item.kind in kinds],
            }
        )

    @property
    def left(self) -> int:
        """How many findings are left. Ids that are not ours are no drift."""
        return sum(count.left for kind, count in self.kinds.items() if kind != Kind.FOREIGN)

    @property
    def exit_code(self) -> int:
        """What the command returns for this report."""
        if self.stopped:
            return EXIT_FAILED
        return EXIT_DRIFT if self.left else EXIT_AGREE


def show(report: Report, console: Console) -> None:
    """Print a report for a person: what was found by kind, each finding, and what comes next."""
    found = [(kind, count, advice(kind)) for kind, count in report.kinds.items() if count.found]
    if found:
        _show_table(
            console,
            ["kind", "found", "repaired", "left", "what it is", "what to do"],
            ([kind, str(c.found), str(c.repaired), str(c.left), a.meaning, a.to_do] for kind, c, a in found),
        )
    if report.items:
        now = datetime.now(UTC)
        _show_table(
            console,
            ["schedule", "kind", "owner (creator)", "age", "what to do"],
            ([item.schedule_id, item.kind, item.owners, item.age(now), _to_do(item)] for item in report.items),
        )
    if report.items_left_out:
        say(console, f"… and {report.items_left_out} more. --agent, --kind and --schedule narrow the run.", indent=0)
    for line in _verdict(report):
        say(console, line, indent=0)


def _show_table(console: Console, headings: list[str], rows: Iterable[list[str]]) -> None:
    table = Table(box=box.ROUNDED)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    console.print(table, soft_wrap=False)


def _to_do(item: Item) -> str:
    action, _, done = item.action.partition(": ")
    repaired = repair(action)
    if repaired is None:
        return advice(item.kind).to_do
    return f"{done}: it {repaired}" if done else f"a repair {repaired}"


def _verdict(report: Report) -> Iterator[str]:
    seen = f"schedules in Temporal: {report.seen.schedules}, registrations in SpiceDB: {report.seen.registrations}"
    if report.waiting:
        yield (
            f"Not judged: {report.waiting}, in flight or younger than the lease. Run again when the lease is over "
            "(12 minutes by default)."
        )
    if report.stopped:
        yield f"Stopped: {plain(report.stopped)}"
    elif report.left:
        yield f"Findings left: {report.left} ({seen}). docs/operations.md says what each kind means."
    else:
        yield f"The two systems agree ({seen})."
    if report.would_repair and report.mode == "report":
        yield (
            f"A repair changes {report.would_repair}: add --repair (on the laptop: make reconcile). "
            f"If that is too many for one run, --confirm {report.would_repair} allows them."
        )
