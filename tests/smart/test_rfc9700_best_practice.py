"""RFC 9700 (BCP 240): what is left of it beside the modules of PKCE, issuer and metadata."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smart_auth.context import Auth
from smart_auth.oauth.pages import PER_ADDRESS
from smart_auth.records import Code, Grant, OneTime, RefreshToken
from smart_auth.store.protocol import AuthStore
from smart_auth.store.sqlite import open_store
from smart_auth.tokens import InvalidToken
from tests.support.accounts import RecordingAudit
from tests.support.smart_apps import REDIRECT, Browser, Hospital, answered, request_of


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


@pytest.mark.parametrize(
    ("registered", "asked", "taken"),
    [
        (REDIRECT, REDIRECT, True),
        (REDIRECT, "https://app.example/callback?x=1", False),
        (REDIRECT, "https://app.example/Callback", False),
        (REDIRECT, "https://app.example:443/callback", False),
        (REDIRECT, "https://app.example/callback/../callback", False),
        (REDIRECT, "https://app.example.evil.example/callback", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", True),  # RFC 8252 section 7.3
        ("http://[::1]/cb", "http://[::1]:51004/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/other", False),
        ("http://127.0.0.1/cb", "http://127.0.0.2:51004/cb", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:51004/cb", False),
        ("http://127.0.0.1:9000/cb", "http://127.0.0.1:9001/cb", False),
        ("http://localhost/cb", "http://localhost:51004/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:x/cb", False),
    ],
)
def test_redirect_addresses_are_compared_exactly(hospital: Hospital, registered: str, asked: str, taken: bool) -> None:
    """2.1: "exact string matching except for port numbers in localhost redirection URIs of native apps"."""
    hospital.client("app", "public", redirect_uris=(registered,))
    assert hospital.browser("anna").authorize(client_id="app", redirect_uri=asked).status_code == (
        200 if taken else 400
    )


def test_port_of_a_confidential_client_is_compared(hospital: Hospital) -> None:
    hospital.client("app", "confidential-asymmetric", redirect_uris=("http://127.0.0.1/cb",))
    response = hospital.browser("anna").authorize(client_id="app", redirect_uri="http://127.0.0.1:9/cb")
    assert response.status_code == 400


@pytest.mark.both_stores
def test_refresh_token_that_is_used_twice_ends_its_family(hospital: Hospital, audit: RecordingAudit) -> None:
    """4.14.2: "the authorization server ... revokes the active refresh token as well"."""
    anna = hospital.browser("anna")
    first = anna.tokens()
    second = anna.refresh(first["refresh_token"]).get_json()
    assert anna.refresh(first["refresh_token"]).get_json()["error"] == "invalid_grant"
    assert anna.refresh(second["refresh_token"]).get_json()["error"] == "invalid_grant"
    for token in (first["access_token"], second["access_token"]):
        with pytest.raises(InvalidToken):
            hospital.auth.tokens.verify(token)
    assert audit.last("revoke").detail["why"] == "refresh-replay"


@pytest.mark.parametrize("what", ["code", "refresh token"])
def test_of_requests_at_the_same_time_one_gets_tokens_and_loses_them(
    hospital: Hospital, tmp_path: Path, what: str
) -> None:
    """4.14.2 and RFC 6749 section 4.1.2 hold across workers, each with a store object of its own."""
    anna = hospital.browser("anna")
    secret = anna.code() if what == "code" else anna.tokens()["refresh_token"]
    workers = []
    for _ in range(3):
        store = open_store(tmp_path / "hestia.db", clock=hospital.auth.clock)
        workers.append(Browser(worker := Hospital(_beside(hospital.auth, store)), worker.app.test_client()))
    start = threading.Barrier(len(workers))

    def ask(browser: Browser) -> int:
        start.wait()
        return (browser.exchange(secret) if what == "code" else browser.refresh(secret)).status_code

    with ThreadPoolExecutor(len(workers)) as pool:
        statuses = sorted(pool.map(ask, workers))
    for worker_browser in workers:
        worker_browser.hospital.auth.store.close()
    assert statuses == [200, 400, 400]
    (grant,) = hospital.auth.store.find(Grant, account="anna")
    assert grant.revoked_at is not None


def _beside(auth: Auth, store: AuthStore) -> Auth:
    """Another worker of the same authorization server."""
    return Auth(auth.settings, store, auth.vault, auth.notifier, auth.directory, clock=auth.clock)


def test_families_are_apart(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    one, other = anna.tokens(), anna.tokens()
    anna.refresh(one["refresh_token"])
    anna.refresh(one["refresh_token"])
    hospital.auth.tokens.verify(other["access_token"])


@pytest.mark.both_stores
def test_codes_and_tokens_are_stored_as_hashes(hospital: Hospital) -> None:
    """4.5 and 5: a copy of the database is worth nothing."""
    anna = hospital.browser("anna")
    code = anna.code()
    tokens = anna.exchange(code).get_json()
    store = hospital.auth.store
    for secret in (code, tokens["refresh_token"]):
        assert store.get(Code, secret) is None
        assert store.get(RefreshToken, secret) is None
        everything = [*store.page(Code), *store.page(RefreshToken), *store.page(Grant), *store.page(OneTime)]
        assert not any(secret in repr(one) for one in everything)


def test_access_token_is_limited_to_one_server(hospital: Hospital) -> None:
    """2.3: audience-restricted."""
    token = hospital.browser("anna").tokens()["access_token"]
    assert hospital.auth.tokens.verify(token).claims["aud"] == "https://example.org/fhir"


@pytest.mark.parametrize("grant", ["password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer"])
def test_other_grants_do_not_exist(hospital: Hospital, grant: str) -> None:
    """2.1.2 and 2.4: no implicit grant, no passwords."""
    values: dict[str, str | None] = {"grant_type": grant, "client_id": "public", "username": "a", "password": "b"}
    assert hospital.browser().post("/oauth/token", values).get_json()["error"] == "unsupported_grant_type"


def test_redirect_after_a_form_is_303(hospital: Hospital) -> None:
    """4.12: a 307 would post the form to the app."""
    anna = hospital.browser("anna")
    assert anna.allow(anna.authorize()).status_code == 303


def test_pages_send_no_referrer_and_are_not_framed(hospital: Hospital) -> None:
    """4.2.4 and 4.16."""
    page = hospital.browser("anna").authorize()
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"


def test_requests_of_one_address_are_limited(hospital: Hospital) -> None:
    for _ in range(PER_ADDRESS.count):
        hospital.auth.accounts.limits.hit_address(PER_ADDRESS, "127.0.0.1")
    response = hospital.app.test_client().get("/oauth/authorize", query_string=request_of())
    assert response.status_code == 429
    assert response.headers["Retry-After"].isdigit()


VALUES: tuple[Any, ...] = (
    "", "\x00", "\r\nX: y", "\u202e", "%", "%zz", "../../", "<script>", "'\"--", "9" * 400, "a" * 9000,
    "\ud800", "null",
)  # fmt: skip
NAMES = (*request_of(), "launch", "nonce", "prompt", "max_age", "login_hint", "id_token_hint", "ui_locales", "display")


@pytest.mark.parametrize("name", NAMES)
def test_no_value_of_a_parameter_breaks_the_authorization_endpoint(hospital: Hospital, name: str) -> None:
    """Bad input is an error of the client's, never one of ours; and no header is split."""
    browser = hospital.browser("anna")
    for value in VALUES:
        query = {**request_of(), name: value.encode("utf-8", "surrogatepass")}
        for response in (
            browser.http.get("/oauth/authorize", query_string=query),
            browser.http.post("/oauth/authorize", data=query),
        ):
            assert response.status_code in (302, 303, 400), (name, value, response.status_code)
            final = browser.follow(response)
            assert final.status_code in (200, 302, 303, 400)
            assert "X" not in final.headers


@pytest.mark.parametrize(
    "path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/launch", "/oauth/register"]
)
def test_no_value_of_a_parameter_breaks_the_other_endpoints(hospital: Hospital, path: str) -> None:
    http = hospital.app.test_client()
    names = ("grant_type", "code", "refresh_token", "token", "client_id", "client_secret", "scope", "redirect_uri")
    names += ("client_assertion", "client_assertion_type", "code_verifier", "token_type_hint")
    for grant_type in ("authorization_code", "refresh_token", "client_credentials"):
        for name in names:
            for value in VALUES:
                data = {"grant_type": grant_type, "client_id": "public", name: value.encode("utf-8", "surrogatepass")}
                response = http.post(path, data=data, environ_base={"REMOTE_ADDR": ""})
                assert response.status_code < 500, (name, value)
                assert response.get_json() is not None


def test_request_that_waits_is_found_by_its_secret_only(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    for path in ("x", "..", "%00", "a" * 3000):
        assert anna.http.get(f"/oauth/request/{path}").status_code in (308, 400, 404)
    assert "code" in answered(anna.allow(anna.authorize()))
