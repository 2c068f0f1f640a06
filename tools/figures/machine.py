"""The machine on which the figures were measured, and how busy it was."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def described() -> dict[str, Any]:
    """Processor, memory, system, Python, time and load."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def line(machine: dict[str, Any]) -> str:
    """The description as a sentence."""
    loads = ", ".join(f"{load:g}" for load in machine["load"])
    return (
        f"{machine['time']}, {machine['processors']} × {machine['processor']}, {machine['memory_gb']:g} GB, "
        f"{machine['system']}, Python {machine['python']}, load over 1, 5 and 15 minutes {loads}"
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for text in information.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()
