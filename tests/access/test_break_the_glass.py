"""$break-the-glass: a reason opens a record for an hour, the patient is told, and it is bounded (K23)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.authorize import EVERYTHING
from fhir_server.context import FhirRequest, FhirResponse, RequestContext
from fhir_server.errors import BadRequest, Forbidden, NotFound, Throttled
from fhir_server.interactions import dispatch
from fhir_server.repository import Repository
from fhir_server.writing import parse_body
from tests.access import people
from tests.access.conftest import Hospital, granted, patient_grant, staff_grant

pytestmark = pytest.mark.both_stores

DOCTOR = staff_grant("doctor", "doc", account="a1")
REASON = "昏迷送诊，需要查阅过敏史和用药情况"
ALL = {"Patient/p", "Observation/o", "AllergyIntolerance/a"}


@pytest.fixture
def ward(hospital: Hospital) -> Hospital:
    """Two patients whom nobody here treats."""
    hospital.put(
        *(people.practitioner(one) for one in ("doc", "other", "nurse", "admin")),
        people.patient("p"),
        people.patient("q"),
        people.observation("o", "p"),
        people.observation("o-q", "q"),
        people.allergy("a", "p"),
    )
    return hospital


def context_of(hospital: Hospital, grant: Grant | None) -> RequestContext:
    policy = EVERYTHING if grant is None else hospital.policy(grant)
    return RequestContext(policy, caller=None if grant is None else Caller(policy, grant))


def open_record(
    hospital: Hospital, grant: Grant | None, id: str | None = "p", reason: Any = REASON, **parameters: Any
) -> FhirResponse:
    """Calls the operation; without `id` on the type level."""
    parts: list[dict[str, Any]] = [{"name": "reason", "valueString": reason}]
    parts += [{"name": name, **value} for name, value in parameters.items()]
    request = FhirRequest("POST", type="Patient", id=id, resource={"resourceType": "Parameters", "parameter": parts})
    shape = "operation"
    target = dispatch.Target(shape, "Patient", id, operation="break-the-glass")
    return dispatch.choose("POST", target).run(Repository(hospital.server, context_of(hospital, grant)), request)


def seen(hospital: Hospital, grant: Grant) -> set[str]:
    return hospital.sees(grant, "Patient", "Observation", "AllergyIntolerance")


def test_a_reason_opens_one_record_for_an_hour(ward: Hospital) -> None:
    assert seen(ward, DOCTOR) == set()
    answer = open_record(ward, DOCTOR)
    assert answer.status == 200
    parts = {one["name"]: one for one in answer.resource["parameter"]}
    assert parts["patient"]["valueReference"]["reference"] == "Patient/p"
    period = parts["period"]["valuePeriod"]
    assert (period["start"][:19], period["end"][:19]) == ("2026-01-01T12:00:00", "2026-01-01T13:00:00")
    assert seen(ward, DOCTOR) == ALL
    assert ward.reads(DOCTOR, "AllergyIntolerance/a")
    assert seen(ward, staff_grant("doctor", "other")) == set()
    ward.clock.advance(3599)
    ward.seconds.now += 3599
    assert seen(ward, DOCTOR) == ALL
    ward.clock.advance(1)
    ward.seconds.now += 1
    assert seen(ward, DOCTOR) == set()


def test_it_holds_against_a_denial(ward: Hospital) -> None:
    ward.put(people.consent("no", "p", people.provision("deny")))
    open_record(ward, DOCTOR)
    assert seen(ward, DOCTOR) == ALL


def test_the_patient_is_told_without_any_content(ward: Hospital) -> None:
    ward.put(people.person("pat", "Patient/p"))
    open_record(ward, DOCTOR)
    mine = patient_grant("pat")
    (address,) = ward.sees(mine, "Communication")
    repository = Repository(ward.server, RequestContext(ward.policy(mine)))
    stored = repository.read(*address.split("/"))
    assert stored.body is not None
    notice = parse_body(stored.body)
    assert notice["subject"] == notice["recipient"][0] == {"reference": "Patient/p"}
    assert [one["coding"][0]["code"] for one in notice["category"]] == ["notification", "alert"]
    text = notice["payload"][0]["contentString"]
    assert "2026-01-01 20:00" in text
    assert "健康档案" in text
    assert "health record" in text
    assert "昏迷" not in text
    assert "doc" not in text


def test_the_audit_gets_purpose_and_reason(ward: Hospital) -> None:
    context = context_of(ward, DOCTOR)
    parts = [{"name": "reason", "valueString": REASON}]
    request = FhirRequest("POST", type="Patient", id="p", resource={"resourceType": "Parameters", "parameter": parts})
    dispatch.OPERATIONS["break-the-glass"].run(Repository(ward.server, context), request)
    assert (context.purpose, context.reason) == ("BTG", REASON)


def test_the_type_level_names_the_patient(ward: Hospital) -> None:
    reference = {"valueReference": {"reference": "https://example.org/fhir/Patient/p"}}
    assert open_record(ward, DOCTOR, None, patient=reference).status == 200
    assert seen(ward, DOCTOR) == ALL
    for wrong in ({"valueReference": {"reference": "Group/p"}}, {"valueReference": {}}, {"valueString": "p"}):
        with pytest.raises(BadRequest):
            open_record(ward, DOCTOR, None, patient=wrong)


@pytest.mark.parametrize("reason", ["", "too short", " " * 20, "x" * 501, None, 5])
def test_a_reason_has_to_say_something(ward: Hospital, reason: Any) -> None:
    with pytest.raises(BadRequest):
        open_record(ward, DOCTOR, reason=reason)
    assert seen(ward, DOCTOR) == set()


def test_absent_and_deleted_patients_are_404(ward: Hospital) -> None:
    ward.put(people.patient("gone"))
    ward.delete("Patient/gone")
    for id_ in ("nobody", "gone"):
        with pytest.raises(NotFound):
            open_record(ward, DOCTOR, id_)


@pytest.mark.parametrize(
    "grant",
    [
        None,
        granted("patient", person="Person/pat", fhir_user="Patient/q"),
        staff_grant("laboratory", "other"),
        granted("system"),
        granted("doctor"),
        staff_grant("doctor", "doc", "openid", "user/Slot.rs"),
    ],
)
def test_others_may_not(ward: Hospital, grant: Grant | None) -> None:
    with pytest.raises(Forbidden):
        open_record(ward, grant)


@pytest.mark.parametrize("role", ["nurse", "pharmacist", "administrator"])
def test_other_staff_open_records_too(ward: Hospital, role: str) -> None:
    grant = staff_grant(role, "other")
    assert not ward.reads(grant, "Observation/o")
    open_record(ward, grant)
    assert ward.reads(grant, "Observation/o")
    assert not ward.reads(grant, "Observation/o-q")


def test_it_is_bounded_per_day(ward: Hospital) -> None:
    for _ in range(ward.server.settings.break_glass_per_day):
        open_record(ward, DOCTOR)
    with pytest.raises(Throttled) as refused:
        open_record(ward, DOCTOR, "q")
    assert int(refused.value.headers["Retry-After"]) == pytest.approx(86_400, abs=2)
    assert not ward.reads(DOCTOR, "Observation/o-q")
    open_record(ward, staff_grant("doctor", "other"), "q")
    ward.clock.advance(86_400)
    open_record(ward, DOCTOR, "q")
    everything = Repository(ward.server, RequestContext(EVERYTHING))
    notices = everything.search(everything.resolve([("subject", "Patient/q")], types=("Communication",)).search)
    assert len(notices.matches) == 2  # a refusal tells the patient nothing


def test_only_patients_have_it() -> None:
    assert dispatch.OPERATIONS["break-the-glass"].types == ("Patient",)
