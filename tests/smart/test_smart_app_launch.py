"""SMART App Launch 2.2: app-launch.html and scopes-and-launch-context.html."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from smart_auth.context import Auth
from smart_auth.launches import Launches
from smart_auth.problems import UnusableValue
from smart_auth.records import Account, Approval, Grant
from tests.support.accounts import AuthClock, RecordingAudit
from tests.support.directory import MemoryDirectory
from tests.support.smart_apps import EVERYTHING, Hospital, answered, form_of, request_of


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    return Hospital(auth)


def launch_of(hospital: Hospital, account: str = "wang", role: str = "doctor", **about: Any) -> str:
    """A `launch` parameter."""
    found = hospital.auth.store.get(Account, account)
    assert found is not None
    return Launches(hospital.auth).create(found, role, **about)


# --- the request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"aud": None},
        {"aud": "https://other.example/fhir"},
        {"aud": "https://example.org"},
        {"aud": "https://example.org/fhir/Patient"},
        {"state": None},
        {"state": "\u4e2d"},
        {"state": "x" * 5000},
        {"launch": "x", "scope": "patient/*.rs"},
    ],
)
def test_parameters_that_smart_requires(hospital: Hospital, params: dict[str, Any]) -> None:
    """app-launch.html, "Obtain authorization code": aud and state are required; launch goes with its scope."""
    got = answered(hospital.browser("anna").authorize(**params))
    assert got["error"] == "invalid_request"
    assert got.get("state") == (None if "state" in params else "some-state")


@pytest.mark.parametrize("aud", ["https://example.org/fhir", "https://example.org/fhir/"])
def test_audience_is_the_fhir_base(hospital: Hospital, aud: str) -> None:
    assert hospital.browser("anna").authorize(aud=aud).status_code == 200


def test_request_may_come_by_post(hospital: Hospital) -> None:
    """ "authorize-post": servers SHALL support POST; a browser brings no cookie across sites, but does afterwards."""
    anna = hospital.browser("anna")
    response = anna.http.post("/oauth/authorize", data=request_of())
    assert response.status_code == 303  # RFC 9700 section 4.12
    page = anna.follow(response)
    assert page.status_code == 200
    assert "code" in answered(anna.allow(page))
    assert answered(anna.http.post("/oauth/authorize", data=request_of(aud=None)))["error"] == "invalid_request"


# --- standalone launch ------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_standalone_launch_of_a_patient(hospital: Hospital) -> None:
    """launch/patient: the patient is in the token response. One who acts for nobody else is not asked."""
    tokens = hospital.browser("anna").tokens()
    assert tokens["patient"] == "anna"
    assert tokens["need_patient_banner"] is True
    assert tokens["smart_style_url"] == "https://example.org/oauth/style.json"
    assert "encounter" not in tokens


@pytest.mark.both_stores
@pytest.mark.parametrize("patient", ["bo", "child"])
def test_guardian_chooses_whose_record(hospital: Hospital, patient: str) -> None:
    """K2: the own record, or a dependent's; the token is of that one only."""
    bo = hospital.browser("bo")
    page = bo.authorize()
    assert form_of(page).patients == ["bo", "child"]
    page = bo.answer(page, decision="choose", patient=patient)
    tokens = bo.exchange(answered(bo.allow(page))["code"]).get_json()
    assert tokens["patient"] == patient
    assert hospital.auth.tokens.verify(tokens["access_token"]).grant.patient == patient


def test_patient_may_be_chosen_by_whoever_presses_no_button(hospital: Hospital) -> None:
    """A program that fills in forms may send the fields alone."""
    bo = hospital.browser("bo")
    page = bo.answer(bo.authorize(), patient="child")
    assert bo.exchange(answered(bo.allow(page))["code"]).get_json()["patient"] == "child"


