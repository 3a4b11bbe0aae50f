"""Meta values, scans, reindexing, imports, backups, checks."""

import threading
from collections.abc import Callable

import pytest

from fhir_server.errors import Duplicate
from fhir_server.storage.protocol import HistoryQuery, Store
from fhir_server.storage.writes import Document, Stored, Version
from tests.support.given import CODE, DATE, FAMILY, GENDER, body, delete, find, given, has_key, put, version_of

Opener = Callable[[], Store]


def test_meta_values_are_json(store: Store) -> None:
    assert store.get_meta("zone") is None
    for value in ({"zone": "Asia/Shanghai", "list": [1, 2, {"ä": None}]}, [], "text", 12, False, {"a.b": {"$c": 1}}):
        store.put_meta("zone", value)
        assert store.get_meta("zone") == value
    store.put_meta("other key / $ . ä", {"n": 1})
    assert store.get_meta("other key / $ . ä") == {"n": 1}


def test_meta_is_committed_with_the_transaction(store: Store) -> None:
    store.transact(lambda transaction: (transaction.put_meta("ledger", ["a"]), transaction.get_meta("ledger")))
    assert store.get_meta("ledger") == ["a"]


def test_meta_updates_are_atomic(open_it: Opener, store: Store) -> None:
    assert store.update_meta("count", lambda old: (old or 0) + 1) == 1

    def work(own: Store) -> None:
        for _ in range(10):
            own.update_meta("count", lambda old: (old or 0) + 1)

    threads = [threading.Thread(target=work, args=(open_it(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get_meta("count") == 31


@pytest.fixture
def shelf(store: Store) -> Store:
    given(
        store,
        [put("Patient/b", [(FAMILY, "b")]), put("Patient/a", [(FAMILY, "a")]), put("Observation/z", [(CODE, "z")])],
        [put("Patient/b", [(FAMILY, "bb")]), put("Device/1", registry=3)],
        [delete("Patient/a"), put("Patient/c", inner=[("x", "Patient", [(FAMILY, "inner")], [])])],
        [put("Patient/b", [(FAMILY, "bbb")], claims=["k"])],
    )
    return store


def test_scan_answers_current_resources_by_address(shelf: Store) -> None:
    assert [one.address for one in shelf.scan()] == ["Device/1", "Observation/z", "Patient/b", "Patient/c"]
    assert [one.address for one in shelf.scan(types=["Patient"])] == ["Patient/b", "Patient/c"]
    assert [one.address for one in shelf.scan(types=["Patient", "Device", "Basic"])] == [
        "Device/1",
        "Patient/b",
        "Patient/c",
    ]
    assert shelf.scan(types=["Basic"]) == []
    assert shelf.scan(types=[]) == []
    pages, after = [], ""
    while found := shelf.scan(after=after, limit=1):
        pages += found
        after = found[-1].address
    assert pages == shelf.scan()
    assert shelf.scan(after="Patient/b", types=["Patient"])[0].address == "Patient/c"
    assert shelf.scan()[2] == shelf.read("Patient", "b")


def test_scan_versions_answers_everything(shelf: Store) -> None:
    whole = shelf.scan_versions()
    assert [(one.address, one.version) for one in whole] == [
        ("Device/1", 1),
        ("Observation/z", 1),
        ("Patient/a", 1),
        ("Patient/a", 2),
        ("Patient/b", 1),
        ("Patient/b", 2),
        ("Patient/b", 3),
        ("Patient/c", 1),
    ]
    for limit in (1, 2, 3, 7):
        pages: list[Stored] = []
        after = ("", 0)
        while found := shelf.scan_versions(after=after, limit=limit):
            assert len(found) <= limit
            pages += found
            after = (found[-1].address, found[-1].version)
        assert pages == whole


def test_stale_answers_what_older_registries_extracted(shelf: Store) -> None:
    assert {one.address for one in shelf.stale(1)} == {"Observation/z", "Patient/b", "Patient/c"}
    assert {one.address for one in shelf.stale(4)} == {"Observation/z", "Patient/b", "Patient/c", "Device/1"}
    assert shelf.stale(0) == []
    assert len(shelf.stale(4, limit=2)) == 2


def reextracted(stored: Stored, registry: int, *keys: tuple[int, str], claims: tuple[str, ...] = ()) -> Version:
    return Version(
        stored.type,
        stored.id,
        stored.version,
        stored.updated,
        stored.method,
        stored.body,
        (Document(stored.address, stored.type, list(keys)),),
        claims,
        registry,
    )


def test_reindex_replaces_entries_and_nothing_else(shelf: Store) -> None:
    before = shelf.read("Patient", "b")
    assert before is not None
    position = shelf.feed_position()
    assert shelf.reindex([reextracted(before, 7, (FAMILY, "new"), (GENDER, "f"), claims=("l",))]) == 1
    after = shelf.read("Patient", "b")
    assert after is not None
    assert (after.version, after.updated, after.body, after.method, after.registry) == (
        before.version,
        before.updated,
        before.body,
        before.method,
        7,
    )
    assert shelf.entries("Patient/b") == ([(FAMILY, "new"), (GENDER, "f")], [], ["l"])
    assert find(shelf, "Patient", has_key(FAMILY, "bbb")) == []
    assert find(shelf, "Patient", has_key(GENDER, "f")) == ["Patient/b"]
    assert shelf.feed(position) == []
    assert len(shelf.history(HistoryQuery("Patient", "b")).entries) == 3
    assert "Patient/b" not in {one.address for one in shelf.stale(7)}
    given(shelf, [put("Patient/d", claims=["k"])])
    with pytest.raises(Duplicate):
        given(shelf, [put("Patient/e", claims=["l"])])


def test_reindex_passes_over_versions_that_are_no_longer_current(shelf: Store) -> None:
    old = shelf.read("Patient", "b")
    other = shelf.read("Observation", "z")
    gone = shelf.read("Patient", "c")
    assert old is not None
    assert other is not None
    assert gone is not None
    given(shelf, [put("Patient/b", [(FAMILY, "newest")])], [delete("Patient/c")])
    versions = [
        reextracted(old, 7, (FAMILY, "stale")),
        reextracted(other, 7, (CODE, "fresh")),
        reextracted(gone, 7, (FAMILY, "gone")),
    ]
    assert shelf.reindex(versions) == 1
    assert find(shelf, "Patient", has_key(FAMILY, "newest")) == ["Patient/b"]
    assert find(shelf, "Patient", has_key(FAMILY, "stale")) == []
    assert find(shelf, "Patient", has_key(FAMILY, "gone")) == []
    assert find(shelf, "Observation", has_key(CODE, "fresh")) == ["Observation/z"]
    assert list(shelf.check()) == []


def test_entries_are_answered_sorted_with_those_of_contained_resources(store: Store) -> None:
    given(
        store,
        [
            put(
                "Patient/1",
                [(GENDER, "f"), (FAMILY, "b"), (FAMILY, "a")],
                [(DATE + 160, "0", 5, 6, "u"), (DATE + 160, "0", 1, 2, "")],
                claims=["z", "y"],
                inner=[("p", "Patient", [(FAMILY, "inner")], [(DATE + 160, "0", 3, 4, "")])],
            )
        ],
    )
    contained = 8
    assert store.entries("Patient/1") == (
        [(FAMILY, "a"), (FAMILY, "b"), (FAMILY | contained, "inner"), (GENDER, "f")],
        [(DATE + 160, "0", 1, 2, ""), (DATE + 160, "0", 5, 6, "u"), (DATE + 160 | contained, "0", 3, 4, "")],
        ["y", "z"],
    )
    assert store.entries("Patient/absent") == ([], [], [])
    given(store, [delete("Patient/1")])
    assert store.entries("Patient/1") == ([], [], [])


def imported(address: str, version: int, updated: int, *keys: tuple[int, str], gone: bool = False) -> Version:
    type, _, id = address.partition("/")
    if gone:
        return Version(type, id, version, updated, "DELETE", None)
    return Version(
        type,
        id,
        version,
        updated,
        "PUT",
        body(address, version),
        (Document(address, type, list(keys)),),
        (),
        2,
    )


def test_import_keeps_numbers_and_times(store: Store) -> None:
    store.import_versions(
        [
            imported("Patient/1", 1, 1000, (FAMILY, "one")),
            imported("Patient/1", 2, 5000, (FAMILY, "two")),
            imported("Patient/1", 3, 9000, (FAMILY, "three")),
            imported("Patient/2", 1, 2000, (FAMILY, "two")),
            imported("Patient/2", 2, 3000, gone=True),
        ]
    )
    store.import_versions(
        [imported("Patient/1", 4, 12_000, (FAMILY, "four")), imported("Patient/3", 1, 4000, (FAMILY, "x"))]
    )
    assert [(one.address, one.version, one.updated) for one in store.scan_versions()] == [
        ("Patient/1", 1, 1000),
        ("Patient/1", 2, 5000),
        ("Patient/1", 3, 9000),
        ("Patient/1", 4, 12_000),
        ("Patient/2", 1, 2000),
        ("Patient/2", 2, 3000),
        ("Patient/3", 1, 4000),
    ]
    assert find(store, "Patient", has_key(FAMILY, "four")) == ["Patient/1"]
    for superseded in ("one", "two", "three"):
        assert find(store, "Patient", has_key(FAMILY, superseded)) == []
    assert [one.version for one in store.history(HistoryQuery("Patient", "1")).entries] == [4, 3, 2, 1]
    assert [one.version for one in store.history(HistoryQuery("Patient", "1", at=(6000, 6001))).entries] == [2]
    assert [one.version for one in store.history(HistoryQuery("Patient", "1", at=(10_000, 10_001))).entries] == [3]
    assert list(store.check()) == []
    (later,) = given(store, [put("Patient/1", [(FAMILY, "five")])])
    assert later.version == 5


def test_an_import_may_be_repeated(store: Store) -> None:
    versions = [imported("Patient/1", 1, 1000, (FAMILY, "one")), imported("Patient/1", 2, 5000, (FAMILY, "two"))]
    store.import_versions(versions[:1])
    store.import_versions(versions)
    store.import_versions(versions)
    assert [(one.version, one.updated) for one in store.scan_versions()] == [(1, 1000), (2, 5000)]
    assert find(store, "Patient", has_key(FAMILY, "two")) == ["Patient/1"]
    assert list(store.check()) == []


def test_everything_copied_is_the_same_store(shelf: Store, open_it: Opener) -> None:
    """What `hestia copy` does, within one database: scan, then import elsewhere; here only that a scan misses
    nothing.
    """
    versions = shelf.scan_versions()
    assert {(one.address, one.version) for one in versions} == {
        (one.address, one.version) for one in shelf.history(HistoryQuery(count=1000)).entries
    }


def test_a_sound_store_has_no_findings(shelf: Store) -> None:
    assert list(shelf.check()) == []


def test_statistics_name_the_database(shelf: Store) -> None:
    found = shelf.statistics()
    assert found["database"]
    assert found["version"]
    assert (found["resources"], found["versions"]) == (4, 8)
    assert found["bytes"] > 0


def test_writes_prepared_by_hand_agree_with_given(store: Store) -> None:
    version = version_of(put("Patient/1", [(FAMILY, "x")]), 1, 1_000_000)
    store.transact(lambda transaction: transaction.append([version]))
    assert store.read("Patient", "1") == Stored("Patient", "1", 1, 1_000_000, "POST", version.body, 0)
