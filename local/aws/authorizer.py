"""Checks the token of a request as a JWT authorizer of API Gateway does."""

import json
import re
from collections.abc import Iterable
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, ClaimError, ExpiredTokenError
from joserfc.jwk import KeySet

from local.aws.resources import Authorizer

_ALGORITHMS = ["RS256"]


class TokenRefused(Exception):
    """A request has no valid token.

    The text is the reason, in fixed words: it contains nothing of the token, so that it can be logged.
    """

    @property
    def challenge(self) -> str:
        """The value of the response's WWW-Authenticate header."""
        return f'Bearer scope="" error="invalid_token" error_description="{self}"'


class TokenMissing(TokenRefused):
    """A request has no token at all."""

    @property
    def challenge(self) -> str:
        return "Bearer"


class ScopeMissing(TokenRefused):
    """A request has a valid token that has none of the route's scopes."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__("the token does not have a required scope")
        self._scopes = scopes

    @property
    def challenge(self) -> str:
        return f'Bearer scope="{" ".join(self._scopes)}" error="insufficient_scope" error_description="{self}"'


def verified_claims(
    values: Iterable[str], authorizer: Authorizer, keys: KeySet, scopes: tuple[str, ...] = ()
) -> dict[str, str]:
    """The claims of a request's token, each as the text that a function gets. A claim that is null is left out.

    Args:
        values: every value of the header that holds the token, with or without `Bearer` before the token.
        keys: the issuer's public keys.
        scopes: those of the route; the token needs one of them, if there are any.

    Raises:
        ScopeMissing: the token has none of the scopes.
        TokenRefused: there is no token, or API Gateway would not accept it.
    """
    # Two headers are joined to one value with a comma in it, which is not a token.
    token = re.sub("^bearer +", "", ",".join(values), flags=re.IGNORECASE)
    if not token:
        raise TokenMissing("no token")
    claims = _verified(token, authorizer, keys)
    if scopes and not {*scopes} & {*_scopes(claims.get("scope")), *_scopes(claims.get("scp"))}:
        raise ScopeMissing(scopes)
    return {name: _text(claim) for name, claim in claims.items() if claim is not None}


def _verified(token: str, authorizer: Authorizer, keys: KeySet) -> dict[str, Any]:
    """The claims of a valid token. The times in it are compared to the second, with no allowance for a wrong clock.

    Raises:
        TokenRefused: it is not a JWT, is not signed with RS256 by a key of the set that it names, is not meant for
            this API, has expired, or is not valid yet.
    """
    required = jwt.JWTClaimsRegistry(iss={"essential": True, "value": authorizer.issuer}, exp={"essential": True})
    try:
        decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
        required.validate(decoded.claims)
    except ExpiredTokenError:
        raise TokenRefused("the token has expired") from None
    except BadSignatureError:
        raise TokenRefused("the token's signature is not valid") from None
    except ClaimError as error:
        raise TokenRefused(f"the token's claim {error.claim} is not valid") from None
    except Exception:  # noqa: BLE001 - a malformed token makes the library raise errors of any type
        raise TokenRefused("the token is not valid") from None
    # When a token names no key, the library uses the only key of the set.
    if "kid" not in decoded.header:
        raise TokenRefused("the token names no key")
    # API Gateway checks client_id when there is no aud.
    audience = decoded.claims.get("aud", decoded.claims.get("client_id"))
    if not any(name in (audience if isinstance(audience, list) else [audience]) for name in authorizer.audience):
        raise TokenRefused("the token does not have a valid audience")
    return decoded.claims


def _scopes(claim: object) -> list[str]:
    """The scopes in a claim: a text with spaces between them, or a list."""
    if isinstance(claim, str):
        return claim.split(" ")
    return [entry for entry in claim if isinstance(entry, str)] if isinstance(claim, list) else []


def _text(claim: object) -> str:
    """A claim as API Gateway writes it: a list in brackets, with spaces between its members."""
    if isinstance(claim, list):
        return f"[{' '.join(_text(entry) for entry in claim)}]"
    return claim if isinstance(claim, str) else json.dumps(claim)