@pytest.mark.parametrize("patient", ["anna", "", "nobody"])
def test_nobody_else_can_be_chosen(hospital: Hospital, patient: str) -> None:
    bo = hospital.browser("bo")
    page = bo.answer(bo.authorize(), decision="choose", patient=patient)
    assert form_of(page).patients == ["bo", "child"]


def test_choice_of_another_person_does_not_count(hospital: Hospital) -> None:
    """A request that waits is of whoever answers it."""
    bo = hospital.browser("bo")
    bo.answer(bo.authorize(), decision="choose", patient="child")
    at = bo.at
    bo.log_in("anna")
    tokens = bo.exchange(answered(bo.allow(bo.http.get(at)))["code"]).get_json()
    assert tokens["patient"] == "anna"


def test_choosing_can_be_cancelled(hospital: Hospital) -> None:
    bo = hospital.browser("bo")
    assert answered(bo.answer(bo.authorize(), decision="deny"))["error"] == "access_denied"


def test_doctor_searches_for_a_patient(hospital: Hospital) -> None:
    """Patients whom the doctor treats, and nobody else."""
    wang = hospital.browser("wang")
    page = wang.authorize(scope="launch/patient patient/*.rs user/*.rs")
    assert form_of(page).patients == ["anna"]
    page = wang.answer(page, search="1", text="Nobody")
    assert form_of(page).patients == []
    page = wang.answer(page, search="1", text="Ann")
    assert form_of(page).patients == ["anna"]
    tokens = wang.exchange(
        answered(wang.allow(wang.answer(page, decision="choose", patient="anna")))["code"]
    ).get_json()
    assert (tokens["patient"], tokens["scope"]) == ("anna", "launch/patient patient/*.rs user/*.rs")


def test_doctor_cannot_choose_who_was_not_offered(hospital: Hospital) -> None:
    wang = hospital.browser("wang")
    page = wang.answer(wang.authorize(), decision="choose", patient="bo")
    assert form_of(page).patients == ["anna"]


def test_user_scopes_need_no_patient(hospital: Hospital) -> None:
    tokens = hospital.browser("wang").tokens(scope="openid fhirUser user/*.rs")
    assert "patient" not in tokens
    assert "need_patient_banner" not in tokens


def test_without_a_patient_scopes_of_a_patient_are_left_out(hospital: Hospital) -> None:
    """ "patient/" means the patient in context; without one there is nothing to grant."""
    hospital.account("nobody", ("patient", "Patient/gone"), person="Person/gone")
    browser = hospital.browser("nobody")
    assert browser.tokens(scope="launch/patient openid patient/*.rs")["scope"] == "openid"
    assert answered(browser.authorize(scope="patient/*.rs"))["error"] == "access_denied"


# --- EHR launch -------------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_ehr_launch_brings_its_context(hospital: Hospital) -> None:
    """ "Launch context arrives with your access_token"."""
    context = {
        "need_patient_banner": False,
        "intent": "reconcile-medications",
        "tenant": "ward-3",
        "smart_style_url": "https://example.org/night.json",
        "fhirContext": [{"reference": "ImagingStudy/7"}, {"canonical": "http://x.example/Q|1", "role": "https://x/r"}],
    }
    launch = launch_of(hospital, patient="anna", encounter="visit", context=context)
    tokens = hospital.browser("wang").tokens(scope="launch patient/*.rs user/*.rs openid fhirUser", launch=launch)
    assert (tokens["patient"], tokens["encounter"]) == ("anna", "visit")
    assert {name: tokens[name] for name in context} == context
    assert tokens["scope"] == "launch patient/*.rs user/*.rs openid fhirUser"
    grant = hospital.auth.tokens.verify(tokens["access_token"]).grant
    assert (grant.patient, grant.encounter, grant.role) == ("anna", "visit", "doctor")


def test_launch_works_once(hospital: Hospital) -> None:
    launch = launch_of(hospital, patient="anna")
    wang = hospital.browser("wang")
    wang.tokens(scope="launch patient/*.rs", launch=launch)
    assert answered(wang.authorize(scope="launch patient/*.rs", launch=launch))["error"] == "invalid_request"


