"""Compartments. R4 compartmentdefinition.html."""

from __future__ import annotations

import pytest

from fhir_server.resources import compartments
from fhir_server.search import membership
from fhir_server.search.registry import builtin
from tests.support.shelf import Shelf


def test_r4_has_five_compartments() -> None:
    assert set(compartments.names()) == {"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"}
    assert not compartments.is_compartment("Organization")


def test_members_of_the_patient_compartment() -> None:
    types = compartments.member_types("Patient")
    assert {"Patient", "Observation", "Encounter"} <= set(types)
    assert not {"Organization", "Location", "Practitioner"} & set(types)
    assert compartments.member_params("Patient", "Observation") == ("subject", "performer")
    with pytest.raises(KeyError):
        compartments.member_params("Patient", "Organization")


def test_every_membership_parameter_is_a_reference() -> None:
    for name in compartments.names():
        for type_ in compartments.member_types(name):
            for code in compartments.member_params(name, type_):
                param = builtin().param(type_, code)
                assert param is not None
                assert param.type == "reference"


def test_the_compartments_that_a_resource_is_in() -> None:
    shelf = Shelf()
    shelf.put(
        {
            "resourceType": "Observation",
            "id": "o",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": "Patient/1"},
            "encounter": {"reference": "Encounter/e"},
            "performer": [{"reference": "Practitioner/p"}, {"reference": "Organization/x"}, {"reference": "Patient/2"}],
        }
    )
    shelf.put({"resourceType": "Patient", "id": "1"})
    documents = shelf.corpus.held
    assert membership.memberships(builtin(), documents["Observation/o"]) == {
        ("Patient", "1"),
        ("Patient", "2"),
        ("Encounter", "e"),
        ("Practitioner", "p"),
    }
    assert membership.memberships(builtin(), documents["Patient/1"]) == {("Patient", "1")}
