"""Traces as text, so that a counterexample can be kept and replayed: `0 1x 0 …`, an operation's number and a letter."""

from tests.explore.world import Move, RpcFault

_LETTERS = {
    RpcFault.NONE: "",
    RpcFault.REFUSED: "r",
    RpcFault.LOST: "l",
    RpcFault.KILLED_BEFORE: "b",
    RpcFault.KILLED_AFTER: "a",
    RpcFault.STOPPED: "s",
}
_FAULTS = {letter: fault for fault, letter in _LETTERS.items()}


def spell(trace: tuple[Move, ...]) -> str:
    """A trace as text."""
    return " ".join(f"{move.operation}{_LETTERS[move.fault]}" for move in trace)


def parse(text: str) -> tuple[Move, ...]:
    """The trace that `spell` made the text of."""
    return tuple(Move(int(word[0]), _FAULTS[word[1:]]) for word in text.split())
