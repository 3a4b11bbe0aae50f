"""Content that is easily damaged: absent values, positions, zones, sizes. R4 json.html, datatypes.html; by HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.http import Client
from tests.support.resources import bundle, entry, named, observation, patient

ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


@pytest.mark.both_stores
def test_an_absent_value_with_an_extension_is_kept_and_is_missing(client: Client) -> None:
    client.store(patient("absent", _birthDate=ABSENT), patient("present", birthDate="1970-01-01"))
    stored = client.get("/Patient/absent").json
    assert stored["_birthDate"] == ABSENT
    assert "birthDate" not in stored
    assert client.get("/Patient?birthdate:missing=true").matches == ["absent"]
    assert client.get("/Patient?birthdate:missing=false").matches == ["present"]


def test_nulls_keep_the_positions_of_repeating_primitives(client: Client) -> None:
    name = {"given": ["A", None, "C"], "_given": [None, ABSENT, None]}
    client.store(patient("p", name=[name]))
    assert client.get("/Patient/p").json["name"] == [name]
    assert client.get("/Patient?given=C").matches == ["p"]
    shorter = {"given": ["A", None, "C"], "_given": [None, ABSENT]}
    assert client.put("/Patient/p", patient("p", name=[shorter])).status == 400
    assert client.put("/Patient/p", patient("p", name=[{"given": ["A", None]}])).status == 400


@pytest.mark.parametrize(
    "text", ["2013-01-14T10:00:17.239+02:00", "2013-01-14T10:00:17Z", "2013-01-14T10:00:17.000Z", "2013-01", "2013"]
)
def test_dates_come_back_as_they_were_written(client: Client, text: str) -> None:
    client.store(observation("o", effectiveDateTime=text))
    assert f'"effectiveDateTime":"{text}"'.encode() in client.get("/Observation/o").body


def test_references_into_contained_resources_survive_updates_and_transactions(client: Client) -> None:
    body = observation(
        "o",
        contained=[patient(id="p", name=[{"family": "Inside"}])],
        subject="#p",
        code={"text": "first"},
    )
    client.store(body)
    body["code"] = {"text": "second"}
    client.store(body)
    stored = client.get("/Observation/o").json
    assert stored["subject"] == {"reference": "#p"}
    assert stored["contained"] == body["contained"]
    assert stored["meta"]["versionId"] == "2"


@pytest.mark.both_stores
@pytest.mark.parametrize("length, status", [(1_048_576, 201), (1_048_577, 400)])
def test_a_string_has_a_megabyte_of_characters_at_most(client: Client, length: int, status: int) -> None:
    assert client.put("/Patient/p", named("x" * length, "p")).status == status
    if status == 201:
        assert len(client.get("/Patient/p").json["name"][0]["family"]) == length
        assert client.get("/Patient?family=xxx&_summary=count").json["total"] == 1


@pytest.mark.both_stores
def test_ten_thousand_nested_extensions_are_refused(client: Client) -> None:
    inner = '[{"url":"http://x","extension":' * 10_000 + '[{"url":"http://x","valueBoolean":true}]' + "}]" * 10_000
    body = f'{{"resourceType":"Patient","id":"p","extension":{inner}}}'.encode()
    assert client.put("/Patient/p", body).status == 400
    assert client.get("/Patient/p").status == 404


@pytest.mark.parametrize("text", ["\U0001f600", "\u202eabc", "e\u0301", "\u00e9", "中文", "\ufffe"])
def test_legal_characters_are_kept(client: Client, text: str) -> None:
    client.store(named(text, "p"))
    assert client.get("/Patient/p").json["name"][0]["family"] == text


@pytest.mark.parametrize("member", ['""', "[]", "{}", "null", "[null]", '[""]', "[{}]"])
def test_empty_members_are_refused(client: Client, member: str) -> None:
    answer = client.put("/Patient/p", f'{{"resourceType":"Patient","id":"p","name":{member}}}'.encode())
    assert answer.status == 400


def test_every_kind_of_bundle_keeps_the_invariants_of_bundles(client: Client) -> None:
    """bdl-1 to bdl-4, bdl-7, bdl-8: `Client` checks each answer (tests/support/http.py, check_bundle)."""
    client.store(patient("a", active=True), observation("o", "Patient/a"))
    client.store(patient("a", active=False))
    client.delete("/Observation/o")
    kinds = {
        "searchset": client.get("/Patient?_total=accurate&_revinclude=Observation:subject"),
        "history": client.get("/_history"),
        "batch-response": client.post("", bundle(entry("GET", "Patient/a"), entry("GET", "Patient/x"), type="batch")),
        "transaction-response": client.post("", bundle(entry("GET", "Patient?_id=a"))),
    }
    for kind, answer in kinds.items():
        assert answer.json["type"] == kind
        assert answer.entries
    assert {"total": 1}.items() <= kinds["searchset"].json.items()
    assert all("total" not in kinds[kind].json for kind in ("batch-response", "transaction-response"))


def literal(text: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    return body


def test_numbers_and_booleans_in_quotes_and_fractions_of_integers_are_refused(client: Client) -> None:
    for member in ('"active":"true"', '"multipleBirthInteger":1.0', '"multipleBirthInteger":"1"'):
        answer = client.put("/Patient/p", f'{{"resourceType":"Patient","id":"p",{member}}}'.encode())
        assert answer.status == 400, member
    quoted = (
        '{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"valueQuantity":{"value":"1.5"}}'
    )
    assert client.put("/Observation/o", literal(quoted)).status == 400


def test_the_type_of_a_contained_resource_is_not_repeated(client: Client) -> None:
    inside = {"resourceType": "Jane Chalmers", "id": "x"}
    answer = client.put("/Observation/o", observation("o", "#x", contained=[inside]))
    assert answer.status == 400
    assert b"Chalmers" not in answer.body
