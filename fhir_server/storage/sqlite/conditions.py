"""Lowered conditions: what is left of a node of the search tree when keys have become tids.

A condition can be asked three things: a predicate on a given document, a *driver* (a statement that yields the rids it
selects), and how many that are, up to a limit. Plans are pinned (CROSS JOIN, INDEXED BY, unary +): nothing depends on
ANALYZE. The + before EXISTS keeps SQLite from making a join of it, whose order would be SQLite's to choose: predicates
are tried as they are written, what was asked before what a policy demands.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import apsw

from fhir_server.search.ast import AllOf, Test
from fhir_server.storage.sqlite.marks import FRESH_S
from fhir_server.storage.sqlite.sqltext import (
    Sql,
    carray,
    conjunction,
    disjunction,
    expression,
    in_list,
    in_list_text,
    tids_of,
    union,
)
from fhir_server.storage.sqlite.terms import Counted, Listed, first_tid, last_tid

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.compile import Compiler, Selection


class Document(NamedTuple):
    """How a statement names the document that a predicate is about: `rid` an expression, `row` an alias of its resource
    row.
    """

    rid: str
    row: str | None
    depth: int

    def column(self, name: str) -> str:
        """A column of the document's resource row."""
        if self.row is not None:
            return f"{self.row}.{name}"
        return f"(SELECT {name} FROM resource WHERE rid = {self.rid})"


class Condition:
    """A predicate on one document."""

    types: frozenset[int] | None = None
    """Types of all documents that satisfy it. Not None also means: they are of the enclosing Select's containment,
    and alive.
    """
    driven = False
    """Whether `driver` and `count` work."""
    lasting = False
    """Whether it stays right whatever is committed, so that it can be kept for later searches."""

    def predicate(self, document: Document) -> Sql:
        """The condition as a boolean expression."""
        raise NotImplementedError

    def driver(self) -> Sql:
        """A SELECT of the one column rid; it may repeat."""
        raise NotImplementedError

    def count(self, limit: int) -> int:
        """About how many rows the driver yields, at most `limit`."""
        raise NotImplementedError


class Kept(Condition):
    """A lasting condition that keeps its predicates, too, for as long as its bits are fresh (marks.py)."""

    lasting = True

    def __init__(self) -> None:
        self._texts: dict[Document, tuple[float, Sql]] = {}

    def predicate(self, document: Document) -> Sql:
        known = self._texts.get(document)
        now = time.monotonic()
        if known is None or now >= known[0]:
            known = self._texts[document] = now + FRESH_S, self._predicate(document)
        return known[1]

    def _predicate(self, document: Document) -> Sql:
        raise NotImplementedError


class Always(Condition):
    """Every document."""

    lasting = True

    def predicate(self, document: Document) -> Sql:
        return "1", ()


class Never(Condition):
    """No document; `lasting`: whatever is committed."""

    types = frozenset()
    driven = True

    def __init__(self, *, lasting: bool = False) -> None:
        self.lasting = lasting

    def predicate(self, document: Document) -> Sql:
        return "0", ()

    def driver(self) -> Sql:
        return "SELECT 0 AS rid WHERE 0", ()

    def count(self, limit: int) -> int:
        return 0


ALWAYS, NEVER, NOWHERE = Always(), Never(), Never(lasting=True)


class Keys(Condition):
    """A key entry with one of some listed terms."""

    driven = True

    def __init__(
        self, compiler: Compiler, tids: Sequence[int], types: frozenset[int], *, lasting: bool = False
    ) -> None:
        self._compiler = compiler
        self.tids = tids
        self.types = types
        self.lasting = lasting

    def predicate(self, document: Document) -> Sql:
        tids = self.tids
        if len(tids) == 1:
            return f"+EXISTS (SELECT 1 FROM posting WHERE tid = ? AND rid = {document.rid})", (tids[0],)
        listed, arguments = in_list(tids)
        # One look at the document's own entries, whatever the number of terms.
        p = f"p{document.depth}"
        return (
            f"+EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} "
            f"AND {p}.tid BETWEEN ? AND ? AND +{p}.tid IN {listed})",
            (min(tids), max(tids), *arguments),
        )

    def driver(self) -> Sql:
        if len(self.tids) == 1:
            return "SELECT rid FROM posting WHERE tid = ?", (self.tids[0],)
        listed, arguments = in_list(self.tids)
        return f"SELECT rid FROM posting WHERE tid IN {listed}", arguments

    def count(self, limit: int) -> int:
        if len(self.tids) == 1:
            return self._compiler.count_term(self.tids[0], limit)
        return self._compiler.count(self.driver(), limit)


