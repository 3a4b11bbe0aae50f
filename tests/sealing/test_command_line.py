"""`hestia` over a store with sealed numbers: every command with its key, none without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.app import create_server, open_store
from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext, Settings
from fhir_server.repository import Repository
from fhir_server.writing import Write
from hestia.composition import identify
from hestia.settings import load as load_settings
from tests.sealing.conftest import KEY, NUMBER, OTHER_KEY, SECOND, patient
from tests.support import mongodb
from tests.support.command_line import mongo_uri, run

OLD, NEW = KEY.hex(), OTHER_KEY.hex()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, with a file of patients."""
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps(patient("a")), json.dumps(patient("b", SECOND))]
    (tmp_path / "Patient.ndjson").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def mongo_store() -> Iterator[str]:
    """The URI of a database that is dropped after the test."""
    name = mongodb.fresh_name()
    yield mongo_uri(name)
    mongodb.drop(mongodb.server().uri, name)


@pytest.fixture(params=["sqlite", "mongo"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind with two patients, sealed with the old key."""
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    found = uri if request.param == "sqlite" else str(request.getfixturevalue("mongo_store"))
    run("load", tmp_path / "Patient.ndjson", HESTIA_STORE=found, HESTIA_SECRET_KEY=OLD)
    return found


def in_clear(directory: Path) -> list[str]:
    """The resident numbers in an export."""
    lines = (directory / "Patient.ndjson").read_text().splitlines()
    return [json.loads(line)["identifier"][1]["value"] for line in lines]


def test_commands_work_with_the_key(store: str, directory: Path) -> None:
    env = {"HESTIA_STORE": store, "HESTIA_SECRET_KEY": OLD}
    run("check", **env)
    run("reindex", **env)
    run("check", **env)
    run("export", "clear", **env)
    assert in_clear(directory / "clear") == [NUMBER, SECOND]
    run("backup", "backup.db", **env)
    assert NUMBER.encode() not in (directory / "backup.db").read_bytes()
    copied = {**env, "HESTIA_STORE": f"sqlite:///{directory / 'backup.db'}"}
    run("check", **copied)
    run("export", "again", **copied)
    assert in_clear(directory / "again") == [NUMBER, SECOND]
    other = {"HESTIA_STORE": "sqlite:///other.db", "HESTIA_SECRET_KEY": NEW}
    run("load", directory / "clear" / "Patient.ndjson", **other)
    run("check", **other)
    run("export", "third", **other)
    assert in_clear(directory / "third") == [NUMBER, SECOND]


def test_commands_refuse_another_key(store: str, directory: Path) -> None:
    for command in (["check"], ["reindex"], ["export", "x"], ["load", directory / "Patient.ndjson"]):
        result = run(*command, status=1, HESTIA_STORE=store, HESTIA_SECRET_KEY=NEW)
        assert "master key" in result.output
        assert OLD not in result.output
        assert NEW not in result.output


def test_a_rotation_needs_a_reindex_for_its_claims_only(store: str, directory: Path) -> None:
    env = {"HESTIA_STORE": store, "HESTIA_SECRET_KEY": f"{NEW},{OLD}"}
    run("load", directory / "Patient.ndjson", **env)
    run("reindex", **env)
    run("check", **env)
    run("export", "clear", **env)
    assert in_clear(directory / "clear") == [NUMBER, SECOND]


def test_a_store_from_before_is_refused_and_its_copy_is_sealed(directory: Path) -> None:
    uri = "sqlite:///before.db"
    clear = open_store(uri)
    settings = load_settings({"store": uri}, {})
    identify(clear, settings)
    server = create_server(Settings(base_url=settings.base_url), clear)
    repository = Repository(server, RequestContext(EVERYTHING))
    repository.execute([Write("update", "Patient", "a", resource=patient("a"))])
    repository.execute([Write("update", "Patient", "a", resource=patient("a", SECOND))])
    clear.close()
    env = {"HESTIA_SECRET_KEY": OLD}
    for command in (["check"], ["reindex"], ["export", "x"]):
        assert "hestia copy" in run(*command, status=1, HESTIA_STORE=uri, **env).output
    run("copy", "sqlite:///after.db", HESTIA_STORE=uri, **env)
    run("check", HESTIA_STORE="sqlite:///after.db", **env)
    run("export", "clear", HESTIA_STORE="sqlite:///after.db", **env)
    assert in_clear(directory / "clear") == [SECOND]
    after = open_store("sqlite:///after.db")
    bodies = b"".join(one.body for one in after.scan_versions() if one.body is not None)
    assert NUMBER.encode() not in bodies
    after.close()
