"""What is about several patients is written by those who may write about each of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access import people
from tests.access.conftest import Hospital, Person, granted, patient_grant, staff_grant
from tests.access.people import ref

pytestmark = pytest.mark.both_stores

JSON = dict[str, Any]
DOCTOR = staff_grant("doctor", "doc")
NURSE = staff_grant("nurse", "nur")


@pytest.fixture
def ward(hospital: Hospital) -> Hospital:
    """A doctor who treats a and c, not b; a person who is a."""
    hospital.put(
        people.practitioner("doc"),
        people.practitioner("nur"),
        *(people.patient(one) for one in "abc"),
        people.person("ann", "Patient/a"),
        people.encounter("e-a", "a", "Practitioner/doc"),
        people.encounter("e-c", "c", "Practitioner/doc"),
    )
    return hospital


def meeting(id: str, *patients: str, status: str = "booked") -> JSON:
    """An Appointment of some patients with the doctor."""
    made = people.appointment(id, patients[0], "Practitioner/doc", status)
    made["participant"] += [{"actor": ref(f"Patient/{one}"), "status": "accepted"} for one in patients[1:]]
    return made


def test_a_doctor_does_not_come_to_treat_somebody_by_an_appointment_with_two(ward: Hospital) -> None:
    doctor = Person(ward, DOCTOR)
    assert doctor("POST", "/Appointment", meeting("new", "a", "b")).status == 403
    assert doctor("POST", "/Appointment", meeting("new", "a", "c")).status == 201
    ward.put(meeting("old", "a"))
    assert doctor("PUT", "/Appointment/old", meeting("old", "a", "b")).status == 403
    added = {"op": "add", "path": "/participant/-", "value": {"actor": ref("Patient/b"), "status": "accepted"}}
    patched = doctor("PATCH", "/Appointment/old", [added], type="application/json-patch+json")
    assert patched.status == 403
    assert doctor("PUT", "/Appointment/old", meeting("old", "a", "c")).status == 200
    assert ward.sees(DOCTOR, "Patient") == {"Patient/a", "Patient/c"}


def test_a_patient_does_not_book_for_strangers(ward: Hospital) -> None:
    patient = Person(ward, patient_grant("ann"))
    assert patient("POST", "/Appointment", meeting("new", "a", "b", status="proposed")).status == 403
    assert patient("POST", "/Appointment", meeting("new", "a", status="proposed")).status == 201


def test_what_others_made_about_several_may_be_changed(ward: Hospital) -> None:
    ward.put(meeting("group", "a", "b", status="pending"))
    nurse, doctor = Person(ward, NURSE), Person(ward, DOCTOR)
    assert doctor("PUT", "/Appointment/group", meeting("group", "a", "b")).status == 200
    assert doctor("PUT", "/Appointment/group", meeting("group", "a", "b", "c")).status == 200
    assert nurse("POST", "/Appointment", meeting("new", "a", "b")).status == 201
    assert Person(ward, granted("system"))("POST", "/Appointment", meeting("new", "a", "b")).status == 201


def test_other_types_about_several(ward: Hospital) -> None:
    ward.put(people.observation("o", "b"))
    signed = {
        "resourceType": "Provenance",
        "target": [ref("Patient/a"), ref("Patient/b")],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": ref("Practitioner/other")}],
    }
    account = {"resourceType": "Account", "status": "active", "subject": [ref("Patient/a"), ref("Patient/b")]}
    doctor = Person(ward, DOCTOR)
    assert doctor("POST", "/Account", account).status == 403
    assert doctor("POST", "/Provenance", signed).status == 403
