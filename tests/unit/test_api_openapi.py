"""The specification of the HTTP API: it is valid, it fits the models, and so do its examples."""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from saga_api import openapi
from saga_api.routes import app
from saga_core.requests import NewSchedule
from tests.support.specification import OPERATIONS, SPECIFICATION, fits


def test_it_is_valid_openapi_3_1() -> None:
    assert SPECIFICATION["openapi"].startswith("3.1")
    validate(SPECIFICATION)


def test_every_operation_has_a_readable_name_and_lists_its_statuses() -> None:
    always = {"401", "403", "422", "429", "431", "500", "503"}
    on_a_schedule = {"200", "404", *always}
    assert {name: set(operation["responses"]) for name, operation in OPERATIONS.items()} == {
        "get_health": {"200", "429", "431", "500", "503"},
        "create_schedule": {"201", "400", "404", "409", "413", "415", "504", *always},
        "list_schedules": {"200", *always},
        "get_schedule": on_a_schedule,
        "pause_schedule": {"413", "415", *on_a_schedule},
        "unpause_schedule": {"413", "415", *on_a_schedule},
        "trigger_schedule": {"409", *on_a_schedule},
        "delete_schedule": {"504", *on_a_schedule},
    }


def test_every_error_has_an_example_and_every_example_fits_its_schema() -> None:
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            content = response["content"]["application/json"]
            examples = [example["value"] for example in content.get("examples", {}).values()]
            if status >= "400":
                assert examples, (name, status)
                assert examples[0].get("code", int(status)) == int(status)
            assert all(fits(example, content["schema"]) for example in examples), (name, status)


def test_the_examples_of_a_new_schedule_fit_the_schema_and_the_model() -> None:
    content = OPERATIONS["create_schedule"]["requestBody"]["content"]["application/json"]

    for example in content["examples"].values():
        assert fits(example["value"], content["schema"])
        NewSchedule.parse(example["value"])


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"interval_seconds": 60}, True),
        ({"interval_seconds": None, "cron_expression": "0 9 * * *"}, True),
        ({"interval_seconds": 60, "paused": None, "timezone": None}, True),
        ({}, False),
        ({"interval_seconds": None}, False),
        ({"interval_seconds": 60, "name": "Daily"}, False),
        ({"interval_seconds": 60, "name": "daily-"}, False),
        ({"interval_seconds": 60, "task_queue": " "}, False),
        ({"interval_seconds": 60, "principal": {}}, False),
    ],
)
def test_the_schema_of_a_new_schedule_accepts_what_the_model_accepts(change: dict[str, Any], valid: bool) -> None:
    schedule = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", **change}
    content = OPERATIONS["create_schedule"]["requestBody"]["content"]["application/json"]

    assert fits(schedule, content["schema"]) is valid
    if valid:
        NewSchedule.parse(schedule)


def test_every_component_is_referred_to() -> None:
    text = json.dumps(SPECIFICATION)

    for name in SPECIFICATION["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text


def test_every_operation_but_health_needs_a_token() -> None:
    assert SPECIFICATION["security"] == [{"token": []}]
    assert {name: each["security"] for name, each in OPERATIONS.items() if "security" in each} == {"get_health": []}


def test_an_operation_names_the_scope_that_its_token_needs() -> None:
    """In OpenAPI 3.1 any security scheme may list them."""
    document = json.loads(openapi.specification(app, "schedules.read", "schedules.write"))

    validate(document)
    read, write = [{"token": ["schedules.read"]}], [{"token": ["schedules.write"]}]
    needed = {each["operationId"]: each["security"] for path in document["paths"].values() for each in path.values()}
    assert needed == {
        "get_health": [],
        "list_schedules": read,
        "get_schedule": read,
        **{f"{verb}_schedule": write for verb in ("create", "delete", "pause", "unpause", "trigger")},
    }
