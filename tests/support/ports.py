"""Ports for tests that start servers."""

import random
import socket

from local.stack.process import HOST

# Below what systems give to outgoing connections, one of which might else take the port before its server does.
_RANGE = range(20_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    while True:
        port = random.choice(_RANGE)  # noqa: S311 - nobody is to be kept from guessing it
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
