"""The embedded store: one SQLite file, several worker processes. Implements storage/protocol.py."""

from __future__ import annotations

import json
import os
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from fhir_server.errors import Busy, PositionLost
from fhir_server.search.ast import Scalar, Search
from fhir_server.storage.protocol import Change, HistoryPage, HistoryQuery, SearchPage, Transaction
from fhir_server.storage.sqlite import check as checks
from fhir_server.storage.sqlite.connection import begin_immediate, connect, immediate, library_version, rollback
from fhir_server.storage.sqlite.history import HistoryReader
from fhir_server.storage.sqlite.search import Searcher
from fhir_server.storage.sqlite.terms import Terms
from fhir_server.storage.sqlite.write import CURRENT, METHODS, Writer
from fhir_server.storage.writes import Stored, Version

T = TypeVar("T")

FEED_LENGTH = 200_000
"""Changes that the feed keeps; an older position raises PositionLost."""
ATTEMPTS = 5
POLL_S = 0.005
BACKUP_PAGES = 2000
"""Pages that one step of a backup copies."""

READ = "SELECT version, updated, method, body, registry FROM resource WHERE address = ? AND state < 2"
READ_MANY = (
    "SELECT r.address, r.version, r.updated, r.method, r.body, r.registry FROM carray(?) wanted "
    "CROSS JOIN resource r ON r.address = wanted.value WHERE r.container IS NULL"
)
READ_VERSION = (
    "SELECT h.updated, h.method, h.body, h.registry FROM resource r "
    "CROSS JOIN history h ON h.rid = r.rid AND h.version = ? WHERE r.address = ?"
)


def open_store(
    path: str | Path,
    *,
    create: bool = True,
    cache_mb: int = 64,
    busy_timeout_s: float = 10.0,
    feed_length: int = FEED_LENGTH,
) -> SqliteStore:
    """The store in the file at `path`.

    `cache_mb`: SQLite's page cache of this connection. `feed_length`: changes that the feed keeps.
    Raises: UnusableStore when the library is too old, the file absent and `create` False, or of another or a newer
    schema.
    """
    return SqliteStore(
        Path(path), create=create, cache_mb=cache_mb, busy_timeout_s=busy_timeout_s, feed_length=feed_length
    )


_LAST = "\U0010ffff"
"""Sorts after every character of a key."""
_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    """A SQLite connection must not be used, nor closed, in the child of a fork: it is kept aside and a new one is
    opened.
    """
    for store in list(_stores):
        store._abandon(_inherited)


os.register_at_fork(after_in_child=_after_fork)


