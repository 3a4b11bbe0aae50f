"""What a policy demands is the same object in every search, and a store may keep what it made of it.

Whatever is committed meanwhile, here or by another worker, a search gives what it would give if nothing had been kept.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fhir_server.storage.protocol import Store, Transaction
from tests.contract.conftest import Opener
from tests.support.given import (
    CODE,
    SUBJECT,
    TAG,
    And,
    Compare,
    Delete,
    Exists,
    Field,
    Linked,
    Node,
    Not,
    Or,
    Put,
    Select,
    apply,
    delete,
    find,
    given,
    put,
)

TYPES = ("Patient", "Observation")
PATIENTS = tuple(f"Patient/{number}" for number in range(0, 40, 2))
SECRET = Exists((TAG,), "key", Compare("key", "=", "secret\x1f"))
PARTS: dict[str, Node] = {
    "a long list of keys": Exists((SUBJECT,), "key", Compare("key", "in", PATIENTS)),
    "a short list of keys": Exists((SUBJECT,), "key", Compare("key", "in", PATIENTS[:3])),
    "one key": Exists((SUBJECT,), "key", Compare("key", "=", "Patient/4")),
    "not a long list of keys": Not(Exists((SUBJECT,), "key", Compare("key", "in", PATIENTS))),
    "no label": Not(SECRET),
    "a long list of resources": Field("address", "in", (*PATIENTS, *(f"Observation/{n}" for n in range(0, 60, 3)))),
    "a short list of resources": Field("address", "in", ("Patient/2", "Observation/6", "Observation/7")),
    "not a long list of resources": Not(Field("address", "in", PATIENTS)),
    "a type": Field("type", "=", "Patient"),
    "types": Field("type", "in", ("Observation", "Encounter")),
    "a chain": Linked((SUBJECT,), Select(("Patient",), Field("address", "in", PATIENTS[:4]))),
}
POLICIES = {
    **{name: And((part,), lasting=True) for name, part in PARTS.items()},
    "a list without labels": And((PARTS["a long list of keys"], PARTS["no label"]), lasting=True),
    "either": And((Or((PARTS["one key"], And((PARTS["a long list of resources"], PARTS["no label"])))),), lasting=True),
    "by type": And(
        (Or((And((PARTS["a type"], PARTS["a long list of resources"])), And((PARTS["types"], PARTS["no label"])))),),
        lasting=True,
    ),
}
ASKED: tuple[tuple[Node, ...], ...] = (
    (),
    (Exists((CODE,), "key", Compare("key", "=", "pulse\x1f")),),
    (Field("address", "=", "Observation/6"),),
    (Field("id", "=", "2"),),
    (
        Exists((CODE,), "key", Compare("key", "=", "pulse\x1f")),
        Exists((SUBJECT,), "key", Compare("key", "=", "Patient/4")),
    ),
)


class GivenUp(Exception):
    """Ends a transaction without a commit."""


def resource(chance: random.Random) -> Put:
    """A resource with terms of which many are new to the store."""
    number = chance.randrange(60)
    if chance.random() < 0.4:
        return put(f"Patient/{number % 40}")
    keys = [(CODE, chance.choice(("pulse\x1f", "weight\x1f"))), (SUBJECT, f"Patient/{chance.randrange(40)}")]
    if chance.random() < 0.3:
        keys.append((TAG, "secret\x1f"))
    # Rows of contained resources go with their containers, and their numbers are given again.
    if chance.random() < 0.3:
        return put(f"Observation/{number}", keys, inner=[("p", "Patient", [], [])])
    return put(f"Observation/{number}", keys)


def compare(store: Store | Transaction) -> None:
    """Every policy with everything asked gives what it gives a store that keeps nothing."""
    for name, policy in POLICIES.items():
        for asked in ASKED:
            for kind in TYPES:
                kept = find(store, kind, And((*asked, policy)) if asked else policy)
                anew = find(store, kind, And((*asked, *replace(policy, lasting=False).parts)))
                assert kept == anew, (name, asked, kind)


@pytest.mark.parametrize("fresh_s", [0.0, 1.0, 3600.0])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_kept_stays_right(
    store: Store, open_it: Opener, seed: int, fresh_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fresh_s`: what is kept is completed each time, now and then, or never."""
    for module in ("marks", "conditions", "search"):
        monkeypatch.setattr(f"fhir_server.storage.sqlite.{module}.FRESH_S", fresh_s)
    chance = random.Random(seed)
    other = open_it()
    steps = 25 if "Sqlite" in type(store).__name__ else 2

    def work(transaction: Transaction, writes: list[Put | Delete], give_up: bool) -> None:
        apply(transaction, writes)
        if give_up:
            compare(transaction)
            raise GivenUp

    for _ in range(steps):
        writes: list[Put | Delete] = list({one.address: one for one in (resource(chance) for _ in range(4))}.values())
        by = chance.choice((store, other))
        if chance.random() < 0.25:
            with pytest.raises(GivenUp):
                by.transact(lambda transaction, writes=writes: work(transaction, writes, True))  # type: ignore[misc]
        else:
            by.transact(lambda transaction, writes=writes: work(transaction, writes, False))  # type: ignore[misc]
            if chance.random() < 0.3 and by.read(*writes[0].address.split("/")).body is not None:  # type: ignore[union-attr]
                given(by, [delete(writes[0].address)])
        compare(store)
        compare(other)


def test_another_workers_label_hides_at_once(store: Store, open_it: Opener) -> None:
    """The label's key comes to be after the policy was first used: that it was absent must not be remembered."""
    other = open_it()
    given(store, [put("Observation/1", [(CODE, "pulse\x1f"), (SUBJECT, "Patient/4")])])
    policy = POLICIES["a list without labels"]
    assert find(store, "Observation", policy) == ["Observation/1"]
    secret = [(CODE, "pulse\x1f"), (SUBJECT, "Patient/4"), (TAG, "secret\x1f")]
    given(other, [put("Observation/1", secret), put("Observation/2", secret)])
    assert find(store, "Observation", policy) == []
    assert find(store, "Observation", And((ASKED[1][0], policy))) == []


def test_another_workers_subject_is_seen_at_once_or_kept_away(store: Store, open_it: Opener) -> None:
    other = open_it()
    given(store, [put("Observation/1", [(SUBJECT, "Patient/1")])])
    seen, withheld = POLICIES["a long list of keys"], POLICIES["not a long list of keys"]
    assert (find(store, "Observation", seen), find(store, "Observation", withheld)) == ([], ["Observation/1"])
    given(other, [put("Observation/2", [(SUBJECT, "Patient/6")])])
    assert (find(store, "Observation", seen), find(store, "Observation", withheld)) == (
        ["Observation/2"],
        ["Observation/1"],
    )


def test_number_of_a_row_that_is_given_again_says_nothing(store: Store) -> None:
    """The row of a contained resource is the last one, and gone when a resource of the list comes to be."""
    keys = [(SUBJECT, "Patient/1")]
    given(store, [put("Observation/1", keys, inner=[("p", "Patient", [], [])])])
    listed, withheld = POLICIES["a long list of resources"], POLICIES["not a long list of resources"]
    assert find(store, "Patient", listed) == find(store, "Patient", withheld) == []
    given(store, [put("Observation/1", keys)], [put("Patient/2")])
    assert (find(store, "Patient", listed), find(store, "Patient", withheld)) == (["Patient/2"], [])
