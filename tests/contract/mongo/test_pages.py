"""Pages where the order of creation alone does not tell two resources apart."""

from __future__ import annotations

import pytest

from fhir_server.search.ast import Search, Select, SortKey
from fhir_server.storage.mongo import MongoStore, layout
from tests.support.given import BIRTHDATE, FAMILY, Put, given, has, put, walk

SORTS = {
    "creation": (),
    "updated": (SortKey((), "updated"),),
    "updated, newest first": (SortKey((), "updated", True),),
    "id": (SortKey((), "id"),),
    "id, last first": (SortKey((), "id", True),),
    "range": (SortKey((BIRTHDATE,), "range"),),
    "range, last first": (SortKey((BIRTHDATE,), "range", True),),
    "key": (SortKey((FAMILY,), "key"),),
    "two keys": (SortKey((FAMILY,), "key", True), SortKey((BIRTHDATE,), "range")),
}


def tied_patient(n: int) -> Put:
    """Every fifth has no family name, every fourth no birth date."""
    return put(
        f"Patient/{n:02}",
        keys=[(FAMILY, "ab"[n % 2])] if n % 5 else [],
        ranges=[(BIRTHDATE, "0", n // 7, n // 7 + 1, "")] if n % 4 else [],
    )


@pytest.fixture
def tied(mongo: MongoStore, monkeypatch: pytest.MonkeyPatch) -> MongoStore:
    """Twenty resources that were created at the very same moment, in an order that is not that of their ids."""
    monkeypatch.setattr(layout, "creation_key", lambda milliseconds, place, chance: 7)
    numbers = [n * 7 % 20 for n in range(20)]
    for pair in zip(numbers[::2], numbers[1::2], strict=True):
        given(mongo, [tied_patient(n) for n in pair])
    return mongo


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_ties_are_neither_repeated_nor_skipped(tied: MongoStore, name: str, count: int) -> None:
    search = Search(Select(("Patient",)), sort=SORTS[name], count=1000)
    whole = walk(tied, search)
    assert sorted(whole) == [f"Patient/{m:02}" for m in range(20)]
    assert walk(tied, Search(Select(("Patient",)), sort=SORTS[name], count=count)) == whole


def test_ties_come_in_order_of_their_addresses(tied: MongoStore) -> None:
    addresses = [f"Patient/{m:02}" for m in range(20)]
    assert walk(tied, Search(Select(("Patient",)), count=6)) == addresses
    with_family = walk(tied, Search(Select(("Patient",), has(FAMILY)), sort=(SortKey((FAMILY,), "key"),), count=4))
    assert with_family == sorted(with_family, key=lambda address: (int(address[-2:]) % 2, address))


def test_a_position_of_another_order_is_refused(mongo: MongoStore) -> None:
    given(mongo, [put(f"Patient/{n}") for n in range(3)])
    position = mongo.search(Search(Select(("Patient",)), count=1)).next
    with pytest.raises(ValueError, match="another order"):
        mongo.search(Search(Select(("Patient",)), sort=SORTS["id"], count=1, after=position))
