"""The search tree as SQL.

Lowering replaces what only the dictionary knows: keys become tids, chains become the tids or rids that they end at (or
stay predicates when they are many), so that what remains compares integers. A lowered condition can be asked three
things: a predicate on a given document, a *driver* (a statement that yields the rids it selects), and how many that
are, up to a limit. search.py chooses drivers by these counts. Plans are pinned (CROSS JOIN, INDEXED BY, unary +):
nothing depends on ANALYZE.

The text of a statement depends on the shape of the tree only, values are bound: apsw's statement cache is keyed by it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import apsw

from fhir_server.errors import TooCostly
from fhir_server.search.ast import (
    CONTAINED,
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
    Select,
    Test,
)
from fhir_server.storage.limits import alternatives
from fhir_server.storage.sqlite.terms import UNITS, Listed, Terms, first_tid, last_tid

Sql = tuple[str, tuple[Any, ...]]
"""Text with ``?`` for each argument, in order."""

LISTED_TERMS = 200
"""More distinct keys than this are not listed in a statement but joined."""
LISTED_LINKS = 1000
"""More documents than this at one link of a chain are not listed but probed one by one."""
BRANCHES = 64
"""Range tests with more alternatives than this are evaluated as written, without index ranges."""
COUNTS_KEPT_S = 30.0
MOST_WRITES_PER_S = 50_000
"""More entries of one term than a store can write in a second: bounds how far a remembered count can be off."""


@dataclass(frozen=True, slots=True)
class Document:
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


# --- lowered conditions -----------------------------------------------------------------------------------------------


class Condition:
    """A predicate on one document."""

    types: frozenset[int] | None = None
    """Types of all documents that satisfy it. Not None also means: they are of the enclosing Select's containment,
    and alive.
    """
    driven = False
    """Whether `driver` and `count` work."""

    def predicate(self, document: Document) -> Sql:
        """The condition as a boolean expression."""
        raise NotImplementedError

    def driver(self) -> Sql:
        """A SELECT of the one column rid; it may repeat."""
        raise NotImplementedError

    def count(self, limit: int) -> int:
        """About how many rows the driver yields, at most `limit`."""
        raise NotImplementedError


class Always(Condition):
    """Every document."""

    def predicate(self, document: Document) -> Sql:
        return "1", ()


class Never(Condition):
    """No document."""

    types = frozenset()
    driven = True

    def predicate(self, document: Document) -> Sql:
        return "0", ()

    def driver(self) -> Sql:
        return "SELECT 0 AS rid WHERE 0", ()

    def count(self, limit: int) -> int:
        return 0


ALWAYS, NEVER = Always(), Never()


class Keys(Condition):
    """A key entry with one of some listed terms."""

    driven = True

    def __init__(self, compiler: Compiler, tids: Sequence[int], types: frozenset[int]) -> None:
        self._compiler = compiler
        self.tids = tids
        self.types = types

    def predicate(self, document: Document) -> Sql:
        tids = self.tids
        if len(tids) == 1:
            return f"EXISTS (SELECT 1 FROM posting WHERE tid = ? AND rid = {document.rid})", (tids[0],)
        listed, arguments = in_list(tids)
        # One look at the document's own entries, whatever the number of terms.
        p = f"p{document.depth}"
        return (
            f"EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} "
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
            f"EXISTS (SELECT 1 FROM posting {p} INDEXED BY posting_rid WHERE {p}.rid = {document.rid} "
            f"AND {p}.tid BETWEEN ? AND ? AND +{p}.tid IN (SELECT value FROM carray(?)))",
            (tids[0], tids[-1], apsw.carray(tids)),
        )

    def driver(self) -> Sql:
        return "SELECT rid FROM posting WHERE tid IN (SELECT value FROM carray(?))", (apsw.carray(self._listed.tids),)

    def count(self, limit: int) -> int:
        listed = self._listed
        now = time.monotonic()
        if now > listed.expires or (listed.count >= listed.counted and limit > listed.counted):
            listed.count = self._compiler.count(self.driver(), limit)
            listed.counted, listed.expires = limit, now + COUNTS_KEPT_S
        return min(listed.count, limit)


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
                f"EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid WHERE p{n}.rid = {document.rid} AND "
                f"{where})",
                arguments,
            )
        test, more = disjunction([(text.replace("$", f"t{n}."), values) for text, values in self._tests])
        return (
            f"EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid CROSS JOIN term t{n} ON t{n}.tid = p{n}.tid "
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
            f"EXISTS (SELECT 1 FROM span {s} WHERE {s}.rid = {document.rid} AND {s}.tid BETWEEN ? AND ? AND {test})",
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
            return f"EXISTS (SELECT 1 FROM span s{n} WHERE s{n}.rid = {document.rid} AND {where})", arguments
        test, more = expression(
            self._test, {"key": f"t{n}.key", "low": f"+s{n}.low", "high": f"+s{n}.high", "unit": f"u{n}.key"}
        )
        return (
            f"EXISTS (SELECT 1 FROM span s{n} CROSS JOIN term t{n} ON t{n}.tid = s{n}.tid CROSS JOIN term u{n} "
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
            f"EXISTS (SELECT 1 FROM posting p{n} INDEXED BY posting_rid CROSS JOIN term t{n} ON t{n}.tid = p{n}.tid "
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
            f"EXISTS (SELECT 1 FROM term t{n} INDEXED BY term_key CROSS JOIN posting p{n} ON p{n}.tid = t{n}.tid "
            f"WHERE t{n}.param IN ({','.join('?' * len(self._params))}) AND t{n}.key = "
            f"{document.column('address')} AND {source})",
            (*self._params, *arguments),
        )


class RowTest(Condition):
    """Comparisons with columns of the resource's own row. Contained documents satisfy none but those of the type."""

    def __init__(self, column: str, comparisons: Sequence[Sql], *, own: bool) -> None:
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

    def predicate(self, document: Document) -> Sql:
        return conjunction([part.predicate(document) for part in self.parts])

    def _best(self) -> Condition:
        driven = [part for part in self.parts if part.driven]
        if len(driven) == 1:
            return driven[0]
        return min(driven, key=lambda part: part.count(1000))

    def driver(self) -> Sql:
        best = self._best()
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
    """At least one part holds."""

    def __init__(self, parts: Sequence[Condition]) -> None:
        self.parts = parts
        known = [part.types for part in parts if part.types is not None]
        self.types = frozenset.union(*known) if len(known) == len(parts) else None
        self.driven = all(part.driven for part in parts)

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

    def predicate(self, document: Document) -> Sql:
        text, arguments = self._part.predicate(document)
        return f"NOT ({text})", arguments


