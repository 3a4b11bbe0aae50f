"""RFC 7662, and token-introspection.html of SMART App Launch 2.2."""

from __future__ import annotations

from typing import Any

import pytest

from smart_auth.clients import Clients
from smart_auth.context import Auth
from smart_auth.launches import Launches
from smart_auth.records import Account
from tests.support.accounts import AuthClock, RecordingAudit
from tests.support.smart_apps import Hospital, assertion, basic


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def ask(hospital: Hospital, token: str | None, header: str | None = None, **fields: str) -> Any:
    """An introspection by the confidential client, or with another Authorization header."""
    headers = {"Authorization": basic() if header is None else header}
    return hospital.browser().post("/oauth/introspect", {"token": token, **fields}, **headers)


@pytest.mark.both_stores
def test_active_access_token_is_described(hospital: Hospital) -> None:
    """2.2; SMART: active, scope, client_id, exp; launch context; iss, sub and fhirUser with an id_token."""
    anna = hospital.browser("anna")
    token = anna.tokens()["access_token"]
    response = ask(hospital, token)
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    now = hospital.auth.clock()
    assert body["active"] is True
    assert body["scope"] == "launch/patient openid fhirUser offline_access patient/*.rs"
    assert (body["client_id"], body["token_type"]) == ("public", "Bearer")
    assert (body["iss"], body["aud"], body["sub"]) == ("https://example.org", "https://example.org/fhir", "anna")
    assert (body["iat"], body["exp"]) == (now, now + 3600)
    assert body["patient"] == "anna"
    assert body["fhirUser"] == "https://example.org/fhir/Patient/anna"


def test_refresh_token_is_described_too(hospital: Hospital) -> None:
    """2.1: token "for refresh tokens, this is the refresh_token value"."""
    refresh = hospital.browser("anna").tokens()["refresh_token"]
    for hint in ("refresh_token", "access_token", "nonsense"):  # 2.1: a hint is only that
        body = ask(hospital, refresh, token_type_hint=hint).get_json()
        assert body["active"] is True
        assert body["exp"] == hospital.auth.clock() + 90 * 86_400
        assert "token_type" not in body


def test_encounter_and_other_context_are_described(hospital: Hospital) -> None:
    """SMART: "if the launch context parameters are in the token response, they SHALL be here"."""
    wang = hospital.browser("wang")
    account = hospital.auth.store.get(Account, "wang")
    assert account is not None
    context = {"intent": "order", "fhirContext": [{"reference": "ImagingStudy/1"}]}
    launch = Launches(hospital.auth).create(account, "doctor", patient="anna", encounter="visit", context=context)
    token = wang.tokens(scope="launch patient/*.rs", launch=launch)
    body = ask(hospital, token["access_token"]).get_json()
    for name in ("patient", "encounter", "intent", "fhirContext", "need_patient_banner", "smart_style_url"):
        assert body[name] == token[name]
    assert "fhirUser" not in body  # not without openid and fhirUser


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "\u4e2d", "x" * 30_000])
def test_unknown_token_is_inactive_and_nothing_else(hospital: Hospital, token: str) -> None:
    """2.2: "SHOULD NOT include any additional information about an inactive token"."""
    response = ask(hospital, token)
    assert response.status_code == 200
    assert response.get_json() == {"active": False}


@pytest.mark.both_stores
def test_expired_revoked_and_used_tokens_are_inactive(hospital: Hospital, clock: AuthClock) -> None:
    anna = hospital.browser("anna")
    first = anna.tokens()
    second = anna.refresh(first["refresh_token"]).get_json()
    assert ask(hospital, first["refresh_token"]).get_json() == {"active": False}
    assert ask(hospital, second["refresh_token"]).get_json()["active"] is True
    clock.advance(3600)
    assert ask(hospital, second["access_token"]).get_json() == {"active": False}
    anna.post("/oauth/revoke", {"token": second["refresh_token"], "client_id": "public"})
    assert ask(hospital, second["refresh_token"]).get_json() == {"active": False}


@pytest.mark.parametrize("header", ["", basic(secret="wrong"), basic("public"), "Bearer nonsense"])
def test_strangers_are_401(hospital: Hospital, header: str) -> None:
    """2.1 and 2.3: "the authorization server responds with HTTP 401"."""
    token = hospital.browser("anna").tokens()["access_token"]
    response = ask(hospital, token, header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"]
    assert "active" not in response.get_json()


def test_public_client_is_no_caller(hospital: Hospital) -> None:
    """4: an open endpoint would let anybody try tokens."""
    token = hospital.browser("anna").tokens()["access_token"]
    values: dict[str, str | None] = {"token": token, "client_id": "public"}
    response = hospital.browser().post("/oauth/introspect", values)
    assert response.status_code == 401
    assert response.get_json()["error"] == "invalid_client"


def test_client_with_keys_is_a_caller(hospital: Hospital) -> None:
    token = hospital.browser("anna").tokens()["access_token"]
    values: dict[str, str | None] = {"token": token, **assertion(hospital.auth, "backend")}
    assert hospital.browser().post("/oauth/introspect", values).get_json()["active"] is True


def test_holder_learns_of_the_own_token_an_administrator_of_all(hospital: Hospital) -> None:
    """2.1: the caller may authenticate with a bearer token."""
    anna = hospital.browser("anna").tokens()
    admin = hospital.browser("admin").tokens(scope="user/*.rs")["access_token"]
    token = anna["access_token"]
    assert ask(hospital, token, f"Bearer {token}").get_json()["active"] is True
    assert ask(hospital, token, f"Bearer {admin}").get_json()["active"] is True
    assert ask(hospital, admin, f"Bearer {token}").get_json() == {"active": False}
    assert ask(hospital, anna["refresh_token"], f"Bearer {token}").get_json() == {"active": False}


def test_token_is_required(hospital: Hospital) -> None:
    response = ask(hospital, None)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


def test_secret_that_was_replaced_is_not_remembered(hospital: Hospital) -> None:
    token = hospital.browser("anna").tokens()["access_token"]
    assert [ask(hospital, token).status_code for _ in range(2)] == [200, 200]
    secret = Clients(hospital.auth).new_secret("symmetric", by="admin")
    assert ask(hospital, token).status_code == 401
    assert ask(hospital, token, basic(secret=secret)).status_code == 200


@pytest.mark.both_stores
def test_the_audit_is_told_who_asked_about_which_grant(hospital: Hospital, audit: RecordingAudit) -> None:
    """4: what is learnt by introspection is worth protecting. Nothing about the patient, nor the token."""
    anna = hospital.browser("anna")
    token = anna.tokens()["access_token"]
    grant = hospital.auth.tokens.verify(token).grant.id
    ask(hospital, token)
    event = audit.last("introspect")
    assert (event.client, event.account, event.role, event.patient) == ("symmetric", None, "system", None)
    assert (event.outcome, event.detail) == (0, {"active": "true", "grant": grant})
    ask(hospital, token, f"Bearer {token}")
    event = audit.last("introspect")
    assert (event.client, event.account, event.detail) == ("public", "anna", {"active": "true", "grant": grant})
    ask(hospital, "nonsense")
    assert audit.last("introspect").detail == {"active": "false"}
    assert token not in repr(audit.events)
