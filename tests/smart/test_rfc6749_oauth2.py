"""RFC 6749: the authorization code grant, the refresh token, errors of both endpoints."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from smart_auth.context import Auth
from smart_auth.records import Account, Grant
from tests.support.accounts import AuthClock, RecordingAudit
from tests.support.smart_apps import REDIRECT, VERIFIER, Hospital, answered, assertion, basic, request_of


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


# --- 4.1 authorization code grant -------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_code_is_exchanged_for_a_token_after_consent(hospital: Hospital) -> None:
    """4.1: request, consent, code, token."""
    anna = hospital.browser("anna")
    page = anna.authorize()
    assert page.status_code == 200
    got = answered(anna.allow(page))
    assert got["state"] == "some-state"  # 4.1.2: the exact value received
    token = anna.exchange(got["code"])
    assert token.status_code == 200
    assert token.headers["Cache-Control"] == "no-store"  # 5.1
    assert token.headers["Pragma"] == "no-cache"
    assert token.content_type == "application/json"
    body = token.get_json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert body["scope"] == "launch/patient openid fhirUser offline_access patient/*.rs"
    assert hospital.auth.tokens.verify(body["access_token"]).grant.patient == "anna"


def test_person_logs_in_before_anything_else(hospital: Hospital) -> None:
    """3.1: the server authenticates the resource owner first; nothing of the request is in the address."""
    response = hospital.browser().authorize()
    assert response.status_code == 303
    assert response.location.startswith("/login?next=%2Foauth%2Frequest%2F")
    assert "state" not in response.location


def test_person_who_has_logged_in_meanwhile_goes_on(hospital: Hospital) -> None:
    browser = hospital.browser()
    browser.authorize()
    browser.log_in("anna")
    assert "code" in answered(browser.allow(browser.http.get(browser.at)))


def test_person_who_denies_sends_access_denied(hospital: Hospital, audit: RecordingAudit) -> None:
    """4.1.2.1."""
    anna = hospital.browser("anna")
    got = answered(anna.answer(anna.authorize(), decision="deny"))
    assert got["error"] == "access_denied"
    assert got["state"] == "some-state"
    assert audit.last("authorize-refused").detail["why"] == "access_denied"


@pytest.mark.parametrize(
    "params",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "x" * 5000},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": REDIRECT + "?x=1"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
def test_wrong_client_or_redirect_address_is_shown_and_never_redirected(
    hospital: Hospital, params: dict[str, Any]
) -> None:
    """4.1.2.1: "MUST NOT automatically redirect the user-agent to the invalid redirection URI"."""
    response = hospital.browser("anna").authorize(**params)
    assert response.status_code == 400
    assert response.location is None
    assert response.mimetype == "text/html"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "nonsense"}, "invalid_scope"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"scope": "x" * 40_000}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
    ],
)
def test_other_errors_are_redirected(hospital: Hospital, params: dict[str, Any], error: str) -> None:
    """4.1.2.1."""
    got = answered(hospital.browser("anna").authorize(**params))
    assert got["error"] == error
    assert got["state"] == "some-state"
    assert "code" not in got


@pytest.mark.parametrize("name", ["scope", "state", "response_type", "code_challenge", "aud"])
def test_repeated_parameter_is_refused(hospital: Hospital, name: str) -> None:
    """3.1: "Request and response parameters MUST NOT be included more than once"."""
    query = urlencode([*request_of().items(), (name, request_of()[name])])
    got = answered(hospital.browser("anna").http.get("/oauth/authorize?" + query))
    assert got["error"] == "invalid_request"


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_repeated_client_or_redirect_address_is_shown(hospital: Hospital, name: str) -> None:
    query = urlencode([*request_of().items(), (name, request_of()[name])])
    assert hospital.browser("anna").http.get("/oauth/authorize?" + query).status_code == 400


def test_code_lives_a_minute(hospital: Hospital, clock: AuthClock) -> None:
    """4.1.2: it has to expire shortly; here in 60 s."""
    anna = hospital.browser("anna")
    code = anna.code()
    clock.advance(60)
    response = anna.exchange(code)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_grant")


@pytest.mark.both_stores
def test_code_works_once_and_a_replay_revokes_what_came_of_it(hospital: Hospital, audit: RecordingAudit) -> None:
    """4.1.2: "MUST NOT use the authorization code more than once [...] SHOULD revoke all tokens"."""
    anna = hospital.browser("anna")
    code = anna.code()
    body = anna.exchange(code).get_json()
    again = anna.exchange(code)
    assert (again.status_code, again.get_json()["error"]) == (400, "invalid_grant")
    with pytest.raises(Exception, match="revoked"):
        hospital.auth.tokens.verify(body["access_token"])
    assert anna.refresh(body["refresh_token"]).get_json()["error"] == "invalid_grant"
    assert audit.last("revoke").detail["why"] == "code-replay"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"code": None}, "invalid_request"),
        ({"code": "guess"}, "invalid_grant"),
        ({"redirect_uri": "https://app.example/other"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"client_id": None}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": "symmetric"}, "invalid_client"),
        ({"client_id": "asymmetric"}, "invalid_client"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "invalid_client"),
        ({"grant_type": "\u4e2d\u6587"}, "unsupported_grant_type"),
    ],
)
def test_exchange_that_is_wrong(hospital: Hospital, fields: dict[str, Any], error: str) -> None:
    """4.1.3 and 5.2."""
    anna = hospital.browser("anna")
    response = anna.exchange(**{"code": anna.code(), **fields})
    assert (response.status_code, response.get_json()["error"]) == (400, error)
    assert response.headers["Cache-Control"] == "no-store"


def test_code_of_another_client_is_refused(hospital: Hospital) -> None:
    """4.1.3: the code was issued to the authenticated client."""
    hospital.client("other", "public")
    anna = hospital.browser("anna")
    code = anna.code()
    assert anna.exchange(code, client_id="other").get_json()["error"] == "invalid_grant"
    assert anna.exchange(code).status_code == 200  # and it was not used up


def test_error_of_the_exchange_leaves_the_code_usable(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    code = anna.code()
    assert anna.exchange(code, code_verifier="x" * 43).get_json()["error"] == "invalid_grant"
    assert anna.exchange(code).status_code == 200


# --- 2.3 client authentication ----------------------------------------------------------------------------------------


def test_confidential_client_authenticates_by_basic(hospital: Hospital) -> None:
    """2.3.1."""
    anna = hospital.browser("anna")
    code = anna.code(client_id="symmetric")
    values = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    values |= {"code_verifier": VERIFIER}
    assert anna.post("/oauth/token", dict(values), Authorization=basic()).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        basic(secret="wrong"),
        basic("nobody"),
        basic("public"),
        basic("asymmetric"),
        "Basic !!!",
        "Basic /////w==",
        "Basic " + "QQ==",
        "Bearer abc",
        "Basic",
    ],
)
def test_failed_basic_is_401_with_a_challenge(hospital: Hospital, header: str, audit: RecordingAudit) -> None:
    """5.2: "MUST respond with an HTTP 401 status code and include the WWW-Authenticate response header field"."""
    response = hospital.browser().post(
        "/oauth/token", {"grant_type": "authorization_code", "code": "x"}, Authorization=header
    )
    assert (response.status_code, response.get_json()["error"]) == (401, "invalid_client")
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert audit.last("token-refused").outcome == 4


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"grant_type": "authorization_code", "code": "x"}, "client_id"),
        ({"grant_type": "authorization_code", "code": "x", "client_id": "nobody"}, "not exist"),
        ({"grant_type": "authorization_code", "code": "x", "client_id": "symmetric"}, "client_secret_basic"),
        ({"grant_type": "authorization_code", "code": "x", "client_id": "asymmetric"}, "private_key_jwt"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_id": "public"}, "refresh token"),
        ({"grant_type": "password", "client_id": "public"}, "grant_type"),
        (
            {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "symmetric", "client_secret": "y"},
            "client_secret_basic",
        ),
    ],
)
def test_error_says_what_to_do(hospital: Hospital, values: dict[str, str | None], named: str) -> None:
    """5.2: error_description, "used to assist the client developer"."""
    response = hospital.browser().post("/oauth/token", values)
    assert response.status_code == 400
    assert named in response.get_json()["error_description"]


def test_secret_in_the_body_is_refused(hospital: Hospital) -> None:
    """2.3.1: "NOT RECOMMENDED"; SMART has client_secret_basic."""
    values = {"grant_type": "authorization_code", "code": "x", "client_id": "symmetric", "client_secret": "y"}
    response = hospital.browser().post("/oauth/token", dict(values))
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client")


def test_two_methods_of_authentication_are_refused(hospital: Hospital) -> None:
    """2.3: "MUST NOT use more than one authentication method in each request"."""
    values: dict[str, str | None] = {"grant_type": "authorization_code", "code": "x"}
    values |= assertion(hospital.auth, "asymmetric")
    response = hospital.browser().post("/oauth/token", values, Authorization=basic())
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


def test_client_that_is_not_approved_is_refused(hospital: Hospital) -> None:
    hospital.client("new", "public", status="pending")
    assert hospital.browser("anna").authorize(client_id="new").status_code == 400
    assert hospital.browser().exchange("x", client_id="new").get_json()["error"] == "invalid_client"


# --- 6 refreshing -----------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_refresh_gives_a_new_pair(hospital: Hospital, clock: AuthClock) -> None:
    """6: same scope, a new refresh token."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    clock.advance(3600)
    response = anna.refresh(first["refresh_token"])
    assert response.status_code == 200
    second = response.get_json()
    assert second["scope"] == first["scope"]
    assert second["refresh_token"] != first["refresh_token"]
    assert second["patient"] == "anna"
    assert hospital.auth.tokens.verify(second["access_token"]).grant.account == "anna"


