"""RFC 7523 as SMART App Launch 2.2 profiles it: client-confidential-asymmetric.html."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from smart_auth.context import Auth, AuthSettings
from tests.support.accounts import AuthClock, RecordingAudit
from tests.support.smart_apps import EC_KEY, JWKS, JWT_BEARER, REDIRECT, VERIFIER, Hospital, assertion, hs256


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def ask(hospital: Hospital, fields: dict[str, str], **more: str) -> TestResponse:
    """A token request of the back-end service."""
    values = {"grant_type": "client_credentials", "scope": "system/*.rs", **fields, **more}
    return hospital.browser().post("/oauth/token", dict(values))


@pytest.mark.both_stores
@pytest.mark.parametrize("alg", ["ES384", "RS384"])
def test_signed_assertion_is_taken(hospital: Hospital, alg: str) -> None:
    """Section 3; SMART: ES384 and RS384."""
    assert ask(hospital, assertion(hospital.auth, "backend", alg)).status_code == 200


@pytest.mark.parametrize("alg", ["ES384", "RS384"])
def test_app_of_a_person_authenticates_with_it_too(hospital: Hospital, alg: str) -> None:
    anna = hospital.browser("anna")
    values: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": anna.code(client_id="asymmetric"),
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        **assertion(hospital.auth, "asymmetric", alg),
    }
    first = anna.post("/oauth/token", values).get_json()
    values = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert anna.post("/oauth/token", {**values, **assertion(hospital.auth, "asymmetric", alg)}).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": None},
        {"iss": "other"},
        {"sub": None},
        {"sub": "other"},
        {"sub": 7},
        {"sub": "nobody", "iss": "nobody"},
        {"sub": "asymmetric"},
        {"aud": None},
        {"aud": "https://other.example/oauth/token"},
        {"aud": "https://example.org/fhir"},
        {"aud": []},
        {"aud": [7, None]},
        {"aud": {"x": 1}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 0},
        {"exp": 2_000_000_000 - 31},  # beyond what clocks differ by
        {"exp": 2_000_000_000 + 331},  # "no more than five minutes in the future"
        {"exp": 1e300},
        {"nbf": 2_000_000_000 + 60},
        {"iat": 2_000_000_000 + 60},
        {"iat": "x"},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 300},
    ],
)
def test_claims_that_are_wrong(hospital: Hospital, claims: dict[str, Any], audit: RecordingAudit) -> None:
    """Section 3; SMART: iss, sub, aud, exp and jti are required."""
    response = ask(hospital, assertion(hospital.auth, "backend", **claims))
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client")
    assert audit.last("client-refused").outcome == 8


def test_client_id_that_is_no_text_is_of_nobody(hospital: Hospital) -> None:
    """JSON can write half a surrogate pair (RFC 8259 section 8.2)."""
    forged = hs256({"alg": "ES384", "kid": "ec", "typ": "JWT"}, {"iss": "\ud800", "sub": "\ud800"}, b"x")
    response = ask(hospital, {"client_assertion_type": JWT_BEARER, "client_assertion": forged})
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client")


@pytest.mark.parametrize(
    "audience", ["https://example.org/oauth/token", "https://example.org", ["x", "https://example.org"]]
)
def test_audience_is_the_token_endpoint_or_the_issuer(hospital: Hospital, audience: object) -> None:
    """Section 3 (3)."""
    assert ask(hospital, assertion(hospital.auth, "backend", aud=audience)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {"typ": None},
        {"typ": "at+jwt"},
        {"kid": None},
        {"kid": "other"},
        {"kid": "rsa"},  # a key for another algorithm
        {"jku": "https://evil.example/jwks"},
    ],
)
def test_headers_that_are_wrong(hospital: Hospital, header: dict[str, Any]) -> None:
    """SMART: alg, kid and typ are required; jku has to be the registered one."""
    response = ask(hospital, assertion(hospital.auth, "backend", header=header))
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client")


def test_other_algorithms_and_keys_are_refused(hospital: Hospital) -> None:
    """RFC 8725 section 3.1: the algorithm is not the assertion's to choose."""
    claims = {
        "iss": "backend", "sub": "backend", "aud": "https://example.org", "jti": "j", "exp": hospital.auth.clock() + 60
    }  # fmt: skip
    stranger = ECKey.generate_key("P-384", {"kid": "ec"})
    signed = [
        hs256({"alg": "HS256", "typ": "JWT", "kid": "ec"}, claims, EC_KEY.as_pem(private=False)),
        jwt.encode({"alg": "ES384", "typ": "JWT", "kid": "ec"}, claims, stranger, ["ES384"]),
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiZWMifQ.eyJzdWIiOiJiYWNrZW5kIn0.",
        "x",
        "..",
        "a.b.c",
        "\u4e2d",
        "x" * 20_000,
        "bnVsbA.bnVsbA.bnVsbA",
    ]
    for one in signed:
        fields = {**assertion(hospital.auth, "backend"), "client_assertion": one}
        response = ask(hospital, fields)
        assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client"), one


