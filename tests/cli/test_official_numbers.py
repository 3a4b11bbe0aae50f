"""One human, one chart (kernels K2, K3): an official number is held by one current resource of a type."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.policies import default_policy
from fhir_server.app import create_app
from fhir_server.context import Server
from fhir_server.sealing import RESIDENT_ID
from hestia import composition
from hestia.composition import OFFICIAL_NUMBERS
from tests.cli.test_maintenance import put, server_of
from tests.sealing.conftest import NUMBER, SECOND, OneCaller, RoleClient, number, patient
from tests.support.command_line import run
from tests.support.http import Client

CHART = "urn:oid:2.16.156.10011.1.11"


def as_role(server: Server, role: str) -> Client:
    """A client in a role, with its shipped policy."""
    scopes = ("system/*.cruds",) if role == "system" else ("user/*.cruds",)
    user = None if role == "system" else "Practitioner/x"
    grant = Grant("g", "c", "Client", role, scopes, fhir_user=user)
    policy = compile_policy(server, grant, default_policy, server.clock())
    return RoleClient(create_app(server, gate=OneCaller(Caller(policy, grant))), server)


@pytest.mark.parametrize("role", ["nurse", "administrator", "system"])
def test_a_second_chart_of_a_human_is_the_same_409_whoever_has_the_first(store_uri: str, role: str) -> None:
    with server_of(store_uri) as server:
        hidden = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]}
        put(server, patient("seen"))
        put(server, patient("hidden", SECOND, meta=hidden))
        put(server, {"resourceType": "Patient", "id": "free"})
        client = as_role(server, role)
        answers = []
        for value in (NUMBER, SECOND, NUMBER.lower()):
            new = {"resourceType": "Patient", "identifier": [number(value)]}
            other = {**number(value), "system": "urn:oid:2.16.840.1.113883.2.23.1.8.4.1"}
            answers += [
                client.post("/Patient", new),
                client.put("/Patient/free", {**new, "id": "free"}),
                client.post("/Patient", {**new, "identifier": [other]}),
            ]
        for answer in answers:
            assert answer.status == 409
            assert answer.json["issue"][0]["code"] == "duplicate"
            assert not {"location", "content-location", "etag"} & answer.headers.keys()
            assert answer.json == answers[0].json, "nothing tells the seen from the hidden"
            for secret in ("seen", "hidden", NUMBER, SECOND):
                assert secret.encode() not in answer.body
        assert client.get("/Patient?_summary=count").json["total"] == (2 if role != "system" else 3)


def test_what_is_unique_by_type(store_uri: str) -> None:
    with server_of(store_uri) as server:
        client = Client(create_app(server), server)
        for kind, systems in OFFICIAL_NUMBERS.items():
            for system in systems:
                value = NUMBER if system == RESIDENT_ID else f"{kind} {system}"
                resource = {"resourceType": kind, "identifier": [{"system": system, "value": value}]}
                assert client.post(f"/{kind}", resource).status == 201
                assert client.post(f"/{kind}", resource).status == 409
        relative = {"resourceType": "RelatedPerson", "patient": {"reference": "Patient/x"}}
        for _ in range(2):  # one human may be the mother of two
            assert client.post("/RelatedPerson", {**relative, "identifier": [number(NUMBER)]}).status == 201


def test_two_charts_are_merged(store_uri: str) -> None:
    """K2: Patient.link replaces and replaced-by; the number goes to the chart that stays."""
    with server_of(store_uri) as server:
        client = Client(create_app(server), server)
        client.store(patient("a"), {"resourceType": "Patient", "id": "b"})
        taken = patient("b", link=[{"type": "replaces", "other": {"reference": "Patient/a"}}])
        assert client.put("/Patient/b", taken).status == 409
        left = patient("a", active=False, link=[{"type": "replaced-by", "other": {"reference": "Patient/b"}}])
        assert client.put("/Patient/a", left).status == 200
        assert client.put("/Patient/b", taken).status == 200
        # A number that is no longer in use is free.
        client.store({"resourceType": "Patient", "id": "c", "identifier": [{**number(NUMBER), "use": "old"}]})


@pytest.fixture
def before(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store from before numbers were unique: two charts of one human."""
    with monkeypatch.context() as earlier:
        earlier.setattr(composition, "OFFICIAL_NUMBERS", {})
        earlier.setattr(composition, "UNIQUE", 0)
        with server_of(store_uri) as server:
            for id in ("a", "b", "other"):
                put(server, patient(id, SECOND if id == "other" else NUMBER, gender="female"))
                put(server, patient(id, SECOND if id == "other" else NUMBER, gender="male"))
    return store_uri


def claims(server: Server) -> dict[str, list[str]]:
    """The systems of the unique keys of each Patient."""
    found = {one.address: server.store.entries(one.address)[2] for one in server.store.scan(types=["Patient"])}
    return {address: sorted(key.split("|")[1] for key in keys) for address, keys in found.items()}


def check(uri: str) -> None:
    """One of the two has the number, and each has its own chart number; `hestia check` names the other."""
    with server_of(uri) as server:
        assert claims(server) == {
            "Patient/a": [CHART, RESIDENT_ID],
            "Patient/b": [CHART],
            "Patient/other": [CHART, RESIDENT_ID],
        }
        client = Client(create_app(server), server)
        assert client.get(f"/Patient?identifier={NUMBER}").matches == ["a", "b"]
        assert client.post("/Patient", patient("new", NUMBER)).status == 409
    said = run("check", "--store", uri, status=1).output
    assert [line for line in said.splitlines() if "Patient/" in line] == [
        "- Patient/b: unique keys are missing; run hestia reindex. "
        "What stays is a number that another resource has, too."
    ]


def test_a_store_from_before_is_indexed_and_its_duplicates_are_named(before: str) -> None:
    assert "run hestia reindex" in run("check", "--store", before, status=1).output
    run("reindex", "--store", before)
    check(before)


def test_a_store_from_before_is_copied(before: str, directory: Any) -> None:
    target = f"sqlite:///{directory / 'copied.db'}"
    run("copy", target, "--store", before)
    check(target)


def test_the_demo_has_no_number_twice(sqlite_uri: str) -> None:
    said = run("seed", "--patients", "12", "--store", sqlite_uri).output
    assert "0 refused" in said or "refused" not in said
    with server_of(sqlite_uri) as server:
        held = claims(server)
        assert sum(address.startswith("Patient/") and RESIDENT_ID in keys for address, keys in held.items()) >= 8
