"""SMART's Python client (fhirclient) and fhirpy against a running server: they work unchanged."""

from __future__ import annotations

import httpx
import pytest
from fhirclient import client as smart
from fhirclient.models.encounter import Encounter
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

from tests.clients.conftest import Allow, Demo

SCOPE = "launch/patient openid fhirUser profile offline_access patient/*.rs"


def launched(
    demo: Demo, allow: Allow, client_id: str, secret: str | None = None, scope: str = SCOPE
) -> smart.FHIRClient:
    """A fhirclient that went through a standalone launch as the first patient."""
    registered = demo.client(client_id)
    redirect_uri = registered["redirect_uris"][0]
    app = smart.FHIRClient(
        settings={
            "app_id": client_id,
            "app_secret": secret,
            "api_base": demo.base,
            "redirect_uri": redirect_uri,
            "scope": scope,
        }
    )
    assert not app.ready
    answer = allow(app.authorize_url, demo.account("patient"), redirect_uri)
    app.handle_callback(answer)
    assert app.ready
    return app


@pytest.mark.slow
@pytest.mark.parametrize("client_id", ["demo-public", "demo-symmetric"])
def test_fhirclient_launches_reads_and_searches(demo: Demo, allow: Allow, client_id: str) -> None:
    app = launched(demo, allow, client_id, demo.client(client_id).get("client_secret"))
    me = demo.account("patient")
    assert app.patient_id == me["patient"]
    assert Patient.read(me["patient"], app.server).birthDate is not None
    found = list(Observation.where({"_count": "5"}).perform_resources_iter(app.server))
    assert found
    assert all(one.subject.reference == f"Patient/{me['patient']}" for one in found)


@pytest.mark.slow
def test_fhirclient_renews_its_token(demo: Demo, allow: Allow) -> None:
    app = launched(demo, allow, "demo-public")
    before = app.server.auth.access_token
    app.reauthorize()
    assert app.server.auth.access_token not in (None, before)
    assert app.patient_id == demo.account("patient")["patient"]
    assert Patient.read(app.patient_id, app.server).id == app.patient_id


@pytest.mark.slow
def test_fhirclient_is_told_the_visit_that_was_chosen(demo: Demo, allow: Allow) -> None:
    app = launched(demo, allow, "demo-public", scope=f"launch/encounter {SCOPE}")
    told = app.launch_context["encounter"]
    visits = Encounter.where({"_sort": "-date", "_count": "1"}).perform_resources_iter(app.server)
    assert told == next(visits).id  # the newest, which stands first
    assert Encounter.read(told, app.server).subject.reference == f"Patient/{app.patient_id}"
    app.reauthorize()
    assert app.launch_context["encounter"] == told


@pytest.mark.slow
def test_fhirpy_works_with_a_token_of_the_command_line(demo: Demo) -> None:
    me, other = demo.account("patient"), demo.account("patient", 1)
    app = SyncFHIRClient(demo.base, authorization=f"Bearer {demo.token(me['username'])}")
    patients = app.resources("Patient").fetch_all()
    assert [one["id"] for one in patients] == [me["patient"]]
    assert app.resources("Observation").search(subject=f"Patient/{me['patient']}").limit(3).fetch()
    with pytest.raises(ResourceNotFound):
        app.reference("Patient", other["patient"]).to_resource()


@pytest.mark.slow
def test_fhirpy_writes_with_a_back_end_token(demo: Demo) -> None:
    app = SyncFHIRClient(demo.base, authorization=f"Bearer {demo.token('demo-backend-write')}")
    made = app.resource("Patient", name=[{"family": "Backend"}], active=True)
    made.save()
    assert app.resources("Patient").search(family="backend").fetch()[0]["id"] == made["id"]
    made.delete()
    answer = httpx.get(f"{demo.base}/Patient/{made['id']}", timeout=60)
    assert answer.status_code == 401
