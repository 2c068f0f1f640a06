"""How long a call may still take, so that a function returns before Lambda ends it."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Protocol, TypeVar

# Reserved from Lambda's remaining time, seconds: enough to classify an expired call, log it and return.
RETURN_MARGIN = 0.5

T = TypeVar("T")


class RemainingTime(Protocol):
    """The part of a Lambda context that has the remaining time."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


@dataclass(frozen=True)
class Deadline:
    """A point in time by which every call of one invocation must end.

    Attributes:
        ends_at: seconds, on the clock of ``now``.
        per_call: the most that one call may take, seconds.
    """

    ends_at: float
    per_call: float
    now: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def of(cls, context: RemainingTime, per_call: float) -> "Deadline":
        """The deadline of an invocation: Lambda's remaining time less the margin for returning."""
        return cls(time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RETURN_MARGIN, per_call)

    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.ends_at - self.now()

    def timeout(self) -> float | None:
        """Seconds that the next call may take, or None when no time is left and no call should begin."""
        left = min(self.per_call, self.left())
        return left if left > 0 else None

    def leaves(self, seconds: float) -> bool:
        """Whether so much time is left until the end."""
        return self.left() >= seconds


def within(seconds: float, call: Callable[[], T], *, thread: str) -> T:
    """What ``call`` returns or raises, if it ends within ``seconds``. It runs in a thread of the name ``thread``.

    botocore's own limits are for one address each, and begin anew with every byte; this one does not. A call that is
    given up goes on until they end it.

    Raises:
        TimeoutError: it has not ended in time.
    """
    ended: Future[T] = Future()

    def run_to_its_end() -> None:
        try:
            ended.set_result(call())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
            ended.set_exception(error)

    Thread(target=run_to_its_end, name=thread, daemon=True).start()
    return ended.result(max(seconds, 0))
