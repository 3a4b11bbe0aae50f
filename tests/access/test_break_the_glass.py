"""$break-the-glass: a reason opens a record for an hour, the patient is told, and it is bounded (K23)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import opened_of
from fhir_server.access.grant import Grant
from fhir_server.authorize import EVERYTHING
from fhir_server.context import FhirRequest, FhirResponse, RequestContext
from fhir_server.errors import BadRequest, Forbidden, NotFound, Throttled
from fhir_server.interactions import dispatch
from fhir_server.repository import Repository
from fhir_server.writing import parse_body
from tests.access import people
from tests.access.conftest import Hospital, Opener, granted, patient_grant, serve, staff_grant

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


@pytest.mark.parametrize(
    "reason",
    ["", "too short", " " * 20, "x" * 501, None, 5, ["x" * 20], {"x": 1}, "\u200b" * 20, "\u202e" * 20, "\u0301" * 20],
)
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


def test_whoever_may_open_no_more_learns_nothing_of_absent_patients(ward: Hospital) -> None:
    for _ in range(ward.server.settings.break_glass_per_day):
        open_record(ward, DOCTOR)
    for id_ in ("q", "nobody"):
        with pytest.raises(Throttled):
            open_record(ward, DOCTOR, id_)


def test_the_bound_holds_when_many_workers_ask_at_once(ward: Hospital, open_store: Opener) -> None:
    answers: list[int] = []

    def ask() -> None:
        worker = Hospital(serve(open_store(), ward.clock), ward.clock)
        for _ in range(8):
            try:
                answers.append(open_record(worker, DOCTOR).status)
            except Throttled as error:
                answers.append(error.status)

    workers = [threading.Thread(target=ask) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(answers) == [200] * 20 + [429] * 12
    record = ward.server.store.get_meta("btg/Practitioner/doc")
    assert record is not None
    assert len(record["opened"]) == 20


def test_a_reason_is_kept_without_signs_that_nobody_sees(ward: Hospital) -> None:
    context = context_of(ward, DOCTOR)
    parts = [{"name": "reason", "valueString": "un\u200bconscious,\n\u202e no relatives\ufeff"}]
    request = FhirRequest("POST", type="Patient", id="p", resource={"resourceType": "Parameters", "parameter": parts})
    dispatch.OPERATIONS["break-the-glass"].run(Repository(ward.server, context), request)
    assert context.reason == "unconscious, no relatives"


@pytest.mark.parametrize("parts", [[{"name": ["reason"]}], [{"name": {}}, 5], [{"name": "reason"}], "reason", None])
def test_what_are_no_parameters_is_400(ward: Hospital, parts: Any) -> None:
    request = FhirRequest("POST", type="Patient", id="p", resource={"resourceType": "Parameters", "parameter": parts})
    with pytest.raises(BadRequest):
        dispatch.OPERATIONS["break-the-glass"].run(Repository(ward.server, context_of(ward, DOCTOR)), request)


@pytest.mark.parametrize(
    "scopes, launched, opens",
    [
        (("user/Patient.r",), None, True),
        (("user/*.cruds",), None, True),
        (("user/*.read",), None, True),
        (("user/Patient.s",), None, False),
        (("user/Observation.rs",), None, False),
        (("user/Patient.rs?gender=male",), None, False),
        (("patient/*.rs",), "p", True),
        (("patient/*.rs",), "q", False),
        (("patient/*.rs",), None, False),
        (("patient/Observation.rs",), "p", False),
        (("system/*.cruds",), None, False),
    ],
)
def test_a_token_opens_only_what_it_would_read(
    ward: Hospital, scopes: tuple[str, ...], launched: str | None, opens: bool
) -> None:
    grant = staff_grant("doctor", "doc", *scopes, patient=launched)
    if opens:
        assert open_record(ward, grant).status == 200
        return
    for id_ in ("p", "nobody"):
        with pytest.raises(Forbidden, match="scopes of this token"):
            open_record(ward, grant, id_)
    assert seen(ward, DOCTOR) == set()


def test_a_transaction_opens_nothing_and_a_batch_does(ward: Hospital) -> None:
    parts = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": REASON}]}
    entry = {"request": {"method": "POST", "url": "Patient/p/$break-the-glass"}, "resource": parts}
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    with pytest.raises(BadRequest):
        dispatch.BUNDLE.run(Repository(ward.server, context_of(ward, DOCTOR)), FhirRequest("POST", resource=bundle))
    assert seen(ward, DOCTOR) == set()
    bundle["type"] = "batch"
    context = context_of(ward, DOCTOR)
    dispatch.BUNDLE.run(Repository(ward.server, context), FhirRequest("POST", resource=bundle))
    assert seen(ward, DOCTOR) == ALL


def test_what_is_seen_at_need_only_is_told_from_what_is_treated(ward: Hospital) -> None:
    ward.put(people.encounter("e", "q", "Practitioner/doc"))
    nurse = staff_grant("nurse", "doc")
    assert opened_of(ward.policy(DOCTOR)) == opened_of(EVERYTHING) == ()
    open_record(ward, DOCTOR)
    open_record(ward, DOCTOR, "q")
    assert opened_of(ward.policy(DOCTOR)) == ("Patient/p",)
    assert opened_of(ward.policy(nurse)) == ("Patient/p", "Patient/q")
    ward.put(people.consent("no", "q", people.provision("deny", **{"class": [{"code": "Observation"}]})))
    assert opened_of(ward.policy(DOCTOR)) == ("Patient/p", "Patient/q")
    ward.clock.advance(3600)
    ward.seconds.now += 3600
    assert opened_of(ward.policy(DOCTOR)) == ()


def test_only_patients_have_it() -> None:
    assert dispatch.OPERATIONS["break-the-glass"].types == ("Patient",)
