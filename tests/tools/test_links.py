"""The link check: what counts as a link, which anchors a heading has, and what an error says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.links import ROOT, anchors, links, main


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose links all lead somewhere."""
    (tmp_path / "docs/adr").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Shop\n\n[guide](docs/guide.md#the-first-step), [all](docs/), [top](#shop)\n")
    (tmp_path / "CONTRIBUTING.md").write_text("[here](README.md)\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n")
    (tmp_path / "docs/guide.md").write_text("# Guide\n\n## The first step\n\n[why](adr/0001-why.md)\n")
    (tmp_path / "docs/adr/0001-why.md").write_text("[back](../guide.md#guide)\n")
    return tmp_path


def test_links_that_lead_somewhere_are_no_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(project) == 0
    assert capsys.readouterr().out == "every link leads somewhere\n"


@pytest.mark.parametrize(
    ("name", "link", "says"),
    [
        ("README.md", "[x](docs/gone.md)", "docs/gone.md: there is no such file"),
        ("README.md", "[x](docs/guide.md#gone)", "docs/guide.md#gone: there is no such heading"),
        ("README.md", "[x](#gone)", "#gone: there is no such heading"),
        ("README.md", "[x](docs/#guide)", "docs/#guide: there is no such heading"),
        ("README.md", "[x](../elsewhere.md)", "../elsewhere.md leads out of the project"),
        ("README.md", "[x](/docs/guide.md)", "/docs/guide.md leads out of the project"),
        ("CONTRIBUTING.md", "![x](picture.png)", "picture.png: there is no such file"),
        ("CHANGELOG.md", '[x](docs/gone.md "title")', "docs/gone.md: there is no such file"),
        ("docs/guide.md", "[x]: adr/0002-gone.md", "adr/0002-gone.md: there is no such file"),
        ("docs/adr/0001-why.md", "[x](guide.md)", "guide.md: there is no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_one_line_with_its_place(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, link: str, says: str
) -> None:
    with (project / name).open("a") as document:
        document.write(f"\n{link}\n")
    line = (project / name).read_text().count("\n")

    assert main(project) == 1
    assert capsys.readouterr().err == f"links: {name}:{line}: {says}\n"


def test_every_dead_link_is_reported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "CHANGELOG.md").write_text("[a](gone.md) and [b](lost.md)\n")
    (project / "README.md").unlink()

    assert main(project) == 1
    assert capsys.readouterr().err.splitlines() == [
        "links: README.md:1: cannot be read: No such file or directory",
        "links: CONTRIBUTING.md:1: README.md: there is no such file",
        "links: CHANGELOG.md:1: gone.md: there is no such file",
        "links: CHANGELOG.md:1: lost.md: there is no such file",
    ]


def test_links_elsewhere_are_not_followed(project: Path) -> None:
    (project / "CHANGELOG.md").write_text("[a](https://example.com/x) [b](mailto:a@example.com) [c](//x.org)\n")

    assert main(project) == 0


def test_code_holds_no_links() -> None:
    text = "`[a](b.md)` [c](d.md) ``[e](f.md) ` ``\n```sh\n[g](h.md)\n~~~\n```\n[i](<j k.md>)\n"

    assert list(links(text)) == [(1, "d.md"), (6, "j k.md")]


def test_two_links_on_a_line_are_two() -> None:
    assert list(links("[a](b.md), [c](d.md)")) == [(1, "b.md"), (1, "d.md")]


def test_the_anchor_of_a_heading_is_the_one_that_github_makes() -> None:
    text = """\
# What's new?
## `make check`, and more
## [Linked](x.md) heading ##
## Same
## Same
## Same
## snake_case, and & more
#No heading
```sh
# a comment
```
<a id="by-hand"></a>
"""

    assert anchors(text) == {
        "whats-new",
        "make-check-and-more",
        "linked-heading",
        "same",
        "same-1",
        "same-2",
        "snake_case-and--more",
        "by-hand",
    }


def test_the_projects_own_links_lead_somewhere() -> None:
    assert main(ROOT) == 0


def test_it_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.links"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "every link leads somewhere\n"
