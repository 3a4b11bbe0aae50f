"""Hand-made documents and histories for tests of stores.

A test's first line says what happened before it::

    given(store, [put("Patient/1", keys=[(FAMILY, "chalmers")])], [delete("Patient/1")])

Each list is one transaction. Param numbers below follow ast.py: one number belongs to one type, variants 0-7, bit 8
for contained.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fhir_server.search.ast import (
    ANY,
    CONTAINED,
    EVERYTHING,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Field,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Search,
    Select,
    SortKey,
)
from fhir_server.storage.protocol import SearchPage, Store, Transaction
from fhir_server.storage.writes import Document, KeyEntry, RangeEntry, Stored, Version

# Params of Patient
FAMILY, GENDER, BIRTHDATE, IDENTIFIER, GENERAL_PRACTITIONER, LINK = (16 * n for n in range(1, 7))
# Params of Observation
CODE, SUBJECT, DATE, VALUE, CODE_VALUE, HAS_MEMBER, TAG = (16 * n for n in range(11, 18))
# Params of Practitioner and Organization
PRACTITIONER_NAME, ORGANIZATION_NAME, PART_OF = (16 * n for n in range(21, 24))


@dataclass(frozen=True, slots=True)
class Put:
    """A create or an update, as the store's current state demands.

    `inner` are contained documents: (local id, type, keys, ranges).
    """

    address: str
    keys: tuple[KeyEntry, ...] = ()
    ranges: tuple[RangeEntry, ...] = ()
    claims: tuple[str, ...] = ()
    inner: tuple[tuple[str, str, tuple[KeyEntry, ...], tuple[RangeEntry, ...]], ...] = ()
    content: dict[str, Any] = field(default_factory=dict)
    registry: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """A deletion."""

    address: str


def put(
    address: str,
    keys: Iterable[KeyEntry] = (),
    ranges: Iterable[RangeEntry] = (),
    *,
    claims: Iterable[str] = (),
    inner: Iterable[tuple[str, str, Iterable[KeyEntry], Iterable[RangeEntry]]] = (),
    registry: int = 0,
    **content: Any,
) -> Put:
    """A write of `address` ("Type/id") with these entries. Keys and ranges of `inner` get the contained bit here."""
    return Put(
        address,
        tuple(keys),
        tuple(ranges),
        tuple(claims),
        tuple(
            (
                local,
                type,
                tuple((p | CONTAINED, k) for p, k in inner_keys),
                tuple((p | CONTAINED, *rest) for p, *rest in inner_ranges),
            )
            for local, type, inner_keys, inner_ranges in inner
        ),  # type: ignore[misc]
        content,
        registry,
    )


def delete(address: str) -> Delete:
    """A deletion of `address`."""
    return Delete(address)


def body(address: str, version: int, **content: Any) -> bytes:
    """A small resource as it is stored: one gzip member."""
    type, _, id = address.partition("/")
    resource = {"resourceType": type, "id": id, "meta": {"versionId": str(version)}, **content}
    return gzip.compress(json.dumps(resource, ensure_ascii=False).encode(), 1, mtime=0)


def content(stored: Stored) -> dict[str, Any]:
    """The JSON of a stored version."""
    assert stored.body is not None
    value = json.loads(gzip.decompress(stored.body))
    assert isinstance(value, dict)
    return value


def version_of(write: Put | Delete, version: int, updated: int) -> Version:
    """The version that a write becomes."""
    type, _, id = write.address.partition("/")
    if isinstance(write, Delete):
        return Version(type, id, version, updated, "DELETE", None)
    documents = [Document(write.address, type, list(write.keys), list(write.ranges))]
    for local, inner_type, keys, ranges in write.inner:
        documents.append(Document(f"{write.address}#{local}", inner_type, list(keys), list(ranges)))
    return Version(
        type,
        id,
        version,
        updated,
        "POST" if version == 1 else "PUT",
        body(write.address, version, **write.content),
        tuple(documents),
        write.claims,
        write.registry,
    )


def given(store: Store, *transactions: Sequence[Put | Delete]) -> list[Stored]:
    """Commits each list of writes in a transaction of its own; the versions written, in order."""
    written: list[Stored] = []
    for writes in transactions:
        written.extend(store.transact(lambda transaction, writes=writes: apply(transaction, writes)))  # type: ignore[misc]
    return written


def apply(transaction: Transaction, writes: Sequence[Put | Delete]) -> list[Stored]:
    """Appends the writes inside a running transaction, as the repository would: next version, rising times."""
    now = transaction.now()
    current = transaction.read_many([write.address for write in writes])
    versions = []
    for write in writes:
        before = current.get(write.address)
        updated = now if before is None else max(now, before.updated + 1000)
        versions.append(version_of(write, 1 if before is None else before.version + 1, updated))
    transaction.append(versions)
    return [Stored(v.type, v.id, v.version, v.updated, v.method, v.body, v.registry) for v in versions]


# --- shorthand for trees ----------------------------------------------------------------------------------------------


def has_key(param: int, key: str) -> Exists:
    """A key entry equal to `key`."""
    return Exists((param,), "key", Compare("key", "=", key))


def has(param: int, test: Any = ANY, shape: Any = "key") -> Exists:
    """An entry that passes `test`."""
    return Exists((param,), shape, test)


def overlaps(
    param: int, low: int | str, high: int | str, keys: Sequence[str] = ("",), unit: str | None = None
) -> Exists:
    """A range entry that overlaps [low, high), in one of the key classes."""
    window: tuple[Any, ...] = (Compare("low", "<", high), Compare("high", ">", low))
    if unit is not None:
        window = (*window, Compare("unit", "=", unit))
    return Exists((param,), "range", AnyOf(tuple(AllOf((Compare("key", "=", key), *window)) for key in keys)))


def find(
    store: Store | Transaction, types: str | tuple[str, ...] | None, where: Node = EVERYTHING, **more: Any
) -> list[str]:
    """Addresses of the matches of one page, in order."""
    return matches(store.search(searching(types, where, **more)))


def searching(types: str | tuple[str, ...] | None, where: Node = EVERYTHING, **more: Any) -> Search:
    """A Search over `types`. `contained` goes to its Select."""
    contained = more.pop("contained", "no")
    return Search(Select((types,) if isinstance(types, str) else types, where, contained), **more)


def matches(page: SearchPage) -> list[str]:
    """Addresses of the matches of a page."""
    return [one.address for one in page.matches]


def walk(store: Store, search: Search, limit: int = 1000) -> list[str]:
    """Addresses of all matches, page after page."""
    found: list[str] = []
    for _ in range(limit):
        page = store.search(search)
        found.extend(matches(page))
        if page.next is None:
            return found
        search = replace(search, after=page.next)
    raise AssertionError("the pages do not end")


__all__ = [
    "And",
    "Or",
    "Not",
    "Exists",
    "Linked",
    "LinkedFrom",
    "Field",
    "Select",
    "SortKey",
    "Search",
    "Compare",
    "AllOf",
    "AnyOf",
    "ANY",
    "Put",
    "Delete",
    "put",
    "delete",
    "given",
    "apply",
    "body",
    "content",
    "version_of",
    "has_key",
    "has",
    "overlaps",
    "find",
    "searching",
    "matches",
    "walk",
]