class ListedKeys(Condition):
    """A key entry with one of the terms that a long list of keys stands for."""

    driven = True

    def __init__(self, compiler: Compiler, listed: Listed, types: frozenset[int]) -> None:
        self._compiler = compiler
        self._listed = listed
        self.types = types

    def predicate(self, document: Document) -> Sql:
        tids = self._listed.tids
        p = f"p{document.depth}"
        return (
            f"+EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} "
            f"AND {p}.tid BETWEEN ? AND ? AND +{p}.tid IN (SELECT value FROM carray(?)))",
            (tids[0], tids[-1], apsw.carray(tids)),
        )

    def driver(self) -> Sql:
        return "SELECT rid FROM posting WHERE tid IN (SELECT value FROM carray(?))", (apsw.carray(self._listed.tids),)

    def count(self, limit: int) -> int:
        return self._listed.entries.upto(limit, lambda most: self._compiler.count(self.driver(), most))


class MarkedKeys(Kept):
    """A key entry with one of a long list of keys of a policy, known by bits (marks.py)."""

    driven = True

    def __init__(
        self, compiler: Compiler, params: tuple[int, ...], keys: tuple[str, ...], types: frozenset[int] | None
    ) -> None:
        super().__init__()
        self._compiler = compiler
        self._params = params
        self._keys = keys
        self.types = types
        self._marks = compiler.terms_marked(params, keys)
        self._entries = Counted()

    def _predicate(self, document: Document) -> Sql:
        p = f"p{document.depth}"
        tests, arguments = disjunction(
            [
                conjunction(
                    [
                        tids_of(f"{p}.tid", (param,)),
                        marks.test(f"{p}.tid", f"(SELECT key FROM term WHERE tid = {p}.tid)"),
                    ]
                )
                for param, marks in zip(self._params, self._marks, strict=True)
            ]
        )
        return (
            f"+EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} AND {tests})",
            arguments,
        )

    def driver(self) -> Sql:
        tids = self._compiler.listed(self._params, self._keys).tids
        if not tids:
            return NEVER.driver()
        return "SELECT rid FROM posting WHERE tid IN (SELECT value FROM carray(?))", (apsw.carray(tids),)

    def count(self, limit: int) -> int:
        return self._entries.upto(limit, lambda most: self._compiler.count(self.driver(), most))


class TextKeys(Kept):
    """A key entry with one of a few keys of a policy that not all are terms yet: decided by their text."""

    driven = True

    def __init__(
        self, compiler: Compiler, params: tuple[int, ...], keys: tuple[str, ...], types: frozenset[int] | None
    ) -> None:
        super().__init__()
        self._compiler = compiler
        self._params = params
        self._keys = keys
        self.types = types

    def _predicate(self, document: Document) -> Sql:
        p = f"p{document.depth}"
        where, arguments = tids_of(f"{p}.tid", self._params)
        listed, keys = in_list_text(self._keys)
        return (
            f"+EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} AND {where} "
            f"AND (SELECT key FROM term WHERE tid = {p}.tid) {listed})",
            arguments + keys,
        )

    def driver(self) -> Sql:
        return self._compiler.exactly(self._params, self._keys).driver()

    def count(self, limit: int) -> int:
        return self._compiler.exactly(self._params, self._keys).count(limit)


class KeyScan(Condition):
    """A key entry whose text passes a test that too many terms pass to list them; without `tests`, any key entry."""

    driven = True

    def __init__(
        self, compiler: Compiler, params: tuple[int, ...], tests: Sequence[Sql], types: frozenset[int]
    ) -> None:
        self._compiler = compiler
        self._params = params
        self._tests = tests
        self.types = types

    def predicate(self, document: Document) -> Sql:
        n = document.depth
        where, arguments = tids_of(f"p{n}.tid", self._params)
        if not self._tests:
            return (
                f"+EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid WHERE p{n}.rid = {document.rid} AND "
                f"{where})",
                arguments,
            )
        test, more = disjunction([(text.replace("$", f"t{n}."), values) for text, values in self._tests])
        return (
            f"+EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid CROSS JOIN term t{n} ON t{n}.tid = p{n}.tid "
            f"WHERE p{n}.rid = {document.rid} AND {where} AND {test})",
            arguments + more,
        )

    def driver(self) -> Sql:
        if not self._tests:
            return union(
                [
                    ("SELECT rid FROM posting WHERE tid BETWEEN ? AND ?", (first_tid(p), last_tid(p)))
                    for p in self._params
                ]
            )
        return union(
            [
                (
                    f"SELECT p.rid AS rid FROM term t INDEXED BY term_key CROSS JOIN posting p ON p.tid = t.tid "
                    f"WHERE t.param = ? AND {text.replace('$', 't.')}",
                    (param, *values),
                )
                for param in self._params
                for text, values in self._tests
            ]
        )

    def count(self, limit: int) -> int:
        return self._compiler.count(self.driver(), limit)