def test_refresh_may_narrow_the_scope(hospital: Hospital) -> None:
    """6: "MUST NOT include any scope not originally granted"; the refresh token keeps the original scope."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    narrowed = anna.refresh(first["refresh_token"], scope="patient/Observation.rs").get_json()
    assert narrowed["scope"] == "patient/Observation.rs"
    assert hospital.auth.tokens.verify(narrowed["access_token"]).scopes == ("patient/Observation.rs",)
    assert anna.refresh(narrowed["refresh_token"]).get_json()["scope"] == first["scope"]


@pytest.mark.parametrize("scope", ["patient/*.cruds", "user/*.rs", "patient/*.rs nonsense"])
def test_refresh_cannot_widen_the_scope(hospital: Hospital, scope: str) -> None:
    anna = hospital.browser("anna")
    first = anna.tokens()
    response = anna.refresh(first["refresh_token"], scope=scope)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_scope")
    assert anna.refresh(first["refresh_token"]).status_code == 200  # an error uses nothing up


def test_a_public_client_need_not_name_itself_to_refresh(hospital: Hospital) -> None:
    """6 lists no client_id, and SMART's own JavaScript client sends none: the token says whose it is."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    response = anna.refresh(first["refresh_token"], client_id=None)
    assert response.status_code == 200
    assert anna.refresh(first["refresh_token"], client_id=None).get_json()["error"] == "invalid_grant"
    assert anna.refresh("made-up", client_id=None).status_code in (400, 401)


