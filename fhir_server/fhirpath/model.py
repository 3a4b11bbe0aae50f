"""What FHIRPath needs to know of R4's types: elements, their types and JSON names, and the hierarchy of types.

R4 fhirpath.html (types and choice elements), json.html (JSON names). Read from the committed definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fhir_server.definitions import structures

# JSON has native members for these; everything else that is primitive is a JSON string.
NUMERIC = frozenset({"integer", "positiveInt", "unsignedInt", "decimal"})
TEMPORAL = {"date": "Date", "dateTime": "DateTime", "instant": "DateTime", "time": "Time"}
SYSTEM_OF_PRIMITIVE = {
    "boolean": "Boolean",
    "integer": "Integer", "positiveInt": "Integer", "unsignedInt": "Integer",
    "decimal": "Decimal",
    "date": "Date", "dateTime": "DateTime", "instant": "DateTime", "time": "Time",
}  # fmt: skip
SYSTEM_TYPES = frozenset({"Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"})


@dataclass(frozen=True, slots=True)
class Element:
    """An element as FHIRPath sees it.

    `keys` maps each JSON member to its type: ``{"birthDate": "date"}``, ``{"valueQuantity": "Quantity", ...}``. The
    type of a backbone element is its path ("Patient.contact"), of a contained resource "Resource".
    """

    name: str
    keys: dict[str, str]
    choice: bool
    many: bool
    maximum: int | None = None
    minimum: int = 0

    @property
    def types(self) -> tuple[str, ...]:
        """The types this element may have."""
        return tuple(self.keys.values())

    def key_of(self, type_name: str) -> str | None:
        """The JSON member for a value of exactly `type_name`."""
        for key, candidate in self.keys.items():
            if candidate == type_name:
                return key
        return None


@cache
def elements(type_name: str) -> dict[str, Element]:
    """FHIRPath name -> Element of a type or backbone path; empty for a name that R4 does not have."""
    definition = structures().get(type_name)
    if definition is None:
        return {}
    found: dict[str, Element] = {}
    for name, item in definition["elements"].items():
        reference = item.get("ref")
        types = [reference] if reference else item["types"]
        choice = bool(item.get("choice"))
        keys = {name + each[0].upper() + each[1:]: each for each in types} if choice else {name: types[0]}
        found[name] = Element(name, keys, choice, item["max"] != 1, item["max"], item["min"])
    return found


def element(type_name: str, name: str) -> Element | None:
    """The element `name` of a type, None when R4 has none. A choice also answers to its JSON name."""
    found = elements(type_name).get(name)
    if found is not None:
        return found
    entry = json_members(type_name).get(name)
    if entry is not None and entry[0].choice:
        key_type = entry[1]
        return Element(name, {name: key_type}, False, entry[0].many, entry[0].maximum, 0)
    return None


@cache
def json_members(type_name: str) -> dict[str, tuple[Element, str]]:
    """JSON member -> (Element, type), without the ``_`` siblings."""
    return {key: (item, type_) for item in elements(type_name).values() for key, type_ in item.keys.items()}


@cache
def is_known(type_name: str) -> bool:
    """Whether R4 has this type, resource or backbone path."""
    return type_name in structures()


@cache
def is_primitive(type_name: str) -> bool:
    """Whether a type is one of R4's primitives (xhtml among them)."""
    definition = structures().get(type_name)
    return definition is not None and definition["kind"] == "primitive"


@cache
def is_resource(type_name: str) -> bool:
    """Whether a type is a resource, abstract ones included."""
    definition = structures().get(type_name)
    return definition is not None and definition["kind"] == "resource"


@cache
def is_abstract(type_name: str) -> bool:
    """Whether instances say themselves what they are: Resource, DomainResource, Element, BackboneElement."""
    definition = structures().get(type_name)
    return definition is not None and bool(definition.get("abstract"))


@cache
def ancestors(type_name: str) -> frozenset[str]:
    """A type and everything it specializes: Age, Quantity, Element."""
    found: set[str] = set()
    current: str | None = type_name
    while current and current not in found:
        found.add(current)
        definition = structures().get(current)
        current = definition.get("base") if definition else None
    return frozenset(found)


def is_subtype(type_name: str, of: str) -> bool:
    """Whether `type_name` is `of` or a specialization of it."""
    return type_name == of or of in ancestors(type_name)


@cache
def canonical_type(name: str) -> str | None:
    """R4's spelling of a type name (its own search parameters write ``as(DateTime)``); None for no such type."""
    known = structures()
    if name in known:
        return name
    lowered = name[:1].lower() + name[1:]
    if lowered in known and is_primitive(lowered):
        return lowered
    return None
