"""Generated parts of pages: each goes between two markers, `<!-- name -->` and `<!-- /name -->`.

The commands that write them have one option, `--check`: write nothing, but find a stale part.

Exit codes: 0 written, or up to date; 1 --check found a stale part, or something cannot be read. An error is one line.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

Parts = Callable[[Path], Mapping[str, str]]  # the generated parts by their names, for a root of the repository


class DocumentError(Exception):
    """A document does not have the places that the generated parts go into; the message is one line."""


def embed(document: str, parts: Mapping[str, str], name: str) -> str:
    """The text of the document of this name, with each part, by its name, between its two markers.

    Raises:
        DocumentError: a part has no place, or a place has no part.
    """
    for part_name, part in parts.items():
        opening, closing = f"<!-- {part_name} -->", f"<!-- /{part_name} -->"
        places = (document.count(opening), document.count(closing))
        if places != (1, 1) or document.index(opening) > document.index(closing):
            raise DocumentError(f"{name} needs the lines {opening} and {closing} once each, in this order")
        before, _, rest = document.partition(opening)
        after = rest.partition(closing)[2]
        document = f"{before}{opening}\n{part}{closing}{after}"
    for kind, machine in re.findall(r"<!-- (diagram|states):(\S+) -->", document):
        if f"{kind}:{machine}" not in parts:
            raise DocumentError(f"{name} has a place for {machine}, but statemachine/{machine}.asl.json does not exist")
    return document


def command(module: str, document: str, what: str, parts: Parts, arguments: Sequence[str] | None, root: Path) -> int:
    """Run the command of tools.<module>, which writes `what` into a document. Returns its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.{module}", description=f"Write {what} {document}.")
    parser.add_argument("--check", action="store_true", help=f"write nothing; exit 1 if {document} is stale")
    check = parser.parse_args(arguments).check
    tool, path = module.partition(".")[0], root / document
    try:
        before = path.read_text(encoding="utf-8")
        written = embed(before, parts(root), document)
    except OSError as error:
        print(f"{tool}: {os.path.relpath(error.filename, root)}: {error.strerror}", file=sys.stderr)
        return 1
    except DocumentError as error:
        print(f"{tool}: {error}", file=sys.stderr)
        return 1
    if written == before:
        print(f"{document} is up to date")
    elif check:
        print(f"{tool}: {document} is stale: `make docs` writes its generated parts again", file=sys.stderr)
        return 1
    else:
        path.write_text(written, encoding="utf-8")
        print(f"{document} is written")
    return 0
