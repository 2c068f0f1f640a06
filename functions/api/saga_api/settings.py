"""What the HTTP API takes from its environment; every value is set in template.yaml."""

from functools import cache

from pydantic import Field

from saga_core.errors import TemporalUnavailable
from saga_core.secret_store import read_secret
from saga_core.settings import FromEnvironment, SecretReference


class ApiSettings(FromEnvironment):
    """What the HTTP API needs besides the engines.

    Attributes:
        create_schedule_state_machine_arn, delete_schedule_state_machine_arn: the Express machines.
        page_token_secret: reference to the key that signs page tokens.
        user_id_claim, service_account_id_claim, account_id_claim: names of the claims that identify the caller; a name
            that is not set is not looked at.
        jwt_read_scope, jwt_write_scope: what API Gateway requires of a token, for the specification.
    """

    # Not checked to be ARNs: `sam local` has no state machines, and puts their logical ids here.
    create_schedule_state_machine_arn: str = Field(min_length=1)
    delete_schedule_state_machine_arn: str = Field(min_length=1)
    page_token_secret: SecretReference
    user_id_claim: str | None = None
    service_account_id_claim: str | None = None
    account_id_claim: str | None = None
    jwt_read_scope: str | None = None
    jwt_write_scope: str | None = None


@cache
def api_settings() -> ApiSettings:
    """The settings of the HTTP API, read once."""
    return ApiSettings.load()


@cache
def page_token_key() -> bytes:
    """The key that signs page tokens, which are Temporal's; read once.

    Raises:
        TemporalUnavailable: the secret cannot be read now.
        ConfigurationError: the secret cannot be read.
    """
    return read_secret("PAGE_TOKEN_SECRET", api_settings().page_token_secret, TemporalUnavailable).encode()
