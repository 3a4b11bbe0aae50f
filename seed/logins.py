"""Who of the demo hospital can log in: invented people with a role each, and the Person that each of them is.

Kernels K1, K2. A Person leads to what the human is: a Patient, a Practitioner, and a RelatedPerson for each minor whom
she or he is a guardian of. Accounts and passwords are not made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from seed.base import JSON, present, reference, resource
from seed.staff import posts

#: Patients who can log in: an old man with a long record, his wife, a father and a mother of minors.
PATIENTS: Final = (("p001", "patient-chen"), ("p002", "patient-xu"), ("p007", "patient-sun"), ("p011", "patient-song"))

#: Staff number, user name, roles. The last doctor holds two roles and chooses when logging in.
STAFF: Final = (
    ("10018", "doctor-he", ("doctor",)),
    ("10019", "doctor-huang", ("doctor",)),
    ("10001", "doctor-wang", ("doctor",)),
    ("30001", "pharmacist-song", ("pharmacist",)),
    ("20001", "nurse-xu", ("nurse",)),
    ("40001", "lab-tang", ("laboratory",)),
    ("90001", "admin-peng", ("administrator",)),
    ("10020", "doctor-shen", ("doctor", "administrator")),
)


@dataclass(frozen=True, slots=True)
class Login:
    """One human who can log in. `roles` are (role, fhirUser) with relative references; `phone` as in the data."""

    username: str
    name: str
    roles: tuple[tuple[str, str], ...]
    person: JSON
    phone: str | None = None
    dependents: tuple[str, ...] = ()
    """References of the Patients whom he or she may act for."""


def logins(resources: Iterable[JSON]) -> list[Login]:
    """The logins of a generated hospital, given all its resources (or only Patient and RelatedPerson ones)."""
    patients: dict[str, JSON] = {}
    related: list[JSON] = []
    for one in resources:
        if one["resourceType"] == "Patient":
            patients[one["id"]] = one
        elif one["resourceType"] == "RelatedPerson":
            related.append(one)
    made = [_patient(patients[id_], username, patients, related) for id_, username in PATIENTS if id_ in patients]
    names = {post.staff_no: post for post in posts() if post.main}
    for number, username, roles in STAFF:
        post = names[number]
        person = _person(number, post.name.human_names(), post.sex, [post.practitioner])
        made.append(
            Login(username, post.name.text, tuple((role, post.practitioner) for role in roles), person, phone=None)
        )
    return made


def _patient(patient: JSON, username: str, patients: dict[str, JSON], related: list[JSON]) -> Login:
    own = f"Patient/{patient['id']}"
    name = patient["name"][0]["text"]
    guardianships = [
        one
        for one in related
        if one["name"][0]["text"] == name
        and one["birthDate"] == patient["birthDate"]
        and any(kind["coding"][0]["code"] == "GUARD" for kind in one["relationship"])
        and one["patient"]["reference"].removeprefix("Patient/") in patients
    ]
    links = [own, *(f"RelatedPerson/{one['id']}" for one in guardianships)]
    phones = [one["value"] for one in patient.get("telecom", ()) if one["system"] == "phone"]
    return Login(
        username,
        name,
        (("patient", own),),
        _person(patient["id"], patient["name"], patient["gender"], links, patient["birthDate"]),
        phones[0] if phones else None,
        tuple(one["patient"]["reference"] for one in guardianships),
    )


def _person(id_: str, names: list[JSON], sex: str, links: list[str], born: str | None = None) -> JSON:
    return resource(
        "Person",
        f"person-{id_}",
        active=True,
        name=names,
        gender=sex,
        birthDate=born,
        link=[present(target=reference(target), assurance="level2") for target in links],
    )
