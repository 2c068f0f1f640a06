"""The switch between Temporal's two schedulers: V1 runs a workflow for each schedule, CHASM (V2) does not.

A server makes each *new* schedule with one of them, and goes on serving the schedules of both.
"""

import os
from enum import StrEnum

from local.stack.process import StartError


class Scheduler(StrEnum):
    """What makes new schedules. MIXED: V1 or CHASM, by a hash of the schedule's id, about half of the ids each."""

    V1 = "v1"
    CHASM = "chasm"
    MIXED = "mixed"

    @classmethod
    def from_environment(cls) -> "Scheduler":
        """The scheduler that TEMPORAL_SCHEDULER names, or V1, the server's own default.

        Raises:
            StartError: there is no such scheduler.
        """
        name = os.environ.get("TEMPORAL_SCHEDULER") or cls.V1.value
        try:
            return cls(name)
        except ValueError:
            raise StartError(f"TEMPORAL_SCHEDULER={name} is not one of {', '.join(cls)}") from None

    @property
    def options(self) -> list[str]:
        """The options of Temporal's development server that choose it."""
        percent = {Scheduler.V1: 0, Scheduler.CHASM: 100, Scheduler.MIXED: 50}[self]
        values = [
            f"history.enableCHASMSchedulerCreation={'true' if percent else 'false'}",
            f"history.chasmSchedulerCreationRolloutPercent={percent}",
        ]
        return [word for value in values for word in ("--dynamic-config-value", value)]

    @property
    def sentence(self) -> str:
        """What it means for a person."""
        makers = {
            Scheduler.V1: "the V1 scheduler",
            Scheduler.CHASM: "the CHASM scheduler (V2)",
            Scheduler.MIXED: "the V1 or the CHASM scheduler (V2), depending on the id",
        }
        return f"Temporal makes new schedules with {makers[self]}."
