"""Reads SpiceDB's schema language, as far as the merge of two schemas needs it.

SpiceDB can reflect and compare schemas, but it cannot merge them, and its reflection has no positions. `split` cuts a
text into its top-level statements, and `members` cuts a definition into its relations and permissions. Both return
positions, so that an edit leaves the text around it byte for byte.
"""

from __future__ import annotations

import codecs
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SchemaSyntaxError(ValueError):
    """The text is not the schema language, or a part of it that is not supported here. The message says where."""


class Block(NamedTuple):
    """A top-level statement, together with the text before it."""

    kind: str  # use, import, definition, partial or caveat; empty for the text after the last one
    name: str  # for a `use`, the flag
    text: str
    head: int  # the position of its keyword in `text`


class SubjectType(NamedTuple):
    """One subject type of a relation."""

    type: str  # user, user:* or group#member
    demands: str  # empty, or what follows `with`: "expiration", "my_caveat", "my_caveat and expiration"

    def __str__(self) -> str:
        return f"{self.type} with {self.demands}" if self.demands else self.type


class Expression(NamedTuple):
    """A permission's expression. Two expressions that differ only in order, parentheses or repetition are equal."""

    operator: str  # + or &; empty for a single operand
    operands: frozenset[str]

    def __str__(self) -> str:
        joined = f" {self.operator} ".join(sorted(self.operands))
        return f"({joined})" if self.operator else joined

    def seen_as(self, operator: str) -> frozenset[str]:
        """Its operands if this is its operator; otherwise the expression itself as the only operand."""
        return self.operands if self.operator in {"", operator} else frozenset({str(self)})


class Member(NamedTuple):
    """A relation, a permission or a `...partial` of a definition. The offsets are into the block's text."""

    kind: str  # relation, permission or "..."
    name: str
    start: int  # the beginning of the first line, its comment included
    core: int  # its keyword
    core_end: int
    end: int  # after the semicolon and the comment on its last line
    subjects: tuple[SubjectType, ...]  # of a relation
    expression: Expression | None  # of a permission


class _Token(NamedTuple):
    text: str
    start: int
    end: int


_TOKEN = re.compile(
    r"""
    (?P<space> \s+ )
  | (?P<comment> //[^\r\n]* | /\*.*?\*/ )
  | (?P<token> \w+ | -> | \.\.\.
             | \"\"\"(?:\\.|[^\\])*?\"\"\" | '''(?:\\.|[^\\])*?''' | "(?:\\.|[^"\\\r\n])*" | '(?:\\.|[^'\\\r\n])*'
             | (?!/\*)[^\w\s"'] )
    """,
    re.VERBOSE | re.DOTALL,
)
_REST_OF_LINE = re.compile(r"[ \t]*(?://[^\r\n]*)?")


def read_schema(file: Path) -> str:
    """A schema file's text, without a byte-order mark: UTF-8, or UTF-16 where a byte-order mark says so.

    Raises OSError or UnicodeDecodeError.
    """
    content = file.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def split(text: str) -> list[Block]:
    """Cut a schema into its top-level statements. Their texts, joined, are `text` again. Raises SchemaSyntaxError."""
    tokens = _tokens(text)
    blocks: list[Block] = []
    start = index = 0
    while index < len(tokens):
        keyword = tokens[index]
        if keyword.text in {"use", "import"}:
            last = index + 1
        elif keyword.text in {"definition", "partial", "caveat"}:
            last = _closing_brace(text, tokens, index)
        else:
            raise SchemaSyntaxError(f"line {_line(text, keyword.start)}: no statement begins with {keyword.text!r}")
        if last >= len(tokens):
            raise SchemaSyntaxError(f"line {_line(text, keyword.start)}: {keyword.text} has no name")
        name = _name(tokens, index + 1)
        if last + 1 < len(tokens) and tokens[last + 1].text == ";":
            last += 1
        end = _end_of_line(text, tokens[last].end)
        blocks.append(Block(keyword.text, name, text[start:end], keyword.start - start))
        start, index = end, last + 1
    if start < len(text):
        blocks.append(Block("", "", text[start:], len(text) - start))
    return blocks


def members(block: Block) -> list[Member]:
    """The members of a definition or partial, in their order. Raises SchemaSyntaxError.

    `relation` and `permission` are reserved words, so each of them begins a member.
    """
    tokens = _tokens(block.text)
    opening = next(at for at, token in enumerate(tokens) if token.text == "{")
    closing = _closing_brace(block.text, tokens, opening)
    starts = [
        at
        for at in range(opening + 1, closing)
        if tokens[at].text in {"relation", "permission"}
        or (tokens[at].text == "..." and tokens[at - 1].text != "#")  # `user#...` is the long form of `user`
    ]
    found: list[Member] = []
    previous_end = _end_of_line(block.text, tokens[opening].end)
    for at, following in pairwise([*starts, closing]):
        body = [token for token in tokens[at:following] if token.text != ";"]
        if len(body) < 2:
            raise SchemaSyntaxError(f"{block.name}: a {body[0].text} has no name")
        kind, name = body[0].text, body[1].text
        subjects, expression = _meaning(f"{block.name}#{name}", kind, [token.text for token in body[2:]])
        start = comment_start(block.text, previous_end, body[0].start)
        end = _end_of_line(block.text, tokens[following - 1].end)
        found.append(Member(kind, name, start, body[0].start, body[-1].end, end, subjects, expression))
        previous_end = end
    return found


