"""Who calls. The caller is identified only by the token's verified claims."""

from dataclasses import dataclass

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from saga_api.settings import api_settings
from saga_core.errors import InvalidRequest, Unauthorized
from saga_core.ids import Subject
from saga_core.requests import Principal


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
        Unauthorized: they identify nobody, or have two identities or a blank one.
    """
    settings = api_settings()
    authorizer = event.request_context.authorizer
    claims = (authorizer and authorizer.jwt_claim) or {}
    names = {
        "user_id": settings.user_id_claim,
        "service_account_id": settings.service_account_id_claim,
        "account_id": settings.account_id_claim,
    }
    try:
        principal = Principal.parse({field: claims[name] for field, name in names.items() if name and name in claims})
    except InvalidRequest as refusal:
        said = str(refusal)
        for field, name in names.items():
            said = said.replace(f"{field}: ", f"{name}: ")  # the caller knows the claim, not the field of the model
        raise Unauthorized(f"the token's claims do not tell who calls: {said}") from None
    if principal.creator is None:
        raise Unauthorized("the token's claims do not tell who calls")
    return Caller(principal, principal.creator)
