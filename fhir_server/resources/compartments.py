"""Compartments: which resources belong to a patient, an encounter, a practitioner, a device, a related person.

R4 compartmentdefinition.html. Membership is by search parameters: ``search/membership.py`` makes predicates of these
tables. A resource is in its own compartment, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from fhir_server import definitions


def is_compartment(name: str) -> bool:
    """Whether R4 defines a compartment of that type."""
    return name in definitions.compartments()


def names() -> tuple[str, ...]:
    """The compartments of R4."""
    return tuple(definitions.compartments())


@cache
def _memberships(name: str) -> Mapping[str, tuple[str, ...]]:
    table = {type_: tuple(params) for type_, params in definitions.compartments()[name].items()}
    table.setdefault(name, ())
    return table


def member_types(name: str) -> tuple[str, ...]:
    """The types that can be in a compartment, sorted; its own among them."""
    return tuple(sorted(_memberships(name)))


def member_params(name: str, type_: str) -> tuple[str, ...]:
    """Codes of the search parameters that make a resource of `type_` a member. Raises KeyError when none can be."""
    return tuple(code for code in _memberships(name)[type_] if code != "{def}")
