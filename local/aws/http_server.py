"""Runs an HTTP server on the laptop: inside another program (`serve`), and as a program of its own (`run`)."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable
from werkzeug.serving import WSGIRequestHandler, make_server

from local.aws.template import Template, parameter_argument
from local.stack.process import HOST, StartError, die_with_parent, require_free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_POLL_SECONDS = 0.05  # how soon the server notices that it has to stop
_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"


class QuietHandler(WSGIRequestHandler):
    """Handles a request without a line of Werkzeug's own access log: each application writes its own log."""

    def log_request(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def serve(
    application: Callable[[str], AbstractContextManager["WSGIApplication"]],
    *,
    port: int,
    handler: type[WSGIRequestHandler] = QuietHandler,
) -> Iterator[str]:
    """Serve a WSGI application on 127.0.0.1 while the context lasts. Yields the server's URL.

    Args:
        application: called with the URL once the port is bound. The context that it returns lasts as long as requests
            are served, and gives the application.
        port: 0 for any free port.
    """
    # The application needs the URL, so the server gets it second. No request is read before that.
    httpd = make_server(HOST, port, ServiceUnavailable(), threaded=True, request_handler=handler)
    url = f"http://{HOST}:{httpd.server_port}"
    try:
        with application(url) as httpd.app:
            thread = threading.Thread(target=httpd.serve_forever, args=(_POLL_SECONDS,), name="http", daemon=True)
            thread.start()
            try:
                yield url
            finally:
                httpd.shutdown()
                thread.join()
    finally:
        httpd.server_close()


def command_line(prog: str, description: str, *, port: int, variable: str) -> argparse.ArgumentParser:
    """The options that every server of the laptop has.

    `port` is the default of --port, unless the environment has another in `variable`.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--port", type=int, default=os.environ.get(variable) or port, help="default: %(default)s")
    parser.add_argument("--template", type=Path, default=_TEMPLATE, help="default: the project's template.yaml")
    parser.add_argument(
        "--parameter",
        type=parameter_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the template",
    )
    return parser


def run(
    name: str,
    arguments: argparse.Namespace,
    start: Callable[[Template], AbstractContextManager[str]],
    *,
    variable: str,
) -> int:
    """Run a server until SIGTERM, Ctrl-C or the end of the parent process. Returns the exit code.

    Prints one line when the server is ready, or one line on stderr that says why it cannot start.

    Args:
        name: what the server is, for both lines.
        arguments: what `command_line` has parsed.
        start: serves the template, and yields the URL.
        variable: the environment variable that sets another port.
    """
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        require_free_port(arguments.port, name, variable)
        template = Template(arguments.template, dict(arguments.parameter))
        with start(template) as url:
            print(f"{name} ready on {url}", flush=True)
            stop.wait()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
