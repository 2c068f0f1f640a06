"""Tokens at the gateway, claims in the function, permissions in SpiceDB."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from local.stack.issuer import AUDIENCE, ISSUER
from tests.support.api import Api, HttpResponse

Call = Callable[[Api, str], HttpResponse]
ROUTES: dict[str, Call] = {
    "create": lambda api, who: api.create("other", as_=who),
    "list": lambda api, who: api.call("GET", api.schedules, as_=who),
    "get": lambda api, who: api.get(as_=who),
    "pause": lambda api, who: api.call("POST", f"{api.schedules}/daily/pause", as_=who),
    "unpause": lambda api, who: api.call("POST", f"{api.schedules}/daily/unpause", as_=who),
    "trigger": lambda api, who: api.call("POST", f"{api.schedules}/daily/trigger", as_=who),
    "delete": lambda api, who: api.delete(as_=who),
}
ON_A_SCHEDULE = [name for name in ROUTES if name not in ("create", "list")]
CREATED_OK, DENIED_CREATE = 201, 403


def signed(key: RSAKey, header: dict[str, Any] | None = None, **claims: object) -> str:
    now = int(time.time())
    everything = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600, "sub": "alice", **claims}
    kept = {name: value for name, value in everything.items() if value is not None}
    return jwt.encode({"alg": "RS256", "kid": key.kid, **(header or {})}, kept, key, algorithms=["RS256"])


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def tampered(token: str) -> str:
    header, _, signature = token.split(".")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "root"}
    return f"{header}.{part(claims)}.{signature}"


STRANGER = RSAKey.generate_key(2048, auto_kid=True)
BAD_TOKENS: dict[str, Callable[[Api], str]] = {
    "none at all": lambda _: "",
    "expired": lambda api: signed(api.key, exp=int(time.time()) - 1),
    "without an expiry": lambda api: signed(api.key, exp=None),
    "not valid yet": lambda api: signed(api.key, nbf=int(time.time()) + 600),
    "foreign issuer": lambda api: signed(api.key, iss="https://elsewhere.example/"),
    "without an issuer": lambda api: signed(api.key, iss=None),
    "wrong audience": lambda api: signed(api.key, aud="another-api"),
    "without an audience": lambda api: signed(api.key, aud=None),
    "foreign key": lambda _: signed(STRANGER),
    "foreign key under our key's name": lambda api: signed(STRANGER, {"kid": api.key.kid}),
    "alg none": lambda api: f"{part({'alg': 'none'})}.{signed(api.key).split('.')[1]}.",
    "alg none under our key's name": lambda api: (
        f"{part({'alg': 'none', 'kid': api.key.kid})}.{signed(api.key).split('.')[1]}."
    ),
    "tampered claims": lambda api: tampered(signed(api.key)),
    "tampered signature": lambda api: signed(api.key)[:-8] + "AAAAAAAA",
    "no signature": lambda api: signed(api.key).rpartition(".")[0] + ".",
    "not a JWT": lambda _: "alice",
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_token_that_is_not_valid_is_401_and_calls_nothing(token: Callable[[Api], str], api: Api) -> None:
    for method, path in (("GET", "/daily"), ("PUT", "")):
        response = api.call(method, api.schedules + path, token=token(api))
        assert (response.status, response.body) == (401, {"message": "Unauthorized"})
    assert api.calls() == ([], [])


@pytest.mark.parametrize("token", [BAD_TOKENS["none at all"], BAD_TOKENS["tampered claims"]], ids=["none", "tampered"])
def test_every_route_needs_a_valid_token_and_without_one_changes_nothing(token: Callable[[Api], str], api: Api) -> None:
    api.create()
    api.calls()
    requests = [("POST", ""), ("GET", ""), ("GET", "/daily"), ("DELETE", "/daily")]
    requests += [("POST", f"/daily/{verb}") for verb in ("pause", "unpause", "trigger")]

    for method, path in [*requests, ("GET", "/../../elsewhere"), ("PUT", "")]:
        response = api.call(method, api.schedules + path, token=token(api))
        assert (response.status, response.body) == (401, {"message": "Unauthorized"}), (method, path)
    assert api.calls() == ([], [])
    assert api.get().body["state"] == "ACTIVE"


@pytest.mark.parametrize("claims", [{"sub": None}, {"service_account_id": "reporter"}], ids=["nobody", "two at once"])
def test_a_valid_token_whose_claims_do_not_identify_the_caller_is_401(claims: dict[str, Any], api: Api) -> None:
    response = api.call("GET", api.schedules, token=signed(api.key, **claims))

    assert response.is_problem(401)
    assert response.body["message"].startswith("the token's claims do not tell who calls")
    assert api.calls() == ([], [])


def test_the_creator_is_the_caller_that_the_token_names(api: Api) -> None:
    assert api.create().status == CREATED_OK

    assert "owner@user:alice" in api.held()


def test_headers_that_name_another_user_change_nothing(api: Api) -> None:
    spoofed = {
        "X_User_Id": "alice",
        "X_Amzn_Oidc_Identity": "alice",
        "X_Forwarded_User": "alice",
        "Principal": json.dumps({"user_id": "alice"}),
        "Cookie": f"token={api.token('alice')}",
    }
    api.create()

    for method, path in (("GET", "/daily"), ("DELETE", "/daily"), ("POST", "/daily/pause")):
        response = api.call(method, api.schedules + path, as_="mallory", **spoofed)
        assert response.is_problem(404, "schedule not found")
    for smuggled in ("?user_id=alice&sub=alice", f"?access_token={api.token('alice')}"):
        assert api.call("GET", f"{api.schedules}/daily{smuggled}", as_="mallory").status == 404


def test_a_service_account_acts_in_its_own_name(api: Api) -> None:
    token = api.token("", service_account="reporter")
    body = {"name": "daily", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 60}

    denied = api.call("POST", api.schedules, body, token=token)
    api.relate(f"agent:{api.agent}#editor@service_account:reporter")
    created = api.call("POST", api.schedules, body, token=token)

    assert denied.status == DENIED_CREATE
    assert created.status == CREATED_OK
    assert "owner@service_account:reporter" in api.held()
    assert api.call("GET", f"{api.schedules}/daily", token=token).status == 200
    # A user of the same name is a different subject.
    api.relate(f"agent:{api.agent}#owner@user:reporter")
    assert api.get(as_="reporter").is_problem(404, "schedule not found")
    assert api.call("DELETE", f"{api.schedules}/daily", token=token).status == 200


def test_a_subject_that_is_encoded_for_spicedb_owns_what_it_creates(api: Api) -> None:
    api.relate(f"agent:{api.agent}#owner@user:=zo=C3=AB=40example=2Ecom")

    assert api.create(as_="zoë@example.com").status == CREATED_OK
    assert api.get(as_="zoë@example.com").status == 200
    assert api.get(as_="zoë@example-com").status == 404
    assert api.delete(as_="zoë@example.com").status == 200


# What each relation on a schedule allows.
ALLOWED = {
    "viewer": {"get"},
    "editor": {"get", "pause", "unpause", "trigger"},
    "owner": {"get", "pause", "unpause", "trigger", "delete"},
}


@pytest.mark.parametrize("relation", ALLOWED)
def test_a_relation_on_a_schedule_allows_its_verbs_and_no_others(relation: str, api: Api) -> None:
    api.create()
    api.grant(relation, "bob")

    for verb in ON_A_SCHEDULE:  # delete is the last one
        before = api.get().body["state"]
        response = ROUTES[verb](api, "bob")
        if verb in ALLOWED[relation]:
            assert response.status == 200, verb
        else:
            assert response.is_problem(403), verb
            assert api.get().body["state"] == before == "ACTIVE", verb


@pytest.mark.parametrize(
    ("on_agent", "allowed"), [(None, set[str]()), ("viewer", {"get"}), ("editor", set(ON_A_SCHEDULE))]
)
def test_the_owner_of_a_schedule_needs_the_permission_on_its_agent_too(
    on_agent: str | None, allowed: set[str], api: Api
) -> None:
    api.create()
    api.relate(f"agent_schedule:{api.id()}#owner@user:bob")
    if on_agent:
        api.relate(f"agent:{api.agent}#{on_agent}@user:bob")

    for verb in ON_A_SCHEDULE:
        assert ROUTES[verb](api, "bob").status == (200 if verb in allowed else 403 if on_agent else 404)


def test_the_owner_of_an_agent_sees_nothing_of_the_schedules_of_others(api: Api) -> None:
    api.create()
    api.relate(f"agent:{api.agent}#owner@user:bob")

    for verb in ON_A_SCHEDULE:
        assert ROUTES[verb](api, "bob").is_problem(404, "schedule not found")
    assert ROUTES["list"](api, "bob").body == {"schedules": [], "total": 0, "next_page_token": None}
    assert ROUTES["create"](api, "bob").status == CREATED_OK


def test_a_permission_that_is_removed_is_gone_at_once(api: Api) -> None:
    api.create()
    assert api.get().status == 200

    api.unrelate(f"agent:{api.agent}#owner@user:alice")

    assert api.get().is_problem(404, "schedule not found")


def test_a_denial_and_an_absence_look_and_work_the_same(api: Api) -> None:
    def responses() -> dict[str, tuple[HttpResponse, tuple[list[str], list[str]]]]:
        api.calls()
        return {verb: (ROUTES[verb](api, "mallory"), api.calls()) for verb in ON_A_SCHEDULE}

    absences = responses()
    api.create()
    denials = responses()

    varying = {"date", "apigw-requestid"}
    for verb in ON_A_SCHEDULE:
        (absence, calls_of_absence), (denial, calls_of_denial) = absences[verb], denials[verb]
        assert denial.is_problem(404, "schedule not found"), verb
        assert denial.body == absence.body, verb
        assert calls_of_denial == calls_of_absence == (["CheckBulkPermissions"], []), verb
        constant = [
            {name: value for name, value in response.headers.items() if name not in varying}
            for response in (denial, absence)
        ]
        assert constant[0] == constant[1], verb


def test_owning_one_agent_gives_no_access_to_the_schedules_of_another(api: Api) -> None:
    api.create()
    own, api.agent = api.agent, f"{api.agent}-b"
    api.relate(f"agent:{api.agent}#owner@user:mallory")

    assert api.get(as_="mallory").status == 404
    assert api.create(as_="mallory").status == CREATED_OK
    assert api.get(as_="mallory").status == 200
    api.agent = own
    assert api.get(as_="mallory").status == 404
