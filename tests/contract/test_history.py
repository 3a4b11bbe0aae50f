"""Histories: order, periods, pages beside writers, watermark. R4 http.html#history."""

from dataclasses import replace

import pytest

from fhir_server.storage.protocol import HistoryQuery, Store
from fhir_server.storage.writes import Stored
from tests.support.given import delete, given, put

Written = dict[str, Stored]


def name(one: Stored) -> str:
    return f"{one.type[0]}{one.id}v{one.version}"


@pytest.fixture
def written(store: Store) -> Written:
    """Ten versions in seven transactions. P is Patient, O is Observation."""
    versions = given(
        store,
        [put("Patient/1"), put("Patient/2")],
        [put("Observation/1")],
        [put("Patient/1")],
        [delete("Patient/2")],
        [put("Observation/1"), put("Observation/2"), put("Patient/3")],
        [put("Patient/2")],
        [delete("Observation/1")],
    )
    return {name(one): one for one in versions}


def names(store: Store, **query: object) -> str:
    return " ".join(map(name, store.history(HistoryQuery(**query)).entries))  # type: ignore[arg-type]


def expected(written: Written, wanted: object = lambda one: True) -> str:
    found = [one for one in written.values() if wanted(one)]  # type: ignore[operator]
    found.sort(key=lambda one: (one.updated, one.type, one.id, one.version), reverse=True)
    return " ".join(map(name, found))


def test_the_system_history_is_everything_newest_first(store: Store, written: Written) -> None:
    assert names(store) == expected(written)
    assert len(expected(written).split()) == 10


def test_type_and_instance_histories(store: Store, written: Written) -> None:
    assert names(store, type="Patient") == expected(written, lambda one: one.type == "Patient")
    assert names(store, type="Patient", id="2") == "P2v3 P2v2 P2v1"
    assert names(store, type="Observation", id="1") == "O1v3 O1v2 O1v1"
    assert names(store, type="Patient", id="absent") == ""
    assert names(store, type="Device") == ""


def test_entries_are_the_versions_as_written(store: Store, written: Written) -> None:
    for one in store.history(HistoryQuery()).entries:
        assert one == written[name(one)]


@pytest.mark.parametrize(
    "query", [{}, {"type": "Patient"}, {"type": "Patient", "id": "2"}], ids=["system", "type", "instance"]
)
@pytest.mark.parametrize("count", [1, 2, 3, 9, 10])
def test_pages_together_are_the_whole(store: Store, written: Written, query: dict[str, str], count: int) -> None:
    whole = names(store, **query)
    ask = HistoryQuery(**query, count=count)  # type: ignore[arg-type]
    found: list[str] = []
    while True:
        page = store.history(ask)
        found += map(name, page.entries)
        if page.next is None:
            break
        assert len(page.entries) == count
        ask = replace(ask, before=page.next, until=page.watermark)
    assert " ".join(found) == whole


def test_since_is_inclusive(store: Store, written: Written) -> None:
    for since in (written["P1v2"].updated, written["P1v2"].updated + 1, 0):
        assert names(store, since=since) == expected(written, lambda one, since=since: one.updated >= since)
        assert names(store, type="Patient", since=since) == expected(
            written, lambda one, since=since: one.updated >= since and one.type == "Patient"
        )


def test_at_answers_what_was_current_in_a_period(store: Store, written: Written) -> None:
    def current(start: int, end: int) -> str:
        def was(one: Stored) -> bool:
            successor = written.get(f"{one.type[0]}{one.id}v{one.version + 1}")
            return one.updated < end and (successor is None or successor.updated > start)

        return expected(written, was)

    instants = sorted({one.updated for one in written.values()})
    for start in [instants[0] - 1, *instants, instants[-1] + 1]:
        for end in (start + 1, start + 3000, instants[-1] + 5):
            if end > start:
                assert names(store, at=(start, end)) == current(start, end)
    first = written["P1v1"].updated
    if written["O1v1"].updated > first:  # two commits may share a millisecond
        assert names(store, at=(first, first + 1)) == "P2v1 P1v1"
    assert names(store, type="Patient", id="1", at=(written["P1v2"].updated, written["P1v2"].updated + 1)) == "P1v2"


def test_totals_count_versions(store: Store, written: Written) -> None:
    assert store.history(HistoryQuery(total=True, count=3)).total == 10
    assert store.history(HistoryQuery(type="Patient", total=True, count=3)).total == 6
    assert store.history(HistoryQuery(type="Patient", id="2", total=True)).total == 3
    assert store.history(HistoryQuery(type="Device", total=True)).total == 0
    since = written["P2v3"].updated
    later = [one for one in written.values() if one.updated >= since]
    assert store.history(HistoryQuery(since=since, total=True)).total == len(later)
    assert store.history(HistoryQuery()).total is None


def test_a_watermark_covers_all_that_was_committed(store: Store, written: Written) -> None:
    page = store.history(HistoryQuery())
    assert page.watermark >= max(one.updated for one in written.values())


def test_nothing_commits_at_or_below_a_watermark(store: Store, written: Written) -> None:
    for number in range(30):
        watermark = store.history(HistoryQuery(count=1)).watermark
        (later,) = given(store, [put(f"Device/{number}")])
        assert later.updated > watermark


def test_pages_never_show_what_came_after_the_first(store: Store, written: Written) -> None:
    whole = names(store)
    ask = HistoryQuery(count=3)
    found: list[str] = []
    turn = 0
    while True:
        page = store.history(ask)
        found += map(name, page.entries)
        given(
            store, [put("Patient/1"), put(f"Device/{turn}")], [delete("Patient/3")] if turn == 0 else [put("Patient/9")]
        )
        turn += 1
        if page.next is None:
            break
        ask = replace(ask, before=page.next, until=page.watermark)
    assert " ".join(found) == whole


def test_instance_history_shows_a_write_at_once(store: Store) -> None:
    for turn in range(1, 20):
        given(store, [put("Patient/1")])
        assert store.history(HistoryQuery("Patient", "1")).entries[0].version == turn
        assert store.history(HistoryQuery("Patient")).entries[0].version == turn


def test_many_versions_at_one_instant_page_by_type_id_and_version(store: Store) -> None:
    given(store, [put(f"{kind}/{n:02}") for n in range(30) for kind in ("Patient", "Observation", "Device")])
    ask = HistoryQuery(count=7)
    found: list[Stored] = []
    while True:
        page = store.history(ask)
        found += page.entries
        if page.next is None:
            break
        ask = replace(ask, before=page.next, until=page.watermark)
    assert [(one.type, one.id) for one in found] == [
        (kind, f"{n:02}") for kind in ("Patient", "Observation", "Device") for n in reversed(range(30))
    ]
