"""Traces as text, so that a counterexample can be kept and replayed: `0 1x 0 …`, an operation's number and a letter."""

from tests.explore.explorer import Fault, Move

_LETTERS = {
    Fault.NONE: "",
    Fault.REFUSED: "r",
    Fault.LOST: "l",
    Fault.KILLED_BEFORE: "b",
    Fault.KILLED_AFTER: "a",
    Fault.STOPPED: "s",
}
_FAULTS = {letter: fault for fault, letter in _LETTERS.items()}


def spell(trace: tuple[Move, ...]) -> str:
    """A trace as text."""
    return " ".join(f"{move.operation}{_LETTERS[move.fault]}" for move in trace)


def parse(text: str) -> tuple[Move, ...]:
    """The trace that `spell` made the text of."""
    return tuple(Move(int(word[0]), _FAULTS[word[1:]]) for word in text.split())
