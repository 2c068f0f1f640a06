"""Checks the links of the documents: `python -m tools.links`.

Every relative link and every anchor in README.md, CONTRIBUTING.md, CHANGELOG.md and docs/**/*.md has to lead to a file
of the project, and to a heading of it. Links with a scheme (https:, mailto:) are not followed. Code is not read.

Exit codes: 0 every link leads somewhere; 1 at least one does not. Each error is one line with file and line number.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
# `[text](target "title")`, the same for images, and `[name]: target`.
_INLINE = re.compile(r"\]\(\s*(<[^>]*>|[^\s)]+)(?:\s+[^)]*)?\)")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:\s*(<[^>]*>|\S+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_EXPLICIT_ANCHOR = re.compile(r"""<a\s+(?:id|name)=["']([^"']+)["']""")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced code, each with its number."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif match:
            fence = match[1]
        else:
            yield number, line


def links(text: str) -> Iterator[tuple[int, str]]:
    """The targets of a Markdown document's links, each with the number of its line."""
    for number, line in _lines(text):
        prose = _CODE.sub("", line)
        for match in (*_INLINE.finditer(prose), *_DEFINITION.finditer(prose)):
            yield number, match[1].strip("<>")


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown document as GitHub makes them, from its headings and `<a id="…">`."""
    found: dict[str, int] = {}
    explicit: set[str] = set()
    for _, line in _lines(text):
        explicit.update(_EXPLICIT_ANCHOR.findall(line))
        if heading := _HEADING.fullmatch(line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            seen = found.get(slug, 0)
            found[slug] = seen + 1
            if seen:  # GitHub numbers a repeated heading from its second occurrence on
                found[f"{slug}-{seen}"] = 1
    return explicit | found.keys()


@cache
def _anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text(encoding="utf-8"))


def _wrong(document: Path, target: str, root: Path) -> str:
    """What is wrong with a link's target; empty if nothing is."""
    path, _, anchor = unquote(target).partition("#")
    file = (document.parent / path).resolve() if path else document
    if not file.is_relative_to(root):
        return f"{target} leads out of the project"
    if not file.exists():
        return f"{target}: there is no such file"
    if anchor and (file.suffix != ".md" or anchor not in _anchors_of(file)):
        return f"{target}: there is no such heading"
    return ""


def problems(root: Path) -> Iterator[str]:
    """A line for each document that is missing and each link that leads nowhere: `file:line: what is wrong`."""
    root = root.resolve()
    for document in [*(root / name for name in DOCUMENTS), *sorted((root / "docs").rglob("*.md"))]:
        name = document.relative_to(root)
        try:
            text = document.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name}:1: cannot be read: {error.strerror if isinstance(error, OSError) else error.reason}"
            continue
        for number, target in links(text):
            if not _SCHEME.match(target) and (wrong := _wrong(document, target, root)):
                yield f"{name}:{number}: {wrong}"


def main(root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    found = list(problems(root))
    for problem in found:
        print(f"links: {problem}", file=sys.stderr)
    if not found:
        print("every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