def body_end(block: Block) -> int:
    """The position of the closing brace in a definition's text."""
    tokens = _tokens(block.text)
    return tokens[_closing_brace(block.text, tokens, 0)].start


def words(text: str) -> list[str]:
    """The tokens of a text, without comments and blanks. Raises SchemaSyntaxError."""
    return [token.text for token in _tokens(text)]


def comment_start(text: str, previous_end: int, head: int) -> int:
    """The position of the comment of the statement at `head`; the previous statement ends at `previous_end`.

    A comment with a blank line after it belongs to no statement. Without a comment it is the beginning of the line.
    """
    start = at = previous_end
    while at < head and (match := _TOKEN.match(text, at)):
        newlines = match[0].count("\n") if match["space"] else 0
        if newlines > 1 or (newlines and at == previous_end):
            start = at + match[0].rindex("\n") + 1
        at = match.end()
    return start


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SchemaSyntaxError(f"line {_line(text, at)}: a string or comment does not end")
        if match["token"]:
            found.append(_Token(match["token"], match.start(), match.end()))
        at = match.end()
    return found


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _end_of_line(text: str, at: int) -> int:
    match = _REST_OF_LINE.match(text, at)
    return match.end() if match else at


def _name(tokens: list[_Token], index: int) -> str:
    """The name that begins at a token: one word, or several with slashes between them."""
    name = tokens[index].text
    while index + 2 < len(tokens) and tokens[index + 1].text == "/":
        index += 2
        name += "/" + tokens[index].text
    return name


def _closing_brace(text: str, tokens: list[_Token], index: int) -> int:
    """The index of the token that closes the first brace at or after `index`."""
    depth = 0
    for at in range(index, len(tokens)):
        if tokens[at].text == "{":
            depth += 1
        elif tokens[at].text == "}":
            depth -= 1
            if depth == 0:
                return at
    raise SchemaSyntaxError(f"line {_line(text, tokens[index].start)}: {tokens[index].text} has no closing brace")


def _meaning(where: str, kind: str, body: list[str]) -> tuple[tuple[SubjectType, ...], Expression | None]:
    try:
        if kind == "relation" and body[:1] == [":"]:
            return tuple(_subjects(body[1:])), None
        if kind == "permission" and "=" in body:  # type annotations come before it; they change no result
            return (), _ExpressionReader(body[body.index("=") + 1 :]).read()
        if kind == "...":
            return (), None
    except SchemaSyntaxError as error:
        raise SchemaSyntaxError(f"{where}: {error}") from None
    raise SchemaSyntaxError(f"{where}: the {kind} cannot be read")


def _subjects(body: list[str]) -> Iterator[SubjectType]:
    alternative: list[str] = []
    for word in [*body, "|"]:
        if word != "|":
            alternative.append(word)
            continue
        end = alternative.index("with") if "with" in alternative else len(alternative)
        type_ = "".join(alternative[:end]).removesuffix("#...")
        if not type_:
            raise SchemaSyntaxError("a subject type is missing")
        yield SubjectType(type_, " ".join(alternative[end + 1 :]).replace(" / ", "/"))
        alternative = []


class _ExpressionReader:
    """Reads one permission expression. `+` binds tightest, then `&`, then `-`, as in SpiceDB's own parser."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def read(self) -> Expression:
        found = self._exclusion()
        if self._at < len(self._tokens):
            raise SchemaSyntaxError(f"{self._tokens[self._at]!r} was not expected")
        return found

    def _exclusion(self) -> Expression:
        found = self._intersection()
        while self._accept("-"):
            found = _single(f"({found} - {self._intersection()})")
        return found

    def _intersection(self) -> Expression:
        found = [self._union()]
        while self._accept("&"):
            found.append(self._union())
        return _joined("&", found)

    def _union(self) -> Expression:
        found = [self._operand()]
        while self._accept("+"):
            found.append(self._operand())
        return _joined("+", found)

    def _operand(self) -> Expression:
        if self._accept("("):
            inner = self._exclusion()
            if not self._accept(")"):
                raise SchemaSyntaxError("a parenthesis does not close")
            return inner
        word = self._next()
        while self._accept("->"):
            word += "->" + self._next()
        while self._accept("."):
            word += "." + "".join(self._next() for _ in range(4))  # any(name) or all(name)
        return _single(word)

    def _accept(self, token: str) -> bool:
        accepted = self._tokens[self._at : self._at + 1] == [token]
        self._at += accepted
        return accepted

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise SchemaSyntaxError("the expression does not end")
        self._at += 1
        return self._tokens[self._at - 1]


def _single(operand: str) -> Expression:
    return Expression("", frozenset({operand}))


def _joined(operator: str, expressions: list[Expression]) -> Expression:
    operands = frozenset[str]().union(*(expression.seen_as(operator) for expression in expressions))
    if len(operands) > 1:
        return Expression(operator, operands)
    return expressions[0]
