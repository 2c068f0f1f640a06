"""What a function takes from its environment, and the secrets that it refers to.

Every value is set in template.yaml. A secret is never a value here, only a reference: the ARN of a Secrets Manager
secret, or ``plain:<value>`` on a laptop (the template's parameters accept ARNs only).
"""

import os
import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from saga_core.errors import ConfigurationError

PLAIN = "plain:"
_LAST_PORT = 65_535
_MOST_OF_A_NAME, _MOST_OF_A_LABEL = 253, 63
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


def _host_and_port(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if not found or not 0 < int(found["port"]) <= _LAST_PORT:
        raise ValueError("is not host:port, with a port between 1 and 65535")
    host = found["host"]
    labels = host.removesuffix(".").split(".")
    if host.startswith("[") or labels[-1].isdecimal():
        try:
            _ = IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
        except ValueError:
            raise ValueError("has a host that is no IP address") from None
    elif len(host) > _MOST_OF_A_NAME or not all(0 < len(label) <= _MOST_OF_A_LABEL for label in labels):
        raise ValueError("has a host that is no name")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]
SecretReference = Annotated[str, Field(pattern=r"^(plain:|arn:).+")]


class FromEnvironment(BaseModel):
    """Base of all settings."""

    # A function reads one or two of the settings: what checks the others is not made.
    model_config = ConfigDict(frozen=True, defer_build=True)

    @classmethod
    def load(cls) -> Self:
        """Read the fields from the environment variables of the same names, in capitals; empty means unset.

        Raises:
            ConfigurationError: a variable is missing or malformed. The message names it and never shows its value.
        """
        values = {name: os.environ.get(name.upper()) or None for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(f"environment of the function: {wrong}") from None


class CallSettings(FromEnvironment):
    """What every function needs.

    Attributes:
        rpc_timeout_seconds: the most that one call to an engine may take.
    """

    rpc_timeout_seconds: float = Field(default=3.0, gt=0)


class SpiceDBSettings(FromEnvironment):
    """How to reach SpiceDB.

    Attributes:
        spicedb_endpoint: ``host:port`` of its gRPC API.
        spicedb_tls: use TLS for SpiceDB.
        spicedb_token_secret: reference to the pre-shared key.
        spicedb_ca_secret: reference to the PEM of a private certificate authority, if the server has one.
        lease_seconds: how long a create counts as in flight; longer than the timeouts of the create and the delete
            machine together, and shorter than the 15 minutes for which Temporal's sentinels live (docs/adr/0003).
    """

    spicedb_endpoint: Address
    spicedb_tls: bool = True
    spicedb_token_secret: SecretReference
    spicedb_ca_secret: SecretReference | None = None
    lease_seconds: int = Field(default=720, gt=0, lt=900)


class TemporalSettings(FromEnvironment):
    """How to reach Temporal.

    Attributes:
        temporal_address: ``host:port`` of the frontend's gRPC API.
        temporal_namespace: the namespace that holds the schedules.
        temporal_tls: use TLS for Temporal.
        temporal_api_key_secret: reference to an API key, if the server requires one.
        temporal_tls_secret: reference to a JSON object with any of ``server_root_ca_cert``, ``client_cert`` and
            ``client_private_key``, each PEM, if the server has a private authority or requires mutual TLS.
    """

    temporal_address: Address
    temporal_namespace: str = Field(min_length=1, max_length=1000)
    temporal_tls: bool = True
    temporal_api_key_secret: SecretReference | None = None
    temporal_tls_secret: SecretReference | None = None


class MemoSettings(FromEnvironment):
    """What temporal_create needs besides.

    Attributes:
        memo_version: of the memos that it writes; 1 while functions of an earlier release may still read them.
    """

    memo_version: Annotated[int, Field(ge=1, le=2)] = 2


@cache
def memo_settings() -> MemoSettings:
    """The settings of the memos, read once."""
    return MemoSettings.load()


@cache
def call_settings() -> CallSettings:
    """The settings that every function needs, read once."""
    return CallSettings.load()
