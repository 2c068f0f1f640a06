"""Brings the schema that a SpiceDB holds up to date with schema/schedules.zed: `python -m tools.schema`.

One SpiceDB often serves several teams, and a WriteSchema replaces everything it holds. So this reads what is there,
works our definitions into it and leaves the rest alone. Without `--apply` it only shows what it would do.

    SPICEDB_TOKEN=local python -m tools.schema --insecure --apply        # the laptop stack
    python -m tools.schema --endpoint spicedb.example.com:443 --apply    # TLS; the token from SPICEDB_TOKEN or a prompt

The token comes from the environment variable that `--token-env` names, from `--token-file`, or from a prompt where
there is a terminal; never from the command line, which every process on the machine can read.

Exit codes
    0  nothing to do, or (with --apply) written
    1  refused or failed: the last line says why, and nothing was written unless it says otherwise
    2  the command line is wrong
    3  without --apply: there is something to write

How two schemas are merged
- A definition or caveat that only the server has is kept byte for byte, comments included; so is every `use` flag.
- One that only the file has is added.
- A definition that both have is merged member by member. A relation or permission that only the server has is kept: it
  may be another team's. One that only the file has is added.
- A relation that both have ends up with the subject types of both: that lets more be written, but grants nothing by
  itself. The same type under other demands (`user` here, `user with caveat` there) is a conflict.
- A permission that both have stays as the server has it if it says the same (order and parentheses aside), or is the
  same union with more in it. Anything else is a conflict: nobody's access is changed in passing.
- A caveat that both have in different words is a conflict.
- A conflict is shown and refused. `--replace agent#update` takes this one member from the file: as it stands there, or
  removed if it is not there. `--replace my_caveat` takes a caveat. Nothing is ever removed without it.
Comments never count as a difference, since SpiceDB keeps only some of them.

What would orphan relationships is refused: where the result lacks a relation, or a subject type of one, for which there
are relationships, they are counted and the first few are shown. SpiceDB checks the same in the transaction that writes.

Races: the API has no conditional WriteSchema. The schema is read again right before the write, and a change since the
first read is refused; it is read once more afterwards, to see that our definitions are in it. A change that somebody
makes in the milliseconds between that second read and the write is overwritten unnoticed.
"""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import re
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc
from authzed.api.v1 import (
    Consistency,
    Cursor,
    ReadRelationshipsRequest,
    ReadSchemaRequest,
    Relationship,
    RelationshipFilter,
    SubjectFilter,
    WriteSchemaRequest,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from authzed.api.v1.schema_service_pb2_grpc import SchemaServiceStub

from tools.schema.zed import Block, Member, SchemaSyntaxError, Subject, body_end, comment_start, members, split, words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

SCHEMA_FILE = Path(__file__).parents[2] / "schema" / "schedules.zed"
EXIT_REFUSED = 1
EXIT_DIFFERENCE = 3
RPC_SECONDS = 10.0
COUNT_UP_TO = 1000  # relationships in the way; also the size of a page
EXAMPLES = 3
_OUTCOME_UNKNOWN = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


class Refused(Exception):
    """Nothing is written, or no longer known to be; the message is the one line that says why."""


class Conflict(NamedTuple):
    name: str  # agent#update, or a caveat's name: what --replace takes
    server: str
    file: str


class Change(NamedTuple):
    name: str
    before: str  # empty where it is added
    after: str


class Removal(NamedTuple):
    """What the merged schema no longer has."""

    definition: str
    relation: str
    subjects: frozenset[Subject]  # empty: the whole relation


class Plan(NamedTuple):
    """What a merge comes to."""

    text: str  # what to write; the server's own text, unchanged, when there is nothing to do
    changes: list[Change]
    unchanged: list[str]
    kept: list[str]
    notes: list[str]
    conflicts: list[Conflict]
    removals: list[Removal]


def plan(ours: str, theirs: str, replace: Collection[str] = ()) -> Plan:
    """Merge the schema file's text into the server's; neither writes nor asks anything.

    `replace` holds what --replace takes. Planning the merged text once more finds nothing to do.
    Raises Refused for texts that cannot be read or merged.
    """
    file_blocks, server_blocks = _split("the schema file", ours), _split("the server's schema", theirs)
    wanted = _wanted(file_blocks)
    held = {block.name: block for block in server_blocks if _is_definition(block)}
    _check_replace(replace, wanted)

    merged: dict[str, str] = {}
    notes: list[str] = []
    conflicts: list[Conflict] = []
    for name, block in wanted.items():
        if name not in held:
            merged[name] = _standalone(block)
        elif block.kind != held[name].kind:
            raise Refused(f"{name} is a {held[name].kind} on the server and a {block.kind} in the schema file")
        elif block.kind == "caveat":
            merged[name] = _merge_caveat(block, held[name], replace, conflicts)
        else:
            merged[name] = _merge_definition(block, held[name], replace, notes, conflicts)

    changes = [
        Change(name, held[name].text.strip() if name in held else "", text.strip())
        for name, text in merged.items()
        if name not in held or text != held[name].text
    ]
    text = theirs
    if changes:
        present = "".join(merged.get(b.name, b.text) if _is_definition(b) else b.text for b in server_blocks)
        added = [merged[name] for name in wanted if name not in held]
        text = "\n\n".join(part for part in (present.rstrip(), *added) if part) + "\n"
        text = _missing_flags(file_blocks, server_blocks) + text
    return Plan(
        text,
        changes,
        unchanged=[name for name in wanted if name not in {change.name for change in changes}],
        kept=[name for name in held if name not in wanted],
        notes=notes,
        conflicts=conflicts,
        removals=_removals(server_blocks, split(text)),
    )


def _split(what: str, text: str) -> list[Block]:
    """The blocks of a schema all of whose definitions can be read."""
    try:
        blocks = split(text)
        for block in blocks:
            if block.kind == "definition":
                members(block)
    except SchemaSyntaxError as error:
        raise Refused(f"{what} cannot be read: {error}") from None
    return blocks


def _is_definition(block: Block) -> bool:
    return block.kind in {"definition", "caveat"}


def _wanted(file_blocks: list[Block]) -> dict[str, Block]:
    wanted: dict[str, Block] = {}
    for block in file_blocks:
        if block.kind in {"partial", "import"}:
            raise Refused(f"the schema file has a {block.kind}, {block.name}: write out what it stands for")
        if _is_definition(block):
            if block.name in wanted:
                raise Refused(f"the schema file defines {block.name} twice")
            wanted[block.name] = block
    if not wanted:
        raise Refused("the schema file defines nothing")
    return wanted


def _check_replace(replace: Collection[str], wanted: dict[str, Block]) -> None:
    """A member need not exist: the same command must work again once it has removed one."""
    for name in replace:
        block, member = wanted.get(name.split("#")[0]), "#" in name
        if block is None or member is not (block.kind == "definition"):
            raise Refused(f"--replace {name}: not a caveat or definition#member of a definition in the schema file")


def _standalone(block: Block) -> str:
    """A block of the schema file with its own comment, without what else stands before it."""
    return block.text[comment_start(block.text, 0, block.head) :].lstrip("; \t\r\n")


def _merge_caveat(ours: Block, theirs: Block, replace: Collection[str], conflicts: list[Conflict]) -> str:
    file, server = ours.text[ours.head :], theirs.text[theirs.head :]
    if words(file) == words(server):
        return theirs.text
    if ours.name in replace:
        return theirs.text[: theirs.head] + file
    conflicts.append(Conflict(ours.name, server.strip(), file.strip()))
    return theirs.text


def _merge_definition(
    ours: Block, theirs: Block, replace: Collection[str], notes: list[str], conflicts: list[Conflict]
) -> str:
    """The server's text of a definition with our members worked in; adds to `notes` and `conflicts`."""
    file_members = {member.name: member for member in members(ours)}
    server_members = members(theirs)
    edits: list[tuple[int, int, str]] = []
    for member in server_members:
        key = f"{ours.name}#{member.name}"
        wanted = file_members.pop(member.name, None)
        if wanted is None:
            if key in replace:
                edits.append((len(theirs.text[: member.start].rstrip()), member.end, ""))
            else:
                notes.append(f"{key} is only on the server: kept")
        elif _same(wanted, member):
            continue
        elif key in replace:
            edits.append((member.start, member.end, _indented(ours, wanted, theirs, server_members)))
        elif _covers(member, wanted):
            notes.append(f"{key} says more on the server than in the schema file: kept")
        elif widened := _widened(member, wanted):
            edits.append((member.core, member.core_end, widened))
        else:
            server, file = theirs.text[member.core : member.core_end], ours.text[wanted.core : wanted.core_end]
            conflicts.append(Conflict(key, server, file))
    if file_members:
        added = [_indented(ours, member, theirs, server_members) for member in file_members.values()]
        closing = body_end(theirs)
        edits.append((len(theirs.text[:closing].rstrip()), closing, "\n" + "\n".join(added) + "\n"))
    if edits and any(member.kind == "..." for member in server_members):
        raise Refused(f"{ours.name} includes a partial on the server: work the schema file's members in by hand")
    text = theirs.text
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _indented(ours: Block, member: Member, theirs: Block, server_members: list[Member]) -> str:
    """The lines of a member of ours with its comment, indented as the server's members are."""
    indent = "\t"
    if server_members:
        core = server_members[0].core
        before = theirs.text[theirs.text.rfind("\n", 0, core) + 1 : core]
        indent = before if before.isspace() else indent
    return textwrap.indent(textwrap.dedent(ours.text[member.start : member.end]), indent)


def _same(one: Member, other: Member) -> bool:
    return (
        one.kind == other.kind
        and frozenset(one.subjects) == frozenset(other.subjects)
        and one.expression == other.expression
    )


def _covers(server: Member, file: Member) -> bool:
    """Whether the server's member says all that the file's says, and more."""
    if server.kind != file.kind:
        return False
    if server.expression and file.expression:
        return server.expression.seen_as("+") >= file.expression.seen_as("+")
    return frozenset(server.subjects) >= frozenset(file.subjects)


def _widened(server: Member, file: Member) -> str:
    """The server's relation with our subject types added to it; empty for permissions, and where the two disagree."""
    missing = [subject for subject in file.subjects if subject not in server.subjects]
    if "permission" in {server.kind, file.kind} or {s.type for s in missing} & {s.type for s in server.subjects}:
        return ""
    return f"relation {server.name}: {' | '.join(map(str, (*server.subjects, *missing)))}"


def _missing_flags(file_blocks: list[Block], server_blocks: list[Block]) -> str:
    """The `use` lines to put before the server's text. SpiceDB gives back only those that its schema needs."""
    held = {block.name for block in server_blocks if block.kind == "use"}
    flags = dict.fromkeys(block.name for block in file_blocks if block.kind == "use" and block.name not in held)
    return "".join(f"use {flag}\n" for flag in flags) + ("\n" if flags else "")


def _removals(before: list[Block], after: list[Block]) -> list[Removal]:
    left = {
        (block.name, member.name): frozenset(member.subjects)
        for block in after
        if block.kind == "definition"
        for member in members(block)
        if member.kind == "relation"
    }
    found: list[Removal] = []
    for block in before:
        for member in members(block) if block.kind == "definition" else ():
            if member.kind != "relation":
                continue
            remaining = left.get((block.name, member.name))
            if remaining is None:
                found.append(Removal(block.name, member.name, frozenset()))
            elif gone := frozenset(member.subjects) - remaining:
                found.append(Removal(block.name, member.name, gone))
    return found


class Server:
    """A connection to one SpiceDB. Every call raises Refused, with one clear line, for what it answers amiss."""

    def __init__(self, endpoint: str, token: str, *, tls: bool, ca: bytes | None = None) -> None:
        """`endpoint` is host:port; `ca` the PEM of the authorities to trust instead of the system's."""
        self._endpoint = endpoint
        self._tls = tls
        self._metadata = (("authorization", f"Bearer {token}"),)
        credentials = grpc.ssl_channel_credentials(ca) if tls else None
        self._channel = grpc.secure_channel(endpoint, credentials) if credentials else grpc.insecure_channel(endpoint)
        self._schema = SchemaServiceStub(self._channel)
        self._permissions = PermissionsServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def read(self) -> str:
        """The text of the schema; empty if there is none yet."""
        try:
            answer = self._schema.ReadSchema(ReadSchemaRequest(), timeout=RPC_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            if _code(error) is grpc.StatusCode.NOT_FOUND:
                return ""
            raise self._refused(error) from error
        return str(answer.schema_text)

    def write(self, text: str) -> None:
        """Replace the whole schema."""
        request = WriteSchemaRequest(schema=text)
        try:
            self._schema.WriteSchema(request, timeout=RPC_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            if _code(error) in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}:
                raise Refused(f"SpiceDB refuses the merged schema: {_details(error)}") from error
            if _code(error) in _OUTCOME_UNKNOWN:
                lost = f"the answer to the write was lost ({_code(error).name})"
                raise Refused(f"{lost}: the schema may be written; run this again") from error
            raise self._refused(error) from error

    def relationships(self, removal: Removal) -> Iterator[Relationship]:
        """The relationships that a removal would orphan, page by page."""
        types = {re.split("[:#]", subject.type)[0] for subject in removal.subjects}
        for subject_type in sorted(types) or [""]:
            wanted = RelationshipFilter(resource_type=removal.definition, optional_relation=removal.relation)
            if subject_type:
                wanted.optional_subject_filter.CopyFrom(SubjectFilter(subject_type=subject_type))
            for relationship in self._pages(wanted):
                if not removal.subjects or _subject_of(relationship) in removal.subjects:
                    yield relationship

    def _pages(self, wanted: RelationshipFilter) -> Iterator[Relationship]:
        cursor: Cursor | None = None
        while True:
            request = ReadRelationshipsRequest(
                consistency=Consistency(fully_consistent=True),
                relationship_filter=wanted,
                optional_limit=COUNT_UP_TO,
                optional_cursor=cursor,
            )
            received = 0
            try:
                for answer in self._permissions.ReadRelationships(
                    request, timeout=RPC_SECONDS, metadata=self._metadata
                ):
                    received += 1
                    cursor = answer.after_result_cursor
                    yield answer.relationship
            except grpc.RpcError as error:
                raise self._refused(error) from error
            if received < COUNT_UP_TO:
                return

    def _refused(self, error: grpc.RpcError) -> Refused:
        code = _code(error)
        if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            return Refused(f"SpiceDB at {self._endpoint} does not accept this token ({code.name})")
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            hint = " (without TLS? then pass --insecure)" if self._tls else ""
            return Refused(f"cannot reach SpiceDB at {self._endpoint}: {_details(error)}{hint}")
        return Refused(f"SpiceDB at {self._endpoint} answered {code.name}: {_details(error)}")


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


def _details(error: grpc.RpcError) -> str:
    """What the server said, on one line."""
    return " ".join((error.details() or "").split()) if isinstance(error, grpc.Call) else str(error)


def _subject_of(relationship: Relationship) -> Subject:
    """The subject type that a relationship is written under."""
    subject = relationship.subject
    type_ = subject.object.object_type
    if subject.optional_relation:
        type_ += f"#{subject.optional_relation}"
    elif subject.object.object_id == "*":
        type_ += ":*"
    demands = [relationship.optional_caveat.caveat_name] if relationship.HasField("optional_caveat") else []
    if relationship.HasField("optional_expires_at"):
        demands.append("expiration")
    return Subject(type_, " and ".join(demands))


def orphans(server: Server, removals: list[Removal]) -> list[str]:
    """A line for each removal that relationships are in the way of, with how many and the first few."""
    lines = []
    for removal in removals:
        found = list(islice(server.relationships(removal), COUNT_UP_TO))
        if found:
            what = f"{removal.definition}#{removal.relation}"
            if removal.subjects:
                what += ": " + " | ".join(sorted(map(str, removal.subjects)))
            count = f"{len(found)}{' or more' if len(found) == COUNT_UP_TO else ''}"
            examples = ", ".join(_written(relationship) for relationship in found[:EXAMPLES])
            lines.append(f"{what} would orphan {count} relationship{'s' * (len(found) > 1)}: {examples}")
    return lines


def _written(relationship: Relationship) -> str:
    resource, subject = relationship.resource, relationship.subject
    text = f"{resource.object_type}:{resource.object_id}#{relationship.relation}@"
    text += f"{subject.object.object_type}:{subject.object.object_id}"
    return text + (f"#{subject.optional_relation}" if subject.optional_relation else "")


def show(merge: Plan) -> None:
    """Print what a merge comes to."""
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
    """Show the difference, check it, and with `apply` write it; returns the exit code, or raises Refused."""
    theirs = server.read()
    merge = plan(ours, theirs, replace)
    show(merge)
    if merge.conflicts:
        flags = " ".join(f"--replace {conflict.name}" for conflict in merge.conflicts)
        raise Refused(f"the server says otherwise; to take the schema file's word: {flags}")
    in_the_way = orphans(server, merge.removals)
    for line in in_the_way:
        print(f"{'orphans':<11}{line}")
    if in_the_way:
        raise Refused("relationships are in the way: delete them first")
    if not merge.changes:
        print("nothing to do")
        return 0
    if not apply:
        print("nothing written: --apply does it")
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
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.schema",
        description="Show what schema/schedules.zed changes in a SpiceDB's schema; with --apply, write it.",
        allow_abbrev=False,
        epilog="Exit codes: 0 nothing to do or written; 1 refused or failed; 2 wrong command line; "
        "3 without --apply, there is something to write.",
    )
    parser.add_argument("--apply", action="store_true", help="write the difference, not only show it")
    parser.add_argument("--endpoint", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--insecure", action="store_true", help="no TLS, as the laptop stack serves it")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM of the authorities to trust, for a private one")
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
        help="take this definition#member, or caveat, from the file even where that changes or removes the server's; "
        "may be repeated",
    )
    given = parser.parse_args(arguments)
    if given.insecure and given.ca:
        parser.error("--ca is for TLS, which --insecure turns off")
    try:
        ours = given.schema.read_text(encoding="utf-8")
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
