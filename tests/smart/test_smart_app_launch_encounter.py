"""SMART App Launch 2.2, scopes-and-launch-context.html: `launch/encounter`, asked for by an app that opens on its own.

"Need encounter context at launch time": a visit of the patient is chosen, and told in the token response.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from smart_auth.context import Auth
from smart_auth.launches import Launches
from smart_auth.oauth.visits import MOST, SHOWN
from smart_auth.problems import UnusableValue
from smart_auth.records import Account, Grant
from tests.support.directory import MemoryDirectory
from tests.support.smart_apps import Browser, Hospital, answered, basic, form_of

SCOPE = "launch/patient launch/encounter offline_access patient/*.rs"
NONE = "but there is none that you may see"


@pytest.fixture
def hospital(auth: Auth) -> Hospital:
    """Anna has one visit."""
    return Hospital(auth)


@pytest.fixture
def visits(hospital: Hospital, directory: MemoryDirectory) -> MemoryDirectory:
    """Anna has several more, one of which goes on; Bo has one."""
    directory.add_encounter("stay", "anna", "in-progress", code="IMP")
    directory.add_encounter("call", "anna", code="VR")
    directory.add_encounter("off", "anna", "cancelled")
    directory.add_encounter("wrong", "anna", "entered-in-error")
    directory.add_encounter("secret", "anna")
    directory.hidden.add("secret")
    directory.add_encounter("of-bo", "bo")
    return directory


def browser_of(hospital: Hospital, account: str) -> Browser:
    """A browser that speaks English."""
    browser = hospital.browser(account)
    browser.http.set_cookie("hestia-language", "en")
    return browser


def exchanged(browser: Browser, response: TestResponse) -> dict[str, Any]:
    """The token response at the end of an authorization."""
    found: dict[str, Any] = browser.exchange(answered(response)["code"]).get_json()
    return found


def text(page: TestResponse) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.get_data(as_text=True)).split())


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_capability_is_claimed(hospital: Hospital) -> None:
    """conformance.html: "context-standalone-encounter"."""
    found = hospital.app.test_client().get("/fhir/.well-known/smart-configuration").get_json()
    assert "context-standalone-encounter" in found["capabilities"]


def test_only_visit_is_shown_and_told(hospital: Hospital) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    assert "Which visit Outpatient visit · 2026-01-01 09:30" in text(page)
    assert form_of(page).encounters == []
    tokens = exchanged(anna, anna.allow(page))
    assert (tokens["patient"], tokens["encounter"], tokens["scope"]) == ("anna", "visit", SCOPE)


@pytest.mark.both_stores
@pytest.mark.parametrize("wanted", ["stay", "call", "visit"])
def test_one_of_several_visits_is_chosen_and_kept(hospital: Hospital, visits: MemoryDirectory, wanted: str) -> None:
    """The token response, those of a refresh, and introspection tell it."""
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    assert form_of(page).encounters == ["stay", "call", "visit"]  # what goes on, then the newest
    assert "Hospital stay · 2026-01-02 09:30 now" in text(page)
    page = anna.answer(page, decision="choose", encounter=wanted)
    tokens = exchanged(anna, anna.allow(page))
    assert (tokens["patient"], tokens["encounter"], tokens["scope"]) == ("anna", wanted, SCOPE)
    renewed = anna.refresh(tokens["refresh_token"]).get_json()
    assert (renewed["patient"], renewed["encounter"]) == ("anna", wanted)
    for token in (renewed["access_token"], renewed["refresh_token"]):
        told = anna.post("/oauth/introspect", {"token": token}, Authorization=basic()).get_json()
        assert (told["active"], told["patient"], told["encounter"]) == (True, "anna", wanted)
    assert hospital.auth.tokens.verify(renewed["access_token"]).grant.encounter == wanted


def test_encounter_implies_a_patient(hospital: Hospital, visits: MemoryDirectory) -> None:
    """Without launch/patient too: first whose, then which."""
    visits.add_encounter("of-child", "child")
    visits.add_encounter("of-child-2", "child")
    bo = browser_of(hospital, "bo")
    page = bo.authorize(scope="launch/encounter openid fhirUser")
    assert form_of(page).patients == ["bo", "child"]
    page = bo.answer(page, decision="choose", patient="child")
    assert form_of(page).encounters == ["of-child-2", "of-child"]
    page = bo.answer(page, decision="choose", encounter="of-child")
    tokens = exchanged(bo, bo.allow(page))
    assert (tokens["patient"], tokens["encounter"]) == ("child", "of-child")
    assert hospital.auth.tokens.verify(tokens["access_token"]).grant.fhir_user == "RelatedPerson/bo-child"


def test_doctor_chooses_a_visit_of_the_patient_that_was_found(hospital: Hospital, visits: MemoryDirectory) -> None:
    wang = browser_of(hospital, "wang")
    page = wang.answer(wang.authorize(scope=SCOPE), decision="choose", patient="anna")
    assert form_of(page).encounters == ["stay", "call", "visit"]
    tokens = exchanged(wang, wang.allow(wang.answer(page, decision="choose", encounter="call")))
    assert (tokens["patient"], tokens["encounter"]) == ("anna", "call")


def test_visit_may_be_chosen_by_whoever_presses_no_button(hospital: Hospital, visits: MemoryDirectory) -> None:
    """A program that fills in forms may send the fields alone."""
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), encounter="call")
    assert exchanged(anna, anna.allow(page))["encounter"] == "call"


@pytest.mark.parametrize(
    "wanted", ["of-bo", "secret", "off", "wrong", "nowhere", "", "../visit", "visit,call", "\u4e2d"]
)
def test_nothing_else_can_be_chosen(hospital: Hospital, visits: MemoryDirectory, wanted: str) -> None:
    """Another patient's, one that the person may not see, one that did not take place: as if there were none."""
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), decision="choose", encounter=wanted)
    assert form_of(page).encounters == ["stay", "call", "visit"]
    # Nor by sending the consent form without having chosen.
    page = anna.answer(page, decision="allow", scope=SCOPE.split(), about="anna/secret")
    assert form_of(page).encounters == ["stay", "call", "visit"]
    assert hospital.auth.store.find(Grant, account="anna") == []