# --- selections -------------------------------------------------------------------------------------------------------

STATES = {"no": (1,), "only": (2,), "both": (1, 2)}


class Selection:
    """A lowered Select: condition, type numbers (None: every type), containment."""

    def __init__(self, where: Condition, types: tuple[int, ...] | None, contained: str) -> None:
        self.where = NEVER if types is not None and not types else where
        self.types = types
        self.contained = contained
        known = self.where.types
        self.states = STATES[contained]
        self.bound = known is not None
        """The condition implies the states."""
        self.typed = types is None or (known is not None and known <= frozenset(types))
        """The condition implies the types."""

    @property
    def parts(self) -> Sequence[Condition]:
        """The conjuncts of the condition."""
        return self.where.parts if isinstance(self.where, All) else () if self.where is ALWAYS else (self.where,)

    def guards(self, document: Document) -> list[Sql]:
        """What has to be tested besides the condition: types and states that it does not imply."""
        tests: list[Sql] = []
        if not self.typed:
            assert self.types is not None
            tests.append((f"{document.column('type')} IN ({','.join(map(str, self.types))})", ()))
        if not self.bound:
            tests.append((f"{document.column('state')} IN ({','.join(map(str, self.states))})", ()))
        return tests

    def predicate(self, document: Document) -> Sql:
        """Whether the selection selects a document."""
        return conjunction([self.where.predicate(document), *self.guards(document)])

    def walk(self) -> tuple[str, tuple[Any, ...], Document]:
        """FROM ... WHERE over all documents of the types, in order of rid when there is one type and one state, or no
        type.
        """
        if self.types is not None and len(self.types) == 1 and len(self.states) == 1:
            text = f"resource d INDEXED BY resource_kind WHERE d.type = ? AND d.state = {self.states[0]}"
            return text, (self.types[0],), Document("d.rid", "d", 0)
        states = ",".join(map(str, self.states))
        if self.contained == "only":
            text = "resource d INDEXED BY resource_container WHERE d.container IS NOT NULL"
        elif self.types is not None and self.contained != "no":
            text = f"resource d INDEXED BY resource_kind WHERE d.state IN ({states})"
        else:
            text = f"resource d NOT INDEXED WHERE d.state IN ({states})"
        if self.types is not None:
            text += f" AND d.type IN ({','.join(map(str, self.types))})"
        return text, (), Document("d.rid", "d", 0)

    def driver(self) -> Sql:
        """A SELECT of the rids, each once."""
        where = self.where
        document = Document("d.rid", None, 0)
        if where.driven:
            if self.typed and self.bound and isinstance(where, Keys) and len(where.tids) == 1:
                return where.driver()
            text, arguments = where.driver()
            guards = self.guards(document)
            if not guards:
                return f"SELECT DISTINCT rid FROM ({text})", arguments
            tests, more = conjunction(guards)
            return f"SELECT DISTINCT d.rid AS rid FROM ({text}) d WHERE {tests}", arguments + more
        text, arguments, document = self.walk()
        tests, more = where.predicate(document)
        return f"SELECT d.rid AS rid FROM {text} AND {tests}", arguments + more