@dataclass(frozen=True, slots=True)
class Branch:
    """One alternative of a test on a range entry: terms, and comparisons of low, high and unit as SQL (``$`` for the
    alias).

    `indexed`: the index whose leading columns the comparisons bind.
    """

    tids: Sequence[int]
    where: Sql
    indexed: str


class Spans(Condition):
    """A range entry that passes one of some branches."""

    driven = True

    def __init__(self, compiler: Compiler, branches: Sequence[Branch], types: frozenset[int]) -> None:
        self._compiler = compiler
        self._branches = branches
        self.types = types

    def predicate(self, document: Document) -> Sql:
        s = f"s{document.depth}"
        parts, low, high = [], None, None
        for branch in self._branches:
            listed, arguments = in_list(branch.tids)
            text, values = branch.where
            parts.append((f"+{s}.tid IN {listed}{text.replace('$', f'+{s}.')}", arguments + values))
            low = min(branch.tids) if low is None else min(low, *branch.tids)
            high = max(branch.tids) if high is None else max(high, *branch.tids)
        test, arguments = disjunction(parts)
        return (
            f"+EXISTS (SELECT 1 FROM span {s} WHERE {s}.rid = {document.rid} AND {s}.tid BETWEEN ? AND ? AND {test})",
            (low, high, *arguments),
        )

    def driver(self) -> Sql:
        parts = []
        for branch in self._branches:
            listed, arguments = in_list(branch.tids)
            text, values = branch.where
            parts.append(
                (
                    f"SELECT rid FROM span INDEXED BY {branch.indexed} WHERE tid IN {listed}{text.replace('$', '')}",
                    arguments + values,
                )
            )
        return union(parts)

    def count(self, limit: int) -> int:
        return self._compiler.count(self.driver(), limit)


class SpanScan(Condition):
    """A range entry that passes a test which is evaluated as written; without a test, any range entry."""

    driven = True

    def __init__(self, compiler: Compiler, params: tuple[int, ...], test: Test, types: frozenset[int]) -> None:
        self._compiler = compiler
        self._params = params
        self._test = test
        self.types = types

    def predicate(self, document: Document) -> Sql:
        n = document.depth
        where, arguments = tids_of(f"s{n}.tid", self._params)
        if self._test == AllOf(()):
            return f"+EXISTS (SELECT 1 FROM span s{n} WHERE s{n}.rid = {document.rid} AND {where})", arguments
        test, more = expression(
            self._test, {"key": f"t{n}.key", "low": f"+s{n}.low", "high": f"+s{n}.high", "unit": f"u{n}.key"}
        )
        return (
            f"+EXISTS (SELECT 1 FROM span s{n} CROSS JOIN term t{n} ON t{n}.tid = s{n}.tid CROSS JOIN term u{n} "
            f"ON u{n}.tid = s{n}.unit "
            f"WHERE s{n}.rid = {document.rid} AND {where} AND {test})",
            arguments + more,
        )

    def driver(self) -> Sql:
        if self._test == AllOf(()):
            return union(
                [
                    ("SELECT rid FROM span INDEXED BY span_low WHERE tid BETWEEN ? AND ?", (first_tid(p), last_tid(p)))
                    for p in self._params
                ]
            )
        test, more = expression(self._test, {"key": "t.key", "low": "s.low", "high": "s.high", "unit": "u.key"})
        return union(
            [
                (
                    "SELECT s.rid AS rid FROM term t INDEXED BY term_key CROSS JOIN span s INDEXED BY span_low "
                    "ON s.tid = t.tid "
                    f"CROSS JOIN term u ON u.tid = s.unit WHERE t.param = ? AND {test}",
                    (param, *more),
                )
                for param in self._params
            ]
        )

    def count(self, limit: int) -> int:
        return self._compiler.count(self.driver(), limit)


