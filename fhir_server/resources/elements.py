"""Types of JSON members, read off R4's StructureDefinitions. R4 json.html: choices carry their type in the name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_server.definitions import structures


class MemberElement(NamedTuple):
    """What a JSON member is: the element's name without a choice's type, its definition and its type.

    `type` is a type name, or the path of a backbone element ("Patient.contact").
    """

    name: str
    element: Mapping[str, Any]
    type: str


@lru_cache(maxsize=4096)
def members(type_name: str) -> Mapping[str, MemberElement]:
    """JSON member -> element of a type or backbone element; empty for primitives and what R4 does not know."""
    found: dict[str, MemberElement] = {}
    structure = structures().get(type_name)
    for name, element in (structure or {}).get("elements", {}).items():
        types = element.get("types") or [""]
        if element.get("choice"):
            for one in types:
                found[name + one[0].upper() + one[1:]] = MemberElement(name, element, one)
        else:
            found[name] = MemberElement(name, element, element.get("ref") or types[0])
    return found


def member_type(resource: Mapping[str, Any], path: Sequence[str | int]) -> str:
    """The type of the element at a JSON path; "" where R4 knows none."""
    value: Any = resource
    type_name = str(resource.get("resourceType", ""))
    for step in path:
        if isinstance(step, str):
            if isinstance(value, dict) and isinstance(value.get("resourceType"), str):
                type_name = value["resourceType"]
            known = members(type_name).get(step.removeprefix("_"))
            if known is None:
                return ""
            type_name = "Element" if step.startswith("_") else known.type
        value = value[step]
    return type_name
