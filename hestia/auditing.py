"""The audit of a worker: FHIR interactions from the core and events of the authorization server in one chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fhir_server.audit import running
from fhir_server.audit.events import Event
from fhir_server.audit.running import Audit
from hestia.audit import directory
from hestia.composition import make_server
from hestia.masterkey import master_keys
from hestia.settings import Settings
from smart_auth.context import AuthEvent
from smart_auth.limits import network

REPEATED: Final = frozenset(("introspect", "refused"))
"""What is counted whoever causes it."""


def start(settings: Settings) -> Audit:
    """Begins the audit of this process. Its thread drains with a store connection of its own."""
    return running.start(
        lambda: make_server(settings),
        master_keys(settings),
        directory(settings),
        sync="always" if settings.audit_sync == "always" else "interval",
        source_of=network,
    )


def listener(audit: Audit) -> Callable[[AuthEvent], None]:
    """What `Auth.audit` calls: an event of the authorization server goes into the journal before it is answered."""

    def told(event: AuthEvent) -> None:
        made = recorded(event, time.time_ns() // 1000)
        if endless(event):
            audit.recorder.tally(made)
        else:
            audit.recorder.record([made])

    return told


def endless(event: AuthEvent) -> bool:
    """Whether somebody can cause such events without end, so that they are counted by the minute.

    A failure about an account is recorded each time: limits bound how many there are.
    """
    if event.action in REPEATED or event.detail.get("why") == "throttled":
        return True
    return event.outcome != 0 and event.account is None


def recorded(event: AuthEvent, at: int) -> Event:
    """An event of the authorization server as the audit keeps it. `at` is microseconds since 1970."""
    return Event(
        at=at,
        action=event.action,
        kind="security",
        outcome=event.outcome,
        address=event.address or "",
        account=event.account,
        name=event.name,
        user=event.fhir_user,
        role=event.role,
        client=event.client,
        client_name=event.client_name,
        patient=f"Patient/{event.patient}" if event.patient else None,
        detail=dict(event.detail),
    )
