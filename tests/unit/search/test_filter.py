"""``_filter``. R4 search_filter.html."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest
from tests.support.shelf import Shelf, found, shelf

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def patient(id: str, given: str, birth: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "name": [{"given": [given]}], "birthDate": birth, **more}


@pytest.fixture(scope="module")
def people() -> Shelf:
    return shelf(
        [
            patient("peter", "Peter", "2014-10-10", gender="male"),
            patient(
                "petra", "Petra", "1980-01-01", gender="female", managingOrganization={"reference": "Organization/o"}
            ),
            patient("paul", "Paul, the (first)", "1990-01-01"),
            {
                "resourceType": "Organization",
                "id": "o",
                "name": "Acme",
                "identifier": [{"system": "s", "value": "v|1"}],
            },
            {
                "resourceType": "Observation",
                "id": "obs",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}]},
                "subject": {"reference": "Patient/petra"},
                "valueQuantity": {"value": 5, "unit": "mg"},
                "effectivePeriod": {"start": "2020-01-01", "end": "2020-12-31"},
            },
            {"resourceType": "Observation", "id": "other", "status": "amended", "code": {"text": "x"}},
            {"resourceType": "Encounter", "id": "imp", "status": "finished", "class": {"system": ACT, "code": "IMP"}},
            {
                "resourceType": "Encounter",
                "id": "acute",
                "status": "planned",
                "class": {"system": ACT, "code": "ACUTE"},
            },
            {"resourceType": "ValueSet", "id": "vs", "status": "active", "url": "http://acme.org/vs/1"},
        ]
    )


@pytest.mark.parametrize(
    "url, ids",
    [
        ('Patient?_filter=given eq "peter"', {"peter"}),
        ("Patient?_filter=given eq peter", {"peter"}),
        ("Patient?_filter=given eq pet", set()),
        ("Patient?_filter=given sw pet", {"peter", "petra"}),
        ("Patient?_filter=given ew tra", {"petra"}),
        ("Patient?_filter=given co et", {"peter", "petra"}),
        ("Patient?_filter=given ne peter", {"petra", "paul"}),
        ('Patient?_filter=given eq "peter" and birthdate ge 2014-10-10', {"peter"}),
        ("Patient?_filter=given eq peter or given eq petra", {"peter", "petra"}),
        # Left to right, no precedence.
        ("Patient?_filter=given eq paul or given eq petra and gender eq male", set()),
        ("Patient?_filter=given eq peter or (given eq petra and gender eq male)", {"peter"}),
        ("Patient?_filter=not (given sw pet)", {"paul"}),
        ("Patient?_filter=not(gender eq male)", {"petra", "paul"}),
        ('Patient?_filter=given eq "paul, the (first)"', {"paul"}),
        ('Patient?_filter=given sw "Paul\\u002c"', {"paul"}),
        ("Patient?_filter=gender pr true", {"peter", "petra"}),
        ("Patient?_filter=gender pr false", {"paul"}),
        ("Patient?_filter=gender ne male", {"petra"}),
        ("Patient?_filter=gender sw fem", {"petra"}),
        ("Patient?_filter=birthdate lt 1985", {"petra"}),
        ("Patient?_filter=birthdate po 1980", {"petra"}),
        ("Patient?_filter=organization re Organization/o", {"petra"}),
        ("Patient?_filter=organization.name eq acme", {"petra"}),
        ("Patient?_filter=organization[name eq acme].identifier eq s|v\\|1", {"petra"}),
        ('Patient?_filter=organization[name eq acme and not (name eq x)].name sw "AC"', {"petra"}),
        ("Patient?_filter=organization[name eq nobody].name eq acme", set()),
        ("Patient?_filter=_id eq peter", {"peter"}),
        ("Patient?_filter=_id ne peter", {"petra", "paul"}),
        ("Patient?_filter=gender eq male&_filter=given eq petra", set()),
        ("Patient?_filter=gender eq male&given=peter", {"peter"}),
        ("Observation?_filter=code eq http://loinc.org|1234-5", {"obs"}),
        ("Observation?_filter=subject.given sw pet", {"obs"}),
        ("Observation?_filter=subject:Patient.given sw pet", {"obs"}),
        ("Observation?_filter=patient.organization.name eq acme", {"obs"}),
        ("Observation?_filter=value-quantity gt 4", {"obs"}),
        ("Observation?_filter=value-quantity eq 5||mg", {"obs"}),
        ("Observation?_filter=date po 2020-06", {"obs"}),
        ("Observation?_filter=date eq 2020", {"obs"}),
        ("Observation?_filter=date eb 2020", set()),
        ("Observation?_filter=status in http://hl7.org/fhir/ValueSet/observation-status", {"obs", "other"}),
        ("Observation?_filter=status ni http://hl7.org/fhir/ValueSet/observation-status", set()),
        (f"Encounter?_filter=class ss {ACT}|IMP", {"imp", "acute"}),
        (f"Encounter?_filter=class sb {ACT}|ACUTE", {"imp", "acute"}),
        (f"Encounter?_filter=class sb {ACT}|IMP", {"imp"}),
        ("ValueSet?_filter=url sw http://acme", {"vs"}),
        ("ValueSet?_filter=url ew vs/1", {"vs"}),
        ("ValueSet?_filter=url co acme", {"vs"}),
        ("ValueSet?_filter=url ss http://acme.org/vs", {"vs"}),
        ("ValueSet?_filter=url ne http://acme.org/vs/1", set()),
    ],
)
def test_filters(people: Shelf, url: str, ids: set[str]) -> None:
    assert found(people, url.replace("+", "%2B")) == ids


@pytest.mark.parametrize(
    "text",
    [
        "given", "given eq", "given xx peter", "eq peter", "(given eq x", "given eq x)", "given eq x and",
        "given eq x given eq y",
        'given eq "x', "not given eq x", "nonsense eq x", "gender.name eq x", "organization[name eq x eq y].name eq z",
        "organization. eq x", "organization:Patient.name eq x", "given gt x", "gender co x", "birthdate co x",
        "given pr maybe",
        "birthdate eq soon", "gender:not eq x", "[name eq x]", '"given" eq x', "organization.nonsense eq x",
        "code-value-quantity ne a$1", "_lastUpdated co x",
    ],
)  # fmt: skip
def test_filters_that_cannot_be_read(people: Shelf, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(people, f"Patient?_filter={text}")
    assert "soon" not in caught.value.issues[0].diagnostics


@pytest.mark.parametrize(
    "text", ["(" * 100 + "given eq x" + ")" * 100, " and ".join(["given eq x"] * 500), "given eq " + "x" * 10_000]
)
def test_filters_that_are_too_large(people: Shelf, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(people, f"Patient?_filter={text}")
    assert caught.value.issues[0].code == "too-costly"
