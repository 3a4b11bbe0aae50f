"""Backup and restore: a directory with one gzip file of BSON documents per collection, and a manifest.

The files are those of mongodump --gzip, so that MongoDB's own tools read them. All are of one instant, while others
write: they are read in one transaction, or, when mongod ends that after a minute (transactionLifetimeLimitSeconds),
once more in a snapshot session, which lasts five (minSnapshotHistoryWindowInSeconds).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import bson
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from fhir_server.errors import Busy
from fhir_server.storage.mongo import indexes
from fhir_server.storage.mongo.layout import Raw

FORMAT = 1
COLLECTIONS = (indexes.RESOURCES, indexes.HISTORY, indexes.CLAIMS, indexes.META, indexes.STORE)
"""Locks and open writes belong to running processes and stay behind."""
BATCH = 500

EXPIRED = frozenset({239, 246, 251, 290})
"""SnapshotTooOld, SnapshotUnavailable, NoSuchTransaction, TransactionExceededLifetimeLimitSeconds."""


def dump(client: MongoClient[Raw], name: str, target: str) -> None:
    """Writes the archive into the new directory `target`.

    Raises: FileExistsError when there is something at `target`; Busy when the server gave the snapshot up before all
    was read.
    """
    directory = Path(target)
    directory.mkdir(parents=True)
    for instant in (_transaction, _snapshot):
        try:
            with instant(client) as session:
                counts = {collection: _dump(client[name], collection, directory, session) for collection in COLLECTIONS}
            break
        except OperationFailure as error:
            if error.code not in EXPIRED:
                raise
    else:
        raise Busy("The snapshot of this backup became too old; raise minSnapshotHistoryWindowInSeconds and repeat it.")
    manifest = {"format": FORMAT, "layout": indexes.LAYOUT, "documents": counts}
    # Last: an archive without its manifest was interrupted.
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _transaction(client: MongoClient[Raw]) -> Iterator[ClientSession]:
    with client.start_session() as session, session.start_transaction(read_concern=ReadConcern("snapshot")):
        yield session


@contextmanager
def _snapshot(client: MongoClient[Raw]) -> Iterator[ClientSession]:
    with client.start_session(snapshot=True) as session:
        yield session


def _dump(database: Database[Raw], collection: str, directory: Path, session: ClientSession) -> int:
    number = 0
    with gzip.open(directory / f"{collection}.bson.gz", "wb", compresslevel=1) as file:
        for raw in database[collection].find({}, session=session, batch_size=BATCH).sort("_id", 1):
            file.write(bson.encode(raw))
            number += 1
    return number


def restore(database: Database[Raw], source: str) -> None:
    """Fills an empty database from an archive. Raises: ValueError."""
    directory = Path(source)
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except OSError:
        raise ValueError("The directory holds no complete backup: there is no manifest.json in it.") from None
    if manifest.get("format") != FORMAT or manifest.get("layout", 0) > indexes.LAYOUT:
        raise ValueError("This backup was made by a newer version of Hestia.")
    if database[indexes.RESOURCES].find_one({}, {"_id": 1}) is not None:
        raise ValueError("The database to restore into is not empty.")
    for collection in COLLECTIONS:
        if collection == indexes.STORE:
            continue  # the database keeps an identity of its own
        number = 0
        if collection == indexes.META:
            database[collection].delete_many({})
        for batch in _batches(directory / f"{collection}.bson.gz"):
            database[collection].insert_many(batch)
            number += len(batch)
        if number != manifest["documents"][collection]:
            raise ValueError(f"The backup is damaged: {collection} and its manifest differ in the number of documents.")


def _batches(path: Path) -> Iterator[list[Any]]:
    batch: list[Any] = []
    with gzip.open(path, "rb") as file:
        for raw in bson.decode_file_iter(cast(BinaryIO, file)):
            batch.append(raw)
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch
