"""A sealed number is found by its exact value, by every way in, and by nothing less."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from fhir_server.app import create_app
from fhir_server.authorize import Policy
from fhir_server.sealing import RESIDENT_ID
from fhir_server.search.resolve import resolve
from tests.sealing.conftest import KEY, MASK, NUMBER, SECOND, Build, number, patient
from tests.support.http import Client

TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
TOKEN = f"{RESIDENT_ID}|{NUMBER}"


@pytest.fixture
def filled(client: Client) -> Client:
    """Patients a and b with numbers, c without; o is about a, p refers to a by the number only."""
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    client.store(
        patient("a", name=[{"family": "Li"}]),
        patient("b", SECOND, name=[{"family": "Wang"}]),
        {"resourceType": "Patient", "id": "c", "name": [{"family": "Li"}]},
        {**observation, "id": "o", "subject": {"reference": "Patient/a"}},
        {**observation, "id": "p", "subject": {"identifier": number(NUMBER)}},
        {
            "resourceType": "Encounter",
            "id": "e",
            "status": "planned",
            "class": {"code": "AMB"},
            "contained": [{"resourceType": "Practitioner", "id": "d", "identifier": [number(NUMBER)]}],
            "participant": [{"individual": {"reference": "#d"}}],
        },
        {
            "resourceType": "SearchParameter",
            "id": "number",
            "url": "http://example.org/number",
            "name": "number",
            "status": "active",
            "description": "The resident number as a string",
            "code": "number",
            "base": ["Patient"],
            "type": "string",
            "expression": f"Patient.identifier.where(system = '{RESIDENT_ID}').value",
        },
        {
            "resourceType": "SearchParameter",
            "id": "exact",
            "url": "http://example.org/exact",
            "name": "exact",
            "status": "active",
            "description": "The resident number as a token",
            "code": "exact",
            "base": ["Patient"],
            "type": "token",
            "expression": f"Patient.identifier.where(system = '{RESIDENT_ID}')",
        },
    )
    assert client.post("/$reindex", {"resourceType": "Parameters"}).json["parameter"][1]["valueBoolean"]
    return client


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # R4 search.html#token
        (f"Patient?identifier={TOKEN}", {"a"}),
        (f"Patient?identifier={NUMBER}", {"a"}),
        (f"Patient?identifier={TOKEN.lower()}", {"a"}),
        (f"Patient?identifier={TOKEN},{RESIDENT_ID}|{SECOND}", {"a", "b"}),
        (f"Patient?identifier={NUMBER},chart-b", {"a", "b"}),
        ("Patient?identifier=chart-b", {"b"}),
        (f"Patient?identifier={RESIDENT_ID}|", {"a", "b"}),
        (f"Patient?identifier=|{NUMBER}", set()),
        (f"Patient?identifier=urn:oid:2.16.156.10011.1.19|{NUMBER}", set()),
        (f"Patient?identifier:not={TOKEN}", {"b", "c"}),
        (f"Patient?identifier:of-type={TYPE}|NI|{NUMBER}", {"a"}),
        (f"Patient?identifier:of-type={TYPE}|NI|{NUMBER[:17]}", set()),
        (f"Patient?identifier:of-type={TYPE}|MR|{NUMBER}", set()),
        # chains, reverse chains, references by identifier
        (f"Observation?subject:Patient.identifier={TOKEN}", {"o"}),
        (f"Observation?subject:identifier={TOKEN}", {"p"}),
        (f"Observation?subject:identifier={NUMBER}", {"p"}),
        (f"Patient?_has:Observation:subject:subject:identifier={TOKEN}", set()),
        (f"Patient?family=li&identifier={TOKEN}", {"a"}),
        (f"Encounter?participant:Practitioner.identifier={TOKEN}", {"e"}),
        # _filter
        (f"Patient?_filter=identifier eq {TOKEN}", {"a"}),
        (f"Patient?_filter=identifier ne {TOKEN} and family eq Li", {"a"}),  # its chart number is another one
        (f'Patient?_filter=identifier eq "{NUMBER}"', {"a"}),
        (f'Patient?_filter=identifier sw "{NUMBER[:6]}"', set()),
        (f'Patient?_filter=identifier ew "{NUMBER[-4:]}"', set()),
        # a parameter of one's own
        (f"Patient?exact={NUMBER}", {"a"}),
        (f"Patient?exact={NUMBER[:17]}", set()),
        (f"Patient?number={NUMBER[:6]}", set()),
        (f"Patient?number:contains={NUMBER[6:14]}", set()),
        (f"Patient?number:exact={NUMBER}", set()),
        # less than the exact value
        (f"Patient?identifier={NUMBER[:17]}", set()),
        (f"Patient?identifier={RESIDENT_ID}|{NUMBER[:6]}", set()),
        ("Patient?identifier=110105********002X", set()),
        (f"Patient?identifier:text={NUMBER}", set()),
        (f"Patient?_content={NUMBER}", set()),
        (f"Patient?_text={NUMBER}", set()),
        ("Patient?_content=sealed", set()),
        (f"Patient?phone={NUMBER}", set()),
    ],
)
def test_a_number_is_found_by_its_exact_value_only(filled: Client, query: str, found: set[str]) -> None:
    path, _, rest = query.partition("?")
    answer = filled.get(f"/{path}?{quote(rest, safe='=&:|,')}", prefer="handling=strict")
    assert answer.status == 200, answer.body
    assert set(answer.matches) == found


def test_a_search_shows_the_callers_words_and_never_the_sealed_text(filled: Client) -> None:
    answer = filled.get(f"/Patient?identifier={TOKEN}&_count=1&_sort=identifier")
    assert NUMBER in answer.json["link"][0]["url"]
    assert b"sealed" not in answer.body
    explained = filled.get(f"/Patient?identifier={TOKEN}&_explain=true")
    assert explained.status == 200
    assert b"sealed:" not in explained.body
    assert b"(sealed)" in explained.body


def test_sorting_by_identifier_tells_nothing_of_the_number(build: Build) -> None:
    client = build(KEY)
    numbers = [f"11010519491231{n:03d}4" for n in range(8)]
    for at, one in enumerate(numbers):
        resource = {"resourceType": "Patient", "id": f"p{at}", "identifier": [number(one)]}
        assert client.put(f"/Patient/p{at}", resource).status == 201
    answer = client.get("/Patient?_sort=identifier&_count=4")
    following = answer.link("next")
    assert following is not None
    found = answer.matches + client.get(following).matches
    assert sorted(found) == [f"p{at}" for at in range(8)]
    assert found != sorted(found), "in the order of the sealed texts"


def test_conditional_writes_find_a_number(client: Client) -> None:
    criteria = f"identifier={TOKEN}"
    plain = {"resourceType": "Patient", "identifier": [number(NUMBER)]}
    created = client.post("/Patient", plain, if_none_exist=criteria)
    assert created.status == 201
    assert client.post("/Patient", plain, if_none_exist=criteria).status == 200
    answer = client.put(f"/Patient?{criteria}", {**plain, "gender": "female"})
    assert (answer.status, answer.json["id"]) == (200, created.id)
    change = [{"op": "add", "path": "/birthDate", "value": "1949-12-31"}]
    assert client.patch(f"/Patient?{criteria}", change).json["id"] == created.id
    entries = [
        {"resource": plain, "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria}},
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient?{criteria}"},
            },
            "request": {"method": "POST", "url": "Observation"},
        },
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert [one["response"]["status"][:3] for one in answer.entries] == ["200", "201"]
    assert client.get(f"/Observation?subject=Patient/{created.id}").json["total"] == 1
    assert client.delete(f"/Patient?identifier={RESIDENT_ID}|{SECOND}").status in (204, 200, 404)
    assert client.get(f"/Patient/{created.id}").status == 200


def test_a_conditional_reference_finds_what_the_same_transaction_writes(client: Client) -> None:
    client.put("/Patient/a", patient("a"))
    masked = patient("a", "110105********002X", managingOrganization={"reference": "Organization?identifier=org-1"})
    entries = [
        {"resource": masked, "request": {"method": "PUT", "url": "Patient/a"}},
        {
            "resource": {"resourceType": "Organization", "name": "O", "identifier": [{"value": "org-1"}]},
            "request": {"method": "POST", "url": "Organization"},
        },
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient?identifier={TOKEN}"},
            },
            "request": {"method": "POST", "url": "Observation"},
        },
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status == 200, answer.body
    assert client.get("/Observation?subject=Patient/a").json["total"] == 1


def test_a_policy_may_name_a_number(client: Client) -> None:
    client.store(patient("a"), patient("b", SECOND))
    client.put("/Patient/a", patient("a", gender="female"))
    server = client.server
    found = resolve(
        [("identifier", TOKEN)], types=("Patient",), registry=server.registry, settings=server.extractor.settings
    )
    narrowed = Client(create_app(server, policy=Policy({"Patient": found.search.select.where})), server)
    assert narrowed.get("/Patient").matches == ["a"]
    assert narrowed.get("/Patient/b").status == 404
    for path in ("/Patient/a", "/Patient/a/_history/1", "/Patient/a/_history"):
        answer = narrowed.get(path)
        assert answer.status == 200
        assert MASK.encode() in answer.body
        assert NUMBER.encode() not in answer.body
    assert narrowed.put("/Patient/a", patient("a", MASK, gender="male")).status == 200
    assert narrowed.put("/Patient/a", patient("a", SECOND)).status == 403
    assert client.get("/Patient/a").json["gender"] == "male"
