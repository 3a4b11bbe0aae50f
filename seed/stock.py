"""The stock ledger behind dispensing: lots, receipts, write-offs. Kernel K15.

The ledger opens with a stock-taking two years ago; what was dispensed before is not posted. Every dispensing after
that takes one lot, the one that expires first and holds enough, and orders arrive before a shelf is empty, so that at
no time and in no lot the balance is negative.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from seed import drugs
from seed.base import JSON, at, extension, identifier, reference, resource, sid, stamp, structure
from seed.formulary import DRUGS, Drug
from seed.hospital import SUPPLIER, WAREHOUSE
from seed.identifiers import business_number
from seed.terminology.local import local

LEDGER_DAYS: Final = 730
_SHELF_LIFE_DAYS: Final = 540
_ORDER_PACKS: Final = 20


@dataclass(slots=True)
class Lot:
    """One lot and what is left of it."""

    number: str
    lot_id: str
    expires: datetime.date
    left: Decimal


@dataclass(slots=True)
class Demand:
    """A dispensing that waits for its lot."""

    when: datetime.datetime
    drug: str
    amount: Decimal
    dispense: JSON


@dataclass(slots=True)
class Stock:
    """Collects demands while patients are simulated; `settle` posts them in order of time."""

    today: datetime.date
    demands: list[Demand] = field(default_factory=list)
    _lots: dict[str, list[Lot]] = field(default_factory=dict)
    _movements: list[JSON] = field(default_factory=list)
    _count: int = 0

    @property
    def opened(self) -> datetime.date:
        """The day of the stock-taking."""
        return self.today - datetime.timedelta(days=LEDGER_DAYS)

    def demand(self, when: datetime.datetime, drug: Drug, amount: Decimal, dispense: JSON) -> None:
        """Notes what was dispensed; the lot is written into `dispense` by `settle`."""
        if when.date() > self.opened:
            self.demands.append(Demand(when, drug.key, amount, dispense))

    def settle(self) -> None:
        """Posts all demands, orders what is needed and writes off what expired."""
        by_drug: dict[str, list[Demand]] = {}
        for item in sorted(self.demands, key=lambda item: (item.when, item.dispense["id"])):
            by_drug.setdefault(item.drug, []).append(item)
        for drug in DRUGS.values():
            self._receive(drug, self.opened, "adjust-in", _SHELF_LIFE_DAYS + 17 * (drug.number % 13), Decimal(0))
            for item in by_drug.get(drug.key, []):
                self._post(drug, item)
            self._write_off(drug, self.today)
            if not any(lot.left for lot in self._lots[drug.key]):
                self._receive(
                    drug, self.today - datetime.timedelta(days=1), "purchase-in", _SHELF_LIFE_DAYS, Decimal(0)
                )

    def _post(self, drug: Drug, item: Demand) -> None:
        day = item.when.date()
        self._write_off(drug, day)
        usable = [lot for lot in self._lots[drug.key] if lot.left >= item.amount]
        if not usable:
            self._receive(drug, day - datetime.timedelta(days=1), "purchase-in", _SHELF_LIFE_DAYS, item.amount)
            usable = [self._lots[drug.key][-1]]
        lot = min(usable, key=lambda lot: (lot.expires, lot.number))
        lot.left -= item.amount
        item.dispense.setdefault("extension", []).append(
            extension(structure("dispensed-lot"), valueReference=reference(f"Medication/{lot.lot_id}", lot.number))
        )

    def _receive(self, drug: Drug, day: datetime.date, movement: str, shelf_life: int, at_least: Decimal) -> None:
        lots = self._lots.setdefault(drug.key, [])
        amount = max(Decimal(drug.pack if drug.form != "herb" else 500) * _ORDER_PACKS, at_least * 3)
        number = f"{day:%y%m%d}{drug.number:02d}{len(lots) + 1}"
        expires = day + datetime.timedelta(days=shelf_life)
        lot = Lot(number, f"lot-{drug.key}-{len(lots) + 1}", expires, amount)
        lots.append(lot)
        self._move(drug, lot, day, movement, amount)

    def _write_off(self, drug: Drug, day: datetime.date) -> None:
        for lot in self._lots[drug.key]:
            if lot.left and lot.expires <= day:
                self._move(drug, lot, lot.expires, "scrap-out", lot.left)
                lot.left = Decimal(0)

    def _move(self, drug: Drug, lot: Lot, day: datetime.date, movement: str, amount: Decimal) -> None:
        self._count += 1
        inward = movement.endswith("-in")
        order = business_number("SI" if inward else "SO", day, drug.key, self._count)
        self._movements.append(
            resource(
                "SupplyDelivery",
                f"stock-{self._count:04d}",
                extension=[extension(structure("movement-type"), valueCoding=local("movement-type", movement))],
                identifier=[identifier(sid("stock-order-no"), order)],
                status="completed",
                type={
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/supply-item-type",
                            "code": "medication",
                            "display": "Medication",
                        }
                    ]
                },
                suppliedItem={
                    "quantity": drugs.base_quantity(drug, amount),
                    "itemReference": reference(f"Medication/{lot.lot_id}", f"{drug.zh} {lot.number}"),
                },
                occurrenceDateTime=stamp(at(day, 7, 30)),
                supplier=reference(SUPPLIER) if movement == "purchase-in" else None,
                destination=reference(WAREHOUSE) if inward else None,
                receiver=[reference("PractitionerRole/role-30001-pharmacy")] if inward else None,
            )
        )

    def on_hand(self, drug: Drug) -> Decimal:
        """What is left of a drug over all lots, in base units."""
        return sum((lot.left for lot in self._lots[drug.key]), Decimal(0))

    def lots(self) -> Iterator[JSON]:
        """All lots, those used up or expired among them."""
        for drug in DRUGS.values():
            for item in self._lots[drug.key]:
                yield drugs.lot(drug, item.number, item.lot_id, item.expires, item.expires > self.today)

    def movements(self) -> list[JSON]:
        """All SupplyDeliveries."""
        return self._movements
