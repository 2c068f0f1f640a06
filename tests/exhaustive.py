"""`python -m tests.exhaustive`: what takes too long for every run of the tests. What `make exhaustive` runs.

It runs every part, also after one has failed, and ends with a summary. The exit code is 1 if any part failed.
"""

import os
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

_PYTEST = (sys.executable, "-m", "pytest")
_PARALLEL = ("-n", "2", "--dist", "worksteal")
_MATRIX = "tests/saga/test_fault_matrix.py"
_FUZZ_EXAMPLES = "200"  # for each route
_FUZZ = "tests/api/test_fuzz.py"
# What Temporal's scheduler matters to: promises, schedules that nobody owns, a storm, the HTTP API, its model.
_ON_TEMPORAL = (
    *("tests/saga/test_promises.py", "tests/saga/test_unowned.py", "tests/saga/test_storm.py"),
    *("tests/api", f"--ignore={_FUZZ}", "tests/explore/test_temporal_model.py"),
)


def _on(scheduler: str) -> tuple[str, ...]:
    return (*_PYTEST, *_PARALLEL, "-m", "not slow", "--scheduler", scheduler, *_ON_TEMPORAL)


PARTS = {
    "every case of the fault matrix": (*_PYTEST, *_PARALLEL, _MATRIX),
    "the other slow tests, storms of several seeds": (*_PYTEST, *_PARALLEL, "-m", "slow", f"--ignore={_MATRIX}"),
    "every scenario of the explorer with two faults": (sys.executable, "-m", "tests.explore"),
    f"{_FUZZ_EXAMPLES} random requests a route": (*_PYTEST, *_PARALLEL, "--timeout", "0", _FUZZ),
    "promises, storm, API and model on Temporal's CHASM scheduler": _on("chasm"),
    "the same with both schedulers of Temporal at once": _on("mixed"),
}


def main() -> int:
    """Run the parts; 0 if all passed."""
    environment = {**os.environ, "FUZZ_EXAMPLES": _FUZZ_EXAMPLES}
    table = Table("part", "result", "seconds")
    table.columns[-1].justify = "right"
    failed = 0
    for number, (part, command) in enumerate(PARTS.items(), 1):
        print(f"\nexhaustive, part {number} of {len(PARTS)}: {part}", flush=True)
        began = time.monotonic()
        code = subprocess.run(command, env=environment, check=False).returncode
        failed += code != 0
        table.add_row(part, "passed" if code == 0 else f"FAILED (exit code {code})", f"{time.monotonic() - began:.0f}")
    console = Console(highlight=False)
    console.print("\n", table)
    console.print(f"{len(PARTS) - failed} of {len(PARTS)} parts passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