def test_choosing_can_be_cancelled(hospital: Hospital, visits: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    assert answered(anna.answer(anna.authorize(scope=SCOPE), decision="deny"))["error"] == "access_denied"


def test_form_of_another_site_chooses_nothing(hospital: Hospital, visits: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    form = form_of(anna.authorize(scope=SCOPE))
    page = anna.http.post(anna.at, data={"request": form.fields["request"], "encounter": "call"})
    assert form_of(page).encounters == ["stay", "call", "visit"]


def test_choice_of_another_person_does_not_count(hospital: Hospital, visits: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    anna.answer(anna.authorize(scope=SCOPE), decision="choose", encounter="call")
    anna.log_in("wang")
    page = anna.http.get(anna.at)
    assert form_of(page).patients == ["anna"]
    page = anna.answer(page, decision="choose", patient="anna")
    assert form_of(page).encounters == ["stay", "call", "visit"]


# --- none, and doing without ------------------------------------------------------------------------------------------


def test_without_a_visit_the_page_says_so_and_the_scope_is_left_out(
    hospital: Hospital, directory: MemoryDirectory
) -> None:
    """ "scope": what was granted is reported back."""
    directory.hidden.add("visit")
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    assert NONE in text(page)
    tokens = exchanged(anna, anna.allow(page))
    assert tokens["scope"] == "launch/patient offline_access patient/*.rs"
    assert "encounter" not in tokens
    assert tokens["patient"] == "anna"
    assert answered(anna.authorize(scope="launch/encounter"))["error"] == "access_denied"


def test_without_a_patient_there_is_no_visit(hospital: Hospital) -> None:
    hospital.account("nobody", ("patient", "Patient/gone"), person="Person/gone")
    page = browser_of(hospital, "nobody").authorize(scope="launch/encounter openid")
    assert NONE in text(page)


def test_app_that_did_not_ask_is_told_of_no_visit(hospital: Hospital) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.authorize()
    assert "Which visit" not in text(page)
    assert "encounter" not in exchanged(anna, anna.allow(page))


def test_app_that_is_not_registered_for_it_is_told_of_no_visit(hospital: Hospital) -> None:
    hospital.client("small", "public", scope="launch/patient patient/*.rs")
    anna = browser_of(hospital, "anna")
    tokens = anna.exchange(anna.code(client_id="small", scope=SCOPE), client_id="small").get_json()
    assert tokens["scope"] == "launch/patient patient/*.rs"
    assert "encounter" not in tokens


def test_person_may_keep_the_visit_back(hospital: Hospital) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    assert "launch/encounter" in form_of(page).scopes
    tokens = exchanged(anna, anna.allow(page, ["patient/*.rs"]))
    assert tokens["scope"] == "launch/patient patient/*.rs"
    assert tokens["patient"] == "anna"
    assert "encounter" not in tokens
    tokens = exchanged(anna, anna.allow(anna.authorize(scope="launch/encounter user/*.rs"), ["user/*.rs"]))
    assert tokens["scope"] == "user/*.rs"
    assert not {"patient", "encounter"} & set(tokens)  # nothing that was granted is about a patient


# --- what changes meanwhile -------------------------------------------------------------------------------------------


def test_chosen_visit_that_may_not_be_seen_any_more_is_not_granted(hospital: Hospital, visits: MemoryDirectory) -> None:
    """It is looked up again at every step, the last one too."""
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), decision="choose", encounter="call")
    visits.hidden.add("call")
    page = anna.allow(page)
    assert form_of(page).encounters == ["stay", "visit"]
    page = anna.answer(page, decision="choose", encounter="visit")
    assert exchanged(anna, anna.allow(page))["encounter"] == "visit"


def test_what_is_granted_is_what_was_shown(hospital: Hospital, directory: MemoryDirectory) -> None:
    """A visit that took the place of the only one is shown before it is told."""
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    directory.add_encounter("next", "anna")
    directory.hidden.add("visit")
    page = anna.allow(page)
    assert "Outpatient visit · 2026-01-02 09:30" in text(page)
    assert exchanged(anna, anna.allow(page))["encounter"] == "next"


def test_visit_that_begins_meanwhile_is_offered(hospital: Hospital, directory: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    directory.add_encounter("next", "anna", "in-progress")
    assert form_of(anna.allow(page)).encounters == ["next", "visit"]


def test_person_or_visit_can_be_chosen_anew(hospital: Hospital, visits: MemoryDirectory) -> None:
    visits.add_encounter("of-bo-2", "bo")
    bo = browser_of(hospital, "bo")
    page = bo.answer(bo.authorize(scope=SCOPE), decision="choose", patient="bo")
    page = bo.answer(page, decision="choose", encounter="of-bo")
    page = bo.answer(page, again="visit")
    assert form_of(page).encounters == ["of-bo-2", "of-bo"]
    page = bo.answer(page, decision="choose", encounter="of-bo-2")
    page = bo.answer(page, again="patient")
    assert form_of(page).patients == ["bo", "child"]
    page = bo.answer(page, decision="choose", patient="bo")
    assert form_of(page).encounters == ["of-bo-2", "of-bo"]
    page = bo.answer(page, decision="choose", encounter="of-bo-2")
    foreign = bo.follow(bo.http.post(bo.at, data={"again": "visit"}))  # without the token of the page: nothing
    assert "Choose another visit" in text(foreign)
    assert exchanged(bo, bo.allow(page))["encounter"] == "of-bo-2"


def test_what_was_not_chosen_cannot_be_chosen_anew(hospital: Hospital) -> None:
    page = browser_of(hospital, "anna").authorize(scope=SCOPE)
    assert "Choose another" not in text(page)


# --- remembered answers, prompt ---------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_remembered_answer_leaves_the_choice(hospital: Hospital, visits: MemoryDirectory) -> None:
    """Consent is not asked for again; which visit it is about is another question each time."""
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), decision="choose", encounter="call")
    anna.allow(page, remember="y")
    page = anna.authorize(scope=SCOPE)
    assert form_of(page).encounters == ["stay", "call", "visit"]
    assert exchanged(anna, anna.answer(page, decision="choose", encounter="stay"))["encounter"] == "stay"


