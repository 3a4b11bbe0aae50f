"""Whole databases from one store to another: `hestia copy`, `backup` and `restore`, also from a store that is being
written to.

Everything goes along: every version with its number, time and method, deletions, the ledger of loads, the registry of
search parameters. Index entries are extracted anew. The scan of a live store is no snapshot, so the change feed is
followed from a position taken before it until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

import click

from fhir_server.errors import Duplicate, PositionLost
from fhir_server.reindexing import replace_entries
from fhir_server.storage.protocol import Store, Transaction
from fhir_server.storage.writes import Stored, Version
from hestia.composition import COPY_OF, IDENTITY
from hestia.progress import Progress

STAYING: Final = ("secrets", "lease/", "feed-epoch", COPY_OF)
"""Prefixes of the store's own records that are no data: keys of page tokens, locks, where its feed begins."""

Prepare = Callable[[Stored, bool], Version]
"""(stored version, is it the current one) -> the version with its index entries and claims."""

_BATCH: Final = 400
_RECORDS: Final = 500
_ROUNDS: Final = 50
_SILENCE_S: Final = 0.2


def copy_store(source: Store, target: Store, prepare: Prepare, progress: Progress) -> int:
    """Copies all versions that `target` lacks; returns how many. Repeatable: what is there already is skipped.

    `target` then holds all that was committed when the copy began, and what came until it ended. It is marked as
    unfinished until the caller calls `finish`. Raises click.ClickException when it holds other data than an unfinished
    copy of this source.
    """
    _begin(source, target)
    _put_records(target, _records(source))
    copied = 0
    while True:
        position = source.feed_position()
        copied += _scan(source, target, prepare, progress)
        try:
            for _ in range(_ROUNDS):
                # A ledger record may not arrive before its data, nor stay behind it: both have to stand still between
                # two looks. Under a load that never pauses the data wins: a repeated load writes it again.
                before = _records(source)
                position, followed = _follow(source, target, prepare, position, progress)
                copied += followed
                if not followed and before == _records(source):
                    break
            break
        except PositionLost:
            continue  # the feed was cut meanwhile: scan again, which skips what is there
    _put_records(target, before)
    return copied


def finish(target: Store) -> None:
    """Takes the mark of an unfinished copy off."""
    target.put_meta(COPY_OF, None)


def _begin(source: Store, target: Store) -> None:
    identity = (source.get_meta(IDENTITY) or {}).get("id")
    mark = target.get_meta(COPY_OF)
    if mark is None and target.scan_versions(limit=1):
        raise click.ClickException("The target is not empty. Choose an empty store.")
    if mark is not None and mark != identity:
        raise click.ClickException("The target holds an unfinished copy of another store. Choose an empty one.")
    if identity is None:
        raise click.ClickException("The source is not a store of Hestia: it records no identity.")
    target.put_meta(COPY_OF, identity)


def _records(source: Store) -> dict[str, Any]:
    """The store's own records that belong to the data."""
    return {key: value for key, value in source.meta_items("").items() if not key.startswith(STAYING)}


def _put_records(target: Store, records: Mapping[str, Any]) -> None:
    present = target.meta_items("")
    changed = [(key, value) for key, value in records.items() if key not in present or present[key] != value]
    for start in range(0, len(changed), _RECORDS):

        def put(transaction: Transaction, some: list[tuple[str, Any]] = changed[start : start + _RECORDS]) -> None:
            for key, value in some:
                transaction.put_meta(key, value)

        target.transact(put)


def _scan(source: Store, target: Store, prepare: Prepare, progress: Progress) -> int:
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
        try:
            target.import_versions(missing)
        except Duplicate:
            _import_shared(target, missing)
    return len(missing)


def _import_shared(target: Store, missing: list[Version]) -> None:
    """Imports versions among which some share a unique key, from before it was unique: one of them has it then."""
    wanted = {version.address: version.claims for version in missing if version.claims}
    for version in missing:
        version.claims = ()
    target.import_versions(missing)
    for version in missing:
        if version.claims != wanted.get(version.address, ()) and version.body is not None:
            version.claims = wanted[version.address]
            replace_entries(target, [version])


def _follow(source: Store, target: Store, prepare: Prepare, position: str, progress: Progress) -> tuple[str, int]:
    """Copies what the feed tells until it is silent; where it stands then, and how many versions came."""
    copied = 0
    # An empty answer at once may only mean that the database has not looked far enough yet.
    while changes := source.feed(position, limit=_BATCH, wait_s=_SILENCE_S):
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
                    raise click.ClickException(
                        f"Version {number} of a {type_} is missing in the source; see hestia check."
                    )
                batch.append((version, number == last))
        if batch:
            copied += _import(target, batch, prepare)
            progress.add(len(batch))
        position = changes[-1].position
        if len(changes) < _BATCH:
            break  # it has been caught up with; writers that never pause would keep this here for ever
    return position, copied
