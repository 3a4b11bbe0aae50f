"""Security labels of resources: what restricts, and what a change may not take away. R4 security-labels.html.

Codes of v3-Confidentiality and v3-ActCode, under their present systems and those of older versions of FHIR and of v3;
a code without a system counts as well, for whoever wrote it meant something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

JSON = Mapping[str, Any]

CONFIDENTIALITY: Final = (
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://hl7.org/fhir/v3/Confidentiality",
    "urn:oid:2.16.840.1.113883.5.25",
)
ACT_CODE: Final = (
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://hl7.org/fhir/v3/ActCode",
    "urn:oid:2.16.840.1.113883.5.4",
)
RANKS: Final = {"U": 0, "L": 0, "M": 0, "N": 0, "R": 1, "V": 2}
"""Of v3-Confidentiality: up to N nothing is restricted."""


def of(resource: JSON) -> list[Any]:
    """The labels of a resource."""
    return list((resource.get("meta") or {}).get("security") or ())


def with_more(resource: dict[str, Any], others: list[Any]) -> dict[str, Any]:
    """The resource, labelled with others as well."""
    missing = [one for one in others if one not in of(resource)]
    if not missing:
        return resource
    return {**resource, "meta": {**(resource.get("meta") or {}), "security": [*of(resource), *missing]}}


def kept(before: JSON, after: JSON) -> bool:
    """Whether a change leaves every label that restricts; a confidentiality may be raised."""
    rank, left = _read(before)
    new_rank, there = _read(after)
    return new_rank >= rank and left <= there


def _read(resource: JSON) -> tuple[int, set[tuple[str, str]]]:
    """(highest confidentiality, all other labels)."""
    rank, others = 0, set()
    for label in of(resource):
        system, code = str(label.get("system", "")), str(label.get("code", ""))
        if code in RANKS and (not system or system in CONFIDENTIALITY):
            rank = max(rank, RANKS[code])
        elif code:
            others.add((system, code))
    return rank, others
