"""Secrets, read from Secrets Manager by reference, and read anew when they may have been rotated."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from saga_core.deadlines import Deadline, within
from saga_core.errors import ConfigurationError, SagaError
from saga_core.settings import PLAIN

# Seconds that a read may take. So a function has time left to fail with an error of its own.
READ_SECONDS = 2.0
# Seconds after which a secret that may have been rotated is read again.
READ_AGAIN_SECONDS = 3.0
# Besides those with "Throttl" in their names. Other services that Secrets Manager asks have codes of their own.
_TRANSIENT = {
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "TooManyRequestsException",
}
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 429, 500
_BYTE_ORDER_MARK = "\ufeff"
# In what is shown instead of a secret; and how long a line has to be to give a secret away.
_HIDDEN, _TELLING = "(hidden)", 4


def read_secret(setting: str, reference: str, unavailable: type[SagaError], seconds: float = READ_SECONDS) -> str:
    """Read the secret that ``reference``, the value of ``setting``, names, within ``seconds``, or `READ_SECONDS`.

    White space at its ends, and a byte-order mark, are not part of it.

    Raises:
        unavailable: Secrets Manager gives no usable response in time, or too many requests reach it.
        ConfigurationError: it refuses the request, or the secret is empty, or holds bytes instead of text. The message
            names the setting and the code of the refusal.
    """
    value = reference.removeprefix(PLAIN)
    if value == reference:
        value = _fetch(setting, reference, unavailable, min(seconds, READ_SECONDS))
    value = value.strip().removeprefix(_BYTE_ORDER_MARK).strip()
    if not value:
        raise ConfigurationError(f"the secret of {setting} is empty")
    return value


def _fetch(setting: str, reference: str, unavailable: type[SagaError], seconds: float) -> str:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NoConnectionError

    try:
        value = within(seconds, partial(_client().get_secret_value, reference), thread="secret").get("SecretString")
    except ClientError as error:
        # The original error names the role and the request; CloudTrail has it too.
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        is_busy = "Throttl" in code or code in _TRANSIENT or status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
        if is_busy or status >= _SERVER_ERROR:
            raise unavailable(f"Secrets Manager does not return the secret of {setting}: {code}") from None
        raise ConfigurationError(f"Secrets Manager refuses the secret of {setting}: {code}") from None
    except (HTTPClientError, NoConnectionError, TimeoutError) as error:
        name = type(error).__name__
        raise unavailable(f"Secrets Manager does not return the secret of {setting}: {name}") from None
    except BotoCoreError as error:
        name = type(error).__name__
        raise ConfigurationError(f"Secrets Manager cannot be asked for the secret of {setting}: {name}") from None
    if not isinstance(value, str):
        raise ConfigurationError(f"the secret of {setting} holds no text")
    return value


@cache
def _client() -> Any:
    # Imported here because it takes long, and a laptop needs no Secrets Manager.
    from saga_core.secrets_manager import SecretsManager

    return SecretsManager(connect_seconds=READ_SECONDS / 2, read_seconds=READ_SECONDS / 2)


class Secrets:
    """The secrets of one engine. Each is read at its first use, and kept."""

    def __init__(self, unavailable: type[SagaError], now: Callable[[], float] = time.monotonic) -> None:
        """``unavailable`` is the error of a secret that cannot be read now; ``now`` gives seconds."""
        self._unavailable = unavailable
        self._now = now
        self._values: dict[str, tuple[str, float]] = {}
        self._may_be_old: set[str] = set()

    def read(self, setting: str, reference: str, seconds: float) -> str:
        """The secret; read anew, within ``seconds``, if it may be old and was not read in the last few seconds.

        Raises:
            As `read_secret`.
        """
        value, read_at = self._values.get(setting, ("", -math.inf))
        is_old = setting in self._may_be_old and self._now() - read_at >= READ_AGAIN_SECONDS
        if setting not in self._values or is_old:
            value = read_secret(setting, reference, self._unavailable, seconds)
            self._values[setting] = value, self._now()
            self._may_be_old.discard(setting)
        return value

    @contextmanager
    def before_connecting(self, engine: str, timeout: float) -> Iterator[Deadline]:
        """The block reads what a connection to ``engine`` needs. Secrets that cannot be used expire.

        Yields the end of the ``timeout`` seconds that reading and connecting may take.

        Raises:
            unavailable: they were read, and no time is left to connect.
        """
        deadline = Deadline(self._now() + timeout, timeout, self._now)
        try:
            yield deadline
        except ConfigurationError:
            self.expire()
            raise
        if deadline.left() <= 0:
            raise self._unavailable(f"no time was left to connect to {engine}: its secrets were read, slowly")

    def hidden(self, text: str) -> str:
        """The text without any line of a secret, where an engine repeats one."""
        for value, _ in self._values.values():
            for line in (value, *value.replace("\\n", "\n").splitlines()):
                if len(line) >= _TELLING:
                    text = text.replace(line, _HIDDEN)
        return text

    def expire(self) -> None:
        """Every secret may be old: it was refused, or it cannot be used."""
        self._may_be_old = set(self._values)
