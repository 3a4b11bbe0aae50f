"""Random documents, random histories of writes, random trees: SQLite, MongoDB and search/match.py in memory answer
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fhir_server.errors import TooCostly
from fhir_server.search import match
from fhir_server.search.ast import (
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Include,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.storage.protocol import Store
from fhir_server.storage.writes import Version
from tests.support import given as made

Opener = Callable[[], Store]

TYPES = ("Patient", "Observation", "Device")
IDS = ("1", "2", "3")
CONTAINED_IDS = ("a", "b")
KEY_PARAMS = {name: tuple(16 * (n * 10 + i) for i in range(3)) for n, name in enumerate(TYPES, start=1)}
RANGE_PARAMS = {name: tuple(16 * (n * 10 + i) for i in range(3, 5)) for n, name in enumerate(TYPES, start=1)}
ALL_KEYS = tuple(param for params in KEY_PARAMS.values() for param in params)
ALL_RANGES = tuple(param for params in RANGE_PARAMS.values() for param in params)
ADDRESSES = tuple(f"{type}/{id}" for type in TYPES for id in IDS)
REFERENCES = (*ADDRESSES[:5], "Observation/1#a", "Patient/2#b", "Patient/absent")
TEXTS = ("", "a", "ab", "b", "ab\x1fs", "ab\x1ft", "é", "中")
CLASSES, UNITS, NUMBERS = ("0", "1", "x\x1d="), ("", "kg", "kg\x1fucum"), tuple(range(-2, 5))

keys_of = {
    name: st.tuples(st.sampled_from(params), st.sampled_from(TEXTS + REFERENCES)) for name, params in KEY_PARAMS.items()
}
ranges_of = {
    name: st.tuples(
        st.sampled_from(params),
        st.sampled_from(CLASSES),
        st.sampled_from(NUMBERS),
        st.integers(0, 3),
        st.sampled_from(UNITS),
    ).map(lambda r: (r[0], r[1], r[2], r[2] + r[3], r[4]))
    for name, params in RANGE_PARAMS.items()
}


@st.composite
def writes(draw: st.DrawFn) -> made.Put | made.Delete:
    address = draw(st.sampled_from(ADDRESSES))
    if draw(st.integers(0, 9)) == 0:
        return made.delete(address)
    type = address.partition("/")[0]
    inner = []
    for local in CONTAINED_IDS:
        if draw(st.integers(0, 3)) == 0:
            other = draw(st.sampled_from(TYPES))
            inner.append(
                (local, other, draw(st.lists(keys_of[other], max_size=3)), draw(st.lists(ranges_of[other], max_size=2)))
            )
    return made.put(
        address, draw(st.lists(keys_of[type], max_size=5)), draw(st.lists(ranges_of[type], max_size=3)), inner=inner
    )


histories = st.lists(
    st.lists(writes(), min_size=1, max_size=5, unique_by=lambda one: one.address), min_size=1, max_size=5
)

texts = st.sampled_from(TEXTS + REFERENCES)
key_compares = st.one_of(
    st.builds(Compare, st.just("key"), st.sampled_from(("=", "<", "<=", ">", ">=", "prefix", "ends", "has")), texts),
    st.builds(Compare, st.just("key"), st.just("in"), st.lists(texts, max_size=3).map(tuple)),
)
range_compares = st.one_of(
    st.builds(Compare, st.just("key"), st.sampled_from(("=", "=", "prefix", ">")), st.sampled_from(CLASSES)),
    st.builds(
        Compare,
        st.sampled_from(("low", "high")),
        st.sampled_from(("=", "<", "<=", ">", ">=")),
        st.sampled_from(NUMBERS),
    ),
    st.builds(
        Compare,
        st.sampled_from(("low", "high")),
        st.just("in"),
        st.lists(st.sampled_from(NUMBERS), max_size=3).map(tuple),
    ),
    st.builds(Compare, st.just("unit"), st.sampled_from(("=", "prefix", "ends", "has")), st.sampled_from(UNITS)),
)


def of_tests(compares: st.SearchStrategy[Any]) -> st.SearchStrategy[Test]:
    return st.recursive(
        compares,
        lambda inner: st.one_of(
            st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
            st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        ),
        max_leaves=5,
    )


def some(params: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from(params), min_size=1, max_size=3, unique=True).map(tuple)


types = st.one_of(
    st.none(), st.sampled_from(TYPES).map(lambda one: (one,)), st.lists(st.sampled_from(TYPES), unique=True).map(tuple)
)
contained = st.sampled_from(("no", "no", "no", "only", "both"))
operators = st.sampled_from(("=", "<", "<=", ">", ">="))
fields = st.one_of(
    st.builds(Field, st.just("id"), operators, st.sampled_from(IDS)),
    st.builds(Field, st.just("id"), st.just("in"), st.lists(st.sampled_from(IDS), max_size=2).map(tuple)),
    st.builds(Field, st.just("address"), operators, st.sampled_from(ADDRESSES)),
    st.builds(Field, st.just("address"), st.just("in"), st.lists(st.sampled_from(ADDRESSES), max_size=3).map(tuple)),
    st.builds(Field, st.just("type"), operators, st.sampled_from(TYPES)),
    st.builds(Field, st.just("type"), st.just("in"), st.lists(st.sampled_from(TYPES), max_size=2).map(tuple)),
    st.builds(
        Field, st.just("updated"), operators, st.integers(0, 6)
    ),  # the number of a transaction, made a time below
)
leaves = st.one_of(
    st.builds(Exists, some(ALL_KEYS), st.just("key"), of_tests(key_compares)),
    st.builds(Exists, some(ALL_KEYS), st.just("key"), of_tests(key_compares)),
    st.builds(Exists, some(ALL_RANGES), st.just("range"), of_tests(range_compares)),
    fields,
)


def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    selects = st.builds(Select, types, inner, contained)
    return st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
        st.builds(Linked, some(ALL_KEYS), selects),
        st.builds(LinkedFrom, some(ALL_KEYS), selects),
    )


nodes = st.recursive(leaves, grown, max_leaves=6)
sorts = st.lists(
    st.one_of(
        st.builds(SortKey, some(ALL_KEYS), st.just("key"), st.booleans(), st.sampled_from(("", "Patient/", "Group/"))),
        st.builds(SortKey, some(ALL_RANGES), st.just("range"), st.booleans()),
        st.builds(SortKey, st.just(()), st.sampled_from(("id", "updated")), st.booleans()),
    ),
    max_size=2,
).map(tuple)
includes = st.lists(
    st.builds(Include, types, some(ALL_KEYS), st.builds(Select, types, nodes), st.booleans(), st.booleans()), max_size=2
).map(tuple)


@st.composite
def searches(draw: st.DrawFn) -> Search:
    mode = draw(contained)
    return Search(
        Select(draw(types), draw(nodes), mode),
        sort=draw(sorts),
        count=draw(st.integers(1, 7)),
        total=draw(st.booleans()),
        includes=draw(includes) if mode == "no" else (),
        include_depth=30,
        containers=mode != "no" and draw(st.booleans()),
    )


def timed(node: Any, times: list[int]) -> Any:
    """The tree with the numbers of transactions in `updated` replaced by their times."""
    match node:
        case Field("updated", op, value):
            return Field("updated", op, times[min(value, len(times) - 1)])
        case And(parts):
            return And(tuple(timed(part, times) for part in parts))
        case Or(parts):
            return Or(tuple(timed(part, times) for part in parts))
        case Not(part):
            return Not(timed(part, times))
        case Linked(params, target):
            return Linked(params, replace(target, where=timed(target.where, times)))
        case LinkedFrom(params, source):
            return LinkedFrom(params, replace(source, where=timed(source.where, times)))
        case _:
            return node


class Memory:
    """A corpus in memory, written like a store; deletions keep a resource's place in the order of creation."""

    def __init__(self) -> None:
        self.corpus = match.MemoryCorpus()
        self.versions: dict[str, int] = {}
        self.order: list[str] = []

    def append(self, versions: list[Version]) -> None:
        for version in versions:
            if version.address not in self.order:
                self.order.append(version.address)
            self.versions[version.address] = version.version
            self.corpus.delete(version.address)
            if version.body is not None:
                self.corpus.put(version.documents, version.updated)
        held = self.corpus.held
        place = {address: number for number, address in enumerate(self.order)}
        for address in sorted(held, key=lambda one: (place[one.partition("#")[0]], one)):
            held[address] = held.pop(address)


