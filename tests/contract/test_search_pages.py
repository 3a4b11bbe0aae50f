"""Pages, totals, includes. R4 search.html#Paging, #total, #include, #revinclude."""

from dataclasses import replace

import pytest

from fhir_server.search.ast import Include
from fhir_server.storage.protocol import Store
from tests.support.given import (
    CODE,
    DATE,
    FAMILY,
    GENDER,
    GENERAL_PRACTITIONER,
    HAS_MEMBER,
    ORGANIZATION_NAME,
    PART_OF,
    PRACTITIONER_NAME,
    SUBJECT,
    And,
    Compare,
    Field,
    Or,
    Select,
    SortKey,
    content,
    delete,
    find,
    given,
    has,
    has_key,
    matches,
    put,
    searching,
    walk,
)

SORTS = [
    (),
    (SortKey((FAMILY,), "key"),),
    (SortKey((FAMILY,), "key", True), SortKey((), "updated")),
    (SortKey((), "updated", True),),
    (SortKey((), "id", True),),
]


def patient(n: int) -> object:
    return put(f"Patient/{n:03}", [(FAMILY, f"f{n % 4}"), (GENDER, "f" if n % 2 else "m")], number=n)


@pytest.fixture
def hundred(store: Store) -> Store:
    given(store, *([patient(n)] for n in range(10)), [patient(n) for n in range(10, 100)])  # type: ignore[list-item]
    return store


@pytest.mark.parametrize("sort", SORTS, ids=range(len(SORTS)))
def test_pages_together_are_the_whole(hundred: Store, sort: tuple[SortKey, ...]) -> None:
    whole = find(hundred, "Patient", sort=sort, count=1000)
    assert len(whole) == len(set(whole)) == 100
    for count in (7, 33, 99, 100):
        assert walk(hundred, searching("Patient", sort=sort, count=count)) == whole


def test_the_last_page_has_no_next(hundred: Store) -> None:
    assert hundred.search(searching("Patient", count=100)).next is None
    first = hundred.search(searching("Patient", count=99))
    assert first.next is not None
    last = hundred.search(searching("Patient", count=99, after=first.next))
    assert (len(last.matches), last.next) == (1, None)
    assert hundred.search(searching("Patient", has_key(FAMILY, "nobody"))).next is None


@pytest.mark.parametrize("sort", SORTS, ids=range(len(SORTS)))
def test_pages_do_not_repeat_or_skip_what_others_leave_alone(hundred: Store, sort: tuple[SortKey, ...]) -> None:
    untouched = {f"Patient/{n:03}" for n in range(100) if n % 5}
    search = searching("Patient", sort=sort, count=9)
    seen: list[str] = []
    turn = 0
    while True:
        page = hundred.search(search)
        seen += matches(page)
        if page.next is None:
            break
        search = replace(search, after=page.next)
        victim = turn % 20 * 5
        if hundred.read("Patient", f"{victim:03}").deleted:  # type: ignore[union-attr]
            given(hundred, [put(f"Patient/{victim:03}", [(FAMILY, "back")])])
        elif turn % 2:
            given(hundred, [delete(f"Patient/{victim:03}")])
        else:
            given(
                hundred,
                [put(f"Patient/{victim:03}", [(FAMILY, f"f{turn % 5}")]), put(f"Patient/new{turn}", [(FAMILY, "f2")])],
            )
        turn += 1
        assert turn < 100
    kept = [address for address in seen if address in untouched]
    assert sorted(kept) == sorted(untouched)
    assert turn >= 10


def test_bodies_are_those_stored(hundred: Store) -> None:
    page = hundred.search(searching("Patient", has_key(FAMILY, "f1"), count=3))
    assert [content(one)["number"] for one in page.matches] == [1, 5, 9]
    assert [(one.version, one.method) for one in page.matches] == [(1, "POST")] * 3
    assert page.matches[0] == hundred.read("Patient", "001")


@pytest.mark.parametrize(
    "where,expected",
    [
        (And(()), 100),
        (has_key(FAMILY, "f1"), 25),
        (has_key(FAMILY, "x"), 0),
        (has(FAMILY, Compare("key", "prefix", "f")), 100),
        (And((has_key(FAMILY, "f1"), has_key(GENDER, "f"))), 25),
        (Or((has_key(FAMILY, "f1"), has_key(GENDER, "m"))), 75),
        (Field("id", "in", ("001", "002", "x")), 2),
    ],
    ids=range(7),
)
def test_totals_are_exact(hundred: Store, where: object, expected: int) -> None:
    page = hundred.search(searching("Patient", where, count=10, total=True))
    assert page.total == expected
    assert len(page.matches) == min(10, expected)
    if page.next is not None:
        assert hundred.search(searching("Patient", where, count=10, total=True, after=page.next)).total == expected
    counted = hundred.search(searching("Patient", where, count=0))
    assert (counted.total, counted.matches, counted.next) == (expected, [], None)


