"""What the feed and the backup of the MongoDB store do beyond the contract: lost positions, archives, recovery after a
kill."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest

from fhir_server.errors import PositionLost
from fhir_server.search.ast import Search, Select
from fhir_server.storage.mongo import MongoStore, indexes, open_store
from fhir_server.storage.protocol import HistoryQuery, Transaction
from tests.support import mongodb
from tests.support.given import DATE, FAMILY, apply, delete, find, given, has_key, matches, put

Open = Callable[..., MongoStore]


def versions(store: MongoStore) -> list[tuple[str, int, bytes | None]]:
    return [(one.address, one.version, one.body) for one in store.scan_versions(limit=10_000)]


def some_history(store: MongoStore) -> None:
    given(
        store,
        [
            put("Patient/1", keys=[(FAMILY, "a")], claims=["mrn|1"]),
            put("Patient/2", inner=[("o", "Organization", [], [])]),
        ],
        [put("Patient/1", keys=[(FAMILY, "b")], claims=["mrn|2"])],
        [put("Observation/1", ranges=[(DATE, "0", 5, 6, "")])],
        [delete("Patient/2")],
    )
    store.put_meta("timezone", "UTC")


def test_a_position_of_another_database_is_lost(mongo: MongoStore) -> None:
    other = open_store(mongodb.server().uri, database=mongodb.fresh_name())
    position = other.feed_position()
    mongodb.drop(mongodb.server().uri, other.statistics()["name"])
    other.close()
    with pytest.raises(PositionLost):
        mongo.feed(position)


@pytest.mark.parametrize("token", ["", "x", "8200", "826F00000000000029296E04"])
def test_a_position_that_is_no_token_is_lost(mongo: MongoStore, token: str) -> None:
    identity = mongo.feed_position().split(".")[0]
    with pytest.raises(PositionLost):
        mongo.feed(f"{identity}.{token}")


def test_a_dropped_collection_loses_the_position(mongo: MongoStore, database: str) -> None:
    position = mongo.feed_position()
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        client[database][indexes.RESOURCES].drop()
    with pytest.raises(PositionLost):
        mongo.feed(position, wait_s=5)


def test_a_reindex_and_contained_documents_are_no_changes(mongo: MongoStore) -> None:
    position = mongo.feed_position()
    given(mongo, [put("Patient/1", inner=[("o", "Organization", [], [])])])
    mongo.reindex([])
    changes = mongo.feed(position, wait_s=5)
    assert [(one.type, one.id, one.version, one.method) for one in changes] == [("Patient", "1", 1, "POST")]
    assert mongo.feed(changes[-1].position) == []


def test_a_feed_continues_where_another_process_stopped(reopen: Open) -> None:
    first, second = reopen(), reopen()
    position = first.feed_position()
    given(first, *[[put(f"Patient/{n}")] for n in range(5)])
    seen = first.feed(position, limit=2, wait_s=5)
    seen += second.feed(seen[-1].position, limit=2, wait_s=5)
    seen += first.feed(seen[-1].position, limit=2, wait_s=5)
    assert [one.id for one in seen] == ["0", "1", "2", "3", "4"]


def test_a_restored_backup_is_the_same_database_but_for_its_feed(
    mongo: MongoStore, reopen: Open, tmp_path: Path
) -> None:
    some_history(mongo)
    position = mongo.feed_position()
    mongo.backup(str(tmp_path / "backup"))
    given(mongo, [put("Patient/later")])

    name = mongodb.fresh_name()
    copy = open_store(mongodb.server().uri, database=name)
    copy.restore(str(tmp_path / "backup"))
    assert versions(copy) == [one for one in versions(mongo) if one[0] != "Patient/later"]
    assert find(copy, "Patient", has_key(FAMILY, "b")) == ["Patient/1"]
    assert copy.entries("Patient/1") == mongo.entries("Patient/1")
    assert copy.get_meta("timezone") == "UTC"
    assert list(copy.check()) == []
    with pytest.raises(PositionLost):
        copy.feed(position)
    with pytest.raises(ValueError, match="not empty"):
        copy.restore(str(tmp_path / "backup"))
    copy.close()
    mongodb.drop(mongodb.server().uri, name)


def test_a_backup_is_of_one_instant_while_others_write(
    reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the collections of a dump a resource is updated; neither its old nor its new version may be torn."""
    store, writer = reopen(), reopen()
    given(store, [put("Patient/1")])
    opened = gzip.open

    def write_meanwhile(path: Path, *more: Any, **options: Any) -> Any:
        given(writer, [put("Patient/1")])
        return opened(path, *more, **options)

    monkeypatch.setattr("fhir_server.storage.mongo.archive.gzip.open", write_meanwhile)
    store.backup(str(tmp_path / "backup"))
    monkeypatch.undo()
    with gzip.open(tmp_path / "backup" / "resources.bson.gz") as file:
        current = bson.decode_all(file.read())
    with gzip.open(tmp_path / "backup" / "history.bson.gz") as file:
        old = bson.decode_all(file.read())
    assert [one["version"] for one in old] == list(range(1, current[0]["version"]))


