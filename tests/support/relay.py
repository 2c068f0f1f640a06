"""A relay of TCP connections that does what a network does.

Everything runs in one event loop in a thread of its own, however many connections there are.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from local.stack.process import HOST

T = TypeVar("T")


class Path(Enum):
    """What becomes of connections."""

    OPEN = "passed on"
    SWALLOWS = "accepted; every byte is swallowed, also of the connections that exist"
    RESETS = "reset, also those that exist"
    CLOSED = "refused; those that exist are reset"


class Relay:
    """A relay on a port of its own.

    Attributes:
        port: where it listens.
        upstream: the port that it passes connections on to.
        accepted: how many connections it has accepted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: int, host: str = HOST, port: int = 0) -> None:
        self.upstream = upstream
        self.accepted = 0
        self.port = port
        self._host = host
        self._loop = loop
        self._path = Path.OPEN
        self._open: set[asyncio.StreamWriter] = set()
        self._lost: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._do(self._listen())

    def set(self, path: Path) -> None:
        """Let this become of connections from now on."""
        self._do(self._set(path))

    def lose(self) -> None:
        """Let the connections that exist carry nothing any more, and nobody hear of it. New ones are passed on."""

        async def lose() -> None:
            self._lost |= self._open

        self._do(lose())

    def stop(self) -> None:
        """Refuse new connections and end those that exist."""
        self._do(self._set(Path.CLOSED))

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set(self, path: Path) -> None:
        self._path = path
        if path is Path.CLOSED and self._server:
            self._server.close()
            self._server = None
        if path is not Path.CLOSED and self._server is None:
            await self._listen()
        if path in (Path.RESETS, Path.CLOSED):
            for writer in self._open:
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        try:
            if self._path is Path.RESETS:
                _reset(writer)
                return
            if self._path is Path.SWALLOWS:
                while await reader.read(65_536):
                    pass
                return
            onward_reader, onward = await asyncio.open_connection(HOST, self.upstream)
            self._open.add(onward)
            try:
                await asyncio.gather(self._pump(reader, onward, writer), self._pump(onward_reader, writer, writer))
            finally:
                self._open.discard(onward)
                self._lost.discard(onward)
                onward.close()
        except (OSError, asyncio.CancelledError):
            pass  # either side has gone, or the relay ends
        finally:
            self._open.discard(writer)
            self._lost.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, of: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self._path is not Path.SWALLOWS and of not in self._lost:
                writer.write(data)
                await writer.drain()
        if of not in self._lost:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def relays() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that relays run in. It ends with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="relays")
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