@pytest.mark.both_stores
def test_jti_is_taken_once(hospital: Hospital) -> None:
    """SMART: "the jti has not been previously encountered"."""
    fields = assertion(hospital.auth, "backend", jti="once")
    assert ask(hospital, fields).status_code == 200
    assert ask(hospital, fields).get_json()["error"] == "invalid_client"
    assert ask(hospital, assertion(hospital.auth, "backend", "RS384", jti="once")).status_code == 400


def test_jti_of_another_client_does_not_count(hospital: Hospital) -> None:
    hospital.client("second", "backend", jwks=JWKS, scope="system/*.rs", grant_types=("client_credentials",))
    assert ask(hospital, assertion(hospital.auth, "backend", jti="same")).status_code == 200
    assert ask(hospital, assertion(hospital.auth, "second", jti="same")).status_code == 200


def test_jti_is_remembered_for_as_long_as_the_assertion_is_taken(hospital: Hospital, clock: AuthClock) -> None:
    fields = assertion(hospital.auth, "backend")
    assert ask(hospital, fields).status_code == 200
    clock.advance(329)  # 300 s and 29 of the 30 that clocks may differ by
    hospital.auth.store.purge()
    assert ask(hospital, fields).get_json()["error"] == "invalid_client"


def test_assertion_type_has_to_be_the_one(hospital: Hospital) -> None:
    """Section 2.2."""
    fields = {**assertion(hospital.auth, "backend"), "client_assertion_type": "other"}
    response = ask(hospital, fields)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


def test_client_id_beside_it_has_to_be_the_same(hospital: Hospital) -> None:
    """RFC 7521 section 4.2."""
    assert ask(hospital, assertion(hospital.auth, "backend"), client_id="backend").status_code == 200
    assert ask(hospital, assertion(hospital.auth, "backend"), client_id="asymmetric").status_code == 400


# --- jwks_uri ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def key_server() -> Iterator[ThreadingHTTPServer]:
    """A client's own server, which hands out `keys` and counts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server: Any = self.server
            server.asked += 1
            body = json.dumps({"keys": server.keys}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.keys, server.asked = JWKS["keys"], 0
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def auth_settings() -> AuthSettings:
    return AuthSettings(issuer="https://example.org", base_url="https://example.org/fhir", fetch_allow=("127.0.0.1",))


def test_keys_are_fetched_cached_and_fetched_again_for_a_new_kid(
    hospital: Hospital, key_server: Any, clock: AuthClock
) -> None:
    """SMART: jwks_uri "allows a client to rotate its own keys"."""
    uri = f"http://127.0.0.1:{key_server.server_port}/jwks.json"
    hospital.client("remote", "backend", jwks_uri=uri, scope="system/*.rs", grant_types=("client_credentials",))
    key_server.keys = [key for key in JWKS["keys"] if key["kid"] == "rsa"]
    for _ in range(3):
        assert ask(hospital, assertion(hospital.auth, "remote", "RS384", header={"jku": uri})).status_code == 200
    assert key_server.asked == 1
    assert ask(hospital, assertion(hospital.auth, "remote", "ES384")).status_code == 400
    key_server.keys = JWKS["keys"]
    clock.advance(61)
    assert ask(hospital, assertion(hospital.auth, "remote", "ES384")).status_code == 200
    assert key_server.asked == 2


def test_keys_that_cannot_be_fetched_refuse_the_client(hospital: Hospital) -> None:
    for uri in ("https://10.0.0.1/jwks", "https://localhost:1/jwks", "file:///etc/passwd"):
        hospital.client("remote", "backend", jwks_uri=uri, scope="system/*.rs", grant_types=("client_credentials",))
        response = ask(hospital, assertion(hospital.auth, "remote"))
        assert (response.status_code, response.get_json()["error"]) == (400, "invalid_client")
