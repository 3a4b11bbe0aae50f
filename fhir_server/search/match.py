"""The search tree interpreted over documents in memory.

The third interpreter beside the stores' compilers, and the one that they are compared with: it decides permission on a
single resource, and Subscription criteria. It favours being evidently right over being quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from fhir_server.search.ast import (
    CONTAINED,
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
    Scalar,
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.search.documents import Document

Entry = tuple[Any, ...]


class Corpus(Protocol):
    """The documents that a search is about: current resources and what is contained in them, nothing deleted."""

    def get(self, address: str) -> Document | None:
        """The document of an address (``Type/id``, ``Type/id#local``)."""

    def documents(self) -> Iterable[Document]:
        """All documents, resources in order of creation."""

    def updated(self, address: str) -> int:
        """meta.lastUpdated of a resource, microseconds."""


@dataclass
class MemoryCorpus:
    """A Corpus of dicts, for tests and for questions about a single resource."""

    held: dict[str, Document] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    def put(self, documents: Iterable[Document], updated: int = 0) -> None:
        """Stores the documents of one resource, in place of those that it had; its place in the order of creation
        stays.
        """
        documents = tuple(documents)
        address = documents[0].address
        for other in [one for one in self.held if one.partition("#")[0] == address]:
            if other != address:
                del self.held[other]
        for document in documents:
            self.held[document.address] = document
        self.times[address] = updated

    def delete(self, address: str) -> None:
        """Forgets a resource and what it contains."""
        for one in [one for one in self.held if one.partition("#")[0] == address]:
            del self.held[one]
        self.times.pop(address, None)

    def get(self, address: str) -> Document | None:
        return self.held.get(address)

    def documents(self) -> Iterable[Document]:
        return self.held.values()

    def updated(self, address: str) -> int:
        return self.times.get(address, 0)


# --- one document -----------------------------------------------------------------------------------------------------

_COLUMNS = {"key": 1, "low": 2, "high": 3, "unit": 4}


def compare(operator: str, have: Any, value: Any) -> bool:
    """One comparison. Text and numbers never meet: entries of one parameter and class hold values of one type."""
    match operator:
        case "in":
            return isinstance(value, tuple) and have in value
        case "=":
            return type(have) is type(value) and bool(have == value)
        case "prefix":
            return isinstance(have, str) and have.startswith(str(value))
        case "ends":
            return isinstance(have, str) and have.endswith(str(value))
        case "has":
            return isinstance(have, str) and str(value) in have
    if type(have) is not type(value):
        return False
    match operator:
        case "<":
            return bool(have < value)
        case "<=":
            return bool(have <= value)
        case ">":
            return bool(have > value)
        case ">=":
            return bool(have >= value)
    raise ValueError(f"unknown operator {operator}")


def passes(test: Test, entry: Entry) -> bool:
    """Whether one entry passes the whole test. Text compares by code point, as UTF-8 bytes do."""
    match test:
        case Compare(column=column, op=operator, value=value):
            return compare(operator, entry[_COLUMNS[column]], value)
        case AllOf(tests=tests):
            return all(passes(one, entry) for one in tests)
        case AnyOf(tests=tests):
            return any(passes(one, entry) for one in tests)
        case _:
            assert_never(test)


def is_contained(document: Document) -> bool:
    return "#" in document.address


def _shift(document: Document) -> int:
    return CONTAINED if is_contained(document) else 0


def holds(node: Node, document: Document, corpus: Corpus) -> bool:
    """Whether a predicate holds for a document."""
    match node:
        case And(parts=parts):
            return all(holds(part, document, corpus) for part in parts)
        case Or(parts=parts):
            return any(holds(part, document, corpus) for part in parts)
        case Not(part=part):
            return not holds(part, document, corpus)
        case Exists(params=params, shape=shape, test=test):
            shift = _shift(document)
            wanted = {number | shift for number in params}
            entries: Sequence[Entry] = document.keys if shape == "key" else document.ranges
            return any(entry[0] in wanted and passes(test, entry) for entry in entries)
        case Linked(params=params, target=target):
            return any(
                (found := corpus.get(key)) is not None and matches(target, found, corpus)
                for key in _keys(document, params)
            )
        case LinkedFrom(params=params, source=source):
            return any(
                document.address in _keys(other, params) and matches(source, other, corpus)
                for other in corpus.documents()
            )
        case Field(name=name, op=operator, value=value):
            return _field(name, operator, value, document, corpus)
        case _:
            assert_never(node)


def _keys(document: Document, params: Iterable[int]) -> list[str]:
    shift = _shift(document)
    wanted = {number | shift for number in params}
    return [key for number, key in document.keys if number in wanted]


def _field(name: str, operator: str, value: Scalar | tuple[Scalar, ...], document: Document, corpus: Corpus) -> bool:
    if name == "type":
        return compare(operator, document.type, value)
    if is_contained(document):
        return False
    if name == "updated":
        return compare(operator, corpus.updated(document.address), value)
    have = document.address if name == "address" else document.address.partition("/")[2]
    return compare(operator, have, value)


def matches(select: Select, document: Document, corpus: Corpus) -> bool:
    """Whether `select` selects a document."""
    contained = is_contained(document)
    if (select.contained == "no" and contained) or (select.contained == "only" and not contained):
        return False
    if select.types is not None and document.type not in select.types:
        return False
    return holds(select.where, document, corpus)


# --- a whole search ---------------------------------------------------------------------------------------------------


def select_all(select: Select, corpus: Corpus) -> list[Document]:
    """The documents that a Select selects, in order of creation."""
    return [document for document in corpus.documents() if matches(select, document, corpus)]


def sort_value(key: SortKey, document: Document, corpus: Corpus) -> Scalar | None:
    """What one rule of `_sort` compares: the minimum ascending, the maximum descending; None without a value."""
    if key.shape in ("updated", "id") and is_contained(document):
        return None
    if key.shape == "updated":
        return corpus.updated(document.address)
    if key.shape == "id":
        return document.address.partition("/")[2]
    shift = _shift(document)
    wanted = {number | shift for number in key.params}
    entries: Sequence[Entry] = document.keys if key.shape == "key" else document.ranges
    column = 1 if key.shape == "key" else 3 if key.descending else 2
    found = [entry[column] for entry in entries if entry[0] in wanted and passes(key.test, entry)]
    if not found:
        return None
    least: Scalar = max(found) if key.descending else min(found)
    return least


def search(search: Search, corpus: Corpus) -> list[str]:
    """Addresses of all matches, in order, without paging: what the pages of a store add up to.

    With `containers`, the containers of contained matches, each once.
    """
    found = select_all(search.select, corpus)
    # Stable sorts from the last rule to the first; documents without a value are last in both directions.
    for key in reversed(search.sort):
        found = _sorted(found, key, corpus)
    addresses = [document.address for document in found]
    if search.containers:
        addresses = list(dict.fromkeys(address.partition("#")[0] for address in addresses))
    return addresses


def _sorted(documents: list[Document], key: SortKey, corpus: Corpus) -> list[Document]:
    values: Mapping[str, Scalar | None] = {one.address: sort_value(key, one, corpus) for one in documents}
    present = [one for one in documents if values[one.address] is not None]
    absent = [one for one in documents if values[one.address] is None]
    order: Callable[[Document], Any] = lambda one: values[one.address]  # noqa: E731
    return sorted(present, key=order, reverse=key.descending) + absent


def includes(search: Search, matched: Iterable[str], corpus: Corpus) -> list[str]:
    """Addresses that `_include` and `_revinclude` add to a page of matches; neither limit nor depth cut here.
    Sorted.
    """
    page = list(matched)
    known = set(page)
    found: set[str] = set()
    fresh = page
    first = True
    while fresh:
        added: list[str] = []
        for include in search.includes:
            if first or include.iterate:
                for address in _included(include, fresh, corpus):
                    if address not in known:
                        known.add(address)
                        found.add(address)
                        added.append(address)
        fresh, first = added, False
    return sorted(found)


def _included(include: Include, addresses: Sequence[str], corpus: Corpus) -> list[str]:
    sources = [
        document
        for address in addresses
        if (document := corpus.get(address)) is not None and (include.source is None or document.type in include.source)
    ]
    if include.reverse:
        pointed = {document.address for document in sources}
        return [
            document.address
            for document in select_all(include.select, corpus)
            if pointed.intersection(_keys(document, include.params))
        ]
    return [
        target.address
        for document in sources
        for key in _keys(document, include.params)
        if (target := corpus.get(key)) is not None and matches(include.select, target, corpus)
    ]
