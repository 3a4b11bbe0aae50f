"""R4 http.html#transaction, #trules, #brules; bundle.html."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from typing import Any

import pytest

from fhir_server.errors import Busy
from tests.spec.conftest import Build
from tests.support.http import BASE, Answer, Client
from tests.support.resources import bundle, entry, identified, named, observation, patient

A = "urn:uuid:0aa91c3b-3b4b-4ed8-b3a9-b7f3a2f9e0b4"
B = "urn:uuid:0aa91c3b-3b4b-4ed8-b3a9-b7f3a2f9e0b5"
MRN = "identifier=http://example.org/mrn|1"


def transact(client: Client, *entries: dict[str, Any], **headers: str) -> Answer:
    return client.post("", bundle(*entries), **headers)


def statuses(answer: Answer) -> list[str]:
    return [entry["response"]["status"][:3] for entry in answer.entries]


def id_of(answer: Answer, index: int) -> str:
    return str(answer.entries[index]["response"]["location"].split("/")[1])


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_entries_are_processed_delete_post_put_get_whatever_their_order(client: Client, order: tuple[int, ...]) -> None:
    client.store(named("Old", "gone"), named("Before", "kept"))
    entries = [
        entry("GET", "Patient?family:exact=New,After,Old"),
        entry("PUT", "Patient/kept", named("After", "kept")),
        entry("POST", "Patient", named("New")),
        entry("DELETE", "Patient/gone"),
    ]
    answer = transact(client, *(entries[index] for index in order))
    by_entry = {index: answer.entries[place] for place, index in enumerate(order)}
    assert [by_entry[index]["response"]["status"][:3] for index in range(4)] == ["200", "200", "201", "204"]
    found = [one["resource"]["name"][0]["family"] for one in by_entry[0]["resource"]["entry"]]
    assert sorted(found) == ["After", "New"]


@pytest.mark.both_stores
def test_response_entries_correspond_to_the_request_entries(client: Client) -> None:
    client.store(named("Old", "gone"), named("Before", "kept"))
    answer = transact(
        client,
        entry("GET", "Patient/kept"),
        entry("PUT", "Patient/kept", named("After", "kept")),
        entry("POST", "Patient", named("New")),
        entry("DELETE", "Patient/gone"),
    )
    assert answer.json["type"] == "transaction-response"
    assert statuses(answer) == ["200", "200", "201", "204"]
    assert answer.entries[0]["resource"]["name"][0]["family"] == "After"
    response = answer.entries[1]["response"]
    assert response["location"] == "Patient/kept/_history/2"
    assert response["etag"] == 'W/"2"'
    assert response["lastModified"] == client.get("/Patient/kept").json["meta"]["lastUpdated"]
    assert "resource" not in answer.entries[1]


@pytest.mark.parametrize(
    "prefer, expected",
    [("return=minimal", None), ("return=representation", "resource"), ("return=OperationOutcome", "outcome")],
)
def test_prefer_return_in_a_transaction(client: Client, prefer: str, expected: str | None) -> None:
    found = transact(client, entry("POST", "Patient", patient(active=True)), prefer=prefer).entries[0]
    assert ("resource" in found) == (expected == "resource")
    assert ("outcome" in found["response"]) == (expected == "outcome")


# --- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second",
    [
        (entry("PUT", "Patient/a", patient("a", active=True)), entry("PUT", "Patient/a", patient("a", active=False))),
        (entry("PUT", "Patient/a", patient("a", active=True)), entry("DELETE", "Patient/a")),
        (entry("DELETE", "Patient/a"), entry("DELETE", "Patient/a")),
        (entry("PUT", "Patient/a", identified("1", "a")), entry("PUT", f"Patient?{MRN}", identified("1"))),
        (entry("DELETE", f"Patient?{MRN}"), entry("PUT", "Patient/a", identified("1", "a"))),
        (entry("POST", "Patient", identified("2")), entry("PUT", "Patient?identifier=2", identified("2"))),
        (entry("PUT", "Patient?identifier=2", identified("2")), entry("PUT", "Patient?identifier=2", identified("2"))),
        (entry("POST", "Patient", named("X"), A), entry("POST", "Patient", named("Y"), A)),
    ],
)
def test_the_same_identity_twice_fails_the_transaction(
    client: Client, first: dict[str, Any], second: dict[str, Any]
) -> None:
    client.store(identified("1", "a", active=True))
    for entries in ((first, second), (second, first)):
        answer = transact(client, *entries)
        assert answer.status == 400
        assert client.get("/Patient/a").headers["etag"] == 'W/"1"'
        assert client.get("/Patient").json["total"] == 1


def test_ids_that_differ_in_case_are_different_identities(client: Client) -> None:
    answer = transact(
        client,
        entry("PUT", "Patient/a", patient("a", active=True)),
        entry("PUT", "Patient/A", patient("A", active=True)),
    )
    assert answer.status == 200


# --- all or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
@pytest.mark.parametrize(
    "bad, status",
    [
        (entry("POST", "Patient", patient(gender="nonsense")), 422),
        (entry("POST", "Patient", patient(nonsense=1)), 400),
        (entry("PUT", "Patient/b", patient("c", active=True)), 400),
        (entry("PUT", "Patient/kept", patient("kept", active=True), ifMatch='W/"9"'), 412),
        (entry("GET", "Patient/nobody"), 404),
        (entry("POST", "Nonsense", {"resourceType": "Nonsense"}), 404),
        (entry("DELETE", "Patient"), 412),
    ],
)
def test_one_bad_entry_leaves_nothing_behind(client: Client, bad: dict[str, Any], status: int) -> None:
    client.store(patient("kept", active=True))
    answer = transact(client, entry("POST", "Patient", named("Good")), bad)
    assert answer.status == status
    assert all(path.startswith("Bundle.entry[1]") for issue in answer.json["issue"] for path in issue["expression"])
    assert client.get("/Patient?_summary=count").json["total"] == 1
    assert len(client.get("/_history").entries) == 1


def test_all_bad_entries_are_named(client: Client) -> None:
    answer = transact(
        client,
        entry("POST", "Patient", patient(gender="x")),
        entry("POST", "Patient", patient(active=True)),
        entry("POST", "Patient", patient(birthDate="x")),
    )
    found = {issue["expression"][0] for issue in answer.json["issue"] if issue["severity"] == "error"}
    assert found == {"Bundle.entry[0].resource.gender", "Bundle.entry[2].resource.birthDate"}


def test_a_store_that_cannot_commit_atomically_refuses_the_transaction(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Busy

    monkeypatch.setattr(type(client.server.store), "transact", refuse)
    answer = transact(client, entry("POST", "Patient", patient(active=True)))
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"


@pytest.mark.both_stores
def test_conflicting_transactions_in_parallel_are_never_half_applied(build: Build) -> None:
    clients = [build() for _ in range(3)]
    clients[0].store(patient("a", active=True), patient("b", active=True))
    found: list[int] = []

    def run(number: int) -> None:
        for turn in range(3):
            pair = [
                entry("PUT", f"Patient/{id}", named(f"N{number}-{turn}", id)) for id in ("ab" if number % 2 else "ba")
            ]
            found.append(transact(clients[number], *pair).status)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) <= {200, 409, 503}
    a, b = clients[0].get("/Patient/a").json, clients[0].get("/Patient/b").json
    assert a["name"] == b["name"]
    assert a["meta"]["versionId"] == b["meta"]["versionId"] == str(1 + found.count(200))


# --- references -------------------------------------------------------------------------------------------------------


def test_urns_are_rewritten_everywhere(client: Client) -> None:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{A}">x</a> <img src="{A}" alt="i"/> {A}</div>'
    body = observation(
        subject=A,
        text={"status": "additional", "div": div},
        extension=[
            {"url": "http://example.org/uri", "valueUri": A},
            {"url": "http://example.org/url", "valueUrl": A},
            {"url": "http://example.org/ref", "valueReference": {"reference": A}},
            {"url": "http://example.org/string", "valueString": A},
        ],
        contained=[
            {
                "resourceType": "Provenance",
                "id": "p",
                "target": [{"reference": "#"}],
                "recorded": "2020-01-01T00:00:00Z",
                "agent": [{"who": {"reference": A}}],
            }
        ],
        identifier=[{"system": "urn:ietf:rfc:3986", "value": A}],
        focus=[{"reference": "#p"}],
    )
    answer = transact(client, entry("POST", "Observation", body, B), entry("POST", "Patient", patient(active=True), A))
    assert answer.status == 200, answer.body
    stored = client.get(f"/Observation/{id_of(answer, 0)}").json
    address = f"Patient/{id_of(answer, 1)}"
    assert stored["subject"]["reference"] == address
    assert [next(v for k, v in one.items() if k != "url") for one in stored["extension"]] == [
        address,
        address,
        {"reference": address},
        A,
    ]
    assert stored["contained"][0]["agent"][0]["who"]["reference"] == address
    assert stored["contained"][0]["target"][0]["reference"] == "#"
    assert stored["focus"][0]["reference"] == "#p"
    assert stored["identifier"][0]["value"] == A
    assert stored["text"]["div"] == div.replace(f'href="{A}"', f'href="{address}"').replace(
        f'src="{A}"', f'src="{address}"'
    )


@pytest.mark.parametrize(
    "full_url, reference",
    [
        (A, A.upper().replace("URN:UUID", "urn:uuid")),
        (A.upper(), A),
        ("urn:oid:1.2.3.4", "urn:oid:1.2.3.4"),
        ("http://other.example/fhir/Patient/7", "http://other.example/fhir/Patient/7"),
        ("http://other.example/fhir/Patient/7", "Patient/7"),
    ],
)
def test_full_urls_of_all_kinds_are_rewritten(client: Client, full_url: str, reference: str) -> None:
    own = "http://other.example/fhir/Observation/1"
    answer = transact(
        client,
        entry("POST", "Patient", patient(active=True), full_url),
        entry("POST", "Observation", observation(subject=reference), own),
    )
    assert answer.status == 200, answer.body
    stored = client.get(f"/Observation/{id_of(answer, 1)}").json
    assert stored["subject"]["reference"] == f"Patient/{id_of(answer, 0)}"


def test_entries_may_refer_to_each_other_in_a_circle(client: Client) -> None:
    answer = transact(
        client,
        entry("POST", "Patient", patient(link=[{"other": {"reference": B}, "type": "seealso"}]), A),
        entry("POST", "Patient", patient(link=[{"other": {"reference": A}, "type": "seealso"}]), B),
    )
    first = client.get(f"/Patient/{id_of(answer, 0)}").json
    assert first["link"][0]["other"]["reference"] == f"Patient/{id_of(answer, 1)}"


def test_a_dangling_urn_is_422(client: Client) -> None:
    answer = transact(client, entry("POST", "Observation", observation(subject=A)))
    assert answer.status == 422
    assert client.get("/Observation").json["total"] == 0


def test_references_to_what_a_condition_found_lead_there(client: Client) -> None:
    client.store(identified("1", "mine"))
    answer = transact(
        client,
        entry("POST", "Observation", observation(subject=A)),
        entry("POST", "Patient", identified("1"), A, ifNoneExist=MRN),
        entry("POST", "Observation", observation(subject=B)),
        entry("PUT", "Patient?identifier=2", identified("2"), B),
    )
    assert statuses(answer) == ["201", "200", "201", "201"]
    assert client.get(f"/Observation/{id_of(answer, 0)}").json["subject"]["reference"] == "Patient/mine"
    found = client.get("/Observation?subject=Patient/mine")
    assert found.matches == [id_of(answer, 0)]
    again = transact(
        client,
        entry("POST", "Observation", observation(subject=B)),
        entry("PUT", "Patient?identifier=2", identified("2"), B),
    )
    assert statuses(again) == ["201", "200"]
    assert client.get(f"/Observation/{id_of(again, 0)}").json["subject"]["reference"] == f"Patient/{id_of(answer, 3)}"


@pytest.mark.both_stores
@pytest.mark.parametrize("number, status", [(0, 412), (1, 200), (2, 412)])
def test_a_conditional_reference_needs_exactly_one_match(client: Client, number: int, status: int) -> None:
    client.store(named("Other", "other"), *(identified("1", f"p{index}") for index in range(number)))
    answer = transact(client, entry("POST", "Observation", observation(subject=f"Patient?{MRN}")))
    assert answer.status == status
    if status == 200:
        assert client.get("/Observation?subject=Patient/p0").json["total"] == 1
    else:
        assert client.get("/Observation").json["total"] == 0


def test_conditional_references_see_what_the_transaction_writes(client: Client) -> None:
    client.store(identified("1", "old"))
    answer = transact(
        client,
        entry("POST", "Observation", observation(subject=f"Patient?{MRN}")),
        entry("PUT", "Patient/old", identified("9", "old")),
        entry("POST", "Patient", identified("1")),
    )
    assert answer.status == 200, answer.body
    stored = client.get(f"/Observation/{id_of(answer, 0)}").json
    assert stored["subject"]["reference"] == f"Patient/{id_of(answer, 2)}"
    assert (
        transact(
            client,
            entry("POST", "Observation", observation(subject=f"Patient?{MRN}")),
            entry("DELETE", f"Patient/{id_of(answer, 2)}"),
        ).status
        == 412
    )


# --- conditions per entry ---------------------------------------------------------------------------------------------


def test_if_none_exist_in_an_entry(client: Client) -> None:
    first = transact(client, entry("POST", "Patient", identified("1"), ifNoneExist=MRN))
    second = transact(client, entry("POST", "Patient", identified("1"), ifNoneExist=MRN))
    assert (statuses(first), statuses(second)) == (["201"], ["200"])
    assert id_of(first, 0) == id_of(second, 0)
    client.post("/Patient", identified("1"))
    assert transact(client, entry("POST", "Patient", identified("1"), ifNoneExist=MRN)).status == 412


def test_a_conditional_create_sees_the_deletes_of_its_transaction(client: Client) -> None:
    client.store(identified("1", "old"))
    answer = transact(
        client, entry("POST", "Patient", identified("1"), ifNoneExist=MRN), entry("DELETE", "Patient/old")
    )
    assert statuses(answer) == ["201", "204"]


def test_the_same_conditional_create_twice_makes_one_resource(client: Client) -> None:
    one, two = (entry("POST", "Patient", identified("1"), url, ifNoneExist=MRN) for url in (A, B))
    answer = transact(
        client,
        one,
        two,
        entry("POST", "Observation", observation(subject=A)),
        entry("POST", "Observation", observation(subject=B)),
    )
    assert statuses(answer) == ["201", "200", "201", "201"]
    assert id_of(answer, 0) == id_of(answer, 1)
    assert client.get(f"/Observation?subject=Patient/{id_of(answer, 0)}").json["total"] == 2
    different = entry("POST", "Patient", identified("5", active=True), ifNoneExist="identifier=5")
    other = entry("POST", "Patient", identified("5"), ifNoneExist="identifier=5")
    assert transact(client, different, other).status == 412


def test_if_match_and_if_none_match_in_entries(client: Client) -> None:
    client.store(patient("a", active=True))
    body = patient("a", active=False)
    assert transact(client, entry("PUT", "Patient/a", body, ifMatch='W/"2"')).status == 412
    assert transact(client, entry("PUT", "Patient/a", body, ifNoneMatch="*")).status == 412
    assert transact(client, entry("DELETE", "Patient/a", ifMatch='W/"2"')).status == 412
    assert transact(client, entry("PUT", "Patient/a", body, ifMatch='W/"1"')).status == 200


def test_conditional_reads_in_entries(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = transact(
        client,
        entry("GET", "Patient/a", ifNoneMatch='W/"1"'),
        entry("GET", "Patient/a", ifModifiedSince="2026-01-02T00:00:00Z"),
        entry("GET", "Patient/a", ifModifiedSince="2025-01-02T00:00:00Z"),
    )
    assert statuses(answer) == ["304", "304", "200"]
    assert ["resource" in one for one in answer.entries] == [False, False, True]


def test_conditional_deletes_in_entries(client: Client) -> None:
    client.store(*(named("Same", f"p{number}") for number in range(3)), named("Other", "o"))
    answer = transact(client, entry("DELETE", "Patient?family=same"), entry("POST", "Patient", named("Same")))
    assert statuses(answer) == ["204", "201"]
    assert client.get("/Patient").json["total"] == 2


def test_get_entries_of_all_kinds(client: Client) -> None:
    client.store(named("One", "a"))
    answer = transact(
        client,
        entry("PUT", "Patient/a", named("Two", "a")),
        entry("GET", "Patient/a"),
        entry("HEAD", "Patient/a"),
        entry("GET", "Patient/a/_history/1"),
        entry("GET", "Patient/a/_history"),
        entry("GET", "Patient?family=two&_elements=name"),
        entry("GET", "metadata"),
        entry("GET", f"{BASE}/Patient/a?_summary=data"),
    )
    assert statuses(answer) == ["200"] * 8, answer.body
    kinds = [one.get("resource", {}).get("resourceType") for one in answer.entries]
    assert kinds == [None, "Patient", None, "Patient", "Bundle", "Bundle", "CapabilityStatement", "Patient"]
    assert answer.entries[1]["resource"]["name"][0]["family"] == "Two"
    assert len(answer.entries[4]["resource"]["entry"]) == 2
    assert "SUBSETTED" in json.dumps(answer.entries[5])
    assert "SUBSETTED" in json.dumps(answer.entries[7])


# --- patches and operations in Bundles --------------------------------------------------------------------------------


def test_patches_in_a_transaction(client: Client) -> None:
    client.store(patient("a", active=True), patient("b", birthDate="1980-01-01"))
    operations = json.dumps([{"op": "replace", "path": "/active", "value": False}]).encode()
    binary = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(operations).decode(),
    }
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.birthDate"}],
            }
        ],
    }
    answer = transact(client, entry("PATCH", "Patient/a", binary), entry("PATCH", "Patient?birthdate=1980", parameters))
    assert statuses(answer) == ["200", "200"], answer.body
    assert client.get("/Patient/a").json["active"] is False
    assert "birthDate" not in client.get("/Patient/b").json
    assert transact(client, entry("PATCH", "Patient/a", patient("a"))).status == 400


def test_operations_in_a_transaction(client: Client) -> None:
    client.store(patient("a", active=True))
    tag = {"system": "http://example.org/tags", "code": "x"}
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [tag]}}]}
    answer = transact(
        client, entry("POST", "Patient/a/$meta-add", meta), entry("POST", "Patient/$validate", patient(active=True))
    )
    assert statuses(answer) == ["200", "200"], answer.body
    assert client.get("/Patient?_tag=x").matches == ["a"]


# --- the Bundle itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_an_empty_bundle_answers_an_empty_bundle(client: Client, kind: str) -> None:
    answer = client.post("", bundle(type=kind))
    assert answer.status == 200
    assert answer.json["type"] == f"{kind}-response"
    assert "entry" not in answer.json


@pytest.mark.parametrize(
    "body",
    [
        bundle(type="collection"),
        bundle(type="searchset"),
        patient(active=True),
        {"resourceType": "Bundle"},
        bundle(entry("FETCH", "Patient")),
        bundle({"resource": patient()}),
        bundle(entry("GET", "http://elsewhere.example/fhir/Patient")),
    ],
)
def test_what_cannot_be_executed_is_400(client: Client, body: dict[str, Any]) -> None:
    assert client.post("", body).status == 400


def test_posting_to_bundle_stores_the_bundle(client: Client) -> None:
    body = bundle(entry("POST", "Patient", patient(active=True), A))
    answer = client.post("/Bundle", body)
    assert answer.status == 201
    assert client.get("/Patient").json["total"] == 0
    within = transact(client, entry("POST", "Bundle", body))
    assert statuses(within) == ["201"]


# --- batch ------------------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_batch_entries_are_independent(client: Client) -> None:
    answer = client.post(
        "",
        bundle(
            entry("POST", "Patient", named("Good")),
            entry("POST", "Patient", patient(gender="nonsense")),
            entry("GET", "Patient/nobody"),
            entry("POST", "", bundle(type="batch")),
            entry("FETCH", "Patient"),
            {"resource": named("Homeless")},
            entry("GET", "Patient?family=good&_summary=count"),
            entry("POST", "Nonsense", patient()),
            type="batch",
        ),
    )
    assert answer.status == 200
    assert answer.json["type"] == "batch-response"
    assert statuses(answer) == ["201", "422", "404", "400", "400", "400", "200", "404"]
    for index, one in enumerate(answer.entries):
        if one["response"]["status"] >= "4":
            issues = one["response"]["outcome"]["issue"]
            assert all(path.startswith(f"Bundle.entry[{index}]") for issue in issues for path in issue["expression"])
    assert answer.entries[6]["resource"]["total"] == 1


def test_references_between_batch_entries_are_not_resolved(client: Client) -> None:
    answer = client.post(
        "",
        bundle(
            entry("POST", "Patient", patient(active=True), A),
            entry("POST", "Observation", observation(subject=A)),
            type="batch",
        ),
    )
    assert statuses(answer) == ["201", "422"]


def test_summary_and_elements_are_honoured_in_batch_entries(client: Client) -> None:
    client.store(named("Whole", "a", birthDate="1980-01-01"))
    answer = client.post(
        "",
        bundle(entry("GET", "Patient/a?_elements=name"), entry("GET", "Patient?_id=a&_elements=name"), type="batch"),
    )
    first, second = answer.entries[0]["resource"], answer.entries[1]["resource"]["entry"][0]["resource"]
    assert set(first) == set(second) == {"resourceType", "id", "meta", "name"}


# --- the ledger of loads ----------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_a_transaction_with_a_ledger_key_is_executed_once(client: Client) -> None:
    from fhir_server.authorize import EVERYTHING
    from fhir_server.context import RequestContext
    from fhir_server.interactions.bundle import execute_bundle
    from fhir_server.repository import Repository

    repository = Repository(client.server, RequestContext(EVERYTHING))
    body = bundle(entry("POST", "Patient", patient(active=True)))
    assert execute_bundle(repository, body, ledger_key="ledger/1") is not None
    assert execute_bundle(repository, body, ledger_key="ledger/1") is None
    batch = bundle(entry("POST", "Patient", patient(active=True)), type="batch")
    for _ in range(2):
        assert execute_bundle(repository, batch, ledger_key="ledger/2") is not None
    assert client.get("/Patient").json["total"] == 2


def test_a_transaction_in_xml(client: Client) -> None:
    body = (
        '<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/>'
        f'<entry><fullUrl value="{A}"/><resource><Patient><active value="true"/></Patient></resource>'
        '<request><method value="POST"/><url value="Patient"/></request></entry>'
        '<entry><resource><Observation><status value="final"/><code><text value="x"/></code>'
        f'<subject><reference value="{A}"/></subject></Observation></resource>'
        '<request><method value="POST"/><url value="Observation"/></request></entry></Bundle>'
    )
    answer = client.request("POST", "", body.encode(), type="application/fhir+xml", accept="application/fhir+json")
    assert statuses(answer) == ["201", "201"]
    assert client.get(f"/Observation?subject=Patient/{id_of(answer, 0)}").json["total"] == 1
    assert b"<Bundle" in client.request("POST", "", body.encode(), type="application/fhir+xml", accept="text/xml").body