def fill(store: Store, history: list[list[Any]]) -> tuple[Memory, list[int]]:
    """Writes a history to an empty store and to memory."""
    memory, times = Memory(), []
    for number, transaction in enumerate(history):
        updated = 1_000_000 * (number + 1)
        versions = [
            made.version_of(write, memory.versions.get(write.address, 0) + 1, updated)
            for write in transaction
            if isinstance(write, made.Put) or write.address in memory.corpus.held
        ]
        times.append(updated)
        if versions:
            store.transact(lambda running, versions=versions: running.append(versions))  # type: ignore[misc]
            memory.append(versions)
    return memory, times


def walked(store: Store, search: Search) -> tuple[list[str], list[set[str]], list[list[str]], set[int | None]]:
    """Addresses of all matches (contained ones with their local id), includes and matches by page, totals."""
    found: list[str] = []
    included: list[set[str]] = []
    pages: list[list[str]] = []
    totals = set()
    for _ in range(200):
        page = store.search(search)
        locals_ = page.contained or [""] * len(page.matches)
        addresses = [
            f"{one.address}#{local}" if local else one.address for one, local in zip(page.matches, locals_, strict=True)
        ]
        assert len(addresses) <= search.count
        pages.append(addresses)
        found += addresses
        extra = [one.address for one in page.includes]
        assert len(extra) == len(set(extra))
        included.append(set(extra))
        totals.add(page.total)
        if page.next is None:
            return found, included, pages, totals
        search = replace(search, after=page.next)
    raise AssertionError("the pages do not end")


