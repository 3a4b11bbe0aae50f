"""Every test of this directory runs on both stores of records. `open_it` opens one more store object on the database
of the test, as another worker would; `clock` is what all of them read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smart_auth.store.protocol import AuthStore
from tests.support.accounts import AuthClock

Opener = Callable[[], AuthStore]


@pytest.fixture
def clock() -> AuthClock:
    return AuthClock()


@pytest.fixture(params=["sqlite", "mongo"])
def open_it(request: pytest.FixtureRequest, tmp_path: Path, clock: AuthClock) -> Iterator[Opener]:
    opened: list[AuthStore] = []
    database = ""
    if request.param == "mongo":
        from smart_auth.store import mongo
        from tests.support import mongodb

        uri = mongodb.server().uri
        database = mongodb.fresh_name()

    def open_one() -> AuthStore:
        if request.param == "mongo":
            opened.append(mongo.open_store(uri, database=database, clock=clock))
        else:
            from smart_auth.store import sqlite

            opened.append(sqlite.open_store(tmp_path / "hestia.db", clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    if request.param == "mongo":
        mongodb.drop(uri, database)


@pytest.fixture
def store(open_it: Opener) -> AuthStore:
    """An empty store."""
    return open_it()
