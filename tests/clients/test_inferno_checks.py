"""What the suite STU2.2 of Inferno's SMART App Launch Test Kit checks, asked of a running server by tests of our own.

Above each test is the id of each test of Inferno that it follows: the group's, then the test's. Inferno's optional
tests, warnings and infos are demanded here. Two tests are those of STU1 about the CapabilityStatement. What is not here
is in docs/inferno.md.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from fhir_server.resources.types import TYPE_SET
from tests.clients.conftest import Demo
from tests.clients.inferno import (
    EHR,
    FORM,
    JSON,
    ORIGIN,
    STANDALONE,
    AuthInfo,
    Client,
    Discovered,
    Followed,
    Session,
    authorized,
    follows_document,
    get,
    unverified,
)

pytestmark = pytest.mark.slow

follows: Final = Followed()

USERS: Final = ("Patient", "Practitioner", "RelatedPerson", "Person")
ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
CONTEXT: Final[list[JSON]] = [
    {"reference": "DiagnosticReport/report-1"},
    {
        "canonical": "https://example.org/Questionnaire/intake|1",
        "type": "Questionnaire",
        "role": "https://example.org/r",
    },
    {"identifier": {"system": "https://example.org/orders", "value": "1"}, "type": "ServiceRequest"},
]

RUNS: Final = {
    "standalone-public": AuthInfo("demo-public", "public", "patient-chen"),
    "standalone-public-post": AuthInfo("demo-public", "public", "patient-xu", auth_request_method="POST"),
    "standalone-symmetric": AuthInfo("demo-symmetric", "symmetric", "patient-chen"),
    "standalone-asymmetric": AuthInfo("demo-asymmetric", "asymmetric", "patient-xu", auth_request_method="POST"),
    "standalone-visit": AuthInfo("demo-symmetric", "symmetric", "patient-chen", f"{STANDALONE} launch/encounter"),
    "standalone-doctor": AuthInfo("demo-public", "public", "doctor-he"),
    "ehr-public": AuthInfo(
        "demo-public", "public", "doctor-he", EHR, launch={"patient": "p001", "fhirContext": CONTEXT, "intent": "order"}
    ),
    "ehr-symmetric": AuthInfo("demo-symmetric", "symmetric", "nurse-xu", EHR, "POST", {"patient": "p001"}),
    "ehr-asymmetric": AuthInfo(
        "demo-asymmetric", "asymmetric", "doctor-he", EHR, launch={"patient": "p001", "encounter": "p001-enc-1"}
    ),
}
"""How often the launch groups are run, and with which inputs."""


@pytest.fixture(scope="module", params=list(RUNS))
def session(request: pytest.FixtureRequest, demo: Demo, discovered: Discovered) -> Session:
    """A launch, up to the token response."""
    return authorized(discovered, demo, RUNS[request.param])


def allows_origin(response: httpx.Response) -> None:
    assert response.status_code == 200
    assert response.headers.get("Access-Control-Allow-Origin") in (ORIGIN, "*")


def is_bearer_response(body: JSON) -> None:
    """The fields that a token response has to have, and their types."""
    assert all(body.get(name) for name in ("access_token", "token_type", "expires_in", "scope"))
    assert all(isinstance(body[name], str) for name in ("access_token", "token_type", "scope"))
    assert isinstance(body.get("refresh_token", ""), str)
    assert isinstance(body["expires_in"], (int, float))
    assert not isinstance(body["expires_in"], bool)
    assert body["token_type"].lower() == "bearer"


def is_not_kept(response: httpx.Response) -> None:
    assert "no-store" in response.headers["Cache-Control"].lower()
    assert "no-cache" in response.headers["Pragma"].lower()


# --- discovery --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def discovered(demo: Demo) -> Discovered:
    return Discovered.of(demo.base)


@follows("smart_discovery_stu2_2-well_known_endpoint")
def test_configuration_is_json_at_its_address(discovered: Discovered) -> None:
    assert discovered.well_known.status_code == 200
    assert discovered.well_known.headers["Content-Type"].startswith("application/json")
    assert isinstance(discovered.well_known.json(), dict)


@follows("smart_discovery_stu2_2-well_known_capabilities_stu2", "smart_discovery-well_known_capabilities_stu1")
def test_configuration_has_what_apps_need(discovered: Discovered) -> None:
    found = discovered.configuration
    assert all(isinstance(found[name], str) and found[name] for name in ("authorization_endpoint", "token_endpoint"))
    for name in ("capabilities", "grant_types_supported", "code_challenge_methods_supported"):
        assert isinstance(found[name], list)
        assert found[name]
    assert all(isinstance(one, str) for one in found["capabilities"])
    assert "authorization_code" in found["grant_types_supported"]
    assert "S256" in found["code_challenge_methods_supported"]
    assert "plain" not in found["code_challenge_methods_supported"]
    assert "sso-openid-connect" in found["capabilities"]
    assert isinstance(found["issuer"], str)
    assert isinstance(found["jwks_uri"], str)


@follows("smart_discovery_stu2_2-smart_cors_well_known_endpoint")
def test_configuration_is_for_browsers(discovered: Discovered) -> None:
    allows_origin(discovered.well_known)


@follows("smart_discovery_stu2_2-smart_cors_metadata_request")
def test_capability_statement_is_for_browsers(discovered: Discovered) -> None:
    allows_origin(discovered.metadata)
    assert discovered.metadata.json()["resourceType"] == "CapabilityStatement"


@follows("smart_discovery-Test03", "smart_discovery-Test04")
def test_capability_statement_names_the_same_endpoints(discovered: Discovered) -> None:
    security = [one["security"] for one in discovered.metadata.json()["rest"] if "security" in one]
    smart = next(
        one
        for one in security
        if any(code["code"] == "SMART-on-FHIR" for service in one["service"] for code in service["coding"])
    )
    extension = next(one for one in smart["extension"] if one["url"].endswith("/StructureDefinition/oauth-uris"))
    named = {one["url"]: one["valueUri"] for one in extension["extension"]}
    assert {"authorize", "token"} <= set(named)
    words = {
        "authorize": "authorization",
        "token": "token",
        "introspect": "introspection",
        "manage": "management",
        "register": "registration",
        "revoke": "revocation",
    }
    for short, long in words.items():
        assert named.get(short) == discovered.configuration.get(f"{long}_endpoint")


# --- launch -----------------------------------------------------------------------------------------------------------


@follows("smart_ehr_launch_stu2_2-smart_app_launch", "smart_ehr_launch_stu2_2-smart_launch_received")
def test_ehr_launch_brings_iss_and_launch(session: Session) -> None:
    if session.info.launch is None:
        assert not session.launch
        return
    assert session.launch["iss"] == session.url
    assert session.launch["launch"]


@follows(
    "smart_standalone_launch_stu2_2-smart_app_redirect_stu2",
    "smart_standalone_launch_stu2_2-smart_code_received",
    "smart_ehr_launch_stu2_2-smart_app_redirect_stu2",
    "smart_ehr_launch_stu2_2-smart_code_received",
)
def test_redirect_brings_state_and_code(session: Session) -> None:
    assert session.redirect["state"] == session.state
    assert session.redirect["code"]
    assert "error" not in session.redirect


@follows(
    "smart_standalone_launch_stu2_2-smart_token_exchange_stu2_2",
    "smart_standalone_launch_stu2_2-smart_token_response_body_stu2_2",
    "smart_ehr_launch_stu2_2-smart_token_exchange_stu2_2",
    "smart_ehr_launch_stu2_2-smart_token_response_body_stu2_2",
)
def test_token_response_has_what_apps_need(session: Session) -> None:
    body = session.tokens
    is_bearer_response(body)
    assert set(session.info.requested_scopes.split()) <= set(body["scope"].split())
    assert body["refresh_token"]
    assert body["id_token"]
    assert ID.fullmatch(body["patient"])


@follows(
    "smart_standalone_launch_stu2_2-smart_token_response_body_stu2_2",
    "smart_ehr_launch_stu2_2-smart_token_response_body_stu2_2",
)
def test_token_response_has_the_context_of_the_launch(session: Session) -> None:
    body, given = session.tokens, session.info.launch or {}
    for name in ("fhirContext", "intent"):
        assert body.get(name) == given.get(name)
    assert body["patient"] == given.get("patient", body["patient"])
    if "launch/encounter" in session.info.requested_scopes.split():
        answer = session.read(f"Encounter/{body['encounter']}")
        assert answer.json()["subject"]["reference"] == f"Patient/{body['patient']}"
    else:
        assert body.get("encounter") == given.get("encounter")
    for one in body.get("fhirContext", []):
        assert any(one.get(name) for name in ("reference", "canonical", "identifier"))
        if "reference" in one:
            resource_type, _, resource_id = one["reference"].partition("/")
            assert resource_type in TYPE_SET
            assert ID.fullmatch(resource_id)
        if "canonical" in one:
            *_, resource_type, last = one["canonical"].split("/")
            assert one["canonical"].startswith("http")
            assert resource_type in TYPE_SET
            assert ID.fullmatch(last.partition("|")[0])
        assert isinstance(one.get("identifier", {}), dict)
        assert "reference" in one or one["type"] in TYPE_SET


@follows(
    "smart_standalone_launch_stu2_2-smart_token_response_headers",
    "smart_ehr_launch_stu2_2-smart_token_response_headers",
)
def test_token_response_is_not_kept(session: Session) -> None:
    assert session.token.status_code == 200
    is_not_kept(session.token)


@follows(
    "smart_standalone_launch_stu2_2-smart_cors_token_exchange",
    "smart_ehr_launch_stu2_2-smart_cors_token_exchange",
)
def test_token_response_is_for_browsers(session: Session) -> None:
    allows_origin(session.token)


# --- OpenID Connect ---------------------------------------------------------------------------------------------------


@dataclass
class Identity:
    """What the OpenID Connect group asks for, after a launch."""

    session: Session
    id_token: str
    configuration: httpx.Response
    jwks: httpx.Response

    @property
    def header(self) -> JSON:
        return unverified(self.id_token)[0]

    @property
    def claims(self) -> JSON:
        return unverified(self.id_token)[1]

    @property
    def rsa_keys(self) -> list[JSON]:
        return [one for one in self.jwks.json()["keys"] if one["kty"] == "RSA"]

    @property
    def key(self) -> JSON:
        """The key that signed, as a client finds it."""
        keys, kid = self.rsa_keys, self.header.get("kid")
        if len(keys) == 1 and not kid:
            return keys[0]
        assert kid
        return next(one for one in keys if one["kid"] == kid)


@pytest.fixture(scope="module")
def identity(session: Session) -> Identity:
    """The id_token of a launch, and what one reads to check it."""
    id_token = session.tokens["id_token"]
    issuer = unverified(id_token)[1]["iss"].rstrip("/")
    configuration = httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=60)
    return Identity(session, id_token, configuration, httpx.get(configuration.json()["jwks_uri"], timeout=60))


@follows(
    "smart_openid_connect_stu2_2-smart_openid_retrieve_configuration",
    "smart_openid_connect_stu2_2-smart_openid_required_configuration_fields",
)
def test_openid_configuration_has_what_apps_need(identity: Identity) -> None:
    assert identity.configuration.status_code == 200
    assert identity.configuration.headers["Content-Type"].startswith("application/json")
    found = identity.configuration.json()
    for name in ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert isinstance(found[name], str)
    for name in ("response_types_supported", "subject_types_supported"):
        assert found[name]
    assert "RS256" in found["id_token_signing_alg_values_supported"]


@follows("smart_openid_connect_stu2_2-smart_openid_retrieve_jwks")
def test_signing_keys_can_be_read(identity: Identity) -> None:
    assert identity.jwks.status_code == 200
    assert identity.rsa_keys
    for one in identity.rsa_keys:
        assert not RSAKey.import_key(one).is_private


@follows(
    "smart_openid_connect_stu2_2-smart_openid_decode_id_token",
    "smart_openid_connect_stu2_2-smart_openid_token_header",
)
def test_id_token_is_signed_with_a_key_that_can_be_found(identity: Identity) -> None:
    assert identity.header["alg"] == "RS256"
    assert identity.key["kty"] == "RSA"


@follows("smart_openid_connect_stu2_2-smart_openid_token_payload")
def test_id_token_is_of_this_person_for_this_app(identity: Identity) -> None:
    claims = jwt.decode(identity.id_token, RSAKey.import_key(identity.key), algorithms=["RS256"]).claims
    assert claims["iss"] == identity.configuration.json()["issuer"]
    assert claims["aud"] in (identity.session.client.id, [identity.session.client.id])
    assert claims["iat"] <= time.time() + 60 < claims["exp"] + 120
    assert isinstance(claims["sub"], str)
    assert 0 < len(claims["sub"]) < 256


@follows(
    "smart_openid_connect_stu2_2-smart_openid_fhir_user_claim",
    "smart_openid_connect_stu2_2-smart_cors_openid_fhir_user_claim",
)
def test_person_can_be_read(identity: Identity) -> None:
    """Also by an app that may read `patient/` only: the scope is the permission to learn who has logged in."""
    base, resource_type, resource_id = identity.claims["fhirUser"].rsplit("/", 2)
    assert base == identity.session.url
    assert resource_type in USERS
    answer = identity.session.read(f"{resource_type}/{resource_id}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["resourceType"] == resource_type
    allows_origin(answer)


# --- refresh ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renewed(session: Session) -> list[httpx.Response]:
    """Two refreshes, one after the other: without `scope`, and with the scopes that were received."""
    first = session.post(grant_type="refresh_token", refresh_token=session.tokens["refresh_token"])
    assert first.status_code == 200, first.text
    second = session.post(
        grant_type="refresh_token",
        refresh_token=first.json().get("refresh_token", session.tokens["refresh_token"]),
        scope=first.json()["scope"],
    )
    assert second.status_code == 200, second.text
    return [first, second]


@pytest.mark.parametrize("which", [0, 1], ids=["without-scopes", "with-scopes"])
@follows(
    "smart_standalone_refresh_without_scopes-smart_token_refresh_stu2",
    "smart_standalone_refresh_without_scopes-smart_token_refresh_body",
    "smart_standalone_refresh_with_scopes-smart_token_refresh_stu2",
    "smart_standalone_refresh_with_scopes-smart_token_refresh_body",
    "smart_ehr_refresh_without_scopes-smart_token_refresh_stu2",
    "smart_ehr_refresh_without_scopes-smart_token_refresh_body",
    "smart_ehr_refresh_with_scopes-smart_token_refresh_stu2",
    "smart_ehr_refresh_with_scopes-smart_token_refresh_body",
)
def test_refresh_gives_a_new_token_that_works(session: Session, renewed: list[httpx.Response], which: int) -> None:
    body = renewed[which].json()
    is_bearer_response(body)
    assert body["access_token"] != session.tokens["access_token"]
    assert set(body["scope"].split()) <= set(session.tokens["scope"].split())
    assert get(f"{session.url}/Patient/{body['patient']}", body["access_token"]).status_code == 200


@pytest.mark.parametrize("which", [0, 1], ids=["without-scopes", "with-scopes"])
@follows(
    "smart_standalone_refresh_without_scopes-smart_token_response_headers",
    "smart_standalone_refresh_with_scopes-smart_token_response_headers",
    "smart_ehr_refresh_without_scopes-smart_token_response_headers",
    "smart_ehr_refresh_with_scopes-smart_token_response_headers",
)
def test_refresh_is_not_kept(renewed: list[httpx.Response], which: int) -> None:
    is_not_kept(renewed[which])


# --- introspection ----------------------------------------------------------------------------------------------------


def introspect(session: Session, demo: Demo, token: str) -> httpx.Response:
    """By a client of one's own, which Inferno is given as an Authorization header."""
    resource_server = Client(demo.client("demo-symmetric"), "symmetric")
    return httpx.post(
        session.discovered.configuration["introspection_endpoint"],
        content=f"token={token}",
        headers={**FORM, "Accept": "application/json", "Authorization": resource_server.basic},
        timeout=60,
    )


