"""Keeps out of a process what moto's interpreter imports and no machine of this project uses.

Its task for AWS Batch imports a list of states, and with it the whole of EC2: two thirds of the processor time that the
server's imports take. A machine that uses Batch does not run here.
"""

import sys
from enum import StrEnum
from types import ModuleType


class JobStatus(StrEnum):
    """The states of a job that the task asks for."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


def install() -> None:
    """Stand in for moto.batch. It has to come before the first import of moto's interpreter."""
    package, utils = ModuleType("moto.batch"), ModuleType("moto.batch.utils")
    package.__path__ = []
    vars(utils)["JobStatus"] = JobStatus
    sys.modules |= {package.__name__: package, utils.__name__: utils}
