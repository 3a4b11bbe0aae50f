"""Range entries: dates, numbers, quantities, composites, positions. Shapes as in docs/architecture.md, Index
entries.
"""

import pytest

from fhir_server.errors import TooCostly
from fhir_server.storage.protocol import Store
from tests.support.given import (
    ANY,
    CODE_VALUE,
    DATE,
    SUBJECT,
    VALUE,
    AllOf,
    And,
    AnyOf,
    Compare,
    Exists,
    Not,
    find,
    given,
    has,
    has_key,
    put,
)

MIN, MAX = -(2**63), 2**63 - 1
KG, G = "kg\x1fhttp://unitsofmeasure.org\x1fkg", "g\x1fhttp://unitsofmeasure.org\x1fg"
HEART = "8867-4\x1fhttp://loinc.org"


@pytest.fixture
def observations(store: Store) -> Store:
    given(
        store,
        [
            put("Observation/1", [(SUBJECT, "Patient/a")], [(DATE, "0", 100, 200, ""), (VALUE, "=", "75", "75", KG)]),
            put("Observation/2", [(SUBJECT, "Patient/a")], [(DATE, "0", 200, 300, ""), (VALUE, "=", "8", "8", G)]),
            put("Observation/3", [(SUBJECT, "Patient/b")], [(DATE, "1", 100, 1000, ""), (VALUE, "~", "70", "80", KG)]),
            put("Observation/4", [], [(DATE, "2", MIN, MAX, "")]),
            put("Observation/5", [(SUBJECT, "Patient/a")], [(DATE, "0", -50, -40, ""), (DATE, "0", 500, 600, "")]),
            put("Observation/6", [], [(VALUE, "=", "75", "75", ""), (CODE_VALUE, f"{HEART}\x1d=", "60", "60", KG)]),
            put(
                "Observation/7",
                [],
                [(CODE_VALUE, f"{HEART}\x1d=", "90", "90", KG), (CODE_VALUE, "x\x1d=", "60", "60", KG)],
            ),
            put("Observation/8", [], [(CODE_VALUE, f"{HEART}\x1dtext", "abnormal high", "", "")]),
            put("Observation/9", [(SUBJECT, "Patient/a")]),
        ],
    )
    return store


def low(op: str, value: object) -> Compare:
    return Compare("low", op, value)  # type: ignore[arg-type]


def high(op: str, value: object) -> Compare:
    return Compare("high", op, value)  # type: ignore[arg-type]


def of(key: str, *tests: object) -> AllOf:
    return AllOf((Compare("key", "=", key), *tests))  # type: ignore[arg-type]


def window(a: int, b: int) -> AnyOf:
    """Overlap with [a, b), class by class, with the bounds that the widths allow."""
    return AnyOf(
        (
            of("0", low(">", a - 25), low("<", b), high(">", a)),
            of("1", low(">", a - 3660), low("<", b), high(">", a)),
            of("2", low("<", b), high(">", a)),
        )
    )


CASES = [
    (DATE, of("0", low("<", 250), high(">", 150)), {1, 2}),
    (DATE, AnyOf((of("0", low("<", 250), high(">", 150)), of("1", low("<", 250), high(">", 150)))), {1, 2, 3}),
    (DATE, AllOf((low("<", 250), high(">", 150))), {1, 2, 3, 4}),
    (DATE, low(">=", 200), {2, 5}),
    (DATE, low(">", 200), {5}),
    (DATE, high("<=", 200), {1, 5}),
    (DATE, high("<", 200), {5}),
    (DATE, of("2", low("=", MIN)), {4}),
    (DATE, of("2", high("=", MAX)), {4}),
    (DATE, AllOf((low("=", 100), high("=", 200))), {1}),
    (DATE, low("in", (100, 500, 7)), {1, 3, 5}),
    (DATE, of("0", low(">", -100), low("<", 0), high(">", 550)), set()),
    (DATE, of("0", low(">", 10), low(">=", 20), low("<", 150), low("<=", 400)), {1}),
    (DATE, of("0", low(">", 200), low("<", 200)), set()),
    (DATE, of("absent", low(">", 0)), set()),
    (DATE, Compare("key", "in", ("1", "2")), {3, 4}),
    (DATE, Compare("key", ">", "0"), {3, 4}),
    (DATE, ANY, {1, 2, 3, 4, 5}),
    (DATE, AnyOf(()), set()),
    (VALUE, of("=", low("=", "75")), {1, 6}),
    (VALUE, of("=", low("=", "75"), Compare("unit", "=", KG)), {1}),
    (VALUE, of("=", low("=", "75"), Compare("unit", "=", "")), {6}),
    (VALUE, of("=", low("=", "75"), Compare("unit", "prefix", "kg\x1f")), {1}),
    (VALUE, Compare("unit", "ends", "\x1fg"), {2}),
    (VALUE, Compare("unit", "has", "unitsofmeasure"), {1, 2, 3}),
    (VALUE, Compare("unit", "in", (G, "")), {2, 6}),
    (VALUE, of("=", Compare("unit", "=", "stone")), set()),
    (VALUE, AnyOf((of("=", low(">", "74"), low("<", "76")), of("~", low("<", "76"), high(">", "74")))), {1, 3, 6}),
    (VALUE, low(">", "75"), {2}),
    (CODE_VALUE, of(f"{HEART}\x1d=", low(">", "80")), {7}),
    (CODE_VALUE, of(f"{HEART}\x1d=", low("<", "80")), {6}),
    (
        CODE_VALUE,
        AllOf((Compare("key", "prefix", "8867-4\x1f"), Compare("key", "ends", "\x1d="), low("<", "95"))),
        {6, 7},
    ),
    (CODE_VALUE, of(f"{HEART}\x1dtext", low("prefix", "abnormal")), {8}),
    (CODE_VALUE, of(f"{HEART}\x1dtext", low("has", "high")), {8}),
    (CODE_VALUE, of(f"{HEART}\x1dtext", low("ends", "high"), high("=", "")), {8}),
    (CODE_VALUE, of(f"{HEART}\x1dtext", low("ends", "higher")), set()),
]


