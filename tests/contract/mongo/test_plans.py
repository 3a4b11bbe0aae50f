"""`explain` on MongoDB's own server: no search of this list scans a collection, and plain pages sort by an index.

Another server chooses other plans, which prove nothing about mongod; there these tests are reported as not run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.search.ast import (
    ANY,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Include,
    Linked,
    LinkedFrom,
    Not,
    Or,
    Search,
    Select,
    SortKey,
)
from fhir_server.storage.mongo import MongoStore, open_store
from tests.support import mongodb
from tests.support.given import CODE, DATE, FAMILY, SUBJECT, TAG, VALUE, given, has_key, put

_told: list[str] = []


@pytest.fixture(scope="module")
def filled() -> Iterator[MongoStore]:
    """A store with some hundred resources, so that the planner has something to choose."""
    server = mongodb.server()
    if not server.genuine:
        if not _told:
            _told.append(server.name)
            print(f"\nNot run: tests/contract/mongo/test_plans.py, plans of {server.name}", file=sys.__stderr__)
        pytest.skip(f"plans are proven on mongod only; this run has {server.name}")
    database = mongodb.fresh_name()
    store = open_store(server.uri, database=database)
    given(store, [put(f"Patient/{n}", keys=[(FAMILY, f"name{n % 20}")]) for n in range(300)])
    given(
        store,
        [
            put(
                f"Observation/{n}",
                keys=[(SUBJECT, f"Patient/{n % 300}"), (CODE, f"code{n % 9}"), (TAG, "x")],
                ranges=[(DATE, "0", n * 1000, n * 1000 + 10, ""), (VALUE, "=", f"k{n:05}", f"k{n:05}", "mg")],
            )
            for n in range(900)
        ],
    )
    yield store
    store.close()
    mongodb.drop(server.uri, database)


OBSERVATION = ("Observation",)
WINDOW = AllOf((Compare("key", "=", "0"), Compare("low", ">=", 5000), Compare("low", "<", 9000)))
SEARCHES: dict[str, Search] = {
    "all of a type": Search(Select(OBSERVATION)),
    "token": Search(Select(OBSERVATION, has_key(CODE, "code1"))),
    "tokens": Search(Select(OBSERVATION, Exists((CODE,), "key", Compare("key", "in", ("code1", "code2"))))),
    "string prefix": Search(Select(("Patient",), Exists((FAMILY,), "key", Compare("key", "prefix", "name1")))),
    "string contains": Search(Select(("Patient",), Exists((FAMILY,), "key", Compare("key", "has", "me1")))),
    "token of a system": Search(Select(OBSERVATION, Exists((CODE,), "key", Compare("key", "ends", "e1")))),
    "date window": Search(Select(OBSERVATION, Exists((DATE,), "range", WINDOW))),
    "quantity": Search(
        Select(
            OBSERVATION, Exists((VALUE,), "range", AllOf((Compare("low", ">=", "k0001"), Compare("unit", "=", "mg"))))
        )
    ),
    "any of two classes": Search(
        Select(
            OBSERVATION,
            Exists((DATE,), "range", AnyOf((WINDOW, AllOf((Compare("key", "=", "1"), Compare("low", "<", 9)))))),
        )
    ),
    "two parameters": Search(Select(OBSERVATION, And((has_key(CODE, "code1"), has_key(SUBJECT, "Patient/1"))))),
    "one parameter or another": Search(
        Select(OBSERVATION, Or((has_key(CODE, "code1"), Exists((DATE,), "range", WINDOW))))
    ),
    "missing": Search(Select(OBSERVATION, Not(Exists((VALUE,), "range", ANY)))),
    "present": Search(Select(OBSERVATION, Exists((VALUE,), "range", ANY))),
    "not": Search(Select(OBSERVATION, Not(has_key(CODE, "code1")))),
    "id": Search(Select(OBSERVATION, Field("id", "=", "5"))),
    "last updated": Search(Select(OBSERVATION, Field("updated", ">=", 5))),
    "every type": Search(Select(None, has_key(TAG, "x"))),
    "chain": Search(Select(OBSERVATION, Linked((SUBJECT,), Select(("Patient",), has_key(FAMILY, "name3"))))),
    "reverse chain": Search(Select(("Patient",), LinkedFrom((SUBJECT,), Select(OBSERVATION, has_key(CODE, "code2"))))),
    "include": Search(
        Select(OBSERVATION, has_key(CODE, "code1")), includes=(Include(OBSERVATION, (SUBJECT,), Select(("Patient",))),)
    ),
    "reverse include": Search(
        Select(("Patient",), has_key(FAMILY, "name3")),
        includes=(Include(None, (SUBJECT,), Select(OBSERVATION), reverse=True),),
    ),
    "total": Search(Select(OBSERVATION, has_key(CODE, "code1")), count=0, total=True),
    "sorted by a date": Search(Select(OBSERVATION), sort=(SortKey((DATE,), "range"),)),
    "sorted by a date, newest first": Search(Select(OBSERVATION), sort=(SortKey((DATE,), "range", True),)),
    "sorted by a string": Search(Select(("Patient",)), sort=(SortKey((FAMILY,), "key"),)),
    "sorted by two": Search(Select(OBSERVATION), sort=(SortKey((CODE,), "key"), SortKey((DATE,), "range", True))),
    "sorted by the last update": Search(Select(OBSERVATION), sort=(SortKey((), "updated", True),)),
    "sorted by id": Search(Select(OBSERVATION), sort=(SortKey((), "id"),)),
    "contained": Search(Select(("Patient",), has_key(FAMILY, "name1"), contained="only")),
}
WALKED = (
    "all of a type",
    "token",
    "sorted by a date",
    "sorted by a date, newest first",
    "sorted by the last update",
    "sorted by id",
)


def stages(plan: Any) -> Iterator[str]:
    """The names of all stages in a plan, of any shape."""
    if isinstance(plan, dict):
        for name, value in plan.items():
            if name == "stage" and isinstance(value, str):
                yield value
            elif name != "rejectedPlans":
                yield from stages(value)
    elif isinstance(plan, list):
        for one in plan:
            yield from stages(one)


@pytest.mark.parametrize("name", SEARCHES)
def test_no_search_scans_a_collection(filled: MongoStore, name: str) -> None:
    explained = filled.explain(SEARCHES[name])
    assert explained
    for one in explained:
        found = set(stages(one["plan"]))
        assert found
        assert "COLLSCAN" not in found, one


@pytest.mark.parametrize("name", WALKED)
def test_a_plain_page_is_sorted_by_its_index(filled: MongoStore, name: str) -> None:
    for one in filled.explain(SEARCHES[name]):
        assert "SORT" not in set(stages(one["plan"])), one


def test_the_total_of_a_token_is_counted_in_the_index(filled: MongoStore) -> None:
    for one in filled.explain(SEARCHES["total"]):
        assert "FETCH" not in set(stages(one["plan"])), one
