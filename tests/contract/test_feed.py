"""The change feed: commit order, resumable positions, and positions that can no longer be served."""

import threading
import time
from collections.abc import Callable

import pytest

from fhir_server.errors import PositionLost
from fhir_server.storage.protocol import Change, HistoryQuery, Store
from tests.support.given import delete, given, put

Opener = Callable[[], Store]


def told(changes: list[Change]) -> list[str]:
    return [f"{one.type}/{one.id} {one.version} {one.method}" for one in changes]


def test_changes_come_in_the_order_of_commits(store: Store) -> None:
    start = store.feed_position()
    given(store, [put("Patient/1"), put("Patient/2")], [put("Patient/1")], [delete("Patient/2")])
    changes = store.feed(start)
    assert sorted(told(changes[:2])) == ["Patient/1 1 POST", "Patient/2 1 POST"]
    assert told(changes[2:]) == ["Patient/1 2 PUT", "Patient/2 2 DELETE"]
    assert [one.updated for one in changes] == sorted(one.updated for one in changes)


def test_a_position_resumes_after_it(store: Store) -> None:
    given(store, [put("Patient/0")])
    start = store.feed_position()
    assert store.feed(start) == []
    given(store, *([put(f"Patient/{n}")] for n in range(1, 8)))
    whole = store.feed(start)
    assert [one.id for one in whole] == [str(n) for n in range(1, 8)]
    for number, one in enumerate(whole):
        assert store.feed(one.position) == whole[number + 1 :]
    pages, position = [], start
    while found := store.feed(position, limit=3):
        assert len(found) <= 3
        pages += found
        position = found[-1].position
    assert told(pages) == told(whole)
    assert store.feed(store.feed_position()) == []


def test_rolled_back_writes_are_not_told(store: Store) -> None:
    start = store.feed_position()
    with pytest.raises(ZeroDivisionError):
        store.transact(lambda transaction: (given_in(transaction), 1 / 0))
    given(store, [put("Patient/2")])
    assert told(store.feed(start)) == ["Patient/2 1 POST"]


def given_in(transaction: object) -> None:
    from tests.support.given import apply

    apply(transaction, [put("Patient/1")])  # type: ignore[arg-type]


def test_positions_hold_across_workers(open_it: Opener, store: Store) -> None:
    start = store.feed_position()
    given(store, [put("Patient/1")])
    other = open_it()
    assert told(other.feed(start)) == ["Patient/1 1 POST"]


def test_waiting_ends_when_something_happens(open_it: Opener, store: Store) -> None:
    start = store.feed_position()
    other = open_it()
    started = time.monotonic()
    assert store.feed(start, wait_s=0.2) == []
    assert time.monotonic() - started >= 0.15
    thread = threading.Timer(0.2, lambda: given(other, [put("Patient/1")]))
    thread.start()
    started = time.monotonic()
    found = store.feed(start, wait_s=20)
    thread.join()
    assert told(found) == ["Patient/1 1 POST"]
    assert time.monotonic() - started < 15


def test_nothing_is_skipped_beside_several_writers(open_it: Opener, store: Store) -> None:
    start = store.feed_position()
    stores = [open_it() for _ in range(3)]

    def write(own: Store, writer: int) -> None:
        for n in range(12):
            given(own, [put(f"Patient/{writer}-{n}"), put(f"Observation/{writer}-{n}")])

    threads = [threading.Thread(target=write, args=(own, number)) for number, own in enumerate(stores)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    position = start
    deadline = time.monotonic() + 60
    while len(seen) < 72 and time.monotonic() < deadline:
        for one in store.feed(position, limit=5, wait_s=0.1):
            seen.append(f"{one.type}/{one.id}")
            position = one.position
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 72
    assert store.feed(position) == []


@pytest.mark.parametrize("position", ["", "nonsense", "0.0", "another-epoch.7"])
def test_positions_of_elsewhere_are_lost(store: Store, position: str) -> None:
    given(store, [put("Patient/1")])
    with pytest.raises(PositionLost):
        store.feed(position)


def test_a_consumer_whose_position_is_lost_catches_up_from_history(store: Store) -> None:
    """Deletions included; versions at the last instant seen are told again rather than skipped."""
    seen = given(store, [put("Patient/1"), put("Patient/2")])
    given(store, [put("Patient/1")], [delete("Patient/2")])
    with pytest.raises(PositionLost):
        store.feed("lost")
    position = store.feed_position()
    page = store.history(HistoryQuery(since=seen[-1].updated))
    assert {(one.address, one.version) for one in page.entries} == {
        ("Patient/1", 1),
        ("Patient/2", 1),
        ("Patient/1", 2),
        ("Patient/2", 2),
    }
    given(store, [put("Patient/3")])
    assert told(store.feed(position)) == ["Patient/3 1 POST"]
