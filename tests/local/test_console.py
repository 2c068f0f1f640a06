"""How the laptop stack prints, at several widths of a terminal."""

import json
import re

import pytest

from local.stack.console import plain_console, say, say_json, say_table

WIDTHS = [40, 80, 120, 250]
VALUE = {"name": "X" * 60, "nested": {"list": [[1] * 3] * 20, "empty": {}, "text": "é " * 90}, "count": 3}


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The output is a terminal of this width. The fixture gives the length that no line may exceed."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(request.param))
    return min(int(request.param), 120)


def test_no_line_is_longer_than_the_terminal_or_120_columns(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console()

    say(console, "one two " * 40 + "X" * 300, indent=7, hanging=3)
    say_json(console, VALUE)
    say_table(console, [("SpiceDB", ["y" * 90, "short"]), ("Temporal", ["z" * 30])])

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()).count("X") == 360


@pytest.mark.parametrize("columns", WIDTHS)
def test_without_a_terminal_lines_are_up_to_120_columns_and_plain(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    say(plain_console(), "word " * 60, style="bold red")

    first, *others = capsys.readouterr().out.splitlines()
    assert first == "   " + " ".join(["word"] * 23)
    assert {line[:4] for line in others} == {"   w"}


def test_json_is_on_one_line_if_it_fits_and_stays_json_if_it_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": {"name": "n" * 50, "list": [1, 2], "text": "é"}, "b": [{"c": "d" * 50}, {"c": "d" * 50}], "e": {}}

    say_json(plain_console(), {"short": True, "list": []})
    say_json(plain_console(), value)

    flat, *lines = capsys.readouterr().out.splitlines()
    assert flat == '      {"short": true, "list": []}'
    assert lines[:3] == [
        "      {",
        '        "a": {"name": "' + "n" * 50 + '", "list": [1, 2], "text": "é"},',
        '        "b": [',
    ]
    assert json.loads("".join(lines)) == value


def test_a_long_list_is_cut_after_three_items(capsys: pytest.CaptureFixture[str]) -> None:
    say_json(plain_console(), {"times": [1, 2, 3, 4, 5]})

    assert capsys.readouterr().out == '      {"times": [1, 2, 3, "… 2 more"]}\n'
