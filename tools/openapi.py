"""`python -m tools.openapi`: writes the HTTP API's specification to .local/openapi.json, and validates it."""

import json
import sys
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator

from saga_api import openapi
from saga_api.routes import app

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / ".local" / "openapi.json"


def main() -> int:
    """The command line; 1 when the specification is not valid OpenAPI 3.1, with a line for each thing wrong."""
    document = json.loads(openapi.specification(app))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    errors = [f"openapi: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    print("\n".join(errors) or f"{OUTPUT.relative_to(ROOT)}: valid OpenAPI {document['openapi']}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