class Rids(Condition):
    """One of some listed documents."""

    driven = True

    def __init__(self, rids: Sequence[int], types: frozenset[int]) -> None:
        self._rids = rids
        self.types = types

    def predicate(self, document: Document) -> Sql:
        listed, arguments = in_list(self._rids)
        return f"{document.rid} IN {listed}", arguments

    def driver(self) -> Sql:
        return "SELECT value AS rid FROM carray(?)", (carray(self._rids),)

    def count(self, limit: int) -> int:
        return min(limit, len(self._rids))


class Named(Condition):
    """One of some resources, named by their addresses. Whether they are alive, the enclosing Select tests."""

    driven = True

    def __init__(self, rids: array[int]) -> None:
        self._rids = rids

    def predicate(self, document: Document) -> Sql:
        # A unary + keeps the list from becoming the outer loop.
        return f"+{document.rid} IN (SELECT value FROM carray(?))", (apsw.carray(self._rids),)

    def driver(self) -> Sql:
        return "SELECT value AS rid FROM carray(?)", (apsw.carray(self._rids),)

    def count(self, limit: int) -> int:
        return min(limit, len(self._rids))


class MarkedRows(Kept):
    """One of a long list of resources of a policy, known by bits (marks.py). Whether it is alive, the Select tests."""

    driven = True

    def __init__(self, compiler: Compiler, addresses: tuple[str, ...]) -> None:
        super().__init__()
        self._compiler = compiler
        self._addresses = addresses
        self._marks = compiler.rows_marked(addresses)

    def _predicate(self, document: Document) -> Sql:
        return self._marks.test(document.rid, document.column("address"))

    def driver(self) -> Sql:
        rids = self._compiler.rids(self._addresses)
        return ("SELECT value AS rid FROM carray(?)", (apsw.carray(rids),)) if rids else NEVER.driver()

    def count(self, limit: int) -> int:
        return min(limit, len(self._addresses))


class AddressedRows(Kept):
    """One of a few resources of a policy, told by their addresses. Whether they are alive, the Select tests."""

    driven = True

    def __init__(self, addresses: tuple[str, ...]) -> None:
        super().__init__()
        self._addresses = addresses

    def _predicate(self, document: Document) -> Sql:
        text, arguments = in_list_text(self._addresses)
        return f"{document.column('address')} {text}", arguments

    def driver(self) -> Sql:
        text, arguments = in_list_text(self._addresses)
        return f"SELECT rid FROM resource INDEXED BY resource_address WHERE address {text}", arguments

    def count(self, limit: int) -> int:
        return min(limit, len(self._addresses))


class LinkProbe(Condition):
    """A chain to more documents than are listed: each document's own references are followed."""

    driven = True

    def __init__(self, compiler: Compiler, params: tuple[int, ...], target: Selection, types: frozenset[int]) -> None:
        self._compiler = compiler
        self._params = params
        self._target = target
        self.types = types

    def predicate(self, document: Document) -> Sql:
        n = document.depth
        where, arguments = tids_of(f"p{n}.tid", self._params)
        target, more = self._target.predicate(Document(f"r{n}.rid", f"r{n}", n + 1))
        return (
            f"+EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid CROSS JOIN term t{n} ON t{n}.tid = p{n}.tid "
            f"CROSS JOIN resource r{n} INDEXED BY resource_address ON r{n}.address = t{n}.key "
            f"WHERE p{n}.rid = {document.rid} AND {where} AND {target})",
            arguments + more,
        )

    def driver(self) -> Sql:
        targets, arguments = self._target.driver()
        return union(
            [
                (
                    f"SELECT p.rid AS rid FROM ({targets}) x CROSS JOIN resource r ON r.rid = x.rid "
                    "CROSS JOIN term t INDEXED BY term_key ON t.param = ? AND t.key = r.address CROSS JOIN "
                    "posting p ON p.tid = t.tid",
                    (*arguments, param),
                )
                for param in self._params
            ]
        )

    def count(self, limit: int) -> int:
        return self._compiler.count(self.driver(), limit)


