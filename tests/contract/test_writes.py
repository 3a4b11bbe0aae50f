"""Versions, conflicts, claims, locks, transactions."""

import threading
from collections.abc import Callable

import pytest

from fhir_server.errors import Conflict, Duplicate, TooLarge
from fhir_server.storage.protocol import Store, Transaction
from fhir_server.storage.writes import MAX_STORED, Document, Stored, Version
from tests.support.given import FAMILY, apply, body, content, delete, find, given, has_key, put

Opener = Callable[[], Store]


def test_what_is_written_is_read(store: Store) -> None:
    (written,) = given(store, [put("Patient/1", [(FAMILY, "ann")], name="Ann Ä 中")])
    assert store.read("Patient", "1") == written
    assert written.version == 1
    assert written.method == "POST"
    assert not written.deleted
    assert content(written)["name"] == "Ann Ä 中"
    assert store.read("Patient", "2") is None
    assert store.read("Observation", "1") is None


def test_ids_and_types_are_case_sensitive(store: Store) -> None:
    given(store, [put("Patient/a", n=1), put("Patient/A", n=2)])
    assert content(store.read("Patient", "a"))["n"] == 1  # type: ignore[arg-type]
    assert content(store.read("Patient", "A"))["n"] == 2  # type: ignore[arg-type]


def test_bodies_come_back_byte_for_byte(store: Store) -> None:
    import gzip

    for number, raw in enumerate((b"", b"{}", gzip.compress(b"{}"), bytes(range(256)) * 300)):
        version = Version(
            "Binary", str(number), 1, 1_000_000 * (number + 1), "PUT", raw, (Document(f"Binary/{number}", "Binary"),)
        )
        store.transact(lambda transaction, version=version: transaction.append([version]))  # type: ignore[misc]
        assert store.read("Binary", str(number)).body == raw  # type: ignore[union-attr]


