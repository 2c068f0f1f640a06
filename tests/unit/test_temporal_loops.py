"""Calls to Temporal run in the thread that makes them, side by side."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import pytest

from saga_temporal import connection

SECONDS = 10


async def _loop_after(meet: Callable[[], object]) -> tuple[int, asyncio.AbstractEventLoop]:
    await asyncio.sleep(0)
    meet()
    return get_ident(), asyncio.get_running_loop()


def test_calls_of_several_threads_run_at_the_same_time_each_in_its_own_thread() -> None:
    barrier = Barrier(3)

    def call() -> bool:
        thread, _ = connection._run(_loop_after(lambda: barrier.wait(SECONDS)))
        return thread == get_ident()

    with ThreadPoolExecutor(3) as pool:
        assert [each.result() for each in [pool.submit(call) for _ in range(3)]] == [True] * 3


def test_calls_one_after_another_use_one_loop_from_any_thread_also_after_an_error() -> None:
    def loop() -> asyncio.AbstractEventLoop:
        return connection._run(_loop_after(lambda: None))[1]

    async def fails() -> None:
        raise LookupError

    first = loop()
    with pytest.raises(LookupError):
        connection._run(fails())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(loop).result() is first
    assert loop() is first


def test_an_error_leaves_nothing_of_its_call_behind() -> None:
    class Client:
        pass

    async def fails(_client: Client) -> None:
        await asyncio.sleep(0)
        raise LookupError

    client = Client()
    left = weakref.ref(client)
    gc.disable()  # a connection ends when it is left, not when garbage happens to be collected
    try:
        with pytest.raises(LookupError):
            connection._run(fails(client))
        del client
        assert left() is None
    finally:
        gc.enable()
