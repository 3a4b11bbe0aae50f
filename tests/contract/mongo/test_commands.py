"""How many commands each interaction sends, without getMore: the table of docs/storage-mongodb.md, measured.

The bounds are the project's: a read 1; a page of a search 1, plus one per chain link, include level and total; a
transaction of 100 writes at most 12, plus one per conditional entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search.ast import Include, Linked, LinkedFrom, Search, Select, SortKey
from fhir_server.storage.mongo import MongoStore
from fhir_server.storage.protocol import HistoryQuery, Transaction
from tests.support.commands import CommandLog
from tests.support.given import (
    CODE,
    DATE,
    FAMILY,
    GENERAL_PRACTITIONER,
    IDENTIFIER,
    PRACTITIONER_NAME,
    SUBJECT,
    Put,
    apply,
    delete,
    given,
    has_key,
    put,
)

PAGE = Path(__file__).parents[3] / "docs" / "storage-mongodb.md"

PATIENTS = Select(("Patient",))
OBSERVATIONS = Select(("Observation",))
BY_PRACTITIONER = Linked(
    (SUBJECT,),
    Select(
        ("Patient",),
        Linked((GENERAL_PRACTITIONER,), Select(("Practitioner",), has_key(PRACTITIONER_NAME, "wu"))),
    ),
)


def hundred(start: int) -> list[Put]:
    """A hundred writes with claims and contained documents: half of them update what `filled` holds."""
    old = [put(f"Patient/{n}", keys=[(FAMILY, "new")], claims=[f"mrn|{n + 1000}"]) for n in range(50)]
    new = [
        put(
            f"Observation/{start + n}",
            keys=[(SUBJECT, f"Patient/{n}")],
            inner=[("p1", "Patient", [(FAMILY, "inner")], [])],
            claims=[f"order|{start + n}"],
        )
        for n in range(50)
    ]
    return old + new


@pytest.fixture
def filled(mongo: MongoStore, log: CommandLog) -> MongoStore:
    given(
        mongo,
        [put("Practitioner/1", keys=[(PRACTITIONER_NAME, "wu")])],
        [
            put(
                f"Patient/{n}",
                keys=[(FAMILY, "chalmers"), (GENERAL_PRACTITIONER, "Practitioner/1"), (IDENTIFIER, str(n))],
                claims=[f"mrn|{n}"],
                inner=[("o", "Organization", [], [])],
            )
            for n in range(60)
        ],
        [
            put(
                f"Observation/{n}",
                keys=[(SUBJECT, f"Patient/{n % 5}"), (CODE, "a")],
                ranges=[(DATE, "0", n, n + 1, "")],
            )
            for n in range(20)
        ],
        [delete("Observation/19")],
    )
    log.sent.clear()
    return mongo


def conditional(store: MongoStore, number: int) -> None:
    """`number` conditional creates in one transaction: all criteria are locked, then each is searched."""

    def work(transaction: Transaction) -> None:
        transaction.get_meta("registry")
        for n in range(number):
            transaction.lock(f"Patient?identifier=c{n}")
        writes = []
        for n in range(number):
            criteria = Search(Select(("Patient",), has_key(IDENTIFIER, f"c{n}")), count=2)
            if not transaction.search(criteria).matches:
                writes.append(put(f"Patient/c{n}", keys=[(IDENTIFIER, f"c{n}")]))
        apply(transaction, writes)

    store.transact(work)


def transaction_of_hundred(store: MongoStore) -> None:
    """What the repository does: the registry's version, the current versions, the writes."""

    def work(transaction: Transaction) -> None:
        transaction.get_meta("registry")
        apply(transaction, hundred(1000))

    store.transact(work)


def write(store: MongoStore, *writes: Any) -> Callable[[], object]:
    return lambda: given(store, list(writes))


def search(store: MongoStore, select: Select, **more: Any) -> Callable[[], object]:
    return lambda: store.search(Search(select, **more))


def second_page(store: MongoStore, **more: Any) -> Callable[[], object]:
    after = store.search(Search(OBSERVATIONS, count=5, **more)).next
    assert after is not None
    return search(store, OBSERVATIONS, count=5, after=after, **more)


SUBJECTS = Include(("Observation",), (SUBJECT,), PATIENTS)
PRACTITIONERS = Include(("Patient",), (GENERAL_PRACTITIONER,), Select(("Practitioner",)), iterate=True)

