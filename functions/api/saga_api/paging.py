"""Page tokens: Temporal's own, signed for one agent's list and one caller.

A token that Temporal gives holds the start time of a schedule, and Temporal responds to a token that is not its own as
it does in an outage. So only a token that this caller got from this list reaches Temporal.
"""

import hmac
from base64 import b64decode, urlsafe_b64encode

from saga_api.settings import page_token_key
from saga_core.errors import InvalidRequest
from saga_core.ids import Subject

_DIGEST = "sha256"
_SIGNATURE_BYTES = 32


def sealed(token: bytes, agent_id: str, caller: Subject) -> str:
    """The page token for Temporal's token in a list of the agent that the caller got."""
    # None of the parts before the token can contain a zero byte.
    message = b"\0".join((agent_id.encode(), caller.type.encode(), caller.id.encode(), token))
    return urlsafe_b64encode(hmac.digest(page_token_key(), message, _DIGEST) + token).decode()


def opened(page_token: str | None, agent_id: str, caller: Subject) -> bytes:
    """Temporal's token in a page token; empty for the first page.

    Raises:
        InvalidRequest: no list of this agent has given the token to this caller.
    """
    if page_token is None:
        return b""
    try:
        token = b64decode(page_token, altchars=b"-_", validate=True)[_SIGNATURE_BYTES:]
    except ValueError:
        token = b""
    if not token or not hmac.compare_digest(sealed(token, agent_id, caller), page_token):
        raise InvalidRequest("page_token: is not a token that a list of this agent has given to this caller")
    return token
