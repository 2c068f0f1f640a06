"""A measured figure: what this tree needs, what a baseline needs in the same run, and the ratio of the two.

A baseline is measured in turn with what is compared to it, in random order. Each round gives one ratio, so that what
slows the machine for a while slows both sides of it. The median of the ratios stands for all; the quartiles show how
much they differ.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        part: the part of the bench that has measured it.
        what: what was measured.
        unit: of ``value`` and ``base``.
        value: of this tree: the median over all rounds.
        against: the name of the baseline; empty where there is none.
        base: the baseline's median.
        ratio: the lower quartile, the median and the upper quartile of the rounds' ratios; three times the same
            where the figure is exact.
        rounds: how many there were; 1 where the figure is exact.
    """

    part: str
    what: str
    unit: str
    value: float
    against: str = ""
    base: float = 0.0
    ratio: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rounds: int = 1


def exact(part: str, what: str, unit: str, value: float, against: str = "", base: float = 0.0) -> Figure:
    """A figure that every run gives."""
    ratio = value / base if base else 0.0
    return Figure(part, what, unit, value, against, base, (ratio, ratio, ratio))


def compared(part: str, what: str, unit: str, values: Sequence[float], against: str, bases: Sequence[float]) -> Figure:
    """A figure of several rounds; ``values`` and ``bases`` are in the same order."""
    ratios = [value / base for value, base in zip(values, bases, strict=True)]
    return Figure(
        part, what, unit, statistics.median(values), against, statistics.median(bases), quartiles(ratios), len(ratios)
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return (values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (low, middle, high)


def rounds(
    number: int, sides: Mapping[str, Callable[[], Mapping[str, float]]], title: str, seed: int = 1
) -> dict[str, dict[str, list[float]]]:
    """Measure every side once a round, in random order. Progress goes to stderr.

    Each side returns its values by name. Returns them by side and name, in the order of the rounds.
    """
    order, found = random.Random(seed), {side: dict[str, list[float]]() for side in sides}  # noqa: S311 - no secret
    with Progress(title, number * len(sides)) as progress:
        for _ in range(number):
            for side in order.sample(list(sides), len(sides)):
                for name, value in sides[side]().items():
                    found[side].setdefault(name, []).append(value)
                progress.step(side)
    return found


class Progress:
    """A line on stderr that says how far a part is, and how long it still takes. Elsewhere than on a terminal it is
    written when the part ends."""

    def __init__(self, title: str, steps: int) -> None:
        """``steps`` is how often `step` will be called."""
        self._title, self._steps, self._done, self._began = title, steps, 0, time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._began
        print(f"{self._clear()}{self._title}: {self._done} of {self._steps} in {seconds:.0f} s", file=sys.stderr)

    def step(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        if self._terminal:
            left = (time.monotonic() - self._began) / self._done * (self._steps - self._done)
            text = f"{self._title}: {self._done} of {self._steps}, {what}, {left:.0f} s left"
            print(f"{self._clear()}{text}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> str:
        return "\r\033[K" if self._terminal else ""
