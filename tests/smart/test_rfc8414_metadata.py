"""RFC 8414, OpenID Connect Discovery 1.0, and conformance.html of SMART App Launch 2.2: all true and complete."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from smart_auth.context import Auth
from smart_auth.discovery import CAPABILITIES
from tests.support.smart_apps import Hospital

SMART = "/fhir/.well-known/smart-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
BROWSERS = (
    SMART, OAUTH, OPENID, "/oauth/jwks", "/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/register",
    "/oauth/userinfo", "/oauth/style.json",
)  # fmt: skip


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


@pytest.mark.parametrize("path", [SMART, OAUTH, OPENID])
def test_metadata_is_json_and_may_be_cached(hospital: Hospital, path: str) -> None:
    """RFC 8414 section 3.2; SMART: application/json whatever is accepted."""
    response = hospital.app.test_client().get(path, headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert "max-age" in response.headers["Cache-Control"]
    assert response.get_json()["issuer"] == "https://example.org"  # section 3.3: identical to the one asked


def test_smart_configuration_has_what_is_required(hospital: Hospital) -> None:
    """conformance.html, "Metadata"."""
    found = hospital.app.test_client().get(SMART).get_json()
    assert found["jwks_uri"] == "https://example.org/oauth/jwks"
    assert found["authorization_endpoint"] == "https://example.org/oauth/authorize"
    assert found["token_endpoint"] == "https://example.org/oauth/token"
    assert found["registration_endpoint"] == "https://example.org/oauth/register"
    assert found["management_endpoint"] == "https://example.org/account/apps"
    assert found["introspection_endpoint"] == "https://example.org/oauth/introspect"
    assert found["revocation_endpoint"] == "https://example.org/oauth/revoke"
    assert found["grant_types_supported"] == ["authorization_code", "refresh_token", "client_credentials"]
    assert found["response_types_supported"] == ["code"]
    assert found["code_challenge_methods_supported"] == ["S256"]  # "SHALL NOT include plain"
    assert set(found["token_endpoint_auth_methods_supported"]) == {"none", "client_secret_basic", "private_key_jwt"}
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["ES384", "RS384"]
    assert {"openid", "fhirUser", "launch", "launch/patient", "offline_access", "patient/*.rs"} <= set(
        found["scopes_supported"]
    )
    assert found["capabilities"] == list(CAPABILITIES)


def test_every_endpoint_that_is_named_exists(hospital: Hospital) -> None:
    http = hospital.app.test_client()
    found = http.get(OPENID).get_json()
    for name, address in found.items():
        if name.endswith(("_endpoint", "_uri")):
            assert address.startswith("https://example.org/")
            assert http.get(address.removeprefix("https://example.org")).status_code != 404, name


def test_openid_metadata_has_what_is_required(hospital: Hospital) -> None:
    """OpenID Connect Discovery section 3: RS256 has to be there."""
    found = hospital.app.test_client().get(OPENID).get_json()
    assert found["subject_types_supported"] == ["public"]
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    assert found["userinfo_endpoint"] == "https://example.org/oauth/userinfo"
    assert found["claims_supported"]


def test_both_metadata_agree_with_smart(hospital: Hospital) -> None:
    http = hospital.app.test_client()
    smart, oauth = http.get(SMART).get_json(), http.get(OAUTH).get_json()
    assert {name: value for name, value in smart.items() if name != "capabilities"}.items() <= oauth.items()


def test_registration_that_is_off_is_not_named(auth: Auth) -> None:
    auth.settings = dataclasses.replace(auth.settings, registration="off")
    found = Hospital(auth).app.test_client().get(SMART).get_json()
    assert "registration_endpoint" not in found


def test_keys_are_published_without_their_secrets(hospital: Hospital) -> None:
    """RFC 7517 section 5; RFC 8414 jwks_uri."""
    keys = hospital.app.test_client().get("/oauth/jwks").get_json()["keys"]
    assert sorted(key["alg"] for key in keys) == ["ES256", "RS256"]
    for key in keys:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
        assert key["use"] == "sig"
        assert key["kid"]


@pytest.mark.parametrize("path", BROWSERS)
def test_browser_apps_may_call(hospital: Hospital, path: str) -> None:
    """conformance.html: "SHALL support CORS"; Fetch standard."""
    http = hospital.app.test_client()
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = http.options(path, headers=ask)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    method = preflight.headers["Access-Control-Allow-Methods"].split(", ")[0]
    answer = http.open(path, method=method, headers={"Origin": "https://app.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/launch", "/login", "/account"])
def test_what_cookies_decide_is_not_for_other_origins(hospital: Hospital, path: str) -> None:
    """RFC 9700 section 2.6: "MUST NOT support CORS at the authorization endpoint"."""
    http = hospital.browser("anna").http
    for method in ("GET", "OPTIONS", "POST"):
        answer = http.open(path, method=method, headers={"Origin": "https://app.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_origins_can_be_listed(auth: Auth) -> None:
    auth.settings = dataclasses.replace(auth.settings, cors_origins=("https://app.example",))
    http = Hospital(auth).app.test_client()
    known = http.get(SMART, headers={"Origin": "https://app.example"})
    assert known.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Origin" in known.headers["Vary"]
    assert "Access-Control-Allow-Origin" not in http.get(SMART, headers={"Origin": "https://x.example"}).headers


def test_reference_names_every_capability_and_endpoint(hospital: Hospital) -> None:
    """What docs/smart.md says is what the server says."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "smart.md").read_text(encoding="utf-8")
    listed = text[text.index("Capabilities:") :].partition("\n\n")[0]
    assert re.findall(r"`([a-z0-9-]+)`", listed) == list(CAPABILITIES)
    for name, address in hospital.app.test_client().get(OPENID).get_json().items():
        if name.endswith(("_endpoint", "_uri")):
            assert f"`{address.removeprefix('https://example.org')}`" in text
