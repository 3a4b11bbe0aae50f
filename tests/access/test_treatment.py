"""Whom staff may see: treatment relation (K23), Consent, and how fast a change takes effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_server.access.consents import CARE
from tests.access import people
from tests.access.conftest import Hospital, Person, staff_grant
from tests.access.people import ref

pytestmark = pytest.mark.both_stores

WHO = "Practitioner/doc"
DOCTOR = staff_grant("doctor", "doc")


@pytest.fixture
def ward(hospital: Hospital) -> Hospital:
    """A doctor with a post, a patient with some data and nothing that ties the two."""
    hospital.put(
        people.practitioner("doc"),
        people.practitioner("other"),
        people.post("post", "doc"),
        people.patient("p"),
        people.patient("q"),
        people.observation("o-p", "p"),
        people.condition("c-p", "p"),
        people.observation("o-q", "q"),
    )
    return hospital


def seen(hospital: Hospital) -> set[str]:
    return hospital.sees(DOCTOR, "Patient", "Observation", "Condition")


ALL = {"Patient/p", "Observation/o-p", "Condition/c-p"}


@pytest.mark.parametrize(
    "relation",
    [
        people.encounter("e", "p", WHO),
        people.encounter("e", "p", WHO, "planned"),
        people.encounter("e", "p", WHO, "finished", period={"start": "2025-07-06", "end": "2025-07-06"}),
        people.encounter("e", "p", "PractitionerRole/post"),
        people.appointment("a", "p", WHO),
        people.appointment("a", "p", "PractitionerRole/post", "fulfilled", start="2025-12-01"),
        people.appointment("a", "p", WHO, "pending", start="2026-12-01"),
        {
            "resourceType": "CareTeam",
            "id": "t",
            "status": "active",
            "subject": ref("Patient/p"),
            "participant": [{"member": ref(WHO)}],
        },
        {
            "resourceType": "CareTeam",
            "id": "t",
            "status": "active",
            "subject": ref("Patient/p"),
            "period": {"start": "2025-12-01", "end": "2026-02-01"},
            "participant": [{"member": ref("PractitionerRole/post")}],
        },
        people.patient("p", generalPractitioner=[ref(WHO)]),
    ],
    ids=lambda one: f"{one['resourceType']}-{one.get('status', '')}",
)
def test_who_treats_a_patient_sees_the_record(ward: Hospital, relation: dict[str, Any]) -> None:
    assert seen(ward) == set()
    ward.put(relation)
    assert seen(ward) == ALL
    assert ward.reads(DOCTOR, "Observation/o-p")
    assert not ward.reads(DOCTOR, "Observation/o-q")


@pytest.mark.parametrize(
    "no_relation",
    [
        people.encounter("e", "p", "Practitioner/other"),
        people.encounter("e", "p", WHO, "cancelled"),
        people.encounter("e", "p", WHO, "entered-in-error"),
        people.encounter("e", "p", WHO, "finished", period={"start": "2025-07-01", "end": "2025-07-04"}),
        people.appointment("a", "p", WHO, "cancelled"),
        people.appointment("a", "p", WHO, "noshow", start="2025-12-01"),
        people.appointment("a", "p", WHO, "fulfilled", start="2025-06-01"),
        {
            "resourceType": "CareTeam",
            "id": "t",
            "status": "inactive",
            "subject": ref("Patient/p"),
            "participant": [{"member": ref(WHO)}],
        },
        {
            "resourceType": "CareTeam",
            "id": "t",
            "status": "active",
            "subject": ref("Patient/p"),
            "period": {"start": "2025-01-01", "end": "2025-12-01"},
            "participant": [{"member": ref(WHO)}],
        },
        {
            "resourceType": "CareTeam",
            "id": "t",
            "status": "active",
            "subject": ref("Patient/p"),
            "period": {"start": "2026-02-01"},
            "participant": [{"member": ref(WHO)}],
        },
        people.observation("performed", "p", performer=[ref(WHO)]),
        people.patient("p", generalPractitioner=[ref("Organization/dept")]),
    ],
    ids=lambda one: f"{one['resourceType']}-{one.get('status', '')}",
)
def test_what_is_no_treatment_shows_nothing(ward: Hospital, no_relation: dict[str, Any]) -> None:
    ward.put(no_relation)
    assert seen(ward) == set()


def test_how_long_a_relation_lasts_is_a_setting(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO, "finished", period={"start": "2025-12-01", "end": "2025-12-01"}))
    assert seen(ward) == ALL
    ward.server.settings = replace(ward.server.settings, treatment_days=30)
    ward.server.cache.clear()
    assert seen(ward) == set()


def test_a_post_that_ended_gives_nothing(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", "PractitionerRole/post"))
    assert seen(ward) == ALL
    ward.put(people.post("post", "doc", period={"end": "2025-12-31"}))
    assert seen(ward) == set()
    ward.put(people.post("post", "doc", active=False))
    assert seen(ward) == set()


def test_staff_that_left_see_nothing(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO))
    ward.put(people.practitioner("doc", active=False))
    assert seen(ward) == set()


def test_a_relation_ends_at_once_in_this_process(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO))
    assert seen(ward) == ALL
    ward.put(people.encounter("e", "p", WHO, "cancelled"))
    assert seen(ward) == set()
    ward.put(people.encounter("e", "p", WHO))
    assert seen(ward) == ALL
    ward.delete("Encounter/e")
    assert seen(ward) == set()


def test_other_processes_notice_within_a_second(ward: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(ward) == set()
    hooks = ward.server.interceptors
    monkeypatch.setattr(ward.server, "interceptors", type(hooks)(claims=hooks.claims))
    ward.put(people.encounter("e", "p", WHO))
    assert seen(ward) == set()
    assert ward.policy(DOCTOR, fresh=True).grants("Patient", "r")
    assert seen(ward) == ALL  # what was found out freshly is remembered
    ward.put(people.consent("no", "p", people.provision("deny", WHO)))
    assert seen(ward) == ALL
    ward.seconds.now += 1.0
    assert seen(ward) == set()


def test_the_same_policy_serves_while_nothing_changes(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO))
    first = ward.policy(DOCTOR)
    assert ward.policy(DOCTOR) is first
    ward.seconds.now += 5
    assert ward.policy(DOCTOR) is first
    ward.put(people.encounter("e2", "q", "Practitioner/other"))
    assert ward.policy(DOCTOR) is first
    ward.put(people.encounter("e3", "q", WHO))
    assert ward.policy(DOCTOR) is not first


# --- Consent ----------------------------------------------------------------------------------------------------------

DENY, PERMIT = "deny", "permit"
CONDITION = [{"meaning": "instance", "reference": ref("Condition/c-p")}]
NO_OBSERVATIONS = people.provision(DENY, **{"class": [{"code": "Observation"}]})
OBSERVATIONS = [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]
PSY = [{"system": people.ACT_CODE, "code": "PSY"}]


@pytest.mark.parametrize(
    "provision, left",
    [
        (people.provision(DENY), set()),
        (people.provision(DENY, WHO), set()),
        (people.provision(DENY, "PractitionerRole/post"), set()),
        (people.provision(DENY, "Organization/dept"), set()),
        (people.provision(DENY, f"{'https://example.org/fhir'}/{WHO}"), set()),
        (people.provision(DENY, "Practitioner/other"), ALL),
        (people.provision(DENY, "Organization/elsewhere"), ALL),
        (people.provision(DENY, WHO, period={"start": "2026-01-01", "end": "2026-01-01"}), set()),
        (people.provision(DENY, WHO, period={"end": "2025-12-31"}), ALL),
        (people.provision(DENY, WHO, period={"start": "2026-01-02"}), ALL),
        (people.provision(DENY, WHO, **{"class": OBSERVATIONS}), ALL - {"Observation/o-p"}),
        (people.provision(DENY, securityLabel=PSY), ALL),
        (people.provision(DENY, data=CONDITION), ALL - {"Condition/c-p"}),
        # What narrows a denial and is not understood does not narrow it.
        (people.provision(DENY, WHO, code=[{"text": "x"}]), set()),
        (people.provision(DENY, WHO, **{"class": [{"code": "Everything"}]}), set()),
        (people.provision(DENY, WHO, data=[{"meaning": "related", "reference": ref("Condition/c-p")}]), set()),
        # A denial of marketing is not about care.
        (people.provision(DENY, purpose=[{"code": "HMARKT"}]), ALL),
        (people.provision(DENY, purpose=[{"code": "TREAT"}]), set()),
        (people.provision(PERMIT, provision=[people.provision(DENY, WHO)]), set()),
        (people.provision(PERMIT, "Practitioner/other", provision=[people.provision(DENY, WHO)]), set()),
        (people.provision(DENY, provision=[people.provision(PERMIT, WHO)]), ALL),
        (people.provision(DENY, provision=[people.provision(PERMIT, "Practitioner/other")]), set()),
        (
            people.provision(DENY, provision=[people.provision(PERMIT, WHO, **{"class": OBSERVATIONS})]),
            {"Observation/o-p"},
        ),
        # An exception permits nothing beyond what it is an exception from.
        (
            people.provision(DENY, provision=[
                people.provision(DENY, **{"class": OBSERVATIONS}, provision=[people.provision(PERMIT, WHO)])
            ]),
            {"Observation/o-p"},
        ),
        # R4: "Not permitted in root rule": only a frame.
        ({"period": {"start": "2025-01-01"}, "provision": [people.provision(DENY, WHO)]}, set()),
        (people.provision(PERMIT), ALL),
    ],
)  # fmt: skip
def test_denials_take_away(ward: Hospital, provision: dict[str, Any], left: set[str]) -> None:
    ward.put(people.encounter("e", "p", WHO))
    ward.put(people.consent("yes-or-no", "p", provision))
    assert seen(ward) == left
    assert {one for one in ALL if ward.reads(DOCTOR, one)} == left
    assert ("p" in ward.server.cache["relations"].treated(WHO)) == bool(left)


@pytest.mark.parametrize("change", [{"status": "inactive"}, {"scope": people.coded("research")}])
def test_consents_that_are_not_in_force_say_nothing(ward: Hospital, change: dict[str, Any]) -> None:
    ward.put(people.encounter("e", "p", WHO), people.consent("no", "p", people.provision(DENY)))
    assert seen(ward) == set()
    ward.put(people.consent("no", "p", people.provision(DENY), **change))
    assert seen(ward) == ALL
    ward.put(people.consent("no", "p", people.provision(DENY)))
    ward.delete("Consent/no")
    assert seen(ward) == ALL


def test_a_policy_of_opting_out_denies_everybody_who_is_not_named(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO))
    out = {"policyRule": people.coded("OPTOUT", people.ACT_CODE)}
    ward.put(people.consent("out", "p", **out))
    assert seen(ward) == set()
    ward.put(people.consent("out", "p", people.provision(PERMIT, WHO), **out))
    assert seen(ward) == ALL


@pytest.mark.parametrize(
    "provision, gained",
    [
        (people.provision(PERMIT, WHO), ALL),
        (people.provision(PERMIT, "PractitionerRole/post"), ALL),
        (people.provision(PERMIT, "Organization/dept"), ALL),
        (people.provision(PERMIT, WHO, period={"start": "2025-12-31", "end": "2026-01-31"}), ALL),
        (people.provision(PERMIT, WHO, period={"end": "2025-12-31"}), set()),
        # A permission for nobody in particular is consent to care, not a relation to everybody.
        (people.provision(PERMIT), set()),
        (people.provision(PERMIT, "Practitioner/other"), set()),
        (people.provision(PERMIT, WHO, **{"class": OBSERVATIONS}), {"Observation/o-p"}),
        (people.provision(PERMIT, WHO, data=CONDITION), {"Condition/c-p"}),
        # What narrows a permission and is not understood makes it none.
        (people.provision(PERMIT, WHO, code=[{"text": "x"}]), set()),
        (people.provision(PERMIT, WHO, **{"class": [{"code": "Everything"}]}), set()),
        (people.provision(PERMIT, WHO, action=[people.coded("collect"), people.coded("correct")]), set()),
        (people.provision(PERMIT, WHO, action=[people.coded("collect"), people.coded("access")]), ALL),
        # An exception for one person, from what is denied to all, is within that.
        (
            people.provision(DENY, **{"class": OBSERVATIONS}, provision=[people.provision(PERMIT, WHO)]),
            {"Observation/o-p"},
        ),
        (
            people.provision(DENY, **{"class": [{"code": "Everything"}]}, provision=[people.provision(PERMIT, WHO)]),
            set(),
        ),
        (people.provision(PERMIT, WHO, provision=[{"provision": [NO_OBSERVATIONS]}]), ALL - {"Observation/o-p"}),
        (people.provision(PERMIT, WHO, purpose=[{"code": "HRESCH"}]), set()),
        (people.provision(PERMIT, WHO, provision=[NO_OBSERVATIONS]), ALL - {"Observation/o-p"}),
    ],
)  # fmt: skip
def test_permissions_give(ward: Hospital, provision: dict[str, Any], gained: set[str]) -> None:
    ward.put(people.consent("yes", "p", provision))
    assert seen(ward) == gained


GLUCOSE, VIRUS, DRUG = people.coded("glucose"), people.coded("virus"), people.coded("antiviral")
CODED_TYPES = ("Patient", "Observation", "Condition", "MedicationRequest", "Device", "Claim")
NOT_DATED = {"Device/device"}


def chart() -> list[dict[str, Any]]:
    """A record with coded and dated content."""
    drug = {"resourceType": "Medication", "id": "drug", "code": DRUG}
    by_reference = people.prescription("by-reference", "p", authoredOn="2024-06-01")
    del by_reference["medicationCodeableConcept"]
    return [
        drug,
        people.observation("sugar", "p", code=GLUCOSE, effectiveDateTime="2024-03-01"),
        people.observation(
            "found", "p", code=people.coded("pcr"), valueCodeableConcept=VIRUS, effectiveDateTime="2025"
        ),
        people.observation("text", "p", effectivePeriod={"start": "2024-12-31", "end": "2025-01-02"}),
        people.condition("c", "p", code=VIRUS, onsetDateTime="2024-05-05", recordedDate="2025-02-03"),
        people.prescription("by-code", "p", medicationCodeableConcept=DRUG, authoredOn="2025-02-03"),
        {**by_reference, "medicationReference": ref("Medication/drug")},
        {"resourceType": "Device", "id": "device", "patient": ref("Patient/p"), "type": people.coded("pump")},
        {
            "resourceType": "Claim",
            "id": "claim",
            "status": "active",
            "use": "claim",
            "type": people.coded("institutional"),
            "patient": ref("Patient/p"),
            "created": "2025-02-03",
            "provider": ref("Organization/dept"),
            "priority": people.coded("normal"),
            "insurance": [{"sequence": 1, "focal": True, "coverage": {"display": "none"}}],
        },
    ]


SUGAR, FOUND, TEXT, CONDITION_C = "Observation/sugar", "Observation/found", "Observation/text", "Condition/c"
BY_CODE, BY_REFERENCE = "MedicationRequest/by-code", "MedicationRequest/by-reference"
CHART = {SUGAR, FOUND, TEXT, CONDITION_C, BY_CODE, BY_REFERENCE, "Device/device", "Claim/claim", "Patient/p"}


@pytest.mark.parametrize(
    "narrower, denied, permitted",
    [
        # Claims hold diagnoses that no parameter finds: denied as a whole, permitted not at all.
        ({"code": [VIRUS]}, {FOUND, CONDITION_C, "Claim/claim"}, {FOUND, CONDITION_C}),
        ({"code": [GLUCOSE, {"coding": [{"code": "pump"}]}]},
         {SUGAR, "Device/device", "Claim/claim"}, {SUGAR, "Device/device"}),
        ({"code": [DRUG]}, {BY_CODE, BY_REFERENCE, "Claim/claim"}, {BY_CODE, BY_REFERENCE}),
        ({"code": [people.coded("other")]}, {"Claim/claim"}, set()),
        ({"code": [VIRUS], "class": OBSERVATIONS}, {FOUND}, {FOUND}),
        ({"dataPeriod": {"start": "2024-01-01", "end": "2024-12-31"}},
         {SUGAR, TEXT, CONDITION_C, BY_REFERENCE, *NOT_DATED}, {SUGAR, BY_REFERENCE}),
        ({"dataPeriod": {"start": "2025-01-01"}},
         {FOUND, TEXT, CONDITION_C, BY_CODE, "Claim/claim", *NOT_DATED}, {FOUND, BY_CODE, "Claim/claim"}),
        ({"dataPeriod": {"end": "2024-03"}}, {SUGAR, *NOT_DATED}, {SUGAR}),
        ({"dataPeriod": {"end": "0999"}}, {*NOT_DATED}, set()),
        ({"dataPeriod": {"start": "0001", "end": "9999"}}, CHART - {"Patient/p"}, CHART - {"Patient/p", *NOT_DATED}),
        ({"dataPeriod": {"start": "2024-01-01", "end": "2024-12-31"}, "code": [GLUCOSE]}, {SUGAR}, {SUGAR}),
    ],
)  # fmt: skip
def test_codes_and_the_time_of_data_narrow_a_provision(
    ward: Hospital, narrower: dict[str, Any], denied: set[str], permitted: set[str]
) -> None:
    for name in ("Observation/o-p", "Condition/c-p"):
        ward.delete(name)
    ward.put(*chart(), people.consent("said", "p", people.provision(PERMIT, WHO, **narrower)))
    assert ward.sees(DOCTOR, *CODED_TYPES) == permitted
    ward.put(people.encounter("e", "p", WHO), people.consent("said", "p", people.provision(DENY, **narrower)))
    assert ward.sees(DOCTOR, *CODED_TYPES) == CHART - denied
    assert {one for one in CHART if ward.reads(DOCTOR, one)} == CHART - denied


def many(number: int, effect: str) -> dict[str, Any]:
    """A provision with so many exceptions of different kinds."""
    inner = [
        people.provision(effect, WHO, code=[people.coded(f"c{one}")], dataPeriod={"start": f"{1000 + one % 1000}"})
        for one in range(number)
    ]
    return people.provision(PERMIT, provision=inner)


def test_no_consent_is_the_end_of_a_doctors_work(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO), people.encounter("e-q", "q", WHO))
    others = {"Patient/q", "Observation/o-q"}
    assert seen(ward) == ALL | others
    ward.put(people.consent("few", "p", many(5, DENY)))
    assert "Patient/p" in seen(ward)
    # What is too much to ask in every search is taken as a denial as a whole.
    ward.put(people.consent("many", "p", many(3000, DENY)))
    assert seen(ward) == others
    doctor = Person(ward, DOCTOR)
    assert doctor("GET", "/Observation?_total=accurate").json["total"] == 1
    assert doctor("GET", "/Patient?_has:Observation:patient:status=final").matches == ["q"]
    ward.put(people.consent("many", "p", many(3000, PERMIT)))
    ward.delete("Consent/few")
    assert seen(ward) == ALL | others
    ward.put(
        *(
            people.consent(f"one-{number}", "p", many(1, DENY)["provision"][0] | {"code": [people.coded(f"d{number}")]})
            for number in range(50)
        )
    )
    assert seen(ward) == others


def test_nor_are_the_consents_of_many(ward: Hospital) -> None:
    ids = [f"n{number}" for number in range(60)]
    for id_ in ids:
        denial = people.provision(DENY, WHO, code=[people.coded(f"only-{id_}")], **{"class": OBSERVATIONS})
        said = people.provision(PERMIT, provision=[denial, {**denial, "code": [people.coded(f"nor-{id_}")]}])
        ward.put(people.patient(id_), people.encounter(f"e-{id_}", id_, WHO), people.consent(f"c-{id_}", id_, said))
    left = seen(ward)
    assert 10 < len(left) < len(ids)
    # What all of them say alike is asked once.
    alike = people.provision(DENY, WHO, code=[people.coded("x")], **{"class": OBSERVATIONS})
    ward.put(*(people.consent(f"c-{id_}", id_, people.provision(PERMIT, provision=[alike, alike])) for id_ in ids))
    assert seen(ward) == {f"Patient/{id_}" for id_ in ids}


def test_a_denial_outweighs_the_permission_of_another_consent(ward: Hospital) -> None:
    ward.put(people.consent("yes", "p", people.provision(PERMIT, WHO)))
    ward.put(people.consent("no", "p", people.provision(DENY)))
    assert seen(ward) == set()


def test_labels_can_be_denied(ward: Hospital) -> None:
    ward.put(people.encounter("e", "p", WHO), people.observation("psy", "p", **people.labelled("PSY")))
    assert seen(ward) == ALL | {"Observation/psy"}
    ward.put(people.consent("no", "p", people.provision(DENY, securityLabel=PSY)))
    assert seen(ward) == ALL


def test_care_is_more_than_treatment() -> None:
    assert {"TREAT", "ETREAT", "PATRQT"} <= CARE
