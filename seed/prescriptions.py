"""Prescriptions and what the pharmacy hands out. Kernels K12 and K13."""

from __future__ import annotations

import datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from seed import drugs
from seed.base import (
    JSON,
    coding,
    concept,
    extension,
    hl7,
    identifier,
    present,
    quantity,
    reference,
    resource,
    sid,
    stamp,
    structure,
)
from seed.formulary import DRUGS, Drug
from seed.hospital import PHARMACY, PHARMACY_ORGANIZATION
from seed.identifiers import business_number
from seed.terminology.local import local_concept

if TYPE_CHECKING:
    from seed.visit import Visit

_CATEGORY: Final = {"AMB": "outpatient", "EMER": "outpatient", "VR": "community", "IMP": "discharge"}
_STILL_ENOUGH_DAYS: Final = 10
_PER_DAY: Final = {"QD": 1, "BID": 2, "TID": 3, "AM": 1, "BED": 1}


#: Base units per kilogram and dose: 10 mg/kg ibuprofen of 20 mg/mL, 15 mg/kg amoxicillin in bags of 125 mg,
#: 10 mg/kg azithromycin in bags of 100 mg.
_PER_KILOGRAM: Final = {
    "ibuprofen-child": Decimal("0.5"),
    "amoxicillin-child": Decimal("0.12"),
    "azithromycin-child": Decimal("0.1"),
    "oseltamivir-child": Decimal(0),
}


def _child_dose(drug: Drug, kilograms: Decimal) -> Decimal:
    """A dose for a weight, in whole base units; oseltamivir in the label's steps of 30, 45, 60 and 75 mg."""
    if drug.key == "oseltamivir-child":
        return Decimal(2 if kilograms <= 15 else 3 if kilograms <= 23 else 4 if kilograms <= 40 else 5)
    most = {"ibuprofen-child": 20, "amoxicillin-child": 4, "azithromycin-child": 5}[drug.key]
    return min(Decimal(most), max(Decimal(1), (_PER_KILOGRAM[drug.key] * kilograms).to_integral_value()))


def _needed(drug: Drug, days: int, dose: Decimal | None) -> Decimal:
    """Base units for that many days, in whole packs but for herbs; one pack of what is taken as needed."""
    amount = drug.dose if dose is None else dose
    if drug.frequency == "PRN":
        return Decimal(drug.pack)
    times = Decimal(days) / 7 if drug.frequency == "WK" else Decimal(days * _PER_DAY[drug.frequency])
    total = times * amount
    packs = (total / drug.pack).to_integral_value(rounding=ROUND_CEILING)
    return total.to_integral_value(rounding=ROUND_CEILING) if drug.form == "herb" else packs * drug.pack


def prescribe(visit: Visit, reason: JSON | None, *lines: tuple[str, int] | tuple[str, int, Decimal]) -> list[JSON]:
    """One MedicationRequest per line (drug, days, dose if unusual), one prescription number for all; each dispensed.

    A line that the patient is allergic to is replaced, one that is still in supply left out. Returns the requests.
    """
    chart = visit.chart
    group = business_number("RX", visit.day, chart.person.number, visit.number, len(visit.resources))
    out = []
    names = []
    for line in lines:
        key, days = line[0], line[1]
        dose = line[2] if len(line) == 3 else None
        drug = chart.allowed(DRUGS[key], DRUGS)
        if chart.supplied.get(drug.key, visit.day) > visit.day + datetime.timedelta(days=_STILL_ENOUGH_DAYS):
            continue  # another doctor prescribed it lately
        chart.supplied[drug.key] = visit.day + datetime.timedelta(days=days)
        if drug.key != key:
            days = min(days, 3)  # azithromycin stays in the tissues; three days are a course
        if dose is None and drug.key in _PER_KILOGRAM:
            dose = _child_dose(drug, chart.body.weight(visit.day))
        out.append(_line(visit, reason, drug, days, dose, group))
        names.append(drug.zh)
    if names:
        visit.say("plan", f"处方：{'、'.join(names)}。")
    return out


def _line(visit: Visit, reason: JSON | None, drug: Drug, days: int, dose: Decimal | None, group: str) -> JSON:
    chart, today = visit.chart, visit.chart.world.today
    authored = visit.end
    amount = _needed(drug, days, dose)
    ends = visit.day + datetime.timedelta(days=days)
    status = "completed" if ends < today else "active"
    if chart.person.died and ends > chart.person.died:
        status = "stopped"
    kind = "chinese" if drug.is_chinese else "western"
    herbal = None
    if drug.form == "herb":
        herbal = [
            extension(structure("herbal-doses"), valuePositiveInt=days),
            extension(structure("decoction"), valueString="水煎400毫升，早晚分两次温服"),
        ]
    # Before the catalogue was opened prescriptions carried codes; since then they point into it.
    recent = visit.day > chart.world.stock.opened
    category = _CATEGORY[visit.kind]
    dosage = drugs.dosage(drug, dose)
    request = resource(
        "MedicationRequest",
        chart.new_id("MedicationRequest"),
        extension=herbal,
        status=status,
        intent="order",
        category=[
            concept(coding(hl7("medicationrequest-category"), category, category.capitalize())),
            local_concept("prescription-type", kind),
        ],
        medicationReference=reference(drug.reference, drug.zh) if recent else None,
        medicationCodeableConcept=None if recent else drugs.code(drug),
        subject=chart.subject(),
        encounter=reference(visit.reference),
        authoredOn=stamp(authored),
        requester=reference(visit.post.role, visit.post.label),
        reasonReference=[reference(reason)] if reason else None,
        groupIdentifier=identifier(sid("prescription-no"), group),
        dosageInstruction=[dosage],
        dispenseRequest={
            "validityPeriod": {
                "start": stamp(authored),
                "end": stamp(authored + datetime.timedelta(days=3)),
            },
            "numberOfRepeatsAllowed": 0,
            "quantity": drugs.base_quantity(drug, amount),
            "expectedSupplyDuration": quantity(days, "天", "d"),
            "performer": reference(PHARMACY_ORGANIZATION, "药学部"),
        },
        substitution={"allowedBoolean": False},
    )
    visit.add(request)
    handed = authored + datetime.timedelta(minutes=40)
    dispense = resource(
        "MedicationDispense",
        chart.new_id("MedicationDispense"),
        status="completed",
        category=concept(coding("http://terminology.hl7.org/fhir/CodeSystem/medicationdispense-category", category)),
        medicationCodeableConcept=drugs.snapshot(drug),
        subject=chart.subject(),
        context=reference(visit.reference),
        performer=[
            _performer("packager", "Packager", "role-30002-pharmacy"),
            _performer("finalchecker", "Final Checker", "role-30001-pharmacy"),
        ],
        location=reference(PHARMACY, "门诊药房"),
        authorizingPrescription=[reference(request)],
        quantity=drugs.base_quantity(drug, amount),
        daysSupply=quantity(days, "天", "d"),
        whenPrepared=stamp(authored + datetime.timedelta(minutes=25)),
        whenHandedOver=stamp(handed),
        dosageInstruction=[dosage],
    )
    visit.add(dispense)
    chart.world.stock.demand(handed, drug, amount, dispense)
    packs = amount if drug.form == "herb" else amount / drug.pack
    visit.charge(f"drug-{drug.key}", f"{drug.zh} {drug.specification}", str(drug.price), "pharmacy", packs)
    return request


def _performer(code: str, display: str, role: str) -> JSON:
    function = concept(coding(hl7("medicationdispense-performer-function"), code, display))
    return present(function=function, actor=reference(f"PractitionerRole/{role}"))
