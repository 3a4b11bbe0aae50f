"""Opening the database file: settings, versions, and what a lock conflict means.

Settings: WAL with synchronous=FULL (NORMAL loses acknowledged commits in a power cut), no mmap (a truncated mapping
kills the process), a library without the WAL-reset defect (SQLite 3.51.3 or later).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import apsw

from fhir_server.errors import Busy

SCHEMA = 1
"""Number of schema.sql, kept in PRAGMA user_version."""
APPLICATION_ID = 0x48535449  # "HSTI"
OLDEST_LIBRARY = (3, 51, 3)


class UnusableStore(Exception):
    """The file or the library cannot be used; the message says what to do. For operators, never for the wire."""


def library_version() -> tuple[int, int, int]:
    """Version of the SQLite library that apsw carries."""
    number = apsw.sqlitelibversion()
    major, minor, patch = (int(part) for part in number.split("."))
    return major, minor, patch


def require_library(version: tuple[int, int, int] | None = None) -> None:
    """Raises: UnusableStore when the SQLite library is older than 3.51.3."""
    found = version or library_version()
    if found < OLDEST_LIBRARY:
        raise UnusableStore(
            f"SQLite {'.'.join(map(str, found))} can corrupt a WAL database that several connections write and "
            f"checkpoint; "
            f"Hestia needs {'.'.join(map(str, OLDEST_LIBRARY))} or later. Install the apsw wheel, which carries "
            f"its own."
        )


def waiter(timeout_s: float) -> Callable[[int], bool]:
    """A busy handler that polls every 0.1 ms, later every 2 ms, until `timeout_s` has passed.

    SQLite's own handler sleeps up to 100 ms and polls in whole milliseconds; a commit takes a fraction of one, so the
    loser of a race would leave the lock unused most of the time.
    """
    started = 0.0

    def wait(attempt: int) -> bool:
        nonlocal started
        now = time.monotonic()
        if attempt == 0:
            started = now
        if now - started > timeout_s:
            return False
        time.sleep(0.0001 if attempt < 200 else 0.002)
        return True

    return wait


def connect(path: Path, *, create: bool, cache_mb: int, busy_timeout_s: float) -> apsw.Connection:
    """A configured connection to `path`; makes the schema in an empty file.

    Raises: UnusableStore when the library is too old, the file absent and `create` False, or of another or a newer
    schema.
    """
    require_library()
    if not create and not path.exists():
        raise UnusableStore(f"There is no store at {path}.")
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    try:
        connection = apsw.Connection(os.fspath(path), flags=flags, statementcachesize=512)
    except apsw.CantOpenError as error:
        raise UnusableStore(f"The store at {path} cannot be opened: {error}.") from error
    try:
        connection.set_busy_handler(waiter(busy_timeout_s))
        _configure(connection, cache_mb)
        _prepare_schema(connection, path)
    except apsw.NotADBError as error:
        connection.close()
        raise UnusableStore(f"{path} is not a SQLite database.") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: apsw.Connection, cache_mb: int) -> None:
    # Without it a statement is compiled anew whenever other values are bound to it (a plan could depend on them).
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    application = connection.pragma("application_id")
    if application == 0 and not connection.pragma("page_count"):
        connection.pragma("page_size", 4096)
    connection.pragma("cache_size", -1024 * cache_mb)
    connection.pragma("mmap_size", 0)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("foreign_keys", False)
    connection.pragma("trusted_schema", False)
    mode = connection.pragma("journal_mode", "wal")
    if mode not in ("wal", "memory"):
        raise UnusableStore(f"The store's file system does not support WAL (journal_mode is {mode}).")
    connection.pragma("synchronous", "FULL")
    connection.pragma("wal_autocheckpoint", 8000)
    connection.pragma("journal_size_limit", 64 * 1024 * 1024)


def _prepare_schema(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("user_version") == SCHEMA and connection.pragma("application_id") == APPLICATION_ID:
        return
    with immediate(connection):
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        if application not in (0, APPLICATION_ID):
            raise UnusableStore(f"{path} is a SQLite database of another application.")
        if version > SCHEMA:
            raise UnusableStore(
                f"{path} has schema {version}; this Hestia knows schemas up to {SCHEMA}. Use the Hestia that "
                f"wrote it, or a newer one."
            )
        if version == 0:
            # The tables of accounts may be there before.
            if connection.execute("SELECT count(*) FROM sqlite_schema WHERE tbl_name NOT GLOB 'auth_*'").get:
                raise UnusableStore(f"{path} is a SQLite database of another application.")
            text = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
            connection.execute(text)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA)


@contextmanager
def immediate(connection: apsw.Connection) -> Iterator[None]:
    """A write transaction: commits at the end, rolls back on an exception. Raises: Busy."""
    begin_immediate(connection)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def begin_immediate(connection: apsw.Connection) -> None:
    """Takes the write lock. Raises: Busy when others hold it for longer than the busy timeout."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except (apsw.BusyError, apsw.LockedError) as error:
        raise Busy() from error


def rollback(connection: apsw.Connection) -> None:
    """Ends the transaction, if SQLite has not ended it already (it does after a full disk, say)."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
