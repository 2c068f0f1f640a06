"""Traces as text, so that a counterexample can be kept and replayed: `0 1.1x 0 …`.

A word is an operation's number, the number of its function if it is not the first one, and a letter for a fault.
"""

import re

from tests.explore.world import Move, RpcFault

_LETTERS = {
    RpcFault.NONE: "",
    RpcFault.REFUSED: "r",
    RpcFault.LOST: "l",
    RpcFault.KILLED_BEFORE: "b",
    RpcFault.KILLED_AFTER: "a",
    RpcFault.STOPPED: "s",
    RpcFault.OUTLIVED: "o",
    RpcFault.UNDONE: "u",
}
_FAULTS = {letter: fault for fault, letter in _LETTERS.items()}


_WORD = re.compile(r"(?P<operation>\d+)(?:\.(?P<function>\d+))?(?P<fault>[a-z]?)")


def spell(trace: tuple[Move, ...]) -> str:
    """A trace as text."""
    return " ".join(
        f"{move.operation}{f'.{move.function}' if move.function else ''}{_LETTERS[move.fault]}" for move in trace
    )


def parse(text: str) -> tuple[Move, ...]:
    """The trace that `spell` made the text of."""
    words = [_WORD.fullmatch(word) for word in text.split()]
    return tuple(
        Move(int(word["operation"]), _FAULTS[word["fault"]], int(word["function"] or 0)) for word in words if word
    )
