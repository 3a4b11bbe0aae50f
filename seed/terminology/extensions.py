"""StructureDefinitions of the local extensions of kernels 1.30: differential only, one value each but `read-state`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from seed.base import JSON, present, resource, structure

#: name -> (element it extends, type of its value, what it says)
EXTENSIONS: Final[dict[str, tuple[str, str, str]]] = {
    "hold-expires": ("Slot", "instant", "When a place held for payment becomes free again."),
    "organization-description": ("Organization", "markdown", "What the hospital or department says about itself."),
    "practitioner-bio": ("Practitioner", "markdown", "Biography of a practitioner."),
    "call-end": ("Communication", "dateTime", "When a call ended."),
    "herbal-doses": ("MedicationRequest", "positiveInt", "Number of doses of a Chinese herbal prescription."),
    "decoction": ("MedicationRequest", "string", "How the herbs are to be prepared."),
    "dispensed-lot": ("MedicationDispense", "Reference(Medication)", "The lot that was handed over."),
    "collected-by": ("MedicationDispense", "Reference(RelatedPerson)", "Who collected the drugs for the patient."),
    "product": ("Medication", "Reference(Medication)", "The product that this lot belongs to."),
    "contraindication-text": (
        "MedicationKnowledge",
        "markdown",
        "Contraindications as the package insert has them.",
    ),
    "stock-on-hand": (
        "Medication",
        "Quantity",
        "What is in stock, over all lots and locations; read-only.",
    ),
    "movement-type": ("SupplyDelivery", "Coding", "Kind of stock movement."),
    "credit-of": ("Invoice", "Reference(Invoice)", "The invoice that this credit note takes back."),
    "data-source": ("Observation", "Coding", "How a value was obtained."),
    "setting-value": ("Basic", "string", "The value of a setting, as JSON text."),
}


def _definition(name: str, context: str, purpose: str, differential: list[JSON], date: str) -> JSON:
    return resource(
        "StructureDefinition",
        name,
        url=structure(name),
        version="1.0.0",
        name="".join(part.capitalize() for part in name.split("-")),
        title=name.replace("-", " ").capitalize(),
        status="active",
        experimental=False,
        date=date,
        publisher="Hestia",
        description=purpose,
        fhirVersion="4.0.1",
        kind="complex-type",
        abstract=False,
        context=[{"type": "element", "expression": context}],
        type="Extension",
        baseDefinition="http://hl7.org/fhir/StructureDefinition/Extension",
        derivation="constraint",
        differential={"element": differential},
    )


def _root(purpose: str) -> JSON:
    return {"id": "Extension", "path": "Extension", "short": purpose, "definition": purpose, "min": 0, "max": "1"}


def _value(type_name: str, path: str = "Extension") -> JSON:
    code, _, target = type_name.rstrip(")").partition("(")
    targets = [f"http://hl7.org/fhir/StructureDefinition/{target}"] if target else None
    return {
        "id": f"{path}.value[x]",
        "path": "Extension.extension.value[x]" if ":" in path else "Extension.value[x]",
        "min": 1,
        "type": [present(code=code, targetProfile=targets)],
    }


def resources(date: str) -> Iterator[JSON]:
    """One StructureDefinition each."""
    for name, (context, type_name, purpose) in EXTENSIONS.items():
        elements = [
            _root(purpose),
            {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
            {"id": "Extension.url", "path": "Extension.url", "fixedUri": structure(name)},
            _value(type_name),
        ]
        yield _definition(name, context, purpose, elements, date)
    purpose = "How far one participant has read a thread."
    slices: list[JSON] = [_root(purpose)]
    for part, type_name in (("participant", "Reference"), ("lastRead", "instant")):
        path = f"Extension.extension:{part}"
        slices += [
            {"id": path, "path": "Extension.extension", "sliceName": part, "min": 1, "max": "1"},
            {"id": f"{path}.url", "path": "Extension.extension.url", "fixedUri": part},
            _value(type_name, path),
        ]
    slices += [
        {"id": "Extension.url", "path": "Extension.url", "fixedUri": structure("read-state")},
        {"id": "Extension.value[x]", "path": "Extension.value[x]", "max": "0"},
    ]
    yield _definition("read-state", "Communication", purpose, slices, date)
