"""What is not seen and what is not there are answered alike, byte for byte but for the id that was asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fhir_server.app import create_app
from tests.isolation.conftest import Clients, NewServer, clients_of
from tests.isolation.world import ABSENT, everything, fill
from tests.support.http import Answer, Client
from tests.support.resources import bundle, entry, identified, observation

FOREIGN = "ob-c"
TAG = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "t"}]}}]}
DELETION = {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "delete"}]}


def about(owner: str, id_: str) -> dict[str, Any]:
    return observation(id_, f"Patient/{owner}")


def requests(id_: str) -> list[tuple[str, str, Any, dict[str, str]]]:
    """Everything that can be asked about an Observation by its id."""
    url = f"/Observation/{id_}"
    return [
        ("GET", url, None, {}),
        ("HEAD", url, None, {}),
        ("GET", f"{url}?_format=xml", None, {}),
        ("GET", f"{url}?_summary=true", None, {}),
        ("GET", url, None, {"if_none_match": 'W/"1"'}),
        ("GET", url, None, {"if_none_match": "*"}),
        ("GET", url, None, {"if_modified_since": "Sun, 06 Nov 2050 08:49:37 GMT"}),
        ("GET", f"{url}/_history", None, {}),
        ("GET", f"{url}/_history?_since=2020-01-01", None, {}),
        ("GET", f"{url}/_history/1", None, {}),
        ("GET", f"{url}/_history/2", None, {}),
        ("GET", f"{url}/_history/7", None, {}),
        ("GET", f"{url}/$meta", None, {}),
        ("GET", f"{url}/_history/1/$meta", None, {}),
        ("POST", f"{url}/$validate", DELETION, {}),
        ("POST", f"{url}/$meta-add", TAG, {}),
        ("POST", f"{url}/$meta-delete", TAG, {}),
        ("PUT", url, about("a", id_), {}),
        ("PUT", url, about("c", id_), {}),
        ("PUT", url, about("a", id_), {"if_match": 'W/"1"'}),
        ("PUT", url, about("a", id_), {"if_match": 'W/"9"'}),
        ("PUT", url, about("a", id_), {"if_none_match": "*"}),
        ("PUT", f"/Observation?_id={id_}", about("a", id_), {}),
        ("PATCH", url, [{"op": "add", "path": "/note", "value": [{"text": "x"}]}], {}),
        ("PATCH", url, [{"op": "test", "path": "/status", "value": "x"}], {}),
        ("PATCH", f"/Observation?_id={id_}", [], {}),
        ("DELETE", url, None, {"if_match": 'W/"1"'}),
        ("DELETE", url, None, {}),
        ("DELETE", url, None, {"prefer": "return=OperationOutcome"}),
        ("DELETE", f"/Observation?_id={id_}", None, {}),
        ("GET", f"/Observation?_id={id_}&_total=accurate", None, {}),
        ("GET", f"/Observation?derived-from:Observation._id={id_}", None, {}),
        ("GET", f"/Observation?_has:Observation:derived-from:_id={id_}", None, {}),
        ("POST", "", bundle(entry("GET", f"Observation/{id_}"), type="batch"), {}),
        ("POST", "", bundle(entry("PUT", f"Observation/{id_}", about("a", id_)), type="batch"), {}),
        ("POST", "", bundle(entry("DELETE", f"Observation/{id_}"), type="batch"), {}),
        ("POST", "", bundle(entry("GET", f"Observation/{id_}")), {}),
        ("POST", "", bundle(entry("PUT", f"Observation/{id_}", about("a", id_))), {}),
        ("POST", "", bundle(entry("DELETE", f"Observation/{id_}", ifMatch='W/"1"')), {}),
        ("POST", "", bundle(entry("DELETE", f"Observation/{id_}")), {}),
    ]


def plain(answer: Answer, id_: str) -> tuple[int, dict[str, str], str]:
    """An answer without what differs between any two requests."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    text = answer.body.decode().replace(id_, "ID")
    text = re.sub(r'"id":"id-[0-9]+"', '"id":""', text)
    return answer.status, headers, re.sub(r'"lastUpdated":"[^"]*"', "", text)


@pytest.mark.parametrize("foreign", [FOREIGN, "gone-c"])
@pytest.mark.parametrize("role", ["patient-a", "doctor-ab", "writer-of-a", "finder-of-a", "nobody"])
def test_foreign_deleted_and_absent_instances_are_answered_alike(fresh: Clients, role: str, foreign: str) -> None:
    client = fresh(role)
    for (method, url, body, headers), (_, other, other_body, _) in zip(
        requests(foreign), requests(ABSENT), strict=True
    ):
        kind = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
        there = client.request(method, url, body, type=kind, **headers)
        absent = client.request(method, other, other_body, type=kind, **headers)
        assert plain(there, foreign) == plain(absent, ABSENT), (method, url, headers)
    admin = fresh("all-of-everything")
    assert admin.get(f"/Observation/{foreign}/_history/1").status == 200
    assert admin.get(f"/Observation/{foreign}").status == (200 if foreign == FOREIGN else 410)


