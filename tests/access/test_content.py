"""Content under the shipped roles: whoever sees a picture, a report or a message sees its file, and by pointing at a
file nobody gets hold of one. R4 binary.html#security-context.
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.policies import default_policy
from fhir_server.app import create_app
from fhir_server.context import Server
from fhir_server.errors import Unauthorized
from tests.access import people
from tests.access.conftest import Hospital, granted, patient_grant, staff_grant
from tests.support.http import BASE, Answer, Client
from tests.support.resources import bundle, entry

pytestmark = pytest.mark.both_stores

JSON = dict[str, Any]

GRANTS = {
    "p": patient_grant("person-p", "patient/*.cruds", fhir_user="Patient/p", patient="p"),
    "q": patient_grant("person-q", "patient/*.cruds", fhir_user="Patient/q", patient="q"),
    "files-only": patient_grant("person-p", "patient/Binary.crs", fhir_user="Patient/p", patient="p"),
    "doctor": staff_grant("doctor", "doc", account="a1"),
    "laboratory": staff_grant("laboratory", "lab"),
    "nurse": staff_grant("nurse", "nur"),
    "administrator": staff_grant("administrator", "adm"),
    "system": granted("system"),
    "messenger": granted("system", "system/Communication.cruds"),
}
EVERYBODY = ("p", "q", "doctor", "laboratory", "nurse", "administrator")


class Names:
    """A gate whose tokens are the names of grants."""

    def enter(self, server: Server, token: str, address: str) -> Caller:
        grant: Grant | None = GRANTS.get(token)
        if grant is None:
            raise Unauthorized("Not a token.", token_error="invalid_token")

        def policy(fresh: bool = False) -> object:
            return compile_policy(server, grant, default_policy, server.clock(), fresh=fresh)

        return Caller(policy(), grant, refresh=lambda: policy(fresh=True))  # type: ignore[arg-type, return-value]


def binary(id_: str) -> JSON:
    return {"resourceType": "Binary", "id": id_, "contentType": "text/plain", "data": "QUJD"}


def attached(id_: str) -> JSON:
    return {"contentType": "text/plain", "url": f"Binary/{id_}"}


def media(id_: str, patient: str, file: str, **more: Any) -> JSON:
    subject = people.ref(f"Patient/{patient}")
    return {
        "resourceType": "Media",
        "id": id_,
        "status": "completed",
        "subject": subject,
        "content": attached(file),
        **more,
    }


def report(id_: str, patient: str, file: str, status: str) -> JSON:
    found = {"resourceType": "DiagnosticReport", "id": id_, "status": status, "code": {"text": "CT"}}
    return {**found, "subject": people.ref(f"Patient/{patient}"), "presentedForm": [attached(file)]}


def task(id_: str, patient: str, file: str) -> JSON:
    found = {"resourceType": "Task", "id": id_, "status": "requested", "intent": "order"}
    output = {"type": {"text": "scan"}, "valueReference": people.ref(f"Binary/{file}")}
    return {**found, "for": people.ref(f"Patient/{patient}"), "output": [output]}


@pytest.fixture
def client(hospital: Hospital) -> Client:
    files = ("picture", "secret", "draft", "final", "face", "portrait", "sheet", "answer", "foreign", "told", "logo")
    withheld = [{"meaning": "instance", "reference": people.ref("Binary/told")}]
    hospital.put(
        *(binary(name) for name in files),
        *(people.practitioner(name) for name in ("nur", "lab", "adm")),
        people.practitioner("doc", photo=[attached("portrait")]),
        people.patient("p", photo=[attached("face")]),
        people.patient("q"),
        people.person("person-p", "Patient/p"),
        people.person("person-q", "Patient/q"),
        people.encounter("e", "p", "Practitioner/doc"),
        media("m", "p", "picture"),
        media("v", "p", "secret", **people.labelled("V")),
        report("r1", "p", "draft", "preliminary"),
        report("r2", "p", "final", "final"),
        task("t", "p", "sheet"),
        media("theirs", "q", "foreign"),
        {
            "resourceType": "Provenance",
            "id": "source",
            "target": [people.ref("Patient/p"), people.ref("Patient/q")],
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [{"who": people.ref("Practitioner/doc")}],
            "entity": [{"role": "source", "what": people.ref("Binary/told")}],
        },
        {
            "resourceType": "AuditEvent",
            "id": "look",
            "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [{"requestor": True, "who": people.ref("Patient/p")}],
            "source": {"observer": {"display": "Hestia"}},
            "entity": [{"what": people.ref("Binary/told")}, {"what": people.ref("Patient/p")}],
        },
        people.consent("no", "q", people.provision("deny", data=withheld)),
    )
    return Client(create_app(hospital.server, lambda environ, start: [], gate=Names()), hospital.server)


def as_(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def readers(client: Client, file: str) -> list[str]:
    """Who reads a file; everybody else is told that it is not there."""
    answers = {name: client.get(f"/Binary/{file}", **as_(name)).status for name in EVERYBODY}
    assert set(answers.values()) <= {200, 404}
    return [name for name, status in answers.items() if status == 200]


@pytest.mark.parametrize(
    ("file", "who"),
    [
        ("picture", ["p", "doctor", "laboratory"]),
        ("secret", []),
        ("draft", ["doctor", "laboratory"]),
        ("final", ["p", "doctor", "laboratory"]),
        ("face", ["p", "doctor", "laboratory", "nurse", "administrator"]),
        ("portrait", list(EVERYBODY)),
        ("sheet", ["p", "doctor"]),
        ("foreign", ["q", "laboratory"]),
        # Said to be the source of what p and q have, looked for by p, and withheld by q: none of it shows it.
        ("told", []),
        ("logo", []),
    ],
)
def test_a_file_is_seen_by_those_who_see_its_owner(client: Client, file: str, who: list[str]) -> None:
    assert readers(client, file) == who
    assert client.get(f"/Binary/{file}", **as_("system")).status == 200


def test_a_token_that_does_not_read_the_owner_does_not_read_the_file(client: Client) -> None:
    assert client.get("/Binary/face", **as_("files-only")).status == 404
    assert client.get("/Binary/face", **as_("messenger")).status == 403


def test_a_file_is_lost_with_the_relation_and_comes_with_an_opened_record(client: Client, hospital: Hospital) -> None:
    hospital.put(people.encounter("e", "p", "Practitioner/doc", status="cancelled"))
    assert "doctor" not in readers(client, "picture")
    reason = {"name": "reason", "valueString": "Unconscious, needs care"}
    body = {"resourceType": "Parameters", "parameter": [reason]}
    assert client.post("/Patient/p/$break-the-glass", body, **as_("doctor")).status == 200
    assert "doctor" in readers(client, "picture")
    assert "doctor" not in readers(client, "foreign")


def message(sender: str, url: str, *recipients: str) -> JSON:
    found = people.message("x", sender, f"Patient/{sender}", *recipients, payload=[{"contentAttachment": {"url": url}}])
    del found["id"]
    if not recipients:
        del found["recipient"]
    return found


def answers_of(sender: str, url: str) -> JSON:
    found = {"resourceType": "QuestionnaireResponse", "status": "completed"}
    item = {"linkId": "1", "answer": [{"valueAttachment": {"url": url}}]}
    owner = people.ref(f"Patient/{sender}")
    return {**found, "subject": owner, "source": owner, "item": [item]}


def test_a_patient_cannot_take_a_file_by_pointing_at_it(client: Client, hospital: Hospital) -> None:
    def refused(answer: Answer) -> bool:
        return answer.status == 403 and b"points at content" in answer.body

    hospital.put({**answers_of("p", "Binary/face"), "id": "qr"})
    for url in (
        "Binary/foreign",
        f"{BASE}/Binary/foreign",
        "Binary/foreign/_history/1",
        "Binary/coming",
        "Binary/logo",
    ):
        assert refused(client.post("/Communication", message("p", url), **as_("p")))
        assert refused(client.post("/QuestionnaireResponse", answers_of("p", url), **as_("p")))
        assert refused(client.put("/QuestionnaireResponse/qr", {**answers_of("p", url), "id": "qr"}, **as_("p")))
        change = [{"op": "replace", "path": "/item/0/answer/0/valueAttachment/url", "value": url}]
        assert refused(client.patch("/QuestionnaireResponse/qr", change, **as_("p")))
        added = [
            {"op": "add", "path": "/extension", "value": [{"url": "http://x", "valueReference": {"reference": url}}]}
        ]
        assert refused(client.patch("/QuestionnaireResponse/qr", added, **as_("p")))
        conditional = client.put("/QuestionnaireResponse?_id=qr", {**answers_of("p", url), "id": "qr"}, **as_("p"))
        assert refused(conditional)
        assert refused(client.post("", bundle(entry("POST", "Communication", message("p", url))), **as_("p")))
        batch = client.post("", bundle(entry("POST", "Communication", message("p", url)), type="batch"), **as_("p"))
        assert batch.entries[0]["response"]["status"].startswith("403")
    searched = {**message("p", "x"), "payload": [{"contentReference": {"reference": "Binary?_id=foreign"}}]}
    assert client.post("", bundle(entry("POST", "Communication", searched)), **as_("p")).status == 403
    # A search is no pointer outside a transaction, and the file of somebody else that comes later is not p's.
    assert client.post("/Communication", searched, **as_("p")).status == 201
    hospital.put(binary("coming"))
    for file in ("foreign", "coming", "logo"):
        assert "p" not in readers(client, file)
    assert client.post("/Communication", message("p", "Binary/foreign"), **as_("messenger")).status == 403


def test_who_sees_a_file_may_send_it_on(client: Client) -> None:
    assert "nurse" not in readers(client, "picture")
    sent = client.post("/Communication", message("p", "Binary/picture", "Practitioner/nur"), **as_("p"))
    assert sent.status == 201
    assert "nurse" in readers(client, "picture")
    assert "q" not in readers(client, "picture")


def test_a_patient_uploads_what_a_message_carries(client: Client) -> None:
    urn = "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"
    new = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD"}
    bound = {**new, "securityContext": people.ref("Patient/p")}
    both = bundle(entry("POST", "Binary", bound, urn), entry("POST", "Communication", message("p", urn)))
    answer = client.post("", both, **as_("p"))
    assert answer.status == 200
    file = answer.entries[0]["response"]["location"].partition("/_history")[0].rpartition("/")[2]
    assert readers(client, file) == ["p", "doctor", "laboratory", "nurse", "administrator"]
    foreign = {**new, "securityContext": people.ref("Patient/q")}
    for other in (new, foreign):
        both = bundle(entry("POST", "Binary", other, urn), entry("POST", "Communication", message("p", urn)))
        assert client.post("", both, **as_("p")).status == 403
