"""Records in the file of the embedded store: a table per kind beside the tables of the FHIR resources.

The connection is its own, with the settings that the FHIR store uses: WAL, synchronous=FULL, no mmap. Counters of `hit`
alone are committed without waiting for the disk: a power cut may forget them, and nothing else.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import apsw

from smart_auth.context import now
from smart_auth.records import KINDS, Record
from smart_auth.store.protocol import StoreBusy, Taken
from smart_auth.store.rows import (
    REMEMBERED,
    R,
    Remembered,
    Together,
    Wanted,
    check_fields,
    columns,
    decode,
    encode,
    expired,
    table,
)

APPLICATION_ID: Final = 0x48535449  # "HSTI", as the FHIR store writes it
OLDEST_LIBRARY: Final = (3, 51, 3)
"""Older ones can corrupt a WAL database that several connections write and checkpoint."""


class UnusableStore(Exception):
    """The file or the library cannot be used; for operators, never for the wire."""


def open_store(
    path: str | os.PathLike[str], *, clock: Callable[[], int] = now, busy_timeout_s: float = 10.0
) -> SqliteAuthStore:
    """The records in the file at `path`, which is made if absent. The FHIR store may have been there before, or come
    later.

    Raises: UnusableStore when the library is too old, or the file is not a database or one of another application.
    """
    return SqliteAuthStore(Path(path), clock, busy_timeout_s)


_stores: weakref.WeakSet[SqliteAuthStore] = weakref.WeakSet()
_inherited: list[apsw.Connection] = []


def _after_fork() -> None:
    """A SQLite connection must be neither used nor closed in the child of a fork: it is kept aside."""
    for store in list(_stores):
        store.abandon(_inherited)


os.register_at_fork(after_in_child=_after_fork)


class SqliteAuthStore:
    """See store/protocol.AuthStore. After a fork the child opens a connection of its own at first use."""

    def __init__(self, path: Path, clock: Callable[[], int], busy_timeout_s: float) -> None:
        self._path = path
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._remembered = Remembered()
        self._current: dict[Wanted, Together] = {}
        self._current_of: tuple[int, int] | None = None
        self._written = 0
        self._opened: apsw.Connection | None = None
        self._opened = self._connect()
        _stores.add(self)

    def abandon(self, keep: list[apsw.Connection]) -> None:
        """Leaves the connection to the parent of a fork."""
        if self._opened is not None:
            keep.append(self._opened)
            self._opened = None

    @property
    def _connection(self) -> apsw.Connection:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def _connect(self) -> apsw.Connection:
        library = tuple(int(part) for part in apsw.sqlitelibversion().split("."))
        if library < OLDEST_LIBRARY:
            raise UnusableStore(f"SQLite {apsw.sqlitelibversion()} is too old; install the apsw wheel.")
        try:
            connection = apsw.Connection(os.fspath(self._path), statementcachesize=200)
        except apsw.CantOpenError as error:
            raise UnusableStore(f"The store at {self._path} cannot be opened: {error}.") from error
        try:
            connection.set_busy_handler(_waiter(self._busy_timeout_s))
            # Without it a statement may be compiled anew whenever other values are bound to it.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            if connection.pragma("application_id") not in (0, APPLICATION_ID):
                raise UnusableStore(f"{self._path} is a SQLite database of another application.")
            connection.pragma("cache_size", -4096)
            connection.pragma("mmap_size", 0)
            connection.pragma("temp_store", "MEMORY")
            connection.pragma("trusted_schema", False)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "FULL")
            connection.pragma("wal_autocheckpoint", 8000)
            connection.pragma("journal_size_limit", 64 * 1024 * 1024)
            _make_tables(connection)
        except apsw.NotADBError as error:
            connection.close()
            raise UnusableStore(f"{self._path} is not a SQLite database.") from error
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        """A write transaction. Raises StoreBusy when others hold the lock for longer than the busy timeout."""
        connection = self._connection
        self._written += 1
        try:
            connection.execute("BEGIN IMMEDIATE")
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreBusy("The database is busy.") from error
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self._written += 1

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, kind: type[R], id: str) -> R | None:
        """See AuthStore.get."""
        row = self._connection.execute(f"SELECT body FROM {table(kind)} WHERE id = ?", (id,)).fetchone()
        return self._alive(kind, row)

    def together(self, *wanted: tuple[type[Record], str]) -> tuple[Record | None, ...]:
        """See AuthStore.together. One statement; what it gives is read only when it is other than before."""
        connection = self._connection
        # The first number changes with commits of other connections, the second with our own. They are read before the
        # records: what is committed between the two is seen now, and looked at once more the next time.
        # .get ends the statement at once: one that is left open holds its snapshot, and costs more to close.
        state = (connection.execute("PRAGMA data_version").get, self._written)
        if state != self._current_of or len(self._current) >= REMEMBERED:
            self._current_of, self._current = state, {}
        known = self._current.get(wanted)
        if known is None:
            ids = tuple([id for _, id in wanted])
            bodies = connection.execute(_selection(tuple([kind for kind, _ in wanted])), ids).get
            known = self._current[wanted] = self._remembered.read(wanted, bodies if len(wanted) > 1 else (bodies,))
        return known.at(self._clock())

    def _alive(self, kind: type[R], row: Any) -> R | None:
        if row is None:
            return None
        record = decode(kind, row[0])
        return None if expired(record, self._clock()) else record

    def find(self, kind: type[R], **equal: Any) -> list[R]:
        """See AuthStore.find."""
        where, values = self._where(kind, equal)
        rows = self._connection.execute(f"SELECT body FROM {table(kind)} WHERE {where} ORDER BY created_at, id", values)
        return [decode(kind, row[0]) for row in rows]

    def count(self, kind: type[R], **equal: Any) -> int:
        """See AuthStore.count."""
        where, values = self._where(kind, equal)
        count: int = self._connection.execute(f"SELECT count(*) FROM {table(kind)} WHERE {where}", values).get
        return count

    def page(self, kind: type[R], *, after: str = "", limit: int = 100) -> list[R]:
        """See AuthStore.page."""
        where, values = self._where(kind, {})
        rows = self._connection.execute(
            f"SELECT body FROM {table(kind)} WHERE {where} AND id > ? ORDER BY id LIMIT ?", (*values, after, limit)
        )
        return [decode(kind, row[0]) for row in rows]

    def _where(self, kind: type[Record], equal: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
        check_fields(kind, equal)
        tests = ["(expires_at IS NULL OR expires_at > ?)", *(f"{name} IS ?" for name in equal)]
        return " AND ".join(tests), (self._clock(), *equal.values())

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, record: Record) -> None:
        """See AuthStore.insert."""
        with self._transaction() as connection:
            self._insert(connection, record)

    def put(self, record: Record) -> None:
        """See AuthStore.put."""
        with self._transaction() as connection:
            self._put(connection, record)

    def change(self, kind: type[R], id: str, change: Callable[[R], R | None], *, turn: str = "") -> R | None:
        """See AuthStore.change. `change` runs once, in the transaction, of which there is one at a time."""
        with self._transaction() as connection:
            row = connection.execute(f"SELECT body FROM {table(kind)} WHERE id = ?", (id,)).fetchone()
            found = self._alive(kind, row)
            changed = None if found is None else change(found)
            if changed is not None:
                assert changed.id == id, "A change keeps the id."
                self._put(connection, changed)
            return changed

    def take(self, kind: type[R], id: str) -> R | None:
        """See AuthStore.take."""
        with self._transaction() as connection:
            row = connection.execute(f"DELETE FROM {table(kind)} WHERE id = ? RETURNING body", (id,)).fetchone()
        return self._alive(kind, row)

    def delete(self, kind: type[Record], id: str) -> bool:
        """See AuthStore.delete."""
        return self.take(kind, id) is not None

    def hit(self, key: str, window_s: int) -> int:
        """See AuthStore.hit."""
        moment = self._clock()
        start = moment - moment % window_s
        self._connection.pragma("synchronous", "NORMAL")
        try:
            with self._transaction() as connection:
                count: int = connection.execute(
                    "INSERT INTO auth_hit VALUES (?, ?, ?, 1) "
                    "ON CONFLICT (id, window_s) DO UPDATE SET count = iif(until = excluded.until, count + 1, 1), "
                    "until = excluded.until RETURNING count",
                    (key, window_s, start + window_s),
                ).get
        finally:
            self._connection.pragma("synchronous", "FULL")
        return count

    def _put(self, connection: apsw.Connection, record: Record) -> None:
        connection.execute(f"DELETE FROM {table(type(record))} WHERE id = ?", (record.id,))
        self._insert(connection, record)

    def _insert(self, connection: apsw.Connection, record: Record) -> None:
        kind = type(record)
        try:
            connection.execute(_insertion(kind), _values(record))
        except apsw.ConstraintError:
            # An expired record holds nothing; it only has not been purged yet.
            connection.execute(f"DELETE FROM {table(kind)} WHERE expires_at <= ?", (self._clock(),))
            try:
                connection.execute(_insertion(kind), _values(record))
            except apsw.ConstraintError as error:
                raise Taken(self._held(connection, record)) from error

    def _held(self, connection: apsw.Connection, record: Record) -> str:
        for name in ("id", *type(record).UNIQUE):
            value = getattr(record, name)
            found = connection.execute(f"SELECT 1 FROM {table(type(record))} WHERE {name} = ?", (value,)).fetchone()
            if found is not None:
                return name
        return "id"

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def purge(self) -> int:
        """See AuthStore.purge."""
        moment = self._clock()
        removed = 0
        with self._transaction() as connection:
            for kind in KINDS:
                connection.execute(f"DELETE FROM {table(kind)} WHERE expires_at <= ?", (moment,))
                removed += connection.changes()
            connection.execute("DELETE FROM auth_hit WHERE until <= ?", (moment,))
            removed += connection.changes()
        return removed

    def restore(self, records: Iterable[Record]) -> int:
        """See AuthStore.restore. All or nothing."""
        count = 0
        with self._transaction() as connection:
            for record in records:
                self._put(connection, record)
                count += 1
        return count

    def close(self) -> None:
        """See AuthStore.close."""
        _stores.discard(self)
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _make_tables(connection: apsw.Connection) -> None:
    """Makes what is absent. A table of other columns, of a version that searched for other fields, is made anew."""
    found = {kind: [row[1] for row in connection.execute(f"PRAGMA table_info({table(kind)})")] for kind in KINDS}
    wanted = {kind: ["id", "body", "created_at", "expires_at", *columns(kind)] for kind in KINDS}
    if found == wanted:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS auth_hit (id TEXT NOT NULL, window_s INTEGER NOT NULL, until INTEGER NOT NULL, "
            "count INTEGER NOT NULL, PRIMARY KEY (id, window_s)) WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS auth_hit_until ON auth_hit (until)")
        for kind in KINDS:
            _make_table(connection, kind)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_table(connection: apsw.Connection, kind: type[Record]) -> None:
    name, names = table(kind), columns(kind)
    found = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]  # again: under the lock
    if found == ["id", "body", "created_at", "expires_at", *names]:
        return
    records = [decode(kind, row[0]) for row in connection.execute(f"SELECT body FROM {name}")] if found else []
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(
        f"CREATE TABLE {name} (id TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL, created_at INTEGER NOT NULL, "
        f"expires_at INTEGER{''.join(f', {column}' for column in names)})"
    )
    connection.execute(f"CREATE INDEX {name}_expires_at ON {name} (expires_at) WHERE expires_at IS NOT NULL")
    for column in names:
        unique = "UNIQUE " if column in kind.UNIQUE else ""
        connection.execute(f"CREATE {unique}INDEX {name}_{column} ON {name} ({column})")
    for record in records:
        connection.execute(_insertion(kind), _values(record))


@lru_cache(maxsize=64)
def _selection(kinds: tuple[type[Record], ...]) -> str:
    """The bodies of one record of each kind, as one row."""
    return f"SELECT {', '.join(f'(SELECT body FROM {table(kind)} WHERE id = ?)' for kind in kinds)}"


def _insertion(kind: type[Record]) -> str:
    return f"INSERT INTO {table(kind)} VALUES ({', '.join('?' * (4 + len(columns(kind))))})"


def _values(record: Record) -> tuple[Any, ...]:
    more = (getattr(record, name) for name in columns(type(record)))
    return record.id, encode(record), record.created_at, record.expires_at, *more


def _waiter(timeout_s: float) -> Callable[[int], bool]:
    """A busy handler that polls every 0.2 ms, later every 2 ms, until `timeout_s` has passed."""
    started = 0.0

    def wait(attempt: int) -> bool:
        nonlocal started
        moment = time.monotonic()
        if attempt == 0:
            started = moment
        if moment - started > timeout_s:
            return False
        time.sleep(0.0002 if attempt < 100 else 0.002)
        return True

    return wait
