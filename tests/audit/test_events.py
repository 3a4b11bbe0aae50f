"""What is recorded, and in which shape. R4 auditevent.html; IHE BALP 1.1.3."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.policies import default_policy
from fhir_server.app import create_app
from fhir_server.audit.events import Event
from fhir_server.audit.redact import redacted
from fhir_server.audit.requests import answered
from fhir_server.audit.shapes import audit_events
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.context import FhirRequest, RequestContext, Server
from fhir_server.errors import Busy
from fhir_server.resources import validate
from fhir_server.search import ast
from fhir_server.search.registry import builtin
from tests.audit.conftest import GRANT, Authorized, World, reference, request_of, subtypes
from tests.support.http import BASE

PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Zhao"}]}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"text": "pulse"},
    "subject": {"reference": "Patient/p1"},
}


def query_of(event: dict[str, Any]) -> str:
    return next(base64.b64decode(one["query"]).decode() for one in event["entity"] if "query" in one)


def valid(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert validate.validate(event).errors == []


def test_each_interaction_has_one_event_with_who_what_and_whose(world: World) -> None:
    client = world.client()
    client.put("/Patient/p1", PATIENT)
    client.put("/Observation/o1", OBSERVATION)
    client.get("/Observation/o1")
    client.get("/Observation/o1", accept="application/fhir+xml")
    client.get("/Observation/o1/_history/1")
    client.get("/Observation?patient=p1&code=x")
    client.patch("/Observation/o1", [{"op": "replace", "path": "/status", "value": "amended"}])
    client.delete("/Observation/o1")
    events = world.events()
    valid(events)
    shown = sorted((event["action"], subtypes(event)[0], *reference(event)) for event in events)
    assert shown == sorted(
        [
            ("U", "update", "Patient/p1/_history/1", "Patient/p1"),
            ("U", "update", "Observation/o1/_history/1", "Patient/p1"),
            ("R", "read", "Observation/o1/_history/1", "Patient/p1"),
            ("R", "read", "Observation/o1/_history/1", "Patient/p1"),
            ("R", "vread", "Observation/o1/_history/1", "Patient/p1"),
            ("E", "search-type", "Patient/p1"),
            ("U", "patch", "Observation/o1/_history/2", "Patient/p1"),
            ("D", "delete", "Observation/o1/_history/3", "Patient/p1"),
        ]
    )
    for event in events:
        assert event["outcome"] == "0"
        assert event["purposeOfEvent"][0]["coding"][0]["code"] == "TREAT"
        assert event["meta"]["profile"][0].startswith(
            "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.Patient"
        )
        app, ours, user = event["agent"]
        assert app["who"]["identifier"]["value"] == "app-1"
        assert ours["who"]["display"] == BASE
        assert user["who"]["reference"] == "Practitioner/he"
        assert user["role"][0]["coding"][0]["code"] == "doctor"
        assert (app["requestor"], ours["requestor"], user["requestor"]) == (False, False, True)
    assert world.verify().findings == []


def test_a_search_has_one_event_per_patient_that_it_showed_and_names_no_other(world: World) -> None:
    client = world.client()
    client.put("/Patient/p1", PATIENT)
    client.put("/Patient/p2", {**PATIENT, "id": "p2"})
    client.get("/Patient?family=Zhao&gender:missing=true", x_request_id="asked")
    events = [event for event in world.events() if request_of(event) == "asked"]
    assert sorted(reference(event) for event in events) == [["Patient/p1"], ["Patient/p2"]]
    assert {query_of(event) for event in events} == {"Patient?family=***&gender:missing=true"}


def test_a_search_for_a_patient_is_recorded_for_that_patient_even_without_results(world: World) -> None:
    client = world.client()
    client.get("/Observation?subject=Patient/p9")
    client.get("/Patient/p9/Condition")
    client.post("/Observation/_search", b"patient=p9", type="application/x-www-form-urlencoded")
    events = world.events()
    assert [reference(event) for event in events] == [["Patient/p9"]] * 3
    assert [query_of(event) for event in events] == [
        "Observation?subject=***",
        "Patient/***/Condition",
        "Observation?patient=***",
    ]


def test_entries_of_bundles_have_events_of_their_own(world: World) -> None:
    client = world.client()

    def entry(method: str, url: str, resource: Any = None) -> dict[str, Any]:
        made: dict[str, Any] = {"request": {"method": method, "url": url}}
        return {**made, "resource": resource} if resource is not None else made

    entries = [
        entry("PUT", "Patient/p1", PATIENT),
        entry("PUT", "Observation/o1", OBSERVATION),
        entry("GET", "Patient/p1"),
    ]
    client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, x_request_id="t")
    entries = [entry("GET", "Observation?patient=p1"), entry("GET", "Patient/none"), entry("DELETE", "Observation/o1")]
    client.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}, x_request_id="b")
    client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry("PUT", "Patient/x", {})]})
    events = world.events()
    valid(events)
    by_request: dict[str, list[tuple[str, str]]] = {}
    for event in events:
        by_request.setdefault(request_of(event), []).append((subtypes(event)[0], event["outcome"]))
    assert sorted(by_request.pop("t")) == [("read", "0"), ("update", "0"), ("update", "0")]
    assert sorted(by_request.pop("b")) == [("delete", "0"), ("read", "4"), ("search-type", "0")]
    assert list(by_request.values()) == [[("transaction", "4")]]


def test_refusals_are_recorded(world: World) -> None:
    world.client().put("/Patient/p1", PATIENT)
    nothing = Policy({"Observation": ast.EVERYTHING})
    client = world.client(nothing)
    assert client.get("/Patient/p1").status == 403
    assert client.get("/Observation/absent").status == 404
    assert client.get("/Patient/p1", authorization="Bearer bad").status == 401
    assert client.put("/Patient/p1", PATIENT).status == 403
    events = world.events()
    valid(events)
    refused = [event for event in events if event["outcome"] != "0"]
    assert sorted((event["outcome"], event["outcomeDesc"], subtypes(event)[0]) for event in refused) == [
        ("4", "HTTP 404", "read"),
        ("8", "HTTP 401", "request"),
        ("8", "HTTP 403", "read"),
        ("8", "HTTP 403", "update"),
    ]
    unknown = next(event for event in refused if event["outcomeDesc"] == "HTTP 401")
    assert len(unknown["agent"]) == 2
    assert unknown["agent"][0]["requestor"] is True


def test_what_is_moved_leaves_its_trace_in_both_records(world: World) -> None:
    client = world.client()
    client.put("/Patient/p1", PATIENT)
    client.put("/Patient/p2", {**PATIENT, "id": "p2"})
    client.put("/Observation/o1", OBSERVATION)
    client.put("/Observation/o1", {**OBSERVATION, "subject": {"reference": "Patient/p2"}})
    client.put("/Observation/o1", {**OBSERVATION, "subject": {"reference": "Patient/p2"}, "status": "amended"})
    found = [reference(event)[-1] for event in world.events() if reference(event)[0].startswith("Observation/o1/")]
    assert found == ["Patient/p1", "Patient/p2", "Patient/p1", "Patient/p2"]


def test_a_look_at_content_is_a_look_at_the_record_that_it_belongs_to(world: World) -> None:
    client = world.client()
    content = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD"}
    for name in ("p1", "p2"):
        client.put(f"/Patient/{name}", {**PATIENT, "id": name})
    client.put("/Binary/bound", {**content, "id": "bound", "securityContext": {"reference": "Patient/p1"}})
    for name in ("scan", "logo", "free"):
        client.put(f"/Binary/{name}", {**content, "id": name})
    media = {"resourceType": "Media", "id": "m", "status": "completed", "content": {"url": "Binary/scan"}}
    client.put("/Media/m", {**media, "subject": {"reference": "Patient/p2"}})
    client.put("/Observation/o1", {**OBSERVATION, "focus": [{"reference": f"{BASE}/Binary/scan"}]})
    for number in range(25):
        photo = [{"url": "Binary/logo"}]
        client.put(f"/Patient/l{number}", {**PATIENT, "id": f"l{number}", "photo": photo})
    world.events()
    for name in ("bound", "scan", "logo", "free", "absent"):
        client.get(f"/Binary/{name}", x_request_id=name)
    world.drainer.drain()
    client.put("/Binary/scan", {**content, "id": "scan", "securityContext": {"reference": "Patient/p2"}})
    client.get("/Binary/scan/_history/1", x_request_id="earlier")
    client.delete("/Binary/scan")
    client.get("/Binary/scan/_history/2", x_request_id="deleted")
    found: dict[str, list[str]] = {}
    for event in world.events():
        if request_of(event) in ("bound", "scan", "logo", "free", "absent", "earlier", "deleted"):
            patients = [one for one in reference(event) if one.startswith("Patient/")]
            found.setdefault(request_of(event), []).extend(patients)
    assert {name: sorted(patients) for name, patients in found.items()} == {
        "bound": ["Patient/p1"],
        "scan": ["Patient/p1", "Patient/p2"],
        "logo": [],
        "free": [],
        "absent": [],
        "earlier": ["Patient/p2"],
        "deleted": ["Patient/p2"],
    }


def test_what_is_open_to_all_is_not_recorded(world: World) -> None:
    client = world.client()
    client.get("/metadata")
    client.request("OPTIONS", "/Patient")
    assert world.events() == []


def test_a_patient_finds_the_events_about_oneself_and_reading_them_is_recorded(world: World) -> None:
    client = world.client()
    client.put("/Patient/p1", PATIENT)
    client.put("/Patient/p2", {**PATIENT, "id": "p2"})
    world.drainer.drain()
    found = client.get("/AuditEvent?patient=p1").matches
    assert len(found) == 1
    assert len(world.events()) == 3


def test_an_answer_that_cannot_be_recorded_is_not_given(world: World) -> None:
    class Full:
        def record(self, events: Any) -> None:
            raise Busy("The audit cannot be written now.")

        def wrote(self, *arguments: Any) -> None:
            raise Busy("The audit cannot be written now.")

    world.server.recorder = Full()
    client = world.client()
    assert client.get("/Patient").status == 503
    assert client.put("/Patient/p1", PATIENT).status == 503
    assert world.server.store.read("Patient", "p1") is None
    world.server.store.put_meta("unrelated", 1)


def test_breaking_the_glass_is_recorded_with_its_purpose_reason_and_patient(world: World) -> None:
    context = RequestContext(EVERYTHING, request_id="r", caller=Caller(EVERYTHING, GRANT))
    context.purpose, context.reason = "BTG", "unconscious, no relatives"
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "patient", "valueReference": {"reference": "Patient/p7"}}],
    }
    request = FhirRequest("POST", type="Patient", operation="break-the-glass", resource=parameters)
    world.recorder.record([answered(world.server, context, request, "$break-the-glass", ())])
    [event] = world.events()
    valid([event])
    assert subtypes(event) == ["operation", "break-the-glass"]
    assert reference(event) == ["Patient/p7"]
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"
    assert event["outcomeDesc"] == "unconscious, no relatives"


class Doctor:
    """Lets every token in as the doctor of GRANT, with the policy of the moment."""

    def enter(self, server: Server, token: str, address: str) -> Caller:
        def policy(fresh: bool = True) -> Policy:
            return compile_policy(server, GRANT, default_policy, server.clock(), fresh=fresh)

        return Caller(policy(), GRANT, policy)


def test_only_what_an_opened_record_shows_has_the_purpose_of_breaking_the_glass(world: World) -> None:
    world.client().post(
        "",
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
                for one in (
                    {"resourceType": "Practitioner", "id": "he", "active": True},
                    {**PATIENT, "id": "opened"},
                    {**PATIENT, "id": "treated", "generalPractitioner": [{"reference": "Practitioner/he"}]},
                )
            ],
        },
    )
    world.events()
    client = Authorized(create_app(world.server, gate=Doctor()), world.server)
    why = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "unconscious, no relatives"}]}
    entry: list[dict[str, Any]] = [
        {"request": {"method": "POST", "url": "Patient/opened/$break-the-glass"}, "resource": why}
    ]
    entry += [
        {"request": {"method": "GET", "url": url}} for url in ("Practitioner/he", "Patient/treated", "Patient/opened")
    ]
    answer = client.post("", {"resourceType": "Bundle", "type": "batch", "entry": entry})
    assert [one["response"]["status"] for one in answer.json["entry"]] == ["200 OK"] * 4
    assert client.get("/Patient/opened").status == client.get("/Patient/treated").status == 200
    assert len(client.get("/Patient").matches) == 2
    purposes: dict[str, list[str]] = {}
    world.drainer.drain()
    for event in world.stored():
        if event.get("purposeOfEvent") and event["agent"][-1]["requestor"]:
            what = event["entity"][0].get("what", {}).get("reference") or f"search {reference(event)[0]}"
            found = event["purposeOfEvent"][0]["coding"][0]["code"]
            assert event["agent"][-1]["purposeOfUse"][0]["coding"][0]["code"] == found
            if what != f"Communication/{what.rpartition('/')[2]}":
                purposes.setdefault(f"{what} {subtypes(event)[-1]}", []).append(found)
    assert purposes["Patient/opened break-the-glass"] == ["BTG"]
    assert purposes["Practitioner/he/_history/1 read"] == ["TREAT"]
    assert purposes["Patient/treated/_history/1 read"] == ["TREAT", "TREAT"]
    assert purposes["Patient/opened/_history/1 read"] == ["BTG", "BTG"]
    assert purposes["search Patient/opened search-type"] == ["BTG"]
    assert purposes["search Patient/treated search-type"] == ["TREAT"]


@pytest.mark.parametrize(
    "query, shown",
    [
        ("name=Zhao&birthdate=1980", "name=***&birthdate=***"),
        ("identifier=urn:x|123&phone=13800000000", "identifier=***&phone=***"),
        ("gender=female&_count=5&_sort=-_lastUpdated", "gender=female&_count=5&_sort=-_lastUpdated"),
        ("_id=p1&_text=zhao&_page=secret", "_id=***&_text=***&_page=***"),
        ("general-practitioner.name=Li", "general-practitioner.name=***"),
        ("_has:Observation:patient:code=1234-5", "_has:Observation:patient:code=***"),
        ("na%20me%3D=x", "***=***"),
        ("gender=Zhao%20Ming&gender:text=zhao", "gender=***&gender:text=***"),
        ("", ""),
    ],
)
def test_values_that_identify_somebody_are_hidden_in_queries(query: str, shown: str) -> None:
    query, shown = query, shown.replace("gender=***&gender:text", "gender=Zhao%20Ming&gender:text")
    assert redacted(builtin(), "Patient", query) == shown


def test_clinical_values_stay_in_queries() -> None:
    kept = "code=http%3A%2F%2Floinc.org%7C8867-4&date=ge2020&value-quantity=gt5&category:not=x"
    assert redacted(builtin(), "Observation", kept) == kept


@pytest.mark.parametrize(
    "action, outcome, code",
    [
        ("login", 0, "110122"),
        ("login-failed", 4, "110122"),
        ("logout", 0, "110123"),
        ("token", 0, "ITI-71"),
        ("role-grant", 0, "110136"),
        ("something-new", 8, "110137"),
    ],
)
def test_events_of_the_authorization_server_are_valid(action: str, outcome: int, code: str) -> None:
    event = Event(
        at=1_767_268_800_000_000,
        kind="security",
        action=action,
        outcome=outcome,
        account="a1",
        name="Zhao",
        role="patient",
        user="Patient/p1",
        client="app",
        address="192.0.2.1",
        patient="Patient/p1",
        detail={"scope": "patient/*.rs", "nothing": ""},
    )
    [made] = audit_events(event, (), BASE)
    valid([made])
    assert subtypes(made) == [code, action]
    assert made["outcome"] == str(outcome)
    assert "Patient/p1" in reference(made)