@follows(
    "smart_token_introspection_stu2_2-smart_token_introspection_request_group-Test01",
    "smart_token_introspection_stu2_2-smart_token_introspection_response_group-Test01",
)
def test_introspection_tells_what_the_app_was_told(session: Session, demo: Demo) -> None:
    answer, tokens = introspect(session, demo, session.tokens["access_token"]), session.tokens
    assert answer.status_code == 200
    found = answer.json()
    assert found["active"] is True
    assert found["client_id"] == session.client.id
    assert sorted(found["scope"].split()) == sorted(tokens["scope"].split())
    assert isinstance(found["exp"], int)
    assert found["exp"] >= time.time() - 600
    for name in ("patient", "encounter"):
        assert found.get(name) == tokens.get(name)
    identity = unverified(tokens["id_token"])[1]
    for name in ("iss", "sub", "fhirUser"):
        assert found[name] == identity[name]


@follows(
    "smart_token_introspection_stu2_2-smart_token_introspection_request_group-Test02",
    "smart_token_introspection_stu2_2-smart_token_introspection_response_group-Test02",
)
def test_introspection_tells_nothing_of_a_token_that_is_none(session: Session, demo: Demo) -> None:
    answer = introspect(session, demo, "invalid_token_value")
    assert answer.status_code == 200
    assert answer.json() == {"active": False}


