"""Sorting: minimum ascending, maximum descending, missing values last in both; ties in order of creation. R4
search.html#sort.
"""

import pytest

from fhir_server.search.ast import Search, Select, SortKey
from fhir_server.storage.protocol import Store
from tests.support.given import (
    BIRTHDATE,
    CODE,
    DATE,
    FAMILY,
    GENDER,
    SUBJECT,
    VALUE,
    And,
    Not,
    Or,
    delete,
    find,
    given,
    has,
    has_key,
    put,
    searching,
    walk,
)

UP, DOWN = False, True


@pytest.fixture
def patients(store: Store) -> Store:
    given(
        store,
        [
            put("Patient/1", [(FAMILY, "m"), (FAMILY, "z"), (GENDER, "f")], [(BIRTHDATE, "0", 100, 200, "")]),
            put("Patient/2", [(FAMILY, "a"), (FAMILY, "n")], [(BIRTHDATE, "1", 50, 500, "")]),
            put("Patient/3", [(GENDER, "f")], []),
            put(
                "Patient/4",
                [(FAMILY, "m"), (GENDER, "m")],
                [(BIRTHDATE, "0", 100, 150, ""), (BIRTHDATE, "0", 700, 800, "")],
            ),
            put("Patient/5", [(FAMILY, "b")], [(BIRTHDATE, "2", -10, 999, "")]),
            put("Patient/6", [(GENDER, "f")], [(BIRTHDATE, "0", 100, 200, "")]),
        ],
    )
    return store


def sorted_by(*keys: tuple[int, str, bool]) -> tuple[SortKey, ...]:
    return tuple(SortKey((param,) if param else (), shape, descending) for param, shape, descending in keys)  # type: ignore[arg-type]


ORDERS = [
    (sorted_by((FAMILY, "key", UP)), "2 5 1 4 3 6"),
    (sorted_by((FAMILY, "key", DOWN)), "1 2 4 5 3 6"),
    (sorted_by((BIRTHDATE, "range", UP)), "5 2 1 4 6 3"),
    (sorted_by((BIRTHDATE, "range", DOWN)), "5 4 2 1 6 3"),
    (sorted_by((GENDER, "key", UP)), "1 3 6 4 2 5"),
    (sorted_by((GENDER, "key", UP), (FAMILY, "key", DOWN)), "1 3 6 4 2 5"),
    (sorted_by((GENDER, "key", UP), (BIRTHDATE, "range", DOWN)), "1 6 3 4 5 2"),
    (sorted_by((GENDER, "key", DOWN), (FAMILY, "key", UP)), "4 1 3 6 2 5"),
    (sorted_by((BIRTHDATE, "range", UP), (FAMILY, "key", DOWN)), "5 2 1 4 6 3"),
    (sorted_by((BIRTHDATE, "range", UP), (GENDER, "key", DOWN), (0, "id", DOWN)), "5 2 4 6 1 3"),
    (sorted_by((0, "id", DOWN)), "6 5 4 3 2 1"),
    (sorted_by((0, "updated", DOWN)), "1 2 3 4 5 6"),
    (sorted_by((0, "updated", UP), (0, "id", DOWN)), "6 5 4 3 2 1"),
    (sorted_by((16 * 99, "key", UP)), "1 2 3 4 5 6"),
    (sorted_by((16 * 99, "range", DOWN)), "1 2 3 4 5 6"),
]


@pytest.mark.parametrize("sort,expected", ORDERS, ids=range(len(ORDERS)))
@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_order_is_kept_on_every_page_size(
    patients: Store, sort: tuple[SortKey, ...], expected: str, count: int
) -> None:
    found = walk(patients, searching("Patient", sort=sort, count=count))
    assert found == [f"Patient/{n}" for n in expected.split()]


@pytest.mark.parametrize("sort,expected", ORDERS, ids=range(len(ORDERS)))
def test_a_condition_does_not_change_the_order(patients: Store, sort: tuple[SortKey, ...], expected: str) -> None:
    wanted = {"f": "1 3 6", "x": "1 2 4 5"}
    for where, kept in ((has_key(GENDER, "f"), wanted["f"]), (has(FAMILY), wanted["x"])):
        found = walk(patients, searching("Patient", where, sort=sort, count=2))
        assert found == [f"Patient/{n}" for n in expected.split() if n in kept.split()]


def test_updates_move_a_resource_in_sorted_order_only(patients: Store) -> None:
    given(patients, [put("Patient/1", [(FAMILY, "aa")])])
    assert find(patients, "Patient") == [f"Patient/{n}" for n in range(1, 7)]
    assert find(patients, "Patient", sort=sorted_by((FAMILY, "key", UP)))[:3] == ["Patient/2", "Patient/1", "Patient/5"]
    assert find(patients, "Patient", sort=sorted_by((0, "updated", DOWN)))[0] == "Patient/1"


def test_types_are_sorted_together(store: Store) -> None:
    given(
        store,
        [
            put("Patient/1", [(FAMILY, "b")]),
            put("Observation/1", [(CODE, "a")]),
            put("Patient/2", [(FAMILY, "d")]),
            put("Observation/2", [(CODE, "c")]),
            put("Practitioner/1"),
        ],
    )
    sort = (SortKey((FAMILY, CODE), "key"),)
    assert find(store, None, sort=sort) == [
        "Observation/1",
        "Patient/1",
        "Observation/2",
        "Patient/2",
        "Practitioner/1",
    ]
    assert walk(store, searching(("Patient", "Observation"), sort=sort, count=1)) == [
        "Observation/1",
        "Patient/1",
        "Observation/2",
        "Patient/2",
    ]
    assert find(store, None, sort=(SortKey((), "id"),)) == [
        "Patient/1",
        "Observation/1",
        "Practitioner/1",
        "Patient/2",
        "Observation/2",
    ]