@pytest.mark.parametrize("param,test,expected", CASES, ids=range(len(CASES)))
def test_a_test_on_one_entry_selects(observations: Store, param: int, test: object, expected: set[int]) -> None:
    selected = has(param, test, "range")
    everything = range(1, 10)
    assert find(observations, "Observation", selected) == [f"Observation/{n}" for n in sorted(expected)]
    assert find(observations, "Observation", Not(selected)) == [
        f"Observation/{n}" for n in everything if n not in expected
    ]
    of_a = And((has_key(SUBJECT, "Patient/a"), selected))
    assert find(observations, "Observation", of_a) == [f"Observation/{n}" for n in sorted(expected & {1, 2, 5, 9})]


def test_two_bounds_on_one_entry_and_on_any_entry_differ(observations: Store) -> None:
    # Observation 5 has one entry below 0 and another one above 400.
    one = has(DATE, AllOf((low("<", 0), low(">", 400))), "range")
    any_ = And((has(DATE, AllOf((Compare("key", "=", "0"), low("<", 0))), "range"), has(DATE, low(">", 400), "range")))
    assert find(observations, "Observation", one) == []
    assert find(observations, "Observation", any_) == ["Observation/5"]


def test_windows_over_the_width_classes_are_overlaps(store: Store) -> None:
    entries = [
        ("0", 0, 20),
        ("0", 90, 110),
        ("0", 100, 101),
        ("1", -3000, 105),
        ("1", 99, 3000),
        ("2", MIN, 100),
        ("2", 109, MAX),
    ]
    given(store, [put(f"Observation/{n}", (), [(DATE, key, a, b, "")]) for n, (key, a, b) in enumerate(entries)])
    for a, b in ((100, 110), (0, 1), (110, 111), (-5000, 5000), (100, 101), (20, 90)):
        expected = [f"Observation/{n}" for n, (_, start, end) in enumerate(entries) if start < b and end > a]
        assert find(store, "Observation", has(DATE, window(a, b), "range")) == expected, (a, b)


def test_merged_windows_intersect_class_by_class(store: Store) -> None:
    entries = [
        ("0", 0, 20),
        ("0", 95, 110),
        ("0", 100, 101),
        ("1", -3000, 105),
        ("1", 99, 3000),
        ("2", MIN, 100),
        ("2", 105, MAX),
    ]
    given(store, [put(f"Observation/{n}", (), [(DATE, key, a, b, "")]) for n, (key, a, b) in enumerate(entries)])
    merged = has(DATE, AllOf((window(100, 5000), window(-5000, 105))), "range")
    assert find(store, "Observation", merged) == [f"Observation/{n}" for n in (1, 2, 3, 4)]


def test_tests_with_many_alternatives_answer_and_with_too_many_are_refused(observations: Store) -> None:
    def product(size: int) -> object:
        return AllOf(tuple(AnyOf(tuple(low(">=", value) for value in range(100, 100 + size))) for _ in range(2)))

    assert find(observations, "Observation", has(DATE, product(16), "range")) == [
        f"Observation/{n}" for n in (1, 2, 3, 5)
    ]
    with pytest.raises(TooCostly):
        find(observations, "Observation", has(DATE, product(17), "range"))
    with pytest.raises(TooCostly):
        find(observations, "Observation", has(SUBJECT, Compare("key", "has", "x" * 40_000)))
    years = AnyOf(tuple(of("0", low(">=", n), low("<", n + 1)) for n in range(90, 210)))
    assert find(observations, "Observation", has(DATE, years, "range")) == ["Observation/1", "Observation/2"]


def test_positions_within_a_rectangle(store: Store) -> None:
    given(store, [put(f"Observation/{n}", (), [(DATE, "", n * 1000, -n * 500, "")]) for n in range(10)])
    inside = AllOf((low(">=", 2000), low("<=", 5000), high(">=", -2000), high("<=", -1000)))
    assert find(store, "Observation", Exists((DATE,), "range", inside)) == [f"Observation/{n}" for n in (2, 3, 4)]


def test_equal_entries_of_one_document_are_one(store: Store) -> None:
    given(
        store, [put("Observation/1", [(SUBJECT, "x"), (SUBJECT, "x")], [(DATE, "0", 1, 2, ""), (DATE, "0", 1, 2, "")])]
    )
    assert store.entries("Observation/1") == ([(SUBJECT, "x")], [(DATE, "0", 1, 2, "")], [])
    given(store, [put("Observation/1", [], [(DATE, "0", 1, 2, ""), (DATE, "0", 1, 3, ""), (DATE, "0", 1, 2, "u")])])
    assert store.entries("Observation/1") == (
        [],
        [(DATE, "0", 1, 2, ""), (DATE, "0", 1, 2, "u"), (DATE, "0", 1, 3, "")],
        [],
    )