# --- back-end services ------------------------------------------------------------------------------------------------


@dataclass
class Backend:
    """A back-end service and where it asks for tokens."""

    client: Client
    token_url: str
    scope: str

    def post(self, **fields: str) -> httpx.Response:
        """A token request that is right, but for `fields`."""
        asked = {
            "scope": self.scope,
            "grant_type": "client_credentials",
            **self.client.proof(self.token_url)[1],
            **fields,
        }
        return httpx.post(self.token_url, data=asked, headers={**FORM, "Accept": "application/json"}, timeout=60)


@pytest.fixture(scope="module", params=["demo-backend-read", "demo-backend-write"])
def backend(request: pytest.FixtureRequest, demo: Demo, discovered: Discovered) -> Backend:
    """Signs with RS384 and ES384."""
    return Backend(Client(demo.client(request.param), "backend_services"), discovered.token_url, "system/*.rs")


@follows("backend_services_authorization-smart_backend_services_invalid_grant_type")
def test_back_end_with_another_grant_type_is_refused(backend: Backend) -> None:
    assert backend.post(grant_type="not_a_grant_type").status_code == 400


@follows("backend_services_authorization-smart_backend_services_invalid_client_assertion")
def test_back_end_with_another_assertion_type_is_refused(backend: Backend) -> None:
    assert backend.post(client_assertion_type="not_an_assertion_type").status_code == 400


