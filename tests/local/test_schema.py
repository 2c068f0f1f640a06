"""The schema tool on the real engine: what it shows, what it writes, and what it refuses."""

from __future__ import annotations  # grpcio's own classes are generic only in its stubs

import datetime
import ipaddress
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from authzed.api.v1 import (
    ObjectReference,
    ReadSchemaResponse,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack.spicedb import LocalSpiceDB
from tools.schema import server as schema_server
from tools.schema.__main__ import EXIT_DIFFERENCE, SCHEMA_FILE, main
from tools.schema.merge import Refused, plan
from tools.schema.server import Server
from tools.schema.zed import SchemaSyntaxError, members, split

OURS = SCHEMA_FILE.read_text()
TOKEN = "local"

OTHERS = """use self

// who may open a document
caveat on_network(addr ipaddress, cidr string) {
	addr.in_cidr(cidr) && cidr != "}{ // /*"
}

/**
 * A document } of another team's.
 */
definition docs/document {
	// reader { is
	relation reader: user | user:* | docs/document#reader | user with on_network

	permission view = reader + self
}
"""


def canonical(text: str) -> str:
    """A text as SpiceDB returns it after it was written."""
    engine = LocalSpiceDB(0, TOKEN, text)
    server = Server(f"127.0.0.1:{engine.port}", TOKEN, tls=False)
    try:
        return server.read()
    finally:
        server.close()
        engine.stop()


class Laptop:
    """A SpiceDB for one test, and the tool that runs on it."""

    def __init__(self, text: str, tmp_path: Path) -> None:
        self.engine = LocalSpiceDB(0, TOKEN, text)
        self.endpoint = f"127.0.0.1:{self.engine.port}"
        self.server = Server(self.endpoint, TOKEN, tls=False)
        self._file = tmp_path / "ours.zed"

    def run(self, *arguments: str, ours: str = OURS) -> int:
        self._file.write_text(ours)
        return main(["--endpoint", self.endpoint, "--insecure", "--schema", str(self._file), *arguments])

    def write_relationships(self, *texts: str) -> None:
        """Each as resource#relation@subject, with [limit] or [expiration] after it if the relation requires it."""
        updates = [
            RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=relationship(text))
            for text in texts
        ]
        with grpc.insecure_channel(self.endpoint) as channel:
            PermissionsServiceStub(channel).WriteRelationships(
                WriteRelationshipsRequest(updates=updates), metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=10
            )