class SqliteStore:
    """See storage/protocol.Store. Used by one thread at a time; after a fork the child opens a connection of its
    own.
    """

    def __init__(self, path: Path, *, create: bool, cache_mb: int, busy_timeout_s: float, feed_length: int) -> None:
        self._path = path
        self._cache_mb = cache_mb
        self._busy_timeout_s = busy_timeout_s
        self._feed_length = feed_length
        self._open(create)
        _stores.add(self)

    def _open(self, create: bool) -> None:
        # Any: an apsw.Connection, or after a fork a _Closed
        self._connection: Any = connect(
            self._path, create=create, cache_mb=self._cache_mb, busy_timeout_s=self._busy_timeout_s
        )
        self._terms = Terms(self._connection)
        self._writer = Writer(self._connection, self._terms, self._feed_length)
        self._history = HistoryReader(self._connection, self._terms)
        self._searcher = Searcher(self._connection, self._terms)
        self._transaction: SqliteTransaction | None = None
        self._epoch = self._claim_epoch()

    def _abandon(self, keep: list[Any]) -> None:
        if isinstance(self._connection, apsw.Connection):
            keep.append((self._connection, self._terms, self._writer, self._history, self._searcher))
            self._connection = _Closed(self._reopen)

    def _reopen(self) -> apsw.Connection:
        self._open(create=False)
        assert isinstance(self._connection, apsw.Connection)
        return self._connection

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, type: str, id: str) -> Stored | None:
        """See Reader.read."""
        row = self._connection.execute(READ, (f"{type}/{id}",)).fetchone()
        if row is None:
            return None
        version, updated, method, body, registry = row
        return Stored(type, id, version, updated, METHODS[method], body, registry)

    def read_many(self, addresses: Sequence[str]) -> dict[str, Stored]:
        """See Reader.read_many."""
        if not addresses:
            return {}
        rows = self._connection.execute(READ_MANY, (apsw.carray(tuple(dict.fromkeys(addresses))),))
        return {row[0]: stored(row) for row in rows}

    def read_version(self, type: str, id: str, version: int) -> Stored | None:
        """See Store.read_version."""
        with self._snapshot():
            current = self.read(type, id)
            if current is None or current.version == version:
                return current
            row = self._connection.execute(READ_VERSION, (version, f"{type}/{id}")).fetchone()
        if row is None:
            return None
        updated, method, body, registry = row
        return Stored(type, id, version, updated, METHODS[method], body, registry)

    def search(self, search: Search) -> SearchPage:
        """See Reader.search."""
        page = self._searcher.quick_page(search)
        if page is not None:
            return page
        with self._snapshot():
            return self._searcher.page(search)

    def explain(self, search: Search) -> list[dict[str, Any]]:
        """See Reader.explain: each statement with its arguments' number, and SQLite's query plan."""
        with self._snapshot():
            return self._searcher.explain(search)

    def history(self, query: HistoryQuery) -> HistoryPage:
        """See Store.history."""
        watermark = query.until
        if watermark is None:
            watermark = self._watermark(instance=query.id is not None)
        with self._snapshot():
            return self._history.page(query, watermark)

    def _watermark(self, *, instance: bool) -> int:
        """A time at or below which nothing can still be committed.

        Commit times never fall, but two commits may share a millisecond, so a writer that is at work right now may
        carry the time of the last commit. While the write lock is held for a moment no writer is at work, and after the
        clock has passed that millisecond no later one can take it. Versions of one instance rise strictly: no lock
        needed.
        """
        if self._connection.in_transaction or instance:
            return self._last_commit()
        begin_immediate(self._connection)
        try:
            last = self._last_commit()
            while clock() <= last:
                if last - clock() > 1_000_000:  # the clock was set back: do not wait for it
                    return last - 1
                time.sleep(0.0002)
            return last
        finally:
            rollback(self._connection)

    def _last_commit(self) -> int:
        last = self._connection.execute("SELECT ifnull(clock, updated) FROM feed ORDER BY seq DESC LIMIT 1").get
        return 0 if last is None else int(last)

    def counts(self) -> dict[str, int]:
        """See Store.counts."""
        rows = self._connection.execute(
            f"SELECT t.name, count(*) FROM resource_type t CROSS JOIN resource r INDEXED BY resource_kind "
            f"ON r.type = t.number AND r.state = {CURRENT} GROUP BY t.number"
        )
        return dict(rows)

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(self._connection)

    # -- writing -------------------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """See Store.transact. A nested call joins the transaction that runs."""
        if self._transaction is not None:
            return work(self._transaction)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._transact_once(work, write)
            except (apsw.BusyError, apsw.LockedError) as error:
                if attempt == ATTEMPTS:
                    raise Busy() from error
            except apsw.FullError as error:
                raise Busy("The store's file system is full.") from error
        raise AssertionError("unreachable")

    def _transact_once(self, work: Callable[[Transaction], T], write: bool) -> T:
        if write:
            begin_immediate(self._connection)
            self._terms.begin()
        else:
            self._connection.execute("BEGIN")
        transaction = SqliteTransaction(self, write)
        self._transaction = transaction
        try:
            result = work(transaction)
            if transaction.failure is not None:
                raise transaction.failure
            self._connection.execute("COMMIT")
        except BaseException:
            self._terms.forget()
            rollback(self._connection)
            raise
        finally:
            self._transaction = None
        self._terms.commit()
        return result

    def import_versions(self, versions: Sequence[Version]) -> None:
        """See Store.import_versions. Versions that are here already are passed over, so an interrupted copy can be
        repeated.
        """
        self.transact(lambda _: self._writer.import_versions(versions))

    def reindex(self, versions: Sequence[Version]) -> int:
        """See Store.reindex."""
        return self.transact(lambda _: self._writer.reindex(versions))

    # -- change feed ---------------------------------------------------------------------------------------------------

    def _claim_epoch(self) -> str:
        """The feed's epoch: a new one when this file is a copy, recognized by its inode, of the file that it was made
        in.
        """
        inode = self._path.stat().st_ino
        kept = self.get_meta("feed-epoch")
        if kept and kept["inode"] == inode:
            return str(kept["epoch"])
        with immediate(self._connection):
            kept = self.get_meta("feed-epoch")
            if not kept or kept["inode"] != inode:
                kept = {"epoch": uuid.uuid4().hex, "inode": inode}
                self._put_meta("feed-epoch", kept)
        return str(kept["epoch"])

    def feed_position(self) -> str:
        """See Store.feed_position."""
        last = self._connection.execute("SELECT max(seq) FROM feed").get
        return f"{self._epoch}.{last or 0}"

    def feed(self, after: str, *, limit: int = 1000, wait_s: float = 0.0) -> list[Change]:
        """See Store.feed."""
        epoch, _, number = after.partition(".")
        if epoch != self._epoch or not number.isdecimal():
            raise PositionLost("The position belongs to another store, or to a copy of this one.")
        seq = int(number)
        deadline = time.monotonic() + wait_s
        while True:
            with self._snapshot():
                first, last = self._connection.execute("SELECT min(seq), max(seq) FROM feed").fetchone()
                if seq > (last or 0) or (first is not None and seq < first - 1):
                    raise PositionLost("The feed no longer reaches back to the position.")
                rows = self._connection.execute(
                    "SELECT f.seq, t.name, r.address, f.version, f.updated, f.method FROM feed f "
                    "CROSS JOIN resource r ON r.rid = f.rid CROSS JOIN resource_type t ON t.number = r.type "
                    "WHERE f.seq > ? ORDER BY f.seq LIMIT ?",
                    (seq, limit),
                ).fetchall()
            if rows or time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        return [
            Change(f"{self._epoch}.{row[0]}", row[1], row[2][len(row[1]) + 1 :], row[3], row[4], METHODS[row[5]])
            for row in rows
        ]

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def get_meta(self, key: str) -> Any | None:
        """See Store.get_meta."""
        text = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
        return None if text is None else json.loads(text)

    def _put_meta(self, key: str, value: Any) -> None:
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, json.dumps(value, ensure_ascii=False, separators=(",", ":"))),
        )

    def put_meta(self, key: str, value: Any) -> None:
        """See Store.put_meta."""
        self.transact(lambda _: self._put_meta(key, value))

    def meta_items(self, prefix: str) -> dict[str, Any]:
        """See Store.meta_items."""
        rows = self._connection.execute(
            "SELECT key, value FROM meta WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + _LAST)
        )
        return {key: json.loads(value) for key, value in rows}

    def update_meta(self, key: str, change: Callable[[Any | None], T]) -> T:
        """See Store.update_meta."""

        def work(_: Transaction) -> T:
            value = change(self.get_meta(key))
            self._put_meta(key, value)
            return value

        return self.transact(work)

    def scan(self, *, after: str = "", types: Sequence[str] | None = None, limit: int = 500) -> list[Stored]:
        """See Store.scan."""
        wanted = ""
        arguments: list[Any] = [after]
        if types is not None:
            numbers = [number for number in map(self._terms.type_number, types) if number is not None]
            if not numbers:
                return []
            # Within one type addresses share a prefix: a single type is one range of the index.
            if len(numbers) == 1:
                arguments = [max(after, f"{types[0]}/")]
            wanted = f" AND type IN ({','.join(map(str, numbers))})"
        rows = self._connection.execute(
            "SELECT address, version, updated, method, body, registry FROM resource "
            f"WHERE address > ? AND state = {CURRENT}{wanted} ORDER BY address LIMIT ?",
            (*arguments, limit),
        )
        return [stored(row) for row in rows]

    def scan_versions(self, *, after: tuple[str, int] = ("", 0), limit: int = 500) -> list[Stored]:
        """See Store.scan_versions."""
        address, version = after
        with self._snapshot():
            rows = self._connection.execute(
                "SELECT address, version, updated, method, body, registry, rid FROM resource "
                "WHERE address >= ? AND container IS NULL ORDER BY address LIMIT ?",
                (address, limit + 1),
            )
            found: list[Stored] = []
            for *current, rid in rows:
                floor = version if current[0] == address else 0
                older = self._connection.execute(
                    "SELECT version, updated, method, body, registry FROM history WHERE rid = ? AND version > ? "
                    "ORDER BY version LIMIT ?",
                    (rid, floor, limit - len(found)),
                )
                found.extend(stored((current[0], *row)) for row in older)
                if current[1] > floor and len(found) < limit:
                    found.append(stored(tuple(current)))
                if len(found) >= limit:
                    break
        return found

    def stale(self, registry: int, limit: int = 500) -> list[Stored]:
        """See Store.stale."""
        rows = self._connection.execute(
            "SELECT address, version, updated, method, body, registry FROM resource INDEXED BY resource_registry "
            f"WHERE state = {CURRENT} AND registry < ? LIMIT ?",
            (registry, limit),
        )
        return [stored(row) for row in rows]

    def entries(
        self, address: str
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str, Scalar, Scalar, str]], list[str]]:
        """See Store.entries."""
        with self._snapshot():
            rid = self._connection.execute("SELECT rid FROM resource WHERE address = ?", (address,)).get
            if rid is None:
                return [], [], []
            documents = "(SELECT ?1 AS rid UNION ALL SELECT rid FROM resource WHERE container = ?1)"
            keys = self._connection.execute(
                f"SELECT t.param, t.key FROM {documents} d CROSS JOIN posting p ON p.rid = d.rid CROSS JOIN "
                f"term t ON t.tid = p.tid",
                (rid,),
            ).fetchall()
            ranges = self._connection.execute(
                f"SELECT t.param, t.key, s.low, s.high, u.key FROM {documents} d CROSS JOIN span s ON s.rid = d.rid "
                "CROSS JOIN term t ON t.tid = s.tid CROSS JOIN term u ON u.tid = s.unit",
                (rid,),
            ).fetchall()
            claims = [key for (key,) in self._connection.execute("SELECT key FROM claim WHERE rid = ?", (rid,))]
        return sorted(keys), sorted(ranges, key=lambda entry: tuple(map(rank, entry))), sorted(claims)

    def backup(self, target: str) -> None:
        """See Store.backup: a file at `target`, which must not exist. Runs beside readers and writers.

        The copy gets a feed epoch of its own, so that positions of the original are not mistaken for its own.
        """
        if os.path.exists(target):
            raise FileExistsError(f"{target} exists already.")
        copy = apsw.Connection(target)
        try:
            # Within one snapshot: a backup starts again whenever another process commits between its steps.
            with self._snapshot():
                self.get_meta("feed-epoch")  # a snapshot begins with the first read
                with copy.backup("main", self._source(), "main") as transfer:
                    while not transfer.done:
                        transfer.step(BACKUP_PAGES)
            copy.pragma("journal_mode", "wal")
            copy.execute("DELETE FROM meta WHERE key = 'feed-epoch'")
            copy.pragma("wal_checkpoint(TRUNCATE)")
        finally:
            copy.close()

    def _source(self) -> apsw.Connection:
        return self._connection if isinstance(self._connection, apsw.Connection) else self._reopen()

    def check(self) -> Iterator[str]:
        """See Store.check."""
        with self._snapshot():
            yield from checks.findings(self._source())

    def statistics(self) -> Mapping[str, Any]:
        """See Store.statistics. `bytes` is the size of the database without free pages, `file_bytes` that of its
        files.
        """
        with self._snapshot():
            page, count, free = (self._source().pragma(name) for name in ("page_size", "page_count", "freelist_count"))
            resources = self._connection.execute(f"SELECT count(*) FROM resource WHERE state = {CURRENT}").get
            versions = self._connection.execute(
                "SELECT (SELECT count(*) FROM history) + count(*) FROM resource WHERE state < 2"
            ).get
        files = [Path(f"{self._path}{suffix}") for suffix in ("", "-wal")]
        return {
            "database": "SQLite",
            "version": ".".join(map(str, library_version())),
            "bytes": page * (count - free),
            "file_bytes": sum(file.stat().st_size for file in files if file.exists()),
            "resources": resources,
            "versions": versions,
        }

    def close(self) -> None:
        """Closes the connection; SQLite checkpoints when it was the last one on the file."""
        _stores.discard(self)
        if isinstance(self._connection, apsw.Connection):
            self._connection.close()


