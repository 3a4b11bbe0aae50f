"""Prices, charges and invoices, in CNY with two digits after the point. Kernels K14 and K16."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from seed.base import JSON, coding, concept, identifier, quantity, reference, resource, sid, stamp, yuan
from seed.drugs import price_definition_url
from seed.formulary import DRUGS
from seed.hospital import HOSPITAL
from seed.identifiers import business_number
from seed.terminology.laboratory import PANELS
from seed.terminology.local import SYSTEMS, local_concept

if TYPE_CHECKING:
    from seed.visit import Visit

#: mode -> title -> CNY
CONSULTATION: Final = {
    "clinic": {"resident": "20.00", "attending": "30.00", "associate-chief": "50.00", "chief": "80.00"},
    "text": {"resident": "19.90", "attending": "29.90", "associate-chief": "49.90", "chief": "79.90"},
    "video": {"resident": "39.90", "attending": "59.90", "associate-chief": "99.90", "chief": "129.90"},
    "phone": {"resident": "29.90", "attending": "39.90", "associate-chief": "69.90", "chief": "99.90"},
}
_MODES: Final = {"clinic": "门诊挂号", "text": "图文问诊", "video": "视频问诊", "phone": "电话问诊"}
_EMERGENCY: Final = "35.00"


@dataclass(frozen=True, slots=True)
class Charge:
    """Something to be paid: `price` is for one, `count` how many."""

    key: str
    title: str
    price: Decimal
    kind: str
    count: Decimal


def definitions(since: datetime.date) -> Iterator[JSON]:
    """ChargeItemDefinitions of consultations and laboratory panels; those of drugs are `drugs.prices`."""
    for mode, titles in CONSULTATION.items():
        for title, price in titles.items():
            zh = SYSTEMS["doctor-title"][2][title][1]
            name = f"price-{mode}-{title}"
            condition = "%context.participant.individual.resolve().code.coding.where(code = '" + title + "').exists()"
            yield _definition(
                name,
                f"{_MODES[mode]} {zh}",
                price,
                since,
                [{"description": f"{zh}的{_MODES[mode]}", "language": "text/fhirpath", "expression": condition}],
            )
    for panel in PANELS.values():
        yield _definition(f"price-lab-{panel.key}", panel.zh, panel.price, since, None)


def _definition(name: str, title: str, price: str, since: datetime.date, applicability: list[JSON] | None) -> JSON:
    return resource(
        "ChargeItemDefinition",
        name,
        url=price_definition_url(name),
        version="1",
        title=title,
        status="active",
        experimental=True,
        effectivePeriod={"start": since.isoformat()},
        code=concept(text=title),
        applicability=applicability,
        propertyGroup=[{"priceComponent": [{"type": "base", "amount": yuan(price)}]}],
    )


def _consultation(visit: Visit) -> Charge | None:
    if visit.kind == "EMER":
        return Charge("emergency", "急诊诊察费", Decimal(_EMERGENCY), "registration", Decimal(1))
    if visit.kind == "IMP" or not visit.place:
        return None
    mode = "clinic"
    if visit.kind == "VR":
        mode = {"cardiology": "text", "general": "phone"}.get(visit.post.department.key, "video")
    price = Decimal(CONSULTATION[mode][visit.post.title])
    kind = "registration" if mode == "clinic" else "consultation"
    return Charge(f"{mode}-{visit.post.title}", _MODES[mode], price, kind, Decimal(1))


def bill(visit: Visit) -> list[JSON]:
    """The ChargeItems of a visit and one balanced Invoice per kind of charge."""
    first = _consultation(visit)
    charges = ([first] if first else []) + visit.charges
    chart = visit.chart
    out: list[JSON] = []
    for kind in dict.fromkeys(item.kind for item in charges):
        lines: list[JSON] = []
        total = Decimal("0.00")
        for charge in (item for item in charges if item.kind == kind):
            item = _item(visit, charge)
            amount = (charge.price * charge.count).quantize(Decimal("0.01"))
            total += amount
            out.append(item)
            lines.append(
                {
                    "sequence": len(lines) + 1,
                    "chargeItemReference": reference(item, charge.title),
                    "priceComponent": [{"type": "base", "factor": charge.count, "amount": yuan(amount)}],
                }
            )
        out.append(
            resource(
                "Invoice",
                chart.new_id("Invoice"),
                identifier=[
                    identifier(
                        sid("order-no"), business_number("P", visit.day, chart.person.number, visit.number, kind)
                    )
                ],
                status="balanced",
                type=local_concept("invoice-type", kind),
                subject=chart.subject(),
                recipient=chart.subject(),
                date=stamp(visit.end + datetime.timedelta(minutes=5)),
                issuer=reference(HOSPITAL),
                lineItem=lines,
                totalNet=yuan(total),
                totalGross=yuan(total),
            )
        )
    return out


def _item(visit: Visit, charge: Charge) -> JSON:
    chart = visit.chart
    drug = DRUGS.get(charge.key.removeprefix("drug-")) if charge.key.startswith("drug-") else None
    count = (
        charge.count.normalize()
        if charge.count != charge.count.to_integral_value()
        else charge.count.quantize(Decimal(1))
    )
    known = drug is not None or charge.key.startswith(("lab-", "clinic-", "text-", "video-", "phone-"))
    url = price_definition_url(f"price-{charge.key}")
    return resource(
        "ChargeItem",
        chart.new_id("ChargeItem"),
        definitionCanonical=[url] if known else None,
        status="billed",
        code=concept(coding(sid("drug-code"), drug.code, drug.zh), text=charge.title)
        if drug
        else concept(text=charge.title),
        subject=chart.subject(),
        context=reference(visit.reference),
        occurrenceDateTime=stamp(visit.end),
        performingOrganization=reference(visit.post.department.reference, visit.post.department.zh),
        quantity=quantity(count, "g", "g") if drug and drug.form == "herb" else {"value": count},
        priceOverride=yuan((charge.price * charge.count).quantize(Decimal("0.01"))),
        overrideReason="目录价",
        productReference=reference(drug.reference, drug.zh) if drug else None,
        enteredDate=stamp(visit.end),
    )
