# mypy: disable-error-code="assignment, attr-defined, method-assign, misc"
# - to replace parts of Powertools is the purpose of this file, and its annotations do not allow for it.
"""Changes inside Powertools, so that one process can run several invocations of a function at the same time.

Powertools relies on Lambda, which runs one invocation at a time in a process: a resolver keeps the request that it
handles where every thread sees it. `install` gives every thread a request of its own, and LambdaRuntime, which runs
every invocation in a thread of its own, calls it. The changes hold for the whole process. Powertools' log keys need no
change: the functions keep theirs in a context variable.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.event_handler import api_gateway
from aws_lambda_powertools.event_handler.api_gateway import BaseRouter, Route
from aws_lambda_powertools.metrics import base as metrics

# What the changes keep using of Powertools' own. It is read here, once, so that `install` may run any number of times.
_build_middlewares = Route._build_middleware_stack
_dependant = Route.dependant.fget
_body_field = Route.body_field.fget


def install() -> None:
    """Make the changes in this process. Calling it again changes nothing."""
    # `resolve` writes the event and the context to the class BaseRouter, which it finds by this name.
    api_gateway.BaseRouter = _invocation
    for name in ("current_event", "lambda_context", "context", "processed_stack_frames"):
        setattr(BaseRouter, name, _of_invocation(name))
    # A route makes these when it first needs them. Made twice, the middlewares run twice, and the specification, which
    # looks fields up by identity, does not find them.
    Route._build_middleware_stack = _build_middlewares_once
    Route.dependant = _made_once(_dependant)
    Route.body_field = _made_once(_body_field)
    # `print` writes a line and its end apart, so that lines of several threads could mix.
    metrics.print = _print_line


class _Invocation(threading.local):
    """What a resolver keeps of the request that the thread handles; `resolve` adds the event and Lambda's context."""

    def __init__(self) -> None:
        self.context: dict[str, Any] = {}
        self.processed_stack_frames: list[str] = []


_invocation = _Invocation()
_making = threading.RLock()


def _of_invocation(name: str) -> property:
    """An attribute of a resolver whose value is the thread's."""
    return property(lambda _: getattr(_invocation, name), lambda _, value: setattr(_invocation, name, value))


def _build_middlewares_once(self: Route, *args: Any, **kwargs: Any) -> None:
    with _making:
        if not self._middleware_stack_built:
            _build_middlewares(self, *args, **kwargs)


def _made_once(make: Callable[[Route], Any]) -> property:
    """A property of a route whose getter keeps what it has made."""

    def get(self: Route) -> Any:
        with _making:
            return make(self)

    return property(get)


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
