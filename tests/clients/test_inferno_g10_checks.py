"""The SMART App Launch parts of Inferno's ONC Certification (g)(10) kit, for SMART 2.2 and US Core 7, in our words.

They go on where test_inferno_checks.py ends: the same launches, with scopes for each type, limited by the person,
spoilt in every way that the kit knows, and revoked. What else the kit tests (US Core profiles, Bulk Data) is not here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from tests.clients.conftest import Demo, go_through
from tests.clients.inferno import (
    JSON,
    AuthInfo,
    Client,
    Discovered,
    Followed,
    Session,
    authorized,
    follows_document,
    get,
    launched,
    named,
)
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

follows: Final = Followed()

HL7: Final = "http://terminology.hl7.org/CodeSystem"
US_CORE: Final = "http://hl7.org/fhir/us/core/CodeSystem"
IDENTITY: Final = "openid fhirUser offline_access"
TYPES: Final = (
    "Medication", "AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Coverage", "Device", "DiagnosticReport",
    "DocumentReference", "Encounter", "Goal", "Immunization", "Location", "MedicationDispense", "MedicationRequest",
    "Observation", "Organization", "Patient", "Practitioner", "PractitionerRole", "Procedure", "Provenance",
    "RelatedPerson", "ServiceRequest", "Specimen",
)  # fmt: skip
"""What US Core 7 has."""


def of_types(context: str, letters: str, types: tuple[str, ...] = TYPES) -> str:
    return " ".join(f"{context}/{one}.{letters}" for one in types)


STANDALONE: Final = f"launch/patient {IDENTITY} {of_types('patient', 'rs')}"
EHR: Final = f"launch {IDENTITY} {of_types('user', 'rs')}"
VISIT: Final = {"patient": "p001", "encounter": "p001-enc-1"}

SEARCHES: Final[dict[str, dict[str, str]]] = {
    "AllergyIntolerance": {},
    "CarePlan": {"category": "assess-plan"},
    "CareTeam": {"status": "active"},
    "Condition": {},
    "Coverage": {},
    "Device": {},
    "DiagnosticReport": {"category": "LAB"},
    "DocumentReference": {},
    "Encounter": {},
    "Goal": {},
    "Immunization": {},
    "MedicationDispense": {},
    "MedicationRequest": {"intent": "order"},
    "Observation": {"code": "59408-5"},
    "Procedure": {},
    "ServiceRequest": {},
}
"""The first search of each type that US Core 7 lists, beside `patient`."""


@pytest.fixture(scope="module")
def discovered(demo: Demo) -> Discovered:
    return Discovered.of(demo.base)


def search(session: Session, resource_type: str) -> httpx.Response:
    """The search that tells whether an app may see a type."""
    if resource_type == "Patient":
        return session.read(f"Patient?_id={session.tokens['patient']}")
    params = {"patient": session.tokens["patient"], **SEARCHES[resource_type]}
    return session.read(f"{resource_type}?{httpx.QueryParams(params)}")


# --- capabilities -----------------------------------------------------------------------------------------------------


@follows("g10_smart_standalone_patient_app-g10_smart_well_known_capabilities")
@follows("g10_smart_ehr_practitioner_app-g10_smart_well_known_capabilities")
def test_capabilities_of_the_scenarios_are_declared(discovered: Discovered) -> None:
    assert {
        "launch-standalone", "launch-ehr", "client-public", "client-confidential-symmetric",
        "client-confidential-asymmetric", "sso-openid-connect", "context-standalone-patient", "context-ehr-patient",
        "context-ehr-encounter", "context-banner", "context-style", "permission-offline", "permission-patient",
        "permission-user", "permission-v1", "permission-v2", "authorize-post",
    } <= set(discovered.configuration["capabilities"])  # fmt: skip


# --- full access ------------------------------------------------------------------------------------------------------

APPS: Final = {
    "standalone": AuthInfo("demo-symmetric", "symmetric", "patient-chen", STANDALONE),
    "standalone-v1": AuthInfo("demo-symmetric", "symmetric", "patient-chen", STANDALONE.replace(".rs", ".read")),
    "standalone-public": AuthInfo("demo-public", "public", "patient-xu", STANDALONE),
    "standalone-asymmetric": AuthInfo("demo-asymmetric", "asymmetric", "patient-xu", STANDALONE),
    "ehr": AuthInfo("demo-symmetric", "symmetric", "doctor-he", EHR, "POST", VISIT),
    "ehr-v1": AuthInfo("demo-symmetric", "symmetric", "doctor-he", EHR.replace(".rs", ".read"), "POST", VISIT),
    "ehr-patient": AuthInfo(
        "demo-symmetric", "symmetric", "doctor-he", f"launch {IDENTITY} patient/Patient.rs", launch={"patient": "p001"}
    ),
}


@pytest.fixture(scope="module", params=list(APPS))
def app(request: pytest.FixtureRequest, demo: Demo, discovered: Discovered) -> Session:
    """An app that was allowed everything."""
    return authorized(discovered, demo, APPS[request.param])


@follows(
    "g10_smart_standalone_patient_app-g10_smart_scopes",
    "g10_smart_ehr_practitioner_app-g10_smart_scopes",
    "g10_smart_v1_scopes_stu2_2-g10_smart_scopes",
    "g10_ehr_patient_launch_stu2_2-g10_patient_scope",
    "g10_smart_standalone_patient_app-g10_unrestricted_resource_type_access",
)
def test_all_scopes_are_granted(app: Session) -> None:
    assert set(app.tokens["scope"].split()) == set(app.info.requested_scopes.split())


@follows(
    "g10_smart_standalone_patient_app-g10_unauthorized_access",
    "g10_smart_ehr_practitioner_app-g10_unauthorized_access",
)
def test_without_a_token_nothing_is_read(app: Session) -> None:
    answer = httpx.get(f"{app.url}/Patient/{app.tokens['patient']}", timeout=60)
    assert answer.status_code == 401


@follows(
    "g10_smart_standalone_patient_app-g10_patient_context",
    "g10_smart_ehr_practitioner_app-g10_patient_context",
    "g10_ehr_patient_launch_stu2_2-g10_patient_context",
    "g10_asymmetric_launch_stu2_2-g10_patient_context",
    "g10_public_standalone_launch_stu2_2-g10_patient_context",
    "g10_smart_ehr_practitioner_app-g10_encounter_context",
)
def test_context_can_be_read(app: Session) -> None:
    read_context(app, app.tokens)


def read_context(app: Session, tokens: JSON) -> None:
    """Reads the patient, and the visit of a launch that has one."""
    contexts = [("Patient", tokens["patient"])]
    if (app.info.launch or {}).get("encounter"):
        contexts.append(("Encounter", tokens["encounter"]))
    for resource_type, resource_id in contexts:
        answer = get(f"{app.url}/{resource_type}/{resource_id}", tokens["access_token"])
        assert answer.status_code == 200, answer.text
        assert answer.json()["resourceType"] == resource_type


@follows(
    "g10_smart_ehr_practitioner_app-g10_smart_style_url",
    "g10_smart_ehr_practitioner_app-g10_smart_need_patient_banner",
)
def test_app_is_told_of_style_and_banner(app: Session) -> None:
    assert isinstance(app.tokens["need_patient_banner"], bool)
    style = httpx.get(app.tokens["smart_style_url"], timeout=60)
    assert style.status_code == 200
    assert isinstance(style.json(), dict)


@follows(
    "g10_smart_standalone_token_refresh-g10_token_refresh_without_scopes",
    "g10_smart_standalone_token_refresh-g10_token_refresh_body_without_scopes",
    "g10_smart_standalone_token_refresh-g10_token_refresh_with_scopes",
    "g10_smart_standalone_token_refresh-g10_token_refresh_body_with_scopes",
    "g10_smart_standalone_token_refresh-g10_patient_context",
    "g10_smart_standalone_token_refresh-g10_invalid_token_refresh",
    "g10_smart_ehr_token_refresh-g10_patient_context",
    "g10_smart_ehr_token_refresh-g10_encounter_context",
    "g10_smart_ehr_token_refresh-g10_invalid_token_refresh",
)
def test_context_can_be_read_after_a_refresh(app: Session) -> None:
    """With a refresh token that is none, the request fails, and does not harm the one that is."""
    refused = app.post(grant_type="refresh_token", refresh_token=str(uuid.uuid4()))
    assert refused.status_code in (400, 401)
    scope = app.tokens["scope"]
    first = app.post(grant_type="refresh_token", refresh_token=app.tokens["refresh_token"])
    assert first.status_code == 200, first.text
    second = app.post(grant_type="refresh_token", refresh_token=first.json()["refresh_token"], scope=scope)
    assert second.status_code == 200, second.text
    for answer in (first, second):
        assert set(answer.json()["scope"].split()) == set(scope.split())
        read_context(app, answer.json())


@follows("g10_smart_standalone_patient_app-g10_unrestricted_resource_type_access")
def test_every_type_can_be_searched(app: Session) -> None:
    """But for the launch that asks for the patient alone."""
    all_types = not app.info.requested_scopes.endswith("patient/Patient.rs")
    found = {one: search(app, one).status_code for one in ("Patient", *SEARCHES)}
    assert found == {one: 200 if all_types or one == "Patient" else 403 for one in found}


# --- what the person leaves out ---------------------------------------------------------------------------------------

ALLOWED: Final = ("Patient", "Condition", "Observation")


def limiting(browser: Browser, account: JSON, *, to: set[str]) -> str:
    """Logs in and ticks no more than this."""
    browser.log_in(account["username"], account["password"])
    form = browser.form_with("decision")
    assert to <= set(form.choices["scope"])
    browser.submit(form, decision="allow", scope=sorted(to))
    assert browser.left
    return browser.url


@pytest.fixture(scope="module")
def limited(demo: Demo, discovered: Discovered) -> Session:
    """An app that asks for everything, and is allowed three types."""
    kept = {*IDENTITY.split(), *of_types("patient", "rs", ALLOWED).split()}
    info = AuthInfo("demo-symmetric", "symmetric", "patient-chen", STANDALONE)
    return authorized(discovered, demo, info, lambda browser, account: limiting(browser, account, to=kept))


@follows(
    "g10_smart_limited_app-g10_limited_scope_grant",
    "g10_smart_limited_app-g10_patient_context",
)
def test_person_allows_some_types_only(limited: Session) -> None:
    granted = {one for one in limited.tokens["scope"].split() if "/" in one and one != "launch/patient"}
    assert granted == set(of_types("patient", "rs", ALLOWED).split())
    read_context(limited, limited.tokens)


@pytest.mark.parametrize("resource_type", ["Patient", *SEARCHES])
@follows("g10_smart_limited_app-g10_restricted_resource_type_access")
def test_what_was_left_out_is_refused(limited: Session, resource_type: str) -> None:
    assert search(limited, resource_type).status_code == (200 if resource_type in ALLOWED else 403)


PARTS: Final = (
    f"patient/Condition.rs?category={HL7}/condition-category|encounter-diagnosis",
    f"patient/Condition.rs?category={HL7}/condition-category|problem-list-item",
    f"patient/Condition.rs?category={US_CORE}/condition-category|health-concern",
    f"patient/Observation.rs?category={US_CORE}/us-core-observation-category|clinical-test",
    f"patient/Observation.rs?category={HL7}/observation-category|laboratory",
    f"patient/Observation.rs?category={HL7}/observation-category|social-history",
    f"patient/Observation.rs?category={US_CORE}/us-core-category|sdoh",
    f"patient/Observation.rs?category={HL7}/observation-category|survey",
    f"patient/Observation.rs?category={HL7}/observation-category|vital-signs",
)
"""What has to be offered in place of all conditions and all observations."""


@pytest.mark.parametrize("kept", [PARTS, (PARTS[0], PARTS[6])], ids=["all-parts", "one-of-each"])
@follows("g10_us_core_7_smart_granular_scope_selection_stu2_2-g10_smart_granular_scope_selection")
@follows("g10_us_core_7_smart_granular_scope_selection_stu2_2-g10_smart_scopes")
def test_person_may_allow_parts_of_conditions_and_observations(
    demo: Demo, discovered: Discovered, kept: tuple[str, ...]
) -> None:
    scope = f"launch/patient {IDENTITY} {of_types('patient', 'rs', ALLOWED)}"
    info = AuthInfo("demo-asymmetric", "asymmetric", "patient-chen", scope)
    ticked = {*IDENTITY.split(), "patient/Patient.rs", *kept}
    session = authorized(discovered, demo, info, lambda browser, account: limiting(browser, account, to=ticked))
    assert set(session.tokens["scope"].split()) == {"launch/patient", *ticked}


# --- granular scopes --------------------------------------------------------------------------------------------------

GROUPS: Final = {
    "1": (
        f"patient/Condition.rs?category={HL7}/condition-category|encounter-diagnosis",
        f"patient/Condition.rs?category={US_CORE}/condition-category|health-concern",
        f"patient/Observation.rs?category={HL7}/observation-category|laboratory",
        f"patient/Observation.rs?category={HL7}/observation-category|social-history",
    ),
    "2": (
        f"patient/Condition.rs?category={HL7}/condition-category|problem-list-item",
        f"patient/Observation.rs?category={HL7}/observation-category|vital-signs",
        f"patient/Observation.rs?category={HL7}/observation-category|survey",
        f"patient/Observation.rs?category={US_CORE}/us-core-category|sdoh",
    ),
}
"""Two launches, that together have all categories of US Core 7 but clinical tests."""

PERSON: Final = "patient-xu"


def category(scope: str) -> tuple[str, str, str]:
    """Type, system and code of a granular scope."""
    system, code = scope.partition("?category=")[2].split("|")
    return scope.partition("/")[2].partition(".")[0], system, code


def example(scope: str, patient: str) -> JSON:
    """A resource that a granular scope is about."""
    resource_type, system, code = category(scope)
    made: JSON = {
        "resourceType": resource_type,
        "subject": {"reference": f"Patient/{patient}"},
        "category": [{"coding": [{"system": system, "code": code}]}],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "160903007"}], "text": "Made for a test"},
    }
    if resource_type == "Condition":
        active = {"coding": [{"system": f"{HL7}/condition-clinical", "code": "active"}]}
        sure = {"coding": [{"system": f"{HL7}/condition-ver-status", "code": "confirmed"}]}
        return {**made, "clinicalStatus": active, "verificationStatus": sure, "onsetDateTime": "2024-02-03"}
    return {**made, "status": "final", "effectiveDateTime": "2024-02-03", "valueString": "Full-time"}


@pytest.fixture(scope="module")
def examples(demo: Demo) -> Iterator[list[JSON]]:
    """For each granular scope a resource of the person, so that nothing is proved with an empty answer."""
    patient = named(demo, PERSON)["patient"]
    headers = {"Authorization": f"Bearer {demo.token('demo-backend-write')}", "Content-Type": "application/fhir+json"}
    with httpx.Client(headers=headers, timeout=60) as http:
        made = []
        for scope in (one for group in GROUPS.values() for one in group):
            answer = http.post(f"{demo.base}/{category(scope)[0]}", json=example(scope, patient))
            assert answer.status_code == 201, answer.text
            made.append(answer.json())
        yield made
        for one in made:
            http.delete(f"{demo.base}/{one['resourceType']}/{one['id']}")


@dataclass
class Granular:
    """A launch with all of the record, and one with a group of granular scopes, by the same person."""

    whole: Session
    part: Session
    group: str
    found: dict[str, list[JSON]]
    """What searches with all of the record found, for both groups."""

    def before(self, resource_type: str, params: dict[str, str]) -> list[JSON]:
        """What a search finds with all of the record."""
        asked = f"{resource_type}?{params}"
        if asked not in self.found:
            self.found[asked] = self.whole.search(resource_type, params)
        return self.found[asked]

    def everything(self, resource_type: str) -> list[JSON]:
        """All of the person's resources of a type."""
        return self.before(resource_type, {"patient": self.whole.tokens["patient"]})

    def scopes(self, resource_type: str) -> list[str]:
        return [one for one in GROUPS[self.group] if category(one)[0] == resource_type]

    def in_scope(self, resource: JSON) -> bool:
        """Whether a granular scope is about a resource."""
        codings = {(code["system"], code["code"]) for one in resource["category"] for code in one["coding"]}
        return any(category(scope)[1:] in codings for scope in self.scopes(resource["resourceType"]))


