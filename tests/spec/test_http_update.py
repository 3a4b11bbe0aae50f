"""R4 http.html#update, #upsert, #cond-update, #concurrency."""

from __future__ import annotations

import threading

import pytest

from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import identified, named, patient

MRN = "identifier=http://example.org/mrn%7C1"


@pytest.mark.parametrize("body", [patient("b", active=True), patient(active=True), patient("A", active=True)])
def test_update_with_another_id_or_none_in_the_body_is_400(client: Client, body: dict[str, object]) -> None:
    assert client.put("/Patient/a", body).status == 400
    assert client.get("/Patient/a").status == 404


def test_versions_and_times_of_the_body_are_ignored(client: Client) -> None:
    client.store(patient("a", active=True))
    body = patient("a", active=False, meta={"versionId": "99", "lastUpdated": "1999-01-01T00:00:00Z"})
    answer = client.put("/Patient/a", body)
    assert answer.status == 200
    assert answer.json["meta"]["versionId"] == "2"
    assert answer.json["meta"]["lastUpdated"].startswith("2026-")
    assert answer.headers["etag"] == 'W/"2"'


def test_tags_profiles_and_labels_are_kept_as_sent(client: Client) -> None:
    meta = {
        "profile": ["http://example.org/profile"],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}],
        "tag": [{"system": "http://example.org/tags", "code": "x", "display": "X"}],
    }
    stored = client.put("/Patient/a", patient("a", active=True, meta=meta)).json["meta"]
    assert {name: stored[name] for name in meta} == meta
    again = client.put("/Patient/a", patient("a", active=True)).json["meta"]
    assert set(again) == {"versionId", "lastUpdated"}


def test_update_as_create_is_201(client: Client) -> None:
    answer = client.put("/Patient/new", patient("new", active=True))
    assert answer.status == 201
    assert answer.headers["location"].endswith("/Patient/new/_history/1")


def test_update_as_create_can_be_switched_off(build: Build) -> None:
    client = build(update_create=False)
    assert client.put("/Patient/new", patient("new", active=True)).status == 405
    assert client.get("/metadata").json["rest"][0]["resource"][0]["updateCreate"] is False


@pytest.mark.both_stores
def test_update_of_a_deleted_id_resurrects_and_continues_its_versions(client: Client) -> None:
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    answer = client.put("/Patient/a", patient("a", active=False))
    assert answer.status == 201
    assert answer.json["meta"]["versionId"] == "3"
    assert client.get("/Patient/a").json["active"] is False
    assert client.get("/Patient?active=false").matches == ["a"]


def test_update_without_a_change_makes_a_version(client: Client) -> None:
    client.store(patient("a", active=True))
    assert client.put("/Patient/a", patient("a", active=True)).json["meta"]["versionId"] == "2"


def test_lastupdated_grows_with_every_version(client: Client) -> None:
    times = [client.put("/Patient/a", patient("a", active=True)).json["meta"]["lastUpdated"] for _ in range(5)]
    assert times == sorted(set(times))


