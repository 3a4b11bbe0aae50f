"""Access control as a client meets it: tokens at the gate, 403 and 404, and relations that begin and end meanwhile."""

from __future__ import annotations

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.policies import default_policy
from fhir_server.app import create_app
from fhir_server.context import Server
from fhir_server.errors import Unauthorized
from tests.access import people
from tests.access.conftest import Hospital, patient_grant, staff_grant
from tests.support.http import Answer, Client

pytestmark = pytest.mark.both_stores

GRANTS = {
    "doctor": staff_grant("doctor", "doc", account="a1"),
    "patient": patient_grant("pat", "patient/*.cruds", fhir_user="Patient/p", patient="p"),
    "nurse": staff_grant("nurse", "nur"),
}


class Names:
    """A gate whose tokens are the names of grants."""

    def enter(self, server: Server, token: str, address: str) -> Caller:
        grant: Grant | None = GRANTS.get(token)
        if grant is None:
            raise Unauthorized("Not a token.", token_error="invalid_token")

        def policy(fresh: bool = False) -> object:
            return compile_policy(server, grant, default_policy, server.clock(), fresh=fresh)

        return Caller(policy(), grant, refresh=lambda: policy(fresh=True))  # type: ignore[arg-type, return-value]


@pytest.fixture
def client(hospital: Hospital) -> Client:
    hospital.put(
        people.practitioner("doc"),
        people.practitioner("nur"),
        people.patient("p"),
        people.patient("q"),
        people.person("pat", "Patient/p"),
        people.encounter("e", "q", "Practitioner/doc"),
        people.observation("o-p", "p"),
        people.observation("o-q", "q"),
    )
    return Client(create_app(hospital.server, lambda environ, start: [], gate=Names()), hospital.server)


def as_(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def observations(client: Client, name: str) -> list[str]:
    return sorted(client.get("/Observation", **as_(name)).matches)


def test_each_sees_the_own_part(client: Client) -> None:
    assert client.get("/Observation").status == 401
    assert client.get("/Observation", **as_("nobody")).status == 401
    assert observations(client, "doctor") == ["o-q"]
    assert observations(client, "patient") == ["o-p"]
    assert client.get("/Observation/o-q", **as_("doctor")).status == 200
    assert client.get("/Observation/o-p", **as_("doctor")).status == 404
    assert client.get("/Observation/absent", **as_("doctor")).status == 404
    assert client.get("/AuditEvent", **as_("doctor")).status == 403


REASON = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "Unconscious, needs care"}]}


def break_the_glass(client: Client, name: str, patient: str) -> Answer:
    return client.post(f"/Patient/{patient}/$break-the-glass", REASON, **as_(name))


def test_the_glass_is_broken_and_the_patient_told(client: Client) -> None:
    assert break_the_glass(client, "patient", "q").status == 403
    assert break_the_glass(client, "doctor", "absent").status == 404
    answer = break_the_glass(client, "doctor", "p")
    assert answer.status == 200
    assert [one["name"] for one in answer.json["parameter"]] == ["patient", "period"]
    assert observations(client, "doctor") == ["o-p", "o-q"]
    notices = client.get("/Communication?category=alert", **as_("patient"))
    assert len(notices.matches) == 1
    assert client.get("/Observation/$break-the-glass", **as_("doctor")).status == 405
    assert client.post("/Observation/o-p/$break-the-glass", REASON, **as_("doctor")).status == 404


def test_a_relation_that_the_desk_makes_is_there_at_once(client: Client) -> None:
    assert client.get("/Observation/o-p", **as_("doctor")).status == 404
    encounter = people.encounter("x", "p", "Practitioner/doc")
    del encounter["id"]
    assert client.post("/Encounter", encounter, **as_("nurse")).status == 201
    assert client.get("/Observation/o-p", **as_("doctor")).status == 200


def test_a_patient_withdraws_access_by_a_consent(client: Client) -> None:
    denial = people.consent("no", "p", people.provision("deny", "Practitioner/nur"))
    del denial["id"]
    vital = people.observation("v", "p", "vital-signs")
    assert client.get("/Patient/p", **as_("nurse")).status == 200
    assert client.post("/Observation", {**vital, "id": "v"}, **as_("nurse")).status == 201
    assert client.post("/Consent", denial, **as_("patient")).status == 201
    assert client.get("/Patient/p", **as_("nurse")).status == 200  # the desk has to find people
    assert observations(client, "nurse") == []


def test_the_capability_statement_names_the_operation_for_patients_only(client: Client) -> None:
    resources = client.get("/metadata").json["rest"][0]["resource"]
    having = [one["type"] for one in resources if "break-the-glass" in {each["name"] for each in one["operation"]}]
    assert having == ["Patient"]


def test_whose_record_one_was_refused_is_not_told_by_the_audit(client: Client, hospital: Hospital) -> None:
    """T5: the event of a refused look names the patient, who may see it, and the agent, who may not."""

    def event(id_: str, agent: str, patient: str) -> dict[str, object]:
        return {
            "resourceType": "AuditEvent",
            "id": id_,
            "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
            "recorded": "2026-01-01T10:00:00Z",
            "agent": [{"requestor": True, "who": {"reference": agent}}],
            "source": {"observer": {"display": "Hestia"}},
            "entity": [{"what": {"reference": "Observation/o"}}, {"what": {"reference": patient}}],
        }

    hospital.put(event("mine", "Patient/q", "Patient/p"), event("theirs", "Patient/p", "Patient/q"))
    assert client.get("/AuditEvent?entity=Observation/o", **as_("patient")).matches == ["mine"]
    assert client.get("/AuditEvent/theirs", **as_("patient")).status == 404
    assert client.get("/AuditEvent/mine", **as_("patient")).status == 200