# --- lowering ---------------------------------------------------------------------------------------------------------


class Compiler:
    """Lowers the trees of one search. Chains are evaluated while lowering, inside the caller's transaction."""

    def __init__(self, execute: Any, terms: Terms, counts: dict[int, tuple[int, int, float]], chain_limit: int) -> None:
        self._execute = execute
        self._terms = terms
        self._counts = counts
        self._chain_limit = chain_limit

    def select(self, select: Select) -> Selection:
        """Raises: TooCostly when a link of a chain selects more documents than the limit."""
        types: tuple[int, ...] | None = None
        if select.types is not None:
            numbers = (self._terms.type_number(name) for name in dict.fromkeys(select.types))
            types = tuple(number for number in numbers if number is not None)
        return Selection(self.lower(select.where, select.contained, types), types, select.contained)

    def lower(self, node: Node, contained: str, types: tuple[int, ...] | None) -> Condition:
        """The condition of a node within a Select of this containment and these types."""
        match node:
            case And(parts):
                return self._all([self.lower(part, contained, types) for part in parts])
            case Or(parts):
                lowered = [self.lower(part, contained, types) for part in parts]
                if any(part is ALWAYS for part in lowered):
                    return ALWAYS
                alternatives = [part for part in lowered if part is not NEVER]
                return NEVER if not alternatives else alternatives[0] if len(alternatives) == 1 else Any_(alternatives)
            case Not(part):
                inner = self.lower(part, contained, types)
                return ALWAYS if inner is NEVER else NEVER if inner is ALWAYS else Negation(inner)
            case Exists(params, shape, test):
                shifted = shift(params, contained)
                return self._keys(shifted, test) if shape == "key" else self._spans(shifted, test)
            case Linked(params, target):
                return self._linked(shift(params, contained), self.select(target))
            case LinkedFrom(params, source):
                return self._linked_from(shift(params, source.contained), self.select(source), contained)
            case Field(name, op, value):
                return self._field(name, op, value, contained, types)
            case _:
                assert_never(node)

    def _all(self, parts: list[Condition]) -> Condition:
        if any(part is NEVER for part in parts):
            return NEVER
        flat: list[Condition] = []
        window: Updated | None = None
        for part in parts:
            if part is ALWAYS:
                continue
            for inner in part.parts if isinstance(part, All) else (part,):
                if isinstance(inner, Updated):  # `_lastUpdated=ge...&_lastUpdated=lt...` is one window
                    if window is not None:
                        flat.remove(window)
                        inner = Updated(self, [*window.comparisons, *inner.comparisons], inner.type_numbers)
                    window = inner
                flat.append(inner)
        return ALWAYS if not flat else flat[0] if len(flat) == 1 else All(flat)

    # -- entries -------------------------------------------------------------------------------------------------------

    def _param_types(self, params: Iterable[int]) -> tuple[tuple[int, ...], frozenset[int]]:
        """The params that any document uses, and their types."""
        used, types = [], set()
        for param in params:
            number = self._terms.param_type(param)
            if number is not None:
                used.append(param)
                types.add(number)
        return tuple(used), frozenset(types)

    def _keys(self, params: tuple[int, ...], test: Test) -> Condition:
        params, types = self._param_types(params)
        if not params:
            return NEVER
        if type(test) is Compare and test.op == "=" and test.column == "key":
            tids = [tid for param in params if (tid := self._terms.find(param, test.value)) is not None]  # type: ignore[arg-type]
            return Keys(self, tids, types) if tids else NEVER
        if type(test) is Compare and test.op == "in" and test.column == "key" and len(test.value) > 8:  # type: ignore[arg-type]
            listed = self._terms.listed(params, test.value)  # type: ignore[arg-type]
            if len(listed.tids) > 1:
                return ListedKeys(self, listed, types)
            return Keys(self, tuple(listed.tids), types) if listed.tids else NEVER
        if test == AllOf(()):
            return KeyScan(self, params, (), types)
        found, texts = self._resolve(params, alternatives(test))
        if found is not None:
            return Keys(self, found, types) if found else NEVER
        return KeyScan(self, params, texts, types)

    def _resolve(self, params: Iterable[int], branches: list[list[Compare]]) -> tuple[list[int] | None, list[Sql]]:
        """The tids of the keys that pass one of the alternatives; None when they are too many: then the tests, on
        ``$key``.
        """
        found: dict[int, None] = {}
        texts: list[Sql] = []
        listed = True
        for branch in branches:
            exact, test = key_test(branch)
            if exact is not None:
                text, values = in_list_text(exact)
                texts.append((f"$key {text}", values))
                for param in params:
                    for key in exact:
                        tid = self._terms.find(param, key)
                        if tid is not None:
                            found[tid] = None
                continue
            if test is None:
                continue
            texts.append(test)
            for param in params:
                if not listed:
                    break
                rows = self._execute(
                    f"SELECT tid FROM term INDEXED BY term_key WHERE param = ? AND {test[0].replace('$', '')} LIMIT ?",
                    (param, *test[1], LISTED_TERMS + 1),
                ).fetchall()
                found.update((tid, None) for (tid,) in rows)
                listed = len(found) <= LISTED_TERMS
        return (list(found) if listed else None), texts

    def _spans(self, params: tuple[int, ...], test: Test) -> Condition:
        params, types = self._param_types(params)
        if not params:
            return NEVER
        if test == AllOf(()):
            return SpanScan(self, params, test, types)
        branches = [branch for branch in alternatives(test) if consistent(branch)]
        if len(branches) > BRANCHES:
            return SpanScan(self, params, test, types)
        lowered: list[Branch] = []
        for branch in branches:
            keys = [one for one in branch if one.column == "key"]
            tids, _ = self._resolve(params, [keys])
            if tids is None:
                return SpanScan(self, params, test, types)
            if not tids:
                continue
            where = self._bounds([one for one in branch if one.column != "key"])
            if where is not None:
                lowered.append(Branch(tids, *where))
        return Spans(self, lowered, types) if lowered else NEVER

    def _bounds(self, tests: list[Compare]) -> tuple[Sql, str] | None:
        """Comparisons of low, high and unit as one text, and the index they bind; None when they contradict each
        other.
        """
        text, bound = "", set()
        arguments: list[Any] = []
        for column in ("low", "high"):
            window = Window()
            for one in tests:
                if one.column == column and not window.add(one):
                    comparison, values = compare(f"${column}", one)
                    text += f" AND {comparison}"
                    arguments.extend(values)
            if window.empty():
                return None
            for operator, value in window.bounds():
                text += f" AND ${column} {operator} ?"
                arguments.append(value)
                bound.add(column)
        for one in tests:
            if one.column != "unit":
                continue
            if one.op == "=":
                tid = self._terms.find(UNITS, str(one.value))
                if tid is None:
                    return None
                text += " AND $unit = ?"
                arguments.append(tid)
            else:
                comparison, values = compare("key", one)
                text += f" AND $unit IN (SELECT tid FROM term WHERE param = {UNITS} AND {comparison})"
                arguments.extend(values)
        return (text, tuple(arguments)), "span_high" if bound == {"high"} else "span_low"

    # -- links ---------------------------------------------------------------------------------------------------------

    def _links(self, selection: Selection) -> list[int] | None:
        """The rids that a link selects; None when they are too many to list. Raises: TooCostly above the chain
        limit.
        """
        if selection.where is NEVER:
            return []
        most = min(LISTED_LINKS, self._chain_limit)
        where = selection.where
        one_term = isinstance(where, Keys) and len(where.tids) == 1 and selection.typed and selection.bound
        if one_term and self._certainly_between(where.tids[0], most, self._chain_limit):  # type: ignore[attr-defined]
            return None
        text, arguments = selection.driver()
        rids = [rid for (rid,) in self._execute(f"{text} LIMIT ?", (*arguments, most + 1)).fetchall()]
        if len(rids) <= most:
            return rids
        if most < self._chain_limit:
            limit = self._chain_limit + 1
            count = self._execute(f"SELECT count(*) FROM ({text} LIMIT ?)", (*arguments, limit)).get
            if count < limit:
                if one_term:
                    self._counts[where.tids[0]] = (count, limit, time.monotonic() + COUNTS_KEPT_S)  # type: ignore[attr-defined]
                return None
        raise TooCostly(f"A link of a chain selects more than {self._chain_limit} resources; narrow it.")

    def _certainly_between(self, tid: int, least: int, most: int) -> bool:
        """Whether a remembered count of a term shows that it is still above `least` and not above `most`, whatever was
        written since.
        """
        known = self._counts.get(tid)
        if known is None:
            return False
        count, counted, expires = known
        age = time.monotonic() - (expires - COUNTS_KEPT_S)
        change = int(age * MOST_WRITES_PER_S) + 100
        return count < counted and age < COUNTS_KEPT_S and count - change > least and count + change <= most

    def _linked(self, params: tuple[int, ...], target: Selection) -> Condition:
        rids = self._links(target)
        params, types = self._param_types(params)
        if not params or rids == []:
            return NEVER
        if rids is None:
            return LinkProbe(self, params, target, types)
        tids: list[int] = []
        for param in params:
            rows = self._execute(
                "SELECT t.tid FROM carray(?) x CROSS JOIN resource r ON r.rid = x.value "
                "CROSS JOIN term t INDEXED BY term_key ON t.param = ? AND t.key = r.address",
                (carray(rids), param),
            ).fetchall()
            tids.extend(tid for (tid,) in rows)
        return Keys(self, tids, types) if tids else NEVER

    def _linked_from(self, params: tuple[int, ...], source: Selection, contained: str) -> Condition:
        rids = self._links(source)
        params, _ = self._param_types(params)
        if not params or rids == []:
            return NEVER
        if rids is None:
            return LinkFromProbe(self, params, source)
        where, arguments = tids_of("p.tid", params)
        states = ",".join(map(str, STATES[contained]))
        rows = self._execute(
            "SELECT DISTINCT r.rid, r.type FROM "
            f"(SELECT DISTINCT p.tid AS tid FROM carray(?) x CROSS JOIN posting p INDEXED BY posting_rid ON "
            f"p.rid = x.value AND {where}) l "
            "CROSS JOIN term t ON t.tid = l.tid CROSS JOIN resource r INDEXED BY resource_address ON r.address = t.key "
            f"WHERE r.state IN ({states})",
            (carray(rids), *arguments),
        ).fetchall()
        return Rids([rid for rid, _ in rows], frozenset(number for _, number in rows)) if rows else NEVER

    # -- fields --------------------------------------------------------------------------------------------------------

    def _field(self, name: str, op: str, value: Any, contained: str, types: tuple[int, ...] | None) -> Condition:
        values = value if op == "in" else (value,)
        if name == "type":
            numbers = [number for number, text in self._terms.type_numbers().items() if holds(text, op, value)]
            return RowTest("type", [(f"IN ({','.join(map(str, numbers))})", ())], own=False) if numbers else NEVER
        if contained == "only":  # contained documents have no other field
            return NEVER
        if name in ("id", "address") and op in ("=", "in"):
            if name == "id":
                names = self._terms.type_numbers().values() if types is None else map(self._terms.type_name, types)
                values = [f"{type_name}/{one}" for type_name in names for one in values]
            if len(values) > 8 and contained == "no":
                named = self._terms.rids(tuple(values))
                return Named(named) if named else NEVER
            rows = (
                self._execute(
                    "SELECT DISTINCT r.rid, r.type FROM carray(?) x CROSS JOIN resource r INDEXED BY "
                    "resource_address ON r.address = x.value "
                    "WHERE r.state = 1",
                    (apsw.carray(tuple(values)),),
                ).fetchall()
                if values
                else []
            )
            return Rids([rid for rid, _ in rows], frozenset(number for _, number in rows)) if rows else NEVER
        comparisons = [in_list_text(values) if op == "in" else (f"{op} ?", (value,))]
        if name == "updated":
            return Updated(self, comparisons, tuple(self._terms.type_numbers()) if types is None else types)
        return RowTest(name, comparisons, own=True)

    # -- counting ------------------------------------------------------------------------------------------------------

    def count(self, driver: Sql, limit: int) -> int:
        """Rows of a driver, at most `limit`."""
        return int(self._execute(f"SELECT count(*) FROM ({driver[0]} LIMIT ?)", (*driver[1], limit)).get)

    def count_term(self, tid: int, limit: int) -> int:
        """Entries of a term, at most `limit`; remembered for a while, since only the choice of a plan depends on it."""
        known = self._counts.get(tid)
        if known is not None:
            count, counted, expires = known
            if (count < counted or count >= limit) and time.monotonic() < expires:
                return min(count, limit)
        count = int(
            self._execute("SELECT count(*) FROM (SELECT 1 FROM posting WHERE tid = ? LIMIT ?)", (tid, limit)).get
        )
        if len(self._counts) > 20_000:
            self._counts.clear()
        self._counts[tid] = (count, limit, time.monotonic() + COUNTS_KEPT_S)
        return count


