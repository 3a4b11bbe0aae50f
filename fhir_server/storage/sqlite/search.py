"""Running a search: which condition drives, in which order rows are walked, pages, totals and includes.

Three ways to a page of rids, chosen by counts that stop at a limit:

ordered    one term, or all of a type: its rows lie in order of creation, and the page ends the walk.
collected  the rids of the most selective condition, filtered and sorted; for conditions that select few.
walked     every document, in order of creation or of the sort key, is probed until the page is full; for those that
           select many.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import sqrt
from typing import Any, assert_never

import apsw

from fhir_server.search.ast import And, Compare, Exists, Field, Include, Node, Not, Scalar, Search, Select, SortKey
from fhir_server.storage.protocol import SearchPage
from fhir_server.storage.sqlite.compile import Compiler, Lasting, Selection
from fhir_server.storage.sqlite.conditions import (
    ALWAYS,
    Any_,
    Condition,
    Document,
    Keys,
    ListedKeys,
    MarkedKeys,
    Never,
)
from fhir_server.storage.sqlite.marks import FRESH_S
from fhir_server.storage.sqlite.sqltext import Sql, carray, conjunction, shift, tids_of
from fhir_server.storage.sqlite.terms import Terms, first_tid, last_tid
from fhir_server.storage.sqlite.write import METHODS
from fhir_server.storage.writes import Stored

Position = tuple[Scalar | None, ...]
Counted = tuple[Select, bool, int]

ROW = "r.address, r.version, r.updated, r.method, r.body, r.registry, r.rid"
ONE_TERM = (
    f"SELECT {ROW}, {{permitted}} FROM posting d CROSS JOIN resource r ON r.rid = d.rid "
    "WHERE d.tid = ? AND d.rid > ? ORDER BY d.rid LIMIT ?"
)
PLAIN_TERM = ONE_TERM.format(permitted=1)
ONE_ROW = f"SELECT {ROW}, {{permitted}} FROM resource r INDEXED BY resource_address WHERE r.address = ? AND r.state = 1"
NO_TERM = -1
TEXTS_KEPT = 500
"""Statements with the demands of a policy that are kept for a moment."""
WALKED = 100
"""Entries of a term beyond those of a page that are looked at for permitted ones before another plan is made."""
PROBE_COST = 4.0
"""Cost of probing one document, in units of collecting one rid."""
SORT_STREAMS = 24
"""Sort keys with more index ranges than this are not walked."""
SIZES_KEPT_S = 20.0
TOTALS_KEPT = 1000
"""Counts that are remembered until anything is committed to the store."""


class Searcher:
    """Executes searches on one connection, inside the caller's transaction."""

    def __init__(self, connection: Any, terms: Terms) -> None:
        self._connection = connection
        self._terms = terms
        self._execute = connection.execute
        self._counts: dict[int, tuple[int, int, float]] = {}
        self._sizes: dict[int | None, tuple[int, float]] = {}
        self._lasting = Lasting(connection.execute, terms, self._counts)
        self._texts: dict[tuple[int, str], tuple[float, Condition, Sql]] = {}
        self._totals: dict[Counted, int] = {}
        self._totals_of: tuple[int, int] | None = None

    def quick_page(self, search: Search) -> SearchPage | None:
        """The page of a search for one token, identifier or reference, or for one resource, and nothing else but what a
        policy demands: one statement, and so no transaction.

        None when the search is not of this kind, or when few of many entries are permitted.
        """
        select = search.select
        asked: Node = select.where
        held: And | None = None
        if type(asked) is And and len(asked.parts) == 2:
            asked, last = asked.parts
            if type(last) is not And or not last.lasting:
                return None
            held = last
        if (
            search.sort
            or search.includes
            or search.count <= 0
            or select.contained != "no"
            or select.types is None
            or len(select.types) != 1
        ):
            return None
        permitted: Condition = ALWAYS
        if held is not None:
            number = self._terms.type_number(select.types[0])
            if number is None or self._terms.writing:
                return None
            permitted = self._lasting.condition(held, "no", (number,), search.chain_limit)
            if not permitted.lasting:
                return None
        if type(asked) is Field:
            return self._one_row(search, asked, permitted)
        if (
            type(asked) is not Exists
            or search.total
            or asked.shape != "key"
            or len(asked.params) != 1
            or type(asked.test) is not Compare
            or asked.test.op != "="
        ):
            return None
        return self._one_term(search, asked.params[0], asked.test.value, permitted)  # type: ignore[arg-type]

    def _one_term(self, search: Search, param: int, key: str, permitted: Condition) -> SearchPage | None:
        terms, count, first = self._terms, search.count, search.after is None
        if terms.type_number(search.select.types[0]) != terms.param_type(param):  # type: ignore[index]
            return None
        tid = terms.find(param, key)
        if tid is None:
            if permitted is ALWAYS:
                return SearchPage(total=0 if first else None)
            tid = NO_TERM  # what nobody has takes as long as what is not permitted
        floor = search.after[0] if search.after else 0
        if permitted is ALWAYS:
            rows = self._execute(PLAIN_TERM, (tid, floor, count + 1)).fetchall()
        else:
            text, arguments = self._permitted(permitted, "d.rid", ONE_TERM)
            most = count + 1 + WALKED
            cursor = self._execute(text, (*arguments, tid, floor, most))
            rows, walked = [], 0
            for row in cursor:
                walked += 1  # noqa: SIM113 - counted after the loop
                if row[7]:
                    rows.append(row)
                    if len(rows) > count:
                        cursor.close()
                        break
            else:
                if walked == most:
                    return None
        page = SearchPage()
        if len(rows) > count:
            rows.pop()
            page.next = (rows[-1][6],)
        elif first:
            page.total = len(rows)
        page.matches = [stored(row) for row in rows]
        return page

    def _one_row(self, search: Search, asked: Field, permitted: Condition) -> SearchPage | None:
        if asked.op != "=" or search.after is not None or asked.name not in ("id", "address"):
            return None
        kind = search.select.types[0]  # type: ignore[index]
        address = str(asked.value) if asked.name == "address" else f"{kind}/{asked.value}"
        row = None
        if address.startswith(f"{kind}/"):
            text, arguments = self._permitted(permitted, "r.rid", ONE_ROW)
            row = self._execute(text, (*arguments, address)).get
        return SearchPage(matches=[stored(row)], total=1) if row is not None and row[7] else SearchPage(total=0)

    def _permitted(self, permitted: Condition, rid: str, statement: str) -> Sql:
        """A statement with what a policy demands in its place, and the arguments of that; kept for a moment."""
        key = (id(permitted), rid)
        known = self._texts.get(key)
        now = time.monotonic()
        if known is None or now >= known[0]:
            text, arguments = permitted.predicate(Document(rid, "r", 0))
            if len(self._texts) >= TEXTS_KEPT:
                self._texts.clear()
            known = self._texts[key] = now + FRESH_S, permitted, (statement.format(permitted=text), arguments)
        return known[2]

    def page(self, search: Search) -> SearchPage:
        """See Reader.search."""
        if search.count == 0 and (total := self._totals_now().get(_counted(search))) is not None:
            return SearchPage(total=total)
        compiler = Compiler(self._execute, self._terms, self._counts, search.chain_limit, self._lasting)
        selection = compiler.select(search.select)
        page = SearchPage()
        if search.count > 0 and not isinstance(selection.where, Never):
            if selection.contained != "no":
                found = self._contained_page(compiler, selection, search, page)
            elif search.sort:
                found = self._sorted_page(compiler, selection, search, page)
            else:
                found = self._unsorted_page(selection, search, page)
            if search.includes and found:
                self._include(compiler, search, page, found)
        if search.after is None and search.count > 0 and page.next is None:
            page.total = len(page.matches)
        elif search.total or search.count == 0:
            totals, counted = self._totals_now(), _counted(search)
            page.total = totals.get(counted)
            if page.total is None:
                page.total = totals[counted] = self._total(selection, search)
        return page

    def _totals_now(self) -> dict[Counted, int]:
        """What was counted since anything was committed to the store; what is not committed is not remembered."""
        if self._terms.writing:
            return {}
        # The first number changes with commits of other connections, the second with our own writes.
        state = self._execute("PRAGMA data_version").get, self._execute("SELECT total_changes()").get
        if state != self._totals_of or len(self._totals) >= TOTALS_KEPT:
            self._totals_of, self._totals = state, {}
        return self._totals

    def explain(self, search: Search) -> list[dict[str, Any]]:
        """Runs the search and answers each statement that it took, with SQLite's plan and the rows it gave."""
        recorded: list[tuple[str, int]] = []
        plain = self._connection.execute

        def record(text: str, arguments: Sequence[Any] = ()) -> apsw.Cursor:
            recorded.append((text, len(arguments)))
            return plain(text, arguments)

        self._execute = record
        try:
            self.page(search)
        finally:
            self._execute = plain
        answer = []
        for text, arguments in recorded:
            # A plan does not depend on the arguments: there is no ANALYZE, and carray needs none to be planned.
            plan = plain(f"EXPLAIN QUERY PLAN {text}", (None,) * arguments).fetchall()
            answer.append({"statement": text, "plan": [detail for *_, detail in plan]})
        return answer

    # -- sizes ---------------------------------------------------------------------------------------------------------

    def _size(self, type_number: int | None) -> int:
        """About how many documents of a type (None: at all) there are; for the choice of plans only."""
        known = self._sizes.get(type_number)
        now = time.monotonic()
        if known is None or now > known[1]:
            if type_number is None:
                size = self._execute("SELECT ifnull(max(rid), 0) FROM resource").get
            else:
                size = self._execute("SELECT count(*) FROM resource WHERE type = ? AND state = 1", (type_number,)).get
            known = (int(size), now + SIZES_KEPT_S)
            self._sizes[type_number] = known
        return known[0]

    def _universe(self, selection: Selection) -> int:
        if selection.types is None:
            return self._size(None)
        return sum(map(self._size, selection.types))

    def _best(self, selection: Selection, limit: int) -> tuple[Condition | None, int]:
        """The conjunct that selects least and how much that is, when it is below `limit`; else (None, limit)."""
        best: Condition | None = None
        least = limit
        for part in selection.parts:
            if part.driven:
                count = part.count(least)
                if count < least:
                    best, least = part, count
        return best, least

    # -- pages in order of creation ------------------------------------------------------------------------------------

    def _unsorted_page(self, selection: Selection, search: Search, page: SearchPage) -> list[int]:
        floor = int(search.after[0]) if search.after else 0  # type: ignore[arg-type]
        rows = self._rows_by_rid(selection, floor, search.count + 1)
        if len(rows) > search.count:
            rows.pop()
            page.next = (rows[-1][6],)
        page.matches = [stored(row) for row in rows]
        return [row[6] for row in rows]

    def _rows_by_rid(self, selection: Selection, floor: int, limit: int) -> list[tuple[Any, ...]]:
        """Resource rows above rid `floor`, in order of rid."""
        parts = selection.parts
        driver: Condition | None = None
        if len(parts) == 1 and isinstance(parts[0], Keys) and len(parts[0].tids) == 1:
            driver = parts[0]
        elif parts:
            # Collecting m rids costs m; walking n documents of which m match costs about limit * n / m probes.
            most = int(sqrt(limit * PROBE_COST * (self._size(None) + 1))) + 200
            asked = [part for part in parts if not part.lasting] if len(parts) > 1 else parts
            only = asked[0] if len(asked) == 1 else None
            if (
                only is not None
                and only.driven
                and not (isinstance(only, Keys) and len(only.tids) == 1)
                # How much a long list or alternatives select is remembered, and need not be collected to be known.
                and (not isinstance(only, (ListedKeys, MarkedKeys, Any_)) or only.count(most) < most)
            ):
                text, arguments = only.driver()
                collected = self._execute(f"{text} LIMIT ?", (*arguments, most)).fetchall()
                if len(collected) < most:
                    document = Document("r.rid", "r", 0)
                    tested = [part.predicate(document) for part in parts if part is not only]
                    return self._rows_of(collected, floor, limit, tested + selection.guards(document))
            if only is None or len(parts) > 1:
                driver, _ = self._best(selection, most)
            if driver is None:
                ordered = [part for part in parts if isinstance(part, Keys) and len(part.tids) == 1]
                if ordered:
                    driver = min(ordered, key=lambda part: part.count(50_000)) if len(ordered) > 1 else ordered[0]
        document = Document("d.rid", None, 0)
        if driver is None:
            walk, arguments, document = selection.walk()
            tests, more = conjunction([selection.where.predicate(document)])
            if selection.types is not None and len(selection.types) > 1:
                walk = walk.replace("resource d INDEXED BY resource_kind", "resource d NOT INDEXED")
            return self._execute(
                f"SELECT {ROW.replace('r.', 'd.')} FROM {walk} AND d.rid > ? AND {tests} ORDER BY d.rid LIMIT ?",
                (*arguments, floor, *more, limit),
            ).fetchall()
        rest = [part for part in parts if part is not driver]
        if isinstance(driver, Keys) and len(driver.tids) == 1:
            document = Document("d.rid", "r", 0)
            tests, more = conjunction([part.predicate(document) for part in rest] + selection.guards(document))
            return self._execute(
                f"SELECT {ROW} FROM posting d CROSS JOIN resource r ON r.rid = d.rid "
                f"WHERE d.tid = ? AND d.rid > ? AND {tests} ORDER BY d.rid LIMIT ?",
                (driver.tids[0], floor, *more, limit),
            ).fetchall()
        text, arguments = driver.driver()
        guards = [part.predicate(document) for part in rest] + selection.guards(document)
        if guards:
            tests, more = conjunction(guards)
            text, arguments = f"SELECT d.rid FROM ({text}) d WHERE {tests}", arguments + more
        return self._rows_of(self._execute(text, arguments).fetchall(), floor, limit)

    def _rows_of(
        self, collected: list[tuple[int]], floor: int, limit: int, tests: Sequence[Sql] = ()
    ) -> list[tuple[Any, ...]]:
        """The resource rows of some rids above `floor` that pass some tests, in order of rid, each once."""
        rids = sorted({rid for (rid,) in collected if rid > floor})
        if not rids:
            return []
        if tests:
            text, arguments = conjunction(tests)
            return self._execute(
                f"SELECT {ROW} FROM carray(?) x CROSS JOIN resource r ON r.rid = x.value WHERE {text} LIMIT ?",
                (carray(rids), *arguments, limit),
            ).fetchall()
        rids = rids[:limit]
        # carray is read in its order
        return self._execute(
            f"SELECT {ROW} FROM carray(?) x CROSS JOIN resource r ON r.rid = x.value", (carray(rids),)
        ).fetchall()

    # -- totals --------------------------------------------------------------------------------------------------------

    def _total(self, selection: Selection, search: Search) -> int:
        if isinstance(selection.where, Never):
            return 0
        text, arguments = self._source(selection)
        if search.containers and selection.contained != "no":
            return int(
                self._execute(
                    f"SELECT count(DISTINCT ifnull(r.container, r.rid)) FROM ({text}) x CROSS JOIN resource r "
                    f"ON r.rid = x.rid",
                    arguments,
                ).get
            )
        return int(self._execute(f"SELECT count(*) FROM ({text})", arguments).get)

    def _source(self, selection: Selection) -> Sql:
        """A SELECT of the selected rids, each once, driven by the most selective conjunct."""
        parts = selection.parts
        driven = [part for part in parts if part.driven]
        if not driven:
            walk, arguments, document = selection.walk()
            tests, more = selection.where.predicate(document)
            return f"SELECT d.rid AS rid FROM {walk} AND {tests}", arguments + more
        driver = driven[0]
        if len(driven) > 1:
            driver = self._best(selection, self._size(None) + 1)[0] or driver
        document = Document("d.rid", None, 0)
        rest, more = conjunction(
            [part.predicate(document) for part in parts if part is not driver] + selection.guards(document)
        )
        text, arguments = driver.driver()
        if isinstance(driver, Keys) and len(driver.tids) == 1:
            return f"SELECT d.rid AS rid FROM posting d WHERE d.tid = ? AND {rest}", arguments + more
        return f"SELECT DISTINCT d.rid AS rid FROM ({text}) d WHERE {rest}", arguments + more

    # -- sorted pages --------------------------------------------------------------------------------------------------

    def _sorted_page(self, compiler: Compiler, selection: Selection, search: Search, page: SearchPage) -> list[int]:
        limit = search.count + 1
        found = self._walk_sorted(compiler, selection, search, limit)
        if found is None:
            found = self._collect_sorted(selection, search.sort, search.after, limit)
        if len(found) > search.count:
            found = found[: search.count]
            *values, rid = found[-1]
            page.next = (*values, rid)
        rids = [row[-1] for row in found]
        rows = self._rows(rids)
        page.matches = [stored(rows[rid]) for rid in rids]
        return rids

    def _collect_sorted(
        self, selection: Selection, sort: Sequence[SortKey], after: Position | None, limit: int
    ) -> list[tuple[Any, ...]]:
        """Rows (value of each sort key, rid) in order, from all matches."""
        source, arguments = self._source(selection)
        columns, values = sort_columns(sort, selection.contained, Document("m.rid", None, 0))
        names = [f"v{index}" for index in range(len(sort))]
        where, bounds = "1", ()
        if after is not None:
            where, bounds = beyond(sort, names, after)
        order = "".join(
            f"{name} IS NULL, {name}{' DESC' if key.descending else ''}, "
            for name, key in zip(names, sort, strict=True)
        )
        return self._execute(
            f"SELECT {', '.join(names)}, rid FROM (SELECT "
            f"{', '.join(f'{text} AS {name}' for text, name in zip(columns, names, strict=True))}, "
            f"m.rid AS rid FROM ({source}) m LIMIT -1) WHERE {where} ORDER BY {order}rid LIMIT ?",
            (*values, *arguments, *bounds, limit),
        ).fetchall()

    def _walk_sorted(
        self, compiler: Compiler, selection: Selection, search: Search, limit: int
    ) -> list[tuple[Any, ...]] | None:
        """Rows (value, rid) by walking the index of the only sort key; None when collecting all matches is cheaper."""
        if len(search.sort) > 1:
            return None
        key, after = search.sort[0], search.after
        universe = self._universe(selection)
        # Walking probes limit * universe / matches documents, mostly in pages at hand; collecting looks up the value of
        # every match where its resource lies, which is dearer.
        cost = 1.0 if any(isinstance(part, (ListedKeys, MarkedKeys, Any_)) for part in selection.parts) else PROBE_COST
        most = max(200, int(sqrt(limit * universe / cost)))
        best, matches = self._best(selection, max(most * 16, 2000))
        if best is not None and matches < most:
            return None
        budget = None if best is None else max(1000, 6 * matches)
        found: list[tuple[Any, ...]] = []
        if after is None or after[0] is not None:
            streams = self._streams(selection, key, after)
            if streams is None:
                return None
            document = Document("d.rid", None, 0)
            tests, more = selection.predicate(document)
            chosen, only = first_value(key, selection.contained)
            for text, arguments, value, order in streams:
                entry = {"range": ", d.tid AS tid, d.n AS n", "key": ", d.tid AS tid"}.get(key.shape, "")
                walked = f"SELECT {value} AS value, d.rid AS rid{entry} FROM {text} ORDER BY {order}"
                # CASE keeps the order: whether it is the document's first value is asked of matches only.
                rows = self._execute(
                    f"SELECT d.value, d.rid FROM ({walked} LIMIT ?) d WHERE CASE WHEN {tests} THEN {chosen} "
                    f"ELSE 0 END LIMIT ?",
                    (*arguments, -1 if budget is None else budget, *more, *only, limit),
                ).fetchall()
                if (
                    budget is not None
                    and len(rows) < limit
                    and self._execute(f"SELECT count(*) FROM ({walked} LIMIT ?)", (*arguments, budget)).get >= budget
                ):
                    return None  # the matches do not lie where the walk began
                found.extend(rows)
            found.sort(key=lambda row: row[1])
            found.sort(key=lambda row: row[0], reverse=key.descending)
        if len(found) < limit and key.shape in ("key", "range"):
            floor = int(after[1]) if after is not None and after[0] is None else 0  # type: ignore[arg-type]
            missing = compiler.lower(Not(Exists(key.params, key.shape, key.test)), selection.contained, selection.types)
            if not isinstance(missing, Never):
                parts = [*selection.parts, *([] if missing is ALWAYS else [missing])]
                where = parts[0] if len(parts) == 1 else compiler._all(parts)
                rest = Selection(where, selection.types, selection.contained)
                found.extend((None, row[6]) for row in self._rows_by_rid(rest, floor, limit - len(found)))
        return found[:limit]

    def _streams(
        self, selection: Selection, key: SortKey, after: Position | None
    ) -> list[tuple[str, tuple[Any, ...], str, str]] | None:
        """FROM ... WHERE texts that yield documents in order of the sort key, with the value's column and the ORDER
        BY.
        """
        down = " DESC" if key.descending else ""
        params = shift(key.params, selection.contained)

        def beyond_last(column: str, rid: str = "d.rid") -> Sql:
            if after is None:
                return "1", ()
            value, last = after
            operator = "<" if key.descending else ">"
            return f"{column} {operator}= ? AND ({column} {operator} ? OR {rid} > ?)", (value, value, last)

        match key.shape:
            case "range":
                column, index = ("high", "span_high") if key.descending else ("low", "span_low")
                tids = [
                    tid
                    for param in params
                    for (tid,) in self._execute(
                        "SELECT tid FROM term WHERE tid BETWEEN ? AND ? LIMIT ?",
                        (first_tid(param), last_tid(param), SORT_STREAMS + 1),
                    )
                ]
                if len(tids) > SORT_STREAMS:
                    return None
                where, more = beyond_last(f"d.{column}")
                return [
                    (
                        f"span d INDEXED BY {index} WHERE d.tid = ? AND {where}",
                        (tid, *more),
                        f"d.{column}",
                        f"d.{column}{down}, d.rid",
                    )
                    for tid in tids
                ]
            case "key":
                if len(params) > SORT_STREAMS:
                    return None
                where, more = beyond_last("t.key")
                begins, bounds = beginning(key.prefix)
                return [
                    (
                        f"term t INDEXED BY term_key CROSS JOIN posting d ON d.tid = t.tid WHERE t.param = ? "
                        f"AND {where}{begins}",
                        (param, *more, *bounds),
                        "t.key",
                        f"t.key{down}, d.rid",
                    )
                    for param in params
                ]
            case "updated" | "id":
                types = selection.types if selection.types is not None else tuple(self._terms.type_numbers())
                if len(types) > SORT_STREAMS:
                    return None
                if key.shape == "updated":
                    where, more = beyond_last("d.updated")
                    return [
                        (
                            f"resource d INDEXED BY resource_updated WHERE d.type = ? AND d.state = 1 AND {where}",
                            (number, *more),
                            "d.updated",
                            f"d.updated{down}, d.rid",
                        )
                        for number in types
                    ]
                streams = []
                for number in types:
                    name = self._terms.type_name(number)
                    low, high = f"{name}/", f"{name}0"
                    bound, more = "d.address > ? AND d.address < ?", (low, high)
                    if after is not None:
                        operator = "<" if key.descending else ">"
                        bound += f" AND d.address {operator}= ? AND (d.address {operator} ? OR d.rid > ?)"
                        last = f"{name}/{after[0]}"
                        more = (low, high, last, last, after[1])
                    streams.append(
                        (
                            f"resource d INDEXED BY resource_address WHERE {bound} AND d.state = 1",
                            more,
                            f"substr(d.address, {len(name) + 2})",
                            f"d.address{down}, d.rid",
                        )
                    )
                return streams
            case _:
                assert_never(key.shape)

    # -- contained resources -------------------------------------------------------------------------------------------

    def _contained_page(self, compiler: Compiler, selection: Selection, search: Search, page: SearchPage) -> list[int]:
        """Pages of a Select over contained documents: ordered by container, then by address.

        Containers come in order of their creation: no one value is theirs to be sorted by.
        """
        source, arguments = self._source(selection)
        limit = search.count + 1
        after = search.after
        if search.containers:
            rows = self._execute(
                f"SELECT DISTINCT ifnull(r.container, r.rid) AS root FROM ({source}) x CROSS JOIN resource r ON "
                f"r.rid = x.rid "
                "WHERE root > ? ORDER BY root LIMIT ?",
                (*arguments, after[0] if after else 0, limit),
            ).fetchall()
            if len(rows) > search.count:
                rows.pop()
                page.next = rows[-1]
            found = [root for (root,) in rows]
            bodies = self._rows(found)
            page.matches = [stored(bodies[root]) for root in found]
            return found
        columns, values = sort_columns(search.sort, selection.contained, Document("m.rid", None, 0))
        names = [f"v{index}" for index in range(len(search.sort))]
        where, bounds = "1", tuple[Any, ...]()
        if after is not None:
            where, bounds = beyond(search.sort, names, after[:-1], last="root")
            same = " AND ".join([*(f"{name} IS ?" for name in names), "root = ?", "address > ?"])
            where, bounds = f"({where} OR ({same}))", (*bounds, *after)
        order = "".join(
            f"{name} IS NULL, {name}{' DESC' if key.descending else ''}, "
            for name, key in zip(names, search.sort, strict=True)
        )
        valued = "".join(f"{text} AS {name}, " for text, name in zip(columns, names, strict=True))
        rows = self._execute(
            f"SELECT {''.join(f'{name}, ' for name in names)}root, address, rid FROM (SELECT "
            f"{valued}ifnull(r.container, r.rid) AS root, "
            f"m.rid AS rid, r.address AS address FROM ({source}) m CROSS JOIN resource r ON r.rid = m.rid LIMIT -1) "
            f"WHERE {where} ORDER BY {order}root, address LIMIT ?",
            (*values, *arguments, *bounds, limit),
        ).fetchall()
        if len(rows) > search.count:
            rows.pop()
            page.next = rows[-1][:-1]
        bodies = self._rows([row[-3] for row in rows])
        page.matches = [stored(bodies[row[-3]]) for row in rows]
        page.contained = [row[-2].partition("#")[2] for row in rows]
        return [row[-1] for row in rows]

    # -- includes ------------------------------------------------------------------------------------------------------

    def _include(self, compiler: Compiler, search: Search, page: SearchPage, found: list[int]) -> None:
        """Fills `page.includes` level by level."""
        groups = grouped(search.includes)
        selections: dict[int, Selection] = {}
        contained = search.select.contained if not search.containers else "no"
        matched = {one.address for one in page.matches}
        if contained != "no":
            found = list(dict.fromkeys(found))
        seen = set(found)
        frontier = found
        for level in range(search.include_depth + 1):
            reached: dict[int, tuple[Any, ...]] = {}
            for number, include in enumerate(groups):
                if level and not include.iterate:
                    continue
                selection = selections.get(number)
                if selection is None:
                    selection = selections[number] = compiler.select(include.select)
                if isinstance(selection.where, Never):
                    continue
                # One more than fits tells that something was cut.
                room = search.include_limit - len(page.includes) - len(reached) + 1
                text, arguments = self._included(
                    include, selection, frontier, contained if level == 0 else "no", seen | reached.keys()
                )
                if text:
                    for row in self._execute(f"{text} LIMIT ?", (*arguments, room)):
                        if row[0] not in matched:
                            reached[row[6]] = row
            if reached and level == search.include_depth:
                page.include_truncated = True
                return
            for rid, row in reached.items():
                if len(page.includes) >= search.include_limit:
                    page.include_truncated = True
                    return
                page.includes.append(stored(row))
                seen.add(rid)
            frontier = list(reached)
            if not frontier or not any(include.iterate for include in groups):
                return

    def _included(
        self, include: Include, selection: Selection, frontier: list[int], contained: str, seen: set[int]
    ) -> Sql:
        """Rows that one include adds to a level, in order of creation, without those seen before."""
        document = Document("r.rid", "r", 0)
        tests, more = selection.predicate(document)
        unseen = "r.rid NOT IN (SELECT value FROM carray(?))"
        if include.reverse:
            # The entries of the including documents are those of their own Select.
            params = shift(include.params, selection.contained)
            source, sources = self._source_types(include, "s")
            if source is None:
                return "", ()
            return (
                f"SELECT {ROW} FROM (SELECT DISTINCT p.rid AS rid FROM carray(?) x CROSS JOIN resource s ON "
                f"s.rid = x.value{source} "
                f"CROSS JOIN term t INDEXED BY term_key ON t.param IN ({','.join('?' * len(params))}) AND t.key "
                f"= s.address "
                f"CROSS JOIN posting p ON p.tid = t.tid ORDER BY 1) i CROSS JOIN resource r ON r.rid = i.rid "
                f"WHERE {unseen} AND {tests}",
                (carray(frontier), *sources, *params, carray(list(seen)), *more),
            )
        params = shift(include.params, contained)
        where, arguments = tids_of("p.tid", params)
        source, sources = self._source_types(include, "s")
        if source is None:
            return "", ()
        join = f"CROSS JOIN resource s ON s.rid = x.value{source} " if source else ""
        return (
            f"SELECT {ROW} FROM (SELECT DISTINCT p.tid AS tid FROM carray(?) x {join}"
            f"CROSS JOIN posting p INDEXED BY posting_rid ON p.rid = x.value AND {where}) l "
            "CROSS JOIN term t ON t.tid = l.tid CROSS JOIN resource r INDEXED BY resource_address ON r.address = t.key "
            f"WHERE {unseen} AND {tests}",
            (carray(frontier), *sources, *arguments, carray(list(seen)), *more),
        )

    def _source_types(self, include: Include, alias: str) -> tuple[str | None, tuple[Any, ...]]:
        """The restriction of an include's source types as a join condition; None when no such type is stored."""
        if include.source is None:
            return "", ()
        numbers = [number for number in map(self._terms.type_number, include.source) if number is not None]
        if not numbers:
            return None, ()
        if not include.reverse and all(self._terms.param_type(param) in (None, *numbers) for param in include.params):
            return "", ()  # only documents of these types have such entries
        return f" AND {alias}.type IN ({','.join('?' * len(numbers))})", tuple(numbers)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _rows(self, rids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """Resource rows by rid."""
        if not rids:
            return {}
        found = self._execute(
            f"SELECT {ROW} FROM carray(?) x CROSS JOIN resource r ON r.rid = x.value", (carray(rids),)
        )
        return {row[6]: row for row in found}


def _counted(search: Search) -> Counted:
    """What a total depends on, besides the store."""
    return search.select, search.containers, search.chain_limit


def stored(row: tuple[Any, ...]) -> Stored:
    """A resource row as a Stored."""
    address, version, updated, method, body, registry = row[:6]
    type, _, id = address.partition("/")
    return Stored(type, id, version, updated, METHODS[method], body, registry)


def grouped(includes: Sequence[Include]) -> list[Include]:
    """Includes that differ only in their params as one: ``_include=*`` is one statement a level."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for one in includes:
        found.setdefault((one.source, one.select, one.reverse, one.iterate), []).extend(one.params)
    return [
        Include(source, tuple(dict.fromkeys(params)), select, reverse, iterate)
        for (source, select, reverse, iterate), params in found.items()
    ]


def sort_columns(sort: Sequence[SortKey], contained: str, document: Document) -> tuple[list[str], tuple[Any, ...]]:
    """One scalar expression per sort key: the value that a document is sorted by, NULL when it has none."""
    columns: list[str] = []
    arguments: list[Any] = []
    for key in sort:
        text, values = sort_value(key, contained, document)
        columns.append(text)
        arguments.extend(values)
    return columns, tuple(arguments)


def sort_value(key: SortKey, contained: str, document: Document) -> Sql:
    """See sort_columns."""
    best = "max" if key.descending else "min"
    match key.shape:
        case "key":
            where, arguments = tids_of("p.tid", shift(key.params, contained))
            begins, bounds = beginning(key.prefix)
            return (
                f"(SELECT {best}(t.key) FROM posting p INDEXED BY posting_rid CROSS JOIN term t ON t.tid = p.tid "
                f"WHERE p.rid = {document.rid} AND {where}{begins})"
            ), (*arguments, *bounds)
        case "range":
            where, arguments = tids_of("s.tid", shift(key.params, contained))
            column = "high" if key.descending else "low"
            return f"(SELECT {best}(+s.{column}) FROM span s WHERE s.rid = {document.rid} AND {where})", arguments
        case "updated" | "id":
            # Contained documents have neither (ast.py, Field).
            value = "updated" if key.shape == "updated" else "substr(address, instr(address, '/') + 1)"
            return f"(SELECT {value} FROM resource WHERE rid = {document.rid} AND state = 1)", ()
        case _:
            assert_never(key.shape)


def beginning(prefix: str) -> Sql:
    """Keys that begin with a prefix (ASCII), as one more condition; nothing for an empty one."""
    if not prefix:
        return "", ()
    return " AND t.key >= ? AND t.key < ?", (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


def first_value(key: SortKey, contained: str) -> Sql:
    """A walk meets a document once per entry: true for the entry it is sorted by."""
    down = " DESC" if key.descending else ""
    match key.shape:
        case "key":
            where, arguments = tids_of("p.tid", shift(key.params, contained))
            begins, bounds = beginning(key.prefix)
            return (
                f"d.tid = (SELECT p.tid FROM posting p INDEXED BY posting_rid CROSS JOIN term t ON t.tid = p.tid "
                f"WHERE p.rid = d.rid AND {where}{begins} ORDER BY t.key{down}, p.tid LIMIT 1)"
            ), (*arguments, *bounds)
        case "range":
            where, arguments = tids_of("s.tid", shift(key.params, contained))
            column = "high" if key.descending else "low"
            return (
                f"(d.tid, d.n) = (SELECT s.tid, s.n FROM span s WHERE s.rid = d.rid AND {where} "
                f"ORDER BY +s.{column}{down}, s.tid, s.n LIMIT 1)"
            ), arguments
        case "updated" | "id":
            return "1", ()
        case _:
            assert_never(key.shape)


def beyond(sort: Sequence[SortKey], names: Sequence[str], after: Position, last: str = "rid") -> Sql:
    """Rows that come after a position: its values, then `last`. Missing values come last."""
    alternatives: list[str] = []
    arguments: list[Any] = []
    equal: list[str] = []
    values: list[Any] = []
    for name, key, value in zip(names, sort, after, strict=False):
        if value is not None:
            operator = "<" if key.descending else ">"
            alternatives.append(" AND ".join([*equal, f"({name} {operator} ? OR {name} IS NULL)"]))
            arguments.extend([*values, value])
        equal.append(f"{name} IS ?")
        values.append(value)
    alternatives.append(" AND ".join([*equal, f"{last} > ?"]))
    arguments.extend([*values, after[len(sort)]])
    return f"({' OR '.join(alternatives)})", tuple(arguments)