WRONG: Final[dict[str, dict[str, Any]]] = {
    "key": {"key": None},
    "aud": {"aud": "https://example.org/token"},
    "iss": {"iss": "somebody"},
    "expired": {"exp": 1},
    "too-long": {"exp": 2**33},
    "no-exp": {"exp": None},
    "no-jti": {"jti": None},
    "no-sub": {"sub": None},
}


@pytest.mark.parametrize("wrong", list(WRONG))
@follows("backend_services_authorization-smart_backend_services_invalid_jwt")
def test_back_end_with_a_wrong_assertion_is_refused(backend: Backend, wrong: str) -> None:
    """Inferno's test repeats the one before it; these are the assertions that its description speaks of."""
    changed = dict(WRONG[wrong])
    if "key" in changed:
        is_rsa = isinstance(backend.client.key, RSAKey)
        changed["key"] = RSAKey.generate_key(2048) if is_rsa else ECKey.generate_key("P-384")
    answer = backend.post(client_assertion=backend.client.assertion(backend.token_url, **changed))
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == "invalid_client"


@follows(
    "backend_services_authorization-smart_backend_services_auth_request_success",
    "backend_services_authorization-smart_backend_services_auth_response_body",
)
def test_back_end_gets_a_token_that_works(backend: Backend, demo: Demo) -> None:
    answer = backend.post()
    assert answer.status_code == 200, answer.text
    body = answer.json()
    is_bearer_response(body)
    assert body["scope"] == backend.scope
    assert "refresh_token" not in body
    assert get(f"{demo.base}/Patient?_count=1", body["access_token"]).status_code == 200


# --- the document -----------------------------------------------------------------------------------------------------


def test_document_lists_what_is_followed() -> None:
    follows_document("followed: STU2.2", follows)