def test_a_total_is_none_unless_asked_for_or_free(hundred: Store) -> None:
    assert hundred.search(searching("Patient", count=10)).total is None
    assert hundred.search(searching("Patient", has_key(FAMILY, "f1"), count=50)).total in (None, 25)


# --- includes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ward(store: Store) -> Store:
    given(
        store,
        [
            put("Organization/a", [(ORGANIZATION_NAME, "a"), (PART_OF, "Organization/b")]),
            put("Organization/b", [(ORGANIZATION_NAME, "b"), (PART_OF, "Organization/c")]),
            put("Organization/c", [(ORGANIZATION_NAME, "c"), (PART_OF, "Organization/a")]),
            put("Practitioner/p", [(PRACTITIONER_NAME, "p")]),
            put(
                "Patient/1",
                [(FAMILY, "one"), (GENERAL_PRACTITIONER, "Practitioner/p"), (GENERAL_PRACTITIONER, "Organization/a")],
            ),
            put("Patient/2", [(FAMILY, "two"), (GENERAL_PRACTITIONER, "Practitioner/gone")]),
            put("Observation/1", [(SUBJECT, "Patient/1"), (CODE, "x")]),
            put("Observation/2", [(SUBJECT, "Patient/1"), (CODE, "y"), (HAS_MEMBER, "Observation/1")]),
            put("Observation/3", [(SUBJECT, "Patient/2"), (CODE, "x")]),
            put("Observation/4", [(SUBJECT, "Patient/absent"), (CODE, "z")]),
        ],
    )
    return store


ANYTHING = Select(None)
TO_SUBJECT = Include(("Observation",), (SUBJECT,), ANYTHING)
TO_DOCTOR = Include(("Patient",), (GENERAL_PRACTITIONER,), ANYTHING, iterate=True)
FROM_SUBJECT = Include(None, (SUBJECT,), Select(("Observation",)), reverse=True)


def included(store: Store, types: str | None, where: object, *includes: Include, **more: object) -> list[str]:
    page = store.search(searching(types, where, includes=includes, **more))
    addresses = [one.address for one in page.includes]
    assert len(addresses) == len(set(addresses))
    assert not set(addresses) & set(matches(page))
    return sorted(addresses)


def test_include_adds_targets_once(ward: Store) -> None:
    assert included(ward, "Observation", And(()), TO_SUBJECT) == ["Patient/1", "Patient/2"]
    assert included(ward, "Observation", has_key(CODE, "y"), TO_SUBJECT) == ["Patient/1"]
    assert included(ward, "Observation", has_key(CODE, "z"), TO_SUBJECT) == []
    assert included(ward, "Patient", And(()), TO_SUBJECT) == []


def test_include_is_narrowed_by_its_select(ward: Store) -> None:
    narrowed = Include(("Observation",), (SUBJECT,), Select(None, has_key(FAMILY, "two")))
    assert included(ward, "Observation", And(()), narrowed) == ["Patient/2"]
    typed = Include(("Patient",), (GENERAL_PRACTITIONER,), Select(("Organization",)))
    assert included(ward, "Patient", And(()), typed) == ["Organization/a"]
    assert included(ward, "Patient", And(()), Include(("Patient",), (GENERAL_PRACTITIONER,), Select(("Device",)))) == []
    assert included(ward, "Patient", And(()), Include(("Device",), (GENERAL_PRACTITIONER,), ANYTHING)) == []


def test_matches_are_not_included_again(ward: Store) -> None:
    assert included(ward, "Observation", And(()), Include(("Observation",), (HAS_MEMBER,), ANYTHING)) == []
    assert included(ward, "Observation", has_key(CODE, "y"), Include(("Observation",), (HAS_MEMBER,), ANYTHING)) == [
        "Observation/1"
    ]


def test_revinclude_adds_what_points_at_matches(ward: Store) -> None:
    assert included(ward, "Patient", has_key(FAMILY, "one"), FROM_SUBJECT) == ["Observation/1", "Observation/2"]
    narrowed = replace(FROM_SUBJECT, select=Select(("Observation",), has_key(CODE, "x")))
    assert included(ward, "Patient", And(()), narrowed) == ["Observation/1", "Observation/3"]
    assert included(ward, "Patient", And(()), replace(FROM_SUBJECT, select=Select(("Device",)))) == []
    # `source` of a reverse include restricts what is pointed at.
    assert len(included(ward, "Patient", And(()), replace(FROM_SUBJECT, source=("Patient",)))) == 3
    assert included(ward, "Patient", And(()), replace(FROM_SUBJECT, source=("Group",))) == []


