"""The two hooks of a write; their order is the tuple that app.py is given.

`BeforeCommit` runs inside the store's transaction, possibly several times: it may change the resource (returns the
one to be stored) or refuse it (raises a FhirError), and has no side effects. `AfterCommit` runs once the transaction
is committed, and cannot undo it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Version

if TYPE_CHECKING:
    from fhir_server.context import RequestContext

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


class Recorder(Protocol):
    """Keeps the audit: what `fhir_server/audit` does. Nothing is answered before its event is kept."""

    def record(self, events: Sequence[Any]) -> None:
        """Keeps events (audit.events.Event) past the end of this process. Raises Busy (503)."""

    def tally(self, event: Any) -> None:
        """Keeps an event that anybody can cause without end: the first of a minute, then how many more there were.
        Raises Busy (503).
        """

    def wrote(
        self, transaction: Transaction, context: RequestContext, versions: Sequence[Version], others: Sequence[Any]
    ) -> None:
        """Keeps what a transaction wrote, as a part of it. `others`: (Write, Result) of what changed nothing."""


@dataclass(frozen=True, slots=True)
class Interceptors:
    """Every hook of a server, in order."""

    before_commit: tuple[BeforeCommit, ...] = ()
    after_commit: tuple[AfterCommit, ...] = ()
    claims: Claims = no_claims
