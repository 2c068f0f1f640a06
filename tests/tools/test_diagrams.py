"""The diagrams of the state machines: what a diagram says, and how it gets into docs/machines.md."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.machines import states_of
from tools import limits_table
from tools.diagrams import draw, main
from tools.pages import ROOT, DocumentError, embed
from tools.state_table import table

TRANSIENT = {"ErrorEquals": ["Busy", "States.Timeout"], "MaxAttempts": 2}
ORDER: dict[str, Any] = {
    "Comment": "Neither drawn nor in the table.",
    "StartAt": "Reserve",
    "States": {
        "Reserve": {
            "Comment": "Reserves the goods.",
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "${StockReserveFunctionArn}"},
            "Retry": [TRANSIENT],
            "Catch": [
                {"ErrorEquals": ["Invalid", "SoldOut"], "Next": "Refused"},
                {"ErrorEquals": ["States.ALL"], "Next": "Release"},
            ],
            "Next": "Outcome",
        },
        "Outcome": {
            "Comment": "Decides what to do with the goods.",
            "Type": "Choice",
            "Choices": [
                {
                    "Or": [
                        {"Variable": "$.reserve.outcome", "StringEquals": "reserved"},
                        {"Variable": "$.reserve.outcome", "StringEquals": "known"},
                    ],
                    "Next": "Done",
                },
                {"Variable": "$.reserve.late", "BooleanEquals": True, "Next": "Release"},
            ],
            "Default": "Refused",
        },
        "Release": {
            "Comment": "Releases the goods.",
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage",
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Refused"}],
            "Next": "Note",
        },
        "Note": {"Comment": "Writes a note.", "Type": "Pass", "Next": "Refused"},
        "Done": {"Comment": "Ends with success.", "Type": "Pass", "End": True},
        "Refused": {"Comment": "Ends with failure.", "Type": "Fail", "Error": "Refused"},
    },
}
DRAWN = """\
flowchart TD
    start_((" ")):::start
    Reserve["Reserve<br/>functions/stock_reserve<br/>retried up to 2 times"]:::task
    Outcome{{"Outcome"}}:::choice
    Release["Release<br/>sqs:sendMessage"]:::task
    Note("Note"):::pass
    Done(["Done"]):::done
    Refused(["Refused"]):::failed
    start_ --> Reserve
    Reserve --> Outcome
    Reserve -.->|"Invalid<br/>SoldOut"| Refused
    Reserve -.->|"any other error"| Release
    Outcome -->|"outcome is reserved or known"| Done
    Outcome -->|"late"| Release
    Outcome -->|"otherwise"| Refused
    Release --> Note
    Release -.->|"any error"| Refused
    Note --> Refused
"""

DIAGRAM_PLACE = "<!-- diagram:order -->\n<!-- /diagram:order -->\n"
TABLE_PLACE = "<!-- states:order -->\n<!-- /states:order -->\n"
LIMITS_PLACE = "<!-- limits -->\n<!-- /limits -->\n"
PAGE = f"# Shop\n\n{DIAGRAM_PLACE}\nMore.\n\n{TABLE_PLACE}\n{LIMITS_PLACE}\nThe end.\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one state machine and a page that has places for its diagram and its state table."""
    (tmp_path / "statemachine").mkdir()
    (tmp_path / "statemachine/order.asl.json").write_text(json.dumps(ORDER))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/machines.md").write_text(PAGE)
    return tmp_path


def page(project: Path) -> str:
    return (project / "docs/machines.md").read_text()


def with_state(name: str, **changes: Any) -> dict[str, Any]:
    machine = copy.deepcopy(ORDER)
    machine["States"][name].update(changes)
    return machine


def edges(diagram: str, source: str) -> list[str]:
    return [line.strip() for line in diagram.splitlines() if line.startswith(f"    {source} -")]


def test_each_state_is_one_box_and_each_way_to_another_state_is_one_edge_with_its_reason() -> None:
    diagram = draw(ORDER)
    assert diagram[: len(DRAWN)] == DRAWN
    assert {line.split()[0] for line in diagram[len(DRAWN) :].splitlines()} == {"classDef"}


def test_the_same_machine_is_always_drawn_the_same() -> None:
    assert draw(copy.deepcopy(ORDER)) == draw(ORDER)


def test_catches_of_one_state_that_lead_to_the_same_place_are_one_edge() -> None:
    diagram = draw(
        with_state(
            "Release",
            Catch=[
                {"ErrorEquals": ["Late"], "Next": "Refused"},
                {"ErrorEquals": ["Lost"], "Next": "Note"},
                {"ErrorEquals": ["Late", "States.ALL"], "ResultPath": "$.error", "Next": "Refused"},
            ],
        )
    )
    assert edges(diagram, "Release") == [
        "Release --> Note",
        'Release -.->|"Late<br/>any other error"| Refused',
        'Release -.->|"Lost"| Note',
    ]


