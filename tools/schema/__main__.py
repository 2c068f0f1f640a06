"""Merges schema/schedules.zed into the schema that a SpiceDB holds: `python -m tools.schema`.

Several teams often share one SpiceDB, and WriteSchema replaces the whole schema. This program therefore reads the
schema that is there, merges our definitions into it and leaves the rest as it is. Without `--apply` it only shows the
difference.

    SPICEDB_TOKEN=local python -m tools.schema --insecure --apply        # the laptop stack
    python -m tools.schema --endpoint spicedb.example.com:443 --apply    # TLS; the token from SPICEDB_TOKEN or a prompt

The token is read from the environment variable that `--token-env` names, from `--token-file`, or from a prompt if there
is a terminal. It is never on the command line, which every process on the machine can read.

Exit codes
    0  nothing to do, or (with --apply) written
    1  refused or failed: the last line says why, and nothing was written unless it says otherwise
    2  the command line is wrong
    3  without --apply: there is something to write

The rules of the merge are in tools.schema.merge. A conflict is shown and refused. `--replace agent#update` takes this
one member from the file: it is replaced by the file's, or removed if the file does not have it. `--replace my_caveat`
takes a caveat. Nothing is ever removed without `--replace`.

A merge that would orphan relationships is refused: if the result lacks a relation, or a subject type of one, for which
relationships exist, they are counted and the first few are shown. SpiceDB checks the same in the transaction that
writes the schema.

Races: the API has no conditional WriteSchema. The schema is read again right before the write, and the write is refused
if it has changed since the first read. It is read once more afterwards, to check that our definitions are in it. A
change that somebody makes in the milliseconds between the second read and the write is overwritten without notice.
"""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tools.schema.merge import Plan, Refused, plan
from tools.schema.server import Server, orphans
from tools.schema.zed import read_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SCHEMA_FILE = Path(__file__).parents[2] / "schema" / "schedules.zed"
EXIT_REFUSED = 1
EXIT_DIFFERENCE = 3


def show(merge: Plan) -> None:
    """Print the result of a merge."""
    for change in merge.changes:
        print(f"{'changed' if change.before else 'added':<11}{change.name}")
        lines = difflib.unified_diff(change.before.splitlines(), change.after.splitlines(), lineterm="")
        headings = 2 if change.before else 3
        print(textwrap.indent("\n".join(islice(lines, headings, None)), "    "))
    for label, names in (("unchanged", merge.unchanged), ("kept", merge.kept)):
        if names:
            print(f"{label:<11}{', '.join(names)}{' (not in the schema file)' if label == 'kept' else ''}")
    for note in merge.notes:
        print(f"{'note':<11}{note}")
    for conflict in merge.conflicts:
        print(f"{'conflict':<11}{conflict.name}")
        print(textwrap.indent(f"server: {conflict.server}\nfile:   {conflict.file}", "    "))


def update(server: Server, ours: str, replace: Collection[str], *, apply: bool) -> int:
    """Show the difference, check it, and with `apply` write it. Returns the exit code, or raises Refused."""
    theirs = server.read()
    merge = plan(ours, theirs, replace)
    show(merge)
    if merge.conflicts:
        flags = " ".join(f"--replace {conflict.name}" for conflict in merge.conflicts)
        raise Refused(f"the server's schema contradicts the schema file; to use the schema file: {flags}")
    orphaned = orphans(server, merge.removals)
    for line in orphaned:
        print(f"{'orphans':<11}{line}")
    if orphaned:
        raise Refused("relationships are in the way: delete them first")
    if not merge.changes:
        print("nothing to do")
        return 0
    if not apply:
        print("nothing written: --apply writes it")
        return EXIT_DIFFERENCE
    if server.read() != theirs:
        raise Refused("the schema was changed while this ran: run it again")
    server.write(merge.text)
    try:
        after = plan(ours, server.read())
    except Refused as refusal:
        raise Refused(f"written, but not read back: {refusal}") from refusal
    if after.changes or after.conflicts:
        raise Refused("written, but the schema has been changed again since: run this again")
    print("written")
    return 0


def _token(name: str, file: Path | None) -> str:
    if file:
        token = file.read_text(encoding="utf-8").strip()
    elif not (token := os.environ.get(name, "").strip()) and sys.stdin.isatty():
        token = getpass.getpass("SpiceDB token: ").strip()
    if not token:
        raise Refused(f"no token: set {name}, or name a file with --token-file")
    return token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.schema",
        description="Show what schema/schedules.zed changes in a SpiceDB's schema; with --apply, write it.",
        allow_abbrev=False,
        epilog="Exit codes: 0 nothing to do or written; 1 refused or failed; 2 wrong command line; "
        "3 without --apply, there is something to write.",
    )
    parser.add_argument(
        "--apply", action="store_true", help="write the merged schema; without it, only show the difference"
    )
    parser.add_argument("--endpoint", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--insecure", action="store_true", help="no TLS, for the laptop stack")
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="PEM of the authorities to trust instead of the system's"
    )
    parser.add_argument("--token-env", default="SPICEDB_TOKEN", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="instead of the environment variable")
    parser.add_argument(
        "--schema", type=Path, default=SCHEMA_FILE, metavar="FILE", help="default: schema/schedules.zed"
    )
    parser.add_argument(
        "--replace",
        action="append",
        default=[],
        metavar="NAME",
        help="take this definition#member, or this caveat, from the file, even if that changes or removes what the "
        "server has; may be repeated",
    )
    given = parser.parse_args(arguments)
    if given.insecure and given.ca:
        parser.error("--ca is for TLS, and --insecure turns TLS off")
    try:
        ours = read_schema(given.schema)
        ca = given.ca.read_bytes() if given.ca else None
        server = Server(given.endpoint, _token(given.token_env, given.token_file), tls=not given.insecure, ca=ca)
        try:
            return update(server, ours, given.replace, apply=given.apply)
        finally:
            server.close()
    except (OSError, UnicodeDecodeError) as error:
        print(f"schema: {error}", file=sys.stderr)
    except Refused as refusal:
        print(f"schema: {refusal}", file=sys.stderr)
    return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