# --- tests ------------------------------------------------------------------------------------------------------------


def consistent(branch: list[Compare]) -> bool:
    """False when a conjunction demands two different keys."""
    demanded = None
    for one in branch:
        if one.column == "key" and one.op == "=":
            if demanded is not None and one.value != demanded:
                return False
            demanded = one.value
    return True


def expression(test: Test, columns: dict[str, str]) -> Sql:
    """The test as a boolean expression over the columns of one entry."""
    match test:
        case Compare(column=column):
            return compare(columns[column], test)
        case AllOf(tests):
            return conjunction([expression(one, columns) for one in tests])
        case AnyOf(tests):
            return disjunction([expression(one, columns) for one in tests])
        case _:
            assert_never(test)


def compare(column: str, test: Compare) -> Sql:
    """One comparison. Text functions, not LIKE: no wildcards, no case folding, and nothing ends at U+0000."""
    value = test.value
    match test.op:
        case "=" | "<" | "<=" | ">" | ">=":
            return f"{column} {test.op} ?", (value,)
        case "in":
            text, arguments = in_list_text(value)  # type: ignore[arg-type]
            return f"{column} {text}", arguments
        case "prefix":
            low, high = prefix_bounds(str(value))
            return (
                (f"({column} >= ? AND {column} < ?)", (low, high)) if high is not None else (f"{column} >= ?", (low,))
            )
        case "ends":
            return (f"substr({column}, -{len(str(value))}) = ?", (value,)) if value else ("1", ())
        case "has":
            return f"instr({column}, ?) > 0", (value,)
        case _:
            assert_never(test.op)


