"""The claims that identify the caller. API Gateway passes every claim as text, and leaves null out."""

import pytest
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from saga_api import caller
from saga_core.ids import Subject
from tests.support.in_process import InProcessApi

NOT_TEXT = ["[a b]", "[alice]", "{}", '{"id":"alice"}', "map[id:alice]", "true", "False", "null", "-1", "1.5", "1e+21"]


@pytest.mark.parametrize("claim", NOT_TEXT)
@pytest.mark.parametrize("name", ["sub", "service_account_id"])
def test_a_claim_that_was_not_text_in_the_token_identifies_nobody(name: str, claim: str, api: InProcessApi) -> None:
    response = api.call("GET", "/agents/a/schedules/daily", claims={name: claim})

    assert response.is_problem(401)
    assert response.body["message"] == f"the token's claims do not tell who calls: {name}: the claim must be text"


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": " \t"}, {"sub": "", "service_account_id": ""}])
def test_blank_claims_identify_nobody(claims: dict[str, str], api: InProcessApi) -> None:
    assert api.call("GET", "/agents/a/schedules/daily", claims=claims).is_problem(401)


def test_two_identities_are_refused(api: InProcessApi) -> None:
    claims = {"sub": "alice", "service_account_id": "reporter"}

    assert api.call("GET", "/agents/a/schedules/daily", claims=claims).is_problem(401)


@pytest.mark.parametrize(
    ("extra", "account"),
    [
        ({"service_account_id": ""}, None),
        ({"account_id": " "}, None),
        ({"account_id": "acme"}, "acme"),
        ({"account_id": "é" * 2000}, "é" * 500),
    ],
)
@pytest.mark.usefixtures("api")
def test_neither_a_blank_service_account_nor_an_odd_account_refuses_a_user(
    extra: dict[str, str], account: str | None
) -> None:
    event = {"requestContext": {"authorizer": {"jwt": {"claims": {"sub": "alice", **extra}}}}}

    who = caller.identify(APIGatewayProxyEventV2(event))

    assert who.subject == Subject("user", "alice")
    assert who.principal.account_id == account


@pytest.mark.parametrize(
    "size", ["5.0", "+5", "1_0", "%205", "5%20", "0x5", "%EF%BC%91%EF%BC%90", "1e1", "", "-0", "05", "5&page_size=5"]
)
def test_an_integer_of_the_query_has_decimal_digits_and_nothing_else(size: str, api: InProcessApi) -> None:
    response = api.call("GET", f"/agents/a/schedules?page_size={size}")

    assert response.is_problem(422)
    assert response.body["message"].startswith("page_size: ")
