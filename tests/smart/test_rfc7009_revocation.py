"""RFC 7009."""

from __future__ import annotations

from typing import Any

import pytest

from smart_auth.context import Auth
from smart_auth.records import Grant
from smart_auth.tokens import REVOKED_MOST, InvalidToken
from tests.support.accounts import AuthClock, RecordingAudit
from tests.support.smart_apps import Hospital, basic


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def drop(hospital: Hospital, token: str | None, **fields: str | None) -> Any:
    """A revocation by the public client."""
    return hospital.browser().post("/oauth/revoke", {"token": token, "client_id": "public", **fields})


@pytest.mark.both_stores
def test_access_token_is_revoked_alone_and_at_once(hospital: Hospital, audit: RecordingAudit) -> None:
    """2: "the authorization server invalidates the token"; 2.1: immediately."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    second = anna.refresh(first["refresh_token"]).get_json()
    hospital.auth.tokens.verify(first["access_token"])
    assert drop(hospital, first["access_token"]).status_code == 200
    with pytest.raises(InvalidToken):
        hospital.auth.tokens.verify(first["access_token"])
    hospital.auth.tokens.verify(second["access_token"])
    assert anna.refresh(second["refresh_token"]).status_code == 200
    assert audit.last("revoke").detail["what"] == "access token"


@pytest.mark.both_stores
def test_refresh_token_revokes_its_family(hospital: Hospital) -> None:
    """2.1: "SHOULD also invalidate all access tokens based on the same authorization grant"."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    second = anna.refresh(first["refresh_token"]).get_json()
    assert drop(hospital, second["refresh_token"]).status_code == 200
    for token in (first["access_token"], second["access_token"]):
        with pytest.raises(InvalidToken):
            hospital.auth.tokens.verify(token)
    assert anna.refresh(second["refresh_token"]).get_json()["error"] == "invalid_grant"


def test_used_refresh_token_revokes_its_family_too(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    first = anna.tokens()
    second = anna.refresh(first["refresh_token"]).get_json()
    drop(hospital, first["refresh_token"])
    with pytest.raises(InvalidToken):
        hospital.auth.tokens.verify(second["access_token"])


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "\u4e2d\u6587"])
def test_invalid_token_is_200(hospital: Hospital, token: str) -> None:
    """2.2: "invalid tokens do not cause an error response"."""
    assert drop(hospital, token).status_code == 200


def test_revoking_twice_is_200(hospital: Hospital) -> None:
    token = hospital.browser("anna").tokens()["refresh_token"]
    assert [drop(hospital, token).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense"])
def test_hint_is_only_a_hint(hospital: Hospital, hint: str) -> None:
    """2.1: "the server MUST extend its search across all of its supported token types"."""
    token = hospital.browser("anna").tokens()["refresh_token"]
    assert drop(hospital, token, token_type_hint=hint).status_code == 200
    (grant,) = hospital.auth.store.find(Grant, account="anna")
    assert grant.revoked_at is not None


def test_token_of_another_client_is_refused_and_stays(hospital: Hospital) -> None:
    """2.1: "verifies whether the token was issued to the client making the revocation request"."""
    tokens = hospital.browser("anna").tokens()
    for token in (tokens["access_token"], tokens["refresh_token"]):
        response = hospital.browser().post("/oauth/revoke", {"token": token}, Authorization=basic())
        assert (response.status_code, response.get_json()["error"]) == (400, "invalid_grant")
    hospital.auth.tokens.verify(tokens["access_token"])


def test_client_authenticates(hospital: Hospital) -> None:
    """2.1: confidential clients authenticate as at the token endpoint."""
    assert drop(hospital, "x", client_id="symmetric").get_json()["error"] == "invalid_client"
    assert drop(hospital, "x", client_id=None).get_json()["error"] == "invalid_client"
    response = hospital.browser().post("/oauth/revoke", {"token": "x"}, Authorization=basic(secret="wrong"))
    assert response.status_code == 401


def test_token_is_required(hospital: Hospital) -> None:
    response = drop(hospital, None)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


def test_list_of_revoked_tokens_stays_short(hospital: Hospital, clock: AuthClock) -> None:
    tokens = hospital.auth.tokens
    token = hospital.browser("anna").tokens()["access_token"]
    grant = tokens.verify(token).grant
    for _ in range(REVOKED_MOST):
        tokens.revoke(tokens.verify(tokens.issue(grant)))
    clock.advance(3601)
    tokens.revoke(tokens.verify(tokens.issue(grant)))
    (found,) = hospital.auth.store.find(Grant, account="anna")
    assert len(found.revoked_tokens) == 1
    for _ in range(REVOKED_MOST):
        fresh = tokens.issue(grant)
        tokens.revoke(tokens.verify(fresh))
    (found,) = hospital.auth.store.find(Grant, account="anna")
    assert found.revoked_at is not None
