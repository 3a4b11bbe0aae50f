"""References, chains, reverse chains, lists, compartments, uris. R4 search.html#reference, #chaining, #has, #uri."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest, NotSupported
from tests.support.shelf import BASE, Shelf, found, shelf


def observation(id: str, subject: Any = None, **more: Any) -> dict[str, Any]:
    resource = {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [{"code": "c"}]}, **more}
    if subject is not None:
        resource["subject"] = {"reference": subject} if isinstance(subject, str) else subject
    return resource


CONTAINED = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Inner"}], "birthDate": "1950-01-01"}


@pytest.fixture(scope="module")
def clinic() -> Shelf:
    return shelf(
        [
            {
                "resourceType": "Patient",
                "id": "1",
                "name": [{"family": "Chalmers"}],
                "birthDate": "1970-05-05",
                "managingOrganization": {"reference": "Organization/o2"},
            },
            {"resourceType": "Patient", "id": "2", "name": [{"family": "Levin"}], "birthDate": "2001-01-01"},
            {
                "resourceType": "Group",
                "id": "1",
                "type": "person",
                "actual": True,
                "member": [{"entity": {"reference": "Patient/2"}}],
            },
            {"resourceType": "Organization", "id": "o1", "name": "Acme"},
            {"resourceType": "Organization", "id": "o2", "name": "Ward", "partOf": {"reference": "Organization/o1"}},
            {"resourceType": "Device", "id": "1", "deviceName": [{"name": "Scale", "type": "other"}]},
            {"resourceType": "Practitioner", "id": "pr", "name": [{"family": "Chalmers"}]},
            observation("relative", "Patient/1", performer=[{"reference": "Practitioner/pr"}]),
            observation("absolute", f"{BASE}/Patient/1"),
            observation("alias", "http://localhost:8080/fhir/Patient/1"),
            observation("versioned", "Patient/1/_history/3"),
            observation("group", "Group/1"),
            observation("device", "Device/1"),
            observation("elsewhere", "http://elsewhere.org/fhir/Patient/1"),
            observation("second", "Patient/2", hasMember=[{"reference": "Observation/relative"}]),
            observation("logical", {"identifier": {"system": "urn:mrn", "value": "77"}, "display": "Mr. Logical"}),
            observation("inner", "#p1", contained=[CONTAINED]),
            observation("none"),
            {
                "resourceType": "List",
                "id": "l",
                "status": "current",
                "mode": "working",
                "entry": [{"item": {"reference": "Patient/2"}}, {"item": {"reference": "Observation/group"}}],
            },
        ]
    )


OWN = {"relative", "absolute", "alias", "versioned"}


@pytest.mark.parametrize(
    "query, ids",
    [
        ("subject=Patient/1", OWN),
        (f"subject={BASE}/Patient/1", OWN),
        ("subject=http://localhost:8080/fhir/Patient/1", OWN),
        ("subject=Patient/1/_history/3", OWN),
        ("subject:Patient=1", OWN),
        ("subject:Patient=Patient/1", OWN),
        ("subject:Group=1", {"group"}),
        ("patient=1", OWN),
        ("patient=Patient/1", OWN),
        ("patient=Group/1", set()),
        ("patient:Patient=1", OWN),
        ("subject=http://elsewhere.org/fhir/Patient/1", {"elsewhere"}),
        ("patient=http://elsewhere.org/fhir/Patient/1", {"elsewhere"}),
        ("subject=Patient/1,Group/1", OWN | {"group"}),
        ("subject:identifier=urn:mrn|77", {"logical"}),
        ("subject:identifier=77", {"logical"}),
        ("subject:text=mr logical", {"logical"}),
        ("subject:missing=true", {"none"}),
        ("patient:missing=false", OWN | {"elsewhere", "second", "inner"}),
        ("patient:missing=true", {"group", "device", "logical", "none"}),
        ("subject=Patient/nobody", set()),
        ("subject=a/b/c", set()),
        ("subject=%23p1", set()),
    ],
)
def test_references(clinic: Shelf, query: str, ids: set[str]) -> None:
    assert found(clinic, f"Observation?{query}") == ids


def test_an_id_without_a_type_is_searched_in_every_type_and_said_so(clinic: Shelf) -> None:
    assert found(clinic, "Observation?subject=1") == OWN | {"group", "device"}
    issues = clinic.resolved("Observation?subject=1").issues
    assert [issue.severity for issue in issues] == ["warning"]
    assert clinic.resolved("Observation?patient=1").issues == []


# search.html#chaining; 3.1.1.5.5: chains look into contained resources.
@pytest.mark.parametrize(
    "query, ids",
    [
        ("subject:Patient.name=chalmers", {"relative", "absolute", "alias", "versioned"}),
        ("subject.name=chalmers", OWN),
        ("subject.name=inner", {"inner"}),
        ("patient.birthdate=lt1960", {"inner"}),
        ("patient.birthdate=ge1960&patient.birthdate=lt1980", OWN),
        ("patient.organization.name=ward", OWN),
        ("patient.organization.partof.name=acme", OWN),
        ("patient.organization:Organization.partof:Organization.name=acme", OWN),
        ("subject:Device.device-name=scale", {"device"}),
        ("patient._id=1", OWN),
        ("has-member.subject=Patient/1", {"second"}),
        ("has-member.subject:Patient.name=chalmers", {"second"}),
        ("performer.name=chalmers", {"relative"}),
        ("performer:Practitioner.family=chalmers", {"relative"}),
        ("patient.name:exact=Chalmers", OWN),
        ("patient.name:exact=chalmers", set()),
        ("patient._has:Group:member:_id=1", {"second"}),
        # Not the container's own match: only a chain sees what is contained.
        ("subject:Patient.birthdate=1950-01-01", {"inner"}),
    ],
)
def test_chains(clinic: Shelf, query: str, ids: set[str]) -> None:
    assert found(clinic, f"Observation?{query}") == ids


def test_contained_resources_do_not_match_a_plain_search(clinic: Shelf) -> None:
    assert found(clinic, "Patient?name=inner") == set()
    assert clinic.addresses("Patient?name=inner&_contained=true") == ["Observation/inner"]
    assert clinic.addresses("Patient?name=inner&_contained=true&_containedType=contained") == ["Observation/inner#p1"]
    assert clinic.addresses("Patient?birthdate=lt1980&_contained=both&_containedType=contained") == [
        "Patient/1",
        "Observation/inner#p1",
    ]


@pytest.mark.parametrize(
    "query, ids",
    [
        ("_has:Observation:patient:code=c", {"1", "2"}),
        ("_has:Observation:patient:_id=second", {"2"}),
        ("_has:Observation:patient:performer.name=chalmers", {"1"}),
        ("_has:Observation:subject:_has:Observation:has-member:code=c", {"1"}),
        ("_has:Observation:patient:code:not=c", set()),
        ("_has:Group:member:_id=1,nothing", {"2"}),
        ("_list=l", {"2"}),
        ("_list=List/l", {"2"}),
        ("_id=1,2", {"1", "2"}),
        ("_id:not=1", {"2"}),
        ("_id=A", set()),
    ],
)
def test_reverse_chains_and_lists(clinic: Shelf, query: str, ids: set[str]) -> None:
    assert found(clinic, f"Patient?{query}") == ids


@pytest.mark.parametrize(
    "url",
    [
        "Observation?subject.nonsense=x",
        "Observation?code.name=x",
        "Observation?subject:Medication.name=x",
        "Observation?subject:Medication=1",
        "Observation?subject:Patient=Group/1",
        "Observation?subject:Patient=a b",
        "Patient?_has:Observation:code:code=x",
        "Patient?_has:Observation:nonsense:code=x",
        "Patient?_has:Nonsense:patient:code=x",
        "Patient?_has:Observation:patient:nonsense=x",
        "Patient?_has:Observation:device:code=x",
        "Patient?_list=$current-problems",
    ],
)
def test_links_that_lead_nowhere_are_400(clinic: Shelf, url: str) -> None:
    with pytest.raises(BadRequest):
        found(clinic, url)


@pytest.mark.parametrize("query", ["subject:exact=x", "subject:Nonsense=1", "subject:not=Patient/1"])
def test_modifiers_that_do_not_fit(clinic: Shelf, query: str) -> None:
    with pytest.raises(NotSupported):
        found(clinic, f"Observation?{query}")


# --- hierarchies ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def building() -> Shelf:
    def location(id: str, parent: str | None) -> dict[str, Any]:
        resource: dict[str, Any] = {"resourceType": "Location", "id": id}
        if parent:
            resource["partOf"] = {"reference": f"Location/{parent}"}
        return resource

    def procedure(id: str, at: str) -> dict[str, Any]:
        return {
            "resourceType": "Procedure",
            "id": id,
            "status": "completed",
            "location": {"reference": f"Location/{at}"},
        }

    chain = [location(f"deep{n}", f"deep{n - 1}" if n else None) for n in range(11)]
    return shelf(
        [
            location("site", None),
            location("wing", "site"),
            location("ward", "wing"),
            location("bed", "ward"),
            location("other", None),
            *chain,
            procedure("in-site", "site"),
            procedure("in-ward", "ward"),
            procedure("in-bed", "bed"),
            procedure("in-other", "other"),
            procedure("in-depth", "deep9"),
        ]
    )


@pytest.mark.parametrize(
    "url, ids",
    [
        ("Procedure?location:below=site", {"in-site", "in-ward", "in-bed"}),
        ("Procedure?location:below=Location/ward", {"in-ward", "in-bed"}),
        ("Procedure?location:above=bed", {"in-site", "in-ward", "in-bed"}),
        ("Procedure?location:above=site", {"in-site"}),
        ("Procedure?location:below=deep0", {"in-depth"}),
        ("Location?partof:below=site", {"wing", "ward", "bed"}),
        ("Location?partof:below=wing", {"ward", "bed"}),
        ("Location?partof=site", {"wing"}),
    ],
)
def test_hierarchies(building: Shelf, url: str, ids: set[str]) -> None:
    assert found(building, url) == ids


# --- uris -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> Shelf:
    def value_set(id: str, url: str, **more: Any) -> dict[str, Any]:
        return {"resourceType": "ValueSet", "id": id, "url": url, "status": "active", **more}

    return shelf(
        [
            value_set("a", "http://acme.org/fhir/ValueSet/123"),
            value_set("b", "http://acme.org/fhir/ValueSet/123/_history/5"),
            value_set("c", "http://acme.org/fhirx"),
            value_set("d", "urn:oid:1.2.3"),
            value_set(
                "e", "http://acme.org/", meta={"profile": ["http://p/x|2", "http://p/y"], "source": "http://s/1"}
            ),
            {"resourceType": "PlanDefinition", "id": "plan", "status": "active", "library": ["http://l/1|2.0"]},
            {
                "resourceType": "CarePlan",
                "id": "care",
                "status": "active",
                "intent": "plan",
                "instantiatesCanonical": ["http://pl/1|3"],
            },
        ]
    )


@pytest.mark.parametrize(
    "url, ids",
    [
        ("ValueSet?url=http://acme.org/fhir/ValueSet/123", {"a"}),
        ("ValueSet?url=http://ACME.org/fhir/ValueSet/123", set()),
        ("ValueSet?url=urn:oid:1.2.3", {"d"}),
        ("ValueSet?url:below=http://acme.org/fhir", {"a", "b"}),
        ("ValueSet?url:below=http://acme.org/fhir/", {"a", "b"}),
        ("ValueSet?url:above=http://acme.org/fhir/ValueSet/123/_history/5", {"a", "b", "e"}),
        ("ValueSet?_profile=http://p/x", {"e"}),
        ("ValueSet?_profile=http://p/x|2", {"e"}),
        ("ValueSet?_profile=http://p/x|1", set()),
        ("ValueSet?_profile:below=http://p", {"e"}),
        ("ValueSet?_source=http://s/1", {"e"}),
        ("CarePlan?instantiates-canonical=http://pl/1", {"care"}),
        ("CarePlan?instantiates-canonical=http://pl/1|3", {"care"}),
        ("CarePlan?instantiates-canonical=http://pl/1|4", set()),
    ],
)
def test_uris_and_canonicals(library: Shelf, url: str, ids: set[str]) -> None:
    assert found(library, url) == ids


# --- compartments -----------------------------------------------------------------------------------------------------


def test_a_compartment_restricts(clinic: Shelf) -> None:
    assert found(clinic, "Observation?", compartment=("Patient", "1")) == OWN
    assert found(clinic, "Observation?code=nothing", compartment=("Patient", "1")) == set()
    assert found(clinic, "Patient?", compartment=("Patient", "1")) == {"1"}
    assert set(clinic.addresses("?", compartment=("Patient", "2"))) == {"Patient/2", "Group/1", "Observation/second"}
    assert found(clinic, "Observation?", compartment=("Practitioner", "pr")) == {"relative"}


def test_a_type_outside_the_compartment_is_400_and_the_compartment_is_named(clinic: Shelf) -> None:
    with pytest.raises(BadRequest) as caught:
        found(clinic, "Organization?", compartment=("Patient", "1"))
    assert "Patient compartment" in caught.value.issues[0].diagnostics
    with pytest.raises(BadRequest):
        found(clinic, "Observation?", compartment=("Organization", "1"))


# --- positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, ids",
    [
        ("near=52.52|13.405|10|km", {"alexanderplatz", "zoo"}),
        ("near=52.52|13.405|2|km", {"alexanderplatz"}),
        ("near=52.52|13.405|2000|m", {"alexanderplatz"}),
        ("near=52.52|13.405|20|[mi_i]", {"alexanderplatz", "zoo", "potsdam"}),
        ("near=52.52|13.405", {"alexanderplatz", "zoo", "potsdam"}),
        ("near=-17|180|100|km", {"east", "west"}),
        ("near=90|0|100|km", {"pole"}),
        ("near=0|0|30000|km", {"alexanderplatz", "zoo", "potsdam", "east", "west", "pole"}),
        ("near=52.5219|13.4132|0|km", {"alexanderplatz"}),
    ],
)
def test_near(query: str, ids: set[str]) -> None:
    places = {
        "alexanderplatz": (52.5219, 13.4132),
        "zoo": (52.5072, 13.3324),
        "potsdam": (52.3906, 13.0645),
        "east": (-17, 179.9),
        "west": (-17, -179.9),
        "pole": (89.9, 120),
    }
    world = shelf(
        [
            {"resourceType": "Location", "id": id, "position": {"latitude": latitude, "longitude": longitude}}
            for id, (latitude, longitude) in places.items()
        ]
    )
    assert found(world, f"Location?{query}") == ids


@pytest.mark.parametrize("value", ["x", "52", "91|0", "0|181", "0|0|-1", "0|0|x", "0|0|1|parsec", "1|2|3|km|5"])
def test_positions_that_are_malformed(value: str) -> None:
    with pytest.raises(BadRequest):
        found(shelf([]), f"Location?near={value}")
