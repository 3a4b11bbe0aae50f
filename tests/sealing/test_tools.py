"""Reindex, check and copy work on sealed bodies; export has the numbers in clear, and load seals them again."""

from __future__ import annotations

from pathlib import Path

from fhir_server.app import create_server, open_store
from fhir_server.context import Server, Settings
from fhir_server.reindexing import reindex_resources
from fhir_server.sealing import RESIDENT_ID, Sealer
from hestia.export import export
from hestia.maintain import prepared
from tests.sealing.conftest import KEY, MASK, NUMBER, OTHER_KEY, SECOND, AsRole, Build, Database, number, patient
from tests.support.http import BASE

UNIQUE = {"unique_identifiers": {"Patient": (RESIDENT_ID,)}}


def differs(server: Server) -> list[str]:
    """What of the stored entries and claims is not what extraction makes of the bodies."""
    found = []
    prepare = prepared(server)
    for stored in server.store.scan():
        version = prepare(stored, True)
        keys, ranges, claims = server.store.entries(stored.address)
        if {entry for one in version.documents for entry in one.keys} != set(keys):
            found.append(f"{stored.address} keys")
        if {entry for one in version.documents for entry in one.ranges} != set(ranges):
            found.append(f"{stored.address} ranges")
        if set(version.claims) != set(claims):
            found.append(f"{stored.address} claims")
    return found


def test_the_index_is_what_extraction_makes_of_sealed_bodies(build: Build) -> None:
    client = build(KEY, **UNIQUE)
    client.store(patient("a"), patient("b", SECOND.lower()))
    client.put("/Patient/a", patient("a", gender="female"))
    assert differs(client.server) == []


def test_reindexing_works_on_what_is_stored(build: Build, database: Database, as_role: AsRole) -> None:
    client = build(KEY, **UNIQUE)
    client.store(patient("a"))
    for caller in (client, as_role(client, "administrator"), as_role(client, "system")):
        assert caller.post("/Patient/a/$reindex", {"resourceType": "Parameters"}).status == 200
        assert caller.post("/Patient/$reindex", {"resourceType": "Parameters"}).status == 200
    assert differs(client.server) == []
    assert not database.holds(NUMBER)
    assert not database.holds(MASK)
    assert client.get(f"/Patient?identifier={NUMBER}").matches == ["a"]


def test_after_a_rotation_reindexing_makes_the_claims_of_all_keys(build: Build) -> None:
    build(KEY, **UNIQUE).store(patient("a"))
    rotated = build(OTHER_KEY, KEY, **UNIQUE).server
    assert differs(rotated) == ["Patient/a claims"]
    reindex_resources(rotated, rotated.store.scan())
    assert differs(rotated) == []


def test_export_is_in_clear_and_loads_elsewhere(build: Build, tmp_path: Path) -> None:
    client = build(KEY)
    client.store(patient("a"), {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}})
    assert export(client.server.store, tmp_path, (), False, client.server.sealer) == 2
    lines = (tmp_path / "Patient.ndjson").read_bytes()
    assert lines == client.get("/Patient/a").body + b"\n"
    assert export(client.server.store, tmp_path / "keyless", (), False) == 2
    keyless = (tmp_path / "keyless" / "Patient.ndjson").read_text()
    assert "sealed:" not in keyless
    assert NUMBER not in keyless


def test_a_copy_of_a_store_from_before_is_sealed(build: Build, tmp_path: Path) -> None:
    source = build().server.store
    before = build()
    text = f'<div xmlns="http://www.w3.org/1999/xhtml">{NUMBER}</div>'
    before.store(patient("a"), patient("b", SECOND, text={"status": "generated", "div": text}))
    before.put("/Patient/a", patient("a", SECOND, contact=[{"name": {"text": "x"}}]))
    before.store({"resourceType": "Coverage", "id": "c", "status": "active", **covered()})
    target = open_store(f"sqlite:///{tmp_path / 'target.db'}")
    server = create_server(Settings(base_url=BASE), target, sealer=Sealer([KEY]))
    prepare = prepared(server)
    versions = source.scan_versions()
    target.import_versions(
        [prepare(one, one.version == source.read(one.type, one.id).version) for one in versions]  # type: ignore[union-attr]
    )
    rows = b"".join(body for one in target.scan_versions() if (body := one.body) is not None)
    assert SECOND.encode() not in rows
    from fhir_server.app import create_app
    from tests.support.http import Client

    client = Client(create_app(server), server)
    assert client.get(f"/Patient?identifier={SECOND}&_sort=_id").matches == ["a", "b"]
    assert NUMBER in client.get("/Patient/a/_history/1").body.decode()
    assert client.get(f"/Coverage?beneficiary:identifier={NUMBER}").matches == ["c"]
    target.close()


def covered() -> dict[str, object]:
    """The references of a Coverage, by number."""
    return {"beneficiary": {"identifier": number(NUMBER)}, "payor": [{"display": "x"}]}
