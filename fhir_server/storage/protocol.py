"""The one protocol that both stores implement, and that tests/contract/ proves on both.

A store gets addresses, versions, times, bytes, index entries, claims and a search tree; it knows no FHIR. Driver
errors become
`errors.Conflict`, `errors.Duplicate` or `errors.Busy` at its edge. A Store object is used by one thread at a time (a
worker has one
blocking thread); `open_store` in each package makes it. No flag here is honoured by only one store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from fhir_server.search.ast import Scalar, Search, Select
from fhir_server.storage.writes import Stored, Version

T = TypeVar("T")


@dataclass(slots=True)
class SearchPage:
    """One page of a search.

    `matches` in order, at most `count`; `next` is None on the last page. `includes` holds no match and no duplicate;
    `include_truncated` is set when the include limit or depth cut something (the page then carries a warning).
    `total` is None unless it was asked for, or free.
    """

    matches: list[Stored] = field(default_factory=list)
    includes: list[Stored] = field(default_factory=list)
    total: int | None = None
    next: tuple[Scalar | None, ...] | None = None
    include_truncated: bool = False
    contained: list[str] = field(default_factory=list)
    """For a Select with contained != "no" and `containers` False: per match the local id of the contained resource (""
    = the
    match itself); the bodies are the containers', from which the interaction takes the contained resource."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """History of an instance (`type` and `id`), a type (`type`) or the system, newest first.

    Order: (updated, type, id, version), all descending. `since`: updated >= since. `at`: the versions that were
    current at that
    instant (updated <= at, and superseded after it or not at all), one per resource. `before`: only versions below
    this position.
    `until`: `HistoryPage.watermark` of the first page; pages never show versions above it.
    """

    type: str | None = None
    id: str | None = None
    since: int | None = None
    at: tuple[int, int] | None = None
    """Half-open period [start, end) in microseconds: versions that were current at some instant of it."""
    count: int = 50
    before: tuple[int, str, str, int] | None = None
    until: int | None = None
    total: bool = False


@dataclass(slots=True)
class HistoryPage:
    """`entries` newest first; `next` None on the last page; `watermark`: no open write can still commit at or below
    it.
    """

    entries: list[Stored] = field(default_factory=list)
    next: tuple[int, str, str, int] | None = None
    watermark: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One committed version in the feed, in an order in which nothing is skipped when writers commit out of order."""

    position: str  # opaque, resumable
    type: str
    id: str
    version: int
    updated: int
    method: str


class Reader(Protocol):
    """What can be asked both outside a transaction and inside one (there it sees the transaction's own writes)."""

    def read(self, type: str, id: str) -> Stored | None:
        """The current version, a deletion included; None when the id never existed. One command."""

    def read_many(self, addresses: Sequence[str]) -> dict[str, Stored]:
        """Current versions (deletions included) by address; absent ones are left out. One command."""

    def search(self, search: Search) -> SearchPage:
        """Raises: TooCostly."""

    def explain(self, search: Search) -> list[dict[str, Any]]:
        """The store's plan for this search: the statements or pipelines it would run and the database's own
        explanation.
        """


class Transaction(Reader, Protocol):
    """Inside `Store.transact`: everything here is committed together or not at all."""

    def lock(self, criteria: str) -> None:
        """Serializes transactions that lock the same normalized criteria; refuses nothing later."""

    def append(self, versions: Sequence[Version]) -> None:
        """Appends versions and replaces index entries and claims of their resources; one bulk, whatever the number.

        Each version must be the successor of the current one as the transaction read it (1 for a new id).
        Raises: Duplicate (a claim is held by another resource), Conflict, Busy.
        """

    def now(self) -> int:
        """Commit time for this attempt: microseconds, a multiple of 1000, never below a time the store has committed
        before on
        SQLite; on MongoDB covered by the open-write marker (see watermark)."""

    def get_meta(self, key: str) -> Any | None:
        """Like Store.get_meta, inside the transaction."""

    def put_meta(self, key: str, value: Any) -> None:
        """Like Store.put_meta, committed with the transaction."""

    def remove_meta(self, keys: Sequence[str]) -> int:
        """Removes records, committed with the transaction; returns how many of them there were. One command."""


class Store(Reader, Protocol):
    """A database of resources. Built by `fhir_server.storage.sqlite.open_store(...)` or `...mongo.open_store(...)`."""

    def read_version(self, type: str, id: str, version: int) -> Stored | None:
        """That version, a deletion included; None when it never existed."""

    def history(self, query: HistoryQuery) -> HistoryPage: ...

    def transact(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Runs `work` in one transaction and commits. `work` may run several times (write conflicts) and has no side
        effects.

        An exception from `work` rolls back and passes through. Raises Busy when it could not be serialized in time.
        """

    def counts(self) -> dict[str, int]:
        """Number of current, not deleted resources per type."""

    # -- change feed ---------------------------------------------------------------------------------------------------
    def feed_position(self) -> str:
        """The position after everything committed so far."""

    def feed(self, after: str, *, limit: int = 1000, wait_s: float = 0.0) -> list[Change]:
        """Changes after a position, oldest first. Raises PositionLost when it can no longer be served."""

    # -- maintenance ---------------------------------------------------------------------------------------------------
    def get_meta(self, key: str) -> Any | None:
        """A JSON value of the store's own records (schema, extraction, registry, time zone, base URL, secrets,
        ledger).
        """

    def put_meta(self, key: str, value: Any) -> None: ...

    def meta_items(self, prefix: str) -> dict[str, Any]:
        """All records whose key starts with `prefix`, by key."""

    def update_meta(self, key: str, change: Callable[[Any | None], T]) -> T:
        """Atomic read-modify-write: `change(old)` returns the new value, which is stored and returned; may run several
        times.
        """

    def scan(self, *, after: str = "", types: Sequence[str] | None = None, limit: int = 500) -> list[Stored]:
        """Current resources (no deletions) by address ascending, above `after`: for export, reindex, check, copy."""

    def scan_versions(self, *, after: tuple[str, int] = ("", 0), limit: int = 500) -> list[Stored]:
        """All versions of everything, deletions included, by (address, version) ascending."""

    def stale(self, registry: int, limit: int = 500) -> list[Stored]:
        """Current resources whose entries were extracted with a registry below `registry`."""

    def reindex(self, versions: Sequence[Version]) -> int:
        """Replaces the entries and claims of those current resources whose version is still the given one; returns how
        many.
        """

    def entries(
        self, address: str
    ) -> tuple[list[tuple[int, str]], list[tuple[int, str, Scalar, Scalar, str]], list[str]]:
        """Stored key entries, range entries (contained documents' included) and claims of a resource, sorted: for
        `check`.
        """

    def import_versions(self, versions: Sequence[Version]) -> None:
        """Appends historic versions as they are (copy, restore): numbers and times kept; the last of each address is
        current.
        """

    def backup(self, target: str) -> None:
        """A consistent copy of a live store in a new place (SQLite: a file; MongoDB: a directory of archives)."""

    def check(self) -> Iterator[str]:
        """Findings about the database's own integrity (version gaps, orphans, library versions), as sentences; none =
        sound.
        """

    def statistics(self) -> Mapping[str, Any]:
        """Name and version of the database, sizes in bytes, number of documents: for `hestia check`, pages and
        benchmarks.
        """

    def close(self) -> None: ...


def narrow_everything(select: Select) -> Select:
    """The policy *everything*, for tools that run beside the repository (load, check, copy)."""
    return select


def addresses(stored: Iterable[Stored]) -> list[str]:
    """The addresses of some stored versions, in order."""
    return [one.address for one in stored]
