"""RFC 7591: dynamic registration behind approval; RFC 7592: reading and deleting one's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from joserfc.jwk import ECKey

from smart_auth import limits
from smart_auth.clients import Clients
from smart_auth.context import Auth
from smart_auth.records import Client
from tests.support.accounts import RecordingAudit
from tests.support.smart_apps import EC_KEY, JWKS, REDIRECT, VERIFIER, Hospital, assertion, basic

APP: dict[str, Any] = {
    "client_name": "Growth chart",
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "scope": "launch/patient openid fhirUser offline_access patient/*.rs",
    "client_uri": "https://app.example/",
    "contacts": ["people@app.example"],
}


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def register(hospital: Hospital, **fields: Any) -> Any:
    """A registration; None leaves a field out."""
    body = {name: value for name, value in {**APP, **fields}.items() if value is not None}
    return hospital.app.test_client().post("/oauth/register", json=body)


@pytest.mark.both_stores
def test_app_registers_and_waits_for_approval(hospital: Hospital, audit: RecordingAudit) -> None:
    """3.2.1; the administrator decides."""
    response = register(hospital)
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert body["client_id_issued_at"] == hospital.auth.clock()
    assert {name: body[name] for name in APP} == APP  # "all registered metadata about this client"
    assert "client_secret" not in body
    assert audit.last("client-register").client == body["client_id"]
    anna = hospital.browser("anna")
    assert anna.authorize(client_id=body["client_id"]).status_code == 400
    Clients(hospital.auth).set_status(body["client_id"], "active", by="admin")
    code = anna.code(client_id=body["client_id"])
    assert anna.exchange(code, client_id=body["client_id"]).status_code == 200
    assert audit.last("client-approve").detail["by"] == "admin"


def test_secret_is_told_once_and_works(hospital: Hospital) -> None:
    """3.2.1: client_secret with client_secret_expires_at."""
    body = register(hospital, token_endpoint_auth_method="client_secret_basic").get_json()
    assert body["client_secret_expires_at"] == 0
    stored = hospital.auth.store.get(Client, body["client_id"])
    assert stored is not None
    assert body["client_secret"] not in repr(stored)
    Clients(hospital.auth).set_status(body["client_id"], "active", by="admin")
    anna = hospital.browser("anna")
    values: dict[str, str | None] = {
        "grant_type": "authorization_code", "redirect_uri": REDIRECT, "code_verifier": VERIFIER,
        "code": anna.code(client_id=body["client_id"]),
    }  # fmt: skip
    header = basic(body["client_id"], body["client_secret"])
    assert anna.post("/oauth/token", values, Authorization=header).status_code == 200


def test_method_that_is_left_out_is_a_secret(hospital: Hospital) -> None:
    """2: "If unspecified or omitted, the default is client_secret_basic"."""
    body = register(hospital, token_endpoint_auth_method=None).get_json()
    assert body["token_endpoint_auth_method"] == "client_secret_basic"
    assert body["client_secret"]


def test_client_with_keys_registers_them(hospital: Hospital) -> None:
    body = register(hospital, token_endpoint_auth_method="private_key_jwt", jwks=JWKS).get_json()
    assert body["jwks"] == JWKS
    assert "client_secret" not in body


def test_backend_registers_without_redirect_addresses(hospital: Hospital) -> None:
    """SMART backend-services.html, "Registering"."""
    fields = {"redirect_uris": None, "response_types": None, "grant_types": ["client_credentials"]}
    fields |= {"token_endpoint_auth_method": "private_key_jwt", "jwks": JWKS, "scope": "system/*.rs patient/*.rs"}
    body = register(hospital, **fields).get_json()
    assert (body["scope"], body["response_types"]) == ("system/*.rs", [])
    Clients(hospital.auth).set_status(body["client_id"], "active", by="admin")
    values: dict[str, str | None] = {"grant_type": "client_credentials", "scope": "system/*.rs"}
    values |= assertion(hospital.auth, body["client_id"])
    assert hospital.browser().post("/oauth/token", values).status_code == 200


@pytest.mark.parametrize(
    "uris",
    [
        [],
        None,
        "https://app.example/callback",
        [7],
        ["http://app.example/callback"],
        ["https://app.example/callback#x"],
        ["https://*.app.example/callback"],
        ["https://user:pass@app.example/callback"],
        ["https://app.example\\@evil.example/"],
        ["javascript:alert(1)"],
        ["data:text/html,x"],
        ["myapp://callback"],
        ["/callback"],
        ["https:///callback"],
        ["https://app.example/ callback"],
        ["https://app.example:99999999/"],
        ["https://[::1/callback"],
        ["https://app.example/" + "x" * 3000],
        [f"https://app.example/{n}" for n in range(31)],
        ["https://app.example/ok", "http://app.example/not"],
    ],
)
def test_redirect_addresses_that_are_wrong(hospital: Hospital, uris: Any) -> None:
    """3.2.2: invalid_redirect_uri. RFC 9700 section 2.1, RFC 8252 section 7."""
    response = register(hospital, redirect_uris=uris)
    assert response.status_code == 400
    assert response.get_json()["error"] == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1/cb", "http://127.0.0.1:9000/cb", "http://[::1]/cb", "http://localhost:4567/cb"]
)
def test_app_on_the_own_machine_may_use_http(hospital: Hospital, uri: str) -> None:
    """RFC 8252 section 7.3."""
    assert register(hospital, redirect_uris=[uri]).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        {"client_name": None},
        {"client_name": "  "},
        {"client_name": "x" * 201},
        {"client_name": 7},
        {"client_name": "a\u0000b"},
        {"client_name": "a\u202eb"},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": 7},
        {"grant_types": ["implicit"]},
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["refresh_token"]},
        {"grant_types": "authorization_code"},
        {"response_types": ["token"]},
        {"response_types": []},
        {"scope": 7},
        {"scope": "nonsense"},
        {"scope": "system/*.rs"},
        {"scope": "patient/*.rs " * 5000},
        {"client_uri": "javascript:alert(1)"},
        {"logo_uri": "http://evil.example/logo"},
        {"initiate_login_uri": "https://user@x.example/"},
        {"contacts": "me"},
        {"contacts": ["x" * 300]},
        {"jwks": JWKS},
        {"jwks_uri": "https://app.example/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": []},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [7]}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "x", "kid": "1"}]}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [EC_KEY.as_dict(private=True)]}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [JWKS["keys"][0]] * 2}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": JWKS, "jwks_uri": "https://app.example/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/ jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://169.254.169.254/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://[::1]:8080/jwks"},
    ],
)
def test_metadata_that_is_wrong(hospital: Hospital, fields: dict[str, Any]) -> None:
    """3.2.2: invalid_client_metadata."""
    response = register(hospital, **fields)
    assert response.status_code == 400
    assert response.get_json()["error"] == "invalid_client_metadata"


@pytest.mark.parametrize(
    "key",
    [
        ECKey.generate_key("P-256", {"kid": "1"}).as_dict(private=False),
        ECKey.generate_key("P-384", {"kid": "1", "use": "enc"}).as_dict(private=False),
        {"kty": "RSA", "kid": "1"},
        {"kty": "RSA", "kid": "1", "e": "AQAB", "n": "v" * 171},  # 1024 bits
        {"kty": "RSA", "kid": "1", "e": "AQAB", "n": 7},
        {"kty": "RSA", "kid": "1", "e": "AQAB", "n": "!"},
        {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "1"},
    ],
)
def test_keys_that_cannot_be_used(hospital: Hospital, key: dict[str, Any]) -> None:
    """SMART: ES384 and RS384."""
    response = register(hospital, token_endpoint_auth_method="private_key_jwt", jwks={"keys": [key]})
    assert response.get_json()["error"] == "invalid_client_metadata"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"client_name=x", "application/x-www-form-urlencoded"),
        (b"", "application/json"),
        (b'{"client_name": "x", "contacts": ["\\ud800"]}', "application/json"),  # half a character
        (b'{"client_name": "x", "default_max_age": NaN}', "application/json"),
        (b'{"client_name": "x", "default_max_age": 1e999}', "application/json"),
    ],
)
def test_body_that_is_no_json_object(hospital: Hospital, body: bytes, content_type: str) -> None:
    response = hospital.app.test_client().post("/oauth/register", data=body, content_type=content_type)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


def test_what_is_not_understood_is_left_out(hospital: Hospital) -> None:
    """2: "The authorization server MUST ignore any client metadata [...] that it does not understand"."""
    body = register(hospital, software_id="x", trusted=True, status="active", client_id="mine").get_json()
    assert body["client_id"] != "mine"
    assert body["status"] == "pending"
    found = hospital.auth.store.get(Client, body["client_id"])
    assert found is not None
    assert not found.trusted


def test_open_registration_needs_no_approval(auth: Auth) -> None:
    auth.settings = dataclasses.replace(auth.settings, registration="open")
    hospital = Hospital(auth)
    body = register(hospital).get_json()
    assert body["status"] == "active"
    assert hospital.browser("anna").authorize(client_id=body["client_id"]).status_code == 200


def test_registration_can_be_off(auth: Auth) -> None:
    """3: "the registration endpoint MAY be protected"."""
    auth.settings = dataclasses.replace(auth.settings, registration="off")
    response = register(Hospital(auth))
    assert (response.status_code, response.get_json()["error"]) == (403, "access_denied")


def test_registrations_of_one_address_are_limited(hospital: Hospital) -> None:
    """5: rate limits."""
    for _ in range(limits.REGISTRATION_PER_ADDRESS.count):
        hospital.auth.accounts.limits.hit_address(limits.REGISTRATION_PER_ADDRESS, "127.0.0.1")
    response = register(hospital)
    assert response.status_code == 429
    assert response.headers["Retry-After"].isdigit()


# --- RFC 7592 ---------------------------------------------------------------------------------------------------------


def test_registration_is_read_and_deleted_with_its_own_token(hospital: Hospital) -> None:
    """RFC 7592 sections 2.1, 2.3 and 3."""
    body = register(hospital).get_json()
    path = body["registration_client_uri"].removeprefix("https://example.org")
    http = hospital.app.test_client()
    own = {"Authorization": f"Bearer {body['registration_access_token']}"}
    assert http.get(path, headers=own).get_json()["client_name"] == "Growth chart"
    assert http.delete(path, headers=own).status_code == 204
    assert hospital.auth.store.get(Client, body["client_id"]) is None
    assert http.get(path, headers=own).status_code == 401


def test_registration_is_closed_to_others(hospital: Hospital) -> None:
    body, other = register(hospital).get_json(), register(hospital).get_json()
    path = body["registration_client_uri"].removeprefix("https://example.org")
    http = hospital.app.test_client()
    for header in (
        "",
        "Bearer x",
        "Bearer \u4e2d".encode().decode("latin-1"),
        f"Bearer {other['registration_access_token']}",
    ):
        assert http.get(path, headers={"Authorization": header}).status_code == 401
        assert http.delete(path, headers={"Authorization": header}).status_code == 401
    assert http.get("/oauth/register/public", headers={"Authorization": "Bearer x"}).status_code == 401
    assert http.put(path).status_code == 405