@pytest.fixture(scope="module")
def whole(demo: Demo, discovered: Discovered, examples: list[JSON]) -> Session:
    """A launch with resource-level scopes."""
    return authorized(discovered, demo, AuthInfo("demo-public", "public", PERSON))


@pytest.fixture(scope="module")
def found(whole: Session) -> dict[str, list[JSON]]:
    """Of one store."""
    return {}


@pytest.fixture(scope="module", params=list(GROUPS))
def granular(request: pytest.FixtureRequest, demo: Demo, whole: Session, found: dict[str, list[JSON]]) -> Granular:
    """A launch with each group of granular scopes."""
    scope = " ".join(("launch/patient openid fhirUser offline_access", *GROUPS[request.param]))
    info = AuthInfo("demo-public", "public", PERSON, scope)
    return Granular(whole, authorized(whole.discovered, demo, info), request.param, found)


def token(concept: JSON) -> str:
    return f"{concept['coding'][0].get('system', '')}|{concept['coding'][0]['code']}"


VALUES: Final[dict[str, Callable[[JSON], str | None]]] = {
    "patient": lambda one: one["subject"]["reference"].removeprefix("Patient/"),
    "category": lambda one: token(one["category"][0]),
    "code": lambda one: token(one["code"]),
    "clinical-status": lambda one: token(one["clinicalStatus"]),
    "encounter": lambda one: one.get("encounter", {}).get("reference"),
    "onset-date": lambda one: one.get("onsetDateTime", one.get("onsetPeriod", {}).get("start")),
    "abatement-date": lambda one: one.get("abatementDateTime"),
    "recorded-date": lambda one: one.get("recordedDate"),
    "status": lambda one: one["status"],
    "date": lambda one: one.get("effectiveDateTime", one.get("effectivePeriod", {}).get("start")),
    "_lastUpdated": lambda one: "ge" + one["meta"]["lastUpdated"],
}
"""What is searched for so that a resource is found."""

