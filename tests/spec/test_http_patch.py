"""R4 http.html#patch, fhirpatch.html; RFC 6902."""

from __future__ import annotations

import pytest

from tests.support.http import Client
from tests.support.resources import named, patient

FHIRPATH_PATCH = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "Patient.birthDate"},
                {"name": "value", "valueDate": "1990-09-09"},
            ],
        }
    ],
}


@pytest.mark.both_stores
def test_json_patch_makes_the_next_version(client: Client) -> None:
    client.store(named("Before", "a"))
    answer = client.patch("/Patient/a", [{"op": "replace", "path": "/name/0/family", "value": "After"}])
    assert answer.status == 200
    assert answer.headers["etag"] == 'W/"2"'
    assert client.get("/Patient?family=after").matches == ["a"]
    assert client.get("/Patient?family=before").matches == []
    assert client.get("/Patient/a/_history").entries[0]["request"]["method"] == "PATCH"


@pytest.mark.parametrize(
    "patch, status",
    [
        ([{"op": "test", "path": "/active", "value": False}], 422),
        ([{"op": "replace", "path": "/id", "value": "b"}], 400),
        ([{"op": "replace", "path": "/resourceType", "value": "Person"}], 400),
        ([{"op": "remove", "path": "/id"}], 400),
        ([{"op": "replace", "path": "/active", "value": "yes"}], 400),
        ([{"op": "add", "path": "/gender", "value": "nonsense"}], 422),
        ([{"op": "explode", "path": "/active"}], 400),
        ({"op": "remove", "path": "/active"}, 400),
        (b"[", 400),
    ],
)
def test_patches_that_are_refused_store_nothing(client: Client, patch: object, status: int) -> None:
    client.store(patient("a", active=True))
    assert client.patch("/Patient/a", patch).status == status
    assert client.get("/Patient/a").headers["etag"] == 'W/"1"'


def test_json_patch_leaves_decimals_elsewhere_as_they_are(client: Client) -> None:
    body = (
        b'{"resourceType":"Observation","id":"n","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.00}}'
    )
    client.put("/Observation/n", body)
    client.patch("/Observation/n", [{"op": "replace", "path": "/code/text", "value": "y"}])
    assert b'{"value":1.00}' in client.get("/Observation/n").body


def test_fhirpath_patch(client: Client) -> None:
    client.store(patient("a", birthDate="1980-01-01"))
    assert client.patch("/Patient/a", FHIRPATH_PATCH, type="application/fhir+json").json["birthDate"] == "1990-09-09"


def test_fhirpath_patch_in_xml(client: Client) -> None:
    client.store(patient("a", birthDate="1980-01-01"))
    body = (
        b'<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
        b'<part><name value="type"/><valueCode value="delete"/></part>'
        b'<part><name value="path"/><valueString value="Patient.birthDate"/></part></parameter></Parameters>'
    )
    answer = client.patch("/Patient/a", body, type="application/fhir+xml")
    assert answer.status == 200
    assert "birthDate" not in answer.json


def test_xml_patch(client: Client) -> None:
    client.store(patient("a", birthDate="1980-01-01"))
    body = (
        b'<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Patient/f:birthDate/@value">1990-09-09</replace></diff>'
    )
    answer = client.patch("/Patient/a", body, type="application/xml-patch+xml")
    assert answer.status == 200
    assert answer.json["birthDate"] == "1990-09-09"
    assert client.patch("/Patient/a", b"<diff", type="application/xml-patch+xml").status == 400


def test_patch_of_unknown_and_deleted_resources(client: Client) -> None:
    assert client.patch("/Patient/never", []).status == 404
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    assert client.patch("/Patient/a", []).status == 410


def test_patch_with_another_media_type_is_415(client: Client) -> None:
    client.store(patient("a", active=True))
    assert client.patch("/Patient/a", b"x", type="text/plain").status == 415


def test_conditional_patch_of_none_one_and_several(client: Client) -> None:
    change = [{"op": "add", "path": "/active", "value": True}]
    assert client.patch("/Patient?family=same", change).status == 404
    client.store(named("Same", "a"))
    assert client.patch("/Patient?family=same", change).json["active"] is True
    client.store(named("Same", "b"))
    assert client.patch("/Patient?family=same", change).status == 412
