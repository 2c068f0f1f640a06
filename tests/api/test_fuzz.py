"""Requests that schemathesis generates from the specification, valid and not, on the running stack.

The number of requests is small and they are the same in each run. `make fuzz` sends more (FUZZ_EXAMPLES for each
route), which differ from run to run.
"""

import json
import os
import re
import uuid
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from saga_api import openapi
from saga_api.routes import app
from saga_core import limits
from tests.support.api import SECONDS, Api

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
schema = schemathesis.openapi.from_dict(json.loads(openapi.specification(app)))
schema.config.generation.update(with_security_parameters=False)  # without a token the status is always 401


def is_name(value: object) -> bool:
    """Whether it is a valid id that is to be replaced: about every second one is."""
    if not isinstance(value, str) or len(value) > limits.NAME.most:
        return False
    return re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", value) is not None and len(value) % 2 == 1


@schema.parametrize()
@settings(
    max_examples=int(EXAMPLES or 12),
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if EXAMPLES else []),
    suppress_health_check=list(HealthCheck),
)
def test_every_response_is_one_that_the_specification_describes(case: schemathesis.Case[Any], api: Api) -> None:
    # No generated agent has an owner, and no generated schedule exists. So about half of the agents are replaced by one
    # that alice owns, and half of the schedules by one that exists.
    path = case.path_parameters or {}
    if "?" in unquote(case.formatted_path):
        return  # API Gateway cuts a path at a question mark, encoded or not, and so finds another route
    if is_name(path.get("agent_id")):
        if case.operation.definition.raw["operationId"] == "create_schedule":
            api.agent = f"agent-{uuid.uuid4().hex[:12]}"  # a new one, in which no name is taken
            api.relate(f"agent:{api.agent}#owner@user:alice")
        elif is_name(path.get("schedule_name")):
            path["schedule_name"] = "daily"
            if api.get().status == HTTPStatus.NOT_FOUND:
                api.create()
        path["agent_id"] = api.agent

    response = case.call(base_url=api.url, headers={"Authorization": f"Bearer {api.token()}"}, timeout=SECONDS)
    if response.status_code != HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:  # the gateway's own
        case.validate_response(response, checks=CHECKS)
