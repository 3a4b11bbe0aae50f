"""Security labels: what they keep from whom, however they are written, in every version, and who takes them away."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import labels
from tests.access import people
from tests.access.conftest import Hospital, Person, granted, patient_grant, staff_grant
from tests.access.people import ref
from tests.support.resources import bundle, entry

pytestmark = pytest.mark.both_stores

JSON = dict[str, Any]
MOTHER = patient_grant("mother")
DOCTOR = staff_grant("doctor", "doc")
LAB = staff_grant("laboratory", "lab")
SECRET = {"system": people.ACT_CODE, "code": "PSY"}
RESTRICTED = {"system": people.CONFIDENTIALITY, "code": "R"}


@pytest.fixture
def home(hospital: Hospital) -> Hospital:
    """A mother, her daughter of fifteen, and the daughter's doctor."""
    hospital.put(
        people.practitioner("doc"),
        people.practitioner("lab"),
        people.patient("m"),
        people.patient("c", "2010-05-06"),
        people.related("rel", "c"),
        people.person("mother", "Patient/m", "RelatedPerson/rel"),
        people.encounter("e", "c", "Practitioner/doc"),
    )
    return hospital


def document(id: str, **more: Any) -> JSON:
    content = [{"attachment": {"title": "t"}}]
    resource = {"resourceType": "DocumentReference", "id": id, "status": "current", "content": content}
    return {**resource, "subject": ref("Patient/c"), **more}


def note(id: str, **more: Any) -> JSON:
    return {
        "resourceType": "Composition",
        "id": id,
        "status": "final",
        "type": people.coded("note"),
        "subject": ref("Patient/c"),
        "date": "2025-01-01",
        "author": [ref("Practitioner/doc")],
        "title": "t",
        **more,
    }


def label_of(*codings: JSON) -> JSON:
    return {"meta": {"security": list(codings)}}


# --- however they are written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, systems", [("R", labels.CONFIDENTIALITY), ("V", labels.CONFIDENTIALITY), ("PSY", labels.ACT_CODE)]
)
def test_labels_of_older_versions_and_without_a_system_count(
    home: Hospital, code: str, systems: tuple[str, ...]
) -> None:
    codings: list[JSON] = [
        {"code": code},
        {"code": code.lower()},
        *({"system": system, "code": code} for system in systems),
    ]
    for number, coding in enumerate(codings):
        home.put(people.observation(f"o{number}", "c", **label_of(coding)))
    home.put(people.observation("other", "c", **label_of({"system": "http://example.org/labels", "code": code})))
    assert home.sees(MOTHER, "Observation") == {"Observation/other"}
    hidden = {"Observation/other"} if code != "PSY" else home.sees(granted("system"), "Observation")
    assert home.sees(LAB, "Observation") == hidden


def test_documents_are_labelled_in_elements_of_their_own_too(home: Hospital) -> None:
    home.put(
        document("open"),
        document("psy", securityLabel=[{"coding": [SECRET]}]),
        document("r", securityLabel=[{"coding": [RESTRICTED]}]),
        document("v", securityLabel=[{"coding": [{**RESTRICTED, "code": "V"}]}]),
        note("n-open", confidentiality="N"),
        note("n-r", confidentiality="R"),
        note("n-v", confidentiality="V"),
    )
    assert home.sees(MOTHER, "DocumentReference", "Composition") == {"DocumentReference/open", "Composition/n-open"}
    treating = home.sees(DOCTOR, "DocumentReference", "Composition")
    assert {one.partition("/")[2] for one in treating} == {"open", "psy", "r", "n-open", "n-r"}


# --- in every version -------------------------------------------------------------------------------------------------


def test_what_is_labelled_later_was_no_less_confidential_before(home: Hospital) -> None:
    home.put(people.observation("o", "c"), people.observation("plain", "c"))
    home.put(people.observation("plain", "c", note=[{"text": "again"}]))
    mother = Person(home, MOTHER)
    assert mother("GET", "/Observation/o/_history/1").status == 200
    home.put(people.observation("o", "c", **label_of(SECRET)))
    for path in ("", "/_history", "/_history/1", "/_history/2", "/_history/1/$meta"):
        assert mother("GET", f"/Observation/o{path}").status == 404
    for path in ("/Observation/_history", "/_history"):
        found = [one["response"]["location"] for one in mother("GET", path).entries]
        assert {one for one in found if one.startswith("Observation/")} == {
            "Observation/plain/_history/1",
            "Observation/plain/_history/2",
        }
    doctor = Person(home, DOCTOR)
    assert len(doctor("GET", "/Observation/o/_history").entries) == 2
    home.delete("Observation/o")
    for path in ("", "/_history", "/_history/1", "/_history/3"):
        assert mother("GET", f"/Observation/o{path}").status == 404
    assert doctor("GET", "/Observation/o").status == 410


def test_a_version_that_was_labelled_stays_so(home: Hospital) -> None:
    home.put(people.observation("o", "c", **label_of(RESTRICTED)))
    home.put(people.observation("o", "c"))
    mother = Person(home, MOTHER)
    assert mother("GET", "/Observation/o").status == 200
    assert mother("GET", "/Observation/o/_history/1").status == 404
    assert [one["response"]["etag"] for one in mother("GET", "/Observation/o/_history").entries] == ['W/"2"']


# --- who takes them away ----------------------------------------------------------------------------------------------