# --- If-Match and If-None-Match ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag, status",
    [
        ('W/"2"', 200),
        ('"2"', 200),
        ('W/"1"', 412),
        ('"1"', 412),
        ('W/"1", W/"2"', 200),
        ('W/"1","7"', 412),
        ("*", 200),
        ("2", 400),
        ("garbage", 400),
        ('W/"2', 400),
        ('W/"2",', 400),
        ("", 400),
        ('W/"x"', 412),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match(client: Client, method: str, tag: str, status: int) -> None:
    client.store(patient("a", active=True))
    client.store(patient("a", active=False))
    if method == "PUT":
        answer = client.put("/Patient/a", patient("a", active=True), if_match=tag)
    elif method == "PATCH":
        answer = client.patch("/Patient/a", [{"op": "replace", "path": "/active", "value": True}], if_match=tag)
    else:
        answer = client.delete("/Patient/a", if_match=tag)
    assert answer.status == (204 if status == 200 and method == "DELETE" else status)
    assert len(client.get("/Patient/a/_history").entries) == (3 if status == 200 else 2)


@pytest.mark.parametrize("tag", ["*", 'W/"1"'])
def test_if_match_needs_a_current_version(client: Client, tag: str) -> None:
    assert client.put("/Patient/a", patient("a", active=True), if_match=tag).status == 412
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    assert client.put("/Patient/a", patient("a", active=True), if_match=tag).status == 412
    assert client.delete("/Patient/never", if_match=tag).status == 412


def test_put_with_if_none_match_star_creates_only(client: Client) -> None:
    body = patient("a", active=True)
    assert client.put("/Patient/a", body, if_none_match="*").status == 201
    assert client.put("/Patient/a", body, if_none_match="*").status == 412
    client.delete("/Patient/a")
    assert client.put("/Patient/a", body, if_none_match="*").status == 201


def _parallel(clients: list[Client], headers: dict[str, str]) -> list[int]:
    statuses: list[int] = []
    lock = threading.Lock()

    def run(number: int, client: Client) -> None:
        for turn in range(3):
            status = client.put("/Patient/a", named(f"N{number}-{turn}", "a"), **headers).status
            with lock:
                statuses.append(status)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.both_stores
def test_parallel_updates_make_versions_without_gap_or_duplicate(build: Build) -> None:
    clients = [build() for _ in range(4)]
    clients[0].store(patient("a", active=True))
    assert _parallel(clients, {}) == [200] * 12
    versions = [entry["resource"]["meta"]["versionId"] for entry in clients[0].get("/Patient/a/_history").entries]
    assert versions == [str(number) for number in range(13, 0, -1)]
    assert clients[0].get("/Patient").json["total"] == 1


@pytest.mark.both_stores
def test_of_parallel_updates_with_one_if_match_one_wins(build: Build) -> None:
    clients = [build() for _ in range(4)]
    clients[0].store(patient("a", active=True))
    statuses = _parallel(clients, {"if_match": 'W/"1"'})
    assert sorted(statuses) == [200] + [412] * 11


# --- conditional update -----------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_conditional_update(client: Client) -> None:
    created = client.put(f"/Patient?{MRN}", identified("1"))
    assert created.status == 201
    assert client.put(f"/Patient?{MRN}", identified("1", active=True)).json["id"] == created.id
    assert client.put(f"/Patient?{MRN}", identified("1", created.id)).status == 200
    other = client.put(f"/Patient?{MRN}", identified("1", "other"))
    assert other.status == 400
    client.post("/Patient", identified("1"))
    assert client.put(f"/Patient?{MRN}", identified("1")).status == 412
    assert client.get("/Patient").json["total"] == 2


def test_conditional_update_with_no_match_and_an_unused_id_creates_it(client: Client) -> None:
    answer = client.put(f"/Patient?{MRN}", identified("1", "mine"))
    assert answer.status == 201
    assert answer.id == "mine"


def test_conditional_update_honours_if_match(client: Client) -> None:
    client.store(identified("1", "a"))
    assert client.put(f"/Patient?{MRN}", identified("1"), if_match='W/"7"').status == 412
    assert client.put(f"/Patient?{MRN}", identified("1"), if_match='W/"1"').status == 200


def test_update_with_a_subsetted_resource_is_refused(client: Client) -> None:
    """It would take the place of the whole one."""
    client.store(named("Whole", "a", birthDate="1980-01-01"))
    part = client.get("/Patient/a?_elements=name").json
    answer = client.put("/Patient/a", part)
    assert answer.status == 422
    assert client.get("/Patient/a").json["birthDate"] == "1980-01-01"


# --- referential integrity --------------------------------------------------------------------------------------------


def test_references_to_absent_resources_are_accepted_by_default(client: Client) -> None:
    body = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/no"},
    }
    assert client.post("/Observation", body).status == 201


@pytest.mark.both_stores
def test_integrity_refuses_dangling_references_and_deletes_of_what_is_referred_to(build: Build) -> None:
    client = build(integrity=True)
    body = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
    body["subject"] = {"reference": "Patient/a"}  # type: ignore[assignment]
    answer = client.put("/Observation/o", body)
    assert answer.status == 422
    assert answer.json["issue"][0]["expression"] == ["Observation.subject.reference"]
    client.store(patient("a", active=True), body)
    assert client.delete("/Patient/a").status == 409
    assert client.delete("/Observation/o").status == 204
    assert client.delete("/Patient/a").status == 204
