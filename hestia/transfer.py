"""Whole databases from one store to another: `hestia copy`, `backup` and `restore`, also from a store that is being written to.

Everything goes along: every version with its number, time and method, deletions, the ledger of loads, the registry of search
parameters. Index entries are extracted anew, as the target would have done. The scan of a live store is no snapshot, so the change
feed is followed from a position taken before it until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import click

from fhir_server.errors import PositionLost
from fhir_server.storage.protocol import Store
from fhir_server.storage.writes import Stored, Version
from hestia.progress import Progress

COPIED_META = ("ledger/", "generations", "registry", "identity", "demo")
"""Prefixes of the store's own records that belong to the data. Secrets (page-token keys) stay where they are."""

Prepare = Callable[[Stored, bool], Version]
"""(stored version, is it the current one) -> the version with its index entries and claims."""

_BATCH = 400


def copy_store(source: Store, target: Store, prepare: Prepare, progress: Progress) -> int:
    """Copies all versions that `target` lacks; returns how many. Repeatable: what is there already is skipped.

    Raises click.ClickException when the target holds other data than an earlier copy of this source.
    """
    _check_target(source, target)
    for prefix in COPIED_META:
        for key, value in source.meta_items(prefix).items():
            target.put_meta(key, value)
    target.put_meta("copy-of", (source.get_meta("identity") or {}).get("id"))
    copied = 0
    while True:
        position = source.feed_position()
        copied += _copy_scan(source, target, prepare, progress)
        try:
            copied += _follow(source, target, prepare, position, progress)
        except PositionLost:
            continue  # the feed was cut meanwhile: scan again, which skips what is there
        break
    for key, value in source.meta_items("ledger/").items():
        target.put_meta(key, value)
    target.put_meta("copy-of", None)
    return copied


def _check_target(source: Store, target: Store) -> None:
    if target.counts():
        mark = target.get_meta("copy-of")
        if mark is None or mark != (source.get_meta("identity") or {}).get("id"):
            raise click.ClickException(
                "The target already holds resources that are not an unfinished copy of this source. Choose an empty one."
            )


def _copy_scan(source: Store, target: Store, prepare: Prepare, progress: Progress) -> int:
    copied = 0
    batch: list[tuple[Stored, bool]] = []
    for pair in _with_current(_all_versions(source)):
        batch.append(pair)
        if len(batch) >= _BATCH:
            copied += _import(target, batch, prepare)
            progress.add(len(batch))
            batch = []
    if batch:
        copied += _import(target, batch, prepare)
        progress.add(len(batch))
    return copied


def _all_versions(source: Store) -> Iterator[Stored]:
    after = ("", 0)
    while page := source.scan_versions(after=after, limit=_BATCH):
        yield from page
        after = (page[-1].address, page[-1].version)


def _with_current(versions: Iterable[Stored]) -> Iterator[tuple[Stored, bool]]:
    """Marks the last version of each address as the current one."""
    for _, group in groupby(versions, key=lambda one: one.address):
        previous: Stored | None = None
        for one in group:
            if previous is not None:
                yield previous, False
            previous = one
        assert previous is not None
        yield previous, True


def _import(target: Store, batch: list[tuple[Stored, bool]], prepare: Prepare) -> int:
    present = target.read_many(sorted({stored.address for stored, _ in batch}))
    missing = [
        prepare(stored, current)
        for stored, current in batch
        if stored.address not in present or present[stored.address].version < stored.version
    ]
    if missing:
        target.import_versions(missing)
    return len(missing)


def _follow(source: Store, target: Store, prepare: Prepare, position: str, progress: Progress) -> int:
    copied = 0
    while changes := source.feed(position, limit=_BATCH):
        latest: dict[tuple[str, str], int] = {}
        for change in changes:
            key = (change.type, change.id)
            latest[key] = max(latest.get(key, 0), change.version)
        present = target.read_many([f"{type_}/{id_}" for type_, id_ in latest])
        batch: list[tuple[Stored, bool]] = []
        for (type_, id_), last in sorted(latest.items()):
            stored = present.get(f"{type_}/{id_}")
            for number in range(stored.version + 1 if stored else 1, last + 1):
                version = source.read_version(type_, id_, number)
                if version is None:
                    raise click.ClickException(f"Version {number} of a {type_} is missing in the source; run hestia check.")
                batch.append((version, number == last))
        if batch:
            copied += _import(target, batch, prepare)
            progress.add(len(batch))
        position = changes[-1].position
    return copied
