"""R4 http.html#history; bundle.html bdl-3, bdl-4, bdl-7, bdl-8."""

from __future__ import annotations

import pytest

from tests.support.http import BASE, Client, Clock
from tests.support.resources import observation, patient


def versions(client: Client, path: str) -> list[str]:
    return [entry["response"]["location"].replace("/_history/", "@") for entry in client.get(path).entries]


@pytest.mark.both_stores
def test_history_of_create_update_and_delete(client: Client) -> None:
    id = client.post("/Patient", patient(active=True)).id
    client.put(f"/Patient/{id}", patient(id, active=False))
    client.delete(f"/Patient/{id}")
    answer = client.get(f"/Patient/{id}/_history")
    assert answer.json["type"] == "history"
    assert answer.json["total"] == 3
    requests = [(entry["request"]["method"], entry["request"]["url"]) for entry in answer.entries]
    assert requests == [("DELETE", f"Patient/{id}"), ("PUT", f"Patient/{id}"), ("POST", "Patient")]
    assert ["resource" in entry for entry in answer.entries] == [False, True, True]
    assert [entry["response"]["status"] for entry in answer.entries] == ["204", "200", "201"]
    assert [entry["response"]["etag"] for entry in answer.entries] == ['W/"3"', 'W/"2"', 'W/"1"']
    for entry in answer.entries[1:]:
        assert entry["response"]["lastModified"] == entry["resource"]["meta"]["lastUpdated"]
        assert entry["fullUrl"] == f"{BASE}/Patient/{id}"


def test_history_of_an_unknown_and_of_a_deleted_id(client: Client) -> None:
    assert client.get("/Patient/never/_history").status == 404
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    assert client.get("/Patient/a/_history").status == 200


def test_deleted_twice_in_one_page_keeps_full_urls_distinct(client: Client) -> None:
    for _ in range(2):
        client.store(patient("a", active=True))
        client.delete("/Patient/a")
    assert versions(client, "/Patient/a/_history") == [f"Patient/a@{number}" for number in (4, 3, 2, 1)]


def test_type_and_system_history_are_newest_first(client: Client) -> None:
    client.store(patient("a", active=True))
    client.store(observation("o"))
    client.store(patient("a", active=False))
    assert versions(client, "/Patient/_history") == ["Patient/a@2", "Patient/a@1"]
    assert versions(client, "/_history") == ["Patient/a@2", "Observation/o@1", "Patient/a@1"]
    assert client.get("/Patient/_history").json["total"] == 2


@pytest.mark.both_stores
def test_pages_of_history_have_no_gap_or_duplicate_while_writes_go_on(client: Client) -> None:
    for number in range(5):
        client.store(patient(f"p{number}", active=True))
    found: list[str] = []
    path: str | None = "/Patient/_history?_count=1"
    while path:
        answer = client.get(path)
        assert len(answer.entries) == 1
        found += [entry["response"]["location"] for entry in answer.entries]
        client.store(patient("p0", active=False))
        path = answer.link("next")
    assert found == [f"Patient/p{number}/_history/1" for number in (4, 3, 2, 1, 0)]


def test_next_of_a_history_is_opaque_and_bound_to_its_path(client: Client) -> None:
    client.store(patient("a", active=True), patient("b", active=True))
    next_link = client.get("/Patient/_history?_count=1&_since=2020").link("next")
    assert next_link is not None
    assert "2020" not in next_link
    token = next_link.partition("_cursor=")[2]
    assert client.get(f"/Observation/_history?_cursor={token}").status == 410
    assert client.get("/Patient/_history?_cursor=nonsense").status == 400


def test_self_shows_the_parameters_that_were_used(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/_history?_since=2020&_count=99999&nonsense=1")
    assert answer.link("self") == "/Patient/_history?_since=2020&_count=1000"


@pytest.mark.parametrize(
    "since, number",
    [
        ("2026-01-01T12:00:10Z", 2),
        ("2026-01-01T13:00:10%2B01:00", 2),
        ("2026-01-01T13:00:10+01:00", 2),
        ("2026-01-01T12:00:11Z", 1),
        ("2026-01-01", 3),
        ("2026-01-02", 0),
        ("2025", 3),
    ],
)
def test_since_includes_its_instant(client: Client, clock: Clock, since: str, number: int) -> None:
    """Writes at 12:00:00, at 12:00:10 to the millisecond, and at 12:00:20."""
    start = clock.now
    for second in (0, 10, 20):
        clock.now = start + second * 1_000_000 - 1000
        while clock.now < start + second * 1_000_000:
            clock.now += 1000
        client.server.store.transact(lambda tx: None)
        client.store(patient(f"p{second}", active=True))
    assert len(client.get(f"/_history?_since={since}").entries) == number


def test_at_shows_what_was_current(client: Client, clock: Clock) -> None:
    client.store(patient("a", active=True))
    clock.advance(3600)
    client.store(patient("a", active=False), patient("b", active=True))
    clock.advance(3600)
    client.delete("/Patient/a")
    assert versions(client, "/Patient/_history?_at=2026-01-01T12:30:00Z") == ["Patient/a@1"]
    assert sorted(versions(client, "/Patient/_history?_at=2026-01-01T13:30:00Z")) == ["Patient/a@2", "Patient/b@1"]
    assert sorted(versions(client, "/Patient/a/_history?_at=2026-01-01")) == [f"Patient/a@{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "query", ["_count=-1", "_count=x", "_since=x", "_at=2020-13", "_since=2020&_at=2020", "_count=1&_count=2"]
)
def test_bad_history_parameters_are_400(client: Client, query: str) -> None:
    client.store(patient("a", active=True))
    assert client.get(f"/Patient/a/_history?{query}").status == 400


def test_unknown_history_parameters(client: Client) -> None:
    client.store(patient("a", active=True))
    assert client.get("/Patient/a/_history?nonsense=1").status == 200
    assert client.get("/Patient/a/_history?nonsense=1", prefer="handling=strict").status == 400


def test_count_zero_has_no_entries(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/_history?_count=0")
    assert (answer.json["total"], answer.entries, answer.link("next")) == (1, [], None)