def test_every_version_stays_readable(store: Store) -> None:
    first, second, third, fourth = given(
        store, [put("Patient/1", n=1)], [put("Patient/1", n=2)], [delete("Patient/1")], [put("Patient/1", n=4)]
    )
    assert [one.version for one in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert store.read("Patient", "1") == fourth
    for one in (first, second, third, fourth):
        assert store.read_version("Patient", "1", one.version) == one
    assert store.read_version("Patient", "1", 5) is None
    assert store.read_version("Patient", "1", 0) is None
    assert store.read_version("Patient", "2", 1) is None
    assert first.updated < second.updated < third.updated < fourth.updated


def test_a_deletion_is_a_version_without_body(store: Store) -> None:
    given(store, [put("Patient/1", [(FAMILY, "ann")])], [delete("Patient/1")])
    gone = store.read("Patient", "1")
    assert gone is not None
    assert gone.deleted
    assert (gone.version, gone.method, gone.body) == (2, "DELETE", None)
    assert store.counts().get("Patient", 0) == 0
    assert find(store, "Patient") == []


def test_resurrected_resources_keep_their_place(store: Store) -> None:
    given(store, [put("Patient/1"), put("Patient/2")], [delete("Patient/1")], [put("Patient/1", [(FAMILY, "back")])])
    assert find(store, "Patient") == ["Patient/1", "Patient/2"]
    assert find(store, "Patient", has_key(FAMILY, "back")) == ["Patient/1"]
    assert store.counts() == {"Patient": 2}


def test_read_many_answers_what_exists(store: Store) -> None:
    given(store, [put("Patient/1"), put("Patient/2"), put("Observation/1")], [delete("Patient/2")])
    found = store.read_many(["Patient/1", "Observation/1", "Patient/2", "Patient/3", "Patient/1"])
    assert set(found) == {"Patient/1", "Observation/1", "Patient/2"}
    assert found["Patient/2"].deleted
    assert found["Patient/1"] == store.read("Patient", "1")
    assert store.read_many([]) == {}


def test_counts_are_of_current_resources(store: Store) -> None:
    assert store.counts() == {}
    given(
        store, [put("Patient/1"), put("Patient/2"), put("Observation/1")], [put("Patient/1"), delete("Observation/1")]
    )
    assert {name: count for name, count in store.counts().items() if count} == {"Patient": 2}


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_sees_its_own_writes(store: Store) -> None:
    def work(transaction: Transaction) -> None:
        apply(transaction, [put("Patient/1", [(FAMILY, "ann")])])
        assert transaction.read("Patient", "1").version == 1  # type: ignore[union-attr]
        assert find(transaction, "Patient", has_key(FAMILY, "ann")) == ["Patient/1"]
        apply(transaction, [put("Patient/1", [(FAMILY, "bob")]), put("Patient/2", [(FAMILY, "bob")])])
        assert find(transaction, "Patient", has_key(FAMILY, "bob")) == ["Patient/1", "Patient/2"]
        assert find(transaction, "Patient", has_key(FAMILY, "ann")) == []
        assert set(transaction.read_many(["Patient/1", "Patient/2"])) == {"Patient/1", "Patient/2"}

    store.transact(work)
    assert store.read("Patient", "1").version == 2  # type: ignore[union-attr]
    assert find(store, "Patient", has_key(FAMILY, "bob")) == ["Patient/1", "Patient/2"]


def test_an_exception_rolls_everything_back(store: Store) -> None:
    given(store, [put("Patient/1", [(FAMILY, "ann")])])
    position = store.feed_position()

    def work(transaction: Transaction) -> None:
        apply(transaction, [put("Patient/1", [(FAMILY, "bob")], claims=["k"]), put("Device/9", [(16 * 60, "new")])])
        transaction.put_meta("key", "value")
        raise KeyError("passes through")

    with pytest.raises(KeyError, match="passes through"):
        store.transact(work)
    assert store.read("Patient", "1").version == 1  # type: ignore[union-attr]
    assert store.read("Device", "9") is None
    assert find(store, "Patient", has_key(FAMILY, "ann")) == ["Patient/1"]
    assert find(store, "Patient", has_key(FAMILY, "bob")) == []
    assert store.get_meta("key") is None
    assert store.feed(position) == []
    # What was rolled back leaves no trace in later writes either.
    given(
        store,
        [put("Device/9", [(16 * 60, "new"), (16 * 60, "newer")]), put("Patient/2", [(FAMILY, "bob")], claims=["k"])],
    )
    assert find(store, "Device", has_key(16 * 60, "new")) == ["Device/9"]
    assert find(store, "Patient", has_key(FAMILY, "bob")) == ["Patient/2"]
    assert list(store.check()) == []


def test_the_result_of_the_work_is_returned(store: Store) -> None:
    assert store.transact(lambda transaction: 42) == 42
    assert store.transact(lambda transaction: transaction.read("Patient", "1"), write=False) is None


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_version_that_is_not_the_successor_conflicts(store: Store, number: int) -> None:
    given(store, [put("Patient/1")])
    wrong = Version(
        "Patient", "1", number, 2**52, "PUT", body("Patient/1", number), (Document("Patient/1", "Patient"),)
    )
    with pytest.raises(Conflict):
        store.transact(lambda transaction: transaction.append([wrong]))
    assert store.read("Patient", "1").version == 1  # type: ignore[union-attr]


def test_the_first_version_of_a_new_id_is_one(store: Store) -> None:
    wrong = Version("Patient", "1", 2, 2**52, "PUT", body("Patient/1", 2), (Document("Patient/1", "Patient"),))
    with pytest.raises(Conflict):
        store.transact(lambda transaction: transaction.append([wrong]))
    assert store.read("Patient", "1") is None


def test_bodies_above_the_common_limit_are_refused(store: Store) -> None:
    big = Version("Binary", "1", 1, 1_000_000, "PUT", bytes(MAX_STORED + 1), (Document("Binary/1", "Binary"),))
    with pytest.raises(TooLarge):
        store.transact(lambda transaction: transaction.append([big]))
    assert store.read("Binary", "1") is None


def test_bodies_up_to_the_common_limit_are_stored(store: Store) -> None:
    big = Version("Binary", "1", 1, 1_000_000, "PUT", bytes(MAX_STORED), (Document("Binary/1", "Binary"),))
    store.transact(lambda transaction: transaction.append([big]))
    assert len(store.read("Binary", "1").body) == MAX_STORED  # type: ignore[union-attr,arg-type]


def test_commit_times_are_milliseconds_and_never_fall(store: Store) -> None:
    times: list[int] = []
    for number in range(20):

        def work(transaction: Transaction, number: int = number) -> int:
            now = transaction.now()
            assert transaction.now() == now
            apply(transaction, [put(f"Patient/{number}")])
            return now

        times.append(store.transact(work))
    assert all(time % 1000 == 0 for time in times)
    assert times == sorted(times)


def test_commit_times_never_fall_below_a_version_from_the_future(store: Store) -> None:
    """A clock that was set back, or a copy from a machine whose clock is ahead."""
    future = store.transact(lambda transaction: transaction.now()) + 3_600_000_000
    early = Version("Patient", "1", 1, future, "POST", body("Patient/1", 1), (Document("Patient/1", "Patient"),))
    store.transact(lambda transaction: transaction.append([early]))
    (second,) = given(store, [put("Patient/1")])
    assert second.updated > future


# --- claims -----------------------------------------------------------------------------------------------------------


def test_a_claim_is_held_by_one_resource(store: Store) -> None:
    given(store, [put("Patient/1", claims=["mrn|1", "mrn|2"])])
    with pytest.raises(Duplicate):
        given(store, [put("Patient/2", claims=["mrn|2"])])
    assert store.read("Patient", "2") is None
    with pytest.raises(Duplicate):
        given(store, [put("Patient/3"), put("Observation/1", claims=["mrn|1"])])
    assert store.read("Patient", "3") is None
    given(store, [put("Patient/2", claims=["mrn|3"])])
    assert store.entries("Patient/1")[2] == ["mrn|1", "mrn|2"]


def test_two_resources_of_one_bulk_cannot_claim_the_same(store: Store) -> None:
    with pytest.raises(Duplicate):
        given(store, [put("Patient/1", claims=["k"]), put("Patient/2", claims=["k"])])
    assert find(store, "Patient") == []


def test_claims_follow_updates_and_deletions(store: Store) -> None:
    given(store, [put("Patient/1", claims=["a", "b"])], [put("Patient/1", claims=["b", "c"])])
    given(store, [put("Patient/2", claims=["a"])])
    with pytest.raises(Duplicate):
        given(store, [put("Patient/2", claims=["a", "c"])])
    given(store, [delete("Patient/1")], [put("Patient/2", claims=["a", "b", "c"])])
    with pytest.raises(Duplicate):
        given(store, [put("Patient/1", claims=["c"])])
    assert store.read("Patient", "1").deleted  # type: ignore[union-attr]


def test_claims_can_be_exchanged_in_one_bulk(store: Store) -> None:
    given(store, [put("Patient/1", claims=["a"]), put("Patient/2", claims=["b"])])
    given(store, [put("Patient/1", claims=["b"]), put("Patient/2", claims=["a"])])
    assert store.entries("Patient/1")[2] == ["b"]
    given(store, [delete("Patient/1"), put("Patient/3", claims=["b"])])
    assert store.entries("Patient/3")[2] == ["b"]


# --- several writers --------------------------------------------------------------------------------------------------


def in_threads(open_it: Opener, count: int, work: Callable[[Store, int], object]) -> list[object]:
    """Runs `work` in threads with a Store each; results or exceptions, in order."""
    results: list[object] = [None] * count
    stores = [open_it() for _ in range(count)]
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = work(stores[number], number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_parallel_updates_lose_none(open_it: Opener, store: Store) -> None:
    given(store, [put("Patient/1", n=0)])

    def increment(own: Store, number: int) -> None:
        for _ in range(10):

            def work(transaction: Transaction) -> None:
                value = content(transaction.read("Patient", "1"))["n"]  # type: ignore[arg-type]
                apply(transaction, [put("Patient/1", n=value + 1)])

            own.transact(work)

    assert in_threads(open_it, 4, increment) == [None] * 4
    last = store.read("Patient", "1")
    assert last is not None
    assert (content(last)["n"], last.version) == (40, 41)
    assert list(store.check()) == []


@pytest.mark.parametrize("threads", [6])
def test_parallel_conditional_creates_make_one(open_it: Opener, store: Store, threads: int) -> None:
    def create(own: Store, number: int) -> list[str]:
        def work(transaction: Transaction) -> list[str]:
            transaction.lock("Patient?family=ann")
            present = find(transaction, "Patient", has_key(FAMILY, "ann"))
            if not present:
                apply(transaction, [put(f"Patient/{number}", [(FAMILY, "ann")])])
            return present

        return own.transact(work)

    results = in_threads(open_it, threads, create)
    found = find(store, "Patient", has_key(FAMILY, "ann"))
    assert len(found) == 1
    assert sorted(results, key=len) == [[], *([found] * (threads - 1))]  # type: ignore[arg-type]
    # A lock leaves nothing behind that could refuse a later create.
    given(store, [delete(found[0])])
    assert create(store, 77) == []
    assert find(store, "Patient", has_key(FAMILY, "ann")) == ["Patient/77"]


def test_parallel_claims_are_won_once(open_it: Opener, store: Store) -> None:
    results = in_threads(open_it, 5, lambda own, number: given(own, [put(f"Patient/{number}", claims=["k"])]))
    assert sum(isinstance(one, list) for one in results) == 1
    assert sum(isinstance(one, Duplicate) for one in results) == 4
    assert len(find(store, "Patient")) == 1


def test_readers_see_whole_transactions_only(open_it: Opener, store: Store) -> None:
    given(store, [put("Patient/1", [(FAMILY, "0")]), put("Patient/2", [(FAMILY, "0")])])

    def work(own: Store, number: int) -> object:
        if number == 0:
            for turn in range(1, 15):
                given(
                    own,
                    [
                        put("Patient/1", [(FAMILY, str(turn))], turn=turn),
                        put("Patient/2", [(FAMILY, str(turn))], turn=turn),
                    ],
                )
            return None
        torn = []
        for _ in range(60):
            page = own.transact(lambda transaction: transaction.read_many(["Patient/1", "Patient/2"]), write=False)
            versions = {one.version for one in page.values()}
            if len(versions) != 1:
                torn.append(versions)
        return torn

    assert in_threads(open_it, 3, work) == [None, [], []]


def test_another_worker_sees_what_was_committed(open_it: Opener, store: Store) -> None:
    other = open_it()
    assert find(other, "Patient") == []
    given(store, [put("Patient/1", [(FAMILY, "ann")])])
    assert find(other, "Patient", has_key(FAMILY, "ann")) == ["Patient/1"]
    given(other, [put("Patient/1", [(FAMILY, "bob"), (16 * 8, "v")]), put("Device/1", [(16 * 60, "x")])])
    assert find(store, "Patient", has_key(FAMILY, "bob")) == ["Patient/1"]
    assert find(store, "Device", has_key(16 * 60, "x")) == ["Device/1"]
    assert isinstance(store.read("Device", "1"), Stored)


def test_records_are_removed_with_the_transaction_and_counted(store: Store) -> None:
    for key in ("a/1", "a/2", "b/1"):
        store.put_meta(key, 1)
    with pytest.raises(ZeroDivisionError):
        store.transact(lambda transaction: 1 // (transaction.remove_meta(["a/1"]) - 1))
    assert store.transact(lambda transaction: transaction.remove_meta(["a/1", "a/2", "a/3"])) == 2
    assert store.transact(lambda transaction: transaction.remove_meta([])) == 0
    assert store.meta_items("a/") == {}
    assert store.get_meta("b/1") == 1
