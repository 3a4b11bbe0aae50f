"""Who of the demo hospital can log in."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

import seed
from fhir_server.resources import validate
from seed.logins import Login, logins


def generated(**arguments: Any) -> list[dict[str, Any]]:
    return [entry["resource"] for bundle in seed.bundles(**arguments) for entry in bundle["entry"]]


@pytest.fixture(scope="module")
def hospital() -> list[dict[str, Any]]:
    return generated(today=datetime.date(2026, 11, 23))


def by_name(found: list[Login]) -> dict[str, Login]:
    return {one.username: one for one in found}


def test_there_are_two_patients_two_doctors_and_one_of_every_other_role(hospital: list[dict[str, Any]]) -> None:
    single = [one.roles[0][0] for one in logins(hospital) if len(one.roles) == 1]
    assert single.count("patient") >= 2
    assert single.count("doctor") >= 2
    assert {"pharmacist", "nurse", "laboratory", "administrator"} <= set(single)
    assert any(len(one.roles) > 1 for one in logins(hospital))


def test_every_reference_leads_to_the_generated_hospital(hospital: list[dict[str, Any]]) -> None:
    there = {f"{one['resourceType']}/{one['id']}" for one in hospital}
    for login in logins(hospital):
        assert {user for _, user in login.roles} <= there
        assert {link["target"]["reference"] for link in login.person["link"]} <= there
        assert set(login.dependents) <= there
        assert [issue for issue in validate.check(login.person) if "dom-6" not in issue.diagnostics] == []


def test_a_mother_is_guardian_of_her_children_and_nobody_else_is_anybody_s(hospital: list[dict[str, Any]]) -> None:
    found = by_name(logins(hospital))
    assert found["patient-song"].dependents == ("Patient/p012", "Patient/p013")
    assert found["patient-sun"].dependents == ("Patient/p009",)
    assert found["patient-chen"].dependents == ()
    assert all(not one.dependents for one in found.values() if one.roles[0][0] != "patient")


def test_a_smaller_hospital_has_the_patients_that_it_has() -> None:
    found = by_name(logins(generated(patients=2)))
    assert {name for name in found if name.startswith("patient-")} == {"patient-chen", "patient-xu"}
