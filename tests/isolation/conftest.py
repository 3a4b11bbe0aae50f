"""A small hospital on a store of its own, and clients of it with different policies; everything runs on both stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Server, Settings
from fhir_server.storage.protocol import Store
from terminology import ucum
from terminology.local import Local
from tests.isolation.roles import ROLES
from tests.isolation.world import fill
from tests.support.http import BASE, Client, Clock


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        metafunc.parametrize("store_name", ["sqlite", "mongo"], scope="module")


NewServer = Callable[..., Server]


@pytest.fixture(scope="module")
def new_server(store_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewServer]:
    """Makes servers on fresh stores, with fixed clock and ids."""
    opened: list[tuple[Store, str]] = []

    def make(**changes: object) -> Server:
        store: Store
        database = ""
        if store_name == "mongo":
            from fhir_server.storage.mongo import open_store as open_mongo
            from tests.support import mongodb

            database = mongodb.fresh_name()
            store = open_mongo(mongodb.server().uri, database=database)
        else:
            from fhir_server.storage.sqlite import open_store as open_sqlite

            path: Path = tmp_path_factory.mktemp("store")
            store = open_sqlite(path / "hestia.db")
        opened.append((store, database))
        ids = iter(range(1, 1_000_000))
        return create_server(
            Settings(base_url=BASE, registry_check_s=0.0, **changes),  # type: ignore[arg-type]
            store,
            terminology=Local,
            units=ucum.canonical,
            clock=Clock(),
            new_id=lambda: f"id-{next(ids)}",
        )

    yield make
    for store, database in opened:
        store.close()
        if database:
            from tests.support import mongodb

            mongodb.drop(mongodb.server().uri, database)


Clients = Callable[[str], Client]


def clients_of(server: Server) -> Clients:
    """A client per role of one server."""
    made: dict[str, Client] = {}

    def client(role: str) -> Client:
        if role not in made:
            made[role] = Client(create_app(server, policy=ROLES[role].policy(server)), server)
        return made[role]

    return client


@pytest.fixture(scope="module")
def shared(new_server: NewServer) -> Clients:
    """Clients of a hospital that no test changes."""
    server = new_server()
    fill(Client(create_app(server), server))
    return clients_of(server)


@pytest.fixture
def fresh(new_server: NewServer) -> Clients:
    """Clients of a hospital of this test's own."""
    server = new_server()
    fill(Client(create_app(server), server))
    return clients_of(server)