def key_test(branch: Sequence[Compare]) -> tuple[list[str] | None, Sql | None]:
    """A conjunction of tests on keys as a list of exact keys, or as a text on ``$key``; (None, None) when it never
    holds.
    """
    exact: set[Any] | None = None
    window = Window()
    rest: list[Sql] = []
    for one in branch:
        if one.op in ("=", "in"):
            values = set(one.value if one.op == "in" else (one.value,))  # type: ignore[arg-type]
            exact = values if exact is None else exact & values
        elif not window.add(one):
            rest.append(compare("$key", one))
    if window.empty() or exact == set():
        return None, None
    if exact is not None and len(branch) == 1:
        return sorted(exact), None
    if exact is not None:
        text, arguments = in_list_text(sorted(exact))
        rest.append((f"$key {text}", arguments))
    parts = [(f"$key {operator} ?", (value,)) for operator, value in window.bounds()] + rest
    if not parts:
        return None, ("1", ())
    text, arguments = " AND ".join(part for part, _ in parts), tuple(value for _, values in parts for value in values)
    return None, (text, arguments)


class Window:
    """The tightest bounds that some comparisons of one column leave."""

    def __init__(self) -> None:
        self.low: tuple[Any, bool] | None = None  # value, strict
        self.high: tuple[Any, bool] | None = None

    def add(self, test: Compare) -> bool:
        """Takes a comparison that is a bound; False when it is not one."""
        value = test.value
        match test.op:
            case ">" | ">=":
                self._raise(value, test.op == ">")
            case "<" | "<=":
                self._lower(value, test.op == "<")
            case "=":
                self._raise(value, False)
                self._lower(value, False)
            case "prefix":
                low, high = prefix_bounds(str(value))
                self._raise(low, False)
                if high is not None:
                    self._lower(high, True)
            case _:
                return False
        return True

    def _raise(self, value: Any, strict: bool) -> None:
        if self.low is None or (value, strict) > self.low:
            self.low = (value, strict)

    def _lower(self, value: Any, strict: bool) -> None:
        if self.high is None or (value, not strict) < (self.high[0], not self.high[1]):
            self.high = (value, strict)

    def empty(self) -> bool:
        """Whether no value is within the bounds."""
        if self.low is None or self.high is None:
            return False
        return bool(self.low[0] > self.high[0] or (self.low[0] == self.high[0] and (self.low[1] or self.high[1])))

    def bounds(self) -> list[tuple[str, Any]]:
        """The bounds as operators and values."""
        found = []
        if self.low is not None and self.high is not None and self.low[0] == self.high[0]:
            return [("=", self.low[0])]
        if self.low is not None:
            found.append((">" if self.low[1] else ">=", self.low[0]))
        if self.high is not None:
            found.append(("<" if self.high[1] else "<=", self.high[0]))
        return found