def removal(*codings: JSON) -> JSON:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": list(codings)}}]}


PATCH: JSON = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "delete"},
                {"name": "path", "valueString": "Observation.meta.security[0]"},
            ],
        }
    ],
}
PLAIN = people.observation("o", "c")


@pytest.mark.parametrize("labelled", [(SECRET,), (RESTRICTED,), (SECRET, RESTRICTED), ({"code": "own"},)])
def test_an_update_does_not_take_a_label_away(home: Hospital, labelled: tuple[JSON, ...]) -> None:
    home.put({**PLAIN, **label_of(*labelled)})
    doctor = Person(home, DOCTOR)
    transaction = bundle(entry("PUT", "Observation/o", PLAIN, ifMatch='W/"1"'))
    for answer in (
        doctor("PUT", "/Observation/o", PLAIN),
        doctor("PUT", "/Observation/o", PLAIN, if_match='W/"1"'),
        doctor("PUT", "/Observation?_id=o", PLAIN),
        doctor("PATCH", "/Observation/o", PATCH),
        doctor("PATCH", "/Observation?_id=o", PATCH),
        doctor("POST", "", transaction),
    ):
        assert answer.status == 403
        assert "$meta-delete" in answer.json["issue"][0]["diagnostics"]
    assert doctor("PUT", "/Observation/o", {**PLAIN, **label_of(*labelled, SECRET)}).status == 200
    mother = Person(home, MOTHER)
    assert mother("GET", "/Observation/o").status == 404
    assert doctor("POST", "/Observation/o/$meta-delete", removal(*labelled, SECRET)).status == 200
    assert mother("GET", "/Observation/o").status == 200


def test_a_confidentiality_is_raised_and_not_lowered(home: Hospital) -> None:
    home.put({**PLAIN, **label_of({**RESTRICTED, "code": "N"})})
    doctor = Person(home, DOCTOR)
    assert doctor("PUT", "/Observation/o", PLAIN).status == 200
    assert doctor("PUT", "/Observation/o", {**PLAIN, **label_of(RESTRICTED)}).status == 200
    assert doctor("PUT", "/Observation/o", {**PLAIN, **label_of({**RESTRICTED, "code": "N"})}).status == 403
    # Beyond what the doctor sees is beyond what the doctor writes.
    assert doctor("PUT", "/Observation/o", {**PLAIN, **label_of({**RESTRICTED, "code": "V"})}).status == 403
    assert doctor("POST", "/Observation", {**PLAIN, **label_of({**RESTRICTED, "code": "V"})}).status == 403
    assert doctor("GET", "/Observation?_security=R").matches == ["o"]


def test_what_is_not_seen_is_not_relabelled(home: Hospital) -> None:
    home.put({**PLAIN, **label_of({**RESTRICTED, "code": "V"})})
    doctor = Person(home, DOCTOR)
    for id_ in ("o", "absent"):
        assert doctor("POST", f"/Observation/{id_}/$meta-delete", removal({**RESTRICTED, "code": "V"})).status == 404
        assert doctor("PUT", f"/Observation/{id_}", {**PLAIN, "id": id_}).status == 404
        assert doctor("PATCH", f"/Observation/{id_}", PATCH).status == 404
    home.put({**PLAIN, **label_of(RESTRICTED)})
    for id_ in ("o", "absent"):
        lab = Person(home, LAB)
        assert lab("POST", f"/Observation/{id_}/$meta-delete", removal(RESTRICTED)).status == 404
        assert lab("PUT", f"/Observation/{id_}", {**PLAIN, "id": id_}).status == 404


def test_patients_do_not_take_labels_away(home: Hospital) -> None:
    measured = people.observation("o", "m", "vital-signs", performer=[ref("Patient/m")])
    home.put({**measured, **label_of(SECRET)})
    mother = Person(home, MOTHER)
    assert mother("GET", "/Observation/o").status == 200
    assert mother("POST", "/Observation/o/$meta-delete", removal(SECRET)).status == 403
    assert mother("PUT", "/Observation/o", measured).status == 403
    assert mother("PUT", "/Observation/o", {**measured, **label_of(SECRET, RESTRICTED)}).status == 200


def test_back_ends_that_may_do_everything_write_what_they_want(home: Hospital) -> None:
    home.put({**PLAIN, **label_of(SECRET, RESTRICTED)})
    assert Person(home, granted("system"))("PUT", "/Observation/o", PLAIN).status == 200


# --- who changes and does not read ------------------------------------------------------------------------------------


def test_whoever_may_only_update_is_not_shown_what_a_patch_leaves(home: Hospital) -> None:
    home.put({**PLAIN, **label_of(SECRET)})
    tag = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "seen"}]}}]}
    note = [{"op": "add", "path": "/note", "value": [{"text": "x"}]}]
    for scopes, shows in ((("user/Observation.u",), False), (("user/Observation.ru",), True)):
        doctor = Person(home, staff_grant("doctor", "doc", *scopes))
        answer = doctor("PATCH", "/Observation/o", note, type="application/json-patch+json")
        assert answer.status == 200
        assert bool(answer.body) is shows
        answer = doctor("POST", "/Observation/o/$meta-add", tag)
        assert answer.status == 200
        assert ("parameter" in answer.json) is shows
        assert bool(doctor("PUT", "/Observation/o", {**PLAIN, **label_of(SECRET)}).body)