def agree(store: Store, history: list[list[Any]], asked: list[Search]) -> None:
    """Fills the store and asks it and the memory the same."""
    memory, times = fill(store, history)
    for one in asked:
        search = replace(
            one,
            select=replace(one.select, where=timed(one.select.where, times)),
            sort=() if one.containers else one.sort,
            includes=tuple(
                replace(i, select=replace(i.select, where=timed(i.select.where, times))) for i in one.includes
            ),
        )
        try:
            found, included, pages, totals = walked(store, search)
        except TooCostly:
            continue  # limits of tests are proven in tests/contract
        expected = match.search(search, memory.corpus)
        assert found == expected
        assert totals <= {None, len(expected)}
        if search.total:
            assert totals == {len(expected)}
        assert store.search(replace(search, count=0)).total == len(expected)
        for page, extra in zip(pages, included, strict=True):
            assert extra == set(match.includes(search, page, memory.corpus))
    assert list(store.check()) == []


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    from fhir_server.storage.sqlite import open_store

    directory, numbers = tmp_path_factory.mktemp("stores"), count()

    def fresh() -> Store:
        path = Path(directory) / f"{next(numbers)}.db"
        return open_store(path)

    return fresh


@pytest.fixture(scope="module")
def mongo() -> Iterator[Callable[[], Store]]:
    from fhir_server.storage.mongo import open_store
    from tests.support import mongodb

    server = mongodb.server()
    names: list[str] = []

    def fresh() -> Store:
        names.append(mongodb.fresh_name())
        return open_store(server.uri, database=names[-1])

    yield fresh
    for name in names:
        mongodb.drop(server.uri, name)


LAWS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}


@settings(max_examples=150, **LAWS)
@given(history=histories, asked=st.lists(searches(), min_size=8, max_size=8))
def test_sqlite_answers_as_memory(sqlite: Callable[[], Store], history: list[list[Any]], asked: list[Search]) -> None:
    store = sqlite()
    try:
        agree(store, history, asked)
    finally:
        store.close()


# Shrinking runs each candidate against a server of its own databases: minutes, for what the SQLite law finds in
# seconds.
@settings(max_examples=12, phases=[Phase.explicit, Phase.generate], **LAWS)
@given(history=histories, asked=st.lists(searches(), min_size=8, max_size=8))
def test_mongodb_answers_as_memory(mongo: Callable[[], Store], history: list[list[Any]], asked: list[Search]) -> None:
    store = mongo()
    try:
        agree(store, history, asked)
    finally:
        store.close()