def test_a_confidential_client_has_to_authenticate_to_refresh(hospital: Hospital) -> None:
    """6: "If the client type is confidential ... the client MUST authenticate"."""
    anna = hospital.browser("anna")
    code = anna.code(client_id="symmetric")
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    tokens = anna.post("/oauth/token", form, Authorization=basic()).get_json()
    for named in (None, "symmetric"):
        refused = anna.refresh(tokens["refresh_token"], client_id=named)
        assert refused.get_json()["error"] == "invalid_client"
    kept = anna.post(
        "/oauth/token",
        {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]},
        Authorization=basic(),
    )
    assert kept.status_code == 200


def test_refresh_token_of_another_client_is_refused(hospital: Hospital) -> None:
    """6: "the refresh token was issued to the authenticated client"."""
    hospital.client("other", "public")
    anna = hospital.browser("anna")
    first = anna.tokens()
    assert anna.refresh(first["refresh_token"], client_id="other").get_json()["error"] == "invalid_grant"
    assert anna.refresh(first["refresh_token"]).status_code == 200


def test_refresh_token_lives_90_days(hospital: Hospital, clock: AuthClock) -> None:
    anna = hospital.browser("anna")
    first = anna.tokens()
    clock.advance(90 * 86_400 - 1)
    second = anna.refresh(first["refresh_token"])
    assert second.status_code == 200
    clock.advance(90 * 86_400)
    assert anna.refresh(second.get_json()["refresh_token"]).get_json()["error"] == "invalid_grant"


