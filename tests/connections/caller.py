"""Calls one engine as often as it is told: `python -m tests.connections.caller SpiceDB`. It stands where a Lambda is.

It makes one call for each line of its input, and prints the error's name and message, or an empty line, for each.
"""

import sys
import time

from saga_core.deadlines import Deadline
from saga_core.errors import SagaError
from saga_core.ids import Subject
from saga_core.settings import call_settings
from saga_spicedb import spicedb
from saga_temporal import temporal
from tests.connections.world import LAMBDA_SECONDS, Engine


def main() -> None:
    """Call until the input ends."""
    engine = Engine(sys.argv[1])
    for _ in sys.stdin:
        deadline = Deadline(time.monotonic() + LAMBDA_SECONDS, call_settings().rpc_timeout_seconds)
        said = ""
        try:
            if engine is Engine.SPICEDB:
                spicedb().may_create(Subject("user", "alice"), "agent0", deadline)
            else:
                temporal().describe("agent0--nothing", deadline)
        except SagaError as error:
            said = f"{type(error).__name__}: {error}"
        print(said, flush=True)


if __name__ == "__main__":
    main()
