"""The validator, case by case. R4 validation.html, json.html, datatypes.html, references.html, narrative.html."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import BadRequest, FhirError, Invalid, Unprocessable
from fhir_server.resources import jsonformat
from fhir_server.resources.validate import MAX_LISTED, PUBLISHED_FAULTS, check, validate
from tests.support.validation_cases import CASES, UUID, Case, bundle, observation, patient

DOCS = Path(__file__).resolve().parents[3] / "docs"


def write(case: Case, strict: bool = False) -> tuple[int, list[Any]]:
    """(status, issues) that a write of the body has, as far as its content decides."""
    try:
        resource = jsonformat.parse(case.data)
        return 201, check(resource, mode="strict" if strict else "default")
    except FhirError as error:
        return error.status, list(error.issues)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES])
def test_write_is_judged(case: Case) -> None:
    status, issues = write(case)
    assert status == case.status, issues
    if case.at:
        assert case.at in [path for issue in issues for path in issue.expression]
    if case.warns:
        assert issues
        assert {issue.severity for issue in issues} == {"warning"}
    if status == 201:
        assert all(issue.severity == "warning" for issue in issues)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES if case.strict])
def test_strict_makes_errors_of_published_faults_and_reference_targets(case: Case) -> None:
    status, issues = write(case, strict=True)
    assert status == case.strict
    assert case.at in [path for issue in issues if issue.severity == "error" for path in issue.expression]


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES if case.status != 201])
def test_strict_refuses_all_that_default_refuses(case: Case) -> None:
    assert write(case, strict=True)[0] == case.status


def test_case_names_are_unique() -> None:
    names = [name for name, _ in CASES]
    assert len(names) == len(set(names))


def test_all_findings_come_at_once() -> None:
    resource = observation(status="x", foo=1, effectiveDateTime="yesterday", valueQuantity={"value": "1", "code": "mg"})
    with pytest.raises(Invalid) as caught:
        check(resource)
    paths = {path for issue in caught.value.issues for path in issue.expression}
    assert paths >= {
        "Observation.status",
        "Observation.foo",
        "Observation.effective",
        "Observation.value.value",
        "Observation.value",
    }


def test_only_broken_rules_are_422_and_any_structural_fault_makes_400() -> None:
    with pytest.raises(Unprocessable):
        check(patient(gender="x"))
    with pytest.raises(Invalid):
        check(patient(gender="x", active="x"))


def test_messages_never_repeat_values() -> None:
    secret = "Zyxwv98"
    resource = patient(
        active=secret,
        birthDate=secret,
        gender=secret,
        name=[{"use": secret, "period": {"start": secret}}],
        maritalStatus=secret,
        managingOrganization={"reference": f"#{secret}"},
        photo=[{"contentType": secret, "data": "QUJD"}],
        text={"status": "generated", "div": f"<div>{secret}</div>"},
    )
    issues = validate(resource).issues
    assert len(issues) > 7
    assert not [issue for issue in issues if secret in issue.diagnostics or secret in str(issue.expression)]


def test_urn_reference_is_accepted_when_the_caller_resolves_it() -> None:
    resource = observation(subject={"reference": UUID})
    assert not validate(resource, resolvable={UUID}).errors
    assert validate(resource).errors


def test_local_references_are_resolved_in_their_own_container() -> None:
    inner = patient(contained=[{"resourceType": "Practitioner", "id": "p"}], generalPractitioner=[{"reference": "#p"}])
    other = patient(generalPractitioner=[{"reference": "#p"}])
    found = validate(bundle("collection", {"resource": inner}, {"resource": other}))
    assert [issue.expression for issue in found.errors] == [
        ("Bundle.entry[1].resource.generalPractitioner[0].reference",)
    ]


def test_findings_are_listed_up_to_a_bound() -> None:
    many = patient(name=[{"x": 1}] * 2_000, telecom=[{"period": {"start": "x"}}] * 2_000)
    found = validate(many)
    assert len(found.errors) == MAX_LISTED
    assert "more errors" in found.errors[-1].diagnostics
    with pytest.raises(Invalid):
        check(many)


def test_bundles_nested_a_hundred_times_are_judged_and_more_are_refused() -> None:
    inner = bundle("collection", {"resource": patient()})
    for _ in range(98):
        inner = bundle("collection", {"resource": inner})
    assert not validate(inner).errors
    for _ in range(3):
        inner = bundle("collection", {"resource": inner})
    assert validate(inner).structural


def test_the_resource_is_not_changed() -> None:
    for _, case in CASES:
        if isinstance(case.body, dict):
            before = copy.deepcopy(case.body)
            validate(case.body)
            assert case.body == before


def test_no_json_makes_the_validator_raise() -> None:
    """Any value in any place: 20,000 documents, each a legal one with up to three members replaced."""
    chance = random.Random(20)
    bodies = [case.body for _, case in CASES if isinstance(case.body, dict) and len(str(case.body)) < 3_000]
    odd: list[Any] = [None, True, 0, -1, "", " ", "#", "#x", "x/y", [], {}, [None], [[]], [{}], {"": 1}, {"a": None}]
    odd += ["urn:uuid:x", jsonformat.FhirDecimal("1.5"), ["a", 1], {"coding": 1}, {"coding": [1]}, {"reference": []}]
    for _ in range(20_000):
        body = copy.deepcopy(chance.choice(bodies))
        for _ in range(chance.randint(1, 3)):
            places = list(_places(body))
            holder, key = chance.choice(places)
            holder[key] = copy.deepcopy(chance.choice(odd))
        validate(body, mode=chance.choice(("default", "strict")))


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])


def test_published_faults_are_documented_by_name() -> None:
    text = (DOCS / "validation.md").read_text(encoding="utf-8")
    assert [name for name in PUBLISHED_FAULTS if f"`{name}`" not in text] == []


def test_faults_of_json_are_bad_requests_with_an_issue_code() -> None:
    for name, case in CASES:
        if name.startswith("syntax") and case.status == 400:
            status, issues = write(case)
            assert status == 400
            assert all(issue.code in ("structure", "value", "too-long", "invalid") for issue in issues)


def test_check_raises_bad_request_for_what_is_no_resource() -> None:
    for value in (None, 1, "x", [], {}, {"resourceType": "Foo"}):
        with pytest.raises(BadRequest):
            check(value)
