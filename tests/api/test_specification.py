"""The words of the specification, and what is read although an editor or a shell wrote it in its own way."""

import base64
import json
from http.client import HTTPConnection
from typing import Any

import pytest

from local.stack.process import HOST
from saga_api import bodies, openapi
from saga_api.fields import FIELDS
from saga_api.routes import app
from saga_core.requests import NewSchedule
from tests.support.api import Api
from tests.support.specification import OPERATIONS, SPECIFICATION, fits

SCHEMAS: dict[str, dict[str, Any]] = SPECIFICATION["components"]["schemas"]
PROPERTIES = {
    f"{name}.{field}": value
    for name, schema in SCHEMAS.items()
    for field, value in schema.get("properties", {}).items()
}


@pytest.mark.parametrize("field", PROPERTIES.values(), ids=PROPERTIES)
def test_every_field_has_a_description_and_an_example_that_fits(field: dict[str, Any]) -> None:
    assert field["description"]
    assert field["examples"]
    assert all(fits(example, field) for example in field["examples"])


def test_every_field_with_a_unit_names_it_and_a_limited_text_names_its_limit() -> None:
    for name, field in PROPERTIES.items():
        if "seconds" in name:
            assert "seconds" in field["description"], name
        if "date-time" in json.dumps(field):
            assert "ISO 8601" in field["description"], name
        if "maxLength" in json.dumps(field):
            assert "characters" in field["description"] or "bytes" in field["description"], name


def test_the_table_of_words_has_no_field_that_the_specification_has_not() -> None:
    assert {f"{schema}.{field}" for schema, fields in FIELDS.items() for field in fields} == PROPERTIES.keys()


def test_every_parameter_has_a_description_and_an_example() -> None:
    for operation in OPERATIONS.values():
        for parameter in operation.get("parameters", ()):
            assert parameter["description"]
            assert parameter["schema"]["examples"]


def test_every_operation_has_a_tag_that_is_described() -> None:
    described = {tag["name"] for tag in SPECIFICATION["tags"] if tag["description"]}

    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == described
    assert all(operation["tags"] for operation in OPERATIONS.values())


def test_no_schema_is_unused_and_no_description_is_a_docstring() -> None:
    used = json.dumps(SPECIFICATION["paths"]) + json.dumps(SCHEMAS)
    for name, schema in SCHEMAS.items():
        assert f'"#/components/schemas/{name}"' in used
        assert schema["description"]
        assert "Attributes:" not in schema["description"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Powertools leaves its files open
def test_only_the_page_of_the_laptop_tells_how_to_get_a_token(api: Api) -> None:
    assert "make -s token" not in openapi.specification(app)
    connection = HTTPConnection(HOST, api.port, timeout=10)
    connection.request("GET", "/docs")
    page = connection.getresponse().read().decode()
    connection.close()
    assert "make -s token SUBJECT=alice" in page


@pytest.mark.parametrize("body", ["[]", "7", '"text"', "null"])
def test_a_message_names_the_body_and_no_model(body: str, api: Api) -> None:
    for path in (api.schedules, f"{api.schedules}/daily/pause"):
        message = str(api.call("POST", path, body).body["message"])
        assert not any(word in message for word in (*SCHEMAS, "dictionary", "instance"))
        assert body == "null" or message == "body: must be a JSON object"


def test_a_message_about_a_claim_names_the_claim(api: Api) -> None:
    answer = api.call("GET", api.schedules, token=api.token("x" * 600))

    assert answer.status == 401
    assert answer.body["message"].startswith(
        "the token's claims do not tell who calls: sub: String should have at most"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_body_with_a_byte_order_mark_is_read(encoding: str, api: Api) -> None:
    schedule = {"name": "daily", "workflow_name": "Rapport é", "task_queue": "reports", "interval_seconds": 3600}

    answer = api.call("POST", api.schedules, json.dumps(schedule, ensure_ascii=False).encode(encoding))

    assert answer.status == 201, answer.body
    assert answer.body["action"]["workflow_name"] == "Rapport é"


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"\xff\xfe\x00\xd8", b"\xef\xbb\xbf\xff"])
def test_bytes_after_a_byte_order_mark_that_are_no_text_are_refused_and_not_a_fault(content: bytes, api: Api) -> None:
    assert api.call("POST", api.schedules, content).is_problem(422)


def test_a_byte_order_mark_alone_is_no_body() -> None:
    event = {"body": base64.b64encode(b"\xef\xbb\xbf").decode(), "isBase64Encoded": True}

    assert (bodies.text(event), bodies.text({"body": "\ufeff"})) == ("", "")


def test_the_examples_of_a_new_schedule_are_together_one_that_fits() -> None:
    NewSchedule.parse({name: field["examples"][0] for name, field in SCHEMAS["NewSchedule"]["properties"].items()})
