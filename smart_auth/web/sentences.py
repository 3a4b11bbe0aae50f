"""Scopes in words that a patient understands. SMART App Launch 2.2, scopes-and-launch-context.

A sentence says what may be done ("See, add and change") with what ("laboratory results"); the page says whose record it
is. Every right on a kind of data has its own sentence, so that what is shown is what is granted.
"""

from __future__ import annotations

from typing import Final

from flask_babel import gettext as _
from flask_babel import lazy_gettext as N_
from flask_babel.speaklater import LazyString

from smart_auth.context import Visit
from smart_auth.records import Client
from smart_auth.scopes import Group, grouped, is_version_1, make, parse
from smart_auth.web.views import ConsentItem, ConsentView

_TOPICS: Final[dict[str, LazyString]] = {
    "*": N_("the whole health record"),
    "AllergyIntolerance": N_("allergies"),
    "Appointment": N_("appointments"),
    "AuditEvent": N_("the list of who looked at the record"),
    "Binary": N_("files and pictures"),
    "CarePlan": N_("treatment plans"),
    "CareTeam": N_("the people who treat and care"),
    "ChargeItem": N_("charges"),
    "Claim": N_("insurance claims"),
    "Communication": N_("messages"),
    "Composition": N_("visit notes"),
    "Condition": N_("diagnoses and health problems"),
    "Consent": N_("consents"),
    "Coverage": N_("insurance"),
    "Device": N_("medical devices in use"),
    "DiagnosticReport": N_("reports of laboratory and imaging"),
    "DocumentReference": N_("documents"),
    "Encounter": N_("visits and hospital stays"),
    "FamilyMemberHistory": N_("illnesses in the family"),
    "Goal": N_("treatment goals"),
    "ImagingStudy": N_("X-ray and other images"),
    "Immunization": N_("vaccinations"),
    "Invoice": N_("bills"),
    "Location": N_("places in the hospital"),
    "Media": N_("files and pictures"),
    "Medication": N_("descriptions of medicines"),
    "MedicationAdministration": N_("medicines given in the hospital"),
    "MedicationDispense": N_("medicines handed out"),
    "MedicationRequest": N_("prescriptions"),
    "MedicationStatement": N_("medicines taken"),
    "Observation": N_("measurements and laboratory results"),
    "Organization": N_("departments and organizations"),
    "Patient": N_("name, birth date, address and phone"),
    "Person": N_("name, birth date, address and phone"),
    "Practitioner": N_("doctors and staff"),
    "PractitionerRole": N_("doctors and staff"),
    "Procedure": N_("operations and treatments"),
    "Provenance": N_("who recorded what, and when"),
    "QuestionnaireResponse": N_("answers to questionnaires"),
    "RelatedPerson": N_("family members and guardians"),
    "Schedule": N_("clinic hours"),
    "ServiceRequest": N_("orders for examinations and treatments"),
    "Slot": N_("free appointment times"),
    "Specimen": N_("samples"),
    "Task": N_("tasks"),
}
_CATEGORIES: Final[dict[tuple[str, str], LazyString]] = {
    ("Observation", "laboratory"): N_("laboratory results"),
    ("Observation", "vital-signs"): N_("vital signs, such as blood pressure and weight"),
    ("Observation", "social-history"): N_("habits, such as smoking"),
    ("Observation", "sdoh"): N_("living conditions, such as housing, work and education"),
    ("Observation", "survey"): N_("results of questionnaires"),
    ("Observation", "clinical-test"): N_("results of clinical tests, such as an electrocardiogram"),
    ("Observation", "imaging"): N_("findings of imaging"),
    ("Observation", "exam"): N_("findings of physical examination"),
    ("Condition", "problem-list-item"): N_("the list of health problems"),
    ("Condition", "encounter-diagnosis"): N_("diagnoses made at visits"),
    ("Condition", "health-concern"): N_("health concerns"),
}
"""Those that US Core names (scopes.html), which (g)(10) wants to be offered in place of the whole type, and FHIR's."""
_CATEGORY_SYSTEMS: Final = {
    "health-concern": "http://hl7.org/fhir/us/core/CodeSystem/condition-category",
    "sdoh": "http://hl7.org/fhir/us/core/CodeSystem/us-core-category",
    "clinical-test": "http://hl7.org/fhir/us/core/CodeSystem/us-core-observation-category",
    "Observation": "http://terminology.hl7.org/CodeSystem/observation-category",
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-category",
}
_SPECIAL: Final[dict[str, LazyString]] = {
    "openid": N_("Confirm that it is you who logged in"),
    "fhirUser": N_("Know who you are in the hospital (patient or staff)"),
    "profile": N_("Know your name"),
    "launch": N_("Know which patient and visit you have open"),
    "launch/patient": N_("Know whose record you have chosen"),
    "launch/encounter": N_("Know which visit it is about"),
    "offline_access": N_("Keep access when you are away, until you take it back"),
    "online_access": N_("Keep access for as long as you stay logged in"),
}
_VISIT: Final = "launch/encounter"
_REQUIRED: Final = frozenset({"launch", "launch/patient", _VISIT})
"""What the app only learns because somebody chose it a moment ago."""
_ALARMING: Final = frozenset({"offline_access"})


