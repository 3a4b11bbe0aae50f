"""The corpus of the benchmark: deterministic, and made so that every measured search has a known number of hits.

300 patients of 70 resources each (one transaction Bundle per patient): 1 Patient, 6 Conditions, 8 Encounters, 52
Observations
(13 codes, four of each), 3 MedicationRequests; before them one Bundle of 50 Practitioners.

    Patient?name=<prefix>                    15 (20 family names)
    Observation?date=<one day>               15 (a day holds 15 observations)
    Condition?subject=<patient>               6
    Observation?subject=<patient>            52
    Observation?subject=..&code=..            4
    Observation?code=..                   1,200
    Encounter?subject=..&_include=..          8 + up to 5 practitioners
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

PER_BUNDLE = 70
CODES = (
    ("8867-4", "Heart rate", "/min", 72),
    ("8310-5", "Body temperature", "Cel", 37),
    ("29463-7", "Body weight", "kg", 70),
    ("8302-2", "Body height", "cm", 170),
    ("39156-5", "Body mass index", "kg/m2", 24),
    ("9279-1", "Respiratory rate", "/min", 15),
    ("2708-6", "Oxygen saturation", "%", 97),
    ("2339-0", "Glucose", "mg/dL", 95),
    ("2093-3", "Cholesterol", "mg/dL", 180),
    ("2160-0", "Creatinine", "mg/dL", 1),
    ("718-7", "Hemoglobin", "g/dL", 14),
    ("6690-2", "Leukocytes", "10*3/uL", 7),
    ("85354-9", "Blood pressure panel", "mm[Hg]", 120),
)
CONDITIONS = (
    ("38341003", "Hypertensive disorder"),
    ("44054006", "Type 2 diabetes mellitus"),
    ("195967001", "Asthma"),
    ("55822004", "Hyperlipidemia"),
    ("13645005", "Chronic obstructive lung disease"),
    ("35489007", "Depressive disorder"),
    ("396275006", "Osteoarthritis"),
    ("709044004", "Chronic kidney disease"),
    ("230690007", "Stroke"),
    ("414545008", "Ischemic heart disease"),
)
FAMILIES = (
    "Anderson", "Brandt", "Castillo", "Dubois", "Eriksson", "Fischer", "Garcia", "Hughes", "Ivanov", "Jansen",
    "Kowalski", "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quispe", "Rossi", "Schneider", "Tanaka",
)  # fmt: skip
GIVEN = (
    "Ada",
    "Ben",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Karin",
    "Luis",
    "Mia",
    "Nils",
    "Olga",
)
FIRST_DAY = date(2020, 1, 1)
MRN = "http://bench.example.org/mrn"
STAFF = "http://bench.example.org/staff"


@dataclass(frozen=True, slots=True)
class Corpus:
    """`patients` patients; everything else follows. Sizes are in resources."""

    patients: int = 300
    seed: int = 7

    @property
    def observation_days(self) -> int:
        """Days that hold 15 observations; what is left over goes to one day more."""
        return self.patients * 52 // 15

    def practitioners(self) -> dict[str, Any]:
        """The transaction that comes first; conditional on the staff number, so that a second run finds them."""
        entries = [
            _entry(
                {
                    "resourceType": "Practitioner",
                    "identifier": [{"system": STAFF, "value": f"S{number:03d}"}],
                    "active": True,
                    "name": [{"family": FAMILIES[number % 20] + "son", "given": [GIVEN[number % 15]]}],
                    "gender": "female" if number % 2 else "male",
                },
                _uuid("practitioner", number),
                if_none_exist=f"identifier={STAFF}|S{number:03d}",
            )
            for number in range(50)
        ]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    def bundles(self, practitioners: list[str]) -> Iterator[dict[str, Any]]:
        """One transaction per patient. `practitioners`: the 50 references that the server gave
        (``Practitioner/..``).
        """
        for number in range(self.patients):
            yield self.bundle(number, practitioners)

    def bundle(self, number: int, practitioners: list[str]) -> dict[str, Any]:
        chance = random.Random(self.seed * 1_000_003 + number)
        patient = _uuid("patient", number)
        subject = {"reference": f"urn:uuid:{patient}"}
        born = date(1930, 1, 1) + timedelta(days=chance.randrange(29_000))
        entries = [_entry(_patient(number, born, chance), patient)]
        staff = [practitioners[(number * 5 + index) % len(practitioners)] for index in range(5)]
        for index in range(6):
            code, display = CONDITIONS[(number + index) % len(CONDITIONS)]
            entries.append(_entry(_condition(subject, code, display, chance), _uuid("condition", number, index)))
        encounters = [_uuid("encounter", number, index) for index in range(8)]
        for index, encounter in enumerate(encounters):
            entries.append(_entry(_encounter(subject, staff[index % 5], chance), encounter))
        for index in range(52):
            sequence = number * 52 + index
            day = FIRST_DAY + timedelta(days=sequence // 15)
            entries.append(
                _entry(
                    _observation(subject, encounters[index % 8], staff[index % 5], index, day, chance),
                    _uuid("observation", number, index),
                )
            )
        for index in range(3):
            entries.append(
                _entry(_medication_request(subject, encounters[index], staff[0], chance), _uuid("rx", number, index))
            )
        assert len(entries) == PER_BUNDLE
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _uuid(kind: str, *numbers: int) -> str:
    return str(UUID(int=random.Random(f"{kind}/{numbers}").getrandbits(128), version=4))


def _entry(resource: dict[str, Any], uuid: str, if_none_exist: str | None = None) -> dict[str, Any]:
    request: dict[str, Any] = {"method": "POST", "url": resource["resourceType"]}
    if if_none_exist:
        request["ifNoneExist"] = if_none_exist
    return {"fullUrl": f"urn:uuid:{uuid}", "resource": resource, "request": request}


def _instant(day: date, chance: random.Random) -> str:
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=chance.randrange(1440))
    return moment.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _text(title: str, rows: list[tuple[str, str]]) -> dict[str, Any]:
    cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    return {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p><b>{title}</b></p><table>{cells}</table></div>',
    }


def _patient(number: int, born: date, chance: random.Random) -> dict[str, Any]:
    family, given = FAMILIES[number % 20], GIVEN[number // 20 % 15]
    return {
        "resourceType": "Patient",
        "text": _text(f"{given} {family}", [("Born", born.isoformat()), ("Number", f"M{number:07d}")]),
        "identifier": [
            {
                "use": "usual",
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
                "system": MRN,
                "value": f"M{number:07d}",
            }
        ],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given, GIVEN[chance.randrange(15)]]}],
        "telecom": [{"system": "phone", "value": f"555-{number:07d}", "use": "home"}],
        "gender": chance.choice(("male", "female")),
        "birthDate": born.isoformat(),
        "address": [
            {
                "line": [f"{number} Bench Street"],
                "city": f"City {number % 40}",
                "postalCode": f"{number % 999:05d}",
                "country": "DE",
            }
        ],
    }


def _condition(subject: dict[str, Any], code: str, display: str, chance: random.Random) -> dict[str, Any]:
    day = FIRST_DAY + timedelta(days=chance.randrange(1500))
    return {
        "resourceType": "Condition",
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "verificationStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}]
        },
        "category": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/condition-category", "code": "problem-list-item"}
                ]
            }
        ],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}], "text": display},
        "subject": subject,
        "onsetDateTime": day.isoformat(),
        "recordedDate": _instant(day, chance),
    }


def _encounter(subject: dict[str, Any], practitioner: str, chance: random.Random) -> dict[str, Any]:
    day = FIRST_DAY + timedelta(days=chance.randrange(1500))
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "ambulatory"},
        "type": [
            {"coding": [{"system": "http://snomed.info/sct", "code": "185349003", "display": "Encounter for check up"}]}
        ],
        "subject": subject,
        "participant": [
            {
                "type": [
                    {
                        "coding": [
                            {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PPRF"}
                        ]
                    }
                ],
                "individual": {"reference": practitioner},
            }
        ],
        "period": {"start": f"{day}T09:00:00+00:00", "end": f"{day}T09:30:00+00:00"},
    }


def _observation(
    subject: dict[str, Any], encounter: str, practitioner: str, index: int, day: date, chance: random.Random
) -> dict[str, Any]:
    code, display, unit, typical = CODES[index % len(CODES)]
    laboratory = index % len(CODES) in (7, 8, 9, 10, 11)
    when = _instant(day, chance)
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "text": _text(display, [("Date", when), ("Status", "final")]),
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory" if laboratory else "vital-signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display},
        "subject": subject,
        "encounter": {"reference": f"urn:uuid:{encounter}"},
        "effectiveDateTime": when,
        "issued": when.replace("+00:00", ".000+00:00"),
        "performer": [{"reference": practitioner}],
    }
    if code == "85354-9":
        resource["component"] = [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": part, "display": name}]},
                "valueQuantity": _quantity(chance.randrange(low, high), unit),
            }
            for part, name, low, high in (("8480-6", "Systolic", 100, 160), ("8462-4", "Diastolic", 60, 100))
        ]
    else:
        resource["valueQuantity"] = _quantity(round(typical * chance.uniform(0.8, 1.2), 1), unit)
    return resource


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def _medication_request(
    subject: dict[str, Any], encounter: str, practitioner: str, chance: random.Random
) -> dict[str, Any]:
    code, display = chance.choice(
        (("314076", "lisinopril 10 MG Oral Tablet"), ("860975", "metformin 500 MG Oral Tablet"))
    )
    day = FIRST_DAY + timedelta(days=chance.randrange(1500))
    return {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {
            "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": code, "display": display}],
            "text": display,
        },
        "subject": subject,
        "encounter": {"reference": f"urn:uuid:{encounter}"},
        "authoredOn": _instant(day, chance),
        "requester": {"reference": practitioner},
        "dosageInstruction": [
            {
                "sequence": 1,
                "text": "1 tablet daily",
                "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
            }
        ],
    }