@pytest.mark.parametrize("role", ["patient-a", "doctor-ab", "finder-of-a"])
def test_what_is_absent_is_refused_with_as_much_work_as_what_is_hidden(
    fresh: Clients, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fresh(role)
    judged = 0
    real = client.server.extractor.documents

    def counted(resource: Any, address: str) -> Any:
        nonlocal judged
        judged += 1
        return real(resource, address)

    monkeypatch.setattr(client.server.extractor, "documents", counted)
    for there, absent in zip(requests(FOREIGN), requests(ABSENT), strict=True):
        if there[0] not in ("GET", "HEAD", "PUT", "PATCH", "DELETE") or "?" in there[1]:
            continue
        spent = []
        for method, url, body, headers in (there, absent):
            judged = 0
            kind = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
            client.request(method, url, body, type=kind, **headers)
            spent.append(judged)
        assert spent[0] == spent[1], (there[0], there[1])


def test_content_of_others_is_answered_like_none(shared: Clients) -> None:
    client = shared("patient-a")
    for foreign in ("bound-c", "pointed-c", "nobodys"):
        for suffix in ("", "/_history", "/_history/1", "/$meta"):
            there = client.get(f"/Binary/{foreign}{suffix}")
            absent = client.get(f"/Binary/{ABSENT}{suffix}")
            assert there.status == 404
            assert plain(there, foreign) == plain(absent, ABSENT)


def test_a_unique_key_of_an_invisible_resource_conflicts_like_any(new_server: NewServer) -> None:
    system = "http://example.org/mrn"
    server = new_server(unique_identifiers={"Observation": (system,)})
    fill(Client(create_app(server), server))
    clients = clients_of(server)

    def keyed(owner: str, value: str) -> dict[str, Any]:
        return observation(None, f"Patient/{owner}", identifier=[{"system": system, "value": value}])

    admin, client = clients("all-of-everything"), clients("patient-a")
    assert admin.post("/Observation", keyed("a", "own")).status == 201
    assert admin.post("/Observation", keyed("c", "foreign")).status == 201
    own, foreign = client.post("/Observation", keyed("a", "own")), client.post("/Observation", keyed("a", "foreign"))
    assert own.status == foreign.status == 409
    assert "location" not in foreign.headers
    assert plain(own, "") == plain(foreign, "")
    # What would be refused anyway says nothing about the key.
    assert client.post("/Observation", keyed("c", "foreign")).status == 403
    assert client.post("/Observation", keyed("c", "free")).status == 403
    conditional = client.post("/Observation", keyed("a", "foreign"), if_none_exist=f"identifier={system}|foreign")
    assert conditional.status == 409


def test_references_to_what_is_not_seen_lead_nowhere(new_server: NewServer) -> None:
    server = new_server(integrity=True)
    Client(create_app(server), server).store(*everything())
    client = clients_of(server)("patient-a")

    def derived(target: str) -> dict[str, Any]:
        return observation(None, "Patient/a", derivedFrom=[{"reference": f"Observation/{target}"}])

    there, absent = client.post("/Observation", derived("ob-c")), client.post("/Observation", derived(ABSENT))
    assert there.status == absent.status == 422
    assert plain(there, "ob-c") == plain(absent, ABSENT)
    assert client.post("/Observation", derived("ob-a")).status == 201
    together = bundle(
        entry("POST", "Observation", derived("ob-a"), "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"),
        entry(
            "POST",
            "Observation",
            observation(
                None, "Patient/a", derivedFrom=[{"reference": "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"}]
            ),
        ),
    )
    assert client.post("", together).status == 200


def test_contained_resources_of_others_are_not_reached_from_ones_own(fresh: Clients) -> None:
    inner = [{"resourceType": "Patient", "id": "p", "name": [{"family": "Inner"}]}]
    admin, client = fresh("all-of-everything"), fresh("patient-a")
    hidden = observation("hidden", "Patient/c", contained=inner, focus=[{"reference": "#p"}])
    assert admin.put("/Observation/hidden", hidden).status == 201
    probe = observation(None, "Patient/a", focus=[{"reference": "Observation/hidden#p"}])
    answer = client.post("/Observation", probe)
    assert answer.status in (201, 400, 422)
    assert client.get("/Observation?focus:Patient.family=inner").matches == []
    assert admin.get("/Observation?focus:Patient.family=inner").matches == ["hidden"]


def test_identifiers_found_by_conditional_requests_are_ones_own(fresh: Clients) -> None:
    """The criteria of a conditional create are no way to ask whether somebody has a number."""
    admin, client = fresh("all-of-everything"), fresh("doctor-ab")
    assert admin.put("/Patient/c", identified("1", "c")).status == 200
    known = client.post("/Patient", identified("1"), if_none_exist="identifier=http://example.org/mrn|1")
    other = client.post("/Patient", identified("2"), if_none_exist="identifier=http://example.org/mrn|2")
    assert known.status == other.status == 403
    assert plain(known, "") == plain(other, "")