@pytest.mark.parametrize("launch", ["nonsense", "x" * 5000])
def test_launch_that_nobody_made_is_refused(hospital: Hospital, launch: str) -> None:
    assert (
        answered(hospital.browser("wang").authorize(scope="launch patient/*.rs", launch=launch))["error"]
        == "invalid_request"
    )


def test_launch_lives_five_minutes(hospital: Hospital, clock: AuthClock) -> None:
    launch = launch_of(hospital, patient="anna")
    clock.advance(300)
    got = answered(hospital.browser("wang").authorize(scope="launch patient/*.rs", launch=launch))
    assert got["error"] == "invalid_request"


def test_launch_is_of_one_person_and_role(hospital: Hospital) -> None:
    hospital.account("other", ("doctor", "Practitioner/wang"))
    hospital.account("wang", ("doctor", "Practitioner/wang"), ("nurse", "Practitioner/wang"))
    for account, role in (("other", "doctor"), ("wang", "nurse")):
        launch = launch_of(hospital, patient="anna")
        got = answered(hospital.browser(account, role).authorize(scope="launch patient/*.rs", launch=launch))
        assert got["error"] == "invalid_request"


def test_launch_for_another_app_is_refused(hospital: Hospital) -> None:
    launch = launch_of(hospital, patient="anna", client="symmetric")
    got = answered(hospital.browser("wang").authorize(scope="launch patient/*.rs", launch=launch))
    assert got["error"] == "invalid_request"


def test_launch_without_a_patient_is_of_the_user(hospital: Hospital) -> None:
    launch = launch_of(hospital)
    tokens = hospital.browser("wang").tokens(scope="launch user/*.rs patient/*.rs", launch=launch)
    assert tokens["scope"] == "launch user/*.rs"
    assert "patient" not in tokens


def test_launch_scope_without_a_launch_is_left_out(hospital: Hospital) -> None:
    tokens = hospital.browser("anna").tokens(scope="launch launch/patient patient/*.rs")
    assert tokens["scope"] == "launch/patient patient/*.rs"


@pytest.mark.parametrize(
    "about",
    [
        {"patient": "nobody"},
        {"patient": "../x"},
        {"patient": "bo"},  # whom Dr Wang does not treat: as if there were no such patient
        {"patient": "anna", "encounter": "other-visit"},
        {"patient": "anna", "encounter": "nowhere"},
        {"encounter": "visit"},
        {"client": "nobody"},
        {"context": {"intent": 7}},
        {"context": {"intent": "x" * 501}},
        {"context": {"smart_style_url": "javascript:alert(1)"}},
        {"context": {"smart_style_url": "/style.json"}},
        {"context": {"need_patient_banner": "yes"}},
        {"context": {"fhirContext": {}}},
        {"context": {"fhirContext": [{}]}},
        {"context": {"fhirContext": [{"reference": "https://x.example/Patient/1"}]}},
        {"context": {"fhirContext": [{"reference": "Patient/bo"}]}},  # "SHALL NOT" without another role
        {"context": {"fhirContext": [{"reference": "Encounter/1", "role": "launch"}]}},
        {"context": {"fhirContext": [{"reference": "ImagingStudy/1", "role": ""}]}},
        {"context": {"fhirContext": [{"reference": "ImagingStudy/1", "x": 1}]}},
        {"context": {"fhirContext": [{"reference": "ImagingStudy/1"}] * 21}},
    ],
)
def test_launches_that_cannot_be_made(hospital: Hospital, about: dict[str, Any]) -> None:
    """scopes-and-launch-context.html, "fhirContext"."""
    directory = hospital.auth.directory
    assert isinstance(directory, MemoryDirectory)
    directory.add_encounter("other-visit", "bo")
    with pytest.raises(UnusableValue):
        launch_of(hospital, **about)


