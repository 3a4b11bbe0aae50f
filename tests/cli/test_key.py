"""`hestia key` and `hestia copy`: a master key is replaced, step by step as docs/sealing.md says, and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fhir_server.context import Server
from fhir_server.gzipped import inflate
from fhir_server.sealing import Sealer, clear_json, keys_of
from hestia.composition import connect, open_records, opened
from hestia.settings import load
from smart_auth.records import Account
from smart_auth.vault import KeyVault
from tests.cli.test_maintenance import matches, put
from tests.sealing.conftest import NUMBER, SECOND, patient
from tests.support import mongodb
from tests.support.command_line import environment, mongo_uri, run

OLD, NEW = bytes(range(32)), bytes(32)
BOTH = f"{NEW.hex()},{OLD.hex()}"
PATIENTS = 12
NAMES = {next(iter(Sealer([OLD]).checks)): "old", next(iter(Sealer([NEW]).checks)): "new"}

KILLED = """
import os, signal, sys
from hestia import transfer
from hestia.cli import main
from smart_auth.store import mongo, sqlite

def dies(function, calls):
    left = iter(range(calls))
    def work(*arguments, **named):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return work

if sys.argv[1] == "copy":
    transfer._BATCH = 5
    transfer._import = dies(transfer._import, 2)
else:
    for store in (mongo.MongoAuthStore, sqlite.SqliteAuthStore):
        store.change = dies(store.change, 2)
main(sys.argv[1:])
"""


def server_of(uri: str, keys: str) -> AbstractContextManager[Server]:
    """A server on a store with these keys."""
    return opened(load({"store": uri, "secret_key": keys}, {}))


@pytest.fixture
def target_uri(store_uri: str, tmp_path: Path) -> Iterator[str]:
    """An empty store of the same kind."""
    if store_uri.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'target.db'}"
    else:
        name = mongodb.fresh_name()
        yield mongo_uri(name)
        mongodb.drop(mongodb.server().uri, name)


@pytest.fixture(autouse=True)
def filled(store_uri: str) -> None:
    """Patients with numbers, in two versions each, and accounts, under the old key."""
    with server_of(store_uri, OLD.hex()) as server:
        for version in ("female", "male"):
            for number in range(PATIENTS):
                value = f"{NUMBER[:14]}{number:03}X"
                put(server, patient(f"p{number}", value, gender=version))
        put(server, {"resourceType": "Patient", "id": "bare"})
        put(server, patient("gone", SECOND))
    vault, store = KeyVault([OLD]), open_records(store_uri)
    for number in range(4):
        store.put(Account(id=f"a{number}", name="", phone=vault.seal_exact(f"+86{number}", "phone")))
    store.close()


def kill(*arguments: str, keys: str, cwd: Path, store: str) -> None:
    """Runs a command that is killed in the middle of its work."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=cwd,
        env=environment({"HESTIA_SECRET_KEY": keys, "HESTIA_STORE": store}),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def keys_in(uri: str) -> set[str]:
    """Ids of the keys that something in a store is sealed with: versions, index entries and unique keys."""
    store = connect(uri)
    found = {key for one in store.scan_versions(limit=10_000) if one.body is not None for key in keys_of(one.body)}
    texts = str([store.entries(one.address) for one in store.scan(limit=10_000)])
    found |= {key for key in NAMES if f"sealed:1:{key}" in texts}
    store.close()
    return {NAMES[key] for key in found}


def test_a_key_is_replaced_step_by_step(store_uri: str, target_uri: str, directory: Path) -> None:
    at = {"HESTIA_STORE": store_uri}
    # 1. The new key in front.
    said = run("key", "status", HESTIA_SECRET_KEY=BOTH, **at).output
    assert "key 1 (seals): 0 records, 0 versions" in said
    assert "key 2 (opens): 4 records, 25 versions" in said
    assert "`hestia key reseal`" in said
    assert "`hestia copy`" in said
    # 2. Records, in place; killed, and repeated.
    kill("key", "reseal", keys=BOTH, cwd=directory, store=store_uri)
    assert "key 2 (opens): 2 records" in run("key", "status", HESTIA_SECRET_KEY=BOTH, **at).output
    assert "2 records sealed anew." in run("key", "reseal", HESTIA_SECRET_KEY=BOTH, **at).output
    assert "0 records sealed anew." in run("key", "reseal", HESTIA_SECRET_KEY=BOTH, **at).output
    # 3. Resources, into a new store; killed, and repeated.
    kill("copy", target_uri, keys=BOTH, cwd=directory, store=store_uri)
    assert "unfinished copy" in run("check", status=1, HESTIA_STORE=target_uri, HESTIA_SECRET_KEY=BOTH).output
    run("copy", target_uri, HESTIA_SECRET_KEY=BOTH, **at)
    assert keys_in(target_uri) == {"new"}
    assert keys_in(store_uri) == {"old"}
    there = {"HESTIA_STORE": target_uri}
    said = run("key", "status", HESTIA_SECRET_KEY=BOTH, **there).output
    assert "key 1 (seals): 4 records, 25 versions" in said
    assert "key 2 (opens): 0 records, 0 versions" in said
    assert "Nothing needs the earlier keys" in said
    # 4. The new key alone.
    alone = {"HESTIA_SECRET_KEY": NEW.hex(), **there}
    assert "sound" in run("check", **alone).output
    assert "key 1 (seals): 4 records, 25 versions" in run("key", "status", **alone).output
    assert "another master key" in run("check", status=1, HESTIA_SECRET_KEY=OLD.hex(), **there).output


def test_everything_is_as_it_was(store_uri: str, target_uri: str) -> None:
    run("copy", target_uri, HESTIA_SECRET_KEY=BOTH, HESTIA_STORE=store_uri)
    with server_of(store_uri, BOTH) as server:
        before = [(one.address, one.version, one.updated) for one in server.store.scan_versions(limit=10_000)]
        clear = [clear_json(server.sealer, one.body) for one in server.store.scan_versions(limit=10_000) if one.body]
    with server_of(target_uri, NEW.hex()) as server:
        assert [(one.address, one.version, one.updated) for one in server.store.scan_versions(limit=10_000)] == before
        versions = server.store.scan_versions(limit=10_000)
        assert [clear_json(server.sealer, one.body) for one in versions if one.body] == clear
        assert matches(server, f"Patient?identifier={NUMBER[:14]}003X") == ["Patient/p3"]
        stored = server.store.read_version("Patient", "p3", 1)
        assert stored is not None
        assert NUMBER[:14].encode() not in inflate(stored.body or b"")


def test_a_copy_that_was_begun_under_another_key_is_refused(store_uri: str, target_uri: str, directory: Path) -> None:
    kill("copy", target_uri, keys=OLD.hex(), cwd=directory, store=store_uri)
    said = run("copy", target_uri, status=1, HESTIA_SECRET_KEY=BOTH, HESTIA_STORE=store_uri).output
    assert "begun with another first master key" in said


def test_a_key_that_is_missing_is_said(store_uri: str) -> None:
    vault, store = KeyVault([bytes(range(64, 96))]), open_records(store_uri)
    store.put(Account(id="lost", name="", phone=vault.seal_exact("+869", "phone")))
    store.close()
    variables = {"HESTIA_STORE": store_uri, "HESTIA_SECRET_KEY": BOTH}
    assert "not configured: 1 records, 0 versions" in run("key", "status", **variables).output
    assert "1 records could not be" in run("key", "reseal", **variables).output
