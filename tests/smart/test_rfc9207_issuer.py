"""RFC 9207: every authorization response says whose it is."""

from __future__ import annotations

import pytest

from smart_auth.context import Auth
from tests.support.smart_apps import Hospital, answered


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def test_code_comes_with_its_issuer(hospital: Hospital) -> None:
    """2: "MUST indicate its identity by including the iss parameter"."""
    anna = hospital.browser("anna")
    got = answered(anna.allow(anna.authorize()))
    assert got["iss"] == "https://example.org"
    assert set(got) == {"code", "state", "iss"}


def test_errors_come_with_their_issuer(hospital: Hospital) -> None:
    """2: "including error responses"."""
    anna = hospital.browser("anna")
    assert answered(anna.authorize(aud="https://other.example"))["iss"] == "https://example.org"
    assert answered(anna.answer(anna.authorize(), decision="deny"))["iss"] == "https://example.org"
    assert answered(anna.authorize(prompt="none"))["iss"] == "https://example.org"


def test_metadata_says_so_and_names_the_same_issuer(hospital: Hospital) -> None:
    """2.4 and 3."""
    found = hospital.app.test_client().get("/.well-known/oauth-authorization-server").get_json()
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["issuer"] == "https://example.org"
