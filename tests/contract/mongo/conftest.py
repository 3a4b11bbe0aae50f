"""What only the MongoDB store has: its commands, its plans, its markers, the servers it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.storage.mongo import MongoStore, open_store
from tests.support import mongodb
from tests.support.commands import CommandLog


@pytest.fixture
def log() -> CommandLog:
    return CommandLog()


@pytest.fixture
def database() -> Iterator[str]:
    """The name of a database that is dropped after the test."""
    name = mongodb.fresh_name()
    yield name
    mongodb.drop(mongodb.server().uri, name)


@pytest.fixture
def reopen(database: str, log: CommandLog) -> Iterator[Callable[..., MongoStore]]:
    """Opens a store on the database of the test; keyword arguments are `open_store`'s."""
    opened: list[MongoStore] = []

    def open_one(**more: Any) -> MongoStore:
        more.setdefault("listeners", [log])
        opened.append(open_store(mongodb.server().uri, database=database, **more))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def mongo(reopen: Callable[..., MongoStore]) -> MongoStore:
    """An empty store whose commands are in `log`."""
    return reopen()