def test_remembered_answer_and_one_visit_ask_nothing(hospital: Hospital, directory: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    anna.allow(anna.authorize(scope=SCOPE), remember="y")
    assert exchanged(anna, anna.authorize(scope=SCOPE))["encounter"] == "visit"
    directory.hidden.add("visit")
    tokens = exchanged(anna, anna.authorize(scope=SCOPE))  # less than was remembered
    assert tokens["scope"] == "launch/patient offline_access patient/*.rs"
    assert "encounter" not in tokens


def test_answer_given_without_a_visit_does_not_tell_of_one(hospital: Hospital, directory: MemoryDirectory) -> None:
    directory.hidden.add("visit")
    anna = browser_of(hospital, "anna")
    anna.allow(anna.authorize(scope=SCOPE), remember="y")
    directory.hidden.clear()
    assert "Which visit Outpatient visit" in text(anna.authorize(scope=SCOPE))


def test_own_apps_of_the_hospital_ask_for_the_visit_alone(hospital: Hospital, visits: MemoryDirectory) -> None:
    hospital.client("portal", "public", trusted=True)
    anna = browser_of(hospital, "anna")
    response = anna.answer(anna.authorize(client_id="portal", scope=SCOPE), decision="choose", encounter="call")
    assert anna.exchange(answered(response)["code"], client_id="portal").get_json()["encounter"] == "call"


def test_prompt_none_asks_nobody(hospital: Hospital, directory: MemoryDirectory) -> None:
    """OpenID Connect Core 3.1.2.6: interaction_required where there is a choice to make, else as without a visit."""
    anna = browser_of(hospital, "anna")
    assert answered(anna.authorize(scope=SCOPE, prompt="none"))["error"] == "consent_required"
    anna.allow(anna.authorize(scope=SCOPE), remember="y")
    assert exchanged(anna, anna.authorize(scope=SCOPE, prompt="none"))["encounter"] == "visit"
    directory.add_encounter("next", "anna")
    assert answered(anna.authorize(scope=SCOPE, prompt="none"))["error"] == "interaction_required"
    directory.hidden |= {"visit", "next"}
    assert "encounter" not in exchanged(anna, anna.authorize(scope=SCOPE, prompt="none"))


def test_prompt_consent_asks_for_both(hospital: Hospital, visits: MemoryDirectory) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), decision="choose", encounter="call")
    anna.allow(page, remember="y")
    page = anna.answer(anna.authorize(scope=SCOPE, prompt="consent"), decision="choose", encounter="call")
    assert page.status_code == 200
    assert exchanged(anna, anna.allow(page))["encounter"] == "call"