def test_patient_launches_for_those_he_or_she_acts_for(hospital: Hospital) -> None:
    launch_of(hospital, "bo", "patient", patient="child")
    with pytest.raises(UnusableValue):
        launch_of(hospital, "bo", "patient", patient="anna")


def test_fhir_context_may_name_a_patient_in_another_role(hospital: Hospital) -> None:
    context = {"fhirContext": [{"reference": "Patient/bo", "role": "http://x.example/mother"}]}
    assert launch_of(hospital, patient="anna", context=context)


def test_launch_may_bring_a_style_of_its_own(hospital: Hospital) -> None:
    context = {"smart_style_url": "https://portal.example/style.json"}
    tokens = hospital.browser("wang").tokens(
        scope="launch patient/*.rs", launch=launch_of(hospital, patient="anna", context=context)
    )
    assert tokens["smart_style_url"] == "https://portal.example/style.json"


# --- the API of launches ----------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_staff_launch_with_a_token(hospital: Hospital, audit: RecordingAudit) -> None:
    """The portal, or an API: POST /oauth/launch."""
    hospital.client("public", "public", launch_uri="https://app.example/launch?a=b")
    wang = hospital.browser("wang")
    token = wang.tokens(scope="user/*.rs")["access_token"]
    body = {"patient": "anna", "encounter": "visit", "client_id": "public", "intent": "order", "other": 1}
    response = hospital.app.test_client().post("/oauth/launch", json=body, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 201
    made = response.get_json()
    assert made["expires_in"] == 300
    assert made["launch_url"].startswith("https://app.example/launch?a=b&iss=https%3A%2F%2Fexample.org%2Ffhir&launch=")
    tokens = wang.tokens(scope="launch patient/*.rs", launch=made["launch"])
    assert (tokens["patient"], tokens["encounter"], tokens["intent"]) == ("anna", "visit", "order")
    assert audit.last("launch").patient == "anna"


def test_person_launches_with_a_session(hospital: Hospital) -> None:
    bo = hospital.browser("bo")
    assert bo.http.post("/oauth/launch", json={"patient": "child"}).status_code == 201
    assert bo.http.post("/oauth/launch", json={"patient": "anna"}).get_json()["error"] == "invalid_request"
    # A page of another origin, and a form, which a browser would send across sites.
    foreign = {"Origin": "https://evil.example"}
    assert bo.http.post("/oauth/launch", json={"patient": "bo"}, headers=foreign).status_code == 401
    assert bo.http.post("/oauth/launch", data={"patient": "bo"}).status_code == 400


def test_strangers_and_apps_of_patients_cannot_launch(hospital: Hospital) -> None:
    http = hospital.app.test_client()
    assert http.post("/oauth/launch", json={}).status_code == 401
    assert http.post("/oauth/launch", json={}, headers={"Authorization": "Bearer x"}).status_code == 401
    token = hospital.browser("anna").tokens()["access_token"]
    response = http.post("/oauth/launch", json={"patient": "anna"}, headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.get_json()["error"]) == (403, "access_denied")


@pytest.mark.parametrize(
    "body", [{"patient": 7}, {"patient": ["anna"]}, {"patient": "anna", "fhirContext": "x"}, {"client_id": {}}]
)
def test_launch_request_that_is_wrong(hospital: Hospital, body: dict[str, Any]) -> None:
    response = hospital.browser("wang").http.post("/oauth/launch", json=body)
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b'{"client_id": "\\ud800"}',
        b'{"patient": "anna", "intent": "\\udfff"}',
        b'{"patient": "anna", "fhirContext": [{"identifier": {"value": 1e999}}]}',
    ],
)
def test_launch_request_that_cannot_be_written_down(hospital: Hospital, body: bytes) -> None:
    """Half of a surrogate pair is no text (RFC 8259 section 8.2), infinity no number."""
    response = hospital.browser("wang").http.post("/oauth/launch", data=body, content_type="application/json")
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


