"""The HTTP API's Lambda function; the package beside it has the code."""

from saga_api.routes import handler

__all__ = ["handler"]