# --- many of them -----------------------------------------------------------------------------------------------------


@pytest.fixture
def many(hospital: Hospital, directory: MemoryDirectory) -> list[str]:
    """A hundred visits of Anna, the last on 2026-04-16; ids, the newest first."""
    directory.encounters.clear()
    for number in range(100):
        day = f"2026-{number // 28 + 1:02}-{number % 28 + 1:02} 09:30"
        directory.add_encounter(f"v{number}", "anna", start=day, end=day)
    return [f"v{number}" for number in reversed(range(100))]


def test_older_visits_are_shown_on_demand_and_never_too_many(hospital: Hospital, many: list[str]) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.authorize(scope=SCOPE)
    assert form_of(page).encounters == many[:SHOWN]
    for shown in (30, 50, 70, MOST):
        page = anna.answer(page, more=re.findall(r'name="more" value="(\d+)"', page.get_data(as_text=True))[0])
        assert form_of(page).encounters == many[:shown]
    assert 'name="more"' not in page.get_data(as_text=True)
    assert "There are older visits. Enter a day above" in text(page)
    # One may be chosen that is not on the page; it is looked up.
    assert exchanged(anna, anna.allow(anna.answer(page, decision="choose", encounter="v0")))["encounter"] == "v0"


@pytest.mark.parametrize("more", ["9", "0", "-1", "91", "100", "9999", "x", "\u0663\u0660", ""])
def test_number_of_visits_is_bounded(hospital: Hospital, many: list[str], more: str) -> None:
    anna = browser_of(hospital, "anna")
    assert SHOWN <= len(form_of(anna.answer(anna.authorize(scope=SCOPE), more=more)).encounters) <= MOST


