"""Passes connections on from one socket to another.

    python relay.py <listen> <target> [<listen> <target>]…

Each is either `host:port` or, with a slash in it, the path of a Unix socket. Prints where it listens, a line each, and
ends when its standard input does. local.docker.bridge runs it on both sides of a container's wall, on the inside with
the image's own Python: nothing but the standard library can be used here.
"""

import asyncio
import contextlib
import socket
import sys

_CHUNK = 65_536


async def listen(address: str, target: str) -> str:
    """Pass every connection to `address` on to `target`, for as long as the event loop runs.

    Answers where it listens: an address whose host was a name now has the number instead. Raises OSError.
    """

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward_writer = await _connect(target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, onward_writer), _copy(onward_reader, writer))

    if "/" in address:
        await asyncio.start_unix_server(accepted, address)
        return address
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(accepted, host, int(port), family=socket.AF_INET)
    number, bound_port = server.sockets[0].getsockname()
    return f"{number}:{bound_port}"


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if "/" in target:
        return await asyncio.open_unix_connection(target)
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either end closes, which closes the other one."""
    try:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK):
                writer.write(chunk)
                await writer.drain()
    finally:
        writer.close()


async def _main(addresses: list[str]) -> None:
    for address, target in zip(addresses[::2], addresses[1::2], strict=True):
        print(await listen(address, target), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
