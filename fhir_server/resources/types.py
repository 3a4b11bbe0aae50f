"""The resource types that have endpoints, and what can be done with them: one table for routes, CapabilityStatement
and tests.

R4 http.html; resourcelist.html.
"""

from __future__ import annotations

import re
from typing import Final

from fhir_server.definitions import resource_types

TYPES: Final[tuple[str, ...]] = tuple(name for name in resource_types() if name != "Parameters")
"""All 145 concrete types but Parameters, which is only ever a message."""

TYPE_SET: Final[frozenset[str]] = frozenset(TYPES)

TYPE_INTERACTIONS: Final[tuple[str, ...]] = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
"""Codes of restful-interaction that every type has."""

SYSTEM_INTERACTIONS: Final[tuple[str, ...]] = ("transaction", "batch", "search-system", "history-system")

COMPARTMENTS: Final[tuple[str, ...]] = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")

ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
"""datatypes.html#id; ASCII only."""


def is_id(text: str) -> bool:
    """Whether `text` can be a logical id. "." and ".." are refused: URL normalisation takes them away."""
    return ID.match(text) is not None and text not in (".", "..")
