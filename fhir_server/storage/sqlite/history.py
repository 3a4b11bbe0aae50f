"""Histories: superseded versions and current ones merged, newest first. R4 http.html#history."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from fhir_server.storage.protocol import HistoryPage, HistoryQuery
from fhir_server.storage.sqlite.terms import Terms
from fhir_server.storage.sqlite.write import CONTAINED, METHODS
from fhir_server.storage.writes import Stored

Position = tuple[int, str, str, int]
COLUMNS = "version, updated, method, body, registry"


class HistoryReader:
    """Runs history queries on one connection, inside the caller's transaction."""

    def __init__(self, connection: Any, terms: Terms) -> None:
        self._connection = connection
        self._terms = terms

    def page(self, query: HistoryQuery, watermark: int) -> HistoryPage:
        """One page that shows nothing above `watermark`."""
        if query.type is not None:
            type_number = self._terms.type_number(query.type)
            types = {} if type_number is None else {type_number: query.type}
        else:
            types = self._terms.type_numbers()
        rid: int | None = None
        if query.id is not None:
            found = self._connection.execute(
                "SELECT rid FROM resource WHERE address = ?", (f"{query.type}/{query.id}",)
            ).get
            if found is None:
                return HistoryPage(watermark=watermark, total=0 if query.total else None)
            rid = found
        page = HistoryPage(watermark=watermark)
        if query.total:
            page.total = sum(self._count(query, number, rid, watermark) for number in types)
        if query.count <= 0:
            return page
        # Per type and table one ordered read that stops after a page; 2 * types of them, merged.
        streams = [
            self._read(query, number, name, rid, watermark, superseded)
            for number, name in types.items()
            for superseded in (False, True)
        ]
        merged: Iterator[Stored] = heapq.merge(*streams, key=position, reverse=True)
        for one in merged:
            if len(page.entries) == query.count:
                page.next = position(page.entries[-1])
                break
            page.entries.append(one)
        return page

    def _where(
        self, query: HistoryQuery, type_number: int, rid: int | None, watermark: int, superseded: bool
    ) -> tuple[str, list[Any]]:
        until = "v.until" if superseded else "NULL"
        conditions, arguments = ["v.type = ?", "v.updated <= ?"], [type_number, watermark]
        if not superseded:
            conditions.append(f"v.state <> {CONTAINED}")
        if rid is not None:
            conditions.append("v.rid = ?")
            arguments.append(rid)
        if query.since is not None:
            conditions.append("v.updated >= ?")
            arguments.append(query.since)
        if query.at is not None:
            # Current in [updated, until); overlaps [start, end).
            start, end = query.at
            conditions.append("v.updated < ?")
            arguments.append(end)
            if superseded:
                conditions.append(f"{until} > ?")
                arguments.append(start)
        return " AND ".join(conditions), arguments

    def _count(self, query: HistoryQuery, type_number: int, rid: int | None, watermark: int) -> int:
        total = 0
        for superseded in (False, True):
            where, arguments = self._where(query, type_number, rid, watermark, superseded)
            table = "history" if superseded else "resource"
            total += int(self._connection.execute(f"SELECT count(*) FROM {table} v WHERE {where}", arguments).get)
        return total

    def _read(
        self, query: HistoryQuery, type_number: int, name: str, rid: int | None, watermark: int, superseded: bool
    ) -> Iterator[Stored]:
        where, arguments = self._where(query, type_number, rid, watermark, superseded)
        skip = len(name) + 1
        if query.before is not None:
            updated, before_type, before_id, before_version = query.before
            # Below (updated, type, id, version): within this type only the rest of the tuple remains to be compared.
            if name > before_type:
                where += " AND v.updated < ?"
                arguments.append(updated)
            elif name < before_type:
                where += " AND v.updated <= ?"
                arguments.append(updated)
            else:
                where += " AND v.updated <= ? AND (v.updated < ? OR (r.address, v.version) < (?, ?))"
                arguments += [updated, updated, f"{before_type}/{before_id}", before_version]
        if rid is not None:
            table = "history v INDEXED BY history_version" if superseded else "resource v"
        else:
            table = "history v INDEXED BY history_updated" if superseded else "resource v INDEXED BY resource_updated"
        join = " CROSS JOIN resource r ON r.rid = v.rid" if superseded else ""
        if not superseded:
            where = where.replace("r.address", "v.address")
        address = "r.address" if superseded else "v.address"
        rows = self._connection.execute(
            f"SELECT {address}, v.version, v.updated, v.method, v.body, v.registry FROM {table}{join} WHERE {where} "
            f"ORDER BY v.updated DESC, {address} DESC, v.version DESC LIMIT ?",
            (*arguments, query.count + 1),
        ).fetchall()
        for address, version, updated, method, body, registry in rows:
            yield Stored(name, address[skip:], version, updated, METHODS[method], body, registry)


def position(one: Stored) -> Position:
    """Where a version stands in the order of histories."""
    return (one.updated, one.type, one.id, one.version)
