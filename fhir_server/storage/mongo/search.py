"""Executing a search: one command for the page, one per chain link, one per include level, one for the total.

A page is read in one of these ways, all with the same answer:

    walk     an index holds the order: creation, `updated` descending, the id within one type
    sorted   one `_sort` key over ranges: the index of `o` holds value and tie; documents without a value follow from a
    union computed everything else: the sort values are computed in the pipeline, and the first `count` are kept while
    sorting

A position is (value of each sort key ..., s, address). `s` may be equal for two resources in rare cases; where the
index does not hold the address as well, a page that ends between two such resources costs one more command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from fhir_server import errors
from fhir_server.search.ast import Include, Scalar, Search, Select, SortKey
from fhir_server.storage.mongo import layout
from fhir_server.storage.mongo.compile import (
    NEVER,
    Filter,
    at_least,
    at_most,
    base36,
    both,
    compile_select,
    either,
    entries_between,
    key_prefix,
    one_of,
    prefix_of,
    shifted,
    sort_expression,
    sort_text,
    sort_value,
)
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.protocol import SearchPage

Position = tuple[Scalar | None, ...]
Pipeline = list[dict[str, Any]]


@dataclass(slots=True)
class _Row:
    """One match: the document that is answered, what includes start from, and its position."""

    raw: Raw
    position: Position
    local: str = ""
    source_type: str = ""
    references: list[str] = field(default_factory=list)


class Searcher:
    """Runs one search; `resources` carries the read concern, `session` the transaction if there is one."""

    def __init__(self, resources: Collection[Raw], session: ClientSession | None) -> None:
        self._resources = resources
        self._session = session
        self._limit = 0
        self._recorded: list[dict[str, Any]] | None = None

    def run(self, search: Search) -> SearchPage:
        """Raises: TooCostly."""
        self._limit = search.chain_limit
        found = compile_select(search.select, self)
        page = SearchPage()
        if found == NEVER:
            page.total = 0
            return page
        if search.count <= 0:
            page.total = self._count(found, search)
            return page
        rows = self._page(found, search)
        more = len(rows) > search.count
        del rows[search.count :]
        if more:
            page.next = rows[-1].position
        page.matches = [layout.stored(row.raw) for row in rows]
        if search.select.contained != "no" and not search.containers:
            page.contained = [row.local for row in rows]
        if search.after is None and not more:
            page.total = len(rows)
        elif search.total:
            page.total = self._count(found, search)
        if search.includes and rows:
            self._include(rows, search, page)
        return page

    def commands(self, search: Search) -> list[dict[str, Any]]:
        """The commands of this search in order, for `explain`. Chain links are executed: later commands depend on
        them."""
        self._recorded = []
        self._limit = search.chain_limit
        found = compile_select(search.select, self)
        if found != NEVER:
            if search.count > 0:
                rows = self._page(found, search)[: search.count]
                if search.includes and rows:
                    self._include(rows, search, SearchPage())
            if search.total or search.count <= 0:
                self._count(found, search)
        recorded, self._recorded = self._recorded, None
        return recorded

    # -- commands ------------------------------------------------------------------------------------------------------

    def _find(
        self, condition: Filter, projection: Any, *, limit: int, sort: Sequence[tuple[str, int]] = ()
    ) -> list[Raw]:
        if self._recorded is not None:
            command: dict[str, Any] = {"find": self._resources.name, "filter": condition, "projection": projection}
            if sort:
                command["sort"] = dict(sort)
            self._recorded.append({**command, "limit": limit})
        cursor = self._resources.find(condition, projection, session=self._session, limit=limit, batch_size=limit + 1)
        if sort:
            cursor = cursor.sort(list(sort))
        return list(cursor)

    def _aggregate(self, pipeline: Pipeline, *, size: int) -> list[Raw]:
        if self._recorded is not None:
            self._recorded.append({"aggregate": self._resources.name, "pipeline": pipeline, "cursor": {}})
        return list(self._resources.aggregate(pipeline, session=self._session, batchSize=size + 1))

    def _count(self, found: Filter, search: Search) -> int:
        pipeline: Pipeline = [{"$match": found}]
        if search.containers and search.select.contained != "no":
            pipeline.append({"$group": {"_id": {"$ifNull": ["$container", "$_id"]}}})
        pipeline.append({"$group": {"_id": None, "n": {"$sum": 1}}})
        answer = self._aggregate(pipeline, size=1)
        return int(answer[0]["n"]) if answer else 0

    # -- chains (compile.Links) ----------------------------------------------------------------------------------------

    def linked(self, select: Select) -> list[str]:
        """See compile.Links."""
        condition = compile_select(select, self)
        if condition == NEVER:
            return []
        found = self._find(condition, {"_id": 1}, limit=self._limit + 1)
        self._check_limit(len(found))
        return [raw["_id"] for raw in found]

    def sources(self, select: Select, params: Sequence[int]) -> Iterable[str]:
        """See compile.Links."""
        condition = compile_select(select, self)
        if condition == NEVER or not params:
            return ()
        found = self._aggregate(
            [
                {"$match": condition},
                {"$limit": self._limit + 1},
                {"$project": {"_id": 0, "x": entries_between(params, "$k")}},
            ],
            size=self._limit + 1,
        )
        self._check_limit(len(found))
        return _references(key for raw in found for key in raw.get("x", ()))

    def _check_limit(self, number: int) -> None:
        if number > self._limit:
            raise errors.TooCostly(
                f"A chain of this search selects more than {self._limit} resources at one link; narrow it."
            )

    # -- pages ---------------------------------------------------------------------------------------------------------

    def _page(self, found: Filter, search: Search) -> list[_Row]:
        """At most `count` + 1 rows after `after`."""
        select, sort = search.select, search.sort
        keys = 0 if search.containers and select.contained != "no" else len(sort)
        if search.after is not None and len(search.after) != keys + 2:
            raise ValueError("This position belongs to a search with another order.")
        projection = dict(layout.STORED, s=1)
        starts = _start_params(search.includes, first=True)
        if starts:
            projection["refs"] = entries_between(shifted(starts, select.contained), "$k")
        if select.contained != "no":
            return self._computed(found, search, projection)
        if not sort:
            return self._walk(found, search, projection, ())
        if len(sort) == 1:
            key = sort[0]
            if key.shape == "updated":
                return self._walk(found, search, projection, (("updated", -1 if key.descending else 1),))
            if key.shape == "id" and select.types is not None and len(select.types) == 1:
                return self._by_id(found, search, projection, select.types[0])
            # MongoDB has no $unionWith in transactions.
            if key.shape == "range" and len(key.params) == 1 and self._session is None:
                return self._sorted(found, search, projection, key)
        return self._computed(found, search, projection)

    def _walk(
        self, found: Filter, search: Search, projection: dict[str, Any], leading: Sequence[tuple[str, int]]
    ) -> list[_Row]:
        """Pages in the order of `leading`, then `s`: an index after an equality."""
        order = [*leading, ("s", 1)]
        condition = found
        if search.after is not None:
            condition = both([found, _behind(order, search.after)])

        def row(raw: Raw) -> _Row:
            return _row(raw, (*(raw[name] for name, _ in order), raw["_id"]))

        def tied(last: _Row) -> list[Raw]:
            same = {name: value for (name, _), value in zip(order, last.position, strict=False)}
            return self._find({"$and": [condition, same]}, projection, limit=0)

        raws = self._find(condition, projection, limit=search.count + 1, sort=order)
        return _settled([row(raw) for raw in raws], search.count + 1, tied, row)

    def _by_id(self, found: Filter, search: Search, projection: dict[str, Any], type: str) -> list[_Row]:
        """Within one type the order of ids is that of addresses, which `_id` has."""
        descending = search.sort[0].descending
        bounds: dict[str, Any] = {"$gte": f"{type}/", "$lt": f"{type}0"}  # "0" follows "/"
        if search.after is not None:
            bounds.pop("$lt" if descending else "$gte")
            bounds["$lt" if descending else "$gt"] = search.after[-1]
        condition = both([found, {"_id": bounds}])
        raws = self._find(condition, projection, limit=search.count + 1, sort=[("_id", -1 if descending else 1)])
        return [_row(raw, (raw["id"], raw["s"], raw["_id"])) for raw in raws]

    def _sorted(self, found: Filter, search: Search, projection: dict[str, Any], key: SortKey) -> list[_Row]:
        """Pages in the order of one path of `o`, then the documents that have no value, in order of creation."""
        member = f"o.{base36(key.params[0])}"
        path = member + (".d" if key.descending else ".a")
        size = search.count + 1
        projection = {**projection, "v": "$" + path}
        valued: Filter | None = {path: {"$gt": ""}}
        missing: Filter = {path: {"$exists": False}}
        if search.after is not None:
            value, s, address = search.after
            if value is None:
                valued = None
                missing = both([missing, _behind([("s", 1)], (s, address))])
            else:
                assert isinstance(s, int)
                text = sort_text(value, s, descending=key.descending)
                # Equal texts are equal values with equal `s`; the address then decides.
                bound = {"$gt": "", "$lte": text} if key.descending else {"$gte": text}
                valued = {path: bound, "$nor": [{path: text, "_id": {"$lte": address}}]}
        rest: Pipeline = [
            {"$match": both([found, missing])},
            {"$sort": {"s": 1}},
            {"$limit": size},
            {"$project": projection},
        ]
        if valued is None:
            pipeline = rest
        else:
            pipeline = [
                {"$match": both([found, valued])},
                {"$sort": {path: -1 if key.descending else 1}},
                {"$limit": size},
                {"$project": projection},
                {"$unionWith": {"coll": self._resources.name, "pipeline": rest}},
                {"$limit": size},
            ]

        def row(raw: Raw) -> _Row:
            text = raw.get("v")
            return _row(raw, (None if text is None else sort_value(text), raw["s"], raw["_id"]))

        def tied(last: _Row) -> list[Raw]:
            text = last.raw.get("v")
            if text is None:
                return self._find({"$and": [found, missing, {"s": last.raw["s"]}]}, projection, limit=0)
            return self._find({"$and": [found, valued, {path: text}]}, projection, limit=0)

        rows = [row(raw) for raw in self._aggregate(pipeline, size=size)]
        absent = [one.position[0] is None for one in rows]
        if absent != sorted(absent):
            # mongod runs the parts of a union one after the other, but its documentation leaves the order open.
            return self._computed(found, search, {name: value for name, value in projection.items() if name != "v"})
        return _settled(rows, size, tied, row)

    def _computed(self, found: Filter, search: Search, projection: dict[str, Any]) -> list[_Row]:
        """Pages in any order, for any mode: values are computed, and the best `count` + 1 kept while sorting."""
        mode, size = search.select.contained, search.count + 1
        # Containers come in order of their creation: no one value is theirs to be sorted by.
        sort = () if search.containers and mode != "no" else search.sort
        names = [f"x{j}" for j in range(len(sort))]
        values = {name: sort_expression(key, mode) for name, key in zip(names, sort, strict=True)}
        pipeline: Pipeline = [{"$match": found}]
        if search.containers and mode != "no":
            pipeline.append({"$group": {"_id": {"$ifNull": ["$container", "$_id"]}, "s": {"$min": "$s"}}})
        else:
            pipeline.append({"$project": {**projection, **values, "container": 1}})
        if sort:
            absent = {f"y{name}": {"$cond": [{"$eq": [{"$ifNull": [f"${name}", None]}, None]}, 1, 0]} for name in names}
            pipeline.append({"$addFields": absent})
        prefixes = [key_prefix(key, mode) for key in sort]
        if search.after is not None:
            pipeline.append({"$match": _behind_computed(sort, prefixes, search.after)})
        order: dict[str, int] = {}
        for name, key in zip(names, sort, strict=True):
            order[f"y{name}"] = 1
            order[name] = -1 if key.descending else 1
        pipeline += [{"$sort": {**order, "s": 1, "_id": 1}}, {"$limit": size}]
        if mode != "no":
            kept: dict[str, Any] = dict.fromkeys((*projection, *names, "container"), 1)
            outer: dict[str, Any] = dict(layout.STORED)
            starts = _start_params(search.includes, first=True)
            if search.containers and starts:
                outer["refs"] = entries_between(starts, "$k")
            lookup = {
                "from": self._resources.name,
                "localField": "_id" if search.containers else "container",
                "foreignField": "_id",
                "pipeline": [{"$project": outer}],
                "as": "outer",
            }
            pipeline.append({"$project": kept})
            if self._session is None:
                pipeline.append({"$lookup": lookup})
        raws = self._aggregate(pipeline, size=size)
        if mode != "no" and self._session is not None:
            # Before version 8.0 a sharded cluster has no $lookup in transactions.
            near = [raw["_id"] if search.containers else raw.get("container") for raw in raws]
            wanted = {"_id": {"$in": [address for address in near if address]}}
            by_address = {one["_id"]: one for one in self._find(wanted, outer, limit=len(near) + 1)}
            for raw, address in zip(raws, near, strict=True):
                raw["outer"] = [by_address[address]] if address in by_address else []
        rows = []
        for raw in raws:
            values_of = (_bare(raw.get(name), prefix) for name, prefix in zip(names, prefixes, strict=True))
            position = (*values_of, raw["s"], raw["_id"])
            one = _row(raw, position)
            if mode != "no" and (search.containers or "container" in raw):
                if not raw.get("outer"):
                    continue  # the container was deleted meanwhile
                one.raw = raw["outer"][0]
                if search.containers:
                    one.source_type = one.raw["type"]
                    one.references = one.raw.get("refs") or []
                else:
                    one.local = raw["_id"].partition("#")[2]
            rows.append(one)
        return rows

    # -- includes ------------------------------------------------------------------------------------------------------

    def _include(self, rows: list[_Row], search: Search, page: SearchPage) -> None:
        """Fills `page.includes`, one command per level; a level starts from what the one before it found."""
        selects: dict[Select, Filter] = {}
        for include in search.includes:
            if include.select not in selects:
                selects[include.select] = compile_select(include.select, self)
        seen = {f"{row.raw['type']}/{row.raw['id']}" for row in rows}
        # What was matched, which may be a contained document, is where includes start.
        sources = [(row.source_type, str(row.position[-1]), row.references) for row in rows]
        iterated = tuple(include for include in search.includes if include.iterate)
        projection = dict(layout.STORED, s=1)
        onward = _start_params(search.includes, first=False)
        if onward:
            projection["refs"] = entries_between(onward, "$k")
        for depth in range(1, search.include_depth + 2):
            includes = search.includes if depth == 1 else iterated
            condition = _level(sources, includes, selects, seen)
            if condition == NEVER:
                return
            # The level beyond the last is asked for one document, so that a cut is known to be one.
            room = search.include_limit - len(page.includes) if depth <= search.include_depth else 0
            raws = self._find(condition, projection if room else {"_id": 1}, limit=room + 1)
            if len(raws) > room:
                page.include_truncated = True
                del raws[room:]
            raws.sort(key=lambda raw: (raw["s"], raw["_id"]))
            page.includes.extend(layout.stored(raw) for raw in raws)
            if page.include_truncated or not raws:
                return
            seen.update(raw["_id"] for raw in raws)
            sources = [(raw["type"], raw["_id"], raw.get("refs", [])) for raw in raws]


def _level(
    sources: Sequence[tuple[str, str, list[str]]],
    includes: Sequence[Include],
    selects: dict[Select, Filter],
    seen: set[str],
) -> Filter:
    """The filter of everything that `includes` add to `sources` and that is not in `seen`."""
    targets: dict[Select, set[str]] = {}
    pointing: dict[Select, set[str]] = {}
    for include in includes:
        types = None if include.source is None else set(include.source)
        if include.reverse:
            addresses = [address for type, address, _ in sources if types is None or type in types]
            keys = pointing.setdefault(include.select, set())
            keys.update(
                prefix_of(param) + address
                for param in shifted(include.params, include.select.contained)
                for address in addresses
            )
        else:
            prefixes = tuple(prefix_of(param) for param in shifted(include.params, "both"))
            wanted = targets.setdefault(include.select, set())
            for type, _, references in sources:
                if types is None or type in types:
                    wanted.update(_references(text for text in references if text.startswith(prefixes)))
    branches = []
    for select, wanted in targets.items():
        new = sorted(wanted - seen)
        if new and selects[select] != NEVER:
            branches.append(both([selects[select], {"_id": one_of(new)}]))
    for select, keys in pointing.items():
        if keys and selects[select] != NEVER:
            branches.append({"$and": [selects[select], {"k": one_of(sorted(keys))}, {"_id": {"$nin": sorted(seen)}}]})
    return either(branches)


def _start_params(includes: Sequence[Include], *, first: bool) -> tuple[int, ...]:
    """Params whose entries a document must bring along so that forward includes can start from it."""
    params = [
        param for include in includes if not include.reverse and (first or include.iterate) for param in include.params
    ]
    return tuple(dict.fromkeys(params))


def _references(texts: Iterable[str]) -> Iterator[str]:
    """Keys of stored entries, without their prefix."""
    for text in texts:
        yield text[text.index("\x1d") + 1 :]


def _row(raw: Raw, position: Position) -> _Row:
    return _Row(raw, position, source_type=raw.get("type", ""), references=raw.get("refs") or [])


def _behind(order: Sequence[tuple[str, int]], after: Sequence[Scalar | None]) -> Filter:
    """Documents behind a position: `order` is its fields with their directions, the address follows."""
    alternatives: list[Filter] = []
    equal: Filter = {}
    for (name, direction), value in zip([*order, ("_id", 1)], after, strict=True):
        alternatives.append({**equal, name: {"$gt" if direction > 0 else "$lt": value}})
        equal[name] = value
    first, direction = order[0]
    assert isinstance(after[0], int)
    # The bound on the first field alone is what an index takes; the rest filters.
    return {first: at_least(after[0]) if direction > 0 else at_most(after[0]), "$or": alternatives}


def _behind_computed(sort: Sequence[SortKey], prefixes: Sequence[str], after: Sequence[Scalar | None]) -> Filter:
    """Documents behind a position of `_computed`."""
    alternatives: list[Filter] = []
    equal: Filter = {}
    for j, key in enumerate(sort):
        value = after[j]
        if value is None:
            equal[f"yx{j}"] = 1  # nothing follows a missing value but its ties
            continue
        bound = prefixes[j] + value if isinstance(value, str) else value
        alternatives.append({**equal, f"yx{j}": 1})
        alternatives.append({**equal, f"x{j}": {"$lt" if key.descending else "$gt": bound}})
        equal[f"yx{j}"] = 0
        equal[f"x{j}"] = bound
    alternatives.append({**equal, "s": {"$gt": after[-2]}})
    alternatives.append({**equal, "s": after[-2], "_id": {"$gt": after[-1]}})
    return {"$or": alternatives}


def _bare(value: Any, prefix: str) -> Scalar | None:
    if value is None:
        return None
    bare: Scalar = value[len(prefix) :] if prefix else value
    return bare


def _settled(rows: list[_Row], size: int, tied: Callable[[_Row], list[Raw]], row: Callable[[Raw], _Row]) -> list[_Row]:
    """Puts rows that only their address tells apart in order of it, and completes such a group at the end of a full
    page."""
    if len(rows) == size and size > 1 and rows[-1].position[:-1] == rows[-2].position[:-1]:
        last = rows[-1]
        rows = [one for one in rows if one.position[:-1] != last.position[:-1]]
        rows.extend(row(raw) for raw in tied(last))
    if len({one.position[:-1] for one in rows}) == len(rows):
        return rows
    settled: list[_Row] = []
    for _, group in groupby(rows, key=lambda one: one.position[:-1]):
        settled.extend(sorted(group, key=lambda one: str(one.position[-1])))
    return settled
