"""Nobody is treated before birth or after death, nothing happens tomorrow, and bodies behave like bodies."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

import seed
from tests.unit.seed.seed_demo import age, day

DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d\+08:00)?")
#: Elements that name a time to come, or one before the patient was known.
OPEN_ENDED = {"validityPeriod", "target", "provision", "expirationDate", "birthDate", "hold-expires", "period"}
MOMENT_OF_DEATH = "deceasedDateTime"


def coding(item: dict[str, Any], system: str) -> str | None:
    concept = item.get("code") or item.get("vaccineCode") or {}
    return next((part["code"] for part in concept.get("coding", []) if part["system"] == system), None)


def dates(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from dates(item, (*path, name))
    elif isinstance(value, list):
        for item in value:
            yield from dates(item, path)
    elif isinstance(value, str) and DATE.fullmatch(value):
        yield path, value


def clinical(demo) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for item in demo.resources:
        patient = demo.patient_of(item)
        if patient is not None and item["resourceType"] not in ("RelatedPerson",):
            yield item, patient


def test_nothing_is_before_birth_and_nothing_after_death(demo):
    wrong = []
    for item, patient in clinical(demo):
        for path, value in dates(item):
            if OPEN_ENDED.intersection(path) and item["resourceType"] not in ("Encounter", "Procedure"):
                continue
            if day(value) < day(patient["birthDate"]):
                wrong.append((item["id"], path, value, "before birth"))
            died = patient.get(MOMENT_OF_DEATH)
            if died and (value > died if "T" in value else day(value) > day(died)):
                wrong.append((item["id"], path, value, "after death"))
    assert wrong == []


def test_nothing_that_has_happened_is_later_than_today(demo):
    wrong = []
    for item, _ in clinical(demo):
        if item["resourceType"] == "Appointment" and item["status"] in ("booked", "pending"):
            continue
        for path, value in dates(item):
            if OPEN_ENDED.intersection(path) and item["resourceType"] not in ("Encounter", "Procedure"):
                continue
            if day(value) >= seed.TODAY:
                wrong.append((item["id"], path, value))
    assert wrong == []


def test_some_patients_have_died_and_are_left_in_peace(demo):
    dead = [item for item in demo.of("Patient") if MOMENT_OF_DEATH in item]
    assert 2 <= len(dead) <= 6
    for patient in dead:
        assert patient["active"] is False
        mine = [item for item, owner in clinical(demo) if owner is patient]
        assert not any(item["resourceType"] == "Appointment" and item["status"] == "booked" for item in mine)
        assert not any(item["resourceType"] == "MedicationRequest" and item["status"] == "active" for item in mine)
        last = max(
            (item for item in mine if item["resourceType"] == "Encounter"), key=lambda item: item["period"]["end"]
        )
        assert last["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "exp"
        assert last["period"]["end"] == patient[MOMENT_OF_DEATH]


def test_only_women_of_childbearing_age_are_pregnant(demo):
    pregnancies = 0
    for item, patient in clinical(demo):
        if item["resourceType"] == "Condition" and coding(item, "http://hl7.org/fhir/sid/icd-10") in ("Z34.9", "O24.4"):
            pregnancies += 1
            assert patient["gender"] == "female"
            assert 18 <= age(patient, day(item["onsetDateTime"])) <= 45
        if item["resourceType"] == "Procedure" and coding(item, "http://snomed.info/sct") in ("177184002", "11466000"):
            assert patient["gender"] == "female"
    assert pregnancies >= 4


def test_births_in_the_family_fall_on_the_childs_birthday(demo):
    births = {
        day(item["performedPeriod"]["start"])
        for item in demo.of("Procedure")
        if coding(item, "http://snomed.info/sct") in ("177184002", "11466000")
    }
    assert births
    birthdays = {day(item["birthDate"]) for item in demo.of("Patient")}
    for when in births:
        assert any(abs((when - birthday).days) <= 1 for birthday in birthdays)


@pytest.mark.parametrize(
    ("code", "sex"),
    [("C50.9", "female"), ("N40", "male"), ("Z34.9", "female")],
)
def test_illnesses_of_one_sex(demo, code, sex):
    found = [item for item in demo.of("Condition") if coding(item, "http://hl7.org/fhir/sid/icd-10") == code]
    assert found
    assert {demo.patient_of(item)["gender"] for item in found} == {sex}


@pytest.mark.parametrize(
    ("code", "youngest"),
    [("I10", 35), ("E11.9", 35), ("J44.9", 45), ("E78.5", 35), ("N18.3", 50), ("M81.9", 60), ("F32.1", 16)],
)
def test_illnesses_of_an_age(demo, code, youngest):
    found = [item for item in demo.of("Condition") if coding(item, "http://hl7.org/fhir/sid/icd-10") == code]
    assert found
    assert min(age(demo.patient_of(item), day(item["onsetDateTime"])) for item in found) >= youngest


@pytest.mark.parametrize(
    ("loinc", "low", "high"),
    [
        ("8867-4", 45, 190),
        ("8310-5", "35.8", "40.5"),
        ("2708-6", 80, 100),
        ("8302-2", 48, 195),
        ("29463-7", "2.5", 125),
        ("39156-5", 12, 36),
        ("4548-4", 4, 13),
        ("14682-9", 15, 500),
        ("718-7", 65, 185),
        ("2823-3", 3, 6),
        ("44261-6", 0, 27),
    ],
)
def test_measurements_are_those_of_living_people(demo, loinc, low, high):
    values = [
        item["valueQuantity"]["value"]
        for item in demo.of("Observation")
        if coding(item, "http://loinc.org") == loinc and "valueQuantity" in item
    ]
    assert values
    assert Decimal(low) <= min(values)
    assert max(values) <= Decimal(high)


def test_systolic_is_above_diastolic(demo):
    panels = [item for item in demo.of("Observation") if coding(item, "http://loinc.org") == "85354-9"]
    assert len(panels) > 150
    for item in panels:
        values = {part["code"]["coding"][0]["code"]: part["valueQuantity"]["value"] for part in item["component"]}
        assert set(values) == {"8480-6", "8462-4"}
        assert 70 <= values["8480-6"] <= 215
        assert values["8480-6"] - values["8462-4"] >= 15


def test_body_mass_index_is_derived_from_weight_and_height(demo):
    derived = [item for item in demo.of("Observation") if coding(item, "http://loinc.org") == "39156-5"]
    assert derived
    for item in derived:
        weight, height = (demo[part["reference"]]["valueQuantity"]["value"] for part in item["derivedFrom"])
        assert abs(item["valueQuantity"]["value"] - weight / (Decimal(height) / 100) ** 2) <= Decimal("0.06")


def test_children_grow_and_nobody_shrinks(demo):
    heights: dict[str, list[tuple[str, Decimal]]] = {}
    for item in demo.of("Observation"):
        if coding(item, "http://loinc.org") == "8302-2":
            row = heights.setdefault(item["subject"]["reference"], [])
            row.append((item["effectiveDateTime"], item["valueQuantity"]["value"]))
    grown = 0
    for reference, row in heights.items():
        row.sort()
        assert [after for (_, before), (_, after) in pairwise(row) if after < before] == []
        (first, small), (last, tall) = row[0], row[-1]
        months = (day(last) - day(first)).days / 30.4
        if age(demo[reference], day(last)) < 11 and months > 5:
            grown += 1
            assert tall - small > Decimal("0.35") * Decimal(months)
    assert grown >= 5


def test_a_treated_diabetic_gets_better(demo):
    rows: dict[str, list[tuple[str, Decimal]]] = {}
    diabetics = {
        item["subject"]["reference"]
        for item in demo.of("Condition")
        if coding(item, "http://hl7.org/fhir/sid/icd-10") == "E11.9"
    }
    for item in demo.of("Observation"):
        if coding(item, "http://loinc.org") == "4548-4" and item["subject"]["reference"] in diabetics:
            rows.setdefault(item["subject"]["reference"], []).append(
                (item["effectiveDateTime"], item["valueQuantity"]["value"])
            )
    assert len(rows) >= 4
    better = [sorted(row)[-1][1] < sorted(row)[0][1] for row in rows.values() if len(row) > 2]
    assert sum(better) >= len(better) - 1


def test_interpretation_follows_the_reference_range(demo):
    seen = set()
    for item in demo.of("Observation"):
        if "referenceRange" not in item:
            continue
        value, bounds = item["valueQuantity"]["value"], item["referenceRange"][0]
        low, high = (bounds[key]["value"] if key in bounds else None for key in ("low", "high"))
        expected = "L" if low is not None and value < low else "H" if high is not None and value > high else "N"
        assert item["interpretation"][0]["coding"][0]["code"] == expected
        seen.add(expected)
    assert seen == {"L", "H", "N"}


def test_immunizations_are_given_at_the_programmes_ages(demo):
    limits = {
        "19": (0, 0),
        "08": (0, 7),
        "20": (2, 74),
        "03": (8, 20),
        "28": (71, 74),
        "129": (8, 26),
        "165": (216, 560),
    }
    seen = set()
    for item in demo.of("Immunization"):
        code = item["vaccineCode"]["coding"][0]["code"]
        patient = demo.patient_of(item)
        months = (day(item["occurrenceDateTime"]) - day(patient["birthDate"])).days / 30.4375
        if code in limits:
            low, high = limits[code]
            assert low - 0.2 <= months <= high + 1.2, (code, months)
            seen.add(code)
        if code == "165":
            assert patient["gender"] == "female"
    assert seen == set(limits)


def test_doses_of_a_vaccine_are_numbered_in_order(demo):
    rows: dict[tuple[str, str], list[tuple[datetime.date, int]]] = {}
    for item in demo.of("Immunization"):
        code = item["vaccineCode"]["coding"][0]["code"]
        if code != "140":
            key = (item["patient"]["reference"], code)
            number = item["protocolApplied"][0]["doseNumberPositiveInt"]
            rows.setdefault(key, []).append((day(item["occurrenceDateTime"]), number))
    for row in rows.values():
        numbers = [number for _, number in sorted(row)]
        assert numbers == sorted(set(numbers))


def test_nobody_gets_what_an_allergy_forbids(demo):
    allergic = {
        item["patient"]["reference"]
        for item in demo.of("AllergyIntolerance")
        if item["code"]["coding"][0]["code"] == "91936005"
    }
    assert len(allergic) >= 3
    for item in demo.of("MedicationDispense"):
        atc = [part["code"] for part in item["medicationCodeableConcept"]["coding"] if "whocc" in part["system"]]
        assert not (item["subject"]["reference"] in allergic and "J01CA04" in atc)


def test_no_fluoroquinolones_for_minors_and_no_statins_or_sartans_in_pregnancy(demo):
    pregnant: dict[str, list[tuple[datetime.date, datetime.date]]] = {}
    for item in demo.of("Condition"):
        if coding(item, "http://hl7.org/fhir/sid/icd-10") == "Z34.9":
            end = day(item.get("abatementDateTime", "2030-01-01"))
            pregnant.setdefault(item["subject"]["reference"], []).append((day(item["onsetDateTime"]), end))
    for item in demo.of("MedicationDispense"):
        when = day(item["whenHandedOver"])
        atc = [part["code"] for part in item["medicationCodeableConcept"]["coding"] if "whocc" in part["system"]]
        if "J01MA12" in atc:
            assert age(demo.patient_of(item), when) >= 18
        if {"C10AA05", "C10AA07", "C09CA03"}.intersection(atc):
            assert not any(a <= when <= b for a, b in pregnant.get(item["subject"]["reference"], []))


def test_nobody_has_two_encounters_at_once(demo):
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for item in demo.of("Encounter"):
        row = (item["period"]["start"], item["period"]["end"], item["id"])
        rows.setdefault(item["subject"]["reference"], []).append(row)
    for row in rows.values():
        for (_, end, one), (start, _, other) in pairwise(sorted(row)):
            assert end <= start, (one, other)


def test_all_kinds_of_encounters_occur(demo):
    assert {item["class"]["code"] for item in demo.of("Encounter")} == {"AMB", "EMER", "IMP", "VR"}


def test_a_visit_measures_each_thing_once(demo):
    seen = set()
    for item in demo.of("Observation"):
        key = (item["encounter"]["reference"], item["code"]["coding"][0]["code"])
        # Creatinine belongs to two panels.
        assert key not in seen or key[1] == "14682-9", key
        seen.add(key)


def test_a_drug_is_not_prescribed_twice_in_one_visit(demo):
    seen = set()
    for item in demo.of("MedicationDispense"):
        key = (item["context"]["reference"], item["medicationCodeableConcept"]["coding"][0]["code"])
        assert key not in seen, key
        seen.add(key)
