"""The drug catalogue as resources: products, knowledge, prices. Kernel K14; lots and stock are `stock`'s."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from seed.base import (
    ATC,
    CANONICAL_BASE,
    JSON,
    coding,
    concept,
    extension,
    identifier,
    present,
    quantity,
    reference,
    resource,
    sid,
    structure,
    yuan,
)
from seed.formulary import DRUGS, FREQUENCIES, ROUTES, Drug
from seed.hospital import REGULATOR
from seed.identifiers import approval_number, barcode
from seed.terminology.local import SYSTEMS, local, local_concept

_STRENGTH: Final = re.compile(r"([0-9.]+) (mg|ug|g)")


def code(drug: Drug) -> JSON:
    """What the drug is, as a CodeableConcept: drug code of the hospital, ATC, Chinese generic name."""
    codings = [coding(sid("drug-code"), drug.code, drug.zh)]
    if drug.atc:
        codings.append(coding(ATC, drug.atc, drug.en))
    return concept(*codings, text=drug.zh)


def snapshot(drug: Drug) -> JSON:
    """The same with the specification of the day, which later changes of the catalogue must not alter."""
    return code(drug) | {"text": f"{drug.zh} {drug.specification}"}


def base_quantity(drug: Drug, value: Decimal | int) -> JSON:
    """A quantity in base units."""
    return quantity(value, *drug.unit)


def dosage(drug: Drug, dose: Decimal | None = None, text: str | None = None) -> JSON:
    """The usual Dosage, or another dose; as needed for drugs that are."""
    amount = drug.dose if dose is None else dose
    chinese, times, every, unit, when = FREQUENCIES[drug.frequency]
    as_needed = drug.frequency == "PRN"
    repeat = present(frequency=times, period=every, periodUnit=unit, when=[when] if when else None)
    timing: JSON | None = {"repeat": repeat}
    if drug.frequency in ("QD", "BID", "TID", "AM", "BED", "WK"):
        timing = {"repeat": repeat, "code": concept(_timing_code(drug.frequency), text=chinese)}
    words = text or f"{ROUTES[drug.route]['text']}，每次{amount}{drug.unit[0]}，{chinese}"
    return present(
        sequence=1,
        text=words,
        timing=None if as_needed else timing,
        asNeededBoolean=True if as_needed else None,
        route=ROUTES[drug.route],
        doseAndRate=[
            {
                "type": concept(coding("http://terminology.hl7.org/CodeSystem/dose-rate-type", "ordered", "Ordered")),
                "doseQuantity": base_quantity(drug, amount),
            }
        ],
    )


def _timing_code(frequency: str) -> JSON:
    display = {"BED": "at bedtime", "WK": "weekly"}.get(frequency, frequency)
    return coding("http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation", frequency, display)


def _maker(drug: Drug) -> JSON:
    if drug.is_chinese:
        return reference("Organization/maker-3", "示例中药厂")
    if drug.form in ("injection", "inhaler"):
        return reference("Organization/maker-2", "示例生物制药公司")
    return reference("Organization/maker-1", "示例第一制药厂")


def _ingredients(drug: Drug) -> list[JSON] | None:
    if drug.atc is None:
        return None
    strength = None
    if drug.strength and (match := _STRENGTH.fullmatch(drug.strength)):
        strength = {
            "numerator": quantity(Decimal(match[1]), match[2]),
            "denominator": base_quantity(drug, 1),
        }
    substance = concept(coding(ATC, drug.atc, drug.en), text=drug.en)
    return [present(itemCodeableConcept=substance, isActive=True, strength=strength)]


def product(drug: Drug, on_hand: Decimal) -> JSON:
    """The product's Medication: no batch; what is in stock as read-only extension (K15)."""
    amount = {"numerator": base_quantity(drug, drug.pack), "denominator": quantity(1, "盒", "{box}")}
    return resource(
        "Medication",
        f"drug-{drug.key}",
        extension=[extension(structure("stock-on-hand"), valueQuantity=base_quantity(drug, on_hand))],
        identifier=[
            identifier(sid("nmpa-approval"), approval_number(drug.number, drug.is_chinese), text="批准文号"),
            identifier("https://www.gs1.org/gtin", barcode(drug.number)),
        ],
        code=code(drug),
        status="active",
        manufacturer=_maker(drug),
        form=drug.form_concept(),
        amount=None if drug.form == "herb" else amount,
        ingredient=_ingredients(drug),
    )


def lot(drug: Drug, number: str, lot_id: str, expires: datetime.date, usable: bool) -> JSON:
    """A lot: a Medication of its own with the same code, tied to the product."""
    return resource(
        "Medication",
        lot_id,
        extension=[extension(structure("product"), valueReference=reference(drug.reference, drug.zh))],
        code=code(drug),
        status="active" if usable else "inactive",
        manufacturer=_maker(drug),
        form=drug.form_concept(),
        batch={"lotNumber": number, "expirationDate": expires.isoformat()},
    )


def knowledge(drug: Drug) -> JSON:
    """The product's MedicationKnowledge."""
    kind = "chinese" if drug.is_chinese else "western"
    schedule = local_concept("drug-control-class", drug.control)
    warning = drug.contraindication
    classes = [
        {
            "type": concept(text="药品分类"),
            "classification": [concept(*([coding(ATC, drug.atc, drug.en)] if drug.atc else []), text=drug.category)],
        }
    ]
    return resource(
        "MedicationKnowledge",
        f"know-{drug.key}",
        extension=[extension(structure("contraindication-text"), valueMarkdown=warning)] if warning else None,
        code=code(drug),
        status="active",
        manufacturer=_maker(drug),
        doseForm=drug.form_concept(),
        amount=None if drug.form == "herb" else base_quantity(drug, drug.pack),
        synonym=[drug.en],
        associatedMedication=[reference(drug.reference, drug.zh)],
        productType=[concept(local("prescription-type", kind), text=SYSTEMS["prescription-type"][2][kind][1])],
        intendedRoute=[ROUTES[drug.route]],
        cost=[{"type": concept(text="零售价"), "cost": yuan(drug.price)}],
        administrationGuidelines=[
            {"dosage": [{"type": concept(text="常用剂量"), "dosage": [dosage(drug)]}]},
        ],
        medicineClassification=classes,
        packaging=present(
            type=concept(text=drug.specification), quantity=base_quantity(drug, drug.pack) if drug.pack > 1 else None
        ),
        drugCharacteristic=[
            {
                "type": concept(text="储存条件"),
                "valueString": "2~8℃避光保存" if drug.form == "injection" else "密封，在阴凉干燥处保存",
            }
        ],
        regulatory=[{"regulatoryAuthority": reference(REGULATOR), "schedule": [{"schedule": schedule}]}],
    )


def price_definition_url(name: str) -> str:
    """Canonical of a price."""
    return f"{CANONICAL_BASE}/ChargeItemDefinition/{name}"


def prices(since: datetime.date) -> Iterator[JSON]:
    """One ChargeItemDefinition per product."""
    for drug in DRUGS.values():
        name = f"price-drug-{drug.key}"
        yield resource(
            "ChargeItemDefinition",
            name,
            url=price_definition_url(name),
            version="1",
            title=f"{drug.zh} {drug.specification}",
            status="active",
            experimental=True,
            effectivePeriod={"start": since.isoformat()},
            code=code(drug),
            instance=[reference(drug.reference)],
            propertyGroup=[{"priceComponent": [{"type": "base", "amount": yuan(drug.price)}]}],
        )