class SqliteTransaction:
    """See storage/protocol.Transaction."""

    def __init__(self, store: SqliteStore, write: bool) -> None:
        self._store = store
        self._write = write
        self._now: int | None = None
        self.failure: Exception | None = None
        """What an append raised. The transaction cannot commit after it, even when the caller caught it."""
        self.read = store.read
        self.read_many = store.read_many
        self.search = store.search
        self.explain = store.explain
        self.get_meta = store.get_meta

    def lock(self, criteria: str) -> None:
        """Writers are serialized by the database's write lock, so nothing is left to do."""
        self._require_write()

    def append(self, versions: Sequence[Version]) -> None:
        """See Transaction.append."""
        self._require_write()
        try:
            self._store._writer.append(versions)
        except Exception as error:
            self.failure = error
            raise

    def now(self) -> int:
        """See Transaction.now: one value per attempt."""
        if self._now is None:
            self._now = max(clock(), -(-self._store._last_commit() // 1000) * 1000)
        return self._now

    def put_meta(self, key: str, value: Any) -> None:
        """See Transaction.put_meta."""
        self._require_write()
        self._store._put_meta(key, value)

    def remove_meta(self, keys: Sequence[str]) -> int:
        """See Transaction.remove_meta."""
        self._require_write()
        connection = self._store._connection
        if not keys:
            return 0
        connection.execute("DELETE FROM meta WHERE key IN (SELECT value FROM carray(?))", (apsw.carray(tuple(keys)),))
        return int(connection.changes())

    def _require_write(self) -> None:
        if not self._write:
            raise RuntimeError("This transaction only reads.")


class _Snapshot:
    """A read transaction, unless one runs already."""

    __slots__ = ("_connection", "_own")

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._own = not self._connection.in_transaction
        if self._own:
            self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._connection.execute("COMMIT")


class _Closed:
    """Stands where a forked process inherited a connection; the first use opens a new one."""

    def __init__(self, reopen: Callable[[], apsw.Connection]) -> None:
        self._reopen = reopen
        self._opened: apsw.Connection | None = None

    def _target(self) -> apsw.Connection:
        if self._opened is None:
            self._opened = self._reopen()
        return self._opened

    @property
    def in_transaction(self) -> bool:
        return self._target().in_transaction

    def execute(self, *arguments: Any) -> apsw.Cursor:
        return self._target().execute(*arguments)


def stored(row: Sequence[Any]) -> Stored:
    """(address, version, updated, method, body, registry) as a Stored."""
    address, version, updated, method, body, registry = row
    type, _, id = address.partition("/")
    return Stored(type, id, version, updated, METHODS[method], body, registry)


def clock() -> int:
    """The time in microseconds, cut to a millisecond."""
    return time.time_ns() // 1_000_000 * 1000


def rank(value: Any) -> tuple[bool, Any]:
    """A sort key for columns that hold integers or text."""
    return isinstance(value, str), value
