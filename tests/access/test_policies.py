"""Role policies as data: what is read, what is refused and with which words, and that the shipped ones are sound."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access import policies
from fhir_server.access.policies import Rule
from tests.access.conftest import Hospital


@pytest.mark.parametrize("role", policies.ROLES)
def test_the_shipped_policies_are_sound(hospital: Hospital, role: str) -> None:
    rules = policies.default_rules(role)
    assert rules
    assert policies.findings(hospital.server, role, rules) == []
    assert policies.default_policy(role) == policies.parse(role, 0, rules)


def test_an_unknown_role_has_no_rules() -> None:
    assert policies.default_rules("king") == []
    assert policies.default_policy("king").rules == ()


def test_a_rule_is_read() -> None:
    rule = {
        "types": ["Observation"],
        "interactions": "sr",
        "criteria": "status=final,amended&patient=%patients",
        "compartment": "%patients",
        "comment": "words",
    }
    policy = policies.parse("patient", 3, [rule, {"breakGlass": True}])
    assert policy.rules == (
        Rule(
            ("Observation",),
            "rs",
            (("status", "final,amended"), ("patient", "%patients")),
            "%patients",
            "R",
        ),
    )
    assert (policy.role, policy.version, policy.break_glass) == ("patient", 3, True)


GOOD: dict[str, Any] = {"types": ["Observation"], "interactions": "rs"}


@pytest.mark.parametrize(
    "rule, finding",
    [
        ("text", "rules[0]: a rule is an object."),
        ({"interactions": "rs"}, "rules[0].types: a list of names is expected."),
        ({**GOOD, "types": []}, 'rules[0].types: resource types, or only "*".'),
        ({**GOOD, "types": ["*", "Patient"]}, 'rules[0].types: resource types, or only "*".'),
        ({**GOOD, "types": ["Observations"]}, "rules[0].types: Observations is not a resource type."),
        ({**GOOD, "types": ["*"], "except": ["No"]}, "rules[0].except: No is not a resource type."),
        ({**GOOD, "interactions": "rx"}, "rules[0].interactions: letters of cruds are expected."),
        ({**GOOD, "interactions": ""}, "rules[0].interactions: letters of cruds are expected."),
        ({**GOOD, "compartment": "%nobody"}, "rules[0].compartment: one of"),
        ({**GOOD, "confidentiality": "X"}, "rules[0].confidentiality: one of N, R, V."),
        ({**GOOD, "consent": "no"}, "rules[0].consent: true or false."),
        ({**GOOD, "when": "always"}, "rules[0].when: rules have no such member."),
        ({**GOOD, "criteria": 5}, "rules[0].criteria: a search is expected"),
        ({**GOOD, "criteria": "status="}, "rules[0].criteria: status has no value."),
        ({**GOOD, "criteria": "patient=%me"}, "rules[0].criteria: %me is not a variable"),
        ({**GOOD, "criteria": "statsu=final"}, "rules[0].criteria: for Observation: Search parameter `statsu`"),
        ({**GOOD, "criteria": "status:exact=final"}, "rules[0].criteria: for Observation:"),
        ({**GOOD, "criteria": "date=yesterday"}, "rules[0].criteria: for Observation:"),
        ({**GOOD, "criteria": "_count=1"}, "rules[0].criteria: for Observation: a parameter restricts nothing."),
        ({**GOOD, "types": ["Observation", "Slot"], "criteria": "status=final&code=x"}, "rules[0].criteria: for Slot:"),
        ({**GOOD, "criteria": "_id=%patients"}, "rules[0].criteria: for Observation: a variable is never an id"),
        ({**GOOD, "types": ["Slot"], "compartment": "%patients"}, "rules[0].types: Slot cannot be about a patient"),
        ({"breakGlass": "yes"}, "rules[0].breakGlass: true or false"),
        ({"breakGlass": True, "types": ["Patient"]}, "rules[0].breakGlass: true or false"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(hospital: Hospital, rule: Any, finding: str) -> None:
    found = policies.findings(hospital.server, "doctor", [rule])
    assert [one for one in found if one.startswith(finding)], found


def test_rules_that_cannot_be_read_are_refused(hospital: Hospital) -> None:
    assert policies.findings(hospital.server, "king", []) == [
        "role: king is not one of patient, doctor, pharmacist, nurse, laboratory, administrator, system."
    ]
    assert policies.findings(hospital.server, "doctor", {}) == ["rules: a list of rules is expected."]
    assert policies.findings(hospital.server, "doctor", [GOOD] * 201) == ["rules: at most 200 rules are read."]
    with pytest.raises(ValueError):
        policies.parse("doctor", 1, [{**GOOD, "interactions": "x"}])


@pytest.mark.parametrize(
    "rule",
    [
        {**GOOD, "criteria": "patient._has:Encounter:patient:participant=%practitioner"},
        {**GOOD, "criteria": "subject:Patient.general-practitioner=%self"},
        {**GOOD, "criteria": "date=ge%today"},
        {**GOOD, "criteria": "_lastUpdated=lt%now"},
        {"types": ["*"], "interactions": "cruds", "compartment": "%treated", "except": ["AuditEvent"]},
        {"types": ["Patient"], "interactions": "r", "criteria": "_id=%patients"},
    ],
)
def test_rules_may_use_all_of_search(hospital: Hospital, rule: dict[str, Any]) -> None:
    assert policies.findings(hospital.server, "doctor", [rule]) == []


def test_variables_are_put_in_place() -> None:
    values = {"%patients": ("Patient/a", "Patient/b"), "%today": ("2026-01-01",), "%own": (), "%client": ("a,b",)}
    values["%self"] = ("Patient/a", "Person/x")

    def put(name: str, value: str, resource_type: str = "Patient") -> list[tuple[str, str]] | None:
        return policies.expand([(name, value)], values, resource_type)

    assert put("patient", "Patient/x,%patients") == [("patient", "Patient/x,Patient/a,Patient/b")]
    assert put("date", "ge%today") == [("date", "ge2026-01-01")]
    assert put("identifier", "%client") == [("identifier", "a\\,b")]
    assert put("patient", "%own") is None
    assert put("status", "final") == [("status", "final")]
    # Ids are ids of a type: Person/a may be somebody else than Patient/a.
    assert put("_id", "%patients") == [("_id", "a,b")]
    assert put("_id", "%self", "Person") == [("_id", "x")]
    assert put("_id", "%patients", "Person") is None
