"""What a server refuses, warns of and gives back. R4 validation.html, json.html, http.html#create."""

from __future__ import annotations

import json

import pytest

from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.validation_cases import GROUPS, Case

WRITABLE = {
    group: [case for case in cases if b'"resourceType": "Parameters", "parameter"' not in case.data]
    for group, cases in GROUPS.items()
}


def path_of(case: Case) -> str:
    """Where a client would send it: to its type, and what has no type of R4 to Patient."""
    known = ("Practitioner", "HumanName", "DomainResource", "Citation")
    name = case.body.get("resourceType") if isinstance(case.body, dict) else None
    return f"/{name}" if isinstance(name, str) and name not in known else "/Patient"


def path_of_bytes(data: bytes) -> str:
    for name in ("Observation", "Basic"):
        if data.startswith(f'{{"resourceType":"{name}"'.encode()):
            return f"/{name}"
    return "/Patient"


@pytest.mark.parametrize("group", sorted(WRITABLE))
def test_write_is_accepted_or_refused_as_r4_says(client: Client, group: str) -> None:
    wrong = []
    for case in WRITABLE[group]:
        path = path_of_bytes(case.body) if isinstance(case.body, bytes) else path_of(case)
        answer = client.post(path, case.data, prefer="return=OperationOutcome")
        if answer.status != case.status:
            wrong.append((case.name, answer.status, answer.body[:300]))
            continue
        issues = answer.json["issue"]
        paths = [expression for issue in issues for expression in issue.get("expression", ())]
        if case.at and case.at not in paths:
            wrong.append((case.name, case.at, answer.body[:300]))
        if case.status == 201 and any(issue["severity"] == "error" for issue in issues):
            wrong.append((case.name, "error in 201", answer.body[:300]))
    assert wrong == []


@pytest.mark.parametrize("group", sorted(WRITABLE))
def test_strict_server_refuses_published_faults_and_wrong_targets(build: Build, group: str) -> None:
    strict = build(validation="strict")
    found = {case.name: strict.post(path_of(case), case.data).status for case in WRITABLE[group] if case.strict}
    assert found == {case.name: case.strict for case in WRITABLE[group] if case.strict}


@pytest.mark.parametrize("group", sorted(set(WRITABLE) - {"syntax"}))
def test_validate_operation_is_strict_and_stores_nothing(client: Client, group: str) -> None:
    wrong = []
    for case in WRITABLE[group]:
        if not isinstance(case.body, dict):
            continue
        answer = client.post(f"{path_of(case)}/$validate", case.data)
        refused = any(issue["severity"] in ("error", "fatal") for issue in answer.json["issue"])
        if refused is not (bool(case.strict) or case.status != 201):
            wrong.append((case.name, answer.status, answer.body[:300]))
    assert wrong == []
    assert client.get("/Patient?_summary=count").json["total"] == 0


def test_refused_write_leaves_nothing(client: Client) -> None:
    assert client.put("/Patient/a", {"resourceType": "Patient", "id": "a", "gender": "x"}).status == 422
    assert client.get("/Patient/a").status == 404


def test_faulty_entry_is_named_and_fails_the_transaction(client: Client) -> None:
    entries = [
        {"resource": {"resourceType": "Patient", "active": True}, "request": {"method": "POST", "url": "Patient"}},
        {"resource": {"resourceType": "Patient", "active": "x"}, "request": {"method": "POST", "url": "Patient"}},
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status == 400
    assert "Bundle.entry[1].resource.active" in answer.json["issue"][0]["expression"]
    assert client.get("/Patient?_summary=count").json["total"] == 0


def test_content_comes_back_as_it_was_sent(client: Client) -> None:
    text = (
        b'{"resourceType":"Observation","status":"final","code":{"text":" a\\tb "},"valueQuantity":{"value":1.00},'
        b'"component":[{"code":{"text":"x"},"valueQuantity":{"value":1e-7}},{"valueInteger":-0,"code":{"text":"y"}}],'
        b'"extension":[{"url":"u","valueDecimal":100000000000000000.01},{"url":"b","valueBase64Binary":"QUJD\\nQUJD"}]}'
    )
    answer = client.post("/Observation", text)
    assert answer.status == 201
    stored = client.get(f"/Observation/{answer.id}").body
    for piece in (b'"value":1.00}', b'"value":1e-7}', b'"valueInteger":-0', b":100000000000000000.01", b"QUJD\\nQUJD"):
        assert piece in stored
    kept = {key: value for key, value in json.loads(stored).items() if key not in ("id", "meta")}
    assert list(kept.items()) == list(json.loads(text).items())


def test_xml_and_json_are_judged_alike(client: Client) -> None:
    namespace = 'xmlns="http://hl7.org/fhir"'
    kind = "application/fhir+xml"
    for inner, status in (
        ('<gender value="male"/>', 201),
        ('<gender value="x"/>', 422),
        ('<active value="yes"/>', 400),
        ("<shoeSize/>", 400),
        ("<name/>", 400),
    ):
        body = f"<Patient {namespace}>{inner}</Patient>".encode()
        assert client.post("/Patient", body, type=kind).status == status
