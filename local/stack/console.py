"""How the laptop stack prints: plain text, indented blocks and tables, and no line longer than 120 columns."""

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

MAX_COLUMNS = 120
INDENT = 3  # of everything below a title
_MOST_ITEMS = 3


def plain_console() -> Console:
    """A console that prints text as it is: brackets are not markup. Without a terminal, the output has no colours."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.width = min(console.width, MAX_COLUMNS) if console.is_terminal else MAX_COLUMNS
    return console


def say(console: Console, text: str, *, indent: int = INDENT, hanging: int = 0, style: str | None = None) -> None:
    """Print a text, on several lines if it is too long for one.

    `indent` is where the first line begins, and `hanging` how much further the other lines begin.
    """
    lines = textwrap.wrap(
        text,
        console.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
    )
    console.print("\n".join(lines), style=style)


def say_json(console: Console, value: object, *, style: str | None = None) -> None:
    """Print a JSON value, indented. A long list is cut after three items."""
    for line in _json_lines(_shortened(value), "", console.width - 2 * INDENT):
        content = line.lstrip()
        say(console, content, indent=2 * INDENT + len(line) - len(content), hanging=2, style=style)


def say_table(console: Console, columns: Iterable[tuple[str, list[str]]]) -> None:
    """Print blocks of lines side by side, each under its heading."""
    table = Table(box=box.ROUNDED)
    blocks = []
    for heading, lines in columns:
        table.add_column(heading, overflow="fold")
        blocks.append("\n".join(lines))
    table.add_row(*blocks)
    console.print(Padding(table, (0, 0, 0, INDENT), expand=False), soft_wrap=False)


def _shortened(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shortened(member) for name, member in value.items()}
    if isinstance(value, list):
        left_out = len(value) - _MOST_ITEMS
        return [*map(_shortened, value[:_MOST_ITEMS]), *([f"… {left_out} more"] if left_out > 0 else [])]
    return value


def _json_lines(value: Any, name: str, width: int) -> list[str]:
    """A value on one line if it fits, otherwise with each member on a line of its own. `name` comes before it."""
    flat = name + json.dumps(value, ensure_ascii=False)
    if len(flat) < width or not isinstance(value, dict | list):
        return [flat]
    if isinstance(value, dict):
        members = [(f"{json.dumps(key, ensure_ascii=False)}: ", member) for key, member in value.items()]
    else:
        members = [("", member) for member in value]
    lines = [name + ("{" if isinstance(value, dict) else "[")]
    for number, (key, member) in enumerate(members):
        *first, last = _json_lines(member, key, width - 2)
        lines += [f"  {line}" for line in (*first, last + ("," if number < len(members) - 1 else ""))]
    return [*lines, "}" if isinstance(value, dict) else "]"]
