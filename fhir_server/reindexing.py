"""Extraction again, while the server runs. Used by $reindex and by `hestia reindex`.

Every version records the registry that it was extracted with, and every write transaction checks that record against
the store's, so once nothing below the current number is left, and the number did not change meanwhile, the index is
complete on all workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fhir_server import registries
from fhir_server.errors import Duplicate
from fhir_server.storage.protocol import Store, Transaction
from fhir_server.storage.writes import Stored, Version
from fhir_server.writing import parse_body

if TYPE_CHECKING:
    from fhir_server.context import Server

_BATCH: Final = 200


def reindex_resources(server: Server, resources: Sequence[Stored]) -> int:
    """Replaces the entries of these resources, as far as they are still current; returns how many."""
    versions = []
    for stored in resources:
        if stored.body is None:
            continue
        resource = parse_body(stored.body)
        versions.append(
            Version(
                stored.type,
                stored.id,
                stored.version,
                stored.updated,
                stored.method,
                stored.body,
                server.extractor.documents(resource, stored.address),
                server.interceptors.claims(stored.type, resource),
                server.registry.version,
            )
        )
    return replace_entries(server.store, versions) if versions else 0


def replace_entries(store: Store, versions: Sequence[Version]) -> int:
    """Store.reindex of current resources among which there may be some, from before a key was unique, that share it:
    one of them has it then, and the others keep what else is theirs.
    """
    try:
        return store.reindex(versions)
    except Duplicate:
        return sum(_keep_claims(store, one) for one in versions)


def _keep_claims(store: Store, version: Version) -> int:
    """Gives a resource its entries, and those of its unique keys that nobody else has."""
    wanted, version.claims = version.claims, ()
    found = store.reindex([version])
    for claim in wanted:
        kept = version.claims
        version.claims = (*kept, claim)
        try:
            store.reindex([version])
        except Duplicate:
            version.claims = kept
    return found


def reindex_stale(server: Server, deadline: float = float("inf")) -> tuple[int, bool]:
    """Extracts what is older than the registry until nothing is left or `deadline` (time.monotonic) has passed.

    Returns how many were done, and whether the index is complete; then the custom parameters are ready.
    """
    done = 0
    while True:
        batch = server.store.stale(server.registry.version, _BATCH)
        if not batch:
            return done, announce(server)
        done += reindex_resources(server, batch)
        if time.monotonic() > deadline:
            return done, False


def announce(server: Server) -> bool:
    """Marks the custom parameters of the current registry as ready; False when the registry has changed meanwhile.

    Readiness changes no entries, so the number stays; other workers see it with their next look at the records. A write
    that began before the registry changed, and commits after this, was extracted with the older one on a store whose
    transactions do not wait for each other. For as long as such a transaction can live, all workers look for late ones
    (`Server.rechecks`) and extract them again.
    """
    number = server.registry.version
    keys = registries.custom_keys(server.registry)

    def mark(transaction: Transaction) -> bool:
        if registries.version(transaction) != number:
            return False
        record: dict[str, Any] = dict(transaction.get_meta(registries.REGISTRY) or {})
        if set(record.get("ready", ())) != keys:
            record["ready"] = sorted(keys)
            transaction.put_meta(registries.REGISTRY, record)
            registries.bump(transaction, ready=True)
        return True

    marked = server.store.transact(mark)
    if marked:
        registries.load(server)
    return marked
