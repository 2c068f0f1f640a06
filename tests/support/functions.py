"""The functions as they run in this process: their log lines and their clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import StreamHandler
from typing import TextIO

from saga_api import executions
from saga_api.settings import api_settings
from saga_core import settings
from saga_core.observability import logger
from saga_spicedb import spicedb
from saga_temporal import temporal


@contextmanager
def log_lines_to(stream: TextIO) -> Iterator[None]:
    """Let the functions write their log lines to ``stream`` while the block lasts."""
    handler = logger.registered_handler
    assert isinstance(handler, StreamHandler)
    before = handler.stream
    handler.setStream(stream)
    try:
        yield
    finally:
        handler.setStream(before)


def forget_clients() -> None:
    """Let the functions read their settings and connect anew: a warm function keeps both."""
    for cached in (spicedb, temporal, settings.call_settings, api_settings, executions._client):
        cached.cache_clear()
