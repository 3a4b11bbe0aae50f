"""Maintenance behind the command line: reindex, backup, copy, check."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fhir_server.context import Server
from fhir_server.resources import jsonformat
from fhir_server.storage.writes import Stored, Version
from hestia.composition import connect, identify, make_server, opened
from hestia.progress import Progress
from hestia.settings import Settings, sqlite_path
from hestia.transfer import Prepare, copy_store

_GZIP = 31


def prepared(server: Server) -> Prepare:
    """Makes a version with its index entries from what a store gave back, with the server's registry and settings."""

    def prepare(stored: Stored, current: bool) -> Version:
        version = Version(
            stored.type, stored.id, stored.version, stored.updated, stored.method, stored.body, registry=server.registry.version
        )
        if current and stored.body is not None:
            resource: dict[str, Any] = jsonformat.parse(zlib.decompress(stored.body, _GZIP))
            version.documents = server.extractor.documents(resource, stored.address)
            version.claims = server.interceptors.claims(stored.type, resource)
        return version

    return prepare


def _pages(server: Server) -> Iterator[list[Stored]]:
    after = ""
    while page := server.store.scan(after=after):
        yield page
        after = page[-1].address


def reindex_all(server: Server) -> int:
    """Extracts every current resource anew, in pages, while others read and write. Returns how many."""
    prepare = prepared(server)
    done = 0
    with Progress("Indexing", sum(server.store.counts().values())) as progress:
        for page in _pages(server):
            done += server.store.reindex([prepare(stored, True) for stored in page])
            progress.add(len(page))
    server.store.update_meta("identity", lambda old: {**(old or {}), "reindex": False})
    return done


def backup_to(settings: Settings, target: Path) -> int:
    """A copy of the configured store in a new SQLite file; returns the number of versions."""
    if target.exists():
        raise click.ClickException(f"{target} exists already; a backup never overwrites.")
    target.parent.mkdir(parents=True, exist_ok=True)
    source = connect(settings.store, create=False)
    try:
        if sqlite_path(settings.store) is not None:
            source.backup(str(target))
            copied = connect(f"sqlite:///{target}", create=False)
            try:
                return int(copied.statistics()["versions"])
            finally:
                copied.close()
    finally:
        source.close()
    return copy(settings, settings.store, f"sqlite:///{target}")


def copy(settings: Settings, source_uri: str, target_uri: str) -> int:
    """Everything from one store to another; returns the number of versions."""
    source, target = connect(source_uri, create=False), connect(target_uri)
    try:
        server = make_server(settings, source)
        total = int(source.statistics()["versions"])
        with Progress("Copying", total) as progress:
            return copy_store(source, target, prepared(server), progress)
    finally:
        source.close()
        target.close()


def check_store(settings: Settings) -> list[str]:
    """Findings as sentences; none means that the store is sound. No finding names what a resource says."""
    with opened(settings) as server:
        store = server.store
        findings = list(store.check())
        findings += _check_versions(server)
        prepare = prepared(server)
        with Progress("Checking index", sum(store.counts().values())) as progress:
            for page in _pages(server):
                for stored in page:
                    version = prepare(stored, True)
                    keys = sorted({entry for document in version.documents for entry in document.keys})
                    ranges = sorted({entry for document in version.documents for entry in document.ranges})
                    have_keys, have_ranges, have_claims = store.entries(stored.address)
                    if keys != sorted(map(tuple, have_keys)) or ranges != sorted(map(tuple, have_ranges)):
                        findings.append(f"{stored.address}: index entries differ from the resource; run hestia reindex.")
                    if sorted(version.claims) != sorted(have_claims):
                        findings.append(f"{stored.address}: unique keys differ from the resource; run hestia reindex.")
                progress.add(len(page))
        return findings


def _check_versions(server: Server) -> list[str]:
    """Versions count up from 1 without a gap, times go up, bodies can be read and say what their row says."""
    store = server.store
    findings: list[str] = []
    after: tuple[str, int] = ("", 0)
    previous: Stored | None = None
    with Progress("Checking versions", int(store.statistics()["versions"])) as progress:
        while page := store.scan_versions(after=after):
            for stored in page:
                if previous is not None and previous.address == stored.address:
                    if stored.version != previous.version + 1:
                        findings.append(f"{stored.address}: version {stored.version} follows {previous.version}.")
                    if stored.updated <= previous.updated:
                        findings.append(f"{stored.address}: version {stored.version} is not later than the one before.")
                else:
                    if previous is not None:
                        findings += _check_newest(server, previous)
                    if stored.version != 1:
                        findings.append(f"{stored.address}: its first version is {stored.version}.")
                findings += _check_body(stored)
                previous = stored
            progress.add(len(page))
            assert previous is not None
            after = (previous.address, previous.version)
    if previous is not None:
        findings += _check_newest(server, previous)
    return findings


def _check_newest(server: Server, newest: Stored) -> list[str]:
    current = server.store.read(newest.type, newest.id)
    if current is None or (current.version, current.body, current.updated) != (newest.version, newest.body, newest.updated):
        return [f"{newest.address}: the current version is not the newest of its history."]
    return []


def _check_body(stored: Stored) -> list[str]:
    if stored.body is None:
        return []
    try:
        resource = jsonformat.parse(zlib.decompress(stored.body, _GZIP))
    except Exception:
        return [f"{stored.address}: the body of version {stored.version} cannot be read."]
    meta = resource.get("meta", {})
    if (resource.get("resourceType"), resource.get("id"), meta.get("versionId")) != (stored.type, stored.id, str(stored.version)):
        return [f"{stored.address}: the body of version {stored.version} says another type, id or version."]
    return []


__all__ = ["backup_to", "check_store", "copy", "identify", "prepared", "reindex_all"]