def test_rules_of_one_choice_that_lead_to_the_same_place_are_one_edge() -> None:
    diagram = draw(
        with_state(
            "Outcome",
            Choices=[
                {"Variable": "$.late", "BooleanEquals": True, "Next": "Refused"},
                {"Variable": "$.lost", "BooleanEquals": True, "Next": "Refused"},
            ],
        )
    )
    assert edges(diagram, "Outcome") == ['Outcome -->|"late<br/>or lost<br/>or otherwise"| Refused']


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"Variable": "$.a.paid", "BooleanEquals": True}, "paid"),
        ({"Variable": "$.a.paid", "BooleanEquals": False}, "not paid"),
        ({"Variable": "$.a.paid", "BooleanEqualsPath": "$.b.due"}, "paid is due"),
        ({"Variable": "$.state", "StringEquals": "new"}, "state is new"),
        ({"Variable": "$.state", "StringEqualsPath": "$.b.other"}, "state is other"),
        ({"Variable": "$.a.state", "StringEqualsPath": "$.b.state"}, "a.state is b.state"),
        ({"Variable": "$.state", "StringMatches": "n*"}, "state matches n*"),
        ({"Variable": "$.count", "NumericLessThan": 3}, "count #lt; 3"),
        ({"Variable": "$.count", "NumericGreaterThanEquals": 3}, "count #gt;= 3"),
        ({"Variable": "$.at", "TimestampLessThanPath": "$.until"}, "at #lt; until"),
        ({"Variable": "$.lease", "IsPresent": True}, "lease is present"),
        ({"Variable": "$.lease", "IsNull": False}, "lease is not null"),
        ({"Not": {"Variable": "$.paid", "BooleanEquals": True}}, "not paid"),
        ({"Not": {"Variable": "$.lease", "IsNull": True}}, "not (lease is null)"),
        (
            {
                "And": [
                    {"Variable": "$.paid", "BooleanEquals": True},
                    {"Or": [{"Variable": "$.x", "StringEquals": "a"}, {"Variable": "$.y", "StringEquals": "b"}]},
                ]
            },
            "paid and (x is a or y is b)",
        ),
        ({"Variable": "$.title", "StringEquals": '#1 "best"'}, "title is #35;1 #quot;best#quot;"),
    ],
)
def test_a_condition_is_written_in_short_words(rule: dict[str, Any], words: str) -> None:
    diagram = draw(with_state("Outcome", Choices=[{**rule, "Next": "Done"}]))
    assert edges(diagram, "Outcome")[0] == f'Outcome -->|"{words}"| Done'


def test_map_and_parallel_are_frames_around_their_states_which_do_not_end_the_execution() -> None:
    def one(name: str, **last: Any) -> dict[str, Any]:
        return {"StartAt": name, "States": {name: last or {"Type": "Succeed"}}}

    machine = {
        "StartAt": "For all",
        "States": {
            "For all": {"Type": "Map", "ItemProcessor": one("Mend"), "Next": "Both", "Catch": []},
            "Both": {
                "Type": "Parallel",
                "Branches": [one("Left"), one("Right", Type="Pass", End=True)],
                "Next": "Done",
            },
            "Done": {"Type": "Pass", "End": True},
        },
    }
    assert draw(machine).startswith("""\
flowchart TD
    start_((" ")):::start
    subgraph For_all["For all: for each item"]
        direction TB
        start_of_For_all((" ")):::start
        Mend(["Mend"]):::pass
        start_of_For_all --> Mend
    end
    subgraph Both["Both: side by side"]
        direction TB
        start_of_Both_1((" ")):::start
        Left(["Left"]):::pass
        start_of_Both_1 --> Left
        start_of_Both_2((" ")):::start
        Right("Right"):::pass
        start_of_Both_2 --> Right
    end
    Done(["Done"]):::done
    start_ --> For_all
    For_all --> Both
    Both --> Done
""")


