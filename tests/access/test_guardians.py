"""Guardians at the HTTP interface: what is kept from them leaves no trace in any answer, and none makes himself one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.access import people
from tests.access.conftest import Hospital, Person, patient_grant, staff_grant
from tests.access.people import ref
from tests.support.resources import bundle, entry

pytestmark = pytest.mark.both_stores

JSON = dict[str, Any]
MOTHER = patient_grant("mother")
DOCTOR = staff_grant("doctor", "doc")
PULSE = people.coded("pulse")
CODED = {"code": people.coded("secret")}


@pytest.fixture
def home(hospital: Hospital) -> Hospital:
    """A mother, a daughter of fifteen with some open data, and a doctor."""
    hospital.put(
        people.practitioner("doc"),
        people.patient("m"),
        people.patient("c", "2010-05-06"),
        people.patient("kid", "2020-05-06"),
        people.patient("stranger", "2018-01-01"),
        people.related("rel", "c"),
        people.related("rel-kid", "kid"),
        people.person("mother", "Patient/m", "RelatedPerson/rel", "RelatedPerson/rel-kid"),
        people.encounter("visit", "c", "Practitioner/doc", period={"start": "2025-03-01"}),
        people.observation("o1", "c", code=PULSE, effectiveDateTime="2025-01-01", encounter=ref("Encounter/visit")),
        people.observation("o2", "c", code=PULSE, effectiveDateTime="2025-03-01", encounter=ref("Encounter/visit")),
        people.condition("k1", "c"),
    )
    return hospital


def hidden(label: str) -> list[JSON]:
    """What a guardian of somebody of fifteen does not see, tied to what she sees in every way there is."""
    mark = people.labelled(label)
    return [
        people.encounter("h-visit", "c", "Practitioner/doc", period={"start": "2025-02-01"}, **mark),
        people.observation(
            "h1",
            "c",
            **CODED,
            effectiveDateTime="2025-02-01",
            encounter=ref("Encounter/visit"),
            derivedFrom=[ref("Observation/o1")],
            performer=[ref("Practitioner/doc")],
            **mark,
        ),
        people.condition("h2", "c", encounter=ref("Encounter/visit"), **mark),
        people.message("h3", "c", "Practitioner/doc", "Patient/c", **mark),
        {
            "resourceType": "DocumentReference",
            "id": "h4",
            "status": "current",
            "subject": ref("Patient/c"),
            "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/h5"}}],
            **mark,
        },
        {"resourceType": "Binary", "id": "h5", "contentType": "text/plain", "data": "QUJD"},
        {
            "resourceType": "Binary",
            "id": "h6",
            "contentType": "text/plain",
            "data": "QUJD",
            "securityContext": ref("Observation/h1"),
        },
        {
            "resourceType": "List",
            "id": "h7",
            "status": "current",
            "mode": "working",
            "subject": ref("Patient/c"),
            "entry": [{"item": ref("Observation/o1")}],
            **mark,
        },
    ]


QUESTIONS = (
    "Observation?_total=accurate",
    "Observation?_summary=count",
    "Observation?subject=Patient/c&_sort=date",
    "Observation?subject=Patient/c&_sort=-date&_count=1&_total=accurate",
    "Observation?code=secret",
    "Observation?code:not=pulse",
    "Observation?derived-from=Observation/o1",
    "Observation?encounter.participant=Practitioner/doc",
    "Observation?_has:Observation:derived-from:code=secret",
    "Observation?_has:Observation:derived-from:code:not=pulse",
    "Observation?_id=o1&_revinclude=Observation:derived-from",
    "Observation?_list=h7",
    "Observation?_lastUpdated=ge2026-01-01&_total=accurate",
    "Observation?_security=http://terminology.hl7.org/CodeSystem/v3-ActCode|PSY,R",
    "Observation?_filter=code eq secret",
    "Patient?_has:Observation:patient:code=secret",
    "Patient?_has:Condition:patient:_id=h2",
    "Patient?_has:Encounter:patient:date=2025-02-01",
    "Patient?_id=c&_revinclude=*",
    "Patient/c/*?_total=accurate",
    "Patient/c/Observation?_summary=count",
    "Encounter?_has:Condition:encounter:_id=h2",
    "Encounter?_has:Observation:encounter:code=secret&_summary=count",
    "Encounter?date=2025-02-01",
    "Encounter?_sort=date&_count=1",
    "Practitioner?_has:Observation:performer:code=secret",
    "Practitioner?_id=doc&_revinclude=Encounter:participant",
    "DocumentReference?_include=DocumentReference:*&_total=accurate",
    "List?item=Observation/o1",
    "Communication?subject=Patient/c",
    "?_type=Observation,Condition,Encounter,DocumentReference,List,Communication&_total=accurate",
    "Observation/_history",
    "Observation/_history?_count=1",
    "Condition/_history?_since=2026-01-01",
    "_history?_count=100",
    "Observation/$meta",
    "$meta",
    *(
        f"{path}{more}"
        for path in ("Observation/h1", "Condition/h2", "DocumentReference/h4", "Binary/h5", "Binary/h6", "List/h7")
        for more in ("", "/_history", "/_history/1", "/$meta")
    ),
)

_VARYING = re.compile(rb'"id":"[0-9a-f-]{36}"|"lastUpdated":"[^"]*"|_cursor=[^"&]*')


def answers(person: Person) -> dict[str, tuple[int, bytes]]:
    """What everything that can be asked is answered with, but for what differs each time."""
    found = {}
    for question in QUESTIONS:
        answer = person("GET", f"/{question}".replace(" ", "%20"))
        found[question] = (answer.status, _VARYING.sub(b"", answer.body))
    return found


@pytest.mark.parametrize("label", ["R", "PSY", "V"])
def test_what_is_kept_from_a_guardian_changes_no_answer(home: Hospital, label: str) -> None:
    mother = Person(home, MOTHER)
    before = answers(mother)
    assert {status for status, _ in before.values()} <= {200, 404}
    home.put(*hidden(label))
    assert answers(mother) == before
    # Of a smaller child she sees what is not the most confidential.
    home.put(people.patient("c", "2019-05-06"))
    assert (mother("GET", "/Observation?code=secret").matches == ["h1"]) is (label != "V")
    home.put(people.patient("c", "2010-05-06"))
    assert mother("GET", "/Observation?code=secret").matches == []


@pytest.mark.parametrize(
    "end",
    [
        people.related("rel", "c", period={"end": "2025-12-31"}),
        people.related("rel", "c", active=False),
        people.related("rel", "stranger"),
        people.person("mother", "Patient/m"),
        people.person("mother", "Patient/m", "RelatedPerson/rel", active=False),
        people.patient("c", "2008-01-01"),
    ],
)
def test_with_the_relation_ends_every_way_in(home: Hospital, end: JSON) -> None:
    mother = Person(home, MOTHER)
    first = mother("GET", "/Observation?_count=1&_total=accurate")
    assert (first.status, first.json["total"]) == (200, 2)
    following = first.link("next")
    assert following is not None
    home.put(end)
    assert mother("GET", following).matches == []
    for path in ("Observation/o1", "Observation/o1/_history/1", "Observation/o1/_history", "Patient/c"):
        assert mother("GET", f"/{path}").status == 404
    for question in ("Observation?patient=c", "Observation?patient.birthdate=2010-05-06", "Patient/c/Observation"):
        assert mother("GET", f"/{question}").matches == []
    measured = people.observation("new", "c", "vital-signs", performer=[ref("Person/mother")])
    assert mother("POST", "/Observation", measured).status == 403


def patch_of(path: str, value: Any) -> list[JSON]:
    return [{"op": "add", "path": path, "value": value}]


def test_nobody_becomes_a_guardian_by_writing_it(home: Hospital) -> None:
    mother = Person(home, MOTHER)
    before = home.sees(MOTHER, "Patient", "Observation")
    person = people.person("mother", "Patient/m", "Patient/stranger", "RelatedPerson/rel")
    mine = people.related("new", "stranger")
    moved = people.related("rel", "stranger")
    younger = people.patient("c", "2020-01-01")
    permitted = people.consent("new", "stranger", people.provision("permit", "Person/mother"))
    attempts = [
        mother("PUT", "/Person/mother", person),
        mother("PUT", "/Person?_id=mother", person),
        mother("POST", "/Person", person),
        mother("PATCH", "/Person/mother", patch_of("/link/-", {"target": ref("Patient/stranger")}),
               type="application/json-patch+json"),
        mother("POST", "/RelatedPerson", mine),
        mother("PUT", "/RelatedPerson/new", mine),
        mother("PUT", "/RelatedPerson/rel", moved),
        mother("PATCH", "/RelatedPerson/rel", patch_of("/patient", ref("Patient/stranger")),
               type="application/json-patch+json"),
        mother("DELETE", "/RelatedPerson/rel"),
        mother("PUT", "/Patient/c", younger),
        mother("POST", "/Consent", permitted),
        mother("POST", "/Consent", people.consent("new", "c", people.provision("permit", "Person/mother"))),
        mother("POST", "", bundle(
            entry("POST", "RelatedPerson", mine, "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"),
            entry("PUT", "Person/mother",
                  people.person("mother", "Patient/m", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0")),
        )),
    ]  # fmt: skip
    assert [one.status for one in attempts] == [403] * len(attempts)
    batch = mother("POST", "", bundle(entry("POST", "RelatedPerson", mine), type="batch"))
    assert batch.entries[0]["response"]["status"].startswith("403")
    assert home.sees(MOTHER, "Patient", "Observation") == before


def test_a_guardian_moves_what_is_hers_between_those_she_acts_for_alone(home: Hospital) -> None:
    mother = Person(home, MOTHER)

    def measured(patient: str, **more: Any) -> JSON:
        return people.observation("own", patient, "vital-signs", performer=[ref("Person/mother")], **more)

    home.put(measured("kid", **people.labelled("R")))
    # Of the older one she would not see it any more.
    assert mother("PUT", "/Observation/own", measured("c", **people.labelled("R"))).status == 403
    assert mother("PUT", "/Observation/own", measured("stranger", **people.labelled("R"))).status == 403
    assert mother("PUT", "/Observation/own", measured("m", **people.labelled("R"))).status == 200
    home.put(people.related("rel-kid", "kid", active=False))
    assert mother("GET", "/Observation/own").status == 200
    # What it was while it was the child's is seen by those who see the child.
    assert mother("GET", "/Observation/own/_history/1").status == 404
    assert mother("PUT", "/Observation/own", measured("kid", **people.labelled("R"))).status == 403


@pytest.mark.parametrize("label", ["R", "HIV"])
@pytest.mark.parametrize("pointed", [False, True])
def test_content_that_is_labelled_itself_is_kept_from_a_guardian(home: Hospital, label: str, pointed: bool) -> None:
    """The owner has no label: the content is as sensitive as itself and its owner together."""
    content: JSON = {"resourceType": "Binary", "id": "scan", "contentType": "text/plain", "data": "QUJD"}
    if pointed:
        attachment = {"contentType": "text/plain", "url": "Binary/scan"}
        media = {"resourceType": "Media", "id": "shot", "status": "completed", "subject": ref("Patient/c")}
        home.put(content, {**media, "content": attachment})
    else:
        content["securityContext"] = ref("Observation/o1")
        home.put(content)
    mother, doctor = Person(home, MOTHER), Person(home, DOCTOR)
    assert [one("GET", "/Binary/scan").status for one in (mother, doctor)] == [200, 200]
    home.put({**content, **people.labelled(label)})
    assert [one("GET", "/Binary/scan").status for one in (mother, doctor)] == [404, 200]
