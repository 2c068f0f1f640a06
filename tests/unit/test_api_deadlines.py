"""When a response has to leave, so that API Gateway still waits for it."""

import time

import pytest

from saga_api.deadlines import GATEWAY_MARGIN, GATEWAY_SECONDS, response_deadline
from saga_core.deadlines import RETURN_MARGIN

FUNCTION_SECONDS = 29.0


class Invocation:
    def get_remaining_time_in_millis(self) -> int:
        return int(FUNCTION_SECONDS * 1000)


def left(age: float) -> float:
    """Seconds until the deadline of a request that API Gateway has had for so many seconds."""
    return response_deadline(int((time.time() - age) * 1000), Invocation(), per_call=3).left()


@pytest.mark.parametrize("age", [3.0, 12.0, 28.0])
def test_what_a_cold_start_takes_is_taken_from_the_time_of_the_request(age: float) -> None:
    assert left(age) == pytest.approx(GATEWAY_SECONDS - age - GATEWAY_MARGIN, abs=0.5)


@pytest.mark.parametrize("age", [-3600.0, 0.0])
def test_a_request_has_no_more_time_than_its_invocation(age: float) -> None:
    assert left(age) == pytest.approx(FUNCTION_SECONDS - RETURN_MARGIN, abs=0.6)


@pytest.mark.parametrize("age", [31.0, 3600.0 * 24 * 365])
def test_a_time_that_no_gateway_waits_for_is_ignored(age: float) -> None:
    """The sample event has one."""
    assert left(age) == pytest.approx(FUNCTION_SECONDS - RETURN_MARGIN, abs=0.5)
