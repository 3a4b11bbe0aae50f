"""Several workers at once, each with a store object of its own; and a process that forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
import pytest

from smart_auth.records import Account, OneTime
from smart_auth.store.protocol import AuthStore, Taken
from tests.support.records import Opener

WORKERS = 4


def at_once(open_it: Opener, work: Callable[[AuthStore, int], Any]) -> list[Any]:
    """What each worker returned, in no order; an exception fails the test."""
    stores = [open_it() for _ in range(WORKERS)]
    barrier = threading.Barrier(WORKERS)
    results: list[Any] = []
    errors: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait(30)
        try:
            results.append(work(stores[number], number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    return results


def test_exactly_one_takes(open_it: Opener, store: AuthStore) -> None:
    for number in range(5):
        store.insert(OneTime(id=f"code{number}"))

    def take_all(mine: AuthStore, worker: int) -> list[str]:
        return [id for id in (f"code{number}" for number in range(5)) if mine.take(OneTime, id) is not None]

    taken = list(chain.from_iterable(at_once(open_it, take_all)))
    assert sorted(taken) == [f"code{number}" for number in range(5)]


def test_exactly_one_holds_a_unique_value(open_it: Opener, store: AuthStore) -> None:
    def claim(mine: AuthStore, worker: int) -> list[str]:
        held = []
        for number in range(5):
            try:
                mine.insert(Account(id=f"{worker}-{number}", name="", phone=f"phone{number}"))
                held.append(f"phone{number}")
            except Taken as error:
                assert error.field == "phone"  # noqa: PT017 - the others are told so
        return held

    held = list(chain.from_iterable(at_once(open_it, claim)))
    assert sorted(held) == [f"phone{number}" for number in range(5)]
    assert store.count(Account) == 5


def test_exactly_one_inserts_an_id(open_it: Opener, store: AuthStore) -> None:
    def claim(mine: AuthStore, worker: int) -> int:
        won = 0
        for number in range(5):
            try:
                mine.insert(OneTime(id=f"jti{number}"))
                won += 1
            except Taken:
                pass
        return won

    assert sum(at_once(open_it, claim)) == 5


def test_no_increment_is_lost(open_it: Opener, store: AuthStore) -> None:
    store.insert(OneTime(id="x"))

    def count(mine: AuthStore, worker: int) -> None:
        for _ in range(10):
            changed = mine.change(OneTime, "x", lambda found: msgspec.structs.replace(found, tries=found.tries + 1))
            assert changed is not None

    at_once(open_it, count)
    found = store.get(OneTime, "x")
    assert found is not None
    assert found.tries == WORKERS * 10


def test_no_hit_is_lost(open_it: Opener, store: AuthStore) -> None:
    def hit(mine: AuthStore, worker: int) -> list[int]:
        return [mine.hit("key", 3600) for _ in range(10)]

    counts = list(chain.from_iterable(at_once(open_it, hit)))
    assert sorted(counts) == list(range(1, WORKERS * 10 + 1))


def test_putting_at_once_leaves_one_whole_record(open_it: Opener, store: AuthStore) -> None:
    def put(mine: AuthStore, worker: int) -> None:
        for _ in range(5):
            mine.put(OneTime(id="x", tries=worker, value={"worker": worker}))

    at_once(open_it, put)
    found = store.get(OneTime, "x")
    assert found is not None
    assert found.value == {"worker": found.tries}


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(store: AuthStore, open_it: Opener) -> None:
    store.insert(OneTime(id="before"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert store.get(OneTime, "before") is not None
            store.insert(OneTime(id="of the child"))
            store.close()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert store.get(OneTime, "of the child") is not None
    store.insert(OneTime(id="after"))
    assert store.count(OneTime) == 3


def test_changes_of_different_records_take_turns(open_it: Opener, store: AuthStore) -> None:
    """Each of two may give up its mark as long as the other one has it; the second begins while the first decides."""
    other = open_it()
    store.insert(OneTime(id="a", tries=1))
    store.insert(OneTime(id="b", tries=1))

    def give_up(mine: AuthStore, id: str, beside: str, meanwhile: Callable[[], None]) -> OneTime | None:
        def change(found: OneTime) -> OneTime | None:
            there = mine.get(OneTime, beside)
            meanwhile()
            assert there is not None
            return msgspec.structs.replace(found, tries=0) if there.tries else None

        return mine.change(OneTime, id, change, turn="marks")

    second = threading.Thread(target=give_up, args=(other, "b", "a", lambda: None))

    def begin() -> None:
        if second.ident is None:
            second.start()
            second.join(1)  # ends now where nothing waits for the first one

    give_up(store, "a", "b", begin)
    second.join(30)
    assert sum(one.tries for one in store.page(OneTime)) == 1


def test_no_turn_is_lost(open_it: Opener, store: AuthStore) -> None:
    """Everybody gives up what is his as long as there are others: one stays."""
    for round_ in range(5):
        for worker in range(WORKERS):
            store.put(Account(id=f"{worker}", name=f"round {round_}"))

        def leave(mine: AuthStore, worker: int) -> bool:
            def change(found: Account) -> Account | None:
                others = [one for one in mine.page(Account) if one.id != found.id and one.status == "active"]
                return msgspec.structs.replace(found, status="locked") if others else None

            return mine.change(Account, f"{worker}", change, turn="leaving") is not None

        assert sorted(at_once(open_it, leave)) == [False] + [True] * (WORKERS - 1)
        assert store.count(Account, status="active") == 1


def test_a_unique_value_is_taken_in_a_turn_too(store: AuthStore) -> None:
    store.insert(Account(id="a", name="", phone="1"))
    store.insert(Account(id="b", name=""))
    with pytest.raises(Taken) as caught:
        store.change(Account, "b", lambda found: msgspec.structs.replace(found, phone="1"), turn="x")
    assert caught.value.field == "phone"
    given = store.change(Account, "a", lambda found: msgspec.structs.replace(found, phone=None), turn="x")
    assert given is not None
    assert store.change(Account, "b", lambda found: msgspec.structs.replace(found, phone="1"), turn="x") is not None
    assert store.change(Account, "c", lambda found: found, turn="x") is None
    assert store.change(Account, "a", lambda found: None, turn="x") is None
