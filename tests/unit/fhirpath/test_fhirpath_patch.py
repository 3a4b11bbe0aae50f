"""FHIRPath Patch, R4 fhirpatch.html: a table per type of operation."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from fhir_server.errors import BadRequest, Unprocessable
from fhir_server.fhirpath.patch import apply
from fhir_server.resources.jsonformat import encode, parse

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [
        {"family": "A", "given": ["x", "y", "z"]},
        {"family": "B", "_given": [None, {"id": "g"}], "given": ["v", None]},
    ],
    "birthDate": "1970-01-01",
    "maritalStatus": {"coding": [{"code": "M"}]},
    "deceasedBoolean": False,
    "contact": [{"gender": "male"}],
    "contained": [{"resourceType": "Organization", "id": "o"}],
    "generalPractitioner": [{"reference": "#o"}, {"reference": "Practitioner/1"}],
}


def operation(type_: str, path: str, **parts: Any) -> dict[str, Any]:
    """One operation; ``value`` is a whole part, ``index`` and its kin are integers, ``name`` is a string."""
    listed: list[dict[str, Any]] = [{"name": "type", "valueCode": type_}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        if isinstance(value, dict):
            listed.append({"name": name, **value})
        elif isinstance(value, int):
            listed.append({"name": name, "valueInteger": value})
        else:
            listed.append({"name": name, "valueString": value})
    return {"name": "operation", "part": listed}


def patched(*operations: dict[str, Any], resource: dict[str, Any] = PATIENT) -> dict[str, Any]:
    before = copy.deepcopy(resource)
    result = apply(resource, {"resourceType": "Parameters", "parameter": list(operations)})
    assert resource == before
    return result


def changed(expected: dict[str, Any]) -> dict[str, Any]:
    """PATIENT with other members; None removes one."""
    return {key: value for key, value in {**PATIENT, **expected}.items() if value is not None}


ADD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (operation("add", "Patient", name="gender", value={"valueCode": "male"}), {"gender": "male"}),
    (operation("add", "Patient", name="name", value={"valueHumanName": {"text": "n"}}), {"name": [*PATIENT["name"],
     {"text": "n"}]}),
    (operation("add", "Patient.name[0]", name="given", value={"valueString": "w"}),
     {"name": [{"family": "A", "given": ["x", "y", "z", "w"]}, PATIENT["name"][1]]}),
    (operation("add", "Patient.name[1]", name="given", value={"valueString": "w"}),
     {"name": [PATIENT["name"][0],
               {"family": "B", "_given": [None, {"id": "g"}, None], "given": ["v", None, "w"]}]}),
    (operation("add", "Patient", name="multipleBirth", value={"valueInteger": 2}), {"multipleBirthInteger": 2}),
    (operation("add", "Patient", name="language", value={"valueCode": "de", "_valueCode": {"id": "i"}}),
     {"language": "de", "_language": {"id": "i"}}),
    (operation("add", "Patient", name="gender", value={"_valueCode": {"id": "i"}}), {"_gender": {"id": "i"}}),
    (operation("add", "Patient", name="contact", value={"part": [
        {"name": "name", "valueHumanName": {"text": "c"}}, {"name": "telecom", "valueContactPoint": {"value": "1"}},
        {"name": "telecom", "valueContactPoint": {"value": "2"}}]}),
     {"contact": [{"gender": "male"}, {"name": {"text": "c"}, "telecom": [{"value": "1"}, {"value": "2"}]}]}),
    (operation("add", "Patient", name="contained", value={"resource": {"resourceType": "Group", "id": "g"}}),
     {"contained": [*PATIENT["contained"], {"resourceType": "Group", "id": "g"}]}),
    (operation("add", "Patient.maritalStatus", name="text", value={"valueString": "m"}),
     {"maritalStatus": {"coding": [{"code": "M"}], "text": "m"}}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), ADD)
def test_add(change: dict[str, Any], expected: dict[str, Any]) -> None:
    assert patched(change) == changed(expected)


def test_add_an_extension_to_a_primitive() -> None:
    part = {"part": [{"name": "url", "valueUri": "http://u"}, {"name": "value", "valueCode": "c"}]}
    extension = {"url": "http://u", "valueCode": "c"}
    for path, member in (("Patient.birthDate", "_birthDate"), ("Patient.deceased", "_deceasedBoolean")):
        assert patched(operation("add", path, name="extension", value=part)) == changed(
            {member: {"extension": [extension]}}
        )
    result = patched(operation("add", "Patient.name[0].given[1]", name="extension", value=part))
    assert result["name"][0]["_given"] == [None, {"extension": [extension]}, None]


def test_insert() -> None:
    name = {"valueHumanName": {"text": "n"}}
    for index in range(3):
        expected = list(PATIENT["name"])
        expected.insert(index, {"text": "n"})
        assert patched(operation("insert", "Patient.name", index=index, value=name)) == changed({"name": expected})
    result = patched(operation("insert", "Patient.name[1].given", index=1, value={"valueString": "w"}))
    assert result["name"][1] == {"family": "B", "_given": [None, None, {"id": "g"}], "given": ["v", "w", None]}
    result = patched(operation("insert", "Patient.telecom", index=0, value={"valueContactPoint": {"value": "1"}}))
    assert result["telecom"] == [{"value": "1"}]
    result = patched(operation("insert", "name.where(family = 'A').given", index=0, value={"valueString": "w"}))
    assert result["name"][0]["given"] == ["w", "x", "y", "z"]


DELETE: list[tuple[str, dict[str, Any]]] = [
    ("Patient.birthDate", {"birthDate": None}),
    ("birthDate", {"birthDate": None}),
    ("Patient.deceased", {"deceasedBoolean": None}),
    ("(Patient.deceased as boolean)", {"deceasedBoolean": None}),
    ("Patient.contact", {"contact": None}),
    ("Patient.name[1]", {"name": [PATIENT["name"][0]]}),
    ("Patient.name.where(family = 'A')", {"name": [PATIENT["name"][1]]}),
    ("Patient.name[1].given[1]", {"name": [PATIENT["name"][0], {"family": "B", "given": ["v"]}]}),
    ("Patient.contained.where(id = 'o')", {"contained": None}),
    ("Patient.telecom", {}),
    ("Patient.name[7]", {}),
]


@pytest.mark.parametrize(("path", "expected"), DELETE)
def test_delete(path: str, expected: dict[str, Any]) -> None:
    assert patched(operation("delete", path)) == changed(expected)


REPLACE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Patient.birthDate", {"valueDate": "1980"}, {"birthDate": "1980"}),
    ("Patient.name[0]", {"valueHumanName": {"text": "n"}}, {"name": [{"text": "n"}, PATIENT["name"][1]]}),
    ("Patient.contact[0].gender", {"valueCode": "female"}, {"contact": [{"gender": "female"}]}),
    ("Patient.maritalStatus.coding[0].code", {"valueCode": "S"}, {"maritalStatus": {"coding": [{"code": "S"}]}}),
    ("Patient.contained[0]", {"resource": {"resourceType": "Practitioner", "id": "q"}},
     {"contained": [{"resourceType": "Practitioner", "id": "q"}]}),
    ("Patient.contained[0].id", {"valueId": "q"}, {"contained": [{"resourceType": "Organization", "id": "q"}]}),
    ("Patient.contact[0]", {"part": [{"name": "gender", "valueCode": "other"}]}, {"contact": [{"gender": "other"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), REPLACE)
def test_replace(path: str, value: dict[str, Any], expected: dict[str, Any]) -> None:
    assert patched(operation("replace", path, value=value)) == changed(expected)


def test_replacing_a_choice_keeps_its_place_and_may_change_its_type() -> None:
    result = patched(operation("replace", "Patient.deceased", value={"valueDateTime": "2020"}))
    members = ["deceasedDateTime" if key == "deceasedBoolean" else key for key in PATIENT]
    assert list(result) == members
    assert result["deceasedDateTime"] == "2020"


def test_replacing_a_primitive_replaces_its_extensions() -> None:
    resource = {"resourceType": "Patient", "gender": "male", "_gender": {"id": "x"}, "active": True}
    result = patched(operation("replace", "gender", value={"valueCode": "female"}), resource=resource)
    assert result == {"resourceType": "Patient", "gender": "female", "active": True}


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [(0, 2, ["y", "z", "x"]), (2, 0, ["z", "x", "y"]), (1, 1, ["x", "y", "z"]), (0, 1, ["y", "x", "z"])],
)
def test_move(source: int, destination: int, expected: list[str]) -> None:
    result = patched(operation("move", "Patient.name[0].given", source=source, destination=destination))
    assert result["name"][0]["given"] == expected


def test_operations_see_what_earlier_ones_did() -> None:
    result = patched(
        operation("delete", "Patient.name[0]"),
        operation("add", "Patient.name[0]", name="use", value={"valueCode": "old"}),
        operation("delete", "Patient.name.where(use = 'old').family"),
    )
    assert result["name"] == [{"_given": [None, {"id": "g"}], "given": ["v", None], "use": "old"}]


def test_values_of_the_patch_are_not_shared() -> None:
    value = {"valueHumanName": {"text": "n"}}
    change = operation("add", "Patient", name="name", value=value)
    parameters = {
        "resourceType": "Parameters",
        "parameter": [change, operation("delete", "Patient.name[2].text"), change],
    }
    before = copy.deepcopy(parameters)
    apply(PATIENT, parameters)
    assert parameters == before


def test_untouched_decimals_keep_their_literals() -> None:
    text = (
        b'{"resourceType":"Observation","status":"final","valueQuantity":{"value":1.00,"unit":"a"},'
        b'"component":[{"valueQuantity":{"value":1e-7}}]}'
    )
    result = apply(
        parse(text), {"resourceType": "Parameters", "parameter": [operation("delete", "Observation.value.unit")]}
    )
    assert encode(result) == text.replace(b',"unit":"a"', b"")


UNFIT = [
    ("several elements", operation("replace", "Patient.name", value={"valueHumanName": {}})),
    ("several to delete", operation("delete", "Patient.name")),
    ("several parents", operation("add", "Patient.name", name="use", value={"valueCode": "old"})),
    ("nothing to replace", operation("replace", "Patient.telecom", value={"valueContactPoint": {}})),
    ("no parent", operation("add", "Patient.photo", name="url", value={"valueUrl": "u"})),
    ("other type of resource", operation("add", "Observation", name="status", value={"valueCode": "final"})),
    ("exists and does not repeat", operation("add", "Patient", name="birthDate", value={"valueDate": "1980"})),
    ("choice exists with another type", operation("add", "Patient", name="deceased", value={"valueDateTime": "1980"})),
    ("no such element", operation("add", "Patient", name="nothing", value={"valueString": "x"})),
    ("wrong type", operation("add", "Patient", name="gender", value={"valueString": "male"})),
    ("wrong type of choice", operation("add", "Patient", name="multipleBirth", value={"valueString": "2"})),
    ("wrong type of part", operation("add", "Patient", name="contact", value={"part": [{"name": "gender",
     "valueUri": "x"}]})),
    ("unknown part", operation("add", "Patient", name="contact", value={"part": [{"name": "foo", "valueUri": "x"}]})),
    ("part twice", operation("add", "Patient", name="contact", value={"part": [{"name": "gender",
     "valueCode": "x"}] * 2})),
    ("not a resource", operation("add", "Patient", name="contained", value={"valueString": "x"})),
    ("a resource elsewhere", operation("add", "Patient", name="photo", value={"resource": {"resourceType": "Group"}})),
    ("index beyond the end", operation("insert", "Patient.name", index=3, value={"valueHumanName": {}})),
    ("insert where nothing repeats", operation("insert", "Patient.birthDate", index=0, value={"valueDate": "1980"})),
    ("insert at an element", operation("insert", "Patient.name[0]", index=0, value={"valueHumanName": {}})),
    ("insert into several", operation("insert", "Patient.name.given", index=0, value={"valueString": "w"})),
    ("insert into the resource", operation("insert", "Patient", index=0, value={"valueString": "w"})),
    ("move beyond the end", operation("move", "Patient.name", source=0, destination=2)),
    ("move from beyond the end", operation("move", "Patient.name", source=2, destination=0)),
    ("the whole resource", operation("delete", "Patient")),
    ("the whole resource replaced", operation("replace", "Patient", value={"resource": {"resourceType": "Patient"}})),
    ("a computed value", operation("delete", "'x'")),
]  # fmt: skip


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in UNFIT])
def test_what_does_not_fit_the_resource_is_422(change: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable) as caught:
        patched(change)
    assert caught.value.issues[0].expression == ("Parameters.parameter[0]",)


def test_contained_resources_are_part_of_the_resource() -> None:
    with pytest.raises(Unprocessable):
        # What resolve() finds has no place of its own; the path through `contained` has one.
        patched(
            operation("add", "Patient.generalPractitioner[0].resolve()", name="active", value={"valueBoolean": True})
        )
    result = patched(operation("add", "Patient.contained.where(id = 'o')", name="active", value={"valueBoolean": True}))
    assert result["contained"] == [{"resourceType": "Organization", "id": "o", "active": True}]


def test_other_resources_are_not_reached() -> None:
    """R4: servers SHALL not allow patch operations to alter other resources than the nominated target."""
    change = operation("delete", "Patient.generalPractitioner[1].resolve().active")
    assert patched(change) == PATIENT
    with pytest.raises(Unprocessable):
        patched(operation("replace", "Patient.generalPractitioner[1].resolve().active", value={"valueBoolean": True}))


def _without(part: str, change: dict[str, Any]) -> dict[str, Any]:
    return {"name": "operation", "part": [each for each in change["part"] if each["name"] != part]}


COMPLETE = operation("add", "Patient", name="gender", value={"valueCode": "male"})
MALFORMED: list[tuple[str, Any]] = [
    ("not Parameters", {"resourceType": "Patient"}),
    ("no operation", {"resourceType": "Parameters"}),
    ("another name", {"resourceType": "Parameters", "parameter": [{**COMPLETE, "name": "change"}]}),
    ("no parts", {"resourceType": "Parameters", "parameter": [{"name": "operation"}]}),
    *((f"without {part}", {"resourceType": "Parameters", "parameter": [_without(part, COMPLETE)]})
      for part in ("type", "path", "name", "value")),
    *((name, {"resourceType": "Parameters", "parameter": [change]}) for name, change in [
        ("unknown type", operation("upsert", "Patient")),
        ("unknown part", operation("delete", "Patient", foo="x")),
        ("part of another type", operation("delete", "Patient.name", index=0)),
        ("negative index", operation("insert", "Patient.name", index=-1, value={"valueHumanName": {}})),
        ("index that is a string", operation("insert", "Patient.name", index="0", value={"valueHumanName": {}})),
        ("syntax of the path", operation("delete", "Patient.name[")),
        ("unknown function", operation("delete", "Patient.foo()")),
        ("misuse in the path", operation("delete", "Patient.name.where(given = 1 + 'x')")),
        ("two values", operation("add", "Patient", name="gender", value={"valueCode": "a", "valueString": "b"})),
        ("no value in the value", operation("add", "Patient", name="gender", value={})),
    ]),
    ("a part twice", {"resourceType": "Parameters",
                      "parameter": [{"name": "operation", "part": [*COMPLETE["part"], COMPLETE["part"][0]]}]}),
]  # fmt: skip


@pytest.mark.parametrize("parameters", [pytest.param(parameters, id=name) for name, parameters in MALFORMED])
def test_what_is_no_patch_is_400(parameters: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        apply(PATIENT, parameters)
    assert caught.value.status == 400


def test_paths_have_a_budget() -> None:
    many = {"resourceType": "Patient", "name": [{"given": ["a"] * 300}] * 300}
    slow = operation("delete", "Patient.name.where(%resource.descendants().where($this = %context).exists())")
    bomb = operation("delete", "Patient.name.given.select(%resource.descendants()).select(%resource.descendants())")
    with pytest.raises(BadRequest):
        patched(bomb, resource=many)
    assert json.dumps(patched(slow, resource={"resourceType": "Patient"})) == '{"resourceType": "Patient"}'
