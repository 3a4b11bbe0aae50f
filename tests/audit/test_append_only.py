"""AuditEvents are written once: no way in changes or removes one."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.audit import chain
from tests.audit.conftest import World
from tests.support.http import Client

OWN = {
    "resourceType": "AuditEvent",
    "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
    "recorded": "2026-01-01T00:00:00Z",
    "agent": [{"requestor": True}],
    "source": {"observer": {"display": "app"}},
}
LABEL = {
    "resourceType": "Parameters",
    "parameter": [{"name": "meta", "valueMeta": {"tag": [{"system": "urn:t", "code": "x"}]}}],
}


def _bundle(kind: str, method: str, url: str, resource: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"request": {"method": method, "url": url}}
    if resource is not None:
        entry["resource"] = resource
    return {"resourceType": "Bundle", "type": kind, "entry": [entry]}


@pytest.fixture
def client(world: World) -> Client:
    made = world.client()
    assert made.post("/AuditEvent", OWN).status == 201
    made.get("/Patient/absent")
    world.drainer.drain()
    return made


def test_no_way_in_changes_an_event(world: World, client: Client) -> None:
    for one in world.stored():
        at = f"/AuditEvent/{one['id']}"
        changed = {**one, "outcome": "0"}
        patch = [{"op": "add", "path": "/outcome", "value": "0"}]
        assert client.put(at, {**OWN, "id": one["id"]}).status == 405
        assert client.patch(at, patch).status == 405
        assert client.delete(at).status == 405
        assert client.post(f"{at}/$meta-add", LABEL).status == 405
        assert client.post(f"{at}/$meta-delete", LABEL).status == 405
        query = f"/AuditEvent?_id={one['id']}"
        assert client.put(query, {**OWN, "id": one["id"]}).status == 405
        assert client.patch(query, patch).status == 405
        assert client.delete(query).status == 405
        for method, resource in (("PUT", {**OWN, "id": one["id"]}), ("DELETE", None)):
            body = _bundle("transaction", method, at[1:], resource)
            assert client.post("", body).status == 405
            answer = client.post("", _bundle("batch", method, at[1:], resource))
            assert answer.entries[0]["response"]["status"][:3] == "405"
        assert client.put(at, changed).status == 405
    assert {stored.version for stored in world.server.store.scan(types=["AuditEvent"])} == {1}
    world.drainer.drain()
    assert world.verify().findings == []


def test_a_client_may_add_its_own_event_and_not_one_of_a_chain(world: World, client: Client) -> None:
    claimed, _ = chain.linked(OWN, "0" * 16, 1, "", chain.Key.derive(bytes(32)))
    assert client.post("/AuditEvent", claimed).status == 422
    assert client.put(f"/AuditEvent/{claimed['id']}", {**OWN, "id": claimed["id"]}).status == 405
    assert client.post("", _bundle("transaction", "POST", "AuditEvent", claimed)).status == 422
    report = world.verify()
    assert report.findings == []
    assert report.others == 1


def test_the_capability_statement_says_so(world: World) -> None:
    resources = world.client().get("/metadata").json["rest"][0]["resource"]
    event = next(one for one in resources if one["type"] == "AuditEvent")
    assert {"create", "read", "search-type"} <= {one["code"] for one in event["interaction"]}
    assert not {"update", "patch", "delete"} & {one["code"] for one in event["interaction"]}
    assert event["conditionalDelete"] == "not-supported"
