"""Backup and restore: a directory with one gzip file of BSON documents per collection, and a manifest.

The files are those of mongodump --gzip, so that MongoDB's own tools read them. All are of one instant: a snapshot
session reads every collection at the same cluster time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import bson
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from fhir_server.errors import Busy
from fhir_server.storage.mongo import indexes
from fhir_server.storage.mongo.layout import Raw

FORMAT = 1
COLLECTIONS = (indexes.RESOURCES, indexes.HISTORY, indexes.CLAIMS, indexes.META, indexes.STORE)
"""Locks and open writes belong to running processes and stay behind."""
SNAPSHOT_TOO_OLD = 239
BATCH = 500


def dump(client: MongoClient[Raw], name: str, target: str) -> None:
    """Writes the archive into the new directory `target`.

    Raises: FileExistsError when there is something at `target`; Busy when the server dropped the snapshot (a database
    that takes longer to read than minSnapshotHistoryWindowInSeconds, 300 by default).
    """
    directory = Path(target)
    directory.mkdir(parents=True)
    counts = {}
    try:
        with client.start_session(snapshot=True) as session:
            for collection in COLLECTIONS:
                counts[collection] = 0
                with gzip.open(directory / f"{collection}.bson.gz", "wb", compresslevel=1) as file:
                    for raw in client[name][collection].find({}, session=session, batch_size=BATCH).sort("_id", 1):
                        file.write(bson.encode(raw))
                        counts[collection] += 1
    except OperationFailure as error:
        if error.code == SNAPSHOT_TOO_OLD:
            raise Busy(
                "The snapshot of this backup became too old; raise minSnapshotHistoryWindowInSeconds and repeat it."
            ) from error
        raise
    manifest = {"format": FORMAT, "layout": indexes.LAYOUT, "documents": counts}
    # Last: an archive without its manifest was interrupted.
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


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