# --- consent ----------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_what_is_granted(hospital: Hospital) -> None:
    asked = "launch/patient openid fhirUser patient/Observation.rs patient/Condition.cruds nonsense system/*.rs"
    anna = hospital.browser("anna")
    page = anna.authorize(scope=asked)
    shown = " ".join(form_of(page).scopes)
    assert "nonsense" not in page.get_data(as_text=True)
    tokens = anna.exchange(answered(anna.allow(page))["code"]).get_json()
    assert tokens["scope"] == "launch/patient openid fhirUser patient/Observation.rs patient/Condition.cruds"
    assert {"patient/Observation.rs", "patient/Condition.cruds"} <= set(shown.split())


def test_person_may_leave_things_out(hospital: Hospital) -> None:
    """ "scope": what was granted is reported back, also when it is less than was asked."""
    anna = hospital.browser("anna")
    page = anna.authorize(scope="launch/patient offline_access patient/Observation.rs patient/Condition.rs")
    tokens = anna.exchange(answered(anna.allow(page, ["patient/Condition.rs"]))["code"]).get_json()
    assert "patient/Condition.rs" in tokens["scope"].split()
    assert "patient/Observation.rs" not in tokens["scope"].split()
    assert "refresh_token" not in tokens
    grant = hospital.auth.tokens.verify(tokens["access_token"]).grant
    assert grant.scope == tokens["scope"]


def test_part_of_a_right_may_be_allowed(hospital: Hospital) -> None:
    """Granular scopes: scopes-and-launch-context.html, "Finer-grained resource constraints"."""
    anna = hospital.browser("anna")
    page = anna.authorize(scope="patient/Observation.rs")
    part = next(one for one in form_of(page).scopes if "laboratory" in one)
    tokens = anna.exchange(answered(anna.allow(page, [part]))["code"]).get_json()
    assert part in tokens["scope"].split()


