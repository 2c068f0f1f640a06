"""The state table: each state is one row, and everything but the Comment is read from the rest of the state."""

from typing import Any

import pytest

from tools.asl import MachineError
from tools.pages import ROOT
from tools.state_table import table

HEAD = ["| state | what it does | then | on error |", "|---|---|---|---|"]


def rows(**states: dict[str, Any]) -> list[str]:
    lines = table({"StartAt": next(iter(states)), "States": states}).splitlines()
    assert lines[:2] == HEAD
    return lines[2:]


def test_a_task_has_its_function_its_retries_and_every_way_out() -> None:
    task = {
        "Comment": "Reserves the goods.",
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "${StockReserveFunctionArn}"},
        "Retry": [{"ErrorEquals": ["Busy"], "MaxAttempts": 2}],
        "Catch": [
            {"ErrorEquals": ["Invalid", "SoldOut"], "Next": "Refused"},
            {"ErrorEquals": ["States.ALL"], "Next": "Release"},
        ],
        "Next": "Outcome",
    }

    assert rows(Reserve=task) == [
        "| **Reserve**<br/>functions/stock_reserve | Reserves the goods. | Outcome "
        "| retried up to 2 times<br/>`Invalid`, `SoldOut`: Refused<br/>any other error: Release |"
    ]


def test_a_choice_says_when_each_way_is_taken() -> None:
    choice = {
        "Comment": "Decides.",
        "Type": "Choice",
        "Choices": [
            {"Variable": "$.a.outcome", "StringEquals": "reserved", "Next": "Done"},
            {"Variable": "$.a.count", "NumericGreaterThan": 0, "Next": "Done"},
            {"Variable": "$.a.is_late", "BooleanEquals": True, "Next": "Release"},
        ],
        "Default": "Refused",
    }

    assert rows(Outcome=choice) == [
        "| **Outcome** | Decides. "
        "| outcome is reserved or count &gt; 0: Done<br/>is_late: Release<br/>otherwise: Refused |  |"
    ]


@pytest.mark.parametrize(
    ("state", "end"),
    [
        ({"Type": "Succeed"}, "*success*"),
        ({"Type": "Pass", "End": True}, "*success*"),
        ({"Type": "Fail", "Error": "Refused"}, "*failure*"),
    ],
)
def test_an_end_is_a_success_or_a_failure(state: dict[str, Any], end: str) -> None:
    assert rows(Last={"Comment": "Ends.", **state}) == [f"| **Last** | Ends. | {end} |  |"]


def one(name: str, **last: Any) -> dict[str, Any]:
    return {"StartAt": name, "States": {name: {"Comment": f"Does {name}.", **last}}}


def test_the_states_of_a_map_follow_it_and_end_it_alone() -> None:
    for_all = {
        "Comment": "Mends all.",
        "Type": "Map",
        "ItemProcessor": one("Mend", Type="Succeed"),
        "End": True,
    }

    assert rows(ForAll=for_all) == [
        "| **ForAll** | Mends all. | *success* |  |",
        "| **Mend** | Does Mend. | *end of ForAll* |  |",
    ]


def test_the_states_of_every_branch_follow_their_parallel_state_and_end_it_alone() -> None:
    branches = [one("Left", Type="Pass", End=True), one("Right", Type="Fail"), one("Both", Type="Pass", Next="Left")]
    both = {"Comment": "Does both.", "Type": "Parallel", "Branches": branches, "Next": "Done"}

    assert rows(Finish=both, Done={"Comment": "Ends.", "Type": "Succeed"}) == [
        "| **Finish** | Does both. | Done |  |",
        "| **Left** | Does Left. | *end of Finish* |  |",
        "| **Right** | Does Right. | *failure* |  |",
        "| **Both** | Does Both. | Left |  |",
        "| **Done** | Ends. | *success* |  |",
    ]


def test_each_retry_rule_is_counted_for_itself() -> None:
    rules = [{"ErrorEquals": ["Lost"], "MaxAttempts": 1}, {"ErrorEquals": ["Busy"], "MaxAttempts": 2}]
    task = {"Comment": "Works.", "Type": "Task", "Resource": "arn:aws:states:::x", "Retry": rules, "End": True}

    assert rows(Work=task) == ["| **Work**<br/>x | Works. | *success* | retried up to 3 times |"]


def test_a_comment_cannot_break_the_table() -> None:
    state = {"Comment": "Takes a|b, <b> and *c*.", "Type": "Succeed"}

    assert rows(Odd=state) == ["| **Odd** | Takes a\\|b, &lt;b&gt; and \\*c\\*. | *success* |  |"]


@pytest.mark.parametrize("comment", [{}, {"Comment": " "}, {"Comment": "One.\nTwo."}, {"Comment": 7}])
def test_a_state_without_a_one_line_comment_is_refused_by_name(comment: dict[str, Any]) -> None:
    with pytest.raises(MachineError, match=r"^Bare: its Comment has to be one line"):
        rows(Bare={"Type": "Succeed", **comment})


def test_the_comments_are_written_down_nowhere_else() -> None:
    """The page has each Comment once for each machine, inside of the generated table."""
    page = (ROOT / "docs/machines.md").read_text()
    generated = [part.partition("<!-- /states:")[0] for part in page.split("<!-- states:")[1:]]

    assert len(generated) == len(list((ROOT / "statemachine").glob("*.asl.json")))
    assert all("| **Accept** |" in part for part in generated)
    assert page.count("| **Accept** |") == len(generated)
