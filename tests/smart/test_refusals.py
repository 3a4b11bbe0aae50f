"""The audit is told of every refusal, once, and of nothing that was sent."""

from __future__ import annotations

from typing import Any

import pytest

from hestia.auditing import endless
from smart_auth import limits
from smart_auth.context import Auth, AuthEvent
from tests.support.accounts import RecordingAudit
from tests.support.smart_apps import Hospital, basic


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def refused(audit: RecordingAudit) -> list[AuthEvent]:
    return [event for event in audit.events if event.outcome]


@pytest.mark.both_stores
def test_too_many_requests_are_told(hospital: Hospital, audit: RecordingAudit) -> None:
    for _ in range(limits.TOKEN_FAILURE_PER_ADDRESS.count):
        hospital.auth.accounts.limits.hit_address(limits.TOKEN_FAILURE_PER_ADDRESS, "127.0.0.1")
    assert hospital.browser().exchange("x", client_id="nobody").status_code == 429
    event = audit.last("refused")
    assert (event.outcome, event.address, event.detail) == (
        4,
        "127.0.0.1",
        {"status": "429", "page": "POST /oauth/token"},
    )


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/userinfo", "/oauth/launch"])
def test_a_bad_token_is_told(hospital: Hospital, audit: RecordingAudit, path: str) -> None:
    body: dict[str, Any] = {"json" if path == "/oauth/launch" else "data": {"token": "secret-text"}}
    headers = {"Authorization": "Bearer nonsense"}
    response = hospital.app.test_client().post(path, headers=headers, **body)
    assert response.status_code == 401
    [event] = refused(audit)
    assert (event.action, event.outcome, event.detail) == ("refused", 8, {"status": "401", "page": f"POST {path}"})


def test_a_page_of_another_role_is_told_with_who_wanted_it(hospital: Hospital, audit: RecordingAudit) -> None:
    assert hospital.browser("anna").http.get("/admin/accounts").status_code == 403
    [event] = refused(audit)
    assert (event.action, event.account, event.role) == ("refused", "anna", "patient")
    assert event.detail == {"status": "403", "page": "GET /admin/accounts"}


def test_the_address_of_a_page_is_told_without_its_secrets(hospital: Hospital, audit: RecordingAudit) -> None:
    for _ in range(600):
        hospital.auth.accounts.limits.hit_address(limits.Limit("authorize-address", 600, 60), "127.0.0.1")
    assert hospital.browser().http.get("/oauth/request/a-secret").status_code == 429
    assert "a-secret" not in repr(audit.events)
    assert audit.last("refused").detail["page"] == "GET /oauth/request/<secret>"


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
def test_what_is_told_already_is_not_told_again(hospital: Hospital, audit: RecordingAudit, path: str) -> None:
    form = {"token": "x", "grant_type": "authorization_code", "code": "x"}
    response = hospital.app.test_client().post(path, data=form, headers={"Authorization": basic(secret="wrong")})
    assert response.status_code == 401
    assert {event.action for event in refused(audit)} <= {"client-refused", "token-refused"}
    assert audit.actions().count("client-refused") == 1


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (AuthEvent("refused", 4, account="a"), True),
        (AuthEvent("refused", 8), True),
        (AuthEvent("introspect", client="app"), True),
        (AuthEvent("client-refused", 8, client="app"), True),
        (AuthEvent("login-failed", 4), True),
        (AuthEvent("login-failed", 4, account="a"), False),
        (AuthEvent("second-factor-failed", 8, account="a", detail={"why": "throttled"}), True),
        (AuthEvent("second-factor-failed", 4, account="a"), False),
        (AuthEvent("login", account="a"), False),
        (AuthEvent("token", client="app"), False),
        (AuthEvent("client-register", client="app"), False),
    ],
)
def test_what_is_counted_by_the_minute(event: AuthEvent, counted: bool) -> None:
    assert endless(event) is counted
