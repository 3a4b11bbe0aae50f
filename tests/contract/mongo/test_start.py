"""Which servers and databases are accepted, and what is made in them at start."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pymongo
import pytest

from fhir_server.errors import Busy
from fhir_server.storage.mongo import MongoStore, indexes, open_store
from fhir_server.storage.mongo import store as store_module
from fhir_server.storage.mongo.connection import UnsuitableServer, check_server
from tests.support import mongodb
from tests.support.given import given, put

SIX = {"version": "6.0.14", "versionArray": [6, 0, 14, 0]}
FIVE = {"version": "5.0.26", "versionArray": [5, 0, 26, 0]}
REPLICA_SET = {"setName": "rs0", "isWritablePrimary": True}
ROUTER = {"msg": "isdbgrid", "isWritablePrimary": True}
STANDALONE = {"isWritablePrimary": True}


@pytest.mark.parametrize("hello", [REPLICA_SET, ROUTER], ids=["replica set", "sharded cluster"])
def test_servers_with_transactions_are_accepted(hello: dict[str, Any]) -> None:
    check_server(hello, SIX)


def test_a_standalone_server_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsuitableServer, match=r"--replSet rs0.*rs\.initiate"):
        check_server(STANDALONE, SIX)


def test_a_server_below_6_is_refused() -> None:
    with pytest.raises(UnsuitableServer, match=r"5\.0\.26 is too old"):
        check_server(REPLICA_SET, FIVE)


def test_a_standalone_server_gets_no_collections(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(hello: Any, build: Any) -> None:
        check_server({name: value for name, value in hello.items() if name != "setName"}, build)

    monkeypatch.setattr(store_module, "check_server", alone)
    with pytest.raises(UnsuitableServer, match="standalone"):
        open_store(mongodb.server().uri, database=database)
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        assert database not in client.list_database_names()


def test_no_server_is_busy_in_bounded_time() -> None:
    with pytest.raises(Busy):
        open_store("mongodb://127.0.0.1:1/", timeout_s=0.3)


def test_an_unreadable_uri_is_refused() -> None:
    with pytest.raises(UnsuitableServer, match="cannot be read"):
        open_store("http://127.0.0.1/")


def test_the_database_is_the_one_of_the_uri(database: str) -> None:
    uri = mongodb.server().uri
    head, _, options = uri.partition("?")
    named = f"{head.rstrip('/')}/{database}" + (f"?{options}" if options else "")
    store = open_store(named)
    assert store.statistics()["name"] == database
    store.close()


def test_every_declared_index_is_there_after_the_start(mongo: MongoStore, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        assert indexes.missing(client[database]) == []
        assert set(client[database].list_collection_names()) == set(indexes.INDEXES)


def test_a_dropped_index_is_reported_by_check_and_made_at_the_next_start(
    reopen: Callable[..., MongoStore], database: str
) -> None:
    store = reopen()
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        client[database][indexes.RESOURCES].drop_index("key")
    assert list(store.check()) == ["Index resources.key is missing or has other keys."]
    assert list(reopen().check()) == []


def test_an_index_with_other_keys_stops_the_start(reopen: Callable[..., MongoStore], database: str) -> None:
    reopen()
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        client[database][indexes.RESOURCES].drop_index("key")
        client[database][indexes.RESOURCES].create_index([("k", 1)], name="key")
    with pytest.raises(indexes.WrongIndexes, match="other keys"):
        reopen()


def test_a_newer_layout_is_refused(reopen: Callable[..., MongoStore], database: str) -> None:
    reopen()
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        client[database][indexes.STORE].update_one({}, {"$set": {"layout": indexes.LAYOUT + 1}})
    with pytest.raises(UnsuitableServer, match="layout"):
        reopen()


def test_two_processes_start_on_one_empty_database(database: str) -> None:
    uri = mongodb.server().uri
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        answers = pool.starmap(_start_and_write, [(uri, database, n) for n in range(2)])
    assert sorted(answers) == [0, 1]
    store = open_store(uri, database=database)
    assert store.counts() == {"Patient": 20}
    assert list(store.check()) == []
    store.close()


def _start_and_write(uri: str, database: str, number: int) -> int:
    store = open_store(uri, database=database)
    for n in range(10):
        given(store, [put(f"Patient/{number}-{n}")])
    store.close()
    return number


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # pymongo has threads, which the child does not use
def test_a_forked_process_uses_a_connection_of_its_own(mongo: MongoStore) -> None:
    given(mongo, [put("Patient/1")])
    parents = mongo.client
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        own = mongo.client is not parents
        given(mongo, [put("Patient/2")])
        sender.send((own, mongo.read("Patient", "1") is not None))
        sender.close()
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(20)
    assert receiver.recv() == (True, True)
    process.join(20)
    assert mongo.read("Patient", "2") is not None
    assert mongo.client is parents