@pytest.fixture
def many(store: Store) -> Store:
    """Enough documents for every way of walking: 900 observations of 3 patients, values with many ties."""
    given(
        store,
        [
            put(
                f"Observation/{n:03}",
                [
                    (SUBJECT, f"Patient/{n % 3}"),
                    (CODE, "even" if n % 2 == 0 else "odd"),
                    *([(GENDER_OF, str(n % 5))] if n % 7 else []),
                ],
                [(DATE, str(n % 2), (n * 37) % 300, (n * 37) % 300 + n % 11, "")] if n % 10 else [],
            )
            for n in range(900)
        ],
    )
    return store


GENDER_OF = 16 * 18


@pytest.mark.parametrize("descending", [UP, DOWN])
@pytest.mark.parametrize(
    "where",
    [
        And(()),
        has_key(CODE, "even"),
        And((has_key(CODE, "even"), has_key(SUBJECT, "Patient/1"))),
        Not(has_key(CODE, "even")),
        Or((has_key(SUBJECT, "Patient/0"), has_key(CODE, "odd"))),
    ],
    ids=range(5),
)
def test_long_walks_neither_repeat_nor_skip(many: Store, where: object, descending: bool) -> None:
    def value(n: int) -> int | None:
        low = (n * 37) % 300
        return None if n % 10 == 0 else low + n % 11 if descending else low

    selected = [
        n
        for n in range(900)
        if {0: True, 1: n % 2 == 0, 2: n % 2 == 0 and n % 3 == 1, 3: n % 2 == 1, 4: n % 3 == 0 or n % 2 == 1}[
            WHERES.index(where)
        ]
    ]
    valued = sorted((n for n in selected if value(n) is not None), key=value, reverse=descending)  # type: ignore[arg-type]
    if descending:  # reverse=True keeps the order of ties
        assert valued == sorted(valued, key=lambda n: -value(n))  # type: ignore[operator]
    expected = valued + [n for n in selected if value(n) is None]
    search = searching("Observation", where, sort=(SortKey((DATE,), "range", descending),), count=70)
    assert walk(many, search) == [f"Observation/{n:03}" for n in expected]


WHERES = [
    And(()),
    has_key(CODE, "even"),
    And((has_key(CODE, "even"), has_key(SUBJECT, "Patient/1"))),
    Not(has_key(CODE, "even")),
    Or((has_key(SUBJECT, "Patient/0"), has_key(CODE, "odd"))),
]


@pytest.mark.parametrize("descending", [UP, DOWN])
def test_long_walks_by_key(many: Store, descending: bool) -> None:
    selected = [n for n in range(900) if n % 2 == 0]
    valued = sorted((n for n in selected if n % 7), key=lambda n: -(n % 5) if descending else n % 5)
    expected = valued + [n for n in selected if n % 7 == 0]
    search = searching("Observation", has_key(CODE, "even"), sort=(SortKey((GENDER_OF,), "key", descending),), count=70)
    assert walk(many, search) == [f"Observation/{n:03}" for n in expected]


def test_a_sort_may_follow_values_that_lie_elsewhere(store: Store) -> None:
    """The matches hold the last values of the order, behind many others."""
    given(store, [put(f"Observation/{n:04}", [(CODE, "common")], [(DATE, "0", n, n + 1, "")]) for n in range(3000)])
    given(
        store,
        [put(f"Observation/x{n:03}", [(CODE, "late")], [(DATE, "0", 10_000 + n, 10_001 + n, "")]) for n in range(900)],
    )
    search = searching("Observation", has_key(CODE, "late"), sort=(SortKey((DATE,), "range"),), count=3)
    assert [one.id for one in store.search(search).matches] == ["x000", "x001", "x002"]
    down = searching("Observation", has_key(CODE, "common"), sort=(SortKey((DATE,), "range", True),), count=3)
    assert [one.id for one in store.search(down).matches] == ["2999", "2998", "2997"]


def test_sorted_search_over_nothing(patients: Store) -> None:
    assert find(patients, "Patient", has_key(FAMILY, "nobody"), sort=sorted_by((FAMILY, "key", UP))) == []
    given(patients, [delete(f"Patient/{n}") for n in range(1, 7)])
    assert find(patients, "Patient", sort=sorted_by((BIRTHDATE, "range", DOWN))) == []
    assert Search(Select(None)).sort == ()


def test_number_keys_sort_as_text(store: Store) -> None:
    values = ["5", "3", "9", "3", "7"]
    given(store, [put(f"Observation/{n}", (), [(VALUE, "=", text, text, "kg")]) for n, text in enumerate(values)])
    assert find(store, "Observation", sort=sorted_by((VALUE, "range", UP))) == [
        f"Observation/{n}" for n in (1, 3, 0, 4, 2)
    ]
    assert find(store, "Observation", sort=sorted_by((VALUE, "range", DOWN))) == [
        f"Observation/{n}" for n in (2, 4, 0, 1, 3)
    ]
