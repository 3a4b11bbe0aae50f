"""The search tree as SQL.

Lowering replaces what only the dictionary knows: keys become tids, chains become the tids or rids that they end at (or
stay predicates when they are many), so that what remains compares integers (conditions.py). What a policy adds to every
search is lowered once, into conditions that stay right whatever is committed (`Lasting`).

The text of a statement depends on the shape of the tree only, values are bound: apsw's statement cache is keyed by it.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import apsw

from fhir_server.errors import TooCostly
from fhir_server.search.ast import (
    AllOf,
    And,
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
from fhir_server.storage.sqlite.conditions import (
    ALWAYS,
    NEVER,
    NOWHERE,
    AddressedRows,
    All,
    Any_,
    Branch,
    Condition,
    Document,
    Keys,
    KeyScan,
    LinkFromProbe,
    LinkProbe,
    ListedKeys,
    MarkedKeys,
    MarkedRows,
    Named,
    Negation,
    Never,
    Rids,
    RowTest,
    Spans,
    SpanScan,
    TextKeys,
    Updated,
)
from fhir_server.storage.sqlite.marks import Marks, rows_marked, terms_marked
from fhir_server.storage.sqlite.sqltext import (
    Sql,
    Window,
    carray,
    compare,
    conjunction,
    consistent,
    holds,
    in_list_text,
    key_test,
    shift,
    tids_of,
)
from fhir_server.storage.sqlite.terms import COUNTS_KEPT_S, UNITS, Listed, Terms

LISTED_TERMS = 200
"""More distinct keys than this are not listed in a statement but joined."""
LISTED_LINKS = 1000
"""More documents than this at one link of a chain are not listed but probed one by one."""
BRANCHES = 64
"""Range tests with more alternatives than this are evaluated as written, without index ranges."""
FEW_KEYS = 8
"""Lists of keys up to this long are bound one by one."""
FEW_PARAMS = 8
"""A long list of a policy over more params than this is bound as a list, and not as bits for each."""
LASTING_KEPT = 400
"""Nodes of policies whose conditions a connection keeps."""
PROBED = 200
"""No more documents than this are asked one by one what points at them, while what points could be listed."""
PROBES = 4
"""Asking one document costs as much as listing this many that point."""
MOST_WRITES_PER_S = 50_000
"""More entries of one term than a store can write in a second: bounds how far a remembered count can be off."""


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
            best = where.best() if isinstance(where, All) else where
            distinct = "" if isinstance(best, Keys) and len(best.tids) == 1 else "DISTINCT "
            if not guards:
                return (f"SELECT {distinct}rid FROM ({text})" if distinct else text), arguments
            tests, more = conjunction(guards)
            return f"SELECT {distinct}d.rid AS rid FROM ({text}) d WHERE {tests}", arguments + more
        text, arguments, document = self.walk()
        tests, more = where.predicate(document)
        return f"SELECT d.rid AS rid FROM {text} AND {tests}", arguments + more


# --- lowering ---------------------------------------------------------------------------------------------------------


class Lasting:
    """Conditions of policies, kept for as long as they are asked for; one per connection.

    Only for nodes that are marked (`And.lasting`), each the same object in every search: it is told by its identity,
    and held here so that the identity stays its own.
    """

    def __init__(self, execute: Any, terms: Terms, counts: dict[int, tuple[int, int, float]]) -> None:
        self._compiler = Compiler(execute, terms, counts, 0)
        self._known: OrderedDict[Any, tuple[Node, Condition]] = OrderedDict()

    def condition(self, node: And, contained: str, types: tuple[int, ...] | None, chain_limit: int) -> Condition:
        """The condition of a node, kept if it is lasting. Not for use in a write transaction, whose terms may be rolled
        back.
        """
        key = (id(node), contained, types)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        self._compiler.limit_chains(chain_limit)
        found = self._compiler.lower(node, contained, types)
        if found.lasting:
            self._known[key] = node, found
            if len(self._known) > LASTING_KEPT:
                self._known.popitem(last=False)
        return found


class Compiler:
    """Lowers the trees of one search. Chains are evaluated while lowering, inside the caller's transaction."""

    def __init__(
        self,
        execute: Any,
        terms: Terms,
        counts: dict[int, tuple[int, int, float]],
        chain_limit: int,
        lasting: Lasting | None = None,
    ) -> None:
        """Without `lasting` it is the compiler of Lasting itself."""
        self._execute = execute
        self._terms = terms
        self._counts = counts
        self._chain_limit = chain_limit
        self._lasting = lasting

    def limit_chains(self, limit: int) -> None:
        """How many documents one link of a chain may select from now on."""
        self._chain_limit = limit

    def select(self, select: Select) -> Selection:
        """Raises: TooCostly when a link of a chain selects more documents than the limit."""
        types: tuple[int, ...] | None = None
        if select.types is not None:
            numbers = [self._terms.type_number(name) for name in dict.fromkeys(select.types)]
            types = tuple([number for number in numbers if number is not None])
        return Selection(self.lower(select.where, select.contained, types), types, select.contained)

    def lower(self, node: Node, contained: str, types: tuple[int, ...] | None) -> Condition:
        """The condition of a node within a Select of this containment and these types."""
        if isinstance(node, Exists):
            shifted = node.params if contained == "no" else shift(node.params, contained)
            return self._keys(shifted, node.test) if node.shape == "key" else self._spans(shifted, node.test)
        match node:
            case And(parts):
                if node.lasting and self._lasting is not None and not self._terms.writing:
                    return self._lasting.condition(node, contained, types, self._chain_limit)
                return self._all(self._conjuncts(parts, contained, types))
            case Or(parts):
                return self._any([self.lower(part, contained, types) for part in parts])
            case Not(part):
                inner = self.lower(part, contained, types)
                if inner is ALWAYS:
                    return NOWHERE
                # What does not hold yet may hold later: only for this search it is left out.
                left_out = isinstance(inner, Never) and (inner.lasting or self._lasting is not None)
                return ALWAYS if left_out else Negation(inner)
            case Linked(params, target):
                return self._linked(shift(params, contained), self.select(target))
            case LinkedFrom(params, source):
                return self._linked_from(shift(params, source.contained), self.select(source), contained)
            case Field(name, op, value):
                return self._field(name, op, value, contained, types)
            case _:
                assert_never(node)

    def _conjuncts(self, parts: Sequence[Node], contained: str, types: tuple[int, ...] | None) -> list[Condition]:
        """The conditions of nodes that all hold. Reverse chains come after the others: when those select few documents,
        each one's own references are looked at instead of all that the chain starts from.
        """
        if LinkedFrom not in map(type, parts):
            return [self.lower(part, contained, types) for part in parts]
        lowered = {
            n: self.lower(part, contained, types) for n, part in enumerate(parts) if type(part) is not LinkedFrom
        }
        few = min((one.count(PROBED) for one in lowered.values() if one.driven), default=None)
        for n, part in enumerate(parts):
            if isinstance(part, LinkedFrom):
                params = shift(part.params, part.source.contained)
                lowered[n] = self._linked_from(params, self.select(part.source), contained, few)
        return [lowered[n] for n in range(len(parts))]

    def _any(self, parts: list[Condition]) -> Condition:
        if ALWAYS in parts:
            return ALWAYS
        alternatives = [part for part in parts if not isinstance(part, Never)]
        lasting = all(part.lasting for part in parts)
        if not alternatives:
            return NOWHERE if lasting else NEVER
        if len(alternatives) == 1 and (lasting or not alternatives[0].lasting):
            return alternatives[0]
        return Any_(alternatives, lasting=lasting)

    def _all(self, parts: list[Condition]) -> Condition:
        never = [part for part in parts if isinstance(part, Never)]
        if never:
            return NOWHERE if any(part.lasting for part in never) else NEVER
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
        used, types = self._param_types(params)
        if self._lasting is None and type(test) is Compare and test.column == "key" and test.op in ("=", "in"):
            return self._lasting_keys(params, test, types if len(used) == len(params) else None)
        params = used
        if not params:
            return NEVER
        if type(test) is Compare and test.op == "=" and test.column == "key":
            tids = [tid for param in params if (tid := self._terms.find(param, test.value)) is not None]  # type: ignore[arg-type]
            return Keys(self, tids, types) if tids else NEVER
        if type(test) is Compare and test.op == "in" and test.column == "key" and len(test.value) > FEW_KEYS:  # type: ignore[arg-type]
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

    def _lasting_keys(self, params: tuple[int, ...], test: Compare, types: frozenset[int] | None) -> Condition:
        """A list of keys of a policy. `types` None: not all of the params are used yet."""
        keys: tuple[str, ...] = test.value if test.op == "in" else (test.value,)  # type: ignore[assignment]
        if len(keys) <= FEW_KEYS:
            tids = self._tids(params, keys)
            if types is not None and len(tids) == len(params) * len(keys):
                return Keys(self, tids, types, lasting=True)
            return TextKeys(self, params, keys, types)
        if len(params) <= FEW_PARAMS:
            return MarkedKeys(self, params, keys, types)
        params, known = self._param_types(params)
        listed = self._terms.listed(params, keys)
        return ListedKeys(self, listed, known) if listed.tids else NEVER

    def exactly(self, params: tuple[int, ...], keys: Sequence[str]) -> Condition:
        """Key entries with one of a few keys, as the terms are now."""
        params, types = self._param_types(params)
        tids = self._tids(params, keys)
        return Keys(self, tids, types) if tids else NEVER

    def _tids(self, params: Sequence[int], keys: Sequence[str]) -> list[int]:
        return [tid for param in params for key in keys if (tid := self._terms.find(param, key)) is not None]

    def listed(self, params: tuple[int, ...], keys: tuple[str, ...]) -> Listed:
        """The terms of a long list of keys, as they are now."""
        return self._terms.listed(params, keys)

    def rids(self, addresses: tuple[str, ...]) -> array[int]:
        """The rows of a long list of resources, as they are now."""
        return self._terms.rids(addresses)

    def terms_marked(self, params: Sequence[int], keys: tuple[str, ...]) -> list[Marks]:
        """The bits of a long list of keys, for each of some params."""
        return terms_marked(self._execute, params, keys)

    def rows_marked(self, addresses: tuple[str, ...]) -> Marks:
        """The bits of a long list of resources."""
        return rows_marked(self._execute, addresses)

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
        if isinstance(selection.where, Never):
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

    def _is_more(self, source: Selection, few: int) -> bool:
        """Whether a link begins at more than a few documents, and at no more than a chain may."""
        for part in source.parts:
            if isinstance(part, Keys) and len(part.tids) == 1:
                limit = self._chain_limit + 1
                return few < self.count(part.driver(), limit) < limit
        return False

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

    def _linked_from(
        self, params: tuple[int, ...], source: Selection, contained: str, few: int | None = None
    ) -> Condition:
        """`few`: about how many documents are asked at most."""
        if few is not None and few < PROBED and self._is_more(source, few * PROBES):
            used, _ = self._param_types(params)
            return LinkFromProbe(self, used, source) if used else NEVER
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
        if name == "type" and types is not None:
            named = [number for number in types if holds(self._terms.type_name(number), op, value)]
            if len(named) in (0, len(types)):
                return ALWAYS if named else NOWHERE
            return RowTest("type", [(f"IN ({','.join(map(str, named))})", ())], own=False, lasting=True)
        if name == "type":
            numbers = [number for number, text in self._terms.type_numbers().items() if holds(text, op, value)]
            return RowTest("type", [(f"IN ({','.join(map(str, numbers))})", ())], own=False) if numbers else NEVER
        if contained == "only":  # contained documents have no other field
            return NEVER
        if name in ("id", "address") and op in ("=", "in"):
            if name == "id":
                names = self._terms.type_numbers().values() if types is None else map(self._terms.type_name, types)
                values = [f"{type_name}/{one}" for type_name in names for one in values]
            if contained == "no" and self._lasting is None and (name == "address" or types is not None):
                return MarkedRows(self, tuple(values)) if len(values) > FEW_KEYS else AddressedRows(tuple(values))
            if len(values) > FEW_KEYS and contained == "no":
                rids = self._terms.rids(tuple(values))
                return Named(rids) if rids else NEVER
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