def test_no_refresh_token_without_asking_for_it(hospital: Hospital) -> None:
    assert "refresh_token" not in hospital.browser("anna").tokens(scope="patient/*.rs")


def test_refresh_ends_with_the_role(hospital: Hospital) -> None:
    """A refresh rests on what the authorization rested on."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    hospital.auth.store.put(Account(id="anna", name="Anna", roles=()))
    assert anna.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"


def test_refresh_ends_when_a_guardian_may_not_act_any_more(hospital: Hospital) -> None:
    bo = hospital.browser("bo")
    page = bo.authorize()
    got = answered(bo.allow(bo.answer(page, decision="choose", patient="child")))
    first = bo.exchange(got["code"]).get_json()
    assert first["patient"] == "child"
    hospital.auth.directory.dependents.clear()  # type: ignore[attr-defined]
    assert bo.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"
    (grant,) = hospital.auth.store.find(Grant, account="bo")
    assert grant.revoked_at is not None


# --- 3.2 the token endpoint -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_token_endpoint_takes_post_only(hospital: Hospital, method: str) -> None:
    """3.2: "The client MUST use the HTTP POST method"."""
    response = hospital.app.test_client().open("/oauth/token", method=method)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b'{"grant_type": "refresh_token"}', "application/json"),
        (b"grant_type=authorization_code", "text/plain"),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"grant_type=%ff%fe", "application/x-www-form-urlencoded"),
        (b"grant_type=refresh_token&grant_type=refresh_token", "application/x-www-form-urlencoded"),
        (b"grant_type=refresh_token&refresh_token=a%00b", "application/x-www-form-urlencoded"),
        (b"grant_type=refresh_token&refresh_token=" + b"x" * 40_000, "application/x-www-form-urlencoded"),
        (b"", "application/x-www-form-urlencoded"),
        (b"&&&===&", "application/x-www-form-urlencoded"),
        (b"grant_type=", "application/x-www-form-urlencoded"),
    ],
)
def test_malformed_request_is_invalid_request(hospital: Hospital, data: bytes, content_type: str) -> None:
    """5.2."""
    for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke"):
        response = hospital.app.test_client().post(path, data=data, content_type=content_type)
        assert response.status_code == (400 if path == "/oauth/token" else response.status_code)
        assert response.status_code in (400, 401)
        assert response.get_json()["error"] in ("invalid_request", "invalid_client", "unsupported_grant_type")


def test_huge_body_is_413(hospital: Hospital) -> None:
    response = hospital.app.test_client().post(
        "/oauth/token", data=b"a=" + b"x" * 300_000, content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == 413
    assert response.get_json()["error"] == "invalid_request"


def test_parameters_of_the_query_do_not_count(hospital: Hospital) -> None:
    """2.3.1 and 3.2: parameters are in the body, never in the request URI."""
    response = hospital.app.test_client().post("/oauth/token?grant_type=refresh_token", data={"client_id": "public"})
    assert response.get_json()["error"] == "invalid_request"


def test_too_many_failures_of_one_address_are_throttled(hospital: Hospital) -> None:
    browser = hospital.browser()
    answers = [browser.exchange("x", client_id="nobody").status_code for _ in range(61)]
    assert answers[:60] == [400] * 60
    last = browser.exchange("x", client_id="nobody")
    assert last.status_code == 429
    assert int(last.headers["Retry-After"]) > 0