def consent_view(
    client: Client,
    person: str,
    role: str,
    patient: str | None,
    scope: str,
    redirect_uri: str,
    *,
    visit: Visit | None = None,
    chooses_visit: bool = False,
    choices: tuple[str, ...] = (),
) -> ConsentView:
    """The view of a request for a space separated list of scopes, under the page's headings in their order.

    `chooses_visit`: the app asked for a visit, and no launch brought one. It may do without then.
    """
    rights, plain = grouped(parse(scope))
    required = _REQUIRED - {_VISIT} if chooses_visit else _REQUIRED
    items = [_right(group) for group in rights] + [
        ConsentItem(word, sentence(word), word not in required, word in _ALARMING, "account") for word in plain
    ]
    order = ("read", "change", "account")
    return ConsentView(
        client,
        person,
        role,
        patient,
        tuple(sorted(items, key=lambda one: order.index(one.group))),
        redirect_uri,
        visit=visit,
        without_visit=chooses_visit and visit is None,
        choices=choices,
    )


def topic_name(type_: str) -> str:
    """What a resource type holds, for example laboratory results."""
    known = _TOPICS.get(type_)
    return str(known) if known is not None else _("data of the kind %(type)s", type=type_)


def sentences(scope: str) -> list[str]:
    """What a list of scopes lets an app do, in the language of the page; each sentence once."""
    rights, plain = grouped(parse(scope))
    return list(dict.fromkeys([_sentence(group) for group in rights] + [sentence(word) for word in plain]))


def sentence(scope: str) -> str:
    """What one scope lets an app do. What is no scope is shown as it is."""
    if scope in _SPECIAL:
        return str(_SPECIAL[scope])
    rights, _plain = grouped(parse(scope))
    return _sentence(rights[0]) if rights else scope


def _right(group: Group) -> ConsentItem:
    """Reading all conditions or observations may be narrowed to categories of them."""
    narrower: tuple[ConsentItem, ...] = ()
    if not group.writes and not group.query and not any(is_version_1(one) for one in group.scopes):
        parts = [
            make(group.context, type_, group.actions, [("category", f"{_system(type_, code)}|{code}")]).text
            for type_, code in _CATEGORIES
            if type_ == group.type
        ]
        narrower = tuple(ConsentItem(part, sentence(part)) for part in parts)
    scope = " ".join(one.text for one in group.scopes)
    return ConsentItem(scope, _sentence(group), True, group.writes, "change" if group.writes else "read", narrower)


def _sentence(group: Group) -> str:
    text = _act(group, _topic(group))
    if group.context == "user":
        return _("%(what)s (of everyone whose record you may see)", what=text)
    if group.context == "system":
        return _("%(what)s (of all patients)", what=text)
    return text


def _act(group: Group, topic: str) -> str:
    deletes = "d" in group.actions
    if not set(group.actions) & set("cu"):
        if not deletes:
            return _("See %(topic)s", topic=topic)
        if group.reads:
            return _("See and delete %(topic)s", topic=topic)
        return _("Delete %(topic)s", topic=topic)
    if group.reads:
        if deletes:
            return _("See, add, change and delete %(topic)s", topic=topic)
        return _("See, add and change %(topic)s", topic=topic)
    if deletes:
        return _("Add, change and delete %(topic)s", topic=topic)
    return _("Add or change %(topic)s", topic=topic)


def _topic(group: Group) -> str:
    topic = topic_name(group.type)
    if not group.query:
        return topic
    if len(group.query) == 1 and group.query[0][0] == "category":
        named = _CATEGORIES.get((group.type, group.query[0][1].rpartition("|")[2]))
        if named is not None:
            return str(named)
    criteria = ", ".join(f"{name} = {value}" for name, value in group.query)
    return _("%(topic)s, only where %(criteria)s", topic=topic, criteria=criteria)


def _system(type_: str, code: str) -> str:
    return _CATEGORY_SYSTEMS.get(code) or _CATEGORY_SYSTEMS[type_]