def prefix_bounds(prefix: str) -> tuple[str, str | None]:
    """[low, high) of the texts that begin with `prefix` in order of code points; high None when there is none above."""
    for length in range(len(prefix), 0, -1):
        point = ord(prefix[length - 1])
        if point < 0x10FFFF:
            following = 0xE000 if point == 0xD7FF else point + 1  # surrogates are no characters
            return prefix, prefix[: length - 1] + chr(following)
    return prefix, None


def holds(text: str, op: str, value: Any) -> bool:
    """A comparison of text in memory."""
    match op:
        case "=":
            return bool(text == value)
        case "in":
            return text in value
        case "<":
            return bool(text < value)
        case "<=":
            return bool(text <= value)
        case ">":
            return bool(text > value)
        case ">=":
            return bool(text >= value)
        case _:
            raise ValueError(f"No comparison of a field: {op}")


# --- pieces of SQL ----------------------------------------------------------------------------------------------------


def shift(params: tuple[int, ...], contained: str) -> tuple[int, ...]:
    """Param numbers as documents of this containment carry them."""
    if contained == "no":
        return params
    shifted = tuple(param | CONTAINED for param in params)
    return shifted if contained == "only" else params + shifted


def tids_of(column: str, params: Sequence[int]) -> Sql:
    """`column` is a term of one of `params`."""
    if len(params) == 1:
        return f"{column} BETWEEN ? AND ?", (first_tid(params[0]), last_tid(params[0]))
    return disjunction([(f"{column} BETWEEN ? AND ?", (first_tid(param), last_tid(param))) for param in params])