def test_nothing_else_can_be_ticked(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    page = anna.authorize(scope="patient/Observation.rs")
    got = answered(anna.allow(page, ["patient/*.cruds", "user/*.cruds", "system/*.cruds"]))
    assert got["error"] == "access_denied"


def test_scopes_are_no_more_than_the_app_registered(hospital: Hospital) -> None:
    hospital.client("small", "public", scope="patient/Observation.rs openid")
    anna = hospital.browser("anna")
    tokens = anna.exchange(anna.code(client_id="small", scope="openid patient/*.cruds"), client_id="small").get_json()
    assert tokens["scope"] == "openid patient/Observation.rs"


def test_scopes_of_version_1_stay_as_they_were_written(hospital: Hospital) -> None:
    tokens = hospital.browser("anna").tokens(scope="launch/patient patient/*.read")
    assert tokens["scope"] == "launch/patient patient/*.read"


@pytest.mark.both_stores
def test_remembered_answer_is_not_asked_for_again_unless_more_is_asked(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    anna.allow(anna.authorize(scope="patient/Observation.rs"), remember="y")
    assert "code" in answered(anna.authorize(scope="patient/Observation.rs"))
    assert "code" in answered(anna.authorize(scope="patient/Observation.r"))  # less
    assert anna.authorize(scope="patient/Observation.rs patient/Condition.rs").status_code == 200
    assert anna.authorize(scope="patient/Observation.rs", client_id="symmetric").status_code == 200


def test_answer_is_remembered_only_if_wanted(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    anna.allow(anna.authorize())
    assert anna.authorize().status_code == 200
    assert hospital.auth.store.find(Approval, account="anna") == []


def test_answer_is_of_one_patient_and_role(hospital: Hospital) -> None:
    bo = hospital.browser("bo")
    bo.allow(bo.answer(bo.authorize(), decision="choose", patient="bo"), remember="y")
    assert bo.answer(bo.authorize(), decision="choose", patient="child").status_code == 200
    assert "code" in answered(bo.answer(bo.authorize(), decision="choose", patient="bo"))
    hospital.account("both", ("patient", "Patient/anna"), ("doctor", "Practitioner/wang"), person="Person/anna")
    both = hospital.browser("both", "patient")
    both.allow(both.authorize(scope="user/*.rs"), remember="y")
    assert hospital.browser("both", "doctor").authorize(scope="user/*.rs").status_code == 200


def test_own_apps_of_the_hospital_ask_nobody(hospital: Hospital) -> None:
    hospital.client("portal", "public", trusted=True)
    anna = hospital.browser("anna")
    tokens = anna.exchange(answered(anna.authorize(client_id="portal"))["code"], client_id="portal").get_json()
    assert tokens["scope"].split()[0] == "launch/patient"


def test_form_of_another_site_is_refused(hospital: Hospital) -> None:
    """CSRF: a form without the token of the page grants nothing."""
    anna = hospital.browser("anna")
    page = anna.authorize()
    form = form_of(page)
    response = anna.http.post(
        anna.at, data={"request": form.fields["request"], "decision": "allow", "scope": form.scopes}
    )
    assert response.status_code == 200  # the page again
    assert hospital.auth.store.find(Grant, account="anna") == []


def test_request_is_answered_once(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    page = anna.authorize()
    answered(anna.allow(page))
    again = anna.http.post(anna.at, data={**form_of(page).fields, "decision": "allow", "scope": form_of(page).scopes})
    assert (again.status_code, again.location) == (400, None)


def test_request_waits_half_an_hour(hospital: Hospital, clock: AuthClock) -> None:
    anna = hospital.browser()
    anna.authorize()
    clock.advance(1800)
    anna.log_in("anna")
    assert anna.http.get(anna.at).status_code == 400


def test_client_that_was_disabled_meanwhile_gets_nothing(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    page = anna.authorize()
    hospital.client("public", "public", status="disabled")
    response = anna.answer(page, decision="allow", scope=form_of(page).scopes)
    assert (response.status_code, response.location) == (400, None)


def test_person_without_a_chosen_role_chooses_first(hospital: Hospital) -> None:
    anna = hospital.browser("anna")
    sessions = hospital.auth.accounts.sessions
    (session,) = sessions.list("anna")
    rotated = sessions.rotate(session, role=None)
    assert rotated is not None
    anna.http.set_cookie("__Host-hestia", rotated[0], secure=True)
    assert anna.authorize().location.startswith("/login/role?next=%2Foauth%2Frequest%2F")


def test_everything_that_is_supported_can_be_asked_at_once(hospital: Hospital) -> None:
    tokens = hospital.browser("anna").tokens(scope=EVERYTHING)
    assert set(EVERYTHING.split()) - set(tokens["scope"].split()) <= {
        "launch", "online_access", "patient/*.read", "user/*.read"
    }  # fmt: skip


def test_tenant_of_the_settings_is_told(auth: Auth) -> None:
    auth.settings = dataclasses.replace(auth.settings, tenant="north")
    assert Hospital(auth).browser("anna").tokens()["tenant"] == "north"


def test_outcomes_are_audited(hospital: Hospital, audit: RecordingAudit) -> None:
    anna = hospital.browser("anna")
    tokens = anna.tokens()
    event = audit.last("authorize")
    assert (event.account, event.client, event.patient, event.role) == ("anna", "public", "anna", "patient")
    assert event.fhir_user == "Patient/anna"
    assert audit.last("token").detail["grant_type"] == "authorization_code"
    anna.authorize(client_id="nobody")
    assert audit.last("authorize-refused").outcome == 8
    secret = [tokens["access_token"], tokens["refresh_token"]]
    assert not any(one in repr(audit.events) for one in secret)


def test_page_says_where_the_form_may_lead(hospital: Hospital) -> None:
    """Chromium applies form-action to the redirect that answers a form."""
    policy = hospital.browser("anna").authorize().headers["Content-Security-Policy"]
    assert "form-action 'self' https://app.example" in policy
    assert "frame-ancestors 'none'" in policy  # RFC 9700 section 4.16
