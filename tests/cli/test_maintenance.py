"""`hestia copy`, `backup`, `restore`, `reindex` and `check`: nothing is lost, and what is wrong is found."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext, Server
from fhir_server.repository import Repository
from fhir_server.storage.protocol import Store
from fhir_server.writing import Write
from hestia import maintain, transfer
from hestia.composition import COPY_OF, connect, opened
from hestia.settings import load as load_settings
from tests.support.command_line import run
from tests.support.resources import bundle, entry

NICKNAME = {
    "resourceType": "SearchParameter", "id": "nickname", "url": "https://hestia.example/fhir/SearchParameter/nickname",
    "name": "nickname", "status": "active", "description": "Nickname", "code": "nickname", "base": ["Patient"],
    "type": "string", "expression": "Patient.name.where(use = 'nickname').given",
}  # fmt: skip


def server_of(uri: str) -> Any:
    """A server on a store, as a command has it."""
    return opened(load_settings({"store": uri}, {}))


def matches(server: Server, query: str) -> list[str]:
    """Addresses that a search finds, in the order of the ids."""
    resource_type, _, text = query.partition("?")
    repository = Repository(server, RequestContext(EVERYTHING))
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in text.split("&"))]
    found = repository.search(repository.resolve(pairs, types=(resource_type,), handling="strict").search)
    return sorted(match.address for match in found.matches)


def put(server: Server, resource: dict[str, Any]) -> None:
    repository = Repository(server, RequestContext(EVERYTHING))
    repository.execute([Write("update", resource["resourceType"], resource["id"], resource=resource)])


def fill(uri: str, patients: int = 30) -> None:
    """Patients in several versions, deletions, a ledger of a transaction and a batch, a custom search parameter."""
    with server_of(uri) as server:
        repository = Repository(server, RequestContext(EVERYTHING))
        put(server, NICKNAME)
        for version in range(3):
            for number in range(patients):
                name = {"use": "nickname", "given": [f"nick{number}v{version}"]}
                put(server, {"resourceType": "Patient", "id": f"p{number}", "name": [name], "birthDate": "1970-01-01"})
        for number in range(0, patients, 5):
            repository.execute([Write("delete", "Patient", f"p{number}")])
    Path("t.json").write_text(
        json.dumps(bundle(entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": "x"}})))
    )
    Path("b.json").write_text(Path("t.json").read_text().replace("transaction", "batch"))
    run("load", "t.json", "b.json", "--store", uri)
    run("reindex", "--store", uri)


def everything(store: Store) -> dict[str, Any]:
    """All that a copy has to carry."""
    found: list[Any] = []
    after = ("", 0)
    while page := store.scan_versions(after=after):
        found.extend((one.address, one.version, one.updated, one.method, one.body) for one in page)
        after = (page[-1].address, page[-1].version)
    records = {key: value for key, value in store.meta_items("").items() if not key.startswith(transfer.STAYING)}
    return {
        "versions": found,
        "records": records,
        "entries": {a: store.entries(a) for a in sorted({v[0] for v in found})},
    }


def contents(uri: str) -> dict[str, Any]:
    store = connect(uri, create=False)
    try:
        return everything(store)
    finally:
        store.close()


@contextmanager
def writing(uri: str) -> Iterator[Callable[[], list[str]]]:
    """A writer beside the test; the value tells which ids it has had acknowledged so far."""
    acknowledged: list[str] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def work() -> None:
        with server_of(uri) as server:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    put(server, {"resourceType": "Patient", "id": f"w{number}", "gender": "female"})
                    put(server, {"resourceType": "Patient", "id": f"w{number}", "gender": "male"})
                except Exception as error:
                    failures.append(error)
                    return
                acknowledged.append(f"Patient/w{number}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: list(acknowledged)
    finally:
        stop.set()
        thread.join(30)
        assert failures == []


def test_copy_there_and_back_loses_nothing(sqlite_uri: str, mongo_database: str, directory: Path) -> None:
    fill(sqlite_uri)
    back = f"sqlite:///{directory / 'back.db'}"
    before = contents(sqlite_uri)
    assert len(before["versions"]) == 1 + 30 * 3 + 6 + 2
    assert len([key for key in before["records"] if key.startswith("ledger/")]) == 2
    run("copy", mongo_database, "--store", sqlite_uri)
    run("copy", back, "--store", mongo_database)
    assert contents(mongo_database) == before
    assert contents(back) == before
    for uri in (mongo_database, back):
        assert "The store is sound." in run("check", "--store", uri).output
        assert "0 resources written, 2 were there already" in run("load", "t.json", "b.json", "--store", uri).output
        with server_of(uri) as server:
            assert matches(server, "Patient?nickname=nick7v2") == ["Patient/p7"]
            assert matches(server, "Patient?nickname=nick7v1") == []


def test_copy_into_a_store_that_holds_something_else_is_refused(sqlite_uri: str, directory: Path) -> None:
    fill(sqlite_uri, 2)
    other = f"sqlite:///{directory / 'other.db'}"
    fill(other, 1)
    assert "The target is not empty" in run("copy", other, "--store", sqlite_uri, status=1).output
    assert "same store" in run("copy", sqlite_uri, "--store", sqlite_uri, status=1).output
    assert "must be sqlite:///" in run("copy", "other.db", "--store", sqlite_uri, status=1).output


def test_interrupted_copy_is_repeated_and_cannot_be_used_before(
    store_uri: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"sqlite:///{directory / 'source.db'}"
    fill(source)
    prepare_all = maintain.prepared

    def cut(server: Server, **how: Any) -> Any:
        prepare, left = prepare_all(server, **how), iter(range(60))

        def prepare_some(stored: Any, current: bool) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return prepare(stored, current)

        return prepare_some

    monkeypatch.setattr(transfer, "_BATCH", 20)
    monkeypatch.setattr(maintain, "prepared", cut)
    run("copy", store_uri, "--store", source, status=1)
    monkeypatch.setattr(maintain, "prepared", prepare_all)
    target = connect(store_uri)
    assert 0 < len(everything(target)["versions"]) < 99
    assert target.get_meta(COPY_OF) is not None
    target.close()
    for command in (("load", "t.json"), ("check",), ("export", "out"), ("reindex",)):
        assert "unfinished copy" in run(*command, "--store", store_uri, status=1).output
    other = f"sqlite:///{directory / 'other.db'}"
    fill(other, 1)
    assert "unfinished copy of another" in run("copy", store_uri, "--store", other, status=1).output
    run("copy", store_uri, "--store", source)
    assert contents(store_uri) == contents(source)


@pytest.mark.parametrize("way", ["to sqlite", "to mongo"])
def test_copy_of_a_store_that_is_written_to_has_all_that_was_there(
    way: str, sqlite_uri: str, mongo_database: str
) -> None:
    source, target = (mongo_database, sqlite_uri) if way == "to sqlite" else (sqlite_uri, mongo_database)
    fill(source, 60)
    with writing(source) as acknowledged:
        while len(acknowledged()) < 20:
            pass
        before = acknowledged()
        run("copy", target, "--store", source)
        assert len(acknowledged()) > len(before)
    of_source, of_target = contents(source), contents(target)
    assert set(of_target["versions"]) <= set(of_source["versions"])
    addresses = {version[0] for version in of_target["versions"]}
    assert addresses >= {*before, *(f"Patient/p{number}" for number in range(60))}
    assert "The store is sound." in run("check", "--store", target).output


def test_backup_of_a_store_that_is_written_to_is_whole(store_uri: str, directory: Path) -> None:
    fill(store_uri, 60)
    with writing(store_uri) as acknowledged:
        while len(acknowledged()) < 20:
            pass
        before = acknowledged()
        assert "versions saved in saves/one.db." in run("backup", "saves/one.db", "--store", store_uri).output
        assert len(acknowledged()) > len(before)
    assert "exists already" in run("backup", "saves/one.db", "--store", store_uri, status=1).output
    restored = f"sqlite:///{directory / 'restored.db'}"
    run("restore", "saves/one.db", "--store", restored)
    assert "The store is sound." in run("check", "--store", restored).output
    assert contents(restored) == contents("sqlite:///saves/one.db")
    assert {version[0] for version in contents(restored)["versions"]} >= set(before)
    assert [path.name for path in Path("saves").iterdir() if ".part" in path.name] == []


def test_backup_in_many_steps_is_not_begun_again_by_writers(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(sqlite_uri, 60)
    writer = connect(sqlite_uri)
    looks = 0

    class OnePage:
        """The size of a step; the next step is due when it is asked for, and somebody writes before every one."""

        def __index__(self) -> int:
            nonlocal looks
            looks += 1
            assert looks < 1000, "The backup begins again at every write."
            writer.put_meta("beat", looks)
            return 1

    monkeypatch.setattr("fhir_server.storage.sqlite.store.BACKUP_PAGES", OnePage())
    run("backup", "one.db", "--store", sqlite_uri)
    writer.close()
    assert looks > 20
    assert "The store is sound." in run("check", "--store", "sqlite:///one.db").output


def test_restore_into_mongodb(sqlite_uri: str, mongo_database: str) -> None:
    fill(sqlite_uri, 10)
    run("backup", "one.db", "--store", sqlite_uri)
    run("restore", "one.db", "--store", mongo_database)
    assert contents(mongo_database) == contents(sqlite_uri)
    assert "The target is not empty" in run("restore", "one.db", "--store", mongo_database, status=1).output


def test_reindex_after_a_change_of_zone_moves_what_a_bare_date_means(store_uri: str) -> None:
    resource = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
    late = {**resource, "effectiveDateTime": "2026-01-01T20:00:00Z"}  # the second of January in Shanghai
    Path("o.json").write_text(json.dumps(late))
    run("load", "o.json", "--store", store_uri)
    Path("p.json").write_text(json.dumps({"resourceType": "Patient", "id": "p", "birthDate": "1970-01-01"}))
    refused = run("load", "p.json", "--timezone", "Asia/Shanghai", "--store", store_uri, status=1)
    assert "indexed with another HESTIA_TIMEZONE" in refused.output
    run("load", "p.json", "--store", store_uri)
    with server_of(store_uri) as server:
        assert matches(server, "Patient?birthdate=lt1969-12-31T20:00:00Z") == []
    run("reindex", "--timezone", "Asia/Shanghai", "--store", store_uri)
    with server_of(store_uri) as server:  # no zone given: that of the store
        assert matches(server, "Patient?birthdate=lt1969-12-31T20:00:00Z") == ["Patient/p"]
        assert matches(server, "Observation?date=2026-01-01") == []
        assert matches(server, "Observation?date=2026-01-02") == ["Observation/o"]
    assert "The store is sound." in run("check", "--store", store_uri).output


def test_reindex_puts_custom_parameters_in_force(store_uri: str) -> None:
    with server_of(store_uri) as server:
        name = {"use": "nickname", "given": ["Bobby"]}
        put(server, {"resourceType": "Patient", "id": "p", "name": [name]})
        put(server, NICKNAME)
    assert "newest search parameters" in run("check", "--store", store_uri, status=1).output
    run("reindex", "--store", store_uri)
    with server_of(store_uri) as server:
        assert matches(server, "Patient?nickname=bob") == ["Patient/p"]
    assert "The store is sound." in run("check", "--store", store_uri).output


HERE = "(SELECT rid FROM resource WHERE address = 'Patient/p1')"
OTHER = "(SELECT body FROM resource WHERE address = 'Patient/p2')"


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (f"UPDATE resource SET body = {OTHER} WHERE rid = {HERE}",
         "Patient/p1: the body of version 3 says another type, id or version."),
        (f"UPDATE resource SET body = x'00' WHERE rid = {HERE}",
         "Patient/p1: the body of version 3 cannot be read."),
        (f"DELETE FROM history WHERE version = 2 AND rid = {HERE}",
         "Patient/p1: version 3 follows 1."),
        (f"DELETE FROM history WHERE version = 1 AND rid = {HERE}",
         "Patient/p1: its first version is 2."),
        (f"UPDATE resource SET updated = 1000 WHERE rid = {HERE}",
         "Patient/p1: version 3 is not later than the one before."),
        (f"DELETE FROM posting WHERE rid = {HERE}",
         "Patient/p1: index entries differ from the resource; run hestia reindex."),
        (f"UPDATE span SET low = low + 1 WHERE rid = {HERE}",
         "Patient/p1: index entries differ from the resource; run hestia reindex."),
        (f"INSERT INTO claim (key, rid) VALUES ('x', {HERE})",
         "Patient/p1: unique keys differ from the resource; run hestia reindex."),
    ],
)  # fmt: skip
def test_check_finds_what_is_wrong(sqlite_uri: str, damage: str, finding: str) -> None:
    fill(sqlite_uri, 3)
    path = sqlite_uri.removeprefix("sqlite:///")
    raw = apsw.Connection(path)
    raw.execute(damage)
    raw.close()
    output = run("check", "--store", sqlite_uri, status=1).output
    assert f"- {finding}\n" in output
    assert "nick" not in output


def test_check_of_a_store_that_is_written_to_finds_nothing(sqlite_uri: str) -> None:
    fill(sqlite_uri, 60)
    with writing(sqlite_uri):
        for _ in range(3):
            assert "The store is sound." in run("check", "--store", sqlite_uri).output


def test_store_of_a_newer_version_is_refused(store_uri: str) -> None:
    fill(store_uri, 1)
    store = connect(store_uri)
    store.update_meta("identity", lambda old: {**(old or {}), "schema": 99})
    store.close()
    for command in (("check",), ("load", "t.json"), ("reindex",), ("backup", "x.db"), ("serve", "--port", "18999")):
        assert "newer version of Hestia" in run(*command, "--store", store_uri, status=1).output


def test_newer_sqlite_schema_is_refused(sqlite_uri: str) -> None:
    fill(sqlite_uri, 1)
    raw = apsw.Connection(sqlite_uri.removeprefix("sqlite:///"))
    raw.pragma("user_version", 99)
    raw.close()
    assert "has schema 99" in run("check", "--store", sqlite_uri, status=1).output
