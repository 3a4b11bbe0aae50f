"""What is written once and never again: AuditEvents, by whoever and in whatever way. R4 auditevent.html, security.html.

Chained events (fhir_server/audit) are made by this server alone; what others send may not look like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.errors import MethodNotAllowed, Unprocessable

TYPES: Final = frozenset(("AuditEvent",))
CHANGES: Final = frozenset(("update", "patch", "delete"))
"""Interactions that these types do not know."""
EXTENSION: Final = "https://hestia.example/fhir/StructureDefinition/audit-chain"
"""The place of an event in its chain."""

_CHAINED: Final = re.compile(r"[0-9a-f]{16}-[0-9]{10}\Z")


def refuse_change(resource_type: str) -> None:
    """Raises MethodNotAllowed (405) for a type whose resources do not change."""
    if resource_type in TYPES:
        raise MethodNotAllowed(
            f"An {resource_type} cannot be changed or removed.", headers={"Allow": "GET, HEAD, OPTIONS"}
        )


def check_new(resource: Mapping[str, Any], resource_id: str) -> None:
    """Raises Unprocessable (422) for an AuditEvent from outside that looks like one of this server's chains,
    MethodNotAllowed (405) for one that is to be in the place of such a one, whether that exists yet or not.
    """
    if _CHAINED.match(resource_id):
        refuse_change("AuditEvent")
    extensions = resource.get("extension")
    if isinstance(extensions, list) and any(
        isinstance(one, dict) and one.get("url") == EXTENSION for one in extensions
    ):
        raise Unprocessable("The audit chain is written by the server.", expression="AuditEvent.extension")
