"""What the plots are drawn with: a white page in SVG, and words on it."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

_FONT_SIZE = 12


def page(width: int, height: int, parts: Iterable[str]) -> str:
    """An SVG file with these elements, one a line."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="{_FONT_SIZE}"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = _FONT_SIZE
) -> str:
    """An element with words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">'
        f"{escape(words)}</text>"
    )
