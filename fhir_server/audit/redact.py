"""Queries without what they say about people. IHE BALP keeps the raw query; here the audit is no second record.

Names of parameters stay. Values stay where they are codes, dates of care, numbers or the form of the answer; whatever
may identify somebody (identifiers, names, addresses, dates of birth, references, free text, chains) becomes `***`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus

from fhir_server.search.registry import Param, Registry

HIDDEN: Final = "***"

_FORMS: Final = frozenset(
    (
        "_count",
        "_sort",
        "_total",
        "_summary",
        "_elements",
        "_format",
        "_pretty",
        "_include",
        "_revinclude",
        "_contained",
        "_containedType",
        "_lastUpdated",
        "_since",
        "_at",
        "_tag",
        "_security",
        "_profile",
        "_type",
    )
)
_CODED: Final = frozenset(("code", "Coding", "CodeableConcept", "boolean"))
_MODIFIERS: Final = frozenset(("", "not", "in", "not-in", "above", "below", "missing", "iterate"))
_PERSONS: Final = frozenset(("Patient", "Person", "Practitioner", "RelatedPerson"))
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:.\-]{0,120}\Z")
_VALUE: Final = re.compile(r"[A-Za-z0-9:/|.,_\-+%*$]{0,300}\Z")
_MAX: Final = 4000


def redacted(registry: Registry, resource_type: str | None, query: str) -> str:
    """The parameters of a query string (as it came, percent-encoded), with values that identify somebody hidden."""
    if not query:
        return ""
    parts = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        if not _NAME.match(name):
            parts.append(f"{HIDDEN}={HIDDEN}")
        elif value and not (_stays(registry, resource_type, name) and _VALUE.match(value)):
            parts.append(f"{name}={HIDDEN}")
        else:
            parts.append(f"{name}={value}")
    text = "&".join(parts)
    return text if len(text) <= _MAX else text[:_MAX] + HIDDEN


@lru_cache(maxsize=1024)
def _stays(registry: Registry, resource_type: str | None, name: str) -> bool:
    """Whether the values of a parameter may be kept."""
    code, _, modifier = name.partition(":")
    if modifier == "missing":
        return True
    if code in _FORMS:
        return modifier in _MODIFIERS
    if "." in name or modifier not in _MODIFIERS or resource_type is None:
        return False
    param = registry.param(resource_type, code)
    return param is not None and _harmless(param)


def _harmless(param: Param) -> bool:
    if param.type == "token":
        branches = param.branches
        return bool(branches) and all(branch.type in _CODED for branch in branches or ())
    return param.type in ("date", "number", "quantity") and param.type_name not in _PERSONS
