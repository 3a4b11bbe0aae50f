"""Contained resources as documents of their own. R4 search.html#contained, 3.1.1.5.5."""

import pytest

from fhir_server.storage.protocol import Store
from tests.support.given import (
    CODE,
    FAMILY,
    GENDER,
    SUBJECT,
    And,
    Field,
    Linked,
    LinkedFrom,
    Not,
    Search,
    Select,
    SortKey,
    delete,
    find,
    given,
    has,
    has_key,
    matches,
    put,
    searching,
)


@pytest.fixture
def charts(store: Store) -> Store:
    given(
        store,
        [
            put("Patient/1", [(FAMILY, "ann")]),
            put(
                "Observation/1",
                [(CODE, "x"), (SUBJECT, "Observation/1#p")],
                inner=[("p", "Patient", [(FAMILY, "ann"), (GENDER, "f")], []), ("q", "Patient", [(FAMILY, "bob")], [])],
            ),
            put("Observation/2", [(CODE, "y"), (SUBJECT, "Patient/1")]),
            put(
                "Observation/3",
                [(CODE, "x"), (SUBJECT, "Observation/3#p")],
                inner=[
                    ("p", "Patient", [(FAMILY, "bob")], []),
                    ("o", "Observation", [(CODE, "x"), (SUBJECT, "Observation/3#p")], []),
                ],
            ),
            put("Patient/2", [(FAMILY, "bob")]),
        ],
    )
    return store


def inside(types: str | tuple[str, ...] | None, where: object, contained: str, **more: object) -> Search:
    return Search(Select((types,) if isinstance(types, str) else types, where, contained), **more)  # type: ignore[arg-type]


def found(store: Store, search: Search) -> list[tuple[str, str]]:
    page = store.search(search)
    return list(zip(matches(page), page.contained, strict=True))


def test_searches_of_resources_never_see_contained_ones(charts: Store) -> None:
    assert find(charts, "Patient", has_key(FAMILY, "ann")) == ["Patient/1"]
    assert find(charts, "Patient") == ["Patient/1", "Patient/2"]
    assert find(charts, "Patient", Not(has(GENDER))) == ["Patient/1", "Patient/2"]
    assert len(find(charts, None)) == 5
    assert charts.counts() == {"Patient": 2, "Observation": 3}
    assert charts.search(searching("Patient", count=0)).total == 2
    assert charts.read("Observation", "1#p") is None
    assert find(charts, None, Field("address", "=", "Observation/1#p")) == []


def test_contained_only_answers_the_contained_resource_within_its_container(charts: Store) -> None:
    assert found(charts, inside("Patient", has_key(FAMILY, "ann"), "only")) == [("Observation/1", "p")]
    assert found(charts, inside("Patient", has_key(FAMILY, "bob"), "only")) == [
        ("Observation/1", "q"),
        ("Observation/3", "p"),
    ]
    assert found(charts, inside("Patient", And(()), "only")) == [
        ("Observation/1", "p"),
        ("Observation/1", "q"),
        ("Observation/3", "p"),
    ]
    assert found(charts, inside("Patient", Not(has_key(FAMILY, "bob")), "only")) == [("Observation/1", "p")]
    assert found(charts, inside("Observation", has_key(CODE, "x"), "only")) == [("Observation/3", "o")]
    assert found(charts, inside(None, And(()), "only")) == [
        ("Observation/1", "p"),
        ("Observation/1", "q"),
        ("Observation/3", "o"),
        ("Observation/3", "p"),
    ]


def test_contained_both_answers_either(charts: Store) -> None:
    assert found(charts, inside("Patient", has_key(FAMILY, "ann"), "both")) == [
        ("Patient/1", ""),
        ("Observation/1", "p"),
    ]
    assert found(charts, inside("Patient", has_key(FAMILY, "bob"), "both")) == [
        ("Observation/1", "q"),
        ("Observation/3", "p"),
        ("Patient/2", ""),
    ]
    assert found(charts, inside("Observation", has_key(CODE, "x"), "both")) == [
        ("Observation/1", ""),
        ("Observation/3", ""),
        ("Observation/3", "o"),
    ]
    assert len(found(charts, inside(None, And(()), "both"))) == 9


def test_containers_are_answered_once_each(charts: Store) -> None:
    page = charts.search(inside("Patient", And(()), "only", containers=True, total=True))
    assert matches(page) == ["Observation/1", "Observation/3"]
    assert page.contained == []
    assert page.total == 2
    assert matches(charts.search(inside("Patient", has_key(FAMILY, "bob"), "both", containers=True))) == [
        "Observation/1",
        "Observation/3",
        "Patient/2",
    ]


