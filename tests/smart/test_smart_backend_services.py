"""SMART App Launch 2.2, backend-services.html. The assertion itself: test_rfc7523_assertions.py."""

from __future__ import annotations

from typing import Any

import pytest

from smart_auth import limits
from smart_auth.clients import Clients
from smart_auth.context import Auth
from smart_auth.records import Grant
from smart_auth.tokens import InvalidToken
from tests.support.accounts import RecordingAudit
from tests.support.smart_apps import Hospital, assertion, basic


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def ask(hospital: Hospital, client: str = "backend", **fields: Any) -> Any:
    """A token request."""
    values = {"grant_type": "client_credentials", "scope": "system/*.rs", **assertion(hospital.auth, client), **fields}
    return hospital.browser().post("/oauth/token", values)


@pytest.mark.both_stores
def test_backend_gets_a_short_token_and_nothing_else(hospital: Hospital, audit: RecordingAudit) -> None:
    """ "Access token response": access_token, token_type, expires_in (recommended 300), scope; no refresh token."""
    response = ask(hospital)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, "system/*.rs")
    grant = hospital.auth.tokens.verify(body["access_token"]).grant
    assert (grant.role, grant.client, grant.account) == ("system", "backend", None)
    assert audit.last("token").client == "backend"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("system/*.rs", "system/*.rs"),
        ("system/*.cruds", "system/*.rs"),
        ("system/Patient.rs system/Observation.r", "system/Patient.rs system/Observation.r"),
        ("system/*.read", "system/*.read"),
        ("system/Patient.rs patient/*.rs user/*.rs launch openid", "system/Patient.rs"),
        ("system/Patient.rs nonsense", "system/Patient.rs"),
        (
            "system/Observation.rs?category=http://x|laboratory",
            "system/Observation.rs?category=http://x|laboratory",
        ),
    ],
)
def test_granted_scope_is_what_is_registered_and_of_the_system(hospital: Hospital, asked: str, granted: str) -> None:
    """ "Scopes": the server rules on what was pre-authorized, and says in `scope` what it was."""
    assert ask(hospital, scope=asked).get_json()["scope"] == granted


@pytest.mark.parametrize("scope", [None, "patient/*.rs", "system/Patient.cud", "nonsense", "offline_access"])
def test_nothing_to_grant_is_invalid_scope(hospital: Hospital, scope: str | None) -> None:
    """ "scope" is required."""
    response = ask(hospital, scope=scope)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_scope")


def test_only_signed_assertions_authenticate(hospital: Hospital) -> None:
    """ "Authenticate ... asymmetric": a secret is not enough, and no client at all even less."""
    values: dict[str, str | None] = {"grant_type": "client_credentials", "scope": "system/*.rs"}
    http = hospital.browser()
    assert http.post("/oauth/token", values, Authorization=basic()).get_json()["error"] == "invalid_client"
    assert http.post("/oauth/token", {**values, "client_id": "public"}).get_json()["error"] == "invalid_client"
    assert http.post("/oauth/token", {**values, "client_id": "backend"}).get_json()["error"] == "invalid_client"


def test_app_of_a_person_has_no_client_credentials(hospital: Hospital) -> None:
    response = ask(hospital, "asymmetric")
    assert (response.status_code, response.get_json()["error"]) == (400, "unauthorized_client")


def test_backend_has_no_authorization_endpoint(hospital: Hospital) -> None:
    hospital.client("backend", "backend", grant_types=("client_credentials",))
    response = hospital.browser("anna").authorize(client_id="backend")
    assert "error=unauthorized_client" in response.location


def test_disabled_client_loses_its_tokens_at_once(hospital: Hospital) -> None:
    token = ask(hospital).get_json()["access_token"]
    Clients(hospital.auth).set_status("backend", "disabled", by="admin")
    with pytest.raises(InvalidToken):
        hospital.auth.tokens.verify(token)
    assert ask(hospital).get_json()["error"] == "invalid_client"
    (grant,) = hospital.auth.store.find(Grant, client="backend")
    assert grant.revoked_at is not None


def test_requests_of_a_client_are_limited(hospital: Hospital) -> None:
    """429 with Retry-After: RFC 6585 section 4."""
    for _ in range(limits.TOKEN_PER_CLIENT.count):
        hospital.auth.accounts.limits.hit(limits.TOKEN_PER_CLIENT, "backend|127.0.0.1")
    response = ask(hospital)
    assert response.status_code == 429
    assert response.headers["Retry-After"].isdigit()
