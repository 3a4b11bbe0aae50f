"""storage/mongo/compile.py: every filter binds the leading field of a declared index, and says what the tree says.

A server that proves plans is not always there; that a filter CAN be answered from an index is proven here, over all
shapes, operators and combinations.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from fhir_server.errors import TooCostly
from fhir_server.search.ast import (
    ANY,
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
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.storage.mongo import indexes
from fhir_server.storage.mongo.compile import (
    ALWAYS,
    NEVER,
    base36,
    compile_node,
    compile_select,
    end_of,
    passes,
    prefix_of,
    sort_text,
    sort_value,
    successor,
)
from fhir_server.storage.mongo.search import Searcher

LEADING = indexes.leading(indexes.RESOURCES)
OPERATORS = ("=", "<", "<=", ">", ">=", "in", "prefix", "ends", "has")
TEXT, NUMBER = "chalmers", 315_532_800_000_000


class NoLinks:
    """Chains that always find the same two documents."""

    def linked(self, select: Select) -> Sequence[str]:
        compile_select(select, self)
        return ["Patient/1", "Patient/2"]

    def sources(self, select: Select, params: Sequence[int]) -> Iterable[str]:
        compile_select(select, self)
        return ["Patient/1", "http://elsewhere.example/Patient/9", "Patient/2"]


LINKS = NoLinks()


def filter_of(node: Node, types: tuple[str, ...] | None = None, contained: Any = "no") -> dict[str, Any]:
    return compile_select(Select(types, node, contained), LINKS)


# --- the checker ------------------------------------------------------------------------------------------------------


def is_bound(condition: Any) -> bool:
    """A condition on one field is an equality or an interval: a part of an index."""
    if not isinstance(condition, dict):
        return True
    if "$elemMatch" in condition:
        return is_bound(condition["$elemMatch"])
    return any(operator in condition for operator in ("$in", "$eq", "$gt", "$gte", "$lt", "$lte"))


def bound_indexes(condition: dict[str, Any]) -> set[str]:
    """Names of indexes whose leading field every document that passes is found by; empty means a scan of the
    collection."""
    found: set[str] = set()
    for name, part in condition.items():
        if name == "$and":
            for one in part:
                found |= bound_indexes(one)
        elif name == "$or":
            branches = [bound_indexes(one) for one in part]
            if branches and all(branches):
                found |= set().union(*branches)
        elif name == "r":
            if is_bound(part["$elemMatch"].get("k", {})):
                found.add("range")
        elif name in LEADING and is_bound(part):
            found.add(LEADING[name])
        elif name.startswith("o.") and is_bound(part):
            found.add("sort")
    return found


# --- what there is to compile -----------------------------------------------------------------------------------------


def comparisons(columns: Sequence[str], text: bool) -> Iterator[Compare]:
    """Every operator on every column."""
    for column, operator in itertools.product(columns, OPERATORS):
        value: Any = TEXT if text or column in ("key", "unit") else NUMBER
        if operator in ("prefix", "ends", "has") and not isinstance(value, str):
            continue
        yield Compare(column, operator, (value, value * 2) if operator == "in" else value)  # type: ignore[arg-type]


def entry_tests(columns: Sequence[str], text: bool) -> Iterator[Test]:
    """Single comparisons, all pairs of them both ways, and a few nested ones."""
    single = list(comparisons(columns, text))
    yield ANY
    yield from single
    for left, right in itertools.combinations(single, 2):
        yield AllOf((left, right))
        yield AnyOf((left, right))
        yield AllOf((AnyOf((left, right)), Compare("key", "=", TEXT)))


NODES: list[Node] = [
    *(Exists((16,), "key", test) for test in entry_tests(("key",), True)),
    *(Exists((16, 32), "range", test) for test in entry_tests(("key", "low", "high", "unit"), False)),
    *(Exists((16,), "range", test) for test in entry_tests(("key", "low"), True)),
]
FIELDS: list[Node] = [
    Field("type", "=", "Patient"),
    Field("type", "in", ("Patient", "Group")),
    Field("id", "=", "1"),
    Field("id", "in", ("1", "2")),
    Field("address", "=", "Patient/1"),
    Field("address", "in", ("Patient/1", "Patient/2")),
    *(Field("updated", operator, NUMBER) for operator in ("=", "<", "<=", ">", ">=")),  # type: ignore[arg-type]
]
LINKED: list[Node] = [
    Linked((48,), Select(("Patient",), Exists((16,), "key", Compare("key", "=", TEXT)))),
    Linked((48, 64), Select(None, Linked((80,), Select(("Patient",))))),
    LinkedFrom((48,), Select(("Observation",))),
]
SOME = [*NODES[::37], *FIELDS, *LINKED]
COMBINED: list[Node] = [
    And(()),
    *(Not(node) for node in SOME),
    *(And((left, right)) for left, right in itertools.combinations(SOME, 2)),
    *(Or((left, right)) for left, right in itertools.combinations(SOME, 2)),
    *(And((left, Not(right))) for left, right in itertools.combinations(SOME[::3], 2)),
    *(Or((And((left, right)), Not(left))) for left, right in itertools.combinations(SOME[::3], 2)),
]


@pytest.mark.parametrize("contained", ["no", "only", "both"])
@pytest.mark.parametrize("types", [None, ("Patient",), ("Patient", "Group")])
def test_every_filter_binds_the_leading_field_of_an_index(types: tuple[str, ...] | None, contained: str) -> None:
    compiled = 0
    for node in itertools.chain(NODES, FIELDS, LINKED, COMBINED):
        condition = filter_of(node, types, contained)
        if condition != NEVER:
            assert bound_indexes(condition), (node, condition)
            compiled += 1
    assert compiled > 3000


def test_every_test_on_entries_binds_the_index_of_its_array() -> None:
    for node in NODES:
        condition = compile_node(node, "no", LINKS)
        if condition != NEVER:
            assert isinstance(node, Exists)
            assert bound_indexes(condition) == {"key" if node.shape == "key" else "range"}, (node, condition)


def test_a_window_of_a_date_is_an_interval_of_the_second_field_too() -> None:
    window = AllOf(
        (Compare("key", "=", "0"), Compare("low", ">", 5), Compare("low", "<", 90), Compare("high", ">", 10))
    )
    assert filter_of(Exists((16,), "range", window), ("Patient",)) == {
        "type": "Patient",
        "r": {"$elemMatch": {"k": "g\x1d0", "l": {"$gt": 5, "$lt": 90}, "h": {"$gt": 10}}},
    }


class Recorder:
    """A collection that only notes what it is asked."""

    name = indexes.RESOURCES

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], dict[str, int]]] = []

    def find(self, condition: dict[str, Any], projection: Any, **_: Any) -> Recorder:
        self.asked.append((condition, {}))
        return self

    def sort(self, order: list[tuple[str, int]]) -> Recorder:
        self.asked[-1] = (self.asked[-1][0], dict(order))
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def aggregate(self, pipeline: list[dict[str, Any]], **_: Any) -> Recorder:
        self._note(pipeline)
        return self

    def _note(self, pipeline: list[dict[str, Any]]) -> None:
        order = pipeline[1].get("$sort", {}) if len(pipeline) > 1 else {}
        self.asked.append((pipeline[0]["$match"], order))
        for stage in pipeline:
            if "$unionWith" in stage:
                self._note(stage["$unionWith"]["pipeline"])


SORTS: list[tuple[SortKey, ...]] = [
    (),
    (SortKey((), "updated", True),),
    (SortKey((), "updated"),),
    (SortKey((), "id"),),
    (SortKey((), "id", True),),
    (SortKey((32,), "range"),),
    (SortKey((32,), "range", True),),
    (SortKey((16,), "key"),),
    (SortKey((16,), "key"), SortKey((32,), "range", True)),
]


@pytest.mark.parametrize("sort", SORTS, ids=range(len(SORTS)))
@pytest.mark.parametrize("node", [And(()), NODES[1], LINKED[0], Not(NODES[1])], ids=["all", "key", "chain", "not"])
def test_every_command_of_a_page_binds_an_index(node: Node, sort: tuple[SortKey, ...]) -> None:
    after = (
        *((None if key.shape == "range" else TEXT if key.shape != "updated" else NUMBER) for key in sort),
        7,
        "Patient/1",
    )
    for position in (None, after):
        recorder = Recorder()
        include = Include(None, (48,), Select(("Observation",)), reverse=True)
        Searcher(recorder, None).run(  # type: ignore[arg-type]
            Search(Select(("Patient",), node), sort=sort, after=position, total=True, includes=(include,))
        )
        assert recorder.asked
        for condition, _ in recorder.asked:
            assert bound_indexes(condition), condition


ORDERED_BY_INDEX: list[tuple[Node, tuple[SortKey, ...], str]] = [
    (And(()), (), "listing"),
    (NODES[1], (), "key"),
    (And(()), (SortKey((), "updated", True),), "type_updated"),
]


@pytest.mark.parametrize("node,sort,name", ORDERED_BY_INDEX, ids=[one[2] for one in ORDERED_BY_INDEX])
def test_the_index_of_a_plain_page_holds_its_order(node: Node, sort: tuple[SortKey, ...], name: str) -> None:
    """Equalities on the index's first fields, then exactly the order of the page: mongod walks and stops after a
    page."""
    recorder = Recorder()
    Searcher(recorder, None).run(Search(Select(("Patient",), node), sort=sort))  # type: ignore[arg-type]
    condition, order = recorder.asked[-1]
    keys = next(index.keys for index in indexes.INDEXES[indexes.RESOURCES] if index.name == name)
    equal = [field for field, value in condition.items() if not isinstance(value, dict)]
    rest = [key for key in keys if key[0] not in equal]
    assert rest[: len(order)] == list(order.items())


def test_a_sort_by_a_date_walks_one_path_and_then_the_rest() -> None:
    recorder = Recorder()
    Searcher(recorder, None).run(  # type: ignore[arg-type]
        Search(Select(("Patient",)), sort=(SortKey((32,), "range", True),))
    )
    (walked, order), (rest, by_creation) = recorder.asked
    assert bound_indexes(walked) >= {"sort"}
    assert order == {"o.w.d": -1}
    assert rest == {"state": 1, "type": "Patient", "o.w.d": {"$exists": False}}
    assert by_creation == {"s": 1}


# --- meaning ----------------------------------------------------------------------------------------------------------

SAID: list[tuple[Node, dict[str, Any]]] = [
    (Exists((16,), "key", Compare("key", "=", "a")), {"k": "g\x1da"}),
    (Exists((16, 32), "key", Compare("key", "=", "a")), {"k": {"$in": ["g\x1da", "w\x1da"]}}),
    (
        Exists((16,), "key", AnyOf((Compare("key", "=", "a"), Compare("key", "=", "b")))),
        {"k": {"$in": ["g\x1da", "g\x1db"]}},
    ),
    (Exists((16,), "key", ANY), {"k": {"$elemMatch": {"$gte": "g\x1d", "$lt": "g\x1e"}}}),
    (
        Exists((16,), "key", Compare("key", "prefix", "cha")),
        {"k": {"$elemMatch": {"$gte": "g\x1dcha", "$lt": "g\x1dchb"}}},
    ),
    (Exists((16,), "key", AllOf((Compare("key", "=", "ab"), Compare("key", "prefix", "b")))), NEVER),
    (Exists((16,), "key", AnyOf(())), NEVER),
    (Exists((), "key", ANY), NEVER),
    (Exists((16,), "range", AllOf((Compare("low", "<", 1), Compare("low", ">", 2)))), NEVER),
    (Exists((16,), "range", AllOf((Compare("low", ">", 1), Compare("low", ">", "a")))), NEVER),
    (
        Exists((16,), "range", AllOf((Compare("low", ">", 1), Compare("low", ">=", 2), Compare("low", ">=", 0)))),
        {"r": {"$elemMatch": {"k": {"$gte": "g\x1d", "$lt": "g\x1e"}, "l": {"$gte": 2}}}},
    ),
    (Not(Exists((16,), "key", Compare("key", "=", "a"))), {"$nor": [{"k": "g\x1da"}]}),
    (Not(Not(Exists((16,), "key", Compare("key", "=", "a")))), {"k": "g\x1da"}),
    (Not(And(())), NEVER),
    (Not(Or(())), ALWAYS),
    (Or(()), NEVER),
    (LINKED[0], {"k": {"$in": ["1c\x1dPatient/1", "1c\x1dPatient/2"]}}),
    (LINKED[2], {"_id": {"$in": ["Patient/1", "Patient/2"]}}),
]


@pytest.mark.parametrize("node,expected", SAID, ids=range(len(SAID)))
def test_a_predicate_is_the_filter(node: Node, expected: dict[str, Any]) -> None:
    assert compile_node(node, "no", LINKS) == expected


def test_state_is_left_out_where_an_entry_implies_it() -> None:
    entry = Exists((16,), "key", Compare("key", "=", "a"))
    assert filter_of(entry, ("Patient",)) == {"type": "Patient", "k": "g\x1da"}
    assert filter_of(Not(entry), ("Patient",)) == {"state": 1, "type": "Patient", "$nor": [{"k": "g\x1da"}]}
    assert filter_of(Or((entry, Field("id", "=", "1"))))["state"] == 1


def test_parameters_are_shifted_by_the_mode_of_their_select() -> None:
    entry = Exists((16,), "key", Compare("key", "=", "a"))
    assert filter_of(entry, contained="only") == {"k": "o\x1da"}
    assert filter_of(entry, contained="both") == {"k": {"$in": ["g\x1da", "o\x1da"]}}


def test_text_of_a_search_is_never_a_pattern() -> None:
    value = ".*(a|b)[c]{2}\\d^$ +?/\n\x1f\u00e4"
    for operator in ("ends", "has"):
        condition = compile_node(Exists((16,), "key", Compare("key", operator, value)), "no", LINKS)  # type: ignore[arg-type]
        pattern = condition["k"]["$elemMatch"]["$regex"].replace(r"\z", r"\Z")
        assert re.search(pattern, "g\x1dx" + value)
        assert not re.search(pattern, "g\x1dabccd")
        assert not re.search(pattern, value)


def test_a_substring_is_not_found_in_the_number_of_the_parameter() -> None:
    pattern = compile_node(Exists((16,), "key", Compare("key", "has", "g")), "no", LINKS)["k"]["$elemMatch"]["$regex"]
    assert not re.search(pattern, "g\x1dabc")
    assert re.search(pattern, "g\x1dabcg")


def test_text_that_cannot_be_stored_matches_nothing() -> None:
    for operator in OPERATORS:
        value: Any = ("\ud800",) if operator == "in" else "\ud800"
        assert compile_node(Exists((16,), "key", Compare("key", operator, value)), "no", LINKS) == NEVER  # type: ignore[arg-type]
    assert compile_node(Field("id", "=", "\ud800"), "no", LINKS) == NEVER
    assert compile_node(Exists((16,), "key", Compare("key", "has", "a\0b")), "no", LINKS) == NEVER


def test_too_many_combined_alternatives_are_too_costly() -> None:
    many = AnyOf(tuple(Compare("key", "prefix", str(n)) for n in range(100)))
    with pytest.raises(TooCostly):
        compile_node(Exists((16,), "key", AllOf((many, many))), "no", LINKS)


def test_many_alternatives_of_one_comparison_are_not() -> None:
    many = AnyOf(tuple(Compare("key", "=", str(n)) for n in range(5000)))
    assert len(compile_node(Exists((16,), "key", many), "no", LINKS)["k"]["$in"]) == 5000
    both = AllOf((many, AnyOf((Compare("low", "<", 1), Compare("low", ">", 5)))))
    assert len(compile_node(Exists((16,), "range", both), "no", LINKS)["$or"]) == 2


@pytest.mark.parametrize(
    "text,expected",
    [("a", "b"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("", None), ("\ud7ff", "\ue000"), ("z\x1f", "z ")],
)
def test_the_successor_is_the_least_text_above_all_with_the_prefix(text: str, expected: str | None) -> None:
    assert successor(text) == expected


@pytest.mark.parametrize("number,text", [(0, "0"), (35, "z"), (36, "10"), (1_600_008, "yako")])
def test_parameters_are_written_in_base_36(number: int, text: str) -> None:
    assert base36(number) == text
    assert int(text, 36) == number
    assert prefix_of(number) == text + "\x1d" < end_of(number) == text + "\x1e"


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    "values",
    [[-(2**63), -1, 0, 1, 315_532_800_000_000, 2**63 - 1], ["", "a", "a b", "ab", "b", "\u4e2d"]],
    ids=["integers", "texts"],
)
def test_sort_texts_are_in_the_order_of_their_values(values: list[Any], descending: bool) -> None:
    texts = [sort_text(value, s, descending=descending) for value in values for s in ((2, 1) if descending else (1, 2))]
    assert sorted(texts) == texts
    assert [sort_value(text) for text in texts] == [value for value in values for _ in range(2)]


def test_one_comparison_in_memory() -> None:
    assert passes("abc", Compare("key", "prefix", "ab"))
    assert not passes("abc", Compare("key", "=", "ab"))
    assert not passes(5, Compare("low", ">", "4"))
    assert passes(5, Compare("low", "in", (4, 5)))


def test_ids_of_given_types_bind_the_address() -> None:
    """No index holds `id`: without its address, ``_id=x`` would walk the whole type."""
    entry = Exists((16,), "key", Compare("key", "=", "a"))
    assert filter_of(And((entry, And((Field("id", "=", "x"),)))), ("Patient",))["_id"] == "Patient/x"
    both = filter_of(Field("id", "in", ("x", "y")), ("Patient", "Group"))
    assert both["_id"] == {"$in": ["Patient/x", "Patient/y", "Group/x", "Group/y"]}
    assert "_id" not in filter_of(Or((Field("id", "=", "x"), entry)), ("Patient",))
    assert "_id" not in filter_of(Field("id", "=", "x"), ("Patient",), contained="both")
    assert "_id" not in filter_of(Field("id", "=", "x"))