def test_visits_are_found_by_their_day(hospital: Hospital, many: list[str]) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), find="1", until="2026-01-12")
    assert form_of(page).encounters == [f"v{number}" for number in reversed(range(2, 12))]
    page = anna.answer(page, more="30", until="2026-01-12")
    assert form_of(page).encounters == [f"v{number}" for number in reversed(range(12))]
    page = anna.answer(page, decision="choose", until="2026-01-12", encounter="v3")
    assert exchanged(anna, anna.allow(page))["encounter"] == "v3"
    page = anna.answer(anna.authorize(scope=SCOPE), find="1", until="2025-12-31")
    assert (form_of(page).encounters, "There is no visit up to that day." in text(page)) == ([], True)


@pytest.mark.parametrize("until", ["x", "2026-13-01", "2026-02-30", "10000-01-01", "0000-00-00", "\u4e2d", "2026"])
def test_day_that_is_none_is_said_so(hospital: Hospital, many: list[str], until: str) -> None:
    anna = browser_of(hospital, "anna")
    page = anna.answer(anna.authorize(scope=SCOPE), find="1", until=until)
    assert page.status_code == 200
    assert "This is no day" in text(page)
    assert form_of(page).encounters == many[:SHOWN]


# --- EHR launch -------------------------------------------------------------------------------------------------------


def launch_of(hospital: Hospital, **about: Any) -> str:
    """A `launch` parameter of Dr Wang's."""
    found = hospital.auth.store.get(Account, "wang")
    assert found is not None
    return Launches(hospital.auth).create(found, "doctor", **about)


def test_ehr_launch_brings_its_visit_and_asks_for_none(hospital: Hospital, visits: MemoryDirectory) -> None:
    """One of any status, such as one that was cancelled; the page shows it, and it goes with the launch."""
    for encounter in ("call", "off"):
        wang = browser_of(hospital, "wang")
        page = wang.authorize(
            scope="launch launch/encounter patient/*.rs",
            launch=launch_of(hospital, patient="anna", encounter=encounter),
        )
        assert form_of(page).encounters == []
        assert "Which visit" in text(page)
        assert "launch/encounter" not in form_of(page).scopes  # it cannot be unticked: `launch` tells it anyway
        tokens = exchanged(wang, wang.allow(page))
        assert (tokens["patient"], tokens["encounter"]) == ("anna", encounter)
        assert tokens["scope"] == "launch launch/encounter patient/*.rs"


def test_ehr_launch_tells_its_visit_without_the_scope(hospital: Hospital) -> None:
    tokens = hospital.browser("wang").tokens(
        scope="launch patient/*.rs", launch=launch_of(hospital, patient="anna", encounter="visit")
    )
    assert (tokens["encounter"], tokens["scope"]) == ("visit", "launch patient/*.rs")


def test_ehr_launch_without_a_visit_grants_none(hospital: Hospital, visits: MemoryDirectory) -> None:
    wang = browser_of(hospital, "wang")
    page = wang.authorize(scope="launch launch/encounter patient/*.rs", launch=launch_of(hospital, patient="anna"))
    assert "Which visit" not in text(page)
    tokens = exchanged(wang, wang.allow(page))
    assert tokens["scope"] == "launch patient/*.rs"
    assert "encounter" not in tokens


@pytest.mark.parametrize("encounter", ["secret", "of-bo", "nowhere"])
def test_visit_that_is_not_seen_cannot_be_launched(hospital: Hospital, visits: MemoryDirectory, encounter: str) -> None:
    with pytest.raises(UnusableValue) as refused:
        launch_of(hospital, patient="anna", encounter=encounter)
    assert refused.value.field == "encounter"


def test_launched_visit_that_is_not_seen_any_more_is_left_out(hospital: Hospital, directory: MemoryDirectory) -> None:
    launch = launch_of(hospital, patient="anna", encounter="visit")
    directory.hidden.add("visit")
    tokens = hospital.browser("wang").tokens(scope="launch launch/encounter patient/*.rs", launch=launch)
    assert tokens["scope"] == "launch patient/*.rs"
    assert "encounter" not in tokens
