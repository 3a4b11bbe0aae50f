"""The MongoDB store: `protocol.Store` on a replica set or a sharded cluster of version 6.0 or later.

The layout is in `docs/storage-mongodb.md`, the indexes in `indexes.py`, what becomes of a search in `compile.py` and
`search.py`.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from fhir_server.errors import Busy
from fhir_server.search.ast import Scalar
from fhir_server.storage.mongo import archive, indexes, layout, soundness
from fhir_server.storage.mongo.compile import CURRENT, DELETED, successor
from fhir_server.storage.mongo.connection import (
    NO_SUCH_TRANSACTION,
    UnsuitableServer,
    check_server,
    edge,
    is_transient,
    make_client,
)
from fhir_server.storage.mongo.documents import MetaRecord, OpenWrite, StoreRecord
from fhir_server.storage.mongo.feed import Feed
from fhir_server.storage.mongo.history import read_history
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.mongo.reader import Reader
from fhir_server.storage.mongo.transaction import Again, Marker, MarkerLost, MongoTransaction
from fhir_server.storage.protocol import Change, HistoryPage, HistoryQuery, Transaction
from fhir_server.storage.writes import Stored, Version

T = TypeVar("T")

MAJORITY = WriteConcern("majority", j=True)
DEFAULT_DATABASE = "hestia"
LEASE_S = 120.0
"""After it an open-write marker may be reaped; mongod ends transactions after 60 s on its own."""


def open_store(
    uri: str,
    *,
    database: str | None = None,
    busy_s: float = 30.0,
    timeout_s: float = 10.0,
    lease_s: float = LEASE_S,
    listeners: Sequence[Any] = (),
) -> MongoStore:
    """The store in a MongoDB database; makes its collections and indexes, or checks them.

    `database`: its name; else the one in the URI, else "hestia". `busy_s`: how long a write is tried again.
    `timeout_s`: how long a server is looked for. `listeners`: pymongo's command listeners, for tests and measurements.

    Raises: UnsuitableServer (standalone, too old, or a newer layout), indexes.WrongIndexes, Busy (no server answers).
    """
    try:
        named = parse_uri(uri).get("database")
    except ConfigurationError:  # its text may repeat the password
        raise UnsuitableServer("The URI of the MongoDB store cannot be read.") from None
    store = MongoStore(
        uri,
        database or named or DEFAULT_DATABASE,
        busy_s=busy_s,
        timeout_s=timeout_s,
        lease_s=lease_s,
        listeners=list(listeners),
    )
    try:
        store.prepare()
    except BaseException:
        store.close()
        raise
    return store


class MongoStore(Reader):
    """See protocol.Store. It connects again by itself in a process that was forked."""

    def __init__(
        self, uri: str, database: str, *, busy_s: float, timeout_s: float, lease_s: float, listeners: list[Any]
    ) -> None:
        self._uri = uri
        self._name = database
        self._busy_s = busy_s
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._listeners = listeners
        self._identity = ""
        self._client: MongoClient[Raw] | None = None
        self._collections: dict[str, Collection[Raw]] = {}
        self._pid = 0
        self._feed: Feed | None = None
        self._chance = random.Random(secrets.randbits(64))  # noqa: S311 - pauses and tie-breaking, no secret

    # -- connection ----------------------------------------------------------------------------------------------------

    @property
    def client(self) -> MongoClient[Raw]:
        """The client of this process: one made before a fork is left to the parent."""
        if self._client is None or self._pid != os.getpid():
            self._client = make_client(self._uri, timeout_s=self._timeout_s, listeners=self._listeners)
            self._pid = os.getpid()
            self._collections = {name: self._client[self._name][name] for name in indexes.INDEXES}
            self._feed = None
            self._chance.seed(secrets.randbits(64))
        return self._client

    @property
    def _database(self) -> Database[Raw]:
        return self.client[self._name]

    def _collection(self, name: str) -> Collection[Raw]:
        if self._pid != os.getpid() or self._client is None:
            return self._database[name]
        return self._collections[name]  # made once: they are on the path of every read

    def prepare(self) -> None:
        """Checks the server, makes or checks collections and indexes. See `open_store` for what it raises."""
        with edge():
            admin = self.client.admin
            check_server(admin.command("hello"), admin.command("buildInfo"))
            indexes.ensure(self._database)
            record = self._store_record()
        if record.layout > indexes.LAYOUT:
            raise UnsuitableServer(
                f"This database has layout {record.layout}; this version of Hestia knows {indexes.LAYOUT} at most."
            )
        self._identity = record.identity

    def _store_record(self) -> StoreRecord:
        collection = self._collection(indexes.STORE)
        fresh = StoreRecord(layout=indexes.LAYOUT, identity=secrets.token_hex(16)).dump()
        key = {"_id": fresh.pop("_id")}
        try:
            collection.update_one(key, {"$setOnInsert": fresh}, upsert=True)
        except DuplicateKeyError:
            pass  # another process was faster
        raw = collection.find_one(key)
        assert raw is not None
        return StoreRecord.load(raw)

    def close(self) -> None:
        """See Store.close."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        if self._client is not None and self._pid == os.getpid():
            self._client.close()
        self._client = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_version(self, type: str, id: str, version: int) -> Stored | None:
        """See Store.read_version. One command, on both collections."""
        address = f"{type}/{id}"
        pipeline: list[dict[str, Any]] = [
            {"$match": {"_id": address, "version": version}},
            {"$project": layout.STORED},
            {
                "$unionWith": {
                    "coll": indexes.HISTORY,
                    "pipeline": [
                        {"$match": {"_id": layout.version_id(address, version)}},
                        {"$project": layout.STORED},
                    ],
                }
            },
        ]
        with edge():
            # Found twice when it was superseded between the two reads; the same version then.
            found = list(self._collection(indexes.RESOURCES).aggregate(pipeline))
        return layout.stored(found[0]) if found else None

    def history(self, query: HistoryQuery) -> HistoryPage:
        """See Store.history."""
        with edge():
            return read_history(self._database, query, self._lease_s)

    def counts(self) -> dict[str, int]:
        """See Store.counts."""
        pipeline: list[dict[str, Any]] = [{"$match": {"state": 1}}, {"$group": {"_id": "$type", "n": {"$sum": 1}}}]
        with edge():
            found = {one["_id"]: int(one["n"]) for one in self._collection(indexes.RESOURCES).aggregate(pipeline)}
        return dict(sorted(found.items()))

    # -- transactions --------------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """See Store.transact."""
        deadline = time.monotonic() + self._busy_s
        with edge(), self.client.start_session(causal_consistency=True) as session:
            marker: Marker | None = None
            attempt = 0
            try:
                while True:
                    if write and marker is None:
                        marker = self._open_write(session)
                    transaction = MongoTransaction(self._database, session, marker, self._chance.getrandbits(8))
                    session.start_transaction(
                        read_concern=ReadConcern("snapshot"),
                        write_concern=MAJORITY,
                        read_preference=ReadPreference.PRIMARY,
                    )
                    try:
                        result = work(transaction)
                        transaction.finish()
                        self._commit(session, deadline)
                    except (Again, PyMongoError) as error:
                        self._abort(session)
                        if isinstance(error, MarkerLost):
                            marker = None
                        if isinstance(error, PyMongoError) and not is_transient(error):
                            raise
                    except BaseException:
                        self._abort(session)
                        raise
                    else:
                        if marker is not None:
                            settle(marker, transaction.latest)
                            marker = None
                        return result
                    attempt += 1
                    pause = self._chance.uniform(0, min(0.25, 0.002 * 2 ** min(attempt, 8)))
                    if time.monotonic() + pause > deadline:
                        raise Busy
                    time.sleep(pause)
            finally:
                if marker is not None:
                    self._close_write(marker)

    def _open_write(self, session: ClientSession) -> Marker:
        """Writes the marker of a write that begins. It needs no majority: a primary that loses it loses the transaction
        too, or the transaction misses it at its end and is run again."""
        token = secrets.token_hex(12)
        sent = time.monotonic()
        raw = self._open_writes().find_one_and_update(
            {"_id": token},
            [{"$set": {"opened": {"$toLong": "$$NOW"}}}],
            upsert=True,
            return_document=True,
            session=session,
        )
        acknowledged = time.monotonic()
        return Marker(token, OpenWrite.load(raw).opened, sent, acknowledged)

    def _open_writes(self) -> Any:
        return self._database.get_collection(indexes.OPEN_WRITES, write_concern=WriteConcern(1))

    def _close_write(self, marker: Marker) -> None:
        try:
            self._open_writes().delete_one({"_id": marker.token})
        except PyMongoError:
            pass  # the next reader of a history reaps it when its lease is over

    def _commit(self, session: ClientSession, deadline: float) -> None:
        """Commits; an unknown result is asked for again, which is safe, until it is known or time is up."""
        while True:
            try:
                session.commit_transaction()
                return
            except PyMongoError as error:
                if not error.has_error_label("UnknownTransactionCommitResult"):
                    raise
                if getattr(error, "code", None) == NO_SUCH_TRANSACTION or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _abort(self, session: ClientSession) -> None:
        if session.in_transaction:
            try:
                session.abort_transaction()
            except PyMongoError:
                pass  # the server ends it on its own

    # -- change feed ---------------------------------------------------------------------------------------------------

    def feed_position(self) -> str:
        """See Store.feed_position."""
        with edge():
            return self._changes().position()

    def feed(self, after: str, *, limit: int = 1000, wait_s: float = 0.0) -> list[Change]:
        """See Store.feed."""
        with edge():
            return self._changes().read(after, limit, wait_s)

    def _changes(self) -> Feed:
        database = self._database
        if self._feed is None:
            self._feed = Feed(database, self._identity)
        return self._feed

    # -- records -------------------------------------------------------------------------------------------------------

    def put_meta(self, key: str, value: Any) -> None:
        """See Store.put_meta."""
        text = json.dumps(value)
        self._change_meta(key, lambda _: text)

    def meta_items(self, prefix: str) -> dict[str, Any]:
        """See Store.meta_items."""
        keys: dict[str, Any] = {"$gte": prefix}
        beyond = successor(prefix)
        if beyond is not None:
            keys["$lt"] = beyond
        with edge():
            records = [
                MetaRecord.load(raw) for raw in self._collection(indexes.META).find({"_id": keys}).sort("_id", 1)
            ]
        return {record.key: json.loads(record.value) for record in records}

    def update_meta(self, key: str, change: Callable[[Any | None], T]) -> T:
        """See Store.update_meta."""
        results: list[T] = []

        def again(old: str | None) -> str:
            results[:] = [change(None if old is None else json.loads(old))]
            return json.dumps(results[0])

        self._change_meta(key, again)
        return results[0]

    def _change_meta(self, key: str, change: Callable[[str | None], str]) -> None:
        """Replaces a record where its revision is still the one that was read."""
        collection = self._collection(indexes.META)
        deadline = time.monotonic() + self._busy_s
        with edge():
            while True:
                raw = collection.find_one({"_id": key})
                old = None if raw is None else MetaRecord.load(raw)
                revision = 0 if old is None else old.revision
                value = change(None if old is None else old.value)
                fresh = MetaRecord(key=key, value=value, revision=revision + 1).dump()
                if old is None:
                    try:
                        collection.insert_one(fresh)
                        return
                    except DuplicateKeyError:
                        pass
                elif collection.replace_one({"_id": key, "revision": revision}, fresh).matched_count == 1:
                    return
                if time.monotonic() > deadline:
                    raise Busy
                time.sleep(self._chance.uniform(0, 0.01))

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def scan(self, *, after: str = "", types: Sequence[str] | None = None, limit: int = 500) -> list[Stored]:
        """See Store.scan."""
        condition: dict[str, Any] = {"_id": {"$gt": after}, "state": 1}
        if types is not None:
            # One interval of addresses for each type: "0" follows "/".
            intervals = [{"_id": {"$gte": f"{type}/", "$lt": f"{type}0"}} for type in types]
            condition["$or"] = intervals or [{"_id": {"$in": []}}]
        with edge():
            found = self._collection(indexes.RESOURCES).find(condition, layout.STORED).sort("_id", 1).limit(limit)
            return [layout.stored(raw) for raw in found]

    def scan_versions(self, *, after: tuple[str, int] = ("", 0), limit: int = 500) -> list[Stored]:
        """See Store.scan_versions."""
        address, version = after
        with edge():
            # Current versions first: one that is superseded in between is then found in the history, or twice.
            current = (
                self._collection(indexes.RESOURCES)
                .find({"_id": {"$gte": address}, "version": {"$exists": True}}, layout.STORED)
                .sort("_id", 1)
                .limit(limit + 1)
            )
            found = {(raw["_id"], raw["version"]): raw for raw in current}
            old = (
                self._collection(indexes.HISTORY)
                .find({"_id": {"$gt": layout.version_id(address, version)}}, layout.STORED)
                .sort("_id", 1)
                .limit(limit)
            )
            found.update(((f"{raw['type']}/{raw['id']}", raw["version"]), raw) for raw in old)
        keys = sorted(key for key in found if key > after)[:limit]
        return [layout.stored(found[key]) for key in keys]

    def stale(self, registry: int, limit: int = 500) -> list[Stored]:
        """See Store.stale."""
        with edge():
            found = (
                self._collection(indexes.RESOURCES)
                .find({"registry": {"$lt": registry}, "state": 1}, layout.STORED)
                .sort([("registry", 1), ("_id", 1)])
                .limit(limit)
            )
            return [layout.stored(raw) for raw in found]

    def reindex(self, versions: Sequence[Version]) -> int:
        """See Store.reindex."""
        return self.transact(lambda transaction: _mongo(transaction).reindex(versions))

    def import_versions(self, versions: Sequence[Version]) -> None:
        """See Store.import_versions."""
        self.transact(lambda transaction: _mongo(transaction).import_versions(versions))

    def entries(
        self, address: str
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str, Scalar, Scalar, str]], list[str]]:
        """See Store.entries."""
        with edge():
            collection = self._collection(indexes.RESOURCES)
            raw = collection.find_one({"_id": address}, {"k": 1, "r": 1, "claims": 1, "inside": 1})
            if raw is None:
                return [], [], []
            raws = [raw]
            if raw.get("inside"):
                raws.extend(collection.find({"_id": {"$in": raw["inside"]}}, {"k": 1, "r": 1}))
        keys: list[tuple[int, str]] = []
        ranges: list[tuple[int, str, Scalar, Scalar, str]] = []
        for one in raws:
            its_keys, its_ranges = layout.entries_of(one)
            keys.extend(its_keys)
            ranges.extend(its_ranges)
        return sorted(keys), sorted(ranges, key=layout.range_order), sorted(raw.get("claims", ()))

    def backup(self, target: str) -> None:
        """See Store.backup. The directory is what mongorestore --gzip reads, too."""
        with edge():
            archive.dump(self.client, self._name, target)

    def restore(self, source: str) -> None:
        """Fills this empty database from a directory that `backup` made; feed positions of the old one are lost.

        Raises: ValueError when the database is not empty or the archive is damaged.
        """
        with edge():
            archive.restore(self._database, source)
            fresh = StoreRecord(layout=indexes.LAYOUT, identity=secrets.token_hex(16)).dump()
            self._collection(indexes.STORE).replace_one({"_id": fresh["_id"]}, fresh, upsert=True)
        self._identity = fresh["identity"]
        self._feed = None

    def check(self) -> Iterator[str]:
        """See Store.check."""
        with edge():
            yield from soundness.findings(self._database)

    def statistics(self) -> Mapping[str, Any]:
        """See Store.statistics. `bytes` is what documents and indexes take in the database's files, compressed."""
        with edge():
            build = self.client.admin.command("buildInfo")
            sizes = self._database.command("dbStats")
            resources = self._collection(indexes.RESOURCES)
            current = resources.count_documents({"state": CURRENT})
            deleted = resources.count_documents({"state": DELETED})
            superseded = self._collection(indexes.HISTORY).estimated_document_count()
        database, version = server_name(build)
        return {
            "database": database,
            "version": version,
            "name": self._name,
            "bytes": int(sizes.get("storageSize", 0)) + int(sizes.get("indexSize", 0)),
            "data_bytes": int(sizes.get("dataSize", 0)),
            "index_bytes": int(sizes.get("indexSize", 0)),
            "resources": current,
            "versions": current + deleted + superseded,
        }


def server_name(build: Mapping[str, Any]) -> tuple[str, str]:
    """Name and version of a server from its `buildInfo`, stand-ins by their own name."""
    if "secantusVersion" in build:
        return "SecantusDB", str(build["secantusVersion"])
    return "MongoDB", str(build.get("version", "?"))


def settle(marker: Marker, latest: int) -> None:
    """Waits until the database's clock has passed the last time written, so that the writer's next history shows it.

    Mostly it has: the commit took longer. A time far in the future is not waited for.
    """
    wait_ms = latest // 1000 + 1 - marker.surely_ms()
    if 0 < wait_ms <= 1000:
        time.sleep(wait_ms / 1000)


def _mongo(transaction: Transaction) -> MongoTransaction:
    assert isinstance(transaction, MongoTransaction)
    return transaction
