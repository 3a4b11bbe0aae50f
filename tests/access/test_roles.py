"""The shipped roles: what each sees and may write of one hospital, as tables. Traps T5, T12, T15, T24."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.grant import Grant
from tests.access import people
from tests.access.conftest import Hospital, granted, patient_grant, staff_grant
from tests.access.people import coded, labelled, ref

pytestmark = pytest.mark.both_stores

JSON = dict[str, Any]

PATIENT = patient_grant("pat", fhir_user="Patient/p")
DOCTOR = staff_grant("doctor", "doc", person="Person/doc")
PHARMACIST = staff_grant("pharmacist", "pha")
NURSE = staff_grant("nurse", "nur")
LABORATORY = staff_grant("laboratory", "lab")
ADMINISTRATOR = staff_grant("administrator", "adm")
SYSTEM = granted("system")

ROLES = {
    "patient": PATIENT,
    "doctor": DOCTOR,
    "pharmacist": PHARMACIST,
    "nurse": NURSE,
    "laboratory": LABORATORY,
    "administrator": ADMINISTRATOR,
    "system": SYSTEM,
}


def task(id: str, code: str, patient_id: str | None = None, **more: Any) -> JSON:
    about = {"for": ref(f"Patient/{patient_id}")} if patient_id else {}
    return {
        "resourceType": "Task",
        "id": id,
        "status": "requested",
        "intent": "order",
        "code": coded(code),
        **about,
        **more,
    }


def document(id: str, patient_id: str | None = None, **more: Any) -> JSON:
    about = {"subject": ref(f"Patient/{patient_id}")} if patient_id else {}
    content = [{"attachment": {"title": "A document"}}]
    return {"resourceType": "DocumentReference", "id": id, "status": "current", **about, "content": content, **more}


def report(id: str, patient_id: str, status: str) -> JSON:
    resource = {"resourceType": "DiagnosticReport", "id": id, "status": status, "code": {"text": "A report"}}
    return {**resource, "subject": ref(f"Patient/{patient_id}")}


def audit(id: str, patient_id: str) -> JSON:
    return {
        "resourceType": "AuditEvent",
        "id": id,
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2026-01-01T10:00:00Z",
        "agent": [{"requestor": True, "who": ref("Practitioner/doc")}],
        "source": {"observer": {"display": "Hestia"}},
        "entity": [{"what": ref(f"Patient/{patient_id}")}],
    }


def service_request(id: str, patient_id: str, category: str, **more: Any) -> JSON:
    resource = {"resourceType": "ServiceRequest", "id": id, "status": "active", "intent": "order"}
    return {**resource, "category": [coded(category)], "subject": ref(f"Patient/{patient_id}"), **more}


EVERYTHING: tuple[JSON, ...] = (
    # public
    {"resourceType": "Organization", "id": "dept", "name": "内科"},
    {"resourceType": "Slot", "id": "slot", "schedule": ref("Schedule/s"), "status": "free"}
    | {"start": "2026-01-05T09:00:00+08:00", "end": "2026-01-05T10:00:00+08:00"},
    {"resourceType": "Medication", "id": "drug", "code": {"text": "A drug"}},
    *(people.practitioner(one) for one in ("doc", "pha", "nur", "lab", "adm")),
    document("article"),
    document("draft-article", status="superseded"),
    {"resourceType": "Basic", "id": "home", "code": coded("home-content")},
    {"resourceType": "Basic", "id": "setting", "code": coded("system-setting")},
    # p is treated by doc, q by nobody
    people.patient("p"),
    people.patient("q"),
    people.person("pat", "Patient/p"),
    people.person("doc", "Practitioner/doc"),
    people.person("p", "Patient/q"),  # somebody else whose id happens to be that of Patient/p
    people.encounter("e-p", "p", "Practitioner/doc"),
    people.encounter("e-q", "q", "Practitioner/nobody"),
    people.appointment("a-p", "p", "Practitioner/doc"),
    people.observation("lab-p", "p"),
    people.observation("lab-preliminary", "p", status="preliminary"),
    people.observation("lab-q", "q"),
    people.observation("vital-q", "q", "vital-signs"),
    people.observation("restricted-p", "p", **labelled("R")),
    people.observation("secret-p", "p", **labelled("V")),
    people.observation("restricted-q", "q", **labelled("R")),
    # The patient's parent measured for a child; q's message was sent by p: neither is p's record.
    people.observation("performed-by-p", "q", performer=[ref("Patient/p")]),
    people.message("to-p", "p", "Practitioner/doc", "Patient/p"),
    people.message("among-staff", "p", "Practitioner/lab", "Practitioner/doc"),
    people.message("p-about-q", "q", "Patient/p", "Practitioner/nobody"),
    people.condition("c-p", "p"),
    people.condition("c-q", "q", category=[coded("encounter-diagnosis")]),
    people.allergy("all-q", "q"),
    people.prescription("rx-p", "p"),
    people.prescription("rx-draft", "p", "draft"),
    people.prescription("rx-q", "q", "draft"),
    report("r-final", "p", "final"),
    report("r-preliminary", "p", "preliminary"),
    service_request("order-p", "p", "laboratory"),
    service_request("order-q", "q", "imaging"),
    service_request("consult-q", "q", "remote-consultation", performer=[ref("Practitioner/doc")]),
    task("review", "prescription-review", "p"),
    task("identity", "identity-review", "q"),
    {**task("task-draft", "other", "p"), "status": "draft"},
    {**task("task-mistaken", "other", "p"), "status": "entered-in-error"},
    document("card", "q", type=coded("id-card-front"), **labelled("V")),
    audit("audit-p", "p"),
    audit("audit-q", "q"),
    people.consent("consent-q", "q"),
)

TYPES = tuple(dict.fromkeys(one["resourceType"] for one in EVERYTHING))

PUBLIC = {"Organization/dept", "Slot/slot", "Medication/drug", "DocumentReference/article", "Basic/home"} | {
    f"Practitioner/{one}" for one in ("doc", "pha", "nur", "lab", "adm")
}

SEEN: dict[str, set[str]] = {
    "patient": {
        *("Patient/p", "Person/pat", "Encounter/e-p", "Appointment/a-p", "Observation/lab-p"),
        *("Observation/restricted-p", "Communication/to-p", "Condition/c-p", "MedicationRequest/rx-p"),
        *("DiagnosticReport/r-final", "ServiceRequest/order-p", "Task/review", "AuditEvent/audit-p"),
    },
    "doctor": {
        *("Patient/p", "Person/doc", "Encounter/e-p", "Appointment/a-p", "Observation/lab-p"),
        *("Observation/lab-preliminary", "Observation/restricted-p", "Communication/to-p", "Communication/among-staff"),
        *("Condition/c-p", "MedicationRequest/rx-p", "MedicationRequest/rx-draft", "DiagnosticReport/r-final"),
        *("DiagnosticReport/r-preliminary", "ServiceRequest/order-p", "ServiceRequest/consult-q", "Task/review"),
        *("Task/task-draft", "Task/task-mistaken"),
    },
    "pharmacist": {
        *("Patient/p", "Patient/q", "MedicationRequest/rx-p", "MedicationRequest/rx-draft", "MedicationRequest/rx-q"),
        *("AllergyIntolerance/all-q", "Condition/c-q", "Task/review"),
    },
    "nurse": {
        *("Patient/p", "Patient/q", "Encounter/e-p", "Encounter/e-q", "Appointment/a-p", "Observation/vital-q"),
        *("AllergyIntolerance/all-q", "MedicationRequest/rx-p", "ServiceRequest/order-p", "ServiceRequest/order-q"),
        *("ServiceRequest/consult-q", "Consent/consent-q"),
    },
    "laboratory": {
        *("Patient/p", "Patient/q", "Encounter/e-p", "Encounter/e-q", "Observation/lab-p", "Observation/lab-q"),
        *("Observation/lab-preliminary", "Observation/performed-by-p", "DiagnosticReport/r-final"),
        *("DiagnosticReport/r-preliminary", "ServiceRequest/order-p", "ServiceRequest/order-q"),
        "Communication/among-staff",
    },
    "administrator": {
        *(
            "Patient/p",
            "Patient/q",
            "Person/pat",
            "Person/doc",
            "Person/p",
            "Encounter/e-p",
            "Encounter/e-q",
            "Appointment/a-p",
        ),
        *("Task/identity", "DocumentReference/draft-article", "DocumentReference/card", "AuditEvent/audit-p"),
        *("AuditEvent/audit-q", "Consent/consent-q", "Basic/setting"),
    },
    "system": {f"{one['resourceType']}/{one['id']}" for one in EVERYTHING},
}


@pytest.fixture
def full(hospital: Hospital) -> Hospital:
    hospital.put(*EVERYTHING)
    return hospital


def test_what_each_role_sees(full: Hospital) -> None:
    for role, grant in ROLES.items():
        seen = full.sees(grant, *TYPES)
        expected = SEEN[role] | PUBLIC
        assert seen == expected, (role, seen - expected, expected - seen)
        readable = {f"{one['resourceType']}/{one['id']}" for one in EVERYTHING}
        readable = {address for address in readable if full.reads(grant, address)}
        assert readable == expected, (role, readable ^ expected)


PERSON = people.person("pat", "Patient/p", "Patient/q")

WRITES: tuple[tuple[str, str, JSON, bool], ...] = (
    # patient: things of one's own, never links, never anything clinical
    ("patient", "c", people.observation("n", "p", "vital-signs", performer=[ref("Patient/p")]), True),
    ("patient", "u", people.observation("n", "p", "vital-signs", performer=[ref("Patient/p")]), True),
    ("patient", "c", people.observation("n", "p", "laboratory", performer=[ref("Patient/p")]), False),
    ("patient", "c", people.observation("n", "p", "vital-signs", performer=[ref("Practitioner/doc")]), False),
    ("patient", "c", people.observation("n", "q", "vital-signs", performer=[ref("Patient/p")]), False),
    ("patient", "c", people.message("n", "p", "Patient/p", "Practitioner/doc"), True),
    ("patient", "c", people.message("n", "p", "Practitioner/doc", "Patient/p"), False),
    ("patient", "c", people.message("n", "q", "Patient/p", "Practitioner/doc"), False),
    ("patient", "u", people.message("n", "p", "Patient/p", "Practitioner/doc"), False),
    ("patient", "c", people.appointment("n", "p", "Practitioner/doc", "proposed"), True),
    ("patient", "u", people.appointment("n", "p", "Practitioner/doc", "cancelled"), True),
    ("patient", "u", people.appointment("n", "p", "Practitioner/doc", "booked"), False),
    ("patient", "c", people.consent("n", "p", people.provision("permit", "Practitioner/doc")), True),
    ("patient", "c", people.consent("n", "q", people.provision("permit", "Patient/p")), False),
    ("patient", "c", document("n", "p", author=[ref("Patient/p")]), True),
    ("patient", "c", document("n", "p"), False),
    ("patient", "c", document("n", author=[ref("Patient/p")]), False),
    ("patient", "u", PERSON, False),
    ("patient", "c", people.related("n", "q"), False),
    ("patient", "u", people.patient("p"), False),
    ("patient", "c", people.condition("n", "p"), False),
    ("patient", "c", people.prescription("n", "p"), False),
    ("patient", "d", people.observation("n", "p", "vital-signs", performer=[ref("Patient/p")]), False),
    ("patient", "d", people.condition("n", "p"), False),
    # doctor: patients in treatment, nothing deleted, nobody given a right
    ("doctor", "c", people.condition("n", "p"), True),
    ("doctor", "u", people.condition("n", "p"), True),
    ("doctor", "d", people.condition("n", "p"), False),
    ("doctor", "c", people.condition("n", "q"), False),
    ("doctor", "c", people.prescription("n", "p", "draft"), True),
    ("doctor", "c", people.encounter("n", "q", "Practitioner/doc"), False),
    ("doctor", "c", people.appointment("n", "q", "Practitioner/doc"), False),
    ("doctor", "u", people.patient("q", generalPractitioner=[ref("Practitioner/doc")]), False),
    ("doctor", "c", people.consent("n", "p", people.provision("permit", "Practitioner/doc")), False),
    ("doctor", "c", people.related("n", "p"), False),
    ("doctor", "u", people.person("doc", "Practitioner/doc", "Patient/q"), False),
    ("doctor", "u", people.practitioner("doc"), True),
    ("doctor", "u", people.practitioner("pha"), False),
    ("doctor", "c", people.post("n", "doc"), False),
    ("doctor", "c", {"resourceType": "Organization", "name": "Mine"}, False),
    ("doctor", "c", people.condition("n", "p", **labelled("V")), False),
    # pharmacist
    ("pharmacist", "u", people.prescription("rx-q", "q"), True),
    ("pharmacist", "c", people.prescription("n", "q"), False),
    ("pharmacist", "c", task("n", "prescription-review", "q"), True),
    ("pharmacist", "c", task("n", "identity-review", "q"), False),
    ("pharmacist", "c", people.condition("n", "q"), False),
    # nurse or desk: who registers encounters sees no chart by it
    ("nurse", "c", people.patient("n"), True),
    ("nurse", "c", people.encounter("n", "q", "Practitioner/nur"), True),
    ("nurse", "c", people.observation("n", "q", "vital-signs"), True),
    ("nurse", "c", people.observation("n", "q", "laboratory"), False),
    ("nurse", "c", people.prescription("n", "q"), False),
    ("nurse", "u", PERSON, False),
    # laboratory
    ("laboratory", "c", people.observation("n", "q", "laboratory"), True),
    ("laboratory", "c", people.observation("n", "q", "vital-signs"), False),
    ("laboratory", "c", report("n", "q", "final"), True),
    ("laboratory", "u", service_request("order-q", "q", "imaging"), True),
    ("laboratory", "c", service_request("n", "q", "laboratory"), False),
    # administrator: the hospital, nothing clinical
    ("administrator", "c", {"resourceType": "Organization", "name": "New"}, True),
    ("administrator", "d", {"resourceType": "Organization", "id": "dept", "name": "内科"}, True),
    ("administrator", "u", PERSON, True),
    ("administrator", "c", people.post("n", "doc"), True),
    ("administrator", "c", people.condition("n", "q"), False),
    ("administrator", "c", people.appointment("n", "q", "Practitioner/doc"), False),
    ("administrator", "c", document("n"), True),
    ("administrator", "c", document("n", "q"), False),
    # system
    ("system", "c", people.condition("n", "q", **labelled("V")), True),
    ("system", "d", people.condition("n", "q"), True),
)  # fmt: skip


def test_what_each_role_may_write(full: Hospital) -> None:
    for role, action, resource, expected in WRITES:
        found = full.may(ROLES[role], action, resource)  # type: ignore[arg-type]
        assert found is expected, (role, action, resource)


@pytest.mark.parametrize("action", ["c", "u", "d"])
def test_nobody_rewrites_the_audit(full: Hospital, action: str) -> None:
    allowed = [role for role, grant in ROLES.items() if full.may(grant, action, audit("n", "p"))]  # type: ignore[arg-type]
    assert allowed == (["system"] if action == "c" else [])


def test_a_nurse_gets_no_chart_by_an_encounter_of_her_own(full: Hospital) -> None:
    full.put(people.encounter("own", "q", "Practitioner/nur"))
    assert not full.reads(NURSE, "Condition/c-q")
    assert not full.reads(NURSE, "Observation/lab-q")


def test_a_system_that_may_do_everything_is_not_narrowed(full: Hospital) -> None:
    policy = full.policy(SYSTEM)
    for name in full.server.registry.types:
        assert all(policy.unrestricted(name, action) for action in "crs"), name  # type: ignore[arg-type]
    assert not policy.grants("AuditEvent", "d")


def test_an_administrator_may_put_new_catalogue_entries(full: Hospital) -> None:
    """Update-as-create needs an unrestricted grant on the type."""
    policy = full.policy(ADMINISTRATOR)
    for name in ("Organization", "PractitionerRole", "Medication", "ValueSet", "Person"):
        assert policy.unrestricted(name, "u"), name
    assert not policy.unrestricted("Binary", "r")


def test_consent_withholds_from_the_whole_hospital_but_not_from_the_desk(full: Hospital) -> None:
    assert full.reads(PHARMACIST, "MedicationRequest/rx-q")
    full.put(people.consent("no", "q", people.provision("deny")))
    assert not full.reads(PHARMACIST, "MedicationRequest/rx-q")
    assert not full.reads(PHARMACIST, "Patient/q")
    assert not full.reads(LABORATORY, "Observation/lab-q")
    assert full.reads(PHARMACIST, "MedicationRequest/rx-p")
    assert full.reads(NURSE, "Patient/q")
    assert full.reads(ADMINISTRATOR, "Patient/q")
    assert full.reads(SYSTEM, "MedicationRequest/rx-q")
    full.put(people.consent("no", "q", people.provision("deny", **{"class": [{"code": "MedicationRequest"}]})))
    assert full.reads(PHARMACIST, "Patient/q")
    assert not full.reads(PHARMACIST, "MedicationRequest/rx-q")


@pytest.mark.parametrize("role", ["", "king", "Doctor"])
def test_an_unknown_role_has_nothing(full: Hospital, role: str) -> None:
    policy = full.policy(Grant("g", "app", "App", role, ("user/*.cruds", "system/*.cruds", "patient/*.cruds")))
    assert not policy.everything
    assert [action for action in "cruds" if policy.granted(None, action)] == []  # type: ignore[arg-type]