def test_names_that_mermaid_reserves_are_drawn_too() -> None:
    machine = {
        "StartAt": "end",
        "States": {
            "end": {"Type": "Wait", "Seconds": 1, "Next": 'say "hi"'},
            'say "hi"': {
                "Type": "Task",
                "Resource": "arn:aws:states:::x",
                "Retry": [{"ErrorEquals": ["A"]}],
                "End": True,
            },
        },
    }
    diagram = draw(machine)
    assert 'end_("end"):::pass' in diagram
    assert 'say__hi_["say #quot;hi#quot;<br/>x<br/>retried up to 3 times"]:::done' in diagram
    assert edges(diagram, "end_") == ["end_ --> say__hi_"]


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (with_state("Note", Next="Nowhere"), "Note leads to Nowhere, which does not exist"),
        (with_state("Note", Type="Magic"), "Note: the type 'Magic' is unknown"),
        (with_state("Outcome", Choices=[{"Odd": 1, "Next": "Done"}]), "Outcome: the condition"),
        (with_state("Note", Comment=""), "Note: its Comment has to be one line that says what the state does"),
        (with_state("Note", Comment="One.\nTwo."), "Note: its Comment has to be one line"),
        (with_state("Note", Comment=None), "Note: its Comment has to be one line"),
        ({"States": {}}, "not the States Language: KeyError('StartAt')"),
    ],
)
def test_a_machine_that_cannot_be_read_is_one_clear_line(
    project: Path, capsys: pytest.CaptureFixture[str], machine: dict[str, Any], says: str
) -> None:
    (project / "statemachine/order.asl.json").write_text(json.dumps(machine))
    assert main([], root=project) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"diagrams: statemachine/order.asl.json: {says}")
    assert error.count("\n") == 1


def test_the_generated_parts_go_between_their_markers_and_nothing_else_changes(project: Path) -> None:
    assert main([], root=project) == 0
    assert page(project) == (
        f"# Shop\n\n<!-- diagram:order -->\n```mermaid\n{draw(ORDER)}```\n<!-- /diagram:order -->\n\nMore.\n\n"
        f"<!-- states:order -->\n\n{table(ORDER)}\n<!-- /states:order -->\n\n"
        f"<!-- limits -->\n\n{limits_table.table()}\n<!-- /limits -->\n\nThe end.\n"
    )


def test_writing_again_changes_nothing_and_check_agrees(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([], root=project)
    written = page(project)
    capsys.readouterr()
    assert main([], root=project) == 0
    assert main(["--check"], root=project) == 0
    assert page(project) == written
    assert capsys.readouterr().out == "docs/machines.md is up to date\n" * 2


@pytest.mark.parametrize("change", [{"Type": "Succeed"}, {"Comment": "Writes another note."}])
def test_check_finds_a_stale_part_and_leaves_it_as_it_is(
    project: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str]
) -> None:
    main([], root=project)
    written = page(project)
    (project / "statemachine/order.asl.json").write_text(json.dumps(with_state("Note", **change)))
    capsys.readouterr()
    assert main(["--check"], root=project) == 1
    assert capsys.readouterr().err == (
        "diagrams: docs/machines.md is stale: `make docs` writes its generated parts again\n"
    )
    assert page(project) == written
    assert main([], root=project) == 0
    assert main(["--check"], root=project) == 0


@pytest.mark.parametrize("kind", ["diagram", "states"])
@pytest.mark.parametrize(
    "place",
    [
        "",
        "<!-- {kind}:order -->\n",
        "<!-- /{kind}:order -->\n<!-- {kind}:order -->\n",
        "<!-- {kind}:order -->\n<!-- {kind}:order -->\n<!-- /{kind}:order -->\n",
    ],
    ids=["none", "no end", "the end first", "two beginnings"],
)
def test_a_missing_or_doubled_marker_is_an_error_and_the_page_stays(
    project: Path, capsys: pytest.CaptureFixture[str], kind: str, place: str
) -> None:
    whole = f"<!-- {kind}:order -->\n<!-- /{kind}:order -->\n"
    broken = PAGE.replace(whole, place.format(kind=kind))
    (project / "docs/machines.md").write_text(broken)
    for arguments in ([], ["--check"]):
        assert main(arguments, root=project) == 1
        assert capsys.readouterr().err == (
            f"diagrams: docs/machines.md needs the lines <!-- {kind}:order --> and <!-- /{kind}:order --> "
            "once each, in this order\n"
        )
    assert page(project) == broken


def test_a_place_for_a_machine_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(DocumentError, match=r"statemachine/order\.asl\.json does not exist"):
        embed(PAGE, {}, "docs/machines.md")


def test_a_missing_page_is_one_clear_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs/machines.md").unlink()
    assert main([], root=project) == 1
    assert capsys.readouterr().err == "diagrams: docs/machines.md: No such file or directory\n"


def test_every_state_of_the_shipped_machines_is_in_its_diagram() -> None:
    files = sorted((ROOT / "statemachine").glob("*.asl.json"))
    assert files
    for file in files:
        machine = json.loads(file.read_text())
        boxes = [line.strip() for line in draw(machine).splitlines()]
        for name, _ in states_of(machine):
            assert [box for box in boxes if f'"{name}' in box], f"{name} of {file.name}"


def test_it_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.diagrams", "--help"], capture_output=True, text=True, check=True
    )
    assert "--check" in done.stdout
