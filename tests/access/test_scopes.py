"""Scopes and role policy together: contexts, letters, wildcards, granular scopes. SMART App Launch 2.2 scopes."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.grant import Grant
from fhir_server.access.policies import RolePolicy, default_policy, parse
from fhir_server.authorize import Policy
from tests.access import people
from tests.access.conftest import Hospital, Person, granted, patient_grant, staff_grant

pytestmark = pytest.mark.both_stores

LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
VITAL = "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"

ALL = {
    *("Patient/p", "Patient/q", "Observation/lab-p", "Observation/vital-p", "Observation/lab-q"),
    *("Condition/c-p", "Organization/dept"),
}
TYPES = ("Patient", "Observation", "Condition", "Organization")


@pytest.fixture
def ward(hospital: Hospital) -> Hospital:
    """A doctor who treats p and q; p is a person who can log in."""
    hospital.put(
        people.practitioner("doc"),
        people.patient("p"),
        people.patient("q"),
        people.person("pat", "Patient/p"),
        people.encounter("e-p", "p", "Practitioner/doc"),
        people.encounter("e-q", "q", "Practitioner/doc"),
        people.observation("lab-p", "p"),
        people.observation("vital-p", "p", "vital-signs"),
        people.observation("lab-q", "q"),
        people.condition("c-p", "p"),
        {"resourceType": "Organization", "id": "dept", "name": "内科"},
    )
    return hospital


def letters(policy: Policy, name: str) -> str:
    return "".join(action for action in "cruds" if policy.grants(name, action))  # type: ignore[arg-type]


def doctor(*scopes: str, **more: Any) -> Grant:
    return staff_grant("doctor", "doc", *scopes, **more)


P = {"Patient/p", "Observation/lab-p", "Observation/vital-p", "Condition/c-p"}
"""The record of p."""


@pytest.mark.parametrize(
    "grant, expected",
    [
        # "user/ ... all resources that the current user can access"
        (doctor("user/*.rs"), ALL),
        (doctor("user/*.read"), ALL),
        (doctor("user/Observation.rs"), {"Observation/lab-p", "Observation/vital-p", "Observation/lab-q"}),
        (doctor("user/Observation.s", "user/Patient.s"), ALL - {"Condition/c-p", "Organization/dept"}),
        # "patient/ ... for the current patient"; what is nobody's as the role sees it
        (doctor("patient/*.rs", patient="p"), P | {"Organization/dept"}),
        (doctor("patient/Observation.rs", patient="p"), {"Observation/lab-p", "Observation/vital-p"}),
        (doctor("patient/*.rs"), set()),
        (doctor("patient/*.rs", patient="nobody"), set()),
        # several contexts are a union
        (
            doctor("patient/Condition.rs", "user/Observation.rs", patient="p"),
            {"Condition/c-p", "Observation/lab-p", "Observation/vital-p", "Observation/lab-q"},
        ),
        # system/ is for back-end services
        (doctor("system/*.cruds"), set()),
        (granted("system", "user/*.cruds"), set()),
        (granted("system", "patient/*.cruds", patient="p"), set()),
        (granted("system", "system/Patient.rs"), {"Patient/p", "Patient/q"}),
        (granted("system", "system/*.rs"), ALL),
        (patient_grant("pat", "patient/*.rs", patient="p"), P | {"Organization/dept"}),
        (patient_grant("pat", "patient/*.rs", patient="q"), set()),
        # letters, words that are no scopes, no scopes at all
        (doctor("user/*.cud"), set()),
        (doctor("user/*.r"), set()),
        (doctor("openid", "launch/patient", "nonsense", "user/*.sr"), set()),
        (doctor("openid"), set()),
        # granular: "only resources that the search finds"
        (doctor(f"user/Observation.rs?category={LAB}"), {"Observation/lab-p", "Observation/lab-q"}),
        (doctor(f"patient/Observation.rs?category={LAB}", patient="p"), {"Observation/lab-p"}),
        (doctor(f"user/Observation.rs?category={LAB}&status=amended"), set()),
        (
            doctor(f"patient/Observation.rs?category={LAB}", f"patient/Observation.rs?category={VITAL}", patient="p"),
            {"Observation/lab-p", "Observation/vital-p"},
        ),
        (
            doctor(f"user/Observation.rs?category={VITAL}", f"patient/Observation.rs?category={LAB}", patient="q"),
            {"Observation/vital-p", "Observation/lab-q"},
        ),
        (doctor("user/Observation.rs?patient.name=p"), {"Observation/lab-p", "Observation/vital-p"}),
        # a restriction that means nothing restricts everything
        (doctor("user/Observation.rs?catgory=laboratory"), set()),
        (doctor("user/Observation.rs?category:exact=laboratory"), set()),
        (doctor("user/Observation.rs?date=someday"), set()),
        (doctor("user/*.rs?_id=lab-p"), {"Observation/lab-p"}),
        (granted("system", f"system/Observation.rs?category={LAB}"), {"Observation/lab-p", "Observation/lab-q"}),
    ],
)
def test_scopes_and_role_meet(ward: Hospital, grant: Grant, expected: set[str]) -> None:
    assert ward.sees(grant, *TYPES) == expected


def test_letters_are_granted_one_by_one(ward: Hospital) -> None:
    policy = ward.policy(doctor("user/Observation.r", "user/Condition.cs", "user/Encounter.cruds"))
    assert letters(policy, "Observation") == "r"
    assert letters(policy, "Condition") == "cs"
    assert letters(policy, "Encounter") == "crus"  # the role deletes nothing
    assert letters(policy, "Patient") == ""


def test_a_type_that_the_role_does_not_have_is_not_granted(ward: Hospital) -> None:
    policy = ward.policy(doctor("user/*.cruds"))
    assert letters(policy, "AuditEvent") == ""
    assert letters(policy, "PaymentReconciliation") == ""
    assert "AuditEvent" not in set((policy.actions or {})["s"])


def test_only_what_is_asked_for_is_compiled(ward: Hospital) -> None:
    policy = ward.policy(doctor("user/*.rs"))
    assert policy.grants("Observation", "s")
    granted_types = (policy.actions or {})["s"]
    assert len(granted_types) == len(set(granted_types)) > 80
    assert "Slot" in granted_types
    assert granted_types._nodes == {}  # type: ignore[attr-defined]
    assert policy.predicate(("Observation",), "s") is policy.predicate(("Observation",), "s")
    with pytest.raises(KeyError):
        granted_types["AuditEvent"]


def test_staff_of_the_whole_hospital_may_launch_about_any_patient(ward: Hospital) -> None:
    pharmacist = staff_grant("pharmacist", "pha", "patient/*.rs", patient="p")
    assert ward.sees(pharmacist, "Patient", "Organization") == {"Patient/p", "Organization/dept"}


def test_a_launch_ends_with_the_relation(ward: Hospital) -> None:
    grant = doctor("patient/*.rs", patient="p")
    assert ward.sees(grant, "Condition") == {"Condition/c-p"}
    ward.put(people.encounter("e-p", "p", "Practitioner/doc", "cancelled"))
    assert ward.sees(grant, "Condition") == set()
    assert not ward.policy(grant).grants("Organization", "r")


# --- policies that an administrator wrote -----------------------------------------------------------------------------


def with_rules(hospital: Hospital, *rules: dict[str, Any], version: int = 1) -> None:
    """Puts rules in force for doctors."""

    def policies(role: str) -> RolePolicy:
        return parse(role, version, rules) if role == "doctor" else default_policy(role)

    hospital.policies = policies


def rule(**more: Any) -> dict[str, Any]:
    return {"types": ["Observation"], "interactions": "rs", **more}


@pytest.mark.parametrize(
    "criteria, expected",
    [
        ("status=final", {"lab-p", "vital-p", "lab-q"}),
        ("status=amended", set()),
        ("patient=%treated", {"lab-p", "vital-p", "lab-q"}),
        ("patient=%patient", {"lab-p", "vital-p"}),
        ("patient=%opened", set()),
        ("patient=%patients", set()),
        ("patient._has:Encounter:patient:participant=%practitioner", {"lab-p", "vital-p", "lab-q"}),
        ("patient._has:Encounter:patient:participant=%fhirUser&patient.name=q", {"lab-q"}),
        ("patient._has:Encounter:patient:participant=%roles", set()),
        ("performer=%organizations", set()),
        ("identifier=%client", set()),
        ("_lastUpdated=ge2026-01-01", {"lab-p", "vital-p", "lab-q"}),
    ],
)
def test_criteria_are_searches_with_variables(ward: Hospital, criteria: str, expected: set[str]) -> None:
    with_rules(ward, rule(criteria=criteria))
    grant = doctor("user/*.rs", patient="p")
    assert ward.sees(grant, "Observation") == {f"Observation/{id_}" for id_ in expected}


def test_rules_are_a_union(ward: Hospital) -> None:
    with_rules(ward, rule(criteria="_id=lab-p"), rule(criteria="_id=lab-q"), rule(interactions="c"))
    assert ward.sees(doctor("user/*.cruds"), "Observation") == {"Observation/lab-p", "Observation/lab-q"}


def test_a_new_version_is_in_force_at_once(ward: Hospital) -> None:
    grant = doctor("user/*.rs")
    with_rules(ward, rule(criteria="_id=lab-p"), version=1)
    assert ward.sees(grant, "Observation") == {"Observation/lab-p"}
    with_rules(ward, rule(criteria="_id=lab-q"), version=2)
    assert ward.sees(grant, "Observation") == {"Observation/lab-q"}


def test_now_is_the_moment_of_the_request(ward: Hospital) -> None:
    ward.put(people.observation("timed", "p", effectiveDateTime="2026-01-01T12:00:30Z"))
    with_rules(ward, rule(criteria="date=lt%now"))
    grant = doctor("user/*.rs")
    assert ward.sees(grant, "Observation") == set()
    ward.clock.advance(60)
    assert ward.sees(grant, "Observation") == {"Observation/timed"}


def test_today_turns_over_at_midnight_of_the_hospital(ward: Hospital) -> None:
    ward.put(people.observation("new-day", "p", effectiveDateTime="2026-01-02"))
    with_rules(ward, rule(criteria="date=%today"))
    grant = doctor("user/*.rs")
    assert ward.sees(grant, "Observation") == set()
    ward.clock.advance(4 * 3600)
    assert ward.sees(grant, "Observation") == {"Observation/new-day"}


@pytest.mark.parametrize("reach, expected", [("N", {"n"}), ("R", {"n", "r"}), ("V", {"n", "r", "v"})])
def test_a_rule_reaches_up_to_a_label(ward: Hospital, reach: str, expected: set[str]) -> None:
    labels = {"n": ("N",), "r": ("R",), "v": ("V", "PSY")}
    ward.put(*(people.observation(id_, "p", **people.labelled(*codes)) for id_, codes in labels.items()))
    with_rules(ward, rule(criteria="_id=n,r,v", confidentiality=reach))
    assert ward.sees(doctor("user/*.rs"), "Observation") == {f"Observation/{id_}" for id_ in expected}


@pytest.mark.parametrize(
    "query, shows",
    [
        ("derived-from:Observation.code=seen", True),
        ("derived-from:Observation.code=hidden", False),
        ("derived-from:Observation.code:not=seen", False),
        ("subject:Patient.link:Patient.birthdate=1990-01-02", False),
        ("_has:Observation:derived-from:code=hidden", False),
        ("_has:AuditEvent:entity:action=R", False),
        ("subject:Patient.birthdate=1980-05-06", True),
    ],
)
def test_the_chains_of_a_scope_lead_through_what_the_role_sees(hospital: Hospital, query: str, shows: bool) -> None:
    linked = {"link": [{"other": people.ref("Patient/foreign"), "type": "seealso"}]}
    hospital.put(
        people.practitioner("doc"),
        people.patient("p", **linked),
        people.patient("foreign", "1990-01-02"),
        people.encounter("e", "p", "Practitioner/doc"),
        people.observation("seen", "p", code=people.coded("seen")),
        people.observation("hidden", "foreign", code=people.coded("hidden")),
        people.observation("o", "p", derivedFrom=[people.ref("Observation/seen"), people.ref("Observation/hidden")]),
        people.observation("from-o", "foreign", code=people.coded("hidden"), derivedFrom=[people.ref("Observation/o")]),
    )
    doctor = staff_grant("doctor", "doc", f"user/Observation.rs?{query}")
    assert ("Observation/o" in hospital.sees(doctor, "Observation")) is shows
    if "AuditEvent" not in query:
        assert "Observation/o" in hospital.sees(granted("system", f"system/Observation.rs?{query}"), "Observation")


def test_a_page_token_tells_no_total_to_a_narrower_token_of_the_same_grant(ward: Hospital) -> None:
    wide = Person(ward, doctor())
    first = wide("GET", "/Observation?_count=1&_total=accurate")
    following = first.link("next")
    assert following is not None
    assert wide("GET", following).json["total"] == first.json["total"] == 3
    narrow = staff_grant("doctor", "doc", f"user/Observation.rs?category={VITAL}")
    assert narrow.id == doctor().id
    assert Person(ward, narrow)("GET", following).json["total"] == 1
