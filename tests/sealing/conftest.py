"""A server that seals resident numbers, over a store of the test's own, and a look at all that this store holds."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.app import create_app, create_server
from fhir_server.authorize import EVERYTHING
from fhir_server.context import Server, Settings
from fhir_server.sealing import RESIDENT_ID, Sealer
from fhir_server.storage.protocol import Store
from terminology import ucum
from terminology.local import Local
from tests.support.http import BASE, Answer, Client, Clock

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))

NUMBER = "11010519491231002X"
SECOND = "440524188001010014"
MASK = "110105********002X"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        metafunc.parametrize("store_name", ["sqlite", "mongo"], scope="function")


@dataclass
class Database:
    """Opens Stores on the database of one test, and reads it past them."""

    open: Callable[[], Store]
    rows: Callable[[], Iterator[Any]]
    files: Callable[[], Iterator[bytes]]

    def holds(self, text: str) -> bool:
        """Whether a text is anywhere in the database, whatever its case, in stored members too."""
        wanted = text.lower().encode()
        return any(wanted in data.lower() for data in (*self.files(), *map(_flat, self.rows())))


def _flat(value: Any) -> bytes:
    """A value of a row or document with everything in it, members inflated."""
    if isinstance(value, bytes):
        return gzip.decompress(value) if value[:2] == b"\x1f\x8b" else value
    if isinstance(value, dict):
        return b"\n".join(part for item in value.items() for part in map(_flat, item))
    if isinstance(value, (list, tuple)):
        return b"\n".join(map(_flat, value))
    return str(value).encode(errors="surrogatepass")


@pytest.fixture
def database(store_name: str, tmp_path: Path) -> Iterator[Database]:
    opened: list[Store] = []
    if store_name == "mongo":
        from fhir_server.storage.mongo import open_store as open_mongo
        from tests.support import mongodb

        running, name = mongodb.server(), mongodb.fresh_name()
        peer: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(running.uri)

        def make() -> Store:
            return open_mongo(running.uri, database=name)

        def rows() -> Iterator[Any]:
            for collection in peer[name].list_collection_names():
                yield from peer[name][collection].find()

        def files() -> Iterator[bytes]:
            return (bson.encode(one) for one in rows())

    else:
        from fhir_server.storage.sqlite import open_store as open_sqlite

        path = tmp_path / "hestia.db"

        def make() -> Store:
            return open_sqlite(path)

        def rows() -> Iterator[Any]:
            connection = sqlite3.connect(path)
            for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                yield from connection.execute(f'SELECT * FROM "{table}"')
            connection.close()

        def files() -> Iterator[bytes]:
            return (file.read_bytes() for file in tmp_path.glob("hestia.db*"))

    def open_one() -> Store:
        opened.append(make())
        return opened[-1]

    yield Database(open_one, rows, files)
    for one in opened:
        one.close()
    if store_name == "mongo":
        peer.close()
        mongodb.drop(running.uri, name)


Build = Callable[..., Client]


@pytest.fixture
def build(database: Database) -> Build:
    """Makes a client of one more server on the database, with these keys; none of them: without sealing."""
    clock, numbers = Clock(), iter(range(1, 1_000_000))

    def make(*keys: bytes, **changes: Any) -> Client:
        server = create_server(
            Settings(base_url=BASE, registry_check_s=0.0, **changes),
            database.open(),
            terminology=Local,
            units=ucum.canonical,
            sealer=Sealer(keys) if keys else None,
            clock=clock,
            new_id=lambda: f"id-{next(numbers)}",
        )
        return Client(create_app(server), server)

    return make


@pytest.fixture
def client(build: Build) -> Client:
    """A server that seals, with a unique resident number per Patient."""
    return build(KEY, unique_identifiers={"Patient": (RESIDENT_ID,)})


def number(value: str, system: str = RESIDENT_ID) -> dict[str, Any]:
    """An Identifier with its type, as K3 has it."""
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "NI"}
    return {"use": "official", "type": {"coding": [coding]}, "system": system, "value": value}


def patient(id: str, value: str = NUMBER, **more: Any) -> dict[str, Any]:
    """A Patient with that resident number, and a chart number in clear."""
    chart = {"system": "urn:oid:2.16.156.10011.1.11", "value": f"chart-{id}"}
    return {"resourceType": "Patient", "id": id, "identifier": [chart, number(value)], **more}


def shown(resource: dict[str, Any]) -> str:
    """The resident number of a resource as it was answered."""
    return str(next(one["value"] for one in resource["identifier"] if one["system"] == RESIDENT_ID))


AsRole = Callable[..., Client]


@dataclass(frozen=True)
class OneCaller:
    """A gate behind which everybody is the same caller."""

    caller: Caller

    def enter(self, server: Server, token: str, address: str) -> Caller:
        return self.caller


class RoleClient(Client):
    """A client with a token."""

    def request(self, *arguments: Any, **named: Any) -> Answer:
        return super().request(*arguments, **{"authorization": "Bearer token", **named})


@pytest.fixture
def as_role() -> AsRole:
    """Makes a client of the same server that calls with a role, and may do everything to every resource."""

    def make(client: Client, role: str, scopes: tuple[str, ...] = ("system/*.cruds",), **grant: Any) -> Client:
        caller = Caller(EVERYTHING, Grant("g", "c", "Client", role, scopes, **grant))
        return RoleClient(create_app(client.server, gate=OneCaller(caller)), client.server)

    return make
