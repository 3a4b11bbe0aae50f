"""The resources of the hospital that the matrix asks about, and whom each belongs to."""

from __future__ import annotations

from typing import Any

from tests.support.http import Client
from tests.support.resources import named, observation

PATIENTS = ("a", "b", "c")
ABSENT = "nothing"
"""An id that nothing has."""


def _reference(text: str) -> dict[str, str]:
    return {"reference": text}


def of_patient(id_: str) -> list[dict[str, Any]]:
    """What there is of one patient."""
    subject = f"Patient/{id_}"
    return [
        named(
            f"Family-{id_}",
            id_,
            gender="female" if id_ == "c" else "male",
            birthDate=f"19{60 + ord(id_) % 10}-01-02",
            generalPractitioner=[_reference("Practitioner/p")],
            managingOrganization=_reference("Organization/o"),
        ),
        {
            "resourceType": "Encounter",
            "id": f"en-{id_}",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": _reference(subject),
            "serviceProvider": _reference("Organization/o"),
        },
        observation(
            f"ob-{id_}",
            subject,
            code={"coding": [{"system": "http://example.org/codes", "code": "pulse"}]},
            effectiveDateTime=f"2025-0{ord(id_) - 96}-01",
            encounter=_reference(f"Encounter/en-{id_}"),
            performer=[_reference("Practitioner/p")],
        ),
        observation(
            f"derived-{id_}",
            subject,
            code={"coding": [{"system": "http://example.org/codes", "code": f"only-{id_}"}]},
            derivedFrom=[_reference("Observation/ob-c")],
        ),
        {"resourceType": "Binary", "id": f"pointed-{id_}", "contentType": "text/plain", "data": "QUJD"},
        {
            "resourceType": "Binary",
            "id": f"bound-{id_}",
            "contentType": "text/plain",
            "data": "QUJD",
            "securityContext": _reference(subject),
        },
        {
            "resourceType": "DocumentReference",
            "id": f"dr-{id_}",
            "status": "current",
            "subject": _reference(subject),
            "content": [{"attachment": {"contentType": "text/plain", "url": f"Binary/pointed-{id_}"}}],
        },
    ]


SHARED: list[dict[str, Any]] = [
    {"resourceType": "Practitioner", "id": "p", "name": [{"family": "Doctor"}]},
    {"resourceType": "Organization", "id": "o", "name": "Hospital"},
    {"resourceType": "Binary", "id": "nobodys", "contentType": "text/plain", "data": "QUJD"},
]


def everything() -> list[dict[str, Any]]:
    """All resources that are there, in order of creation."""
    # Of somebody else's, and pointing at what is a's.
    pointing = observation(
        "of-c",
        "Patient/c",
        code={"coding": [{"system": "http://example.org/codes", "code": "points"}]},
        derivedFrom=[_reference("Observation/ob-a")],
    )
    return [*SHARED, *(one for id_ in PATIENTS for one in of_patient(id_)), pointing]


def owner_of(resource: dict[str, Any]) -> str:
    """The patient that a resource is about; "" for nobody's."""
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    found = (resource.get("subject") or resource.get("securityContext") or {}).get("reference", "")
    if resource["resourceType"] == "Binary" and not found and resource["id"].startswith("pointed-"):
        return str(resource["id"].rpartition("-")[2])
    return str(found.partition("/")[2])


def fill(client: Client) -> None:
    """Stores everything; Observation/gone-* of each patient is deleted; Observation/moved was c's, and is a's now."""
    for resource in everything():
        assert client.put(f"/{resource['resourceType']}/{resource['id']}", resource).status == 201
    for id_ in PATIENTS:
        client.put(f"/Observation/gone-{id_}", observation(f"gone-{id_}", f"Patient/{id_}"))
        assert client.delete(f"/Observation/gone-{id_}").status == 204
    client.put("/Observation/moved", observation("moved", "Patient/c", code={"text": "moved"}))
    assert client.put("/Observation/moved", observation("moved", "Patient/a", code={"text": "moved"})).status == 200
