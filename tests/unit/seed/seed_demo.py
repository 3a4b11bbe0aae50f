"""The demo hospital as tests look at it: generated once, decoded from the bytes that a server would get."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

import seed

_decoder = msgspec.json.Decoder(float_hook=Decimal)


def references(value: Any) -> Iterator[str]:
    """All literal references below a value."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


class Demo:
    """Bundles and, by type and by "Type/id", their resources."""

    def __init__(self, **arguments: Any) -> None:
        self.bundles = [_decoder.decode(seed.encode(bundle)) for bundle in seed.bundles(**arguments)]
        self.resources = [entry["resource"] for bundle in self.bundles for entry in bundle["entry"]]
        self.by_reference = {f"{item['resourceType']}/{item['id']}": item for item in self.resources}
        self.by_type: dict[str, list[dict[str, Any]]] = {}
        for item in self.resources:
            self.by_type.setdefault(item["resourceType"], []).append(item)

    def of(self, resource_type: str) -> list[dict[str, Any]]:
        """All resources of a type."""
        return self.by_type[resource_type]

    def __getitem__(self, reference: str) -> dict[str, Any]:
        return self.by_reference[reference]

    def patient_of(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """The Patient a resource is about, if it is about one."""
        about = item.get("subject") or item.get("patient") or item.get("beneficiary")
        if about is None and item["resourceType"] == "Appointment":
            about = next(
                part["actor"] for part in item["participant"] if part["actor"]["reference"].startswith("Patient/")
            )
        if about is None or not about["reference"].startswith("Patient/"):
            return None
        return self[about["reference"]]


def day(text: str) -> datetime.date:
    """The date of a FHIR date or dateTime of at least day precision."""
    return datetime.date.fromisoformat(text[:10])


def age(patient: dict[str, Any], on: datetime.date) -> int:
    """Completed years."""
    birth = day(patient["birthDate"])
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))
