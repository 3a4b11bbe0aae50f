"""Maintenance behind the command line: reindex, backup, copy, check."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from fhir_server import registries, reindexing
from fhir_server.context import Server
from fhir_server.gzipped import inflate
from fhir_server.resources import jsonformat
from fhir_server.sealing import Sealer, forget_keys, keys_of, resealed_member, sealed_member
from fhir_server.search.extract import EXTRACTION_VERSION
from fhir_server.storage.protocol import Store
from fhir_server.storage.writes import Stored, Version
from hestia import transfer
from hestia.composition import IDENTITY, UNIQUE, connect, make_server, open_records, opened, refuse_unusable
from hestia.masterkey import master_keys
from hestia.progress import Progress
from hestia.settings import Settings, sqlite_path
from smart_auth.resealing import Resealed, reseal
from smart_auth.store.rows import dump
from smart_auth.vault import KeyVault

_LOOKS = 3
"""How often something that seems wrong in a store that others write to is looked at before it is a finding."""


def prepared(server: Server, *, reseal: bool = False) -> transfer.Prepare:
    """Makes a version with its index entries from what a store gave back, with the server's registry and settings.

    Numbers that a store holds in clear, from before there was a key, are sealed. `reseal`: so are those that another
    key than the first one sealed, and unique keys are made under the first one alone.
    """
    sealed = resealed_member if reseal else sealed_member

    def prepare(stored: Stored, current: bool) -> Version:
        if stored.body is not None:
            stored = dataclasses.replace(stored, body=sealed(server.sealer, stored.body))
        version = Version(
            stored.type,
            stored.id,
            stored.version,
            stored.updated,
            stored.method,
            stored.body,
            registry=server.registry.version,
        )
        if current and stored.body is not None:
            resource = _parsed(stored)
            if resource is None:
                raise click.ClickException(f"{stored.address} cannot be read; see hestia check.")
            version.documents = server.extractor.documents(resource, stored.address)
            version.claims = server.interceptors.claims(stored.type, resource)
            if reseal and server.sealer is not None:
                version.claims = server.sealer.current(version.claims)
        return version

    return prepare


def _pages(store: Store) -> Iterator[list[Stored]]:
    after = ""
    while page := store.scan(after=after):
        yield page
        after = page[-1].address


# --- reindex ----------------------------------------------------------------------------------------------------------


def reindex_all(server: Server, each_page: Callable[[], None] = lambda: None) -> int:
    """Extracts every current resource anew, in pages, while others read and write; custom parameters are ready then.

    Returns how many resources were indexed. `each_page` is called as the work goes on.
    """
    done = 0
    with Progress("Indexing", sum(server.store.counts().values())) as progress:
        for page in _pages(server.store):
            done += reindexing.reindex_resources(server, page)
            progress.add(len(page))
            each_page()
    complete_registry(server)
    server.store.update_meta(IDENTITY, lambda old: {**(old or {}), "reindex": False})
    return done


def complete_registry(server: Server) -> None:
    """Extracts what an older registry of search parameters left, until its parameters are ready."""
    while True:
        registries.load(server)
        if reindexing.reindex_stale(server)[1]:
            return


# --- copies -----------------------------------------------------------------------------------------------------------


def backup_to(settings: Settings, target: Path) -> int:
    """A copy of the configured store in a new SQLite file; returns the number of versions.

    The file appears under its name when it is complete.
    """
    if target.exists():
        raise click.ClickException(f"{target} exists already; a backup never overwrites.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    if sqlite_path(settings.store) is not None:
        source = connect(settings.store, create=False)
        try:
            refuse_unusable(source)
            source.backup(str(unfinished))
        finally:
            source.close()
        copied = connect(f"sqlite:///{unfinished}", create=False)
        try:
            versions = int(copied.statistics()["versions"])
        finally:
            copied.close()
    else:
        versions = copy(settings, settings.store, f"sqlite:///{unfinished}")
    os.replace(unfinished, target)
    return versions


def copy(settings: Settings, source_uri: str, target_uri: str) -> int:
    """Everything from one store to another, empty one; returns the number of versions that were copied.

    Entries are made with the zone, base and word index that the source records.
    """
    if source_uri == target_uri:
        raise click.ClickException("Source and target are the same store.")
    source = connect(source_uri, create=False)
    try:
        recorded = refuse_unusable(source)
        if recorded is None:
            raise click.ClickException("The source holds nothing yet.")
        as_recorded = {name: recorded[name] for name in ("timezone", "fulltext", "base_url")}
        settings = dataclasses.replace(settings, **as_recorded)
        total = int(source.statistics()["versions"])
        target = connect(target_uri)
        try:
            with Progress("Copying", total, unit="versions") as progress:
                server = make_server(settings, source, source=True)
                copied = transfer.copy_store(source, target, prepared(server, reseal=True), progress)
            if server.sealer is not None:
                _settle_keys(target, server.sealer)
            complete_registry(make_server(settings, target))
            copy_records(source_uri, target_uri)
            reseal_records(settings, target_uri)
            target.update_meta(
                IDENTITY,
                lambda old: {**(old or {}), "extraction": EXTRACTION_VERSION, "unique": UNIQUE, "reindex": False},
            )
            transfer.finish(target)
        finally:
            target.close()
    finally:
        source.close()
    return copied


def _settle_keys(target: Store, sealer: Sealer) -> None:
    """Records which keys the target needs. Raises click.ClickException when a part of it was copied while another key
    was the first.
    """
    needed: set[str] = set()
    after: tuple[str, int] = ("", 0)
    while page := target.scan_versions(after=after):
        for stored in page:
            needed |= keys_of(stored.body) if stored.body is not None else set()
        after = (page[-1].address, page[-1].version)
    if needed & set(list(sealer.checks)[1:]):
        raise click.ClickException(
            "The target was begun with another first master key. Choose an empty store, or copy with that one in front."
        )
    forget_keys(target, sealer, needed)


def reseal_records(settings: Settings, uri: str) -> Resealed:
    """Seals anew what records hold under another master key than the first one, one record at a time."""
    from hestia.demo_access import SEALED_RECORDS

    store = open_records(uri)
    try:
        return reseal(store, KeyVault(master_keys(settings)), SEALED_RECORDS)
    finally:
        store.close()


def copy_records(source_uri: str, target_uri: str) -> int:
    """Accounts, clients, grants and policies from one store to another, as they are; returns how many."""
    source, target = open_records(source_uri), open_records(target_uri)
    try:
        return target.restore(dump(source))
    finally:
        target.close()
        source.close()


# --- check ------------------------------------------------------------------------------------------------------------


def check_store(settings: Settings) -> list[str]:
    """Findings as sentences; none means that the store is sound. No finding names what a resource says."""
    with opened(settings, create=False) as server:
        store = server.store
        findings = list(store.check())
        findings += _check_records(server)
        findings += _check_versions(store)
        findings += _check_entries(server)
        return findings


def _check_records(server: Server) -> list[str]:
    recorded = server.store.get_meta(IDENTITY)
    if recorded is None:
        return [] if not server.store.counts() else ["The store does not record what it is; run hestia serve."]
    findings = []
    if recorded["reindex"] or recorded["extraction"] < EXTRACTION_VERSION or recorded.get("unique") != UNIQUE:
        findings.append("The index was made with other settings or by an older version; run hestia reindex.")
    elif server.store.stale(server.registry.version, 1):
        findings.append("Some resources are not indexed by the newest search parameters; run hestia reindex.")
    return findings


def _check_entries(server: Server) -> list[str]:
    """Index entries and unique keys are what extraction makes of each resource."""
    findings: list[str] = []
    prepare = prepared(server)
    with Progress("Checking index", sum(server.store.counts().values())) as progress:
        for page in _pages(server.store):
            for stored in page:
                if _parsed(stored) is None:
                    continue  # said with the versions
                wrong = _differences(server.store, prepare(stored, True))
                for _ in range(_LOOKS):
                    if not wrong:
                        break
                    latest = server.store.read(stored.type, stored.id)
                    if latest is None or latest.deleted:
                        wrong = []
                    else:
                        wrong = _differences(server.store, prepare(latest, True))
                findings += [f"{stored.address}: {one}" for one in wrong]
            progress.add(len(page))
    return findings


def _differences(store: Store, version: Version) -> list[str]:
    keys = {entry for document in version.documents for entry in document.keys}
    ranges = {entry for document in version.documents for entry in document.ranges}
    have_keys, have_ranges, have_claims = store.entries(version.address)
    wrong = []
    if keys != set(map(tuple, have_keys)) or ranges != set(map(tuple, have_ranges)):
        wrong.append("index entries differ from the resource; run hestia reindex.")
    if not set(have_claims) <= set(version.claims):
        wrong.append("unique keys differ from the resource; run hestia reindex.")
    elif set(have_claims) != set(version.claims):
        wrong.append(
            "unique keys are missing; run hestia reindex. What stays is a number that another resource has, too."
        )
    return wrong


def _check_versions(store: Store) -> list[str]:
    """Versions count up from 1 without a gap, times go up, bodies can be read and say what their row says."""
    findings: list[str] = []
    after: tuple[str, int] = ("", 0)
    previous: Stored | None = None
    total = int(store.statistics()["versions"])
    with Progress("Checking versions", total, unit="versions") as progress:
        while page := store.scan_versions(after=after):
            for stored in page:
                if previous is not None and previous.address == stored.address:
                    if stored.version != previous.version + 1:
                        findings.append(f"{stored.address}: version {stored.version} follows {previous.version}.")
                    if stored.updated <= previous.updated:
                        findings.append(f"{stored.address}: version {stored.version} is not later than the one before.")
                else:
                    if previous is not None:
                        findings += _check_newest(store, previous)
                    if stored.version != 1:
                        findings.append(f"{stored.address}: its first version is {stored.version}.")
                findings += _check_body(stored)
                previous = stored
            progress.add(len(page))
            assert previous is not None
            after = (previous.address, previous.version)
    if previous is not None:
        findings += _check_newest(store, previous)
    return findings


def _check_newest(store: Store, newest: Stored) -> list[str]:
    """The current version is the newest of the history; a newer one may have come since the scan."""
    for _ in range(_LOOKS):
        current = store.read(newest.type, newest.id)
        if current is None or current.version <= newest.version:
            break
        later = store.read_version(newest.type, newest.id, newest.version + 1)
        if later is None:
            break
        newest = current
    same = current is not None and current.version == newest.version
    if not same or current is None or (current.body, current.updated) != (newest.body, newest.updated):
        return [f"{newest.address}: the current version is not the newest of its history."]
    return []


def _parsed(stored: Stored) -> dict[str, Any] | None:
    """The resource of a version; None when its bytes are damaged."""
    assert stored.body is not None
    try:
        resource = jsonformat.parse(inflate(stored.body))
    except Exception:  # isal and the parser each have their own
        return None
    return resource if isinstance(resource, dict) else None


def _check_body(stored: Stored) -> list[str]:
    if stored.body is None:
        return []
    resource = _parsed(stored)
    if resource is None:
        return [f"{stored.address}: the body of version {stored.version} cannot be read."]
    meta = resource.get("meta", {})
    said = (resource.get("resourceType"), resource.get("id"), meta.get("versionId"))
    if said != (stored.type, stored.id, str(stored.version)):
        return [f"{stored.address}: the body of version {stored.version} says another type, id or version."]
    return []
