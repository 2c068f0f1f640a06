"""Secrets, read from Secrets Manager by reference, and read anew when they may have been rotated."""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from saga_core.errors import ConfigurationError, SagaError
from saga_core.settings import PLAIN

# Seconds for the connect, and again for the response. So a function has time left to fail with an error of its own.
READ_SECONDS = 1.0
# Seconds after which a secret that may have been rotated is read again.
READ_AGAIN_SECONDS = 3.0
_THROTTLED = {"LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException"}
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


def read_secret(setting: str, reference: str, unavailable: type[SagaError]) -> str:
    """Read the secret that ``reference``, the value of ``setting``, names. White space at its ends is not part of it.

    Raises:
        unavailable: Secrets Manager gives no usable response, or too many requests reach it.
        ConfigurationError: it refuses the request, or the secret is empty, or holds bytes instead of text. The message
            names the setting and the code of the refusal.
    """
    value = reference.removeprefix(PLAIN) if reference.startswith(PLAIN) else _fetch(setting, reference, unavailable)
    if not value.strip():
        raise ConfigurationError(f"the secret of {setting} is empty")
    return value.strip()


def _fetch(setting: str, reference: str, unavailable: type[SagaError]) -> str:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NoConnectionError

    try:
        value = _client().get_secret_value(SecretId=reference).get("SecretString")
    except ClientError as error:
        # The original error names the role and the request; CloudTrail has it too.
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or "Throttl" in code or code in _THROTTLED:
            raise unavailable(f"Secrets Manager does not return the secret of {setting}: {code}") from None
        raise ConfigurationError(f"Secrets Manager refuses the secret of {setting}: {code}") from None
    except (HTTPClientError, NoConnectionError) as error:
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
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=READ_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 1})
    return boto3.client("secretsmanager", config=config)


class Secrets:
    """The secrets of one engine. Each is read at its first use, and kept."""

    def __init__(self, unavailable: type[SagaError], now: Callable[[], float] = time.monotonic) -> None:
        """``unavailable`` is the error of a secret that cannot be read now; ``now`` gives seconds."""
        self._unavailable = unavailable
        self._now = now
        self._values: dict[str, tuple[str, float]] = {}
        self._may_be_old: set[str] = set()

    def read(self, setting: str, reference: str) -> str:
        """The secret; read anew if it may be old and was not read in the last few seconds.

        Raises:
            As `read_secret`.
        """
        value, read_at = self._values.get(setting, ("", -math.inf))
        is_old = setting in self._may_be_old and self._now() - read_at >= READ_AGAIN_SECONDS
        if setting not in self._values or is_old:
            value = read_secret(setting, reference, self._unavailable)
            self._values[setting] = value, self._now()
            self._may_be_old.discard(setting)
        return value

    def expire(self) -> None:
        """Every secret may be old: it was refused, or it cannot be used."""
        self._may_be_old = set(self._values)
