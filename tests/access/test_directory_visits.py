"""The visits that the authorization server offers for `launch/encounter`: those that the person may see, no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hestia.directory import FhirDirectory
from hestia.policies import Policies
from hestia.visits import OFFERED
from smart_auth.context import Visit
from smart_auth.store.protocol import AuthStore
from smart_auth.store.sqlite import open_store
from tests.access import people
from tests.access.conftest import Hospital, patient_grant, staff_grant

JSON = dict[str, Any]

pytestmark = pytest.mark.both_stores

MOTHER = ("patient", "Person/mother", "Patient/mother")
DOCTOR = ("doctor", None, "Practitioner/doc")
NURSE = ("nurse", None, "Practitioner/nurse")
LABORATORY = ("laboratory", None, "Practitioner/lab")


def visit(
    id: str, patient: str, start: str | None, end: str | None = None, status: str = "finished", **more: Any
) -> JSON:
    """A visit that nobody in these tests takes part in."""
    period = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    made = people.encounter(id, patient, "Practitioner/other", status, **more)
    return {**made, "period": period} if period else made


@pytest.fixture
def records(tmp_path: Path) -> Iterator[AuthStore]:
    """An empty store of records: the shipped policies are in force."""
    opened = open_store(tmp_path / "records.db")
    yield opened
    opened.close()


@pytest.fixture
def directory(hospital: Hospital, records: AuthStore) -> FhirDirectory:
    """Of a mother, a child, a girl of fifteen and a grown-up son, and a doctor who treats the mother only."""
    hospital.put(
        *(people.practitioner(id) for id in ("doc", "nurse", "lab", "other")),
        people.patient("mother"),
        people.patient("child", born="2020-02-03"),
        people.patient("girl", born="2010-02-03"),
        people.patient("son", born="2000-02-03"),
        people.related("of-child", "child"),
        people.related("of-girl", "girl"),
        people.related("of-son", "son"),
        people.related("ended", "stranger", period={"end": "2025-12-31"}),
        people.patient("stranger", born="2021-02-03"),
        people.person(
            "mother",
            "Patient/mother",
            *(f"RelatedPerson/{id}" for id in ("of-child", "of-girl", "of-son", "ended")),
        ),
        people.encounter("e", "mother", "Practitioner/doc", period={"start": "2026-01-01T08:00:00+08:00"}),
        *(visit(f"of-{id}", id, "2025-06-01T09:00:00+08:00") for id in ("child", "girl", "son", "stranger")),
    )
    return FhirDirectory(hospital.server, Policies(records))


def ids(visits: list[Visit]) -> list[str]:
    return [one.encounter for one in visits]


def test_current_visits_come_first_then_the_newest(hospital: Hospital, directory: FhirDirectory) -> None:
    """By their begin, whether or not they have an end; without a period last."""
    hospital.put(
        visit("day", "mother", "2025-11-03"),
        visit("old", "mother", "2019-05-01T10:00:00+08:00", "2019-05-01T10:20:00+08:00"),
        visit("month", "mother", "2025-11"),
        visit("unended", "mother", "2024-01-01T10:00:00+08:00"),
        visit("new", "mother", "2025-12-24T10:00:00+08:00", "2025-12-24T10:20:00+08:00"),
        visit("unknown", "mother", None, status="unknown"),
        visit("stay", "mother", "2025-10-01T10:00:00+08:00", status="onleave"),
        visit("planned", "mother", "2026-02-01T10:00:00+08:00", status="planned"),
        visit("cancelled", "mother", "2025-12-30T10:00:00+08:00", status="cancelled"),
        visit("mistake", "mother", "2025-12-31T10:00:00+08:00", status="entered-in-error"),
    )
    order = ["e", "stay", "planned", "new", "day", "month", "unended", "old", "unknown"]
    assert ids(directory.visits(*MOTHER, "mother")) == order
    assert ids(directory.visits(*DOCTOR, "mother")) == order
    assert ids(directory.visits(*MOTHER, "mother", limit=3)) == order[:3]
    assert ids(directory.visits(*MOTHER, "mother", "2025-11-03")) == ["stay", "day", "month", "unended", "old"]
    assert ids(directory.visits(*MOTHER, "mother", "2025-11-02")) == ["stay", "month", "unended", "old"]
    assert directory.visits(*MOTHER, "mother", "0001-01-01") == []
    assert ids(directory.visits(*MOTHER, "mother", "9999-12-31")) == order
    found = directory.visits(*MOTHER, "mother")
    assert [one.encounter for one in found if one.current] == ["e", "stay"]
    assert all(one.choosable for one in found)
    for id in ("cancelled", "mistake"):  # seen, and launched for, but not offered
        one = directory.visit(*MOTHER, "mother", id)
        assert one is not None
        assert not one.choosable


def test_visits_are_those_of_one_patient(directory: FhirDirectory) -> None:
    """Of several people whose records one may see, too."""
    for who in (MOTHER, NURSE):
        assert ids(directory.visits(*who, "child")) == ["of-child"]
        assert directory.visit(*who, "child", "of-child") is not None
        assert directory.visit(*who, "mother", "of-child") is None
        assert directory.visit(*who, "girl", "of-child") is None


def test_visits_of_people_whom_one_may_not_see_are_as_absent(directory: FhirDirectory) -> None:
    """A grown-up without a Consent, a guardianship that ended, a patient whom the doctor does not treat."""
    for who, patient in ((MOTHER, "son"), (MOTHER, "stranger"), (DOCTOR, "child"), (("doctor", None, None), "mother")):
        assert directory.visits(*who, patient) == []
        assert directory.visit(*who, patient, f"of-{patient}") is None
    assert directory.visit(*DOCTOR, "mother", "nowhere") is None
    assert directory.visits(*DOCTOR, "nobody") == []
    assert directory.visits("nonsense", None, "Practitioner/doc", "mother") == []


def test_right_that_ends_ends_the_offer(hospital: Hospital, directory: FhirDirectory) -> None:
    assert directory.visit(*MOTHER, "child", "of-child") is not None
    hospital.put(people.related("of-child", "child", period={"end": "2025-12-31"}))
    assert directory.visits(*MOTHER, "child") == []
    assert directory.visit(*MOTHER, "child", "of-child") is None


def test_labels_keep_visits_back(hospital: Hospital, directory: FhirDirectory) -> None:
    """V from everybody, what is sensitive from the guardian of somebody of fourteen (K2, T12)."""
    hospital.put(
        visit("v", "mother", "2025-06-02", **people.labelled("V")),
        visit("r", "mother", "2025-06-03", **people.labelled("R")),
        visit("psy", "girl", "2025-06-02", **people.labelled("PSY")),
        visit("psy-child", "child", "2025-06-02", **people.labelled("PSY")),
    )
    assert ids(directory.visits(*MOTHER, "mother")) == ["e", "r"]
    assert ids(directory.visits(*DOCTOR, "mother")) == ["e", "r"]
    assert directory.visit(*MOTHER, "mother", "v") is None
    assert ids(directory.visits(*MOTHER, "girl")) == ["of-girl"]
    assert directory.visit(*MOTHER, "girl", "psy") is None
    assert ids(directory.visits(*MOTHER, "child")) == ["psy-child", "of-child"]


def test_consent_keeps_visits_back(hospital: Hospital, directory: FhirDirectory) -> None:
    hospital.put(people.consent("no", "mother", people.provision("deny", "Practitioner/doc")))
    assert directory.visits(*DOCTOR, "mother") == []
    assert directory.visit(*DOCTOR, "mother", "e") is None
    assert ids(directory.visits(*MOTHER, "mother")) == ["e"]


def test_role_decides_which_visits(hospital: Hospital, directory: FhirDirectory) -> None:
    """The laboratory sees visits that go on."""
    hospital.put(visit("done", "mother", "2025-06-02"))
    assert ids(directory.visits(*LABORATORY, "mother")) == ["e"]
    assert directory.visit(*LABORATORY, "mother", "done") is None
    assert directory.visits("pharmacist", None, "Practitioner/nurse", "mother") == []


def test_offer_is_what_a_token_finds(hospital: Hospital, directory: FhirDirectory) -> None:
    """The same as a search of a token of that person over the Encounters of the patient."""
    hospital.put(
        visit("v", "mother", "2025-06-02", **people.labelled("V")),
        visit("psy", "girl", "2025-06-02", **people.labelled("PSY")),
        visit("done", "child", "2025-06-02"),
    )
    for role, person, user in (MOTHER, DOCTOR, NURSE, LABORATORY):
        grant = (
            patient_grant("mother", "user/Encounter.rs", fhir_user=user)
            if person is not None
            else staff_grant(role, str(user).removeprefix("Practitioner/"), "user/Encounter.rs")
        )
        offered = {
            f"Encounter/{one.encounter}"
            for patient in ("mother", "child", "girl", "son", "stranger")
            for one in directory.visits(role, person, user, patient)
        }
        assert offered == hospital.sees(grant, "Encounter")


def test_visit_is_described_by_what_may_be_seen(hospital: Hospital, directory: FhirDirectory) -> None:
    role, organization = (
        people.post("post", "other"),
        {"resourceType": "Organization", "id": "dept", "name": "Cardiology"},
    )
    nobody = {"individual": people.ref("RelatedPerson/of-child")}
    hospital.put(
        organization,
        role,
        people.condition("known", "mother"),
        people.condition("secret", "mother", code={"text": "A secret"}, **people.labelled("V")),
        visit(
            "full",
            "mother",
            "2025-06-02T01:30:00Z",
            "2025-06-05T20:00:00Z",
            serviceProvider=people.ref("Organization/dept"),
            participant=[
                {"individual": people.ref("Practitioner/nurse")},
                nobody,
                {"type": [people.coded("ATND")], "individual": people.ref("PractitionerRole/post")},
            ],
            reasonReference=[people.ref("Condition/secret"), people.ref("Condition/known")],
        ),
        visit(
            "named",
            "mother",
            "2025-06-02T09:30:00+02:00",
            serviceProvider={"reference": "Organization/gone", "display": "Old ward"},
            participant=[{"individual": {"reference": "PractitionerRole/gone", "display": "Dr Gone"}}],
            reasonCode=[people.coded("x"), {"text": "Cough " * 50}],
        ),
        visit("bare", "mother", "2025", serviceType={"text": "Imaging"}, participant=[nobody]),
    )
    full = directory.visit(*MOTHER, "mother", "full")
    assert full == Visit(
        "full", "mother", "finished", "AMB", "AMB", "2025-06-02 09:30", "2025-06-06 04:00", "Cardiology", "other",
        "A diagnosis",
    )  # fmt: skip
    named = directory.visit(*MOTHER, "mother", "named")
    assert named is not None
    assert (named.start, named.department, named.practitioner) == ("2025-06-02 09:30", "Old ward", "Dr Gone")
    assert named.reason is not None
    assert (len(named.reason), named.reason[:5]) == (120, "Cough")
    bare = directory.visit(*MOTHER, "mother", "bare")
    assert bare is not None
    assert (bare.start, bare.department, bare.practitioner, bare.reason) == ("2025", "Imaging", None, None)


@pytest.mark.parametrize("text", ["", "../e", "e,of-child", "e|", "x" * 65, "Encounter/e", "\u4e2d", "e&patient=child"])
def test_what_is_no_id_finds_nothing(directory: FhirDirectory, text: str) -> None:
    assert directory.visit(*NURSE, "mother", text) is None
    assert directory.visits(*NURSE, text) == []


def test_statuses_are_all_but_what_did_not_take_place() -> None:
    """R4 valueset-encounter-status."""
    everything = {"planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled"}
    everything |= {"entered-in-error", "unknown"}
    assert everything - set(OFFERED) == {one for one in everything if not Visit("e", "p", one).choosable}