def relationship(text: str) -> Relationship:
    match = re.fullmatch(r"(.+?):(.+?)#(.+?)@(.+?):(.+?)(?:#(.+?))?(?:\[(.+)])?", text)
    assert match
    found = Relationship(
        resource=ObjectReference(object_type=match[1], object_id=match[2]),
        relation=match[3],
        subject=SubjectReference(
            object=ObjectReference(object_type=match[4], object_id=match[5]), optional_relation=match[6] or ""
        ),
    )
    if match[7] == "expiration":
        found.optional_expires_at.FromDatetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))
    elif match[7]:
        found.optional_caveat.caveat_name = match[7]
    return found


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Laptop]]:
    """Starts a SpiceDB that holds the given schema."""
    monkeypatch.setenv("SPICEDB_TOKEN", TOKEN)
    started: list[Laptop] = []

    def start(text: str) -> Laptop:
        started.append(Laptop(text, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.server.close()
        one.engine.stop()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


# --- The language ---------------------------------------------------------------------------------------------------


def operand(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(["one", "two", "three", "nil", "four->member", "four.any(member)", "four.all(member)"])
    joined = chance.choice([" + ", " & ", " - "]).join(operand(chance, depth - 1) for _ in range(chance.randint(2, 3)))
    return f"({joined})" if chance.random() < 0.7 else joined


def random_schema(chance: random.Random) -> str:
    """Definitions with comments, permissions of every shape and caveats with quotes and braces in them."""
    lines = ["use expiration", "", "definition user {", "\trelation member: user", "}"]
    for number in range(chance.randint(1, 4)):
        if chance.random() < 0.5:
            lines.append(chance.choice(["// of a line }", "/* { of\n * lines } */", "/** doc */", "// a\n\n// b"]))
        name = f"team{number}/thing{number}"
        lines.append(f"definition {name} {{")
        for relation in ("one", "two", "three"):
            subjects = chance.sample(
                ["user", "user:*", f"{name}#one", "user with expiration", "user with limit", "user#member"], 2
            )
            lines.append(f"\trelation {relation}: {' | '.join(subjects)}{chance.choice(['', ' // why', ';'])}")
        lines.append("\trelation four: user")  # SpiceDB allows no wildcard on the left of an arrow
        for permission in range(chance.randint(0, 6)):
            lines.append(chance.choice(["", "\t// and", "\t/* permission no = nil */"]))
            lines.append(f"\tpermission can{permission} = {operand(chance, 3)}")
        lines.append("}" + chance.choice(["", " // } end", ";"]))
    body = chance.choice(["'}' == text", "'\"}' != text", 'text in [\'{\', "//", "/*"]', '{"a}": text}["a}"] == "x"'])
    lines.append(f"caveat limit(text string) {{ {body} }}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(25))
def test_what_spicedb_gives_back_splits_into_parts_that_join_to_the_same_text_and_mean_the_same(seed: int) -> None:
    """Given a random schema, as written and as SpiceDB prints it."""
    written = random_schema(random.Random(seed))  # noqa: S311 - test data
    printed = canonical(written)
    for text in (written, printed):
        assert "".join(block.text for block in split(text)) == text
    assert meanings(printed) == meanings(written)


def meanings(text: str) -> dict[str, object]:
    return {
        f"{block.name}#{member.name}": member.expression or frozenset(member.subjects)
        for block in split(text)
        if block.kind == "definition"
        for member in members(block)
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "// nothing yet\n",
        "use expiration // why\r\nuse self;\r\n\r\ndefinition user {}; definition group {} // end",
        'use import\nimport "a }.zed"\n\npartial base {\n\trelation owner: user\n}\ndefinition x {\n\t...base\n}',
        "/* a */ /* b */ definition user /* } */ { /* { */ }\n// the end",
        'caveat a/b(x map<list<int>>,\n y string) { y == """a\n"}""" && y != r"\'" }',
    ],
)
def test_any_text_of_the_language_splits_into_parts_that_join_to_it(text: str) -> None:
    assert "".join(block.text for block in split(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("definition user {\n relation one: user\n", "line 1: definition has no closing brace"),
        ("definition user {}\n\n/* no end", "line 3: a string or comment does not end"),
        ('caveat limit(x string) { x == "no end }\n', "line 1: a string or comment does not end"),
        ("definition user {}\nrelation one: user\n", "line 2: no statement begins with 'relation'"),
        ("use", "line 1: use has no name"),
    ],
)
def test_a_text_that_is_not_the_language_is_an_error_that_names_the_line(text: str, says: str) -> None:
    with pytest.raises(SchemaSyntaxError, match=re.escape(says)):
        split(text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("relation one", "user#one: the relation cannot be read"),
        ("relation one: ", "user#one: a subject type is missing"),
        ("permission one = (two", "user#one: a parenthesis does not close"),
        ("permission one = two +", "user#one: the expression does not end"),
        ("permission one = two )", "user#one: ')' was not expected"),
        ("relation", "user: a relation has no name"),
    ],
)
def test_a_member_that_is_not_the_language_is_an_error_that_names_it(line: str, says: str) -> None:
    with pytest.raises(SchemaSyntaxError, match=re.escape(says)):
        members(split(f"definition user {{\n\t{line}\n}}")[0])


# --- Writing --------------------------------------------------------------------------------------------------------


def test_an_empty_spicedb_gets_the_schema_file_and_a_second_run_finds_nothing_to_do(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = laptop("")
    assert empty.run("--apply") == 0
    assert empty.server.read() == canonical(OURS)
    assert last_line(capsys.readouterr().out) == "written"
    for arguments in ((), ("--apply",)):
        assert empty.run(*arguments) == 0
        assert last_line(capsys.readouterr().out) == "nothing to do"


def test_without_apply_the_difference_is_shown_and_told_by_the_exit_code_and_nothing_is_written(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = laptop("")
    assert empty.run() == EXIT_DIFFERENCE
    assert empty.server.read() == ""
    shown = capsys.readouterr().out
    assert "added      agent_schedule\n" in shown
    assert "    +\trelation creating: registration with expiration\n" in shown


def test_what_belongs_to_others_stays_byte_for_byte(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    shared = laptop(OTHERS + "\ndefinition user {}\n")
    before = shared.server.read()
    assert shared.run("--apply") == 0
    after = shared.server.read()
    theirs = [block.text.strip() for block in split(before) if block.name != "user"]
    assert [text for text in theirs if text in after] == theirs
    assert {"use self", "use expiration"} <= {block.text.strip() for block in split(after)}
    assert "kept       on_network, docs/document (not in the schema file)\n" in capsys.readouterr().out


def test_the_merged_text_keeps_what_a_spicedb_that_stores_texts_verbatim_holds() -> None:
    """Newer servers can return the text as it was written, with its comments, its partials and its order."""
    theirs = (
        "// ours, all of it\nuse partial\n\n"
        + OTHERS.removeprefix("use self\n")
        + "\ndefinition user {} // last\n// end"
    )
    merged = plan(OURS, theirs)
    assert merged.text.endswith("definition registration {}\n")
    assert merged.text.startswith("use expiration\n\n" + theirs)
    assert plan(OURS, merged.text) == merged._replace(
        changes=[], unchanged=["user", "service_account", "agent", "agent_schedule", "trigger_request", "registration"]
    )


def test_a_definition_that_both_have_is_merged_member_by_member(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    """Given another team's user and agent, which have members that ours lack, and lack members of ours."""
    shared = laptop(
        """
        /** theirs */
        definition user {
            // the manager
            relation manager: user
        }
        definition org {
            relation member: user
        }
        definition agent {
            relation org: org
            // who made it
            relation owner: org#member | user
            permission delete = owner + org->member
            permission read = viewer + (owner + editor)
            relation viewer: user | service_account
            relation editor: user | service_account
        }
        definition service_account {}
        """
    )
    assert shared.run("--apply") == 0
    after = shared.server.read()
    agent = next(block.text.strip() for block in split(after) if block.name == "agent")
    assert agent == (
        "definition agent {\n"
        "\trelation org: org\n\n"
        "\t// who made it\n"
        "\trelation owner: org#member | user | service_account\n"
        "\tpermission delete = owner + org->member\n"
        "\tpermission read = viewer + owner + editor\n"
        "\trelation viewer: user | service_account\n"
        "\trelation editor: user | service_account\n"
        "\tpermission update = owner + editor\n"
        "}"
    )
    assert "/** theirs */\ndefinition user {\n\t// the manager\n\trelation manager: user\n}" in after
    shown = capsys.readouterr().out
    assert (
        "    -\trelation owner: org#member | user\n    +\trelation owner: org#member | user | service_account\n"
        in shown
    )
    assert "note       agent#org is only on the server: kept\n" in shown
    assert "note       agent#delete allows more on the server than in the schema file: kept\n" in shown
    assert shared.run() == 0


@pytest.mark.parametrize(
    ("server", "file", "merged"),
    [
        ("relation one: user", "relation one: user:* | user", "relation one: user | user:*"),
        ("relation one: user | user:*", "relation one: user", None),
        ("relation one: user | user with limit", "relation one: user with limit", None),
        ("relation one: user#...", "relation one: user", None),
        ("permission one = two + three", "permission one = (three + two)", None),
        ("permission one = two & three + nil", "permission one = (three + nil) & two", None),
        ("permission one = two + three + user->two", "permission one = user->two + two", None),
    ],
)
def test_a_relation_gets_the_subject_types_of_both_and_a_permission_that_covers_ours_stays(
    server: str, file: str, merged: str | None
) -> None:
    found = plan(one_definition(file), one_definition(server))
    assert found.conflicts == []
    assert found.text == one_definition(merged or server)


def test_what_is_added_brings_its_own_comment_and_not_one_that_stands_apart() -> None:
    ours = (
        "// of the file\n\n// of user\ndefinition user {\n"
        "    // of everything\n\n    // of one\n    /* and\n\n       more */\n    relation one: user // side\n}\n"
    )
    assert plan(ours, "").text == ours.removeprefix("// of the file\n\n")
    assert plan(ours, "definition user {}").text == (
        "definition user {\n\t// of one\n\t/* and\n\n\t   more */\n\trelation one: user // side\n}\n"
    )


@pytest.mark.parametrize(
    ("server", "file"),
    [
        ("permission one = two", "permission one = two + three"),
        ("permission one = two & three", "permission one = two"),
        ("permission one = two - three", "permission one = three - two"),
        ("relation one: user", "relation one: user with limit"),
        ("relation one: user with limit", "relation one: user"),
        ("relation one: user", "permission one = two"),
        ("permission one = two", "relation one: user"),
    ],
)
def test_a_member_that_says_something_else_is_a_conflict_until_it_is_replaced(server: str, file: str) -> None:
    found = plan(one_definition(file), one_definition(server))
    assert found.conflicts == [("user#one", server, file)]
    assert found.text == one_definition(server)
    replaced = plan(one_definition(file), one_definition(server), ["user#one"])
    assert replaced.conflicts == []
    assert replaced.text == one_definition(file)


def one_definition(member: str) -> str:
    return (
        f"definition user {{\n\t// what it is\n\t{member} // side\n\n\trelation two: user\n\trelation three: user\n}}\n"
    )


def test_a_conflict_is_shown_and_refused_and_replace_takes_that_member_alone(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    wider = OURS.replace(
        "permission update = owner + editor\n", "permission update = owner\n\tpermission more = owner\n"
    )
    shared = laptop(wider)
    before = shared.server.read()
    assert shared.run("--apply") == 1
    output = capsys.readouterr()
    assert "conflict   agent#update\n    server: permission update = owner\n" in output.out
    assert last_line(output.err).endswith("to use the schema file: --replace agent#update")
    assert shared.server.read() == before
    assert shared.run("--apply", "--replace", "agent#update") == 0
    after = shared.server.read()
    assert "\tpermission update = owner + editor\n" in after
    assert "\tpermission more = owner\n" in after


def test_a_member_that_the_file_does_not_have_goes_only_when_replace_names_it(
    laptop: Callable[[str], Laptop],
) -> None:
    shared = laptop(
        OURS.replace(
            "permission delete = owner\n", "// old\n\trelation old: user // gone\n\tpermission delete = owner\n"
        )
    )
    assert shared.run("--apply") == 0
    assert "relation old: user" in shared.server.read()
    for _ in range(2):
        assert shared.run("--apply", "--replace", "agent#old") == 0
        assert shared.server.read() == canonical(OURS)


def test_a_caveat_in_other_words_is_a_conflict_until_it_is_replaced() -> None:
    server = 'definition user {}\n\n// theirs\ncaveat limit(text string) {\n\ttext == "a"\n}\n'
    assert plan('caveat limit(text string) { text == "a" } // same', server).changes == []
    ours = 'caveat limit(text string) { text == "b" }'
    assert [conflict.name for conflict in plan(ours, server).conflicts] == ["limit"]
    assert plan(ours, server, ["limit"]).text == "definition user {}\n\n// theirs\n" + ours + "\n"


# --- Refusing -------------------------------------------------------------------------------------------------------


def test_a_relation_with_relationships_is_not_removed(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    shared = laptop(OURS.replace("permission delete = owner\n", "relation old: user | user:*\n"))
    shared.write_relationships(*(f"agent:a{number}#old@user:u" for number in range(4)), "agent:b#owner@user:u")
    before = shared.server.read()
    for arguments in ((), ("--apply",)):
        assert shared.run("--replace", "agent#old", *arguments) == 1
        output = capsys.readouterr()
        assert (
            "orphans    agent#old would orphan 4 relationships: "
            "agent:a0#old@user:u, agent:a1#old@user:u, agent:a2#old@user:u\n"
        ) in output.out
        assert last_line(output.err) == "schema: relationships are in the way: delete them first"
    assert shared.server.read() == before


@pytest.mark.parametrize(
    ("gone", "in_the_way", "demand", "harmless"),
    [
        ("user:*", "agent:a#owner@user:*", "", "agent:a#owner@user:u"),
        ("agent#owner", "agent:a#owner@agent:b#owner", "", "agent:a#owner@agent:b"),
        ("agent", "agent:a#owner@agent:b", "", "agent:a#owner@agent:b#owner"),
        ("user with limit", "agent:a#owner@user:u", "[limit]", "agent:a#owner@user:v"),
        ("user with expiration", "agent:a#owner@user:u", "[expiration]", "agent:a#owner@user:v"),
    ],
)
def test_a_subject_type_with_relationships_is_not_removed(
    laptop: Callable[[str], Laptop],
    capsys: pytest.CaptureFixture[str],
    gone: str,
    in_the_way: str,
    demand: str,
    harmless: str,
) -> None:
    """Given one relationship under the type that goes and one under a type that stays."""
    text = (
        'use expiration\ndefinition user {}\ncaveat limit(text string) { text == "a" }\n'
        "definition agent {\n\trelation owner: %s\n}\n"
    )
    wide = ["user", "user:*", "agent", "agent#owner", "user with limit", "user with expiration"]
    narrow = text % " | ".join(kind for kind in wide if kind != gone)
    shared = laptop(text % " | ".join(wide))
    shared.write_relationships(harmless)
    assert shared.run("--replace", "agent#owner", ours=narrow) == EXIT_DIFFERENCE

    shared.write_relationships(in_the_way + demand)
    capsys.readouterr()
    assert shared.run("--replace", "agent#owner", ours=narrow) == 1
    assert f"orphans    agent#owner: {gone} would orphan 1 relationship: {in_the_way}\n" in capsys.readouterr().out


def test_counting_what_is_in_the_way_goes_on_over_pages_and_stops_at_a_limit(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more relationships that stay than fit in a page, and then as many orphans as are counted."""
    monkeypatch.setattr(schema_server, "COUNT_UP_TO", 5)
    shared = laptop("definition user {}\ndefinition agent {\n\trelation owner: user | user:*\n}\n")
    shared.write_relationships(*(f"agent:a{number}#owner@user:u" for number in range(12)))
    narrow = "definition agent {\n\trelation owner: user\n}\ndefinition user {}\n"
    assert shared.run("--replace", "agent#owner", ours=narrow) == EXIT_DIFFERENCE
    shared.write_relationships("agent:z#owner@user:*")
    assert shared.run("--replace", "agent#owner", ours=narrow) == 1
    assert "would orphan 1 relationship: agent:z#owner@user:*\n" in capsys.readouterr().out
    shared.write_relationships(*(f"agent:y{number}#owner@user:*" for number in range(7)))
    assert shared.run("--replace", "agent#owner", ours=narrow) == 1
    assert "would orphan 5 or more relationships: " in capsys.readouterr().out


def test_what_spicedb_refuses_is_told_in_one_line(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    shared = laptop("definition user {}")
    assert shared.run("--apply", ours="definition agent {\n\trelation owner: nobody\n}\n") == 1
    error = capsys.readouterr().err
    assert error.startswith("schema: SpiceDB refuses the merged schema: ")
    assert error.endswith("object definition `nobody` not found\n")
    assert error.count("\n") == 1


def test_a_schema_that_changes_between_the_reading_and_the_writing_is_left_alone(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = laptop("definition user {}")
    changed_by_others = "definition user {}\n\ndefinition latecomer {}"

    def change_then_read(server: Server) -> str:
        text = read(server)
        shared.server.write(changed_by_others)
        return text

    read = Server.read
    monkeypatch.setattr(Server, "read", change_then_read)
    assert shared.run("--apply") == 1
    assert last_line(capsys.readouterr().err) == "schema: the schema was changed while this ran: run it again"
    monkeypatch.undo()
    assert shared.server.read() == "definition latecomer {}\n\ndefinition user {}"


def test_a_schema_that_is_overwritten_right_after_the_writing_is_noticed(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = laptop("definition user {}")

    def write_then_lose(server: Server, text: str) -> None:
        write(server, text)
        write(server, "definition user {}")

    write = Server.write
    monkeypatch.setattr(Server, "write", write_then_lose)
    assert shared.run("--apply") == 1
    assert "written, but the schema has been changed again since" in capsys.readouterr().err


def test_a_spicedb_that_is_gone_after_the_writing_is_told_as_written(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = laptop("definition user {}")

    def write_then_end(server: Server, text: str) -> None:
        write(server, text)
        shared.engine.stop()

    write = Server.write
    monkeypatch.setattr(Server, "write", write_then_end)
    assert shared.run("--apply") == 1
    assert capsys.readouterr().err.startswith("schema: written, but not read back: cannot reach SpiceDB")
    shared.engine = LocalSpiceDB(0, TOKEN, "")  # for the fixture to stop


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ("definition user {", "the schema file cannot be read: line 1: definition has no closing brace"),
        ("definition user {\n\trelation one user\n}", "the schema file cannot be read: user#one: the relation cannot"),
        ("use expiration\n", "the schema file defines nothing"),
        ("definition user {}\ndefinition user {}", "the schema file defines user twice"),
        ("partial base {}\ndefinition user {}", "the schema file has a partial, base: write out its members"),
        ("caveat user(a int) { a == 1 }", "user is a definition on the server and a caveat in the schema file"),
    ],
)
def test_a_schema_file_that_cannot_be_used_is_one_clear_line(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], ours: str, says: str
) -> None:
    shared = laptop("definition user {}")
    assert shared.run("--apply", ours=ours) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_definition_that_takes_a_partial_on_the_server_is_not_edited() -> None:
    theirs = "use partial\npartial base {\n\trelation owner: user\n}\ndefinition user {\n\t...base\n}\n"
    assert plan("definition user {}", theirs).changes == []
    with pytest.raises(Refused, match="user includes a partial on the server"):
        plan("definition user {\n\trelation owner: user\n}", theirs)


@pytest.mark.parametrize("name", ["agent", "document#reader", "on_network"])
def test_replace_names_only_what_the_schema_file_answers_for(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shared = laptop("definition user {}\ndefinition document {\n\trelation reader: user\n}\n")
    assert shared.run("--replace", name) == 1
    assert capsys.readouterr().err.startswith(f"schema: --replace {name}: not a caveat or definition#member")


# --- The command line -----------------------------------------------------------------------------------------------


def test_a_wrong_token_is_one_clear_line(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = laptop("")
    monkeypatch.setenv("OTHER_TOKEN", "wrong")
    assert shared.run("--apply", "--token-env", "OTHER_TOKEN") == 1
    assert capsys.readouterr().err == (
        f"schema: SpiceDB at {shared.endpoint} does not accept this token (UNAUTHENTICATED)\n"
    )


def test_the_token_may_come_from_a_file_or_a_prompt_and_without_any_it_is_asked_for_in_one_line(
    laptop: Callable[[str], Laptop],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shared = laptop(OURS)
    monkeypatch.delenv("SPICEDB_TOKEN")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert shared.run() == 1
    assert capsys.readouterr().err == "schema: no token: set SPICEDB_TOKEN, or name a file with --token-file\n"
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert shared.run("--token-file", str(file)) == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: TOKEN)
    assert shared.run() == 0


def test_an_endpoint_that_nobody_serves_is_one_clear_line(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    shared = laptop("")
    shared.engine.stop()
    assert shared.run() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"schema: cannot reach SpiceDB at {shared.endpoint}: ")
    assert error.count("\n") == 1
    shared.engine = LocalSpiceDB(0, TOKEN, "")  # for the fixture to stop


def test_a_plaintext_server_spoken_to_with_tls_gets_a_hint(
    laptop: Callable[[str], Laptop], capsys: pytest.CaptureFixture[str]
) -> None:
    shared = laptop("")
    assert main(["--endpoint", shared.endpoint]) == 1
    assert last_line(capsys.readouterr().err).endswith("(without TLS? then pass --insecure)")


def test_it_runs_as_a_command_and_shows_its_exit_codes_in_the_help(laptop: Callable[[str], Laptop]) -> None:
    shared = laptop("")
    command = [sys.executable, "-m", "tools.schema"]
    for arguments, code, says in (
        (["--endpoint", shared.endpoint, "--insecure"], 3, "nothing written: --apply writes it"),
        (["--endpoint", shared.endpoint, "--insecure", "--apply"], 0, "written"),
        (["--help"], 0, "3 without --apply, there is something to write"),
        (["--token", TOKEN], 2, "unrecognized arguments: --token"),
        (["--insecure", "--ca", "ca.pem"], 2, "--ca is for TLS"),
    ):
        done = subprocess.run(
            [*command, *arguments], env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert says in last_line(done.stdout + done.stderr)


class _Stub(grpc.GenericRpcHandler):
    """A SpiceDB that does what the engine cannot do on request: use TLS, and lose the response to a write."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.released = threading.Event()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = call.method.rsplit("/", 1)[1]
        token = next((str(value) for key, value in call.invocation_metadata if key == "authorization"), "")
        self.asked.append((method, token))

        def respond(_request: bytes, _context: grpc.ServicerContext) -> bytes:
            if method == "WriteSchema":
                self.released.wait()
            return ReadSchemaResponse(schema_text="definition user {}").SerializeToString()

        return grpc.unary_unary_rpc_method_handler(respond)


@pytest.fixture
def stub() -> Iterator[tuple[_Stub, grpc.Server]]:
    handler = _Stub()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    yield handler, server
    handler.released.set()
    server.stop(None).wait()


def test_a_private_authority_is_trusted_when_it_is_named_and_only_then(
    stub: tuple[_Stub, grpc.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, server = stub
    key, certificate = self_signed()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certificate)
    monkeypatch.setenv("SPICEDB_TOKEN", "secret")
    assert main(["--endpoint", f"127.0.0.1:{port}"]) == 1
    assert handler.asked == []
    assert main(["--endpoint", f"127.0.0.1:{port}", "--ca", str(ca)]) == EXIT_DIFFERENCE
    assert handler.asked == [("ReadSchema", "Bearer secret")]


def test_a_write_whose_answer_does_not_come_is_told_as_unknown(
    stub: tuple[_Stub, grpc.Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, server = stub
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("SPICEDB_TOKEN", "secret")
    monkeypatch.setattr(schema_server, "RPC_SECONDS", 0.5)
    assert main(["--endpoint", f"127.0.0.1:{port}", "--insecure", "--apply"]) == 1
    assert capsys.readouterr().err == (
        "schema: the response to the write was lost (DEADLINE_EXCEEDED): the schema may be written; run this again\n"
    )


def self_signed() -> tuple[bytes, bytes]:
    """A key and a certificate for 127.0.0.1, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "spicedb")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )
