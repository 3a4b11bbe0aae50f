"""R4 http.html#create, #ccreate, #ops; json.html."""

from __future__ import annotations

import threading

import pytest

from tests.spec.conftest import Build
from tests.support.http import BASE, Client
from tests.support.resources import identified, named, observation, patient

MRN = "identifier=http://example.org/mrn%7C1"


def test_create_gives_an_id_of_its_own_and_version_one(client: Client) -> None:
    answer = client.post(
        "/Patient", patient("x", active=True, meta={"versionId": "99", "lastUpdated": "1999-01-01T00:00:00Z"})
    )
    assert answer.status == 201
    assert answer.id != "x"
    assert answer.headers["location"] == f"{BASE}/Patient/{answer.id}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.json["meta"]["versionId"] == "1"
    assert answer.headers["last-modified"] == "Thu, 01 Jan 2026 12:00:00 GMT"
    assert answer.json["meta"]["lastUpdated"].startswith("2026-01-01T12:00:00.")
    assert client.get("/Patient/x").status == 404


@pytest.mark.parametrize(
    "prefer, kind",
    [
        ("return=minimal", None),
        ("return=representation", "Patient"),
        ("return=OperationOutcome", "OperationOutcome"),
        ("respond-async, return=minimal", None),
        ("return=nonsense", "Patient"),
    ],
)
def test_prefer_return(client: Client, prefer: str, kind: str | None) -> None:
    answer = client.post("/Patient", patient(active=True), prefer=prefer)
    assert answer.status == 201
    assert {"location", "etag", "last-modified"} <= answer.headers.keys()
    assert (answer.json["resourceType"] if answer.body else None) == kind


def test_return_outcome_shows_the_warnings_of_a_write(client: Client) -> None:
    answer = client.post("/Observation", observation(subject="Practitioner/1"), prefer="return=OperationOutcome")
    assert answer.status == 201
    assert ("warning", ["Observation.subject"]) in [
        (issue["severity"], issue.get("expression")) for issue in answer.json["issue"]
    ]


def test_strict_validation_makes_errors_of_warnings(build: Build) -> None:
    strict = build(validation="strict")
    assert strict.post("/Observation", observation(subject="Practitioner/1")).status >= 400


@pytest.mark.parametrize(
    "body, type, status",
    [
        (b"{}", "application/pdf", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/fhir+json; fhirVersion=5.0", 415),
        (b"{}", "application/fhir+json; charset=latin-1", 415),
        (b"{}", "", 415),
        (b"{", "application/fhir+json", 400),
        (b"", "application/fhir+json", 400),
        (b"[]", "application/fhir+json", 400),
        (b"null", "application/fhir+json", 400),
        (b'{"resourceType":"Observation","status":"final","code":{"text":"x"}}', "application/fhir+json", 400),
        (b'{"resourceType":"Patient","nonsense":1}', "application/fhir+json", 400),
        (b'{"resourceType":"Patient","active":true,"active":false}', "application/fhir+json", 400),
        (b'{"resourceType":"Patient","gender":"x"}', "application/fhir+json", 422),
        (b'{"resourceType":"Patient","contact":[{"gender":"male"}]}', "application/fhir+json", 422),
        (b'{"resourceType":"Patient","active":true} x', "application/fhir+json", 400),
        (b"<Patient", "application/fhir+xml", 400),
    ],
)
def test_bodies_that_cannot_be_stored(client: Client, body: bytes, type: str, status: int) -> None:
    answer = client.request("POST", "/Patient", body, type=type)
    assert answer.status == status
    assert client.get("/Patient").json["total"] == 0


def test_all_findings_are_reported_with_their_expressions(client: Client) -> None:
    answer = client.post("/Patient", patient(active="yes", gender="x", birthDate="2020-13-45", nonsense=1))
    assert answer.status == 400
    found = {path for issue in answer.json["issue"] if issue["severity"] == "error" for path in issue["expression"]}
    assert found == {"Patient.active", "Patient.gender", "Patient.birthDate", "Patient.nonsense"}


def test_create_in_xml_is_stored_as_json(client: Client) -> None:
    body = b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>'
    answer = client.request("POST", "/Patient", body, type="application/fhir+xml", accept="application/fhir+xml")
    assert answer.status == 201
    assert b'<active value="true"/>' in answer.body
    assert client.get("/Patient").entries[0]["resource"]["active"] is True


def test_member_order_of_the_body_is_kept(client: Client) -> None:
    body = b'{"name":[{"family":"x"}],"resourceType":"Patient","meta":{"tag":[{"code":"t"}]},"active":true}'
    stored = client.request("POST", "/Patient", body).body
    positions = [stored.index(part) for part in (b'"name"', b'"tag"', b'"active"')]
    assert positions == sorted(positions)


# --- conditional create -----------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_conditional_create_with_no_one_and_many_matches(client: Client) -> None:
    first = client.post("/Patient", identified("1"), if_none_exist=MRN)
    assert first.status == 201
    second = client.post("/Patient", identified("1", active=True), if_none_exist=MRN)
    assert second.status == 200
    assert second.headers["location"] == first.headers["location"]
    assert second.json == first.json
    client.post("/Patient", identified("1"))
    assert client.post("/Patient", identified("1"), if_none_exist=MRN).status == 412


@pytest.mark.parametrize(
    "criteria, statuses",
    [
        ("", (412,)),
        ("?", (412,)),
        ("nonsense=1", (400, 412)),
        ("_format=json", (412,)),
        ("_count=1", (412,)),
        ("identifier=", (412,)),
        ("nonsense=1&active=true", (400, 412)),
    ],
)
def test_criteria_that_restrict_nothing_never_match_everything(
    client: Client, criteria: str, statuses: tuple[int, ...]
) -> None:
    client.store(named("Only", "a", active=True))
    assert client.post("/Patient", patient(active=True), if_none_exist=criteria).status in statuses
    assert client.put(f"/Patient?{criteria}", patient(active=False)).status in statuses
    assert client.delete(f"/Patient?{criteria}").status in statuses
    assert client.patch(f"/Patient?{criteria}", []).status in statuses
    assert client.get("/Patient/a").json["active"] is True
    assert client.get("/Patient").json["total"] == 1


@pytest.mark.both_stores
def test_parallel_identical_conditional_creates_make_one_resource(build: Build, store_name: str) -> None:
    number = 12 if store_name == "mongo" else 50
    clients = [build() for _ in range(4)]
    statuses: list[int] = []
    lock = threading.Lock()
    remaining = iter(range(number))

    def run(one: Client) -> None:
        while True:
            with lock:
                if next(remaining, None) is None:
                    return
            status = one.post("/Patient", identified("1"), if_none_exist=MRN).status
            with lock:
                statuses.append(status)

    threads = [threading.Thread(target=run, args=(one,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * (number - 1) + [201]
    assert clients[0].get("/Patient").json["total"] == 1


def test_a_conditional_create_leaves_nothing_behind_that_refuses_a_later_create(client: Client) -> None:
    first = client.post("/Patient", identified("1"), if_none_exist=MRN)
    client.delete(f"/Patient/{first.id}")
    assert client.post("/Patient", identified("1"), if_none_exist=MRN).status == 201


# --- unique keys ------------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_a_unique_identifier_is_held_by_one_current_resource(build: Build) -> None:
    client = build(unique_identifiers={"Patient": ("http://example.org/mrn",)})
    first = client.post("/Patient", identified("1"))
    answer = client.post("/Patient", identified("1"))
    assert answer.status == 409
    assert answer.json["issue"][0]["code"] == "duplicate"
    assert client.put(f"/Patient/{first.id}", identified("2", first.id)).status == 200
    assert client.post("/Patient", identified("1")).status == 201
    client.delete(f"/Patient/{first.id}")
    assert client.post("/Patient", identified("2")).status == 201