CASES: dict[str, tuple[int, Callable[[MongoStore], Callable[[], object]]]] = {
    "read": (1, lambda store: lambda: store.read("Patient", "1")),
    "read of many": (1, lambda store: lambda: store.read_many([f"Patient/{n}" for n in range(50)])),
    "vread": (1, lambda store: lambda: store.read_version("Patient", "1", 1)),
    "history": (2, lambda store: lambda: store.history(HistoryQuery("Patient", "1"))),
    "history with total": (3, lambda store: lambda: store.history(HistoryQuery(total=True))),
    "search": (1, lambda store: search(store, OBSERVATIONS, count=5)),
    "search, next page": (1, lambda store: second_page(store)),
    "search, sorted by a date": (
        1,
        lambda store: second_page(store, sort=(SortKey((DATE,), "range", descending=True),)),
    ),
    "search, sorted by two keys": (
        1,
        lambda store: second_page(store, sort=(SortKey((CODE,), "key"), SortKey((DATE,), "range"))),
    ),
    "search with total": (2, lambda store: search(store, OBSERVATIONS, count=5, total=True)),
    "total alone": (1, lambda store: search(store, OBSERVATIONS, count=0, total=True)),
    "search, chain of two links": (
        3,
        lambda store: search(store, Select(("Observation",), BY_PRACTITIONER)),
    ),
    "search, reverse chain": (
        2,
        lambda store: search(
            store, Select(("Patient",), LinkedFrom((SUBJECT,), Select(("Observation",), has_key(CODE, "a"))))
        ),
    ),
    "search with _include": (2, lambda store: search(store, OBSERVATIONS, includes=(SUBJECTS,))),
    "search, two levels of _include": (
        3,
        lambda store: search(store, OBSERVATIONS, includes=(SUBJECTS, PRACTITIONERS)),
    ),
    "search with _revinclude": (
        2,
        lambda store: search(store, PATIENTS, includes=(Include(None, (SUBJECT,), OBSERVATIONS, reverse=True),)),
    ),
    "search in contained resources": (
        1,
        lambda store: search(store, Select(("Organization",), contained="only"), count=5),
    ),
    "create": (5, lambda store: write(store, put("Encounter/1"))),
    "create with claim": (6, lambda store: write(store, put("Encounter/2", claims=["visit|2"]))),
    "update": (6, lambda store: write(store, put("Observation/1", keys=[(CODE, "b")]))),
    "delete": (6, lambda store: write(store, delete("Observation/2"))),
    "transaction of 100 writes": (12, lambda store: lambda: transaction_of_hundred(store)),
    "transaction of 10 conditional creates": (12 + 10, lambda store: lambda: conditional(store, 10)),
}
"""Interaction -> (commands at most, what to run). A create reads once to learn that it is one, as `apply` does."""


@pytest.mark.parametrize("name", CASES)
def test_commands_are_as_many_as_the_table_says(filled: MongoStore, log: CommandLog, name: str) -> None:
    bound, prepare = CASES[name]
    sent = log.during(prepare(filled))
    assert len(sent) == documented()[name], sent
    assert len(sent) <= bound, sent


def test_the_table_of_commands_lists_every_case() -> None:
    assert set(documented()) == set(CASES)


def test_more_matches_and_more_entries_add_no_command(filled: MongoStore, log: CommandLog) -> None:
    few = log.count(search(filled, Select(("Patient",), has_key(IDENTIFIER, "1"))))
    many = log.count(search(filled, Select(("Patient",), has_key(FAMILY, "chalmers")), count=1000))
    one = log.count(write(filled, put("Encounter/1", claims=["a"])))
    hundred_more = log.count(write(filled, *[put(f"Encounter/x{n}", claims=[f"b{n}"]) for n in range(100)]))
    assert (few, one) == (many, hundred_more)


def test_another_client_adds_no_command(filled: MongoStore, log: CommandLog, reopen: Callable[..., MongoStore]) -> None:
    before = log.during(write(filled, put("Encounter/1")))
    other = reopen(listeners=[])
    given(other, [put("Encounter/2")])
    assert log.during(write(filled, put("Encounter/3"))) == before


def documented() -> dict[str, int]:
    """The table of the page: interaction -> commands."""
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| interaction | commands |") :].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[2:]:
        match = re.match(r"\| ([^|]+?) \| (\d+) \|", line)
        assert match, line
        found[match[1]] = int(match[2])
    return found
