"""References: walking and rewriting. R4 http.html#trules, references.html."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.resources import references

URN = "urn:uuid:6f0c9a7e-3a75-4f2f-8b5e-0d4b5d0a0001"
MAPPING = {
    URN: "Patient/7",
    "urn:oid:1.2.3": "Group/8",
    "http://elsewhere/Patient/1": "Patient/9",
    "Patient?identifier=s|v": "Patient/5",
}


@pytest.mark.parametrize(
    "before, after",
    [
        ({"subject": {"reference": URN}}, {"subject": {"reference": "Patient/7"}}),
        ({"subject": {"reference": URN.upper()}}, {"subject": {"reference": "Patient/7"}}),
        ({"subject": {"reference": "URN:OID:1.2.3"}}, {"subject": {"reference": "Group/8"}}),
        ({"subject": {"reference": "http://elsewhere/Patient/1"}}, {"subject": {"reference": "Patient/9"}}),
        ({"subject": {"reference": "Patient?identifier=s|v"}}, {"subject": {"reference": "Patient/5"}}),
        # Elements of type uri, url, oid, uuid and canonical, in extensions, choices and siblings of primitives.
        ({"extension": [{"url": "x", "valueUri": URN}]}, {"extension": [{"url": "x", "valueUri": "Patient/7"}]}),
        (
            {"extension": [{"url": "x", "valueOid": "urn:oid:1.2.3"}]},
            {"extension": [{"url": "x", "valueOid": "Group/8"}]},
        ),
        ({"extension": [{"url": "x", "valueUuid": URN}]}, {"extension": [{"url": "x", "valueUuid": "Patient/7"}]}),
        (
            {"extension": [{"url": "x", "valueReference": {"reference": URN}}]},
            {"extension": [{"url": "x", "valueReference": {"reference": "Patient/7"}}]},
        ),
        (
            {"_status": {"extension": [{"url": "x", "valueUrl": URN}]}},
            {"_status": {"extension": [{"url": "x", "valueUrl": "Patient/7"}]}},
        ),
        ({"implicitRules": URN}, {"implicitRules": "Patient/7"}),
        ({"meta": {"profile": ["http://p", URN]}}, {"meta": {"profile": ["http://p", "Patient/7"]}}),
        (
            {"component": [{"code": {}, "extension": [{"url": "x", "valueUri": URN}]}]},
            {"component": [{"code": {}, "extension": [{"url": "x", "valueUri": "Patient/7"}]}]},
        ),
        (
            {"contained": [{"resourceType": "Observation", "subject": {"reference": URN}}]},
            {"contained": [{"resourceType": "Observation", "subject": {"reference": "Patient/7"}}]},
        ),
        # Links of the narrative, and nothing else of it.
        (
            {
                "text": {
                    "status": "generated",
                    "div": f"<div><a href=\"{URN}\">{URN}</a><img src='{URN.upper()}'/></div>",
                }
            },
            {
                "text": {
                    "status": "generated",
                    "div": f"<div><a href=\"Patient/7\">{URN}</a><img src='Patient/7'/></div>",
                }
            },
        ),
    ],
)
def test_what_is_rewritten(before: dict[str, Any], after: dict[str, Any]) -> None:
    resource = {"resourceType": "Observation", **before}
    copied = references.rewritten(resource, MAPPING)
    assert copied == {"resourceType": "Observation", **after}
    assert resource == {"resourceType": "Observation", **before}
    assert references.rewrite(resource, MAPPING)
    assert resource == copied
    assert not references.rewrite(resource, MAPPING)


@pytest.mark.parametrize(
    "content",
    [
        {"identifier": [{"system": "urn:ietf:rfc:3986", "value": URN}]},
        {"subject": {"reference": "#local"}},
        {"subject": {"reference": "Patient/7"}},
        {"subject": {"display": URN}},
        {"valueString": URN},
        {"note": [{"text": URN}]},
        {"text": {"status": "generated", "div": f"<div title='{URN}'>{URN}</div>"}},
        {"code": {"coding": [{"code": URN}]}},
        {"subject": {"reference": "urn:uuid:00000000-0000-0000-0000-000000000000"}},
    ],
)
def test_what_is_left_alone(content: dict[str, Any]) -> None:
    resource = {"resourceType": "Observation", **content}
    assert not references.rewrite(resource, MAPPING)
    assert resource == {"resourceType": "Observation", **content}


RESOURCE = {
    "resourceType": "Observation",
    "subject": {"reference": URN},
    "performer": [
        {"reference": "Practitioner?identifier=a"},
        {"reference": "Organization/1/_history/2"},
        {"display": "x"},
    ],
    "contained": [{"resourceType": "Patient", "managingOrganization": {"reference": "http://own/fhir/Organization/2"}}],
    "extension": [{"url": "x", "valueReference": {"reference": "http://elsewhere/fhir/Organization/3"}}],
}


def test_references_are_walked_with_their_paths() -> None:
    assert sorted(path for _, path in references.walk(RESOURCE)) == [
        "Observation.contained[0].managingOrganization",
        "Observation.extension[0].valueReference",
        "Observation.performer[0]",
        "Observation.performer[1]",
        "Observation.subject",
    ]
    assert references.urns(RESOURCE) == [("Observation.subject.reference", URN)]
    assert references.conditional_references(RESOURCE) == ["Practitioner?identifier=a"]
    assert references.split_conditional("Practitioner?identifier=a") == ("Practitioner", "identifier=a")
    assert sorted(references.literal_targets(RESOURCE, ["http://own/fhir"])) == [
        ("Organization/1", "Observation.performer[1].reference"),
        ("Organization/2", "Observation.contained[0].managingOrganization.reference"),
    ]


@pytest.mark.parametrize(
    "text, named",
    [
        ("Patient/1", ("Patient", "1", None)),
        ("Patient/1/_history/2", ("Patient", "1", "2")),
        ("http://own/fhir/Patient/1", ("Patient", "1", None)),
        ("http://own/fhirx/Patient/1", None),
        ("http://elsewhere/fhir/Patient/1", None),
        ("Nonsense/1", None),
        ("Patient/" + "a" * 65, None),
        ("Patient/a_b", None),
        ("#x", None),
        (URN, None),
    ],
)
def test_literal_references_to_this_server(text: str, named: tuple[str, str, str | None] | None) -> None:
    assert references.literal(text, ["http://own/fhir"]) == named
