"""Page tokens: Temporal's own, with a checksum of it and of the agent whose list it continues.

The checksum guards against mistakes: Temporal responds to a token that is not its own as it does in an outage.
"""

from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256

from saga_core.errors import InvalidRequest

_CHECKSUM_BYTES = 8


def sealed(token: bytes, agent_id: str) -> str:
    """The page token for Temporal's token in a list of the agent."""
    return urlsafe_b64encode(sha256(agent_id.encode() + token).digest()[:_CHECKSUM_BYTES] + token).decode()


def opened(page_token: str | None, agent_id: str) -> bytes:
    """Temporal's token in a page token; empty for the first page.

    Raises:
        InvalidRequest: no list of this agent has given the token.
    """
    if page_token is None:
        return b""
    try:
        token = b64decode(page_token, altchars=b"-_", validate=True)[_CHECKSUM_BYTES:]
    except ValueError:
        token = b""
    if not token or sealed(token, agent_id) != page_token:
        raise InvalidRequest("page_token: is not a token that a list of this agent has given")
    return token
