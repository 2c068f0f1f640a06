"""Executions that began before an upgrade: their definitions send events without what the present ones send."""

import time
from typing import Any

from functions.compensate import app as compensate
from functions.deregister import app as deregister
from functions.register import app as register
from functions.temporal_create import app as temporal_create
from functions.temporal_delete import app as temporal_delete
from functions.temporal_describe import app as temporal_describe
from local.aws.lambda_runtime import Context
from saga_core import ids
from saga_core.errors import TemporalUnavailable
from tests.support.saga_stack import Stack

ARN = "arn:aws:states:us-east-1:123456789012:execution:create-schedule:of-an-older-definition"


def invoke(app: Any, **event: Any) -> dict[str, Any]:
    """Invoke a function, and once more where Temporal is busy with the schedule, as the definitions do."""
    try:
        return _invoked(app, event)
    except TemporalUnavailable:
        return _invoked(app, event)


def _invoked(app: Any, event: dict[str, Any]) -> dict[str, Any]:
    context = Context("request", "function", "arn:aws:lambda:local", "512", time.monotonic() + 10)
    result: dict[str, Any] = app.handler({"execution_id": ARN, **event}, context)
    return result


def test_a_function_takes_the_hash_of_the_arn_for_the_registration_where_the_event_has_none(stack: Stack) -> None:
    request, deletion = stack.request(), stack.deletion()
    fence = ids.registration(ARN)

    assert invoke(register, request=request)["outcome"] == "registered"
    assert stack.held()["registered_by"] == f"registration:{fence}"
    assert invoke(register, request=request, repeat=True)["outcome"] == "registered"
    assert invoke(temporal_create, request=request, registered=True, attempt=0) == {"repeated": False}
    assert (stack.scheduled() or {})["registration"] == fence
    assert invoke(temporal_describe, create=request)["match"] == "ours"

    found = invoke(temporal_describe, delete=deletion)
    assert (found["exists"], found["registration"]) == (True, fence)
    assert invoke(temporal_delete, request=deletion) == {"existed": True}
    deregistered = invoke(deregister, request=deletion, registration=found["registration"])
    assert (deregistered["deregistered"], deregistered["again"]) == (True, True)
    assert stack.held() == {}

    invoke(register, request=request)
    assert invoke(compensate, request=request)["removed"] is True
    assert stack.held() == {}


def test_a_deregister_of_an_older_definition_leaves_what_an_operation_in_flight_holds(stack: Stack) -> None:
    interrupted = stack.interrupt(stack.request(), at="CreateSchedule")

    held_back = invoke(deregister, request=stack.deletion(), registration=None)

    assert held_back["deregistered"] is False
    assert stack.held() == stack.registered(by=interrupted, leased=True)
