"""Merges the definitions of a schema file into the text of a server's schema. Nothing here talks to a server.

- A definition or caveat that only the server has is kept byte for byte, comments included; so is every `use` flag.
- One that only the file has is added.
- A definition that both have is merged member by member. A relation or permission that only the server has is kept,
  because it may belong to another team. One that only the file has is added.
- A relation that both have gets the subject types of both. That allows more relationships to be written, but grants
  nothing by itself. The same type with different requirements (`user` here, `user with caveat` there) is a conflict.
- A permission that both have stays as it is on the server if it is equal (order and parentheses aside), or is the same
  union with more operands. Anything else is a conflict, so that nobody's access changes as a side effect.
- A caveat that both have with different text is a conflict.
- `replace` resolves conflicts: it names what is taken from the file. Nothing is removed without it.
Comments are not compared, since SpiceDB keeps only some of them.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from tools.schema.zed import (
    Block,
    Member,
    SchemaSyntaxError,
    SubjectType,
    body_end,
    comment_start,
    members,
    split,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Collection


class Refused(Exception):
    """The schema is not written, or it is unknown whether it is. The message is one line that says why."""


class Conflict(NamedTuple):
    name: str  # agent#update, or the name of a caveat, as --replace takes it
    server: str
    file: str


class Change(NamedTuple):
    name: str
    before: str  # empty if it is added
    after: str


class Removal(NamedTuple):
    """What the merged schema no longer has."""

    definition: str
    relation: str
    subjects: frozenset[SubjectType]  # empty: the whole relation


class Plan(NamedTuple):
    """The result of a merge."""

    text: str  # what to write; the server's own text, unchanged, when there is nothing to do
    changes: list[Change]
    unchanged: list[str]
    kept: list[str]
    notes: list[str]
    conflicts: list[Conflict]
    removals: list[Removal]


def plan(ours: str, theirs: str, replace: Collection[str] = ()) -> Plan:
    """Merge the schema file's text, `ours`, into the server's, `theirs`.

    `replace` holds the arguments of --replace. A merge into the merged text finds nothing to do.
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
    """The blocks of a schema. Raises Refused if one of its definitions cannot be read."""
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
            raise Refused(f"the schema file has a {block.kind}, {block.name}: write out its members")
        if _is_definition(block):
            if block.name in wanted:
                raise Refused(f"the schema file defines {block.name} twice")
            wanted[block.name] = block
    if not wanted:
        raise Refused("the schema file defines nothing")
    return wanted


def _check_replace(replace: Collection[str], wanted: dict[str, Block]) -> None:
    """A member need not exist: a command that removed it must work a second time."""
    for name in replace:
        block, member = wanted.get(name.split("#")[0]), "#" in name
        if block is None or member is not (block.kind == "definition"):
            raise Refused(f"--replace {name}: not a caveat or definition#member of a definition in the schema file")


def _standalone(block: Block) -> str:
    """A block of the schema file with its own comment, without other text before it."""
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
    """The server's text of a definition with our members merged into it. Adds to `notes` and `conflicts`."""
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
            notes.append(f"{key} allows more on the server than in the schema file: kept")
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
        raise Refused(f"{ours.name} includes a partial on the server: merge the schema file's members by hand")
    text = theirs.text
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _indented(ours: Block, member: Member, theirs: Block, server_members: list[Member]) -> str:
    """The lines of one of our members with its comment, indented like the server's members."""
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
    """Whether the server's member allows everything that the file's member allows, and more."""
    if server.kind != file.kind:
        return False
    if server.expression and file.expression:
        return server.expression.seen_as("+") >= file.expression.seen_as("+")
    return frozenset(server.subjects) >= frozenset(file.subjects)


def _widened(server: Member, file: Member) -> str:
    """The server's relation with our subject types added. Empty for a permission, and if the two conflict."""
    missing = [subject for subject in file.subjects if subject not in server.subjects]
    if "permission" in {server.kind, file.kind} or {s.type for s in missing} & {s.type for s in server.subjects}:
        return ""
    return f"relation {server.name}: {' | '.join(map(str, (*server.subjects, *missing)))}"


def _missing_flags(file_blocks: list[Block], server_blocks: list[Block]) -> str:
    """The `use` lines to put before the server's text. SpiceDB returns only those that its schema needs."""
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
