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
from tests.support.command_line import run


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
