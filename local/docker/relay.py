"""Passes the connections of one socket on to another.

    python relay.py <listen> <target> [<listen> <target>]…

Each address is `host:port` or, if it contains a slash, the path of a Unix socket. The program prints each address on
which it listens on a line of its own, and ends when its standard input does. local.docker.bridge runs it on this
machine and in a container. In the container it runs on the image's Python, so it uses only the standard library.
"""

import asyncio
import contextlib
import socket
import sys

_CHUNK = 65_536


async def listen(address: str, target: str) -> str:
    """Pass every connection to `address` on to `target`, as long as the event loop runs.

    Returns the address on which it listens, with an IP address in place of a host name. Raises OSError.
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
    ip_address, bound_port = server.sockets[0].getsockname()
    return f"{ip_address}:{bound_port}"


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if "/" in target:
        return await asyncio.open_unix_connection(target)
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either end closes, then close the other one."""
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