def test_fields_but_the_type_are_of_resources_only(charts: Store) -> None:
    assert found(charts, inside(None, Field("type", "=", "Patient"), "only")) == [
        ("Observation/1", "p"),
        ("Observation/1", "q"),
        ("Observation/3", "p"),
    ]
    for field in (
        Field("id", "=", "1"),
        Field("id", ">", ""),
        Field("address", "=", "Observation/1#p"),
        Field("updated", ">", 0),
    ):
        assert found(charts, inside("Patient", field, "only")) == []
        assert len(found(charts, inside("Patient", Not(field), "only"))) == 3
    assert found(charts, inside("Patient", Field("id", "=", "1"), "both")) == [("Patient/1", "")]
    assert len(found(charts, inside("Patient", Not(Field("id", "=", "1")), "both"))) == 4
    assert found(charts, inside("Patient", Field("updated", ">", 0), "both")) == [("Patient/1", ""), ("Patient/2", "")]


def test_pages_of_contained_matches_neither_repeat_nor_skip(charts: Store) -> None:
    from dataclasses import replace

    for containers in (False, True):
        for contained in ("only", "both"):
            for sort in ((), (SortKey((FAMILY,), "key"),), (SortKey((FAMILY,), "key", True), SortKey((), "id"))):
                if sort and containers:
                    continue
                search = inside("Patient", And(()), contained, containers=containers, sort=sort)
                whole = charts.search(search)
                expected = list(zip(matches(whole), whole.contained or [""] * len(whole.matches), strict=True))
                search = replace(search, count=1)
                walked = []
                while True:
                    page = charts.search(search)
                    walked += list(zip(matches(page), page.contained or [""], strict=True))
                    if page.next is None:
                        break
                    search = replace(search, after=page.next)
                assert walked == expected


def test_contained_matches_sort_by_their_own_values(charts: Store) -> None:
    assert found(charts, inside("Patient", And(()), "both", sort=(SortKey((FAMILY,), "key", True),))) == [
        ("Observation/1", "q"),
        ("Observation/3", "p"),
        ("Patient/2", ""),
        ("Patient/1", ""),
        ("Observation/1", "p"),
    ]


def test_totals_count_documents(charts: Store) -> None:
    assert charts.search(inside("Patient", And(()), "only", count=0)).total == 3
    assert charts.search(inside("Patient", And(()), "both", count=0)).total == 5
    assert charts.search(inside("Patient", And(()), "both", count=0, containers=True)).total == 4


def test_chains_end_at_contained_resources_when_the_target_says_so(charts: Store) -> None:
    def by_name(contained: str, name: str) -> list[str]:
        return find(charts, "Observation", Linked((SUBJECT,), Select(("Patient",), has_key(FAMILY, name), contained)))  # type: ignore[arg-type]

    assert by_name("no", "ann") == ["Observation/2"]
    assert by_name("only", "ann") == ["Observation/1"]
    assert by_name("both", "ann") == ["Observation/1", "Observation/2"]
    assert by_name("both", "bob") == ["Observation/3"]  # 1#q is contained but is not the subject


def test_reverse_chains_from_and_to_contained_resources(charts: Store) -> None:
    inner = Select(("Observation",), has_key(CODE, "x"), "only")
    assert found(charts, inside("Patient", LinkedFrom((SUBJECT,), inner), "only")) == [("Observation/3", "p")]
    outer = Select(("Observation",), has_key(CODE, "x"))
    assert found(charts, inside("Patient", LinkedFrom((SUBJECT,), outer), "only")) == [
        ("Observation/1", "p"),
        ("Observation/3", "p"),
    ]
    assert find(charts, "Patient", LinkedFrom((SUBJECT,), outer)) == []


def test_contained_documents_follow_their_container(charts: Store) -> None:
    given(
        charts,
        [put("Observation/1", [(CODE, "x")], inner=[("r", "Patient", [(FAMILY, "cid")], [])]), delete("Observation/3")],
    )
    assert found(charts, inside("Patient", And(()), "only")) == [("Observation/1", "r")]
    assert found(charts, inside("Patient", has(FAMILY), "both")) == [
        ("Patient/1", ""),
        ("Observation/1", "r"),
        ("Patient/2", ""),
    ]
    given(
        charts,
        [put("Observation/1", [(CODE, "x")])],
        [put("Observation/3", inner=[("p", "Patient", [(FAMILY, "dan")], [])])],
    )
    assert found(charts, inside("Patient", And(()), "only")) == [("Observation/3", "p")]
    assert list(charts.check()) == []
