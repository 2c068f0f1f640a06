"""Who calls. The caller is identified only by the token's verified claims."""

import re
from dataclasses import dataclass

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from saga_api.settings import api_settings
from saga_core import limits
from saga_core.errors import InvalidRequest, Unauthorized
from saga_core.ids import Subject
from saga_core.requests import Principal

# API Gateway passes every claim as text, and leaves null out. These are the texts of claims that are a boolean, a list,
# an object, or a number with a sign, a fraction or an exponent. An issuer has rounded such a number, or may have. A
# whole number cannot be told from an id of digits alone, which is common; it names the same identity.
_NOT_TEXT = re.compile(
    r"null|true|false|(map)?\[.*\]|\{.*\}|-[0-9.]+|-?[0-9]+(\.[0-9]+(e[+-]?[0-9]+)?|e[+-][0-9]+)",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class Caller:
    """The caller of a request.

    Attributes:
        principal: as a create machine takes it.
        subject: as SpiceDB knows it.
    """

    principal: Principal
    subject: Subject


def identify(event: APIGatewayProxyEventV2) -> Caller:
    """The caller, by the claims that the authorizer has verified.

    Raises:
        Unauthorized: they identify nobody or two identities, or an identity that was not text in the token.
    """
    settings = api_settings()
    authorizer = event.request_context.authorizer
    claims = (authorizer and authorizer.jwt_claim) or {}
    names = {"user_id": settings.user_id_claim, "service_account_id": settings.service_account_id_claim}
    account = claims.get(settings.account_id_claim) if settings.account_id_claim else None
    try:
        ids = {field: _identity(field, claims.get(name)) for field, name in names.items() if name}
        principal = Principal.parse({**ids, "account_id": _account(account)})
    except InvalidRequest as refusal:
        said = str(refusal)
        for field, name in names.items():
            said = said.replace(f"{field}: ", f"{name}: ")  # the caller knows the claim, not the field of the model
        raise Unauthorized(f"the token's claims do not tell who calls: {said}") from None
    if principal.creator is None:
        raise Unauthorized("the token's claims do not tell who calls")
    return Caller(principal, principal.creator)


def _identity(field: str, claim: object) -> str | None:
    """The id in a claim; None where the claim is absent or blank.

    Raises:
        InvalidRequest: the claim was not text in the token.
    """
    if claim is None:
        return None
    if not isinstance(claim, str) or _NOT_TEXT.fullmatch(claim):
        raise InvalidRequest(f"{field}: the claim must be text")
    return claim if claim.strip() else None


def _account(claim: object) -> str | None:
    """The account in a claim, cut to what is kept of it; None where the claim is absent or blank.

    It is only for audit, so that it never refuses a request.
    """
    if not isinstance(claim, str):
        return None
    kept = limits.cut(claim, limits.TEXT)
    return kept if kept.strip() else None
