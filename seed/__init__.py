"""The demo hospital: deterministic FHIR R4 transaction Bundles of an invented hospital and its invented patients.

Knows FHIR's shapes but none of the other packages: what it yields goes through the same door as anybody's Bundles.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from seed import world

#: The day on which the demo plays unless told otherwise: a Monday.
TODAY: Final = datetime.date(2026, 1, 5)
#: Entries of one Bundle at most; a visit with all that belongs to it is never torn apart.
BUNDLE_SIZE: Final = 200

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


def bundles(
    *, patients: int = 60, seed: int = 20260101, today: datetime.date | None = None
) -> Iterator[dict[str, Any]]:
    """Transaction Bundles, to be executed in this order: the hospital first, then patient after patient.

    Every entry is ``PUT Type/id`` with an id of its own, so that executing them twice changes nothing. Every reference
    is a literal ``Type/id`` to the same or an earlier Bundle. The same arguments give the same Bundles, in any process.
    `today` is the day the demo plays (default TODAY): nothing that has happened is later, and the coming fortnight of
    the rota begins with it. Numbers with a fraction are `decimal.Decimal` whose digits count; use `encode`.

    Raises ValueError when `patients` is negative.
    """
    if patients < 0:
        raise ValueError("patients must not be negative")
    return _bundles(world.groups(patients, seed, today or TODAY))


def _bundles(groups: Iterator[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for group in groups:
        if len(entries) + len(group) > BUNDLE_SIZE and entries:
            yield {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            entries = []
        entries.extend(_entry(item) for item in group)
    if entries:
        yield {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _entry(item: dict[str, Any]) -> dict[str, Any]:
    return {"resource": item, "request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}}


def encode(bundle: dict[str, Any]) -> bytes:
    """A Bundle as JSON in UTF-8, decimals as numbers with all their digits."""
    return _encoder.encode(bundle)


__all__ = ["BUNDLE_SIZE", "TODAY", "bundles", "encode"]
