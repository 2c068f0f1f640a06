"""With the changes inside Powertools, invocations that run in threads of one process do not meet in it."""

import inspect
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

from local.aws import powertools_patches
from saga_core.observability import count

SECONDS = 20
powertools_patches.install()


class WatchedLock:
    """A lock that tells when a thread has to wait for it."""

    def __init__(self) -> None:
        self._lock, self.awaited = threading.RLock(), threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.awaited.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Meanwhile:
    """Does something in another thread at the first call. Each call returns when that has ended, or waits itself."""

    def __init__(self, act: Callable[[], Any], lock: WatchedLock) -> None:
        self._act, self._lock, self._first = act, lock, threading.Lock()
        self.result: Future[Any]

    def __call__(self) -> None:
        if self._first.acquire(blocking=False):
            pool = ThreadPoolExecutor(1)
            self.result = pool.submit(self._act)
            self.result.add_done_callback(lambda _: self._lock.awaited.set())
            pool.shutdown(wait=False)
            assert self._lock.awaited.wait(SECONDS)


class Middleware:
    """Does nothing. When it is added to a route, something else happens meanwhile."""

    def __init__(self, meanwhile: Meanwhile) -> None:
        self._meanwhile = meanwhile

    @property
    def __name__(self) -> str:
        self._meanwhile()
        return "middleware"

    def __call__(self, app: Any, following: Callable[[Any], Any]) -> Any:
        return following(app)


class Endpoint:
    """The handler of a route. When its parameters are read, something else happens meanwhile."""

    __name__ = "endpoint"

    def __init__(self, meanwhile: Meanwhile) -> None:
        self._meanwhile = meanwhile

    @property
    def __signature__(self) -> inspect.Signature:
        self._meanwhile()
        return inspect.Signature([inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, annotation=str)])

    def __call__(self, name: str) -> dict[str, str]:
        return {"name": name}


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> WatchedLock:
    lock = WatchedLock()
    monkeypatch.setattr(powertools_patches, "_making", lock)
    return lock


def test_a_route_answers_a_request_that_comes_while_its_first_one_builds_the_middlewares(lock: WatchedLock) -> None:
    resolver = APIGatewayHttpResolver(enable_validation=True)

    @resolver.get("/<name>")
    def get(name: str) -> dict[str, str]:
        return {"name": name}

    def ask(name: str) -> str:
        context: dict[str, Any] = {"http": {"method": "GET"}, "stage": "$default"}
        event = {"rawPath": f"/{name}", "requestContext": context, "headers": {}}
        response = resolver.resolve(event, None)  # type: ignore[arg-type] # no context is needed
        return str(json.loads(response["body"])["name"])

    second = Meanwhile(lambda: ask("second"), lock)
    resolver.use([Middleware(second)])

    assert [ask("first"), second.result.result(SECONDS), ask("third")] == ["first", "second", "third"]


def test_a_route_has_the_same_parameters_for_whoever_asks_while_they_are_read(lock: WatchedLock) -> None:
    resolver = APIGatewayHttpResolver(enable_validation=True)
    second = Meanwhile(lambda: route.dependant, lock)
    resolver.get("/<name>")(Endpoint(second))
    (route,) = resolver._dynamic_routes

    assert route.dependant is second.result.result(SECONDS)


def test_a_metric_is_written_as_a_whole_line_so_that_no_other_line_gets_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Any")
    monkeypatch.setattr(sys.stdout, "write", written.append)

    count("Request", route="any")

    (line,) = written
    assert json.loads(line)["route"] == "any"
    assert line.endswith("\n")
