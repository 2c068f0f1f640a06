"""What is made of the figures of a measurement."""

import json
from pathlib import Path
from xml.etree import ElementTree

from tools.figures import machine, report
from tools.figures.figure import Figure, compared, exact, rounds


def test_a_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    figure = compared("part", "what", "s", [1.0, 20.0, 3.0], "other", [2.0, 10.0, 6.0])

    assert (figure.value, figure.base) == (3.0, 6.0)
    assert figure.ratio == (0.5, 0.5, 1.25)
    assert figure.rounds == 3


def test_every_round_measures_every_side_once_in_an_order_of_its_own() -> None:
    order: list[str] = []

    def side(name: str) -> dict[str, float]:
        order.append(name)
        return {"seconds": float(len(order))}

    found = rounds(8, {name: lambda name=name: side(name) for name in "abc"}, "title")  # type: ignore[misc] # mypy knows no default in a lambda

    assert {name: len(values["seconds"]) for name, values in found.items()} == {"a": 8, "b": 8, "c": 8}
    assert [sorted(order[begin : begin + 3]) for begin in range(0, 24, 3)] == [["a", "b", "c"]] * 8
    assert len({tuple(order[begin : begin + 3]) for begin in range(0, 24, 3)}) > 1


def figures(part: str, value: float) -> list[Figure]:
    return [
        exact(part, "size of <this>", "MB", value, "before", 2.0),
        compared(part, "time", "s", [value] * 3, "bare & plain", [1.0, 2.0, 4.0]),
        exact(part, "calls", "calls", 4),
    ]


def test_a_part_that_is_measured_again_replaces_itself_and_no_other(tmp_path: Path) -> None:
    described = machine.described()
    report.write(tmp_path, {"one": described}, figures("one", 1.0))
    report.write(tmp_path, {"two": described}, figures("two", 2.0))
    report.write(tmp_path, {"one": {**described, "processor": "another"}}, figures("one", 3.0))

    results = json.loads((tmp_path / "results.json").read_text())

    assert [(each["part"], each["value"]) for each in results["figures"] if each["unit"] == "MB"] == [
        ("one", 3.0),
        ("two", 2.0),
    ]
    assert results["machines"]["one"]["processor"] == "another"
    assert results["machines"]["two"] == described


def test_a_plot_shows_every_figure_that_has_a_baseline(tmp_path: Path) -> None:
    report.write(tmp_path, {"one": machine.described()}, figures("one", 1.0))

    plot = ElementTree.parse(tmp_path / "one.svg").getroot()  # noqa: S314 - our own
    text = " ".join("".join(each.itertext()) for each in plot)

    assert all(words in text for words in ("size of <this>", "×0.50", "against before", "against bare & plain"))
    assert "calls" not in text


def test_the_table_shows_the_quartiles_of_rounds_and_one_ratio_of_what_is_exact() -> None:
    lines = report.table(figures("one", 1.0)).splitlines()

    assert lines[2] == "| one | size of <this> | 1 MB | 2 MB, before | ×0.50 | 1 |"
    assert lines[3] == "| one | time | 1 s | 2 s, bare & plain | ×0.50 (0.38–0.75) | 3 |"
    assert lines[4] == "| one | calls | 4 calls |  |  | 1 |"
