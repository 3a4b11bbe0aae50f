"""R4 http.html#capabilities: the statement says what the server does, because both come from the same tables."""

from __future__ import annotations

import pytest

from fhir_server.interactions.dispatch import OPERATIONS, ROUTES
from fhir_server.resources.types import TYPES
from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import patient


def test_the_statement_lists_every_type_with_every_interaction(client: Client) -> None:
    statement = client.get("/metadata").json
    assert statement["fhirVersion"] == "4.0.1"
    rest = statement["rest"][0]
    assert [one["type"] for one in rest["resource"]] == list(TYPES)
    assert len(TYPES) == 145
    codes = {interaction.code for methods in ROUTES.values() for interaction in methods.values()}
    declared = {one["code"] for one in rest["interaction"]} | {
        one["code"] for one in rest["resource"][0]["interaction"]
    }
    assert declared - {"batch"} == codes - {"capabilities", "search-compartment"}
    everywhere = {one["name"] for one in rest["operation"]}
    for described in rest["resource"]:
        offered = {name for name, one in OPERATIONS.items() if one.types is None or described["type"] in one.types}
        assert everywhere | {one["name"] for one in described["operation"]} == offered


@pytest.mark.parametrize("name", TYPES)
def test_every_type_can_be_searched_and_has_a_history(client: Client, name: str) -> None:
    assert client.get(f"/{name}?_id=x").json["total"] == 0
    assert client.get(f"/{name}/_history").json["total"] == 0
    assert client.get(f"/{name}/x").status == 404


@pytest.mark.parametrize(
    "mode, kind, status",
    [
        ("full", "CapabilityStatement", 200),
        ("normative", "CapabilityStatement", 200),
        ("terminology", "TerminologyCapabilities", 200),
        ("nonsense", "OperationOutcome", 400),
    ],
)
def test_modes_of_the_statement(client: Client, mode: str, kind: str, status: int) -> None:
    answer = client.get(f"/metadata?mode={mode}")
    assert (answer.status, answer.json["resourceType"]) == (status, kind)
    if mode == "normative":
        assert "searchInclude" not in answer.json["rest"][0]["resource"][0]


def test_every_declared_search_parameter_is_known(client: Client) -> None:
    for resource in client.get("/metadata").json["rest"][0]["resource"][::12]:
        for param in resource["searchParam"]:
            if param["type"] in ("token", "string", "reference", "uri") and not param["name"].startswith("_"):
                answer = client.get(f"/{resource['type']}?{param['name']}=Patient/x", prefer="handling=strict")
                assert answer.status == 200, (resource["type"], param["name"])


def test_settings_are_declared(build: Build) -> None:
    described = build(integrity=True).get("/metadata").json["rest"][0]["resource"][0]
    assert "enforced" in described["referencePolicy"]
    assert described["conditionalDelete"] == "multiple"


def test_the_statement_is_also_xml(client: Client) -> None:
    assert b"<CapabilityStatement" in client.get("/metadata?_format=xml").body


def test_create_of_parameters_is_404(client: Client) -> None:
    assert client.post("/Parameters", {"resourceType": "Parameters"}).status == 404
    assert client.post("/Patient", patient(active=True)).status == 201
