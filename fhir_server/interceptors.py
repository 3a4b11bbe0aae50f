"""The two hooks of a write; their order is the tuple that app.py is given.

`BeforeCommit` runs inside the store's transaction, possibly several times: it may change the resource (returns the
one to be stored) or refuse it (raises a FhirError), and has no side effects. `AfterCommit` runs once the transaction
is committed, and cannot undo it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Version

BeforeCommit: TypeAlias = Callable[
    [Transaction, str, dict[str, Any] | None, dict[str, Any] | None], dict[str, Any] | None
]
"""(transaction, address, resource to be written or None for a deletion, current resource or None) -> resource to be
written
"""

AfterCommit: TypeAlias = Callable[[Sequence[Version]], None]

Claims: TypeAlias = Callable[[str, dict[str, Any]], tuple[str, ...]]
"""(type, resource) -> unique keys that the resource holds while it is current"""


def no_claims(resource_type: str, resource: dict[str, Any]) -> tuple[str, ...]:
    """Nothing is unique."""
    return ()


@dataclass(frozen=True, slots=True)
class Interceptors:
    """Every hook of a server, in order."""

    before_commit: tuple[BeforeCommit, ...] = ()
    after_commit: tuple[AfterCommit, ...] = ()
    claims: Claims = no_claims
