"""Ports for tests that start servers."""

import os
import random
import socket

from local.stack.process import HOST

# Below what systems give to outgoing connections, one of which might otherwise take the port before its server does.
# pytest-xdist's processes (gw0, gw1, …) share the range without an overlap, so that two of them never race for a port.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_RANGE = range(20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")), 32_000, _WORKERS)
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment, and that this process has not asked for before."""
    while True:
        port = random.choice(_RANGE)  # noqa: S311 - nobody is to be kept from guessing it
        if port in _given:
            continue
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                _given.add(port)
                return port