COMBINATIONS: Final = {
    "Condition": (
        ("patient",),
        ("patient", "category"),
        ("patient", "category", "clinical-status"),
        ("patient", "category", "encounter"),
        ("patient", "clinical-status"),
        ("patient", "code"),
        ("patient", "onset-date"),
        ("patient", "abatement-date"),
        ("patient", "recorded-date"),
        ("patient", "_lastUpdated"),
    ),
    "Observation": (
        ("patient", "category"),
        ("patient", "category", "date"),
        ("patient", "category", "status"),
        ("patient", "category", "_lastUpdated"),
        ("patient", "code"),
        ("patient", "code", "date"),
    ),
}
"""The searches of US Core 7, but for `asserted-date`, which R4 does not have."""

MOST: Final = 3
"""Values that are tried for each search; there is one that is made for this in every category."""


def queries(resources: list[JSON], names: tuple[str, ...]) -> list[dict[str, str]]:
    """The searches by these parameters that find one of the resources, those made for this test first."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for one in sorted(resources, key=lambda one: one["code"].get("text") != "Made for a test"):
        values = [VALUES[name](one) for name in names]
        if None not in values:
            params = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            found.setdefault(tuple(params.values()), params)
    return list(found.values())[:MOST]


@follows(
    "g10_us_core_7_smart_fine_grained_scopes_stu2_2-smart_token_response_body",
    "g10_us_core_7_smart_fine_grained_scopes_stu2_2-smart_token_refresh",
)
def test_granular_scopes_are_granted_as_they_are_asked_for(granular: Granular) -> None:
    assert set(granular.part.info.requested_scopes.split()) == set(granular.part.tokens["scope"].split())
    again = granular.part.post(
        grant_type="refresh_token",
        refresh_token=granular.part.tokens["refresh_token"],
        scope=granular.part.tokens["scope"],
    )
    assert again.status_code == 200, again.text
    assert set(again.json()["scope"].split()) == set(granular.part.tokens["scope"].split())


@pytest.mark.parametrize("resource_type", list(COMBINATIONS))
@follows("g10_us_core_7_smart_fine_grained_scopes_stu2_2-granular_scope_search_test")
def test_granular_scopes_narrow_every_search(granular: Granular, resource_type: str) -> None:
    everything = granular.everything(resource_type)
    searched = 0
    for names in COMBINATIONS[resource_type]:
        for params in queries(everything, names):
            before = granular.before(resource_type, params)
            assert before, params
            expected = {one["id"] for one in before if granular.in_scope(one)}
            assert {one["id"] for one in granular.part.search(resource_type, params)} == expected, params
            searched += bool(expected)
    assert searched >= len(COMBINATIONS[resource_type])


@pytest.mark.parametrize("resource_type", list(COMBINATIONS))
@follows("g10_us_core_7_smart_fine_grained_scopes_stu2_2-granular_scope_read_test")
def test_granular_scopes_narrow_every_read(granular: Granular, resource_type: str) -> None:
    everything = granular.everything(resource_type)
    for scope in granular.scopes(resource_type):
        _, system, code = category(scope)
        one = next(one for one in everything if f"{system}|{code}" == token(one["category"][0]))
        assert granular.part.read(f"{resource_type}/{one['id']}").status_code == 200
    outside = [one for one in everything if not granular.in_scope(one)]
    assert outside
    for one in outside[:MOST]:
        answer = granular.part.read(f"{resource_type}/{one['id']}")
        assert answer.status_code == 404
        assert answer.json()["resourceType"] == "OperationOutcome"


# --- what must not work -----------------------------------------------------------------------------------------------

APP: Final = AuthInfo("demo-symmetric", "symmetric", "patient-chen", STANDALONE)


@pytest.mark.parametrize("method", ["GET", "POST"])
@follows("g10_smart_invalid_aud-Test03")
def test_wrong_aud_brings_no_code(demo: Demo, discovered: Discovered, method: str) -> None:
    session = launched(discovered, demo, AuthInfo("demo-symmetric", "symmetric", "patient-chen", STANDALONE, method))
    session.ask(None, aud="https://inferno.healthit.gov/invalid_aud")
    assert "code" not in session.redirect
    assert session.redirect["error"] == "invalid_request"
    assert session.redirect["state"] == session.state


@follows("g10_smart_invalid_launch_param-Test04")
def test_wrong_launch_brings_no_code(demo: Demo, discovered: Discovered) -> None:
    session = launched(discovered, demo, APPS["ehr"])
    session.ask(None, launch="INVALID_LAUNCH_PARAM")
    assert "code" not in session.redirect
    assert session.redirect["error"] == "invalid_request"


VERIFIERS: Final[dict[str, Any]] = {
    "none": lambda session: None,
    "blank": lambda session: "",
    "another": lambda session: f"{uuid.uuid4()}-{uuid.uuid4()}",
    "the-challenge": lambda session: session.challenge,
}


@pytest.mark.parametrize("which", list(VERIFIERS))
@follows(
    "g10_smart_invalid_pkce_code_verifier_group_stu2_2-smart_no_verifier_token_request",
    "g10_smart_invalid_pkce_code_verifier_group_stu2_2-smart_blank_verifier_token_request",
    "g10_smart_invalid_pkce_code_verifier_group_stu2_2-smart_bad_code_verifier_token_request",
    "g10_smart_invalid_pkce_code_verifier_group_stu2_2-smart_plain_code_verifier_token_request",
)
def test_wrong_verifier_brings_no_token(demo: Demo, discovered: Discovered, which: str) -> None:
    session = launched(discovered, demo, APP)
    session.ask(lambda browser: go_through(browser, named(demo, APP.who)))
    answer = session.exchange(code_verifier=VERIFIERS[which](session))
    assert answer.status_code in (400, 401)
    assert "access_token" not in answer.json()


@follows(
    "g10_smart_invalid_token_request_stu2_2-Test03",
    "g10_smart_invalid_token_request_stu2_2-Test04",
)
def test_wrong_code_or_client_brings_no_token(demo: Demo, discovered: Discovered) -> None:
    session = launched(discovered, demo, APP)
    session.ask(lambda browser: go_through(browser, named(demo, APP.who)))
    assert session.exchange(code="BAD_CODE").status_code == 400
    client = session.client
    session.client = Client({**demo.client("demo-symmetric"), "client_id": "BAD_CLIENT_ID"}, "symmetric")
    assert session.exchange().status_code in (400, 401)
    session.client = client
    assert session.exchange().status_code == 200


# --- revocation -------------------------------------------------------------------------------------------------------


@follows("g10_token_revocation-Test01", "g10_token_revocation-Test02", "g10_token_revocation-Test03")
def test_person_ends_what_an_app_may_do(demo: Demo, discovered: Discovered) -> None:
    """On the page that the configuration names `management_endpoint`. None of the app's tokens works any more."""
    session = authorized(discovered, demo, AuthInfo("demo-symmetric", "symmetric", "patient-xu", STANDALONE))
    assert session.read(f"Patient/{session.tokens['patient']}").status_code == 200
    account = named(demo, "patient-xu")
    with Browser("http://app.invalid/") as browser:
        browser.open(discovered.configuration["management_endpoint"])
        browser.log_in(account["username"], account["password"])
        form = next(one for one in browser.forms() if one.values.get("client") == session.client.id)
        browser.submit(form)
        assert all(one.values.get("client") != session.client.id for one in browser.forms())
    assert session.read(f"Patient/{session.tokens['patient']}").status_code == 401
    answer = session.post(grant_type="refresh_token", refresh_token=session.tokens["refresh_token"])
    assert answer.status_code in (400, 401)


# --- the document -----------------------------------------------------------------------------------------------------


def test_document_lists_what_is_followed() -> None:
    follows_document("followed: (g)(10)", follows)
