"""RFC 7636, as SMART App Launch 2.2 requires it: always, and with S256."""

from __future__ import annotations

from typing import Any

import pytest

from smart_auth.context import Auth
from tests.support.smart_apps import CHALLENGE, VERIFIER, Hospital, answered, basic, s256


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def test_challenge_of_appendix_b_is_the_one_of_its_verifier() -> None:
    assert s256(VERIFIER) == CHALLENGE


@pytest.mark.both_stores
def test_verifier_of_the_challenge_is_taken(hospital: Hospital) -> None:
    """4.6."""
    anna = hospital.browser("anna")
    verifier = "a-._~" * 20
    code = anna.code(code_challenge=s256(verifier))
    assert anna.exchange(code, code_verifier=verifier).status_code == 200


@pytest.mark.parametrize("client", ["public", "symmetric", "asymmetric"])
@pytest.mark.parametrize(
    "params",
    [
        {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "plain", "code_challenge": VERIFIER},
        {"code_challenge_method": "s256"},
        {"code_challenge_method": "S512"},
        {"code_challenge": CHALLENGE[:-1]},
        {"code_challenge": CHALLENGE + "A"},
        {"code_challenge": "+" + CHALLENGE[1:]},
        {"code_challenge": CHALLENGE + "\n"},
    ],
)
def test_request_without_an_s256_challenge_is_refused(hospital: Hospital, client: str, params: dict[str, Any]) -> None:
    """4.4.1: invalid_request; 4.3: a missing method means plain, which SMART servers SHALL NOT support."""
    got = answered(hospital.browser("anna").authorize(client_id=client, **params))
    assert got["error"] == "invalid_request"
    assert "code" not in got


@pytest.mark.parametrize(
    ("verifier", "error"),
    [
        (None, "invalid_request"),
        ("", "invalid_request"),
        ("x" * 43, "invalid_grant"),
        (CHALLENGE, "invalid_grant"),  # what `plain` would have taken
        ("short", "invalid_request"),
        ("x" * 129, "invalid_request"),
        ("\u4e2d" * 50, "invalid_request"),
        (VERIFIER + "=", "invalid_request"),
    ],
)
def test_other_verifiers_are_refused(hospital: Hospital, verifier: str | None, error: str) -> None:
    """4.6: invalid_grant when the values are not equal."""
    anna = hospital.browser("anna")
    response = anna.exchange(anna.code(), code_verifier=verifier)
    assert (response.status_code, response.get_json()["error"]) == (400, error)


def test_confidential_client_needs_the_verifier_too(hospital: Hospital) -> None:
    """RFC 9700 section 2.1.1: for all clients."""
    anna = hospital.browser("anna")
    code = anna.code(client_id="symmetric")
    values: dict[str, str | None] = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/callback"
    }  # fmt: skip
    response = anna.post("/oauth/token", values, Authorization=basic())
    assert response.get_json()["error"] == "invalid_request"
