"""Both stores against a model of one: any sequence of calls leaves what the protocol says."""

from __future__ import annotations

import random

import msgspec
import pytest

from smart_auth.records import Account
from smart_auth.store.protocol import AuthStore, Taken
from tests.support.accounts import AuthClock

IDS, NAMES, STATUSES = ("a", "b", "c", "d"), (None, "x", "y", "z"), ("active", "locked")


class Model:
    """The protocol over a dict."""

    def __init__(self, clock: AuthClock) -> None:
        self.records: dict[str, Account] = {}
        self.clock = clock

    def forget(self) -> None:
        self.records = {
            id: one for id, one in self.records.items() if one.expires_at is None or one.expires_at > self.clock.now
        }

    def put(self, record: Account) -> None:
        self.forget()
        for field in ("username", "phone"):
            value = getattr(record, field)
            if value is not None and any(
                getattr(one, field) == value for one in self.records.values() if one.id != record.id
            ):
                raise Taken(field)
        self.records[record.id] = record

    def insert(self, record: Account) -> None:
        self.forget()
        if record.id in self.records:
            raise Taken("id")
        self.put(record)


@pytest.mark.parametrize("seed", range(4))
def test_a_store_does_what_the_model_does(store: AuthStore, clock: AuthClock, seed: int) -> None:
    chance, model = random.Random(seed), Model(clock)
    for step in range(120):
        record = Account(
            id=chance.choice(IDS),
            name=str(step),
            username=chance.choice(NAMES),
            phone=chance.choice(NAMES),
            status=chance.choice(STATUSES),
            created_at=step,
            expires_at=chance.choice((None, None, clock.now + chance.randint(0, 5))),
        )
        act = chance.choice(("insert", "put", "change", "take", "wait"))
        if act == "wait":
            clock.advance(chance.randint(0, 3))
        elif act == "take":
            model.forget()
            assert store.take(Account, record.id) == model.records.pop(record.id, None)
        else:
            assert _outcome(store, act, record) == _outcome(model, act, record), (seed, step)
        model.forget()
        expected = sorted(model.records.values(), key=lambda one: one.id)
        assert store.page(Account) == expected
        for status in STATUSES:
            found = sorted((one for one in expected if one.status == status), key=lambda one: (one.created_at, one.id))
            assert store.find(Account, status=status) == found
            assert store.count(Account, status=status) == len(found)
        if step % 20 == 19:
            store.purge()


def _outcome(store: AuthStore | Model, act: str, record: Account) -> str:
    try:
        if act == "insert":
            store.insert(record)
        elif act == "put":
            store.put(record)
        elif isinstance(store, Model):
            store.forget()
            if record.id not in store.records:
                return "None"
            store.put(record)
        else:
            changed = store.change(Account, record.id, lambda found: msgspec.structs.replace(record, id=found.id))
            return str(None if changed is None else "done")
    except Taken:
        return "taken"
    return "done"
