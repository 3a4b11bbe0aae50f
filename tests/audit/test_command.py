"""`hestia audit verify`, and the other commands over a store that keeps an audit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fhir_server.app import create_app
from fhir_server.authorize import EVERYTHING
from hestia import auditing
from hestia.composition import connect, opened
from hestia.settings import Settings, load
from tests.audit.conftest import GRANT, Authorized, OneGate
from tests.audit.test_chain import forge
from tests.support import mongodb
from tests.support.command_line import mongo_uri, run


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store with four events, whose process has ended."""
    monkeypatch.chdir(tmp_path)
    settings = load({}, {})
    with opened(settings) as server:
        audit = auditing.start(settings)
        server.recorder = audit.recorder
        client = Authorized(create_app(server, gate=OneGate(EVERYTHING, GRANT)), server)
        client.put("/Patient/p1", {"resourceType": "Patient", "id": "p1"})
        for _ in range(3):
            client.get("/Patient/p1")
        audit.stop()
    return settings


def test_a_whole_audit_is_said_to_be_whole(settings: Settings) -> None:
    said, verdict = run("audit", "verify").output.splitlines()
    # How many anchors there are depends on how the events were batched.
    assert re.fullmatch(r"4 audit events in 1 chain, \d anchors?, 0 of clients, 0 waiting to be chained\.", said)
    assert verdict == "The audit is whole."


def test_findings_are_listed_and_the_status_is_1(settings: Settings) -> None:
    store = connect(settings.store)
    events = store.scan(types=["AuditEvent"])
    forge(store, events[1].address, None)
    forge(store, events[2].address, lambda resource: {**resource, "outcome": "12"})
    store.close()
    output = run("audit", "verify", status=1).output
    assert output.splitlines()[-1] == "2 findings: the audit is not whole."
    assert f"- {events[2].address} was changed." in output


def test_the_audit_survives_checks_copies_and_a_new_index(settings: Settings, tmp_path: Path) -> None:
    assert "sound" in run("check").output
    run("reindex")
    run("backup", "saved.db")
    run("copy", f"sqlite:///{tmp_path / 'copied.db'}")
    for name in ("var/hestia.db", "saved.db", "copied.db"):
        assert "is whole" in run("audit", "verify", HESTIA_STORE=f"sqlite:///{tmp_path / name}").output


@pytest.mark.parametrize("kind", ["sqlite", "mongo"])
def test_the_audit_of_a_restored_backup_is_whole(
    settings: Settings, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Chains, heads and anchors are in a backup; it verifies wherever it is restored, and goes on there."""
    run("backup", "saved.db")
    target = f"sqlite:///{tmp_path / 'elsewhere' / 'restored.db'}"
    if kind == "mongo":
        name = mongodb.fresh_name()
        target = mongo_uri(name)
        request.addfinalizer(lambda: mongodb.drop(mongodb.server().uri, name))
    run("restore", "saved.db", HESTIA_STORE=target)
    # On another machine there is no file of anchors, but the same key.
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    variables = {"HESTIA_STORE": target, "HESTIA_DATA": "elsewhere", "HESTIA_SECRET_KEY_FILE": "var/secret.key"}
    assert re.match(r"4 audit events in 1 chain, [1-9]", run("audit", "verify", **variables).output)
    there = load({"store": target, "data": "elsewhere", "secret_key_file": "var/secret.key"}, {})
    with opened(there) as server:
        audit = auditing.start(there)
        server.recorder = audit.recorder
        Authorized(create_app(server, gate=OneGate(EVERYTHING, GRANT)), server).get("/Patient/p1")
        audit.stop()
    said = run("audit", "verify", **variables).output
    assert "5 audit events in 2 chains" in said
    assert "is whole" in said
    store = connect(target)
    event = store.scan(types=["AuditEvent"])[0]
    forge(store, event.address, lambda resource: {**resource, "outcome": "12"})
    store.close()
    assert "was changed" in run("audit", "verify", status=1, **variables).output


def test_events_are_exported_when_asked_for_and_never_loaded(settings: Settings, tmp_path: Path) -> None:
    run("export", "plain")
    assert sorted(path.name for path in Path("plain").iterdir()) == ["Patient.ndjson"]
    run("export", "events", "--type", "AuditEvent")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    said = run("load", "events", HESTIA_STORE=other, status=3).output
    assert "4 refused" in said
    store = connect(other)
    assert store.scan(types=["AuditEvent"]) == []
    store.close()


def test_after_a_change_of_the_master_key_old_chains_verify_with_the_old_one(
    settings: Settings, tmp_path: Path
) -> None:
    new = bytes(range(32)).hex()
    both = f"{new},{Path('var/secret.key').read_text(encoding='ascii').strip()}"
    target = f"sqlite:///{tmp_path / 'rotated.db'}"
    run("copy", target, HESTIA_SECRET_KEY=both)
    assert "is whole" in run("audit", "verify", HESTIA_STORE=target, HESTIA_SECRET_KEY=both).output
    assert "key" in run("audit", "verify", HESTIA_STORE=target, HESTIA_SECRET_KEY=new, status=1).output
