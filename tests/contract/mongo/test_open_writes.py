"""Markers of open writes, locks and conflicts: what MongoDB's transactions leave to the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from fhir_server.errors import Busy, Conflict, Duplicate, TooLarge
from fhir_server.search.ast import Search, Select, SortKey
from fhir_server.storage.mongo import MongoStore, indexes
from fhir_server.storage.protocol import HistoryQuery, Transaction
from fhir_server.storage.writes import MAX_STORED, Document, Version
from tests.support import mongodb
from tests.support.commands import CommandLog
from tests.support.given import BIRTHDATE, FAMILY, IDENTIFIER, apply, find, given, has_key, matches, put

Open = Callable[..., MongoStore]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def system(store: MongoStore) -> list[str]:
    return [one.address for one in store.history(HistoryQuery()).entries]


def test_a_write_is_in_the_history_at_once(mongo: MongoStore) -> None:
    for n in range(30):
        given(mongo, [put(f"Patient/{n}")])
        assert system(mongo)[0] == f"Patient/{n}"


def test_history_ends_below_an_open_write(reopen: Open) -> None:
    reader, writer = reopen(), reopen()
    inside, finish = threading.Event(), threading.Event()

    def slow(transaction: Transaction) -> None:
        apply(transaction, [put("Patient/slow")])
        inside.set()
        assert finish.wait(20)

    given(reader, [put("Patient/before")])
    thread = in_thread(lambda: writer.transact(slow))
    assert inside.wait(20)
    given(reader, [put("Patient/meanwhile")])
    first = reader.history(HistoryQuery())
    assert [one.address for one in first.entries] == ["Patient/before"]
    assert [one.address for one in reader.history(HistoryQuery("Patient", "meanwhile")).entries] == [
        "Patient/meanwhile"
    ]
    finish.set()
    thread.join(20)
    assert system(reader) == ["Patient/meanwhile", "Patient/slow", "Patient/before"]
    # The page that was begun before stays as it was.
    again = reader.history(HistoryQuery(until=first.watermark))
    assert [one.address for one in again.entries] == ["Patient/before"]


def test_the_marker_of_a_dead_process_holds_histories_until_its_lease_is_over(reopen: Open, database: str) -> None:
    store = reopen(lease_s=3.0)
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        markers = client[database][indexes.OPEN_WRITES]
        markers.insert_one({"_id": "dead", "opened": int(time.time() * 1000)})
        time.sleep(0.01)
        given(store, [put("Patient/1")])
        assert system(store) == []
        time.sleep(3.1)
        assert system(store) == ["Patient/1"]
        assert markers.count_documents({}) == 0


def test_a_writer_whose_marker_was_reaped_runs_again_with_another(reopen: Open) -> None:
    store, reader = reopen(), reopen(lease_s=0.0)
    attempts = []

    def work(transaction: Transaction) -> None:
        attempts.append(transaction.now())
        if len(attempts) == 1:
            time.sleep(0.01)
            reader.history(HistoryQuery())
        apply(transaction, [put("Patient/1")])

    store.transact(work)
    assert len(attempts) == 2
    assert attempts[0] < attempts[1]
    current = store.read("Patient", "1")
    assert current is not None
    assert current.updated == attempts[1]


@pytest.mark.parametrize("failure", [Conflict("no"), KeyError("no")], ids=["ours", "another"])
def test_a_failed_write_leaves_nothing_behind(mongo: MongoStore, database: str, failure: Exception) -> None:
    def work(transaction: Transaction) -> None:
        transaction.lock("Patient?identifier=1")
        apply(transaction, [put("Patient/1", claims=["a"])])
        raise failure

    with pytest.raises(type(failure)):
        mongo.transact(work)
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        for collection in indexes.INDEXES:
            expected = 1 if collection == indexes.STORE else 0
            assert client[database][collection].count_documents({}) == expected, collection


def test_fifty_parallel_identical_conditional_creates_make_one_resource(reopen: Open) -> None:
    stores = [reopen() for _ in range(5)]

    def create(number: int) -> str:
        def work(transaction: Transaction) -> str:
            transaction.lock("Patient?identifier=x")
            found = transaction.search(Search(Select(("Patient",), has_key(IDENTIFIER, "x")), count=2)).matches
            if found:
                return found[0].id
            return apply(transaction, [put(f"Patient/{number}", keys=[(IDENTIFIER, "x")])])[0].id

        return stores[number % 5].transact(work)

    with ThreadPoolExecutor(50) as pool:
        made = set(pool.map(create, range(50)))
    assert len(made) == 1
    assert stores[0].counts() == {"Patient": 1}


def test_parallel_updates_of_one_resource_are_all_kept(reopen: Open) -> None:
    stores = [reopen() for _ in range(4)]
    given(stores[0], [put("Patient/1")])

    def update(store: MongoStore) -> None:
        for _ in range(10):
            given(store, [put("Patient/1")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(update, stores))
    versions = [one.version for one in stores[0].history(HistoryQuery("Patient", "1", count=100)).entries]
    assert versions == list(range(41, 0, -1))
    assert list(stores[0].check()) == []


def test_parallel_claims_of_one_key_are_granted_once(reopen: Open) -> None:
    stores = [reopen() for _ in range(8)]

    def claim(number: int) -> bool:
        try:
            given(stores[number], [put(f"Patient/{number}", claims=["mrn|1"])])
        except Duplicate:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(claim, range(8)))
    assert granted.count(True) == 1
    assert stores[0].counts() == {"Patient": 1}


def test_a_conflict_that_does_not_end_is_busy(reopen: Open, database: str) -> None:
    store = reopen(busy_s=0.4)
    holding, finish = threading.Event(), threading.Event()
    holder = reopen()

    def hold(transaction: Transaction) -> None:
        transaction.lock("x")
        transaction.get_meta("sends the lock")
        holding.set()
        assert finish.wait(20)

    thread = in_thread(lambda: holder.transact(hold))
    assert holding.wait(20)
    before = time.monotonic()
    with pytest.raises(Busy):
        store.transact(lambda transaction: (transaction.lock("x"), transaction.get_meta("sends the lock")))
    assert time.monotonic() - before < 5
    finish.set()
    thread.join(20)


def test_an_error_that_work_swallows_still_ends_the_transaction(mongo: MongoStore) -> None:
    given(mongo, [put("Patient/1", claims=["a"])])

    def work(transaction: Transaction) -> None:
        try:
            apply(transaction, [put("Patient/2", claims=["a"])])
        except Duplicate:
            pass

    with pytest.raises(Duplicate):
        mongo.transact(work)
    assert mongo.read("Patient", "2") is None


def test_an_unknown_result_of_a_commit_is_asked_for_again(mongo: MongoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymongo.client_session import ClientSession

    commit = ClientSession.commit_transaction
    asked = []

    def unsure(session: ClientSession) -> None:
        commit(session)
        asked.append(1)
        if len(asked) == 1:
            raise OperationFailure("lost", 64, {"errorLabels": ["UnknownTransactionCommitResult"]})

    monkeypatch.setattr(ClientSession, "commit_transaction", unsure)
    given(mongo, [put("Patient/1", keys=[(FAMILY, "a")])])
    assert len(asked) == 2
    current = mongo.read("Patient", "1")
    assert current is not None
    assert current.version == 1


def test_entries_beside_a_large_body_that_exceed_a_document_are_too_large(mongo: MongoStore) -> None:
    keys = [(FAMILY, f"{n:0999d}") for n in range(2000)]

    def work(transaction: Transaction) -> None:
        body = bytes(MAX_STORED)
        document = Document("Binary/1", "Binary", keys, [])
        transaction.append([Version("Binary", "1", 1, transaction.now(), "PUT", body, (document,))])

    with pytest.raises(TooLarge):
        mongo.transact(work)
    assert mongo.read("Binary", "1") is None


def test_a_transaction_of_large_bodies_is_split_into_messages(mongo: MongoStore, log: CommandLog) -> None:
    def work(transaction: Transaction) -> None:
        now = transaction.now()
        transaction.append(
            [
                Version("Binary", str(n), 1, now, "PUT", bytes(14_000_000), (Document(f"Binary/{n}", "Binary"),))
                for n in range(4)
            ]
        )

    sent = log.during(lambda: mongo.transact(work))
    assert sent.count("insert resources") == 2
    assert mongo.counts() == {"Binary": 4}


def test_locks_leave_no_criteria_in_the_database(mongo: MongoStore, database: str) -> None:
    mongo.transact(lambda transaction: transaction.lock("Patient?name=secret"))
    with pymongo.MongoClient[dict[str, Any]](mongodb.server().uri) as client:
        assert "secret" not in str(list(client[database][indexes.LOCKS].find()))


@pytest.mark.parametrize("descending", [False, True])
def test_searches_inside_a_transaction_see_its_writes_in_every_order(mongo: MongoStore, descending: bool) -> None:
    """Some stages do not exist in transactions, so that some searches go another way there."""
    given(mongo, [put("Patient/old", ranges=[(BIRTHDATE, "0", 5, 6, "")], inner=[("o", "Organization", [], [])])])
    born = (SortKey((BIRTHDATE,), "range", descending),)
    contained = Select(("Organization",), contained="only")

    def work(transaction: Transaction) -> list[list[str]]:
        apply(
            transaction,
            [
                put("Patient/new", ranges=[(BIRTHDATE, "0", 3, 4, "")], inner=[("o", "Organization", [], [])]),
                put("Patient/unborn"),
            ],
        )
        return [
            find(transaction, "Patient"),
            find(transaction, "Patient", sort=born),
            find(transaction, "Patient", sort=born, count=2),
            matches(transaction.search(Search(contained))),
            matches(transaction.search(Search(contained, containers=True))),
        ]

    inside = mongo.transact(work)
    ordered = ["Patient/old", "Patient/new"] if descending else ["Patient/new", "Patient/old"]
    assert inside == [
        ["Patient/old", "Patient/new", "Patient/unborn"],
        [*ordered, "Patient/unborn"],
        ordered,
        ["Patient/old", "Patient/new"],
        ["Patient/old", "Patient/new"],
    ]
    assert find(mongo, "Patient", sort=born) == inside[1]


def test_an_import_keeps_numbers_times_and_what_is_there(reopen: Open, mongo: MongoStore) -> None:
    def version(number: int, updated: int, *keys: str) -> Version:
        document = Document("Patient/1", "Patient", [(FAMILY, key) for key in keys])
        return Version("Patient", "1", number, updated, "PUT", b"body%d" % number, (document,), (f"c{number}",), 3)

    mongo.import_versions([version(1, 1000), version(2, 2000, "b")])
    mongo.import_versions([version(2, 2000, "b"), version(3, 3000, "c"), version(4, 4000, "d")])
    assert [(one.version, one.updated, one.body) for one in mongo.scan_versions()] == [
        (1, 1000, b"body1"),
        (2, 2000, b"body2"),
        (3, 3000, b"body3"),
        (4, 4000, b"body4"),
    ]
    assert mongo.entries("Patient/1") == ([(FAMILY, "d")], [], ["c4"])
    assert find(mongo, "Patient", has_key(FAMILY, "b")) == []
    assert list(mongo.check()) == []
    at = mongo.history(HistoryQuery("Patient", "1", at=(2500, 2600)))
    assert [one.version for one in at.entries] == [2]


def test_a_reindex_replaces_entries_of_the_same_version_only(mongo: MongoStore) -> None:
    given(
        mongo,
        [
            put("Patient/1", keys=[(FAMILY, "a")], claims=["old"], inner=[("o", "Organization", [], [])], registry=1),
            put("Patient/2", keys=[(FAMILY, "a")], registry=1),
        ],
    )
    stale = [(one.address, one.version) for one in mongo.stale(2)]
    given(mongo, [put("Patient/2", keys=[(FAMILY, "b")], registry=2)])
    fresh = [
        Version(
            "Patient",
            id,
            1,
            0,
            "PUT",
            b"",
            (Document(f"Patient/{id}", "Patient", [(FAMILY, "c")]),),
            ("new",) * (id == "1"),
            2,
        )
        for id in ("1", "2")
    ]
    assert stale == [("Patient/1", 1), ("Patient/2", 1)]
    assert mongo.reindex(fresh) == 1
    assert mongo.stale(2) == []
    assert find(mongo, "Patient", has_key(FAMILY, "c")) == ["Patient/1"]
    assert find(mongo, "Patient", has_key(FAMILY, "b")) == ["Patient/2"]
    assert mongo.entries("Patient/1") == ([(FAMILY, "c")], [], ["new"])
    assert matches(mongo.search(Search(Select(("Organization",), contained="only")))) == []
    assert list(mongo.check()) == []
