"""Every test of this directory runs on every store: a fixture per store, chosen by the parameter.

`open_it` opens (again) the database that the test uses, as another worker process would; `store` is the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.storage.protocol import Store

Opener = Callable[[], Store]
"""Opens one more Store on the same database; `chain` and closing are the fixture's work."""

STORES = ["sqlite", "mongo"]


@pytest.fixture(params=STORES)
def open_it(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """A function that opens a Store on the database of this test; what it opened is closed after the test."""
    opener: Opener = request.getfixturevalue(f"open_{request.param}")
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(opener())
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def store(open_it: Opener) -> Store:
    """An empty store."""
    return open_it()


@pytest.fixture
def open_sqlite(tmp_path: Path) -> Opener:
    """The embedded store in a file of this test's own."""
    from fhir_server.storage.sqlite import open_store

    return lambda: open_store(tmp_path / "hestia.db")


@pytest.fixture
def open_mongo() -> Iterator[Opener]:
    """The MongoDB store in a database of this test's own, on the server of the run (tests/support/mongodb.py)."""
    from fhir_server.storage.mongo import open_store
    from tests.support import mongodb

    server = mongodb.server()
    database = mongodb.fresh_name()
    yield lambda: open_store(server.uri, database=database)
    mongodb.drop(server.uri, database)
