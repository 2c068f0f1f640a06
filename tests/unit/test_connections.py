"""When a client is made, replaced and ended."""

from dataclasses import dataclass, field

from saga_core.connections import REPLACE_SECONDS, Connected, Connection


@dataclass
class Engine:
    """Makes clients that are numbers, and notes which are closed."""

    made: int = 0
    closed: list[int] = field(default_factory=list)
    refusals: int = 0
    seconds: float = 0.0

    def connect(self, _timeout: float) -> Connected[int]:
        self.made += 1
        number = self.made
        return Connected(number, lambda: self.closed.append(number))

    def refused(self) -> None:
        self.refusals += 1

    def connection(self) -> Connection[int]:
        return Connection(self.connect, self.refused, now=lambda: self.seconds)


def used(connection: Connection[int], *, fails: bool = False, refused: bool = False) -> int:
    with connection.client(1) as client:
        if fails:
            connection.failed(client, credentials_refused=refused)
    return client


def test_one_client_is_made_at_the_first_call_and_kept() -> None:
    engine = Engine()
    connection = engine.connection()
    assert engine.made == 0

    assert [used(connection) for _ in range(3)] == [1, 1, 1]


def test_a_client_that_failed_is_replaced_at_the_next_call_and_ended() -> None:
    engine = Engine()
    connection = engine.connection()
    engine.seconds = 1000
    used(connection)
    engine.seconds += 3600

    assert used(connection, fails=True) == 1
    assert used(connection) == 2
    assert engine.closed == [1]


def test_a_client_that_fails_at_every_call_is_replaced_once_in_a_few_seconds() -> None:
    engine = Engine()
    connection = engine.connection()
    for _ in range(100):
        used(connection, fails=True)
        engine.seconds += 0.1

    assert engine.made == 100 * 0.1 // REPLACE_SECONDS + 1
    assert len(engine.closed) == engine.made - 1


def test_a_client_is_ended_only_when_the_last_call_that_uses_it_is_over() -> None:
    engine = Engine()
    connection = engine.connection()
    with connection.client(1) as first, connection.client(1) as second:
        assert first == second == 1
        connection.failed(first)
        engine.seconds += REPLACE_SECONDS
        with connection.client(1) as third:
            assert third == 2
            assert engine.closed == []
    assert engine.closed == [1]


def test_calls_that_connect_at_once_end_with_one_client() -> None:
    engine = Engine()
    inner: list[int] = []

    def connect(timeout: float) -> Connected[int]:
        if not inner:
            inner.append(0)
            inner.append(used(connection))
        return engine.connect(timeout)

    connection: Connection[int] = Connection(connect)

    assert used(connection) == 2
    assert used(connection) == 1, "the first that was connected"
    assert engine.closed == [2]


def test_a_failure_of_a_client_that_was_replaced_already_does_not_end_the_new_one() -> None:
    engine = Engine()
    connection = engine.connection()
    with connection.client(1) as old:
        connection.failed(old)
        engine.seconds += REPLACE_SECONDS
        used(connection)
        connection.failed(old)
        engine.seconds += REPLACE_SECONDS

    assert used(connection) == 2


def test_credentials_are_told_of_only_when_they_are_refused() -> None:
    engine = Engine()
    connection = engine.connection()

    used(connection, fails=True)
    assert engine.refusals == 0
    used(connection, fails=True, refused=True)
    assert engine.refusals == 1
