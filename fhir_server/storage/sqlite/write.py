"""Appending versions: resource rows, superseded versions, index entries, claims, feed. Runs inside a write
transaction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import apsw

from fhir_server.errors import Conflict, Duplicate, TooLarge
from fhir_server.storage.sqlite.terms import UNITS, Terms
from fhir_server.storage.writes import MAX_STORED, Document, Version

METHODS = ("POST", "PUT", "PATCH", "DELETE")
METHOD_NUMBER = {name: number for number, name in enumerate(METHODS)}
DELETED, CURRENT, CONTAINED = 0, 1, 2

Span = tuple[int, int | str, int | str, int]
"""(tid, low, high, unit tid)"""


class Writer:
    """The write side of one connection."""

    def __init__(self, connection: apsw.Connection, terms: Terms, feed_length: int) -> None:
        self._connection = connection
        self._terms = terms
        self._feed_length = feed_length

    def append(self, versions: Sequence[Version]) -> None:
        """See Transaction.append."""
        pending: dict[str, Version] = {}
        for version in versions:
            if version.address in pending:  # a successor within one call: its predecessor has to be stored first
                self._append_distinct(list(pending.values()), strict=True)
                pending.clear()
            pending[version.address] = version
        if pending:
            self._append_distinct(list(pending.values()), strict=True)

    def import_versions(self, versions: Sequence[Version]) -> None:
        """See Store.import_versions. Versions that are not above the current one are here already and are passed
        over.
        """
        history = []
        newest: dict[str, list[Version]] = {}
        for version in versions:
            newest.setdefault(version.address, []).append(version)
        latest = []
        for address, run in newest.items():
            current = self._current(address)
            run = [one for one in run if current is None or one.version > current[1]]
            if not run:
                continue
            run.sort(key=lambda one: one.version)
            latest.append(run[-1])
            history.append((address, run))
        self._append_distinct(latest, strict=False)
        rows = []
        for address, run in history:
            rid = self._current(address)[0]  # type: ignore[index]
            if len(run) > 1:
                # The current version was superseded by the first of the run, not by its last.
                self._connection.execute(
                    "UPDATE history SET until = ? WHERE rid = ? AND version = (SELECT max(version) FROM history "
                    "WHERE rid = ?)",
                    (run[0].updated, rid, rid),
                )
            for one, successor in itertools.pairwise(run):
                check_size(one)
                rows.append(
                    (
                        rid,
                        one.version,
                        self._terms.make_type(one.type),
                        one.updated,
                        successor.updated,
                        METHOD_NUMBER[one.method],
                        one.registry,
                        one.body,
                    )
                )
        self._connection.executemany(
            "INSERT INTO history (rid, version, type, updated, until, method, registry, body) VALUES (?,?,?,?,?,?,?,?)",
            rows,
        )

    def reindex(self, versions: Sequence[Version]) -> int:
        """See Store.reindex."""
        done = 0
        replaced: list[tuple[int, Version]] = []
        for version in versions:
            current = self._current(version.address)
            if current is None or current[1] != version.version or current[3] != CURRENT:
                continue
            replaced.append((current[0], version))
            self._connection.execute("UPDATE resource SET registry = ? WHERE rid = ?", (version.registry, current[0]))
            done += 1
        self._replace_entries(replaced)
        self._replace_claims(replaced)
        return done

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _current(self, address: str) -> tuple[int, int, int, int] | None:
        """(rid, version, updated, state) of the row at an address."""
        row: tuple[int, int, int, int] | None = self._connection.execute(
            "SELECT rid, version, updated, state FROM resource WHERE address = ?", (address,)
        ).fetchone()
        return row

    def _append_distinct(self, versions: Sequence[Version], *, strict: bool) -> None:
        if not versions:
            return
        connection, terms = self._connection, self._terms
        next_rid = self._next_rid()
        inserted, feed = [], []
        created: list[tuple[int, Version]] = []
        replaced: list[tuple[int, Version]] = []
        released: list[tuple[int, Version]] = []
        for version in versions:
            check_size(version)
            current = self._current(version.address)
            type_number = terms.make_type(version.type)
            method = METHOD_NUMBER[version.method]
            if current is None:
                if strict and version.version != 1:
                    raise Conflict("The version to be written is not the successor of the current one.")
                rid, next_rid = next_rid, next_rid + 1
                state = DELETED if version.body is None else CURRENT
                inserted.append(
                    (
                        rid,
                        version.address,
                        type_number,
                        state,
                        version.version,
                        version.updated,
                        method,
                        version.registry,
                        version.body,
                    )
                )
                if version.body is not None:
                    created.append((rid, version))
                elif version.claims:
                    raise ValueError("A deletion holds no claims.")
            else:
                rid, number, updated, state = current
                if strict and version.version != number + 1:
                    raise Conflict("The version to be written is not the successor of the current one.")
                if strict and version.updated <= updated:
                    raise ValueError("A version's time must be greater than its predecessor's.")
                self._supersede(rid, version, method)
                if version.body is None:
                    released.append((rid, version))
                else:
                    replaced.append((rid, version))
            feed.append((rid, version.version, version.updated, method))
        connection.executemany(
            "INSERT INTO resource (rid, address, type, state, version, updated, method, registry, body) VALUES "
            "(?,?,?,?,?,?,?,?,?)",
            inserted,
        )
        if released:
            self._replace_entries(released)
        if replaced:
            self._replace_entries(replaced)
        self._insert_entries(created)
        self._replace_claims([*released, *replaced])
        if any(version.claims for _, version in created):
            self._insert_claims(created)
        self._append_feed(feed)

    def _next_rid(self) -> int:
        return int(self._connection.execute("SELECT ifnull(max(rid), 0) + 1 FROM resource").get)

    def _supersede(self, rid: int, version: Version, method: int) -> None:
        self._connection.execute(
            "INSERT INTO history (rid, version, type, updated, until, method, registry, body) "
            "SELECT rid, version, type, updated, ?, method, registry, body FROM resource WHERE rid = ?",
            (version.updated, rid),
        )
        self._connection.execute(
            "UPDATE resource SET state = ?, version = ?, updated = ?, method = ?, registry = ?, body = ? WHERE rid = ?",
            (
                DELETED if version.body is None else CURRENT,
                version.version,
                version.updated,
                method,
                version.registry,
                version.body,
                rid,
            ),
        )

    # -- entries -------------------------------------------------------------------------------------------------------

    def _insert_entries(self, created: Iterable[tuple[int, Version]]) -> None:
        """Entries of new resources: nothing to compare with, one bulk."""
        postings: list[tuple[int, int]] = []
        spans: list[tuple[int, int, int, int | str, int | str, int]] = []
        contained: list[tuple[int, Document]] = []
        for rid, version in created:
            if not version.documents:
                continue
            for tid in self._tids(version.documents[0]):
                postings.append((tid, rid))
            if version.documents[0].ranges:
                number(spans, rid, self._spans(version.documents[0]))
            for document in version.documents[1:]:
                contained.append((rid, document))
        self._insert_contained(contained, postings, spans)
        postings.sort()
        self._insert_postings(postings)
        self._insert_spans(spans)

    def _replace_entries(self, versions: Iterable[tuple[int, Version]]) -> None:
        """Entries of resources that have some: only what differs is written."""
        connection = self._connection
        contained: list[tuple[int, Document]] = []
        postings: list[tuple[int, int]] = []
        spans: list[tuple[int, int, int, int | str, int | str, int]] = []
        for rid, version in versions:
            document = version.documents[0] if version.documents and version.body is not None else None
            self._remove_contained(rid)
            wanted = self._tids(document) if document else set()
            present = {tid for (tid,) in connection.execute("SELECT tid FROM posting WHERE rid = ?", (rid,))}
            gone = present - wanted
            if gone:
                connection.executemany("DELETE FROM posting WHERE tid = ? AND rid = ?", [(tid, rid) for tid in gone])
            postings.extend((tid, rid) for tid in wanted - present)
            new_spans = self._spans(document) if document else []
            old_spans = connection.execute(
                "SELECT tid, low, high, unit FROM span WHERE rid = ? ORDER BY tid, n", (rid,)
            ).fetchall()
            if old_spans != new_spans:
                connection.execute("DELETE FROM span WHERE rid = ?", (rid,))
                number(spans, rid, new_spans)
            if document:
                contained.extend((rid, one) for one in version.documents[1:])
        self._insert_contained(contained, postings, spans)
        self._insert_postings(postings)
        self._insert_spans(spans)

    def _remove_contained(self, rid: int) -> None:
        inner = self._connection.execute("SELECT rid FROM resource WHERE container = ?", (rid,)).fetchall()
        for row in inner:
            for statement in (
                "DELETE FROM posting WHERE rid = ?",
                "DELETE FROM span WHERE rid = ?",
                "DELETE FROM resource WHERE rid = ?",
            ):
                self._connection.execute(statement, row)

    def _insert_contained(
        self,
        contained: list[tuple[int, Document]],
        postings: list[tuple[int, int]],
        spans: list[tuple[int, int, int, int | str, int | str, int]],
    ) -> None:
        if not contained:
            return
        rid = self._next_rid()
        rows = []
        for container, document in contained:
            rows.append((rid, document.address, self._terms.make_type(document.type), CONTAINED, container))
            postings.extend((tid, rid) for tid in self._tids(document))
            number(spans, rid, self._spans(document))
            rid += 1
        self._connection.executemany(
            "INSERT INTO resource (rid, address, type, state, container) VALUES (?,?,?,?,?)", rows
        )

    def _tids(self, document: Document) -> set[int]:
        if not document.keys:
            return set()
        make = self._terms.make
        self._terms.bind_params({param for param, _ in document.keys}, self._terms.make_type(document.type))
        return {make(param, key) for param, key in document.keys}

    def _spans(self, document: Document) -> list[Span]:
        """The range entries as rows in their stored order, without duplicates."""
        if not document.ranges:
            return []
        make = self._terms.make
        self._terms.bind_params({one[0] for one in document.ranges}, self._terms.make_type(document.type))
        rows = {(make(param, key), low, high, make(UNITS, unit)) for param, key, low, high, unit in document.ranges}
        return sorted(rows) if len(rows) > 1 else list(rows)

    def _insert_postings(self, postings: list[tuple[int, int]]) -> None:
        if postings:
            self._connection.executemany("INSERT INTO posting (tid, rid) VALUES (?, ?)", postings)

    def _insert_spans(self, spans: list[tuple[int, int, int, int | str, int | str, int]]) -> None:
        if spans:
            self._connection.executemany("INSERT INTO span (rid, tid, n, low, high, unit) VALUES (?,?,?,?,?,?)", spans)

    # -- claims and feed -----------------------------------------------------------------------------------------------

    def _replace_claims(self, versions: Iterable[tuple[int, Version]]) -> None:
        """First all are released, then all are claimed: resources may exchange claims in one bulk."""
        versions = list(versions)
        for rid, version in versions:
            held = {key for (key,) in self._connection.execute("SELECT key FROM claim WHERE rid = ?", (rid,))}
            if held != (set(version.claims) if version.body is not None else set()):
                self._connection.execute("DELETE FROM claim WHERE rid = ?", (rid,))
        self._insert_claims(versions)

    def _insert_claims(self, versions: Iterable[tuple[int, Version]]) -> None:
        for rid, version in versions:
            if version.body is None:
                continue
            for key in dict.fromkeys(version.claims):
                holder = self._connection.execute("SELECT rid FROM claim WHERE key = ?", (key,)).get
                if holder is None:
                    self._connection.execute("INSERT INTO claim (key, rid) VALUES (?, ?)", (key, rid))
                elif holder != rid:
                    raise Duplicate("A unique key of this resource is already held by another resource.")

    def _append_feed(self, rows: list[tuple[int, int, int, int]]) -> None:
        last = self._connection.execute(
            "SELECT seq, ifnull(clock, updated) FROM feed ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        seq, clock = last or (0, 0)
        before = seq
        numbered = []
        for rid, version, updated, method in rows:
            seq += 1
            clock = max(clock, updated)
            numbered.append((seq, rid, version, updated, method, None if clock == updated else clock))
        self._connection.executemany(
            "INSERT INTO feed (seq, rid, version, updated, method, clock) VALUES (?,?,?,?,?,?)", numbered
        )
        # Pruning in steps of a thousand touches the feed's first page rarely.
        if seq // 1000 != before // 1000:
            self._connection.execute("DELETE FROM feed WHERE seq <= ?", (seq - self._feed_length,))


def check_size(version: Version) -> None:
    """Raises: TooLarge when the stored form is above what both stores hold."""
    if version.body is not None and len(version.body) > MAX_STORED:
        raise TooLarge("The resource is too large to be stored.")


def number(rows: list[tuple[int, int, int, int | str, int | str, int]], rid: int, spans: list[Span]) -> None:
    """Appends the span rows of one resource; `n` counts within one tid."""
    previous, n = -1, 0
    for tid, low, high, unit in spans:
        n = n + 1 if tid == previous else 0
        previous = tid
        rows.append((rid, tid, n, low, high, unit))
