"""The specification of the HTTP API, as tests read it."""

import json
from typing import Any

from openapi_schema_validator import OAS31Validator

from saga_api import openapi
from saga_api.routes import app

SPECIFICATION: dict[str, Any] = json.loads(openapi.specification(app))
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation for methods in SPECIFICATION["paths"].values() for operation in methods.values()
}


def fits(value: object, schema: dict[str, Any]) -> bool:
    """Whether a value fits a schema of the specification."""
    whole = {**schema, "components": SPECIFICATION["components"]}
    return not list(OAS31Validator(whole).iter_errors(value))
