"""Long lists of keys and ids, as policies are made of: the same list is asked again and again while the store
changes.
"""

import pytest

from fhir_server.storage.protocol import Store, Transaction
from tests.contract.conftest import Opener
from tests.support.given import (
    CODE,
    SUBJECT,
    And,
    Compare,
    Exists,
    Field,
    Node,
    Not,
    Or,
    Put,
    apply,
    delete,
    find,
    given,
    put,
    searching,
)

PATIENTS = tuple(f"Patient/{number}" for number in range(20))
ABOUT = Exists((SUBJECT,), "key", Compare("key", "in", PATIENTS))
PULSE = Exists((CODE,), "key", Compare("key", "=", "pulse\x1f"))
IDS = Field("id", "in", tuple(str(number) for number in range(20)))


def observation(number: int, subject: str, code: str = "pulse\x1f") -> Put:
    return put(f"Observation/{number}", [(CODE, code), (SUBJECT, subject)])


def test_a_list_finds_what_comes_later(store: Store) -> None:
    assert find(store, "Observation", ABOUT) == []
    given(store, [observation(1, "Patient/3"), observation(2, "Patient/77")])
    assert find(store, "Observation", ABOUT) == ["Observation/1"]
    given(store, [observation(3, "Patient/4"), observation(4, "Patient/5", "other\x1f")])
    assert find(store, "Observation", ABOUT) == ["Observation/1", "Observation/3", "Observation/4"]
    assert find(store, "Observation", And((PULSE, ABOUT))) == ["Observation/1", "Observation/3"]
    given(store, [delete("Observation/1"), observation(3, "Patient/77")])
    assert find(store, "Observation", ABOUT) == ["Observation/4"]
    assert find(store, "Observation", And((PULSE, Not(ABOUT)))) == ["Observation/2", "Observation/3"]


def test_a_list_of_ids_finds_what_is_there(store: Store) -> None:
    given(store, [put(f"Patient/{number}") for number in (3, 5, 21)] + [observation(3, "Patient/3")])
    assert find(store, "Patient", IDS) == ["Patient/3", "Patient/5"]
    assert find(store, "Patient", Not(IDS)) == ["Patient/21"]
    assert find(store, "Patient", Or((IDS, Field("id", "=", "21")))) == ["Patient/3", "Patient/5", "Patient/21"]
    assert find(store, "Patient", And((IDS, Field("id", "=", "5")))) == ["Patient/5"]
    assert find(store, "Patient", And((IDS, Field("id", "=", "21")))) == []
    assert find(store, "Observation", IDS) == ["Observation/3"]
    given(store, [delete("Patient/3")])
    assert find(store, "Patient", IDS) == ["Patient/5"]
    assert find(store, "Patient", Not(IDS)) == ["Patient/21"]


def test_a_list_within_a_transaction_forgets_what_is_rolled_back(store: Store) -> None:
    class Stop(Exception):
        pass

    given(store, [observation(1, "Patient/3")])

    def work(transaction: Transaction) -> None:
        apply(transaction, [observation(9, "Patient/9")])
        assert find(transaction, "Observation", ABOUT) == ["Observation/1", "Observation/9"]
        raise Stop

    with pytest.raises(Stop):
        store.transact(work)
    given(store, [observation(2, "Patient/4")])
    assert find(store, "Observation", ABOUT) == ["Observation/1", "Observation/2"]


def test_one_resource_is_found_if_the_list_permits_it(store: Store) -> None:
    def one(address: str, *nodes: Node) -> list[str]:
        return find(store, "Observation", And((Field("address", "=", address), *nodes)))

    given(store, [observation(1, "Patient/3"), observation(2, "Patient/77"), observation(3, "Patient/4", "other\x1f")])
    assert one("Observation/1", ABOUT, PULSE) == ["Observation/1"]
    assert one("Observation/1", ABOUT, Not(PULSE)) == []
    assert one("Observation/2", ABOUT) == []
    assert one("Observation/2", Or((ABOUT, PULSE))) == ["Observation/2"]
    assert one("Observation/3", ABOUT, Not(PULSE)) == ["Observation/3"]
    assert one("Observation/9", ABOUT) == []
    assert one("Patient/3", ABOUT) == []
    given(store, [observation(1, "Patient/77"), observation(2, "Patient/5"), delete("Observation/3")])
    assert one("Observation/1", ABOUT) == []
    assert one("Observation/2", ABOUT, PULSE) == ["Observation/2"]
    assert one("Observation/3", ABOUT) == []


def test_one_resource_is_judged_by_what_was_committed(store: Store) -> None:
    """A transaction that is given up leaves nothing behind by which later ones are judged."""
    given(store, [observation(0, "Patient/77")])
    where = And((Field("address", "=", "Observation/1"), ABOUT))

    def work(transaction: Transaction) -> None:
        apply(transaction, [observation(1, "Patient/7")])
        assert find(transaction, "Observation", where) == ["Observation/1"]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.transact(work)
    assert find(store, "Observation", where) == []
    given(store, [observation(1, "Patient/99")])
    assert find(store, "Observation", where) == []
    assert find(store, "Observation", And((Field("address", "=", "Observation/1"),))) == ["Observation/1"]


def test_a_count_is_that_of_now(store: Store, open_it: Opener) -> None:
    """Counted again after every commit, of this worker or another, and never by what is rolled back."""
    other = open_it()
    where = And((PULSE, ABOUT))

    def counted(reader: Store | Transaction) -> int | None:
        return reader.search(searching("Observation", where, count=0, total=True)).total

    def on_page(reader: Store) -> int | None:
        return reader.search(searching("Observation", where, count=1, total=True)).total

    given(store, [observation(1, "Patient/3"), observation(2, "Patient/4"), observation(3, "Patient/77")])
    assert counted(store) == counted(store) == on_page(store) == on_page(other) == 2
    given(other, [observation(4, "Patient/5")])
    assert counted(store) == counted(other) == on_page(store) == 3

    def work(transaction: Transaction) -> None:
        apply(transaction, [observation(5, "Patient/7")])
        assert counted(transaction) == 4
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.transact(work)
    assert counted(store) == on_page(store) == 3
    given(store, [delete("Observation/1"), observation(2, "Patient/77")])
    assert counted(store) == counted(other) == on_page(other) == 1
