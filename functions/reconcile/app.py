"""The reconciler's Lambda function; the package beside it has the code."""

from saga_reconcile.steps import handler

__all__ = ["handler"]