def carray(numbers: Sequence[int]) -> Any:
    """Integers bound as one value for the table-valued function carray."""
    return apsw.carray(array("q", numbers))


def in_list(numbers: Sequence[int]) -> Sql:
    """The right side of IN; few integers one by one, many as one array."""
    if len(numbers) <= 8:
        return f"({','.join('?' * len(numbers))})", tuple(numbers)
    return "(SELECT value FROM carray(?))", (carray(numbers),)


def in_list_text(values: Sequence[Any]) -> Sql:
    """``IN (...)`` over scalars of any type."""
    values = tuple(values)
    if len(values) > 8:
        bound = apsw.carray(values if isinstance(values[0], str) else array("q", values))
        return "IN (SELECT value FROM carray(?))", (bound,)
    return f"IN ({','.join('?' * len(values))})", values


def conjunction(parts: Sequence[Sql]) -> Sql:
    """All of some expressions."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return "1", ()
    return f"({' AND '.join(text for text, _ in parts)})", tuple(value for _, values in parts for value in values)


def disjunction(parts: Sequence[Sql]) -> Sql:
    """Any of some expressions."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return "0", ()
    # AND binds closer than OR, so the parts need no parentheses of their own
    return f"({' OR '.join(text for text, _ in parts)})", tuple(value for _, values in parts for value in values)


def union(parts: Sequence[Sql]) -> Sql:
    """The rows of all of some statements."""
    if len(parts) == 1:
        return parts[0]
    return " UNION ALL ".join(f"SELECT rid FROM ({text})" for text, _ in parts), tuple(
        v for _, values in parts for v in values
    )
