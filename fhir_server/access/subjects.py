"""Whose a resource is: the search parameters that lead to the patient it is about, per resource type.

R4 compartmentdefinition-patient.html also counts who performed, sent, received or recorded a thing. A guardian who is
the sender of a message or the receiver of a drug would pull a child's data into her or his own compartment; so only
the subject's path counts here. Types that R4 leaves out although they are about a patient are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from fhir_server import definitions
from fhir_server.search.ast import Compare, Exists, Field, Node, Or
from fhir_server.search.registry import Registry, builtin

REVIEWED: Final[Mapping[str, tuple[str, ...]]] = {
    "Patient": (),  # itself; `link` leads to other records of what may be somebody else
    "AuditEvent": ("entity",),  # `patient` has agents too: an event of a refused look would tell its agent whose it is
    "Coverage": ("beneficiary",),  # subscriber, policy holder and payor are whoever pays
    "SupplyRequest": ("subject",),
    "Device": ("patient",),
    "Task": ("patient",),  # Task.for; focus may be anything
    "GuidanceResponse": ("patient",),
    "Contract": ("patient",),
    "VerificationResult": ("target",),
    "MeasureReport": ("patient",),
}
"""Decisions that the rule below would not come to."""

NOBODYS: Final = frozenset(("Group", "Person", "Schedule"))
"""In R4's compartment and not in ours: a Group tells of its other members, a Person is an identity with links to
several records, a Schedule is the hospital's."""


DEMOGRAPHICS: Final = frozenset(("Patient", "RelatedPerson"))
"""Who somebody is: no clinical content that a code or a time could tell apart."""

_KINDS: Final[Mapping[str, str]] = {
    "AdverseEvent": "event",
    "Appointment": "reason-code",
    "Composition": "type",
    "Device": "type",
    "DocumentReference": "type",
    "Encounter": "reason-code",
    "Immunization": "vaccine-code",
    "Specimen": "type",
}
"""The parameter that says what a resource is of, where it is not called `code`."""


@cache
def coded(resource_type: str) -> tuple[str, ...]:
    """Codes of the parameters in which coded content is found; () for a type whose kind of content none of them has."""
    params = builtin().params(resource_type)
    if _KINDS.get(resource_type, "code") not in params:
        return ()
    return tuple(
        code
        for code, param in params.items()
        if param.type == "token"
        and not code.startswith("_")
        and any(branch.type in ("CodeableConcept", "Coding") for branch in param.branches or ())
    )


@cache
def dated(resource_type: str) -> tuple[str, ...]:
    """Codes of the parameters that say of which time a resource's data are."""
    if resource_type in DEMOGRAPHICS:
        return ()
    params = builtin().params(resource_type)
    return tuple(code for code, param in params.items() if param.type == "date" and not code.startswith("_"))


@cache
def table() -> Mapping[str, tuple[str, ...]]:
    """Resource type -> codes of the parameters that lead to its patient; () for Patient, which is its own.

    Of a member of R4's compartment it is `patient` where the type has that parameter (it is the subject, as far as it
    is a Patient), else `subject`.
    """
    found = dict(REVIEWED)
    for name in definitions.compartments()["Patient"]:
        if name in found or name in NOBODYS:
            continue
        codes = builtin().params(name)
        found[name] = ("patient",) if "patient" in codes else ("subject",)
    return dict(sorted(found.items()))


def numbers(registry: Registry, resource_type: str) -> tuple[int, ...]:
    """The numbers of the index entries that hold the patient of a resource; () for what is about none."""
    found: dict[int, None] = {}
    for code in table().get(resource_type, ()):
        param = registry.param(resource_type, code)
        assert param is not None
        found.update(dict.fromkeys(param.numbers))
    return tuple(found)


def belongs(registry: Registry, resource_type: str, addresses: tuple[str, ...]) -> Node:
    """The predicate "is about one of these patients" (``Patient/x``); never holds for none."""
    if not addresses:
        return Or(())
    if resource_type == "Patient":
        return Field("address", "=", addresses[0]) if len(addresses) == 1 else Field("address", "in", addresses)
    test = Compare("key", "=", addresses[0]) if len(addresses) == 1 else Compare("key", "in", addresses)
    return Exists(numbers(registry, resource_type), "key", test)