def test_deleted_targets_and_sources_are_not_included(ward: Store) -> None:
    given(ward, [delete("Patient/1"), delete("Observation/3")])
    assert included(ward, "Observation", And(()), TO_SUBJECT) == []
    assert included(ward, "Patient", And(()), FROM_SUBJECT) == []


def test_only_iterating_includes_apply_to_what_was_included(ward: Store) -> None:
    assert included(ward, "Observation", has_key(CODE, "y"), TO_SUBJECT, replace(TO_DOCTOR, iterate=False)) == [
        "Patient/1"
    ]
    assert included(ward, "Observation", has_key(CODE, "y"), TO_SUBJECT, TO_DOCTOR) == [
        "Organization/a",
        "Patient/1",
        "Practitioner/p",
    ]
    part_of = Include(("Organization",), (PART_OF,), ANYTHING, iterate=True)
    assert included(ward, "Patient", has_key(FAMILY, "one"), TO_DOCTOR, part_of) == [
        "Organization/a",
        "Organization/b",
        "Organization/c",
        "Practitioner/p",
    ]
    both = replace(FROM_SUBJECT, iterate=True)
    assert included(ward, "Observation", has_key(CODE, "y"), TO_SUBJECT, both) == ["Observation/1", "Patient/1"]


def test_one_include_of_several_params_and_sources(ward: Store) -> None:
    wide = Include(None, (SUBJECT, HAS_MEMBER, GENERAL_PRACTITIONER, PART_OF), ANYTHING)
    assert included(ward, "Observation", has_key(CODE, "y"), wide) == ["Observation/1", "Patient/1"]
    assert included(ward, None, Or((has_key(CODE, "y"), has_key(ORGANIZATION_NAME, "a"))), wide) == [
        "Observation/1",
        "Organization/b",
        "Patient/1",
    ]


def chain_of_organizations(store: Store, length: int) -> None:
    given(store, [put(f"Organization/{n}", [(PART_OF, f"Organization/{n + 1}")]) for n in range(length)])


@pytest.mark.parametrize("length,truncated", [(3, False), (6, False), (7, True), (9, True)])
def test_iteration_ends_at_the_depth_and_says_so(store: Store, length: int, truncated: bool) -> None:
    chain_of_organizations(store, length)
    part_of = Include(("Organization",), (PART_OF,), ANYTHING, iterate=True)
    page = store.search(searching("Organization", Field("id", "=", "0"), includes=(part_of,), include_depth=5))
    assert sorted(one.id for one in page.includes) == [str(n) for n in range(1, min(length, 6))]
    assert page.include_truncated is truncated


@pytest.mark.parametrize("limit,truncated", [(30, False), (29, True), (1, True)])
def test_includes_end_at_the_limit_and_say_so(store: Store, limit: int, truncated: bool) -> None:
    given(
        store,
        [put("Patient/1", [(FAMILY, "one")]), *(put(f"Observation/{n}", [(SUBJECT, "Patient/1")]) for n in range(30))],
    )
    page = store.search(searching("Patient", includes=(FROM_SUBJECT,), include_limit=limit))
    assert (len(page.includes), page.include_truncated) == (limit, truncated)
    assert len({one.address for one in page.includes}) == limit


def test_includes_belong_to_the_page(store: Store) -> None:
    given(
        store,
        [put(f"Patient/{n}") for n in range(4)],
        [put(f"Observation/{n}", [(SUBJECT, f"Patient/{n}")], [(DATE, "0", n, n, "")]) for n in range(4)],
    )
    search = searching("Observation", includes=(TO_SUBJECT,), count=1, sort=(SortKey((DATE,), "range", True),))
    page = store.search(search)
    assert [one.address for one in page.includes] == ["Patient/3"]
    assert [one.address for one in store.search(replace(search, after=page.next)).includes] == ["Patient/2"]
    assert store.search(replace(search, count=0)).includes == []


def test_explain_shows_a_plan(ward: Store) -> None:
    for sort in ((), (SortKey((CODE,), "key"),)):
        plan = ward.explain(searching("Observation", has_key(CODE, "x"), sort=sort, includes=(TO_SUBJECT,)))
        assert plan
        assert all(plan)
