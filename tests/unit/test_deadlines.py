import time

from saga_core.deadlines import RETURN_MARGIN, Deadline


class Invocation:
    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.monotonic()) * 1000)


def test_a_call_gets_its_own_limit_while_there_is_time() -> None:
    assert Deadline.of(Invocation(8), per_call=3).timeout() == 3


def test_the_last_call_gets_what_is_left_less_the_margin_for_answering() -> None:
    timeout = Deadline.of(Invocation(2), per_call=3).timeout()

    assert timeout is not None
    assert 2 - RETURN_MARGIN - 0.1 < timeout <= 2 - RETURN_MARGIN


def test_no_call_begins_once_the_time_is_used_up() -> None:
    assert Deadline.of(Invocation(RETURN_MARGIN / 2), per_call=3).timeout() is None
