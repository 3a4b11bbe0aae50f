"""What every part of the demo hospital shares: canonical names, code systems, and the shapes of R4's data types.

Nothing here draws random numbers. Decimals are `decimal.Decimal` with the digits that shall be written; no float ever
enters a resource (R4 datatypes.html#decimal: precision is significant).
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

#: The `{B}` of the domain papers: canonical base of everything this project defines itself.
CANONICAL_BASE: Final = "https://hestia.example/fhir"

LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
ICD10: Final = "http://hl7.org/fhir/sid/icd-10"
ATC: Final = "http://www.whocc.no/atc"
CVX: Final = "http://hl7.org/fhir/sid/cvx"
UCUM: Final = "http://unitsofmeasure.org"
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ROLE_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
IDENTIFIER_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
INTERPRETATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

RESIDENT_ID: Final = "urn:oid:2.16.156.10011.1.3"
OUTPATIENT_NO: Final = "urn:oid:2.16.156.10011.1.11"
REQUISITION_NO: Final = "urn:oid:2.16.156.10011.1.24"
LICENCE_NO: Final = "urn:oid:2.16.156.10011.1.4"

#: Hospital time, Asia/Shanghai: one offset all year since 1991.
ZONE: Final = datetime.timezone(datetime.timedelta(hours=8))

JSON = dict[str, Any]


def hl7(name: str) -> str:
    """URL of an HL7 terminology code system: "observation-category" -> http://terminology.hl7.org/CodeSystem/…"""
    return f"http://terminology.hl7.org/CodeSystem/{name}"


def sid(name: str) -> str:
    """System of one of the hospital's business numbers (kernels 1.27)."""
    return f"{CANONICAL_BASE}/sid/{name}"


def code_system(name: str) -> str:
    """URL of a local code system (kernels 1.30)."""
    return f"{CANONICAL_BASE}/CodeSystem/{name}"


def structure(name: str) -> str:
    """URL of a local extension (kernels 1.30)."""
    return f"{CANONICAL_BASE}/StructureDefinition/{name}"


#: Marks everything as test data, in the words of HL7's own vocabulary; made fresh per resource so that no two share it.
def _tag() -> list[JSON]:
    return [{"system": ACT_REASON, "code": "HTEST", "display": "test health data"}]


def resource(resource_type: str, resource_id: str, **elements: Any) -> JSON:
    """A resource with id and demo tag; elements that are None, [] or {} are left out, as JSON in FHIR demands."""
    out: JSON = {"resourceType": resource_type, "id": resource_id, "meta": {"tag": _tag()}}
    out.update(present(**elements))
    return out


def present(**elements: Any) -> JSON:
    """The elements that have a value, in the order given; a trailing underscore escapes Python's keywords."""
    return {
        name.rstrip("_"): value
        for name, value in elements.items()
        if value is not None and value != [] and value != {} and value != ""
    }


def coding(system: str, code: str, display: str | None = None) -> JSON:
    """A Coding."""
    return present(system=system, code=code, display=display)


def concept(*codings: JSON, text: str | None = None) -> JSON:
    """A CodeableConcept."""
    return present(coding=list(codings), text=text)


def identifier(
    system: str, value: str, type_code: str | None = None, use: str | None = None, text: str | None = None
) -> JSON:
    """An Identifier, typed by v2-0203 when a code is given."""
    kind = (
        concept(coding(IDENTIFIER_TYPE, type_code), text=text) if type_code else (concept(text=text) if text else None)
    )
    return present(use=use, type=kind, system=system, value=value)


def reference(target: JSON | str, display: str | None = None) -> JSON:
    """A literal Reference to a resource, or to "Type/id"."""
    literal = target if isinstance(target, str) else f"{target['resourceType']}/{target['id']}"
    return present(reference=literal, display=display)


def decimal(value: Decimal | float | int | str, places: int) -> Decimal:
    """`value` with exactly that many digits after the point."""
    return Decimal(str(value)).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)


def quantity(value: Decimal | int, unit: str, code: str | None = None) -> JSON:
    """A Quantity in UCUM; `unit` is what people read."""
    return {"value": value, "unit": unit, "system": UCUM, "code": code or unit}


def yuan(value: Decimal | str) -> JSON:
    """A Money in CNY with two digits after the point."""
    return {"value": decimal(value, 2), "currency": "CNY"}


def period(start: str | None, end: str | None = None) -> JSON:
    """A Period."""
    return present(start=start, end=end)


def extension(url: str, **value: Any) -> JSON:
    """An Extension: `extension(url, valueString="x")`."""
    return {"url": url, **value}


def at(day: datetime.date, hour: int, minute: int = 0, second: int = 0) -> datetime.datetime:
    """A moment in hospital time."""
    return datetime.datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=ZONE)


def stamp(moment: datetime.datetime) -> str:
    """A dateTime or instant to the second with the hospital's offset."""
    return moment.isoformat(timespec="seconds")


def midnight(day: datetime.date) -> datetime.datetime:
    """The start of a local day."""
    return at(day, 0)


def add_years(day: datetime.date, years: int) -> datetime.date:
    """The same calendar day some years later; 29 February becomes 28 February."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return day.replace(year=day.year + years, day=28)


def add_months(day: datetime.date, months: int) -> datetime.date:
    """The same day some months later, at most the 28th so that every month has it."""
    index = day.year * 12 + day.month - 1 + months
    return datetime.date(index // 12, index % 12 + 1, min(day.day, 28))


def age_in_years(birth: datetime.date, on: datetime.date) -> int:
    """Completed years."""
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))


def age_in_months(birth: datetime.date, on: datetime.date) -> float:
    """Months of 30.4375 days, for the growth charts."""
    return (on - birth).days / 30.4375


def stream(seed: int, *scope: object) -> random.Random:
    """An independent, reproducible source of random numbers for one scope.

    Seeded by text, which `random` hashes with SHA-512: the same in every process, whatever PYTHONHASHSEED is.
    """
    return random.Random("/".join(map(str, (seed, *scope))))  # noqa: S311 - demo data, no secrets


@dataclass(frozen=True, slots=True)
class Concept:
    """A clinical idea with its codes: ICD-10 and SNOMED CT for diagnoses, SNOMED CT alone for the rest.

    `en` is SNOMED CT's term, `who` the title of the WHO's ICD-10.
    """

    zh: str
    en: str
    snomed: str | None = None
    icd10: str | None = None
    who: str | None = None

    def codeable(self) -> JSON:
        """The CodeableConcept: displays as the code systems have them, Chinese text."""
        codings: list[JSON] = []
        if self.icd10:
            codings.append(coding(ICD10, self.icd10, self.who))
        if self.snomed:
            codings.append(coding(SNOMED, self.snomed, self.en))
        return concept(*codings, text=self.zh)
