"""Stores of records for tests: empty ones, embedded or on MongoDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smart_auth.store import mongo, sqlite
from smart_auth.store.protocol import AuthStore
from tests.support import mongodb
from tests.support.accounts import AuthClock

Opener = Callable[[], AuthStore]
NAMES = ["sqlite", "mongo"]


@contextmanager
def stores(name: str, directory: Path, clock: AuthClock) -> Iterator[Opener]:
    """Opens store objects on one new database, as several workers would; closes them and drops it at the end.

    `name` is one of NAMES; `directory` is where an embedded store is made.
    """
    opened: list[AuthStore] = []
    uri, database = (mongodb.server().uri, mongodb.fresh_name()) if name == "mongo" else ("", "")

    def open_one() -> AuthStore:
        if name == "mongo":
            opened.append(mongo.open_store(uri, database=database, clock=clock))
        else:
            opened.append(sqlite.open_store(directory / "hestia.db", clock=clock))
        return opened[-1]

    try:
        yield open_one
    finally:
        for one in opened:
            one.close()
        if name == "mongo":
            mongodb.drop(uri, database)
