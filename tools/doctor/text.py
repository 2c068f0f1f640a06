"""Text for a terminal."""

from datetime import datetime, timedelta

from saga_core import ids


def plain(text: str) -> str:
    """The text with every character that does not print, such as a terminal's escape, written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def age(since: datetime, now: datetime) -> str:
    """How long ago it was, in its two largest units: ``3 d 4 h``."""
    left = max(int((now - since) / timedelta(seconds=1)), 0)
    parts = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, seconds)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or "0 s"


def owner(subject: str) -> str:
    """A subject of SpiceDB, ``{type}:{id}``, with the id as callers give it, decoded."""
    kind, separator, encoded = subject.partition(":")
    try:
        return f"{kind}{separator}{ids.decode_subject_id(encoded)}"
    except ValueError:
        return subject