def test_an_interrupted_or_damaged_backup_is_refused(mongo: MongoStore, tmp_path: Path) -> None:
    some_history(mongo)
    mongo.backup(str(tmp_path / "backup"))
    manifest = tmp_path / "backup" / "manifest.json"
    content = json.loads(manifest.read_text())
    name = mongodb.fresh_name()
    copy = open_store(mongodb.server().uri, database=name)
    manifest.unlink()
    with pytest.raises(ValueError, match=r"no complete backup"):
        copy.restore(str(tmp_path / "backup"))
    content["documents"]["history"] += 1
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="damaged"):
        copy.restore(str(tmp_path / "backup"))
    copy.close()
    mongodb.drop(mongodb.server().uri, name)


def test_a_backup_does_not_overwrite(mongo: MongoStore, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        mongo.backup(str(tmp_path))


DAMAGES: list[tuple[str, Callable[[Any], object], str]] = [
    (
        "gap",
        lambda database: database[indexes.HISTORY].delete_one({}),
        "The versions of Patient/1 have gaps.",
    ),
    (
        "orphaned history",
        lambda database: database[indexes.RESOURCES].delete_one({"_id": "Patient/1"}),
        "Patient/1 has superseded versions and no current one.",
    ),
    (
        "lost claim",
        lambda database: database[indexes.CLAIMS].delete_one({}),
        "A unique key of Patient/1 is not recorded for it.",
    ),
    (
        "foreign claim",
        lambda database: database[indexes.CLAIMS].insert_one({"_id": "x", "address": "Patient/2"}),
        "A unique key is recorded for Patient/2, which does not hold it.",
    ),
    (
        "lost contained document",
        lambda database: database[indexes.RESOURCES].delete_one({"_id": "Patient/2#o"}),
        "A contained document of Patient/2 is not stored.",
    ),
    (
        "orphaned contained document",
        lambda database: database[indexes.RESOURCES].update_one({"_id": "Patient/2"}, {"$unset": {"inside": ""}}),
        "Patient/2 does not name a contained document that is stored for it.",
    ),
    (
        "lost body",
        lambda database: database[indexes.RESOURCES].update_one({"_id": "Patient/2"}, {"$unset": {"body": ""}}),
        "Patient/2 has a state that does not fit its body.",
    ),
    (
        "times",
        lambda database: database[indexes.RESOURCES].update_one({"_id": "Patient/1"}, {"$set": {"updated": 1}}),
        "A version of Patient/1 is not later than the one before.",
    ),
]


@pytest.mark.parametrize("damage,finding", [one[1:] for one in DAMAGES], ids=[one[0] for one in DAMAGES])
def test_check_finds(mongo: MongoStore, database: str, damage: Callable[[Any], object], finding: str) -> None:
    given(
        mongo,
        [put("Patient/1", claims=["a"]), put("Patient/2", inner=[("o", "Organization", [], [])])],
        [put("Patient/1", claims=["a"])],
    )
    assert list(mongo.check()) == []
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        damage(client[database])
    assert finding in list(mongo.check())


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill_of_the_server() -> None:
    server = mongodb.start(private=True)
    try:
        store = open_store(server.uri, busy_s=0.2, timeout_s=2)
        acknowledged = []
        for n in range(20):

            def work(transaction: Transaction, n: int = n) -> None:
                apply(transaction, [put(f"Patient/{n}", keys=[(FAMILY, "x")], claims=[f"c{n}"]), put("Patient/shared")])

            store.transact(work)
            acknowledged.append(f"Patient/{n}")
        server.kill()
        store.close()
        server.start_again()
        store = open_store(server.uri, timeout_s=20)
        assert matches(store.search(Search(Select(("Patient",), has_key(FAMILY, "x"))))) == acknowledged
        assert len(store.history(HistoryQuery("Patient", "shared", count=100)).entries) == 20
        assert list(store.check()) == []
        store.close()
    finally:
        server.stop()
