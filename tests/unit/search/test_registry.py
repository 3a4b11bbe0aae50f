"""Which search parameters there are. R4 searchparameter.html, searchparameter-registry.html."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_server import definitions
from fhir_server.errors import BadRequest
from fhir_server.search import registry
from fhir_server.search.paths import of_expression
from tests.support.shelf import DEFAULT, Shelf, found


def test_every_official_parameter_is_there_for_all_of_its_types() -> None:
    builtin = registry.builtin()
    count = 0
    for item in definitions.search_parameters():
        if "expression" not in item:
            continue
        count += 1
        for name in definitions.resource_types():
            if name in item["base"] or "Resource" in item["base"]:
                param = builtin.param(name, item["code"])
                assert param is not None
                assert (param.type, param.url) == (item["type"], item["url"])
    assert count == 1381


def test_numbers_are_unique_and_frozen() -> None:
    table = json.loads(registry.NUMBERS_FILE.read_text())
    numbers = [number for codes in table.values() for number in codes.values()]
    assert len(numbers) == len(set(numbers))
    assert min(numbers) >= 1
    assert max(numbers) < registry.FIRST_CUSTOM
    for name in definitions.resource_types():
        assert set(registry.indexed_codes(name)) <= set(table[name])
    # Databases hold these numbers.
    assert registry.builtin().params("Patient")["birthdate"].number == table["Patient"]["birthdate"] * 16 == 29152


def test_entries_about_content_are_no_parameter_of_any_type() -> None:
    """They are for the gate alone: no search names them, and no listing shows them."""
    builtin = registry.builtin()
    own = {registry.content_number(name) for name in definitions.resource_types()}
    assert len(own) == len(definitions.resource_types()) == 146
    for name in definitions.resource_types():
        for param in builtin.params(name).values():
            assert not own.intersection((param.number, *param.variant(*range(16))))
        assert registry.CONTENT not in str(builtin.describe(name))
        assert builtin.param(name, registry.CONTENT) is None
    assert not any(own.intersection(param.numbers) for param in builtin.common.values())
    assert registry.content_number("Account") == 2580 * 16


def test_nearly_all_expressions_are_static_paths() -> None:
    dynamic = {
        f"{name}.{param.code}"
        for name in definitions.resource_types()
        for param in registry.builtin().params(name).values()
        if param.branches is None
    }
    assert dynamic == {"QuestionnaireResponse.item-subject"}


@pytest.mark.parametrize(
    "type_name, code, others, restrict",
    [
        ("Observation", "patient", ["subject"], "Patient"),
        ("Observation", "combo-code", ["code", "component-code"], ""),
        ("Observation", "combo-code-value-quantity", ["code-value-quantity", "component-code-value-quantity"], ""),
        ("Appointment", "practitioner", ["actor"], "Practitioner"),
        ("AllergyIntolerance", "patient", ["patient"], ""),
        ("Patient", "name", ["name"], ""),
    ],
)
def test_parameters_that_repeat_others_are_views(type_name: str, code: str, others: list[str], restrict: str) -> None:
    params = registry.builtin().params(type_name)
    assert params[code].numbers == tuple(params[other].number for other in others)
    assert params[code].restrict == restrict


@pytest.mark.parametrize(
    "type_name, code, single",
    [
        ("Observation", "date", True),
        ("Patient", "birthdate", True),
        ("Encounter", "location-period", False),
        ("Observation", "value-quantity", True),
        ("Observation", "combo-value-quantity", False),
        ("Patient", "gender", True),
        ("Observation", "code", False),
        ("Patient", "identifier", False),
        ("RiskAssessment", "probability", False),
        ("Slot", "start", True),
    ],
)
def test_which_parameters_have_one_value_at_most(type_name: str, code: str, single: bool) -> None:
    assert registry.builtin().params(type_name)[code].single is single


def test_targets_are_those_that_the_element_allows() -> None:
    params = registry.builtin().params("Observation")
    assert params["patient"].targets == ("Patient",)
    assert params["subject"].targets == ("Device", "Group", "Location", "Patient")
    assert registry.builtin().params("AllergyIntolerance")["patient"].targets == ("Patient",)
    assert len(params["focus"].targets) == len(definitions.resource_types()) - 1 or len(params["focus"].targets) > 140


def test_a_type_is_described_for_the_capability_statement() -> None:
    described = registry.builtin().describe("Patient")
    names = {item["name"] for item in described["searchParam"]}
    assert {"_id", "_lastUpdated", "family", "birthdate", "phonetic", "_has", "_filter"} <= names
    assert "_query" not in names
    assert "Patient:organization" in described["searchInclude"]
    assert "Observation:patient" in described["searchRevInclude"]
    family = next(item for item in described["searchParam"] if item["name"] == "family")
    assert family == {
        "name": "family",
        "definition": "http://hl7.org/fhir/SearchParameter/individual-family",
        "type": "string",
    }


@pytest.mark.parametrize(
    "expression", ["Patient.name.where(use = family)", "Patient.name.first()", "name contains 'x'", "Patient.nam%"]
)
def test_other_expressions_are_left_to_the_engine(expression: str) -> None:
    if "%" in expression:
        with pytest.raises(ValueError):
            of_expression(expression, "Patient")
    else:
        assert of_expression(expression, "Patient") is None


# --- custom parameters ------------------------------------------------------------------------------------------------


def parameter(code: str = "shoe-size", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"http://acme.org/SearchParameter/{code}",
        "status": "active",
        "code": code,
        "base": ["Patient"],
        "type": "quantity",
        "expression": "Patient.extension('http://acme.org/shoe-size').value as Quantity",
        "description": "Size of the shoes",
        **more,
    }


def built(*resources: dict[str, Any], ready: bool = True) -> registry.Registry:
    numbers = registry.assign_numbers(resources, {})
    return registry.build(resources, version=7, numbers=numbers, ready=numbers if ready else ())


PATIENT = {
    "resourceType": "Patient",
    "id": "big",
    "name": [{"use": "usual", "family": "Foot"}, {"family": "Other"}],
    "extension": [{"url": "http://acme.org/shoe-size", "valueQuantity": {"value": 48}}],
}


def test_a_custom_parameter_is_searched_by() -> None:
    custom = Shelf(DEFAULT, built(parameter()))
    custom.put(PATIENT)
    assert custom.registry.version == 7
    assert found(custom, "Patient?shoe-size=gt47") == {"big"}
    assert found(custom, "Patient?shoe-size=lt47") == set()
    param = custom.registry.params("Patient")["shoe-size"]
    assert param.number == registry.FIRST_CUSTOM * 16
    assert not param.builtin
    described = custom.registry.describe("Patient")["searchParam"]
    assert {
        "name": "shoe-size",
        "definition": param.url,
        "type": "quantity",
        "documentation": "Size of the shoes",
    } in described


def test_an_expression_that_is_no_path_is_evaluated_by_the_engine() -> None:
    custom = Shelf(
        DEFAULT,
        built(
            parameter("first-family", type="string", expression="Patient.name.first().family"),
            parameter("names", type="number", expression="Patient.name.count()"),
            parameter("usual", type="token", expression="Patient.name.where(use = 'usual').exists()"),
        ),
    )
    custom.put(PATIENT)
    assert found(custom, "Patient?first-family=foot") == {"big"}
    assert found(custom, "Patient?first-family=other") == set()
    assert found(custom, "Patient?names=2") == {"big"}
    assert found(custom, "Patient?usual=true") == {"big"}


def test_a_parameter_that_is_being_indexed_is_refused_and_says_so() -> None:
    custom = Shelf(DEFAULT, built(parameter(), ready=False))
    with pytest.raises(BadRequest) as caught:
        found(custom, "Patient?shoe-size=47")
    assert "being indexed" in caught.value.issues[0].diagnostics
    with pytest.raises(BadRequest):
        found(custom, "Patient?_sort=shoe-size")
    # It is extracted already.
    custom.put(PATIENT)
    assert custom.corpus.held["Patient/big"].ranges[-1][0] == registry.FIRST_CUSTOM * 16


@pytest.mark.parametrize(
    "more", [{"status": "draft"}, {"status": "retired"}, {"expression": ""}, {"type": "special"}, {"base": []}]
)
def test_others_are_only_stored(more: dict[str, Any]) -> None:
    resource = parameter(**more)
    assert not registry.effective(resource)
    assert registry.problems(resource) == []
    assert built(resource).param("Patient", "shoe-size") is None


@pytest.mark.parametrize(
    "more, expression",
    [
        ({"code": "birthdate"}, "SearchParameter.base"),
        ({"base": ["Organization", "Patient"], "code": "family"}, "SearchParameter.base"),
        ({"code": "_secret"}, "SearchParameter.code"),
        ({"code": "a.b"}, "SearchParameter.code"),
        ({"expression": "Patient.name.where("}, "SearchParameter.expression"),
        ({"base": ["Nonsense"]}, "SearchParameter.base"),
        ({"type": "composite"}, "SearchParameter.component"),
        (
            {"type": "composite", "component": [{"definition": "http://unknown", "expression": "a"}] * 2},
            "SearchParameter.component",
        ),
    ],
)
def test_what_an_active_parameter_cannot_be(more: dict[str, Any], expression: str) -> None:
    issues = registry.problems(parameter(**more))
    assert expression in {path for issue in issues for path in issue.expression}
    assert built(parameter(**more)).params("Patient").keys() == registry.builtin().params("Patient").keys()


def test_numbers_of_custom_parameters_are_never_reused() -> None:
    first = registry.assign_numbers([parameter()], {})
    assert first == {"Patient.shoe-size": 100_000}
    second = registry.assign_numbers([parameter("hat"), parameter(base=["Patient", "Person"])], first)
    assert second == {"Patient.shoe-size": 100_000, "Patient.hat": 100_001, "Person.shoe-size": 100_002}


def test_a_parameter_for_resource_applies_to_every_type() -> None:
    custom = built(parameter("language-of", base=["Resource"], type="token", expression="Resource.language"))
    assert all(custom.param(name, "language-of") is not None for name in custom.types)