class LinkFromProbe(Condition):
    """A reverse chain from more documents than are listed: what points at each document is looked up."""

    def __init__(self, compiler: Compiler, params: tuple[int, ...], source: Selection) -> None:
        self._compiler = compiler
        self._params = params
        self._source = source

    def predicate(self, document: Document) -> Sql:
        n = document.depth
        source, arguments = self._source.predicate(Document(f"p{n}.rid", None, n + 1))
        return (
            f"+EXISTS (SELECT 1 FROM term t{n} INDEXED BY term_key CROSS JOIN posting p{n} ON p{n}.tid = t{n}.tid "
            f"WHERE t{n}.param IN ({','.join('?' * len(self._params))}) AND t{n}.key = "
            f"{document.column('address')} AND {source})",
            (*self._params, *arguments),
        )


class RowTest(Condition):
    """Comparisons with columns of the resource's own row. Contained documents satisfy none but those of the type."""

    def __init__(self, column: str, comparisons: Sequence[Sql], *, own: bool, lasting: bool = False) -> None:
        self.lasting = lasting
        self._column = column
        self._comparisons = comparisons
        self._own = own

    def predicate(self, document: Document) -> Sql:
        column = document.column(self._column)
        if self._column == "id":
            address = document.column("address")
            column = f"substr({address}, instr({address}, '/') + 1)"
        tests, arguments = conjunction([(f"{column} {text}", values) for text, values in self._comparisons])
        if self._own:
            tests = f"({document.column('state')} = 1 AND {tests})"
        return tests, arguments


class Updated(RowTest):
    """Comparisons with the time of the last update, driven by an index when the types are known."""

    def __init__(self, compiler: Compiler, comparisons: Sequence[Sql], type_numbers: Sequence[int]) -> None:
        super().__init__("updated", comparisons, own=True)
        self._compiler = compiler
        self.type_numbers = type_numbers
        self.driven = True
        self.types = frozenset(type_numbers)
        self.comparisons = comparisons

    def driver(self) -> Sql:
        tests, arguments = conjunction([(f"updated {text}", values) for text, values in self.comparisons])
        return union(
            [
                (
                    f"SELECT rid FROM resource INDEXED BY resource_updated WHERE type = ? AND {tests} AND state = 1",
                    (number, *arguments),
                )
                for number in self.type_numbers
            ]
        )

    def predicate(self, document: Document) -> Sql:
        tests, arguments = super().predicate(document)
        return f"({tests} AND {document.column('type')} IN ({','.join(map(str, self.type_numbers))}))", arguments

    def count(self, limit: int) -> int:
        return self._compiler.count(self.driver(), limit)


class All(Condition):
    """Every part holds."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        self.parts = parts
        known = [part.types for part in parts if part.types is not None]
        self.types = frozenset.intersection(*known) if known else None
        self.driven = any(part.driven for part in parts)
        self.lasting = all(part.lasting for part in parts)

    def predicate(self, document: Document) -> Sql:
        return conjunction([part.predicate(document) for part in self.parts])

    def best(self) -> Condition:
        """The part that selects least, which drives."""
        driven = [part for part in self.parts if part.driven]
        if len(driven) == 1:
            return driven[0]
        return min(driven, key=lambda part: part.count(1000))

    def driver(self) -> Sql:
        best = self.best()
        text, arguments = best.driver()
        rest = [part.predicate(Document("a.rid", None, 50)) for part in self.parts if part is not best]
        if not rest:
            return text, arguments
        tests, more = conjunction(rest)
        return f"SELECT a.rid AS rid FROM ({text}) a WHERE {tests}", arguments + more

    def count(self, limit: int) -> int:
        for part in self.parts:
            if part.driven:
                limit = min(limit, part.count(limit))
        return limit


class Any_(Condition):
    """At least one part holds. `lasting`: parts that were left out never come to hold."""

    def __init__(self, parts: Sequence[Condition], *, lasting: bool = True) -> None:
        self.parts = parts
        known = [part.types for part in parts if part.types is not None]
        self.types = frozenset.union(*known) if len(known) == len(parts) else None
        self.driven = all(part.driven for part in parts)
        self.lasting = lasting and all(part.lasting for part in parts)

    def predicate(self, document: Document) -> Sql:
        return disjunction([part.predicate(document) for part in self.parts])

    def driver(self) -> Sql:
        return union([part.driver() for part in self.parts])

    def count(self, limit: int) -> int:
        total = 0
        for part in self.parts:
            total += part.count(limit - total)
            if total >= limit:
                return limit
        return total


class Negation(Condition):
    """The part does not hold."""

    def __init__(self, part: Condition) -> None:
        self._part = part
        self.lasting = part.lasting

    def predicate(self, document: Document) -> Sql:
        text, arguments = self._part.predicate(document)
        return f"NOT ({text})", arguments
