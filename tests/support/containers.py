"""Containers that others started and that a test has to remove."""

import time
from collections.abc import Callable

from local.docker.image import docker
from local.stack.process import StartError

_SECONDS = 60.0
_POLL_SECONDS = 0.2


def remove(listed: Callable[[], list[str]]) -> None:
    """Remove the containers whose ids ``listed`` returns, until there is none.

    Who started them may be removing them too, and Docker refuses to remove what is being removed.

    Raises:
        StartError: some are still there after a minute.
    """
    ends_at = time.monotonic() + _SECONDS
    while left := listed():
        try:
            docker("rm", "--force", *left)
        except StartError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(_POLL_SECONDS)
