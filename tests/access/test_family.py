"""Whom a person acts for: links, periods, ages, and the Consent of adults (K2, T12)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access import people
from tests.access.conftest import Hospital, patient_grant

pytestmark = pytest.mark.both_stores

MOTHER = patient_grant("mother", "user/*.cruds", fhir_user="Patient/m")
OWN = {"Patient/m", "Observation/o-m"}
CHILD = {"Patient/c", "Observation/o-c"}


def seen(hospital: Hospital) -> set[str]:
    return hospital.sees(MOTHER, "Patient", "Observation")


def household(hospital: Hospital, born: str = "2020-05-06", person: dict[str, Any] | None = None, **rel: Any) -> None:
    """A mother, her child born then, and a stranger."""
    hospital.put(
        people.patient("m"),
        people.patient("c", born),
        people.patient("stranger"),
        people.observation("o-m", "m"),
        people.observation("o-c", "c"),
        people.observation("o-s", "stranger"),
        people.related("rel", "c", **rel),
        people.person("mother", "Patient/m", "RelatedPerson/rel", **(person or {})),
    )


def test_a_person_sees_the_own_record_and_that_of_a_child(hospital: Hospital) -> None:
    household(hospital)
    assert seen(hospital) == OWN | CHILD
    assert not hospital.reads(MOTHER, "Observation/o-s")
    links = hospital.server.cache["relations"].family("Person/mother", "Patient/m")
    assert [(one.patient, one.relation, one.related_person) for one in links] == [
        ("m", "self", None),
        ("c", "MTH", "RelatedPerson/rel"),
    ]


@pytest.mark.parametrize(
    "period, inside",
    [
        ({}, True),
        ({"start": "2026-01-01"}, True),
        ({"end": "2026-01-01"}, True),  # the last day belongs to it, in the hospital's zone
        ({"end": "2025-12-31"}, False),
        ({"start": "2026-01-02"}, False),
        ({"end": "2026-01-01T20:00:01+08:00"}, True),
        ({"end": "2026-01-01T19:59:58+08:00"}, False),
        ({"end": "2026"}, True),
    ],
)
def test_guardianship_lasts_for_its_period(hospital: Hospital, period: dict[str, str], inside: bool) -> None:
    household(hospital, **({"period": period} if period else {}))
    assert seen(hospital) == (OWN | CHILD if inside else OWN)


def test_guardianship_ends_with_its_last_day(hospital: Hospital) -> None:
    household(hospital, period={"end": "2026-01-01"})
    assert seen(hospital) == OWN | CHILD
    hospital.clock.advance(4 * 3600 - 1)
    hospital.seconds.now += 1.0
    assert seen(hospital) == OWN | CHILD
    hospital.clock.advance(1)
    hospital.seconds.now += 1.0
    assert seen(hospital) == OWN


def test_links_that_are_off_give_nothing(hospital: Hospital) -> None:
    household(hospital, active=False)
    assert seen(hospital) == OWN
    household(hospital)
    assert seen(hospital) == OWN | CHILD
    hospital.put(people.person("mother", "Patient/m"))
    assert seen(hospital) == OWN
    hospital.put(people.person("mother", "Patient/m", "RelatedPerson/rel", active=False))
    assert seen(hospital) == set()
    hospital.delete("Person/mother")
    assert seen(hospital) == set()


def test_a_related_person_alone_is_no_link(hospital: Hospital) -> None:
    household(hospital)
    hospital.put(people.related("other", "stranger"))
    assert seen(hospital) == OWN | CHILD


# --- ages: the clock stands at 2026-01-01T20:00 in Shanghai -----------------------------------------------------------


@pytest.mark.parametrize(
    "born, inside",
    [
        ("2008-01-02", True),  # 18 tomorrow
        ("2008-01-01", False),  # 18 today
        ("2008-01", False),  # 18 perhaps
        ("2008", False),
        ("2009", True),
        ("1950-03-04", False),
    ],
)
def test_of_adults_the_link_is_not_enough(hospital: Hospital, born: str, inside: bool) -> None:
    household(hospital, born)
    assert seen(hospital) == (OWN | CHILD if inside else OWN)


def test_who_has_no_birth_date_counts_as_an_adult(hospital: Hospital) -> None:
    household(hospital)
    child = people.patient("c")
    del child["birthDate"]
    hospital.put(child)
    assert seen(hospital) == OWN


@pytest.mark.parametrize(
    "provision, gained",
    [
        (people.provision("permit", "RelatedPerson/rel"), CHILD),
        (people.provision("permit", "Person/mother"), CHILD),
        (people.provision("permit", "Patient/m"), CHILD),
        (people.provision("permit"), set()),
        (people.provision("permit", "RelatedPerson/other"), set()),
        (people.provision("permit", "RelatedPerson/rel", period={"end": "2025-12-31"}), set()),
        (people.provision("permit", "RelatedPerson/rel", **{"class": [{"code": "Observation"}]}), {"Observation/o-c"}),
        (people.provision("deny", provision=[people.provision("permit", "RelatedPerson/rel")]), CHILD),
        # What is excepted from a permission for somebody is kept from that person.
        (
            people.provision(
                "permit",
                "RelatedPerson/rel",
                provision=[people.provision("deny", **{"class": [{"code": "Observation"}]})],
            ),
            {"Patient/c"},
        ),
    ],
)
def test_adults_permit_it_by_a_consent(hospital: Hospital, provision: dict[str, Any], gained: set[str]) -> None:
    household(hospital, "1950-03-04")
    hospital.put(people.consent("yes", "c", provision))
    assert seen(hospital) == OWN | gained
    hospital.put(people.consent("yes", "c", provision, status="inactive"))
    assert seen(hospital) == OWN


def test_a_minor_can_deny_a_guardian_by_name(hospital: Hospital) -> None:
    household(hospital)
    hospital.put(people.consent("no", "c", people.provision("deny", "RelatedPerson/rel")))
    assert seen(hospital) == OWN
    hospital.put(people.consent("no", "c", people.provision("deny")))
    assert seen(hospital) == OWN | CHILD


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "born, hidden",
    [("2012-01-01", True), ("2011-06-07", True), ("2012-01-02", False), ("2012", True), ("2013", False)],
)
@pytest.mark.parametrize("label", ["PSY", "SEX", "HIV", "R"])
def test_guardians_of_those_of_fourteen_do_not_see_what_is_sensitive(
    hospital: Hospital, born: str, hidden: bool, label: str
) -> None:
    household(hospital, born)
    hospital.put(people.observation("sensitive", "c", **people.labelled(label)))
    hospital.put(people.observation("own", "m", **people.labelled(label)))
    expected = OWN | CHILD | {"Observation/own"}
    assert seen(hospital) == (expected if hidden else expected | {"Observation/sensitive"})
    assert hospital.reads(MOTHER, "Observation/sensitive") is not hidden


def test_the_most_confidential_is_hidden_but_from_its_author(hospital: Hospital) -> None:
    household(hospital)
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": people.ref("Patient/m"),
        "content": [{"attachment": {"title": "t"}}],
        **people.labelled("V"),
    }
    hospital.put({**document, "id": "theirs"}, {**document, "id": "mine", "author": [people.ref("Patient/m")]})
    assert hospital.sees(MOTHER, "DocumentReference") == {"DocumentReference/mine"}


# --- the launch context -----------------------------------------------------------------------------------------------


def test_a_launch_is_about_one_of_them(hospital: Hospital) -> None:
    household(hospital)
    child = patient_grant("mother", "patient/*.rs", patient="c")
    assert hospital.sees(child, "Patient", "Observation") == CHILD
    assert not hospital.reads(child, "Observation/o-m")
    both = patient_grant("mother", "patient/*.rs", "user/Observation.r", patient="c")
    assert hospital.sees(both, "Patient", "Observation") == CHILD
    assert hospital.reads(both, "Observation/o-m")


def test_a_launch_about_somebody_else_gives_nothing(hospital: Hospital) -> None:
    household(hospital)
    stranger = patient_grant("mother", "patient/*.cruds", patient="stranger")
    policy = hospital.policy(stranger)
    assert [action for action in "cruds" if policy.granted(None, action)] == []  # type: ignore[arg-type]
    hospital.put(people.related("rel", "c", period={"end": "2025-12-31"}))
    ended = patient_grant("mother", "patient/*.rs", patient="c")
    assert not hospital.policy(ended).grants("Patient", "r")
