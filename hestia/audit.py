"""`hestia audit`: is the audit whole? And where a server keeps it until it is in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from fhir_server.audit import chain, verify
from fhir_server.audit.chain import Key
from fhir_server.audit.drain import OFFSETS
from fhir_server.audit.journal import journals
from fhir_server.audit.recorder import QUEUE
from hestia.composition import connect, refuse_unusable
from hestia.masterkey import master_keys
from hestia.settings import Settings

_DIRECTORY: Final = "audit"


def directory(settings: Settings) -> Path:
    """Where journals and anchors are."""
    return settings.data / _DIRECTORY


def verify_store(settings: Settings, say: Callable[[str], None] = click.echo) -> bool:
    """Verifies every chain of the store and prints what was found; True when there is nothing to find."""
    keys = [Key.derive(one) for one in master_keys(settings, create=False)]
    store = connect(settings.store, create=False)
    try:
        refuse_unusable(store)
        report = verify.verify(store, keys, directory(settings) / chain.ANCHORS_FILE)
        waiting = sum(len(value) for value in store.meta_items(QUEUE).values())
        for path in journals(directory(settings)):
            done = int(store.get_meta(OFFSETS + path.stem) or 0)
            with path.open("rb") as file:
                file.seek(done)
                waiting += sum(1 for _ in file)
    finally:
        store.close()
    for finding in report.findings:
        say(f"- {finding}")
    say(
        f"{report.events:,} audit events in {_number(report.chains, 'chain')}, {_number(report.anchors, 'anchor')},"
        f" {report.others:,} of clients, {waiting:,} waiting to be chained."
    )
    if report.findings:
        say(f"{_number(len(report.findings), 'finding')}: the audit is not whole.")
        return False
    say("The audit is whole.")
    return True


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
