"""The committed tables against the packages they come from."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from fhir_server import definitions
from tests.support import examples

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "derive_definitions.py"


@pytest.fixture(scope="module")
def derive() -> Any:
    spec = importlib.util.spec_from_file_location("derive_definitions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_structures_are_those_of_the_package(derive: Any) -> None:
    derived = derive.structures(examples.directory())
    assert derived == definitions.structures()
    for owner, definition in derived.items():
        assert list(definition["elements"]) == list(definitions.structures()[owner]["elements"])


def test_search_parameters_are_those_of_the_package(derive: Any) -> None:
    assert derive.search_parameters(examples.directory()) == definitions.search_parameters()


def test_compartments_are_those_of_the_package(derive: Any) -> None:
    assert derive.compartments(examples.directory()) == definitions.compartments()


def test_counts() -> None:
    parameters = definitions.search_parameters()
    assert sum("expression" in p for p in parameters) == 1_381
    assert len(definitions.resource_types()) == 146
    assert set(definitions.compartments()) == {"Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"}
    special = {p["code"] for p in parameters if p.get("special")}
    assert special == {"_content", "_filter", "_has", "_list", "_query", "_text", "_type"}


def test_every_reference_inside_the_tables_leads_somewhere() -> None:
    structures = definitions.structures()
    for owner, definition in structures.items():
        for name, element in definition["elements"].items():
            assert element["types"] or "ref" in element, (owner, name)
            assert set(element["types"]) <= structures.keys()
            assert element.get("ref", owner) in structures
            assert element.get("profile", owner) in structures
            assert set(element.get("targets", ())) <= structures.keys()
            strength, url = element.get("binding", ("", ""))
            assert strength != "required" or url in definitions.required_codes()


def test_regular_expressions_of_primitives_compile_and_are_enforced() -> None:
    from fhir_server.resources.primitives import CHECKS

    samples = {
        "boolean": True,
        "code": "a b",
        "date": "2020-02",
        "dateTime": "2020-02-29T10:00:00Z",
        "id": "a-1.b",
        "instant": "2020-02-29T10:00:00.5Z",
        "oid": "urn:oid:1.2",
        "string": "a b",
        "time": "10:00:00",
        "uri": "urn:x",
        "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    }
    for name, sample in samples.items():
        assert CHECKS[name](sample)
        regex = definitions.structures()[name]["regex"]
        assert re.fullmatch(regex, "true" if sample is True else str(sample), re.ASCII)
        assert not CHECKS[name]("a  b\v")
