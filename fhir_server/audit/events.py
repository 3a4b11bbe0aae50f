"""What is recorded of one event, before it is an AuditEvent. R4 auditevent.html; IHE Basic Audit Log Patterns (BALP).

An Event is small and is made on the path of a request; whose record it concerns is looked up later, by the drainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from fhir_server.access.grant import Grant

SUCCESS: Final = 0
MINOR: Final = 4
"""Refused or failed for a reason of the request's own: absent, invalid, in conflict."""
SERIOUS: Final = 8
"""Refused for want of a right, or of a login."""
MAJOR: Final = 12
"""A fault of the server."""


class Event(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One thing that happened. `at` is microseconds since 1970, `outcome` a code of audit-event-outcome.

    `action` is a code of restful-interaction, ``$name`` of an operation, or a word of the authorization server (login,
    login-failed, token, role-grant ...). `kind` says which: rest or security. Nothing here identifies a person to
    strangers: no tokens, no phone numbers; `query` is redacted (audit/redact.py).
    """

    at: int
    action: str
    kind: str = "rest"
    outcome: int = SUCCESS
    request: str = ""
    """The X-Request-Id."""
    address: str = ""
    """Network address of the one who asked."""
    account: str | None = None
    name: str | None = None
    user: str | None = None
    """fhirUser, a relative reference."""
    role: str | None = None
    client: str | None = None
    client_name: str | None = None
    grant: str | None = None
    purpose: str | None = None
    """v3-PurposeOfUse."""
    reason: str | None = None
    """Of breaking the glass."""
    opened: tuple[str, ...] = ()
    """``Patient/x`` of those whose records were open to this person at need only; what concerns them has the purpose
    BTG."""
    target: str = ""
    """What was asked for: ``Type``, ``Type/id`` or ``Type/id/_history/n``; "" for the whole server."""
    query: str | None = None
    """Path and redacted parameters of a search."""
    seen: tuple[str, ...] = ()
    """``Type/id/_history/n`` of every version that was shown or written."""
    patient: str | None = None
    """``Patient/x`` where it is known already."""
    status: int = 0
    """HTTP status of a failure."""
    detail: dict[str, str] = {}
    count: int = 1
    """How often it happened: above 1, or with `since`, it stands for all that followed another event of its kind."""
    since: int = 0
    """Then: when the first of them was."""


ENCODER: Final = msgspec.json.Encoder()
DECODER: Final = msgspec.json.Decoder(Event)


def identified(grant: Grant | None) -> dict[str, Any]:
    """The fields of an Event that say who acted."""
    if grant is None:
        return {}
    return {
        "account": grant.account,
        "name": grant.name or None,
        "user": grant.fhir_user,
        "role": grant.role,
        "client": grant.client_id,
        "client_name": grant.client_name or None,
        "grant": grant.id,
        "purpose": grant.purpose,
    }
