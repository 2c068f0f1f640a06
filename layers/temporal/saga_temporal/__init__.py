"""Temporal, as this application uses it. The only code that knows temporalio."""

from saga_temporal.calls import WorkflowService
from saga_temporal.connection import temporal
from saga_temporal.gateway import Temporal
from saga_temporal.messages import MEMO_KEY, Description

__all__ = ["MEMO_KEY", "Description", "Temporal", "WorkflowService", "temporal"]
