from collections.abc import Iterator

import boto3
import pytest

from saga_core import secret_store
from saga_core.errors import AuthorizationUnavailable, ConfigurationError, TemporalUnavailable
from saga_core.secret_store import Secrets, read_secret
from tests.support.secrets_manager import SLOWLY, Refusal, SecretsManager, secrets_manager

SETTING = "SPICEDB_TOKEN_SECRET"


@pytest.fixture
def manager() -> Iterator[SecretsManager]:
    with pytest.MonkeyPatch.context() as environment, secrets_manager(environment) as manager:
        secret_store._client.cache_clear()
        yield manager
    secret_store._client.cache_clear()


def read(reference: str) -> str:
    return read_secret(SETTING, reference, AuthorizationUnavailable)


def test_a_plain_secret_is_its_own_value() -> None:
    assert read("plain:a:b") == "a:b"


@pytest.mark.parametrize("value", ["token\n", "  token", "\ttoken \r\n", "\ufefftoken"])
def test_white_space_at_the_ends_of_a_secret_is_not_part_of_it(manager: SecretsManager, value: str) -> None:
    assert read(manager.hold("token", value)) == read(f"plain:{value}") == "token"


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("ThrottlingException"),
        Refusal("TooManyRequestsException", 429),
        Refusal("LimitExceededException"),
        Refusal("InternalServiceError", 500),
        Refusal("ServiceUnavailable", 503),
        Refusal("RequestTimeoutException"),
        Refusal("RequestTimeout", 408),
    ],
    ids=lambda refusal: refusal.code,
)
def test_trouble_of_secrets_manager_is_an_unavailability_of_the_engine(
    manager: SecretsManager, refusal: Refusal
) -> None:
    reference = manager.hold("token", refusal)

    with pytest.raises(AuthorizationUnavailable, match=f"{SETTING}: {refusal.code}"):
        read(reference)
    with pytest.raises(TemporalUnavailable, match=f"TEMPORAL_API_KEY_SECRET: {refusal.code}"):
        read_secret("TEMPORAL_API_KEY_SECRET", reference, TemporalUnavailable)

    assert len(manager.reads) == 2, "a read is not repeated here: the state machine does"


def test_a_secrets_manager_that_does_not_respond_leaves_time_to_say_so(
    manager: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_store, "READ_SECONDS", 0.1)

    with pytest.raises(AuthorizationUnavailable, match=f"{SETTING}: ReadTimeoutError"):
        read(manager.hold("token", None))


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_response_that_comes_byte_by_byte_is_not_waited_for(manager: SecretsManager, seconds: float) -> None:
    with pytest.raises(AuthorizationUnavailable, match=f"{SETTING}: TimeoutError"):
        read_secret(SETTING, manager.hold("token", SLOWLY), AuthorizationUnavailable, seconds)


def test_a_secret_that_an_engine_repeats_is_hidden() -> None:
    secrets = Secrets(AuthorizationUnavailable)
    for name in ("first line\nsecond line", "abcd", "abc"):
        secrets.read(name, f"plain:{name}", 1)

    assert secrets.hidden("refused: second line, abcd") == "refused: (hidden), (hidden)"
    assert secrets.hidden("abc") == "abc", "too short to be found"


def test_a_secrets_manager_that_cannot_be_reached_is_an_unavailability() -> None:
    with pytest.MonkeyPatch.context() as environment, secrets_manager(environment) as gone:
        reference = gone.hold("token", "x")
        environment.setattr(secret_store, "READ_SECONDS", 0.2)
        secret_store._client.cache_clear()
        environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")

        with pytest.raises(AuthorizationUnavailable, match=f"{SETTING}: EndpointConnectionError"):
            read(reference)
    secret_store._client.cache_clear()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Refusal("AccessDeniedException"), "AccessDeniedException"),
        (Refusal("ResourceNotFoundException"), "ResourceNotFoundException"),
        (Refusal("InvalidRequestException"), "InvalidRequestException"),
        (Refusal("DecryptionFailure"), "DecryptionFailure"),
        (Refusal("KMSInvalidStateException"), "KMSInvalidStateException"),
        (b"\0\1", "holds no text"),
        ("", "is empty"),
        (" \n", "is empty"),
    ],
    ids=str,
)
def test_a_secret_that_is_refused_or_of_no_use_is_a_configuration_error_by_its_name(
    manager: SecretsManager, value: str | bytes | Refusal, said: str
) -> None:
    reference = manager.hold("token", value)

    with pytest.raises(ConfigurationError, match=said) as refused:
        read(reference)

    assert SETTING in str(refused.value)
    assert reference not in str(refused.value)


def test_credentials_that_a_function_does_not_have_are_a_configuration_error(
    manager: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")

    with pytest.raises(ConfigurationError, match="NoCredentialsError"):
        read(manager.hold("token", "x"))


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_secret_is_read_once_until_it_may_be_old(manager: SecretsManager) -> None:
    clock = Clock()
    secrets = Secrets(AuthorizationUnavailable, clock)
    reference = manager.hold("token", "old")

    assert [secrets.read(SETTING, reference, 2) for _ in range(3)] == ["old"] * 3
    manager.hold("token", "new")
    clock.seconds += 3600
    assert secrets.read(SETTING, reference, 2) == "old"
    secrets.expire()

    assert [secrets.read(SETTING, reference, 2) for _ in range(3)] == ["new"] * 3
    assert len(manager.reads) == 2


def test_a_secret_that_was_just_read_is_not_read_again_however_often_it_is_refused(manager: SecretsManager) -> None:
    clock = Clock()
    secrets = Secrets(AuthorizationUnavailable, clock)
    reference = manager.hold("token", "wrong")

    for _ in range(100):
        secrets.read(SETTING, reference, 2)
        secrets.expire()
        clock.seconds += 0.1

    assert len(manager.reads) == 100 * 0.1 // secret_store.READ_AGAIN_SECONDS + 1


@pytest.mark.parametrize("seconds", [2, 3])
def test_secrets_that_are_read_too_slowly_leave_no_time_to_connect(seconds: float) -> None:
    clock = Clock()
    secrets = Secrets(AuthorizationUnavailable, clock)

    def connect() -> None:
        with secrets.before_connecting("SpiceDB", 2):
            clock.seconds += seconds

    with pytest.raises(AuthorizationUnavailable, match="no time was left to connect to SpiceDB"):
        connect()
