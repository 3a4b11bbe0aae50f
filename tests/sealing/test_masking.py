"""Who sees a number in clear, who sees it masked, and that a masked one comes back as what it stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.sealing import clear_json, masked, may_see_clear
from tests.sealing.conftest import KEY, MASK, NUMBER, SECOND, AsRole, Build, number, patient, shown
from tests.support.http import Client

ROLES = ["administrator", "nurse", "system", "doctor", "pharmacist", "laboratory", "patient"]
CLEAR = {"administrator", "nurse", "system"}
SECOND_MASK = "440524********0014"


@pytest.mark.parametrize(
    ("value", "mask"),
    [
        (NUMBER, MASK),
        (NUMBER.lower(), "110105********002x"),
        ("110105491231002", "110105******002"),  # of the first generation, 15 digits
        ("1101051949123100", "********"),
        ("A1", "********"),
        ("", "********"),
        ("１１０１０５１９４９１２３１００２Ｘ", "********"),
    ],
)
def test_a_mask_hides_the_date_of_birth_or_everything(value: str, mask: str) -> None:
    assert masked(value) == mask


@pytest.mark.parametrize("role", ROLES)
def test_every_way_out_is_masked_for_those_who_may_not_see(build: Build, as_role: AsRole, role: str) -> None:
    client = build(KEY)
    client.store(patient("a"), patient("b", SECOND))
    client.put("/Patient/a", patient("a", gender="female"))
    client.store(
        {
            "resourceType": "Observation",
            "id": "o",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": "Patient/a", "identifier": number(NUMBER)},
        }
    )
    caller = as_role(client, role)
    transaction = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"request": {"method": "GET", "url": "Patient/a"}},
            {"request": {"method": "GET", "url": f"Patient?identifier={NUMBER}"}},
        ],
    }
    answers = [
        caller.get("/Patient/a"),
        caller.get("/Patient/a/_history/1"),
        caller.get("/Patient/a/_history"),
        caller.get("/Patient/_history"),
        caller.get("/Patient?name:missing=true"),
        caller.post("/Patient/_search", b"_id=a", type="application/x-www-form-urlencoded"),
        caller.get("/Observation?_include=Observation:subject"),
        caller.get("/Patient?_revinclude=Observation:subject"),
        caller.get("/Patient/a?_elements=identifier"),
        caller.get("/Patient?_summary=true"),
        caller.get("/Patient/a?_pretty=true"),
        caller.get("/Patient/a?_format=xml"),
        caller.get("/Observation/o"),
        caller.get("/Patient/a/*"),
        caller.post("", transaction),
        caller.post("", {**transaction, "type": "batch"}),
        caller.put("/Patient/a", patient("a", NUMBER, gender="male")),
        caller.post("/Patient", {"resourceType": "Patient", "identifier": [number(NUMBER)]}),
        caller.patch("/Patient/a", [{"op": "replace", "path": "/gender", "value": "other"}]),
        caller.post("/Patient", patient("x"), if_none_exist="identifier=chart-a", prefer="return=representation"),
    ]
    for at, answer in enumerate(answers):
        assert answer.status < 300, (at, answer.body)
        assert b"sealed:" not in answer.body
        text = answer.body.decode().replace(f"identifier={NUMBER}", "")
        assert (NUMBER in text) == (role in CLEAR), at
        assert (MASK in text) == (role not in CLEAR), at


def test_a_person_sees_the_own_number_and_no_other(build: Build, as_role: AsRole) -> None:
    client = build(KEY)
    contact = {"extension": [{"url": "http://example.org/number", "valueIdentifier": number(SECOND)}]}
    client.store(
        patient("a", contact=[{**contact, "name": {"text": "Wang"}}]),
        patient("b", SECOND),
        {"resourceType": "Practitioner", "id": "d", "identifier": [number(SECOND)]},
        {"resourceType": "Person", "id": "p", "identifier": [number(NUMBER)]},
    )
    own = as_role(client, "patient", patient="a", fhir_user="Patient/a", person="Person/p")
    answer = own.get("/Patient/a")
    assert shown(answer.json) == NUMBER
    assert SECOND_MASK in answer.body.decode()
    assert shown(own.get("/Person/p").json) == NUMBER
    assert shown(own.get("/Patient/b").json) == SECOND_MASK
    assert shown(own.get("/Practitioner/d").json) == SECOND_MASK
    guardian = as_role(client, "patient", patient="b", fhir_user="RelatedPerson/r")
    assert [shown(entry["resource"]) for entry in guardian.get("/Patient?_sort=_id").entries] == [MASK, SECOND]
    doctor = as_role(client, "doctor", patient="a", fhir_user="Practitioner/d")
    assert shown(doctor.get("/Practitioner/d").json) == SECOND
    assert shown(doctor.get("/Patient/a").json) == MASK


@pytest.mark.parametrize(
    ("scopes", "clear"),
    [
        (("system/*.cruds",), True),
        (("system/Patient.rs",), True),
        (("system/Patient.read",), True),
        (("system/Patient.rs?active=true",), False),
        (("system/Patient.s",), False),
        (("system/Observation.rs",), False),
        (("user/Patient.rs",), False),
        ((), False),
    ],
)
def test_a_service_sees_numbers_when_it_may_read_all_patients(scopes: tuple[str, ...], clear: bool) -> None:
    caller = Caller(EVERYTHING, Grant("g", "c", "Client", "system", scopes))
    assert may_see_clear(caller, "Patient/a", True) == clear
    assert may_see_clear(caller, "Coverage/c", False) == clear


def test_without_a_grant_only_a_caller_who_sees_everything_sees_numbers() -> None:
    assert may_see_clear(None, "Patient/a", False)
    assert may_see_clear(Caller(EVERYTHING), "Patient/a", False)
    assert not may_see_clear(Caller(Policy({})), "Patient/a", True)


# --- writing it back --------------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(build: Build, as_role: AsRole) -> Client:
    client = build(KEY)
    client.store(patient("a"))
    return as_role(client, "doctor")


def stored(doctor: Client, id: str = "a") -> dict[str, Any]:
    """The resource as tools see it."""
    found = doctor.server.store.read("Patient", id)
    assert found is not None
    assert found.body is not None
    resource: dict[str, Any] = json.loads(clear_json(doctor.server.sealer, found.body))
    return resource


def test_an_update_with_the_mask_keeps_the_number(doctor: Client) -> None:
    resource = doctor.get("/Patient/a").json
    assert shown(resource) == MASK
    resource["gender"] = "female"
    answer = doctor.put("/Patient/a", resource)
    assert (answer.status, shown(answer.json)) == (200, MASK)
    assert (shown(stored(doctor)), stored(doctor)["gender"]) == (NUMBER, "female")
    assert doctor.get(f"/Patient?identifier={NUMBER}").matches == ["a"]
    resource["identifier"].reverse()
    assert doctor.put("/Patient/a", resource).status == 200
    assert shown(stored(doctor)) == NUMBER
    assert doctor.put(f"/Patient?identifier={NUMBER}", resource).status == 200
    entry = {"resource": resource, "request": {"method": "PUT", "url": "Patient/a"}}
    assert doctor.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status == 200
    assert shown(stored(doctor)) == NUMBER


def test_a_mask_that_stands_for_nothing_is_refused(doctor: Client) -> None:
    wrong = doctor.put("/Patient/a", patient("a", SECOND_MASK))
    assert wrong.status == 422
    assert wrong.json["issue"][0]["expression"] == ["Patient.identifier[1].value"]
    assert doctor.put("/Patient/new", patient("new", MASK)).status == 422
    assert doctor.post("/Patient", patient("new", MASK)).status == 422
    assert doctor.get("/Patient/new").status == 404
    change = [{"op": "replace", "path": "/identifier/1/value", "value": SECOND_MASK}]
    assert doctor.patch("/Patient/a", change).status == 422
    doctor.delete("/Patient/a")
    assert doctor.put("/Patient/a", patient("a", MASK)).status == 422


def test_two_numbers_with_one_mask_are_told_apart_by_their_place(build: Build, as_role: AsRole) -> None:
    client = build(KEY)
    twin = NUMBER[:6] + "20010101" + NUMBER[14:]
    resource = patient("a")
    resource["identifier"].append(number(twin))
    client.store(resource)
    doctor = as_role(client, "doctor")
    masked_one = doctor.get("/Patient/a").json
    assert doctor.put("/Patient/a", masked_one).status == 200
    assert [one["value"] for one in stored(doctor)["identifier"]] == ["chart-a", NUMBER, twin]
    masked_one["identifier"] = masked_one["identifier"][1:] + masked_one["identifier"][:1]
    answer = doctor.put("/Patient/a", masked_one)
    assert answer.status == 422, "the first of them stands where none has been"


def test_a_patch_sees_what_the_caller_sees(doctor: Client) -> None:
    def attempt(*operations: dict[str, Any]) -> int:
        return doctor.patch("/Patient/a", list(operations)).status

    place = "/identifier/1/value"
    gender = {"op": "add", "path": "/gender", "value": "female"}
    assert attempt({"op": "test", "path": place, "value": NUMBER}, gender) >= 400
    assert attempt({"op": "test", "path": place, "value": MASK}, gender) == 200
    assert shown(stored(doctor)) == NUMBER
    assert attempt({"op": "move", "from": "/identifier/1", "path": "/identifier/0"}) == 200
    assert shown(stored(doctor)) == NUMBER
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "delete"},
                    {"name": "path", "valueString": f"Patient.identifier.where(value.startsWith('{NUMBER[:9]}'))"},
                ],
            }
        ],
    }
    doctor.patch("/Patient/a", parameters, type="application/fhir+json")
    assert shown(stored(doctor)) == NUMBER, "no expression of a patch can feel for the number"
    assert attempt({"op": "replace", "path": "/identifier/0/value", "value": SECOND}) == 200
    assert shown(stored(doctor)) == SECOND


def test_who_sees_the_number_patches_the_number(build: Build) -> None:
    client = build(KEY)
    client.store(patient("a"))
    test = {"op": "test", "path": "/identifier/1/value", "value": NUMBER}
    change = {"op": "replace", "path": "/identifier/1/value", "value": SECOND}
    answer = client.patch("/Patient/a", [test, change])
    assert (answer.status, shown(answer.json)) == (200, SECOND)
    assert client.get(f"/Patient?identifier={SECOND}").matches == ["a"]
    assert client.get(f"/Patient?identifier={NUMBER}").matches == []
