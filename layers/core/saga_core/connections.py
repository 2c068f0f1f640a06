"""The client of an engine: made at the first call, kept while a function is warm, and replaced when it fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

# Seconds for which a client is kept, even if it fails.
REPLACE_SECONDS = 3.0

Client = TypeVar("Client")


@dataclass(frozen=True)
class Connected(Generic[Client]):
    """A client, and what ends its connection."""

    client: Client
    close: Callable[[], object] = lambda: None


@dataclass
class _Held(Generic[Client]):
    connected: Connected[Client]
    made_at: float
    users: int = 1
    failed: bool = False
    retired: bool = False


class Connection(Generic[Client]):
    """One client for all calls. Calls may run side by side, on a laptop."""

    def __init__(
        self,
        connect: Callable[[float], Connected[Client]],
        credentials_refused: Callable[[], None] = lambda: None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make clients with ``connect``, given a timeout in seconds.

        ``credentials_refused`` is called when the engine has refused what the client was made with.
        """
        self._connect = connect
        self._credentials_refused = credentials_refused
        self._now = now
        self._lock = Lock()
        self._held: _Held[Client] | None = None

    @contextmanager
    def client(self, timeout: float) -> Iterator[Client]:
        """The client, for one call. A new one is made if there is none, or the one that is there has failed.

        Raises:
            Whatever ``connect`` raises.
        """
        held = self._in_use() or self._made(timeout)
        try:
            yield held.connected.client
        finally:
            with self._lock:
                held.users -= 1
            self._close_unused(held)

    def failed(self, client: Client, *, credentials_refused: bool = False) -> None:
        """Let another client replace this one, unless it is only a few seconds old."""
        if credentials_refused:
            self._credentials_refused()
        with self._lock:
            if self._held and self._held.connected.client is client:
                self._held.failed = True

    def _in_use(self) -> _Held[Client] | None:
        """The client that is there, with one user more; None if there is none. One that has failed is retired."""
        with self._lock:
            held = self._held
            if held is None:
                return None
            if not held.failed or self._now() - held.made_at < REPLACE_SECONDS:
                held.users += 1
                return held
            held.retired, self._held = True, None
        self._close_unused(held)
        return None

    def _made(self, timeout: float) -> _Held[Client]:
        made = _Held(self._connect(timeout), self._now())
        with self._lock:
            if self._held is None:
                self._held = made
            else:  # another call was faster
                made.retired = True
        return made

    def _close_unused(self, held: _Held[Client]) -> None:
        with self._lock:
            is_over = held.retired and held.users == 0
            held.retired = held.retired and not is_over
        if is_over:
            held.connected.close()
