"""Stores of one test's own, opened as often as workers would open them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fhir_server.storage.protocol import Store

Opener = Callable[[], Store]
"""Opens one more Store on the database of the test, as another worker does."""


@contextmanager
def opener(name: str, directory: Path) -> Iterator[Opener]:
    """Opens Stores on a new database, "sqlite" in `directory` or "mongo" on the server of the run, and closes them."""
    opened: list[Store] = []
    database = None
    if name == "mongo":
        from fhir_server.storage.mongo import open_store as open_mongo
        from tests.support import mongodb

        running, database = mongodb.server(), mongodb.fresh_name()

        def make() -> Store:
            return open_mongo(running.uri, database=database)
    else:
        from fhir_server.storage.sqlite import open_store as open_sqlite

        def make() -> Store:
            return open_sqlite(directory / "hestia.db")

    def open_one() -> Store:
        opened.append(make())
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    if database is not None:
        mongodb.drop(running.uri, database)
