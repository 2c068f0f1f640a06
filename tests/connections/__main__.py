"""`python -m tests.connections`: every fault of a connection or a secret, and what is seen of it, as a table.

Names of faults, or parts of them, choose some. ``--documented`` prints the table of docs/deploying.md and runs nothing.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from local.stack.endpoints import Endpoints
from local.stack.parts import engines
from tests.connections.faults import FAULTS, observe, table
from tests.connections.world import Engine, world
from tests.support.ports import free_port


def main() -> None:
    """Run the faults and print the table."""
    if sys.argv[1:] == ["--documented"]:
        print(table(), end="")
        return
    chosen = [fault for fault in FAULTS if any(part in fault.name for part in sys.argv[1:] or [""])]
    endpoints = Endpoints(spicedb_port=free_port(), temporal_port=free_port(), temporal_ui_port=free_port())
    with TemporaryDirectory() as logs, engines(endpoints, Path(logs), None):
        print(
            "| engine | what is wrong | error | message | answered after | warm function well after | secrets shown |"
        )
        print("|---|---|---|---|---|---|---|")
        for engine in Engine:
            with world(engine, endpoints) as made:
                for fault in chosen:
                    if engine in fault.engines:
                        seen = observe(made, fault)
                        healed = "a deployment" if seen.healed is None else f"{seen.healed:.1f} s"
                        cells = (engine, fault.name, seen.answer.error, seen.answer.message)
                        times = (f"{seen.answer.seconds:.1f} s", healed, ", ".join(seen.leaks) or "none")
                        print("|", " | ".join(str(cell) for cell in (*cells, *times)), "|", flush=True)


if __name__ == "__main__":
    main()
