"""No number is anywhere in a database in clear: bodies, history, index entries, unique keys, locks, records."""

from __future__ import annotations

import json

from fhir_server.sealing import SYSTEMS
from tests.sealing.conftest import NUMBER, SECOND, Database, number, patient, shown
from tests.support.http import Client

ALTERNATIVE = next(system for system, stored in SYSTEMS.items() if system != stored)


def test_no_way_of_writing_leaves_a_number_in_clear(client: Client, database: Database) -> None:
    search = f"identifier=urn:oid:2.16.156.10011.1.3|{NUMBER}"
    numbers = {
        "resourceType": "SearchParameter",
        "id": "number",
        "url": "http://example.org/number",
        "name": "number",
        "status": "active",
        "description": "The resident number as a string",
        "code": "number",
        "base": ["Patient"],
        "type": "string",
        "expression": "Patient.identifier.where(system = 'urn:oid:2.16.156.10011.1.3').value",
    }
    assert client.put("/SearchParameter/number", numbers).status == 201
    client.post("/$reindex", {"resourceType": "Parameters"})
    assert client.put("/Patient/a", patient("a")).status == 201
    assert client.put("/Patient/a", patient("a", active=True)).status == 200
    change = [{"op": "add", "path": "/gender", "value": "female"}]
    assert client.patch("/Patient/a", change).status == 200
    change = [{"op": "replace", "path": "/identifier/1/value", "value": SECOND}]
    assert client.patch("/Patient/a", change).status == 200
    assert client.delete("/Patient/a").status in (200, 204)
    person = {"resourceType": "Person", "identifier": [number(NUMBER)]}
    assert client.post("/Person", person, if_none_exist=search).status == 201
    assert client.put(f"/Patient?{search}", {"resourceType": "Patient", "identifier": [number(NUMBER)]}).status == 201
    entries = [
        {"resource": patient("b", SECOND), "request": {"method": "PUT", "url": "Patient/b"}},
        {
            "resource": {
                "resourceType": "Encounter",
                "status": "planned",
                "class": {"code": "AMB"},
                "subject": {"reference": f"Patient?{search}", "identifier": number(NUMBER)},
                "contained": [{"resourceType": "Patient", "id": "c", "identifier": [number(SECOND)]}],
                "participant": [{"individual": {"reference": "#c"}}],
                "extension": [{"url": "http://example.org/who", "valueIdentifier": number(SECOND, ALTERNATIVE)}],
            },
            "request": {"method": "POST", "url": "Encounter"},
        },
        {
            "resource": {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"fullUrl": "urn:uuid:e2c5a1f0-3b0a-4d6e-9c4e-0d5a3b1f7a11", "resource": patient("x")}],
            },
            "request": {"method": "POST", "url": "Bundle"},
        },
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status == 200, answer.body
    client.post("/$reindex", {"resourceType": "Parameters"})
    assert client.get(f"/Patient?{search}").json["total"] == 1
    assert client.get("/Patient/_history").status == 200
    for one in (NUMBER, SECOND, NUMBER[:17], SECOND[:14]):
        assert not database.holds(one)
    assert database.holds("chart-b"), "the look at the database sees what is in clear"


def test_the_other_root_of_the_number_is_stored_as_the_first(client: Client) -> None:
    client.put("/Patient/a", {"resourceType": "Patient", "id": "a", "identifier": [number(NUMBER, ALTERNATIVE)]})
    assert shown(client.get("/Patient/a").json) == NUMBER
    for system in SYSTEMS:
        assert client.get(f"/Patient?identifier={system}|{NUMBER}").matches == ["a"]


def test_a_number_repeated_in_clear_is_refused(client: Client) -> None:
    text = f'<div xmlns="http://www.w3.org/1999/xhtml">Number {NUMBER}</div>'
    answer = client.put("/Patient/a", patient("a", text={"status": "generated", "div": text}))
    assert answer.status == 422
    assert answer.json["issue"][0]["expression"] == ["Patient.text.div"]
    assert NUMBER not in json.dumps(answer.json)
    text = '<div xmlns="http://www.w3.org/1999/xhtml">Number 110105********002X</div>'
    assert client.put("/Patient/a", patient("a", text={"status": "generated", "div": text})).status == 201


def test_another_identifier_may_have_the_same_value(client: Client) -> None:
    insurance = {"system": "http://example.org/sid/medical-insurance-no", "value": NUMBER}
    resource = patient("a")
    resource["identifier"].append(insurance)
    assert client.put("/Patient/a", resource).status == 201
    assert client.get(f"/Patient?identifier={insurance['system']}|{NUMBER}").matches == ["a"]


def test_a_text_that_looks_sealed_is_refused_where_it_could_be_taken_for_one(client: Client) -> None:
    client.put("/Patient/a", patient("a"))
    sealed = "sealed:1:00000000:" + "00" * 34
    assert client.put("/Patient/b", patient("b", SECOND, name=[{"text": sealed}])).status == 422
    client.put("/Patient/b", patient("b", sealed))
    assert shown(client.get("/Patient/b").json) == sealed, "as a number it is sealed like any other"
    plain = {"resourceType": "Patient", "id": "c", "name": [{"text": sealed}]}
    assert client.put("/Patient/c", plain).status == 201
    assert client.get("/Patient/c").json["name"] == [{"text": sealed}]


def test_a_number_stays_unique(client: Client) -> None:
    assert client.put("/Patient/a", patient("a")).status == 201
    answer = client.put("/Patient/b", patient("b", NUMBER.lower()))
    assert answer.status == 409
    assert b"sealed" not in answer.body
    assert NUMBER.lower().encode() not in answer.body.lower()
    assert client.put("/Patient/b", patient("b", SECOND)).status == 201


def test_a_patient_without_identifiers_is_fine_where_they_are_unique(client: Client) -> None:
    assert client.put("/Patient/a", {"resourceType": "Patient", "id": "a"}).status == 201
