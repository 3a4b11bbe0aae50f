"""`hestia serve`: the first start, stopping, being killed, several processes on one store."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

import seed
from fhir_server.authorize import EVERYTHING
from fhir_server.context import RequestContext
from fhir_server.repository import Repository
from hestia import serve
from hestia.composition import Lease, connect, opened
from hestia.settings import load as load_settings
from tests.support import mongodb
from tests.support.command_line import Serving, free_port, run, start, wait_until

SMALL_DEMO = sum(
    len(bundle["entry"]) for bundle in seed.bundles(patients=2, today=datetime.datetime.now(datetime.UTC).date())
)


class Clients:
    """Threads that put patients one after the other, and remember what was acknowledged."""

    def __init__(self, base: str, threads: int = 4) -> None:
        self.acknowledged: list[str] = []
        self._base = base
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        with httpx.Client(timeout=20) as client:
            for count in range(100_000):
                name = f"t{number}-{id(self)}-{count}"
                try:
                    answer = client.put(f"{self._base}/Patient/{name}", json={"resourceType": "Patient", "id": name})
                except httpx.HTTPError:
                    return
                if answer.status_code == 201:
                    self.acknowledged.append(f"Patient/{name}")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def missing(uri: str, addresses: list[str]) -> list[str]:
    """Those that the store does not hold."""
    store = connect(uri, create=False)
    try:
        found: set[str] = set()
        for start_at in range(0, len(addresses), 500):
            found.update(store.read_many(addresses[start_at : start_at + 500]))
        return sorted(set(addresses) - found)
    finally:
        store.close()


def versions(uri: str) -> int:
    store = connect(uri, create=False)
    try:
        return int(store.statistics()["versions"])
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_acknowledged_is_lost_when_the_server_ends_during_writes(
    sqlite_uri: str, directory: Path, number: signal.Signals
) -> None:
    with Serving(directory, sqlite_uri) as serving:
        serving.ready()
        clients = Clients(serving.base)
        wait_until(lambda: len(clients.acknowledged) > 150)
        serving.signal(number, group=number != signal.SIGTERM)
        said = serving.ended()
        clients.join()
        if number != signal.SIGKILL:
            assert serving.process.returncode == 0, said
            assert "Stopped." in said
        assert "Traceback" not in said
    assert missing(sqlite_uri, clients.acknowledged) == []
    with Serving(directory, sqlite_uri) as serving:
        serving.ready()
        last = clients.acknowledged[-1]
        assert httpx.get(f"{serving.base}/{last}").status_code == 200
    assert "The store is sound." in run("check", "--store", sqlite_uri).output


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_on_mongodb(mongo_database: str, directory: Path) -> None:
    with Serving(directory, mongo_database) as one, Serving(directory, mongo_database) as other:
        one.ready()
        other.ready()
        clients = [Clients(one.base, 2), Clients(other.base, 2)]
        wait_until(lambda: all(len(some.acknowledged) > 60 for some in clients))
        one.signal(signal.SIGKILL)
        survivor = len(clients[1].acknowledged)
        wait_until(lambda: len(clients[1].acknowledged) > survivor + 20)
        other.signal(signal.SIGINT)
        assert "Stopped." in other.ended()
        for some in clients:
            some.join()
    assert missing(mongo_database, clients[0].acknowledged + clients[1].acknowledged) == []
    assert "The store is sound." in run("check", "--store", mongo_database).output


@pytest.mark.slow
def test_first_start_loads_the_demo_once_and_says_what_to_try(sqlite_uri: str, directory: Path) -> None:
    for _ in range(2):
        with Serving(directory, sqlite_uri, small_demo=True) as serving:
            serving.ready()
            answer = httpx.get(f"{serving.base}/Patient?_summary=count")
            assert answer.json()["total"] > 0
            serving.signal(signal.SIGINT)
            said = serving.ended()
        assert f"http://127.0.0.1:{serving.port}/docs" in said
    assert "Demo hospital" not in said
    assert versions(sqlite_uri) == SMALL_DEMO


@pytest.mark.slow
def test_two_first_starts_at_once_load_one_copy(store_uri: str, directory: Path) -> None:
    with (
        Serving(directory, store_uri, small_demo=True, workers=1) as one,
        Serving(directory, store_uri, small_demo=True, workers=1) as other,
    ):
        one.ready()
        other.ready()
        id = "seen-by-both"
        httpx.put(f"{one.base}/Patient/{id}", json={"resourceType": "Patient", "id": id}).raise_for_status()
        assert httpx.get(f"{other.base}/Patient/{id}").status_code == 200
    assert versions(store_uri) == SMALL_DEMO + 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_demo_is_completed_by_the_next_start(
    sqlite_uri: str, directory: Path, number: signal.Signals
) -> None:
    store = connect(sqlite_uri)
    with Serving(directory, sqlite_uri, small_demo=True) as serving:
        wait_until(lambda: sum(store.counts().values()) > 300, pause_s=0.002)
        serving.signal(number)
        said = serving.ended()
    assert sum(store.counts().values()) < SMALL_DEMO
    if number != signal.SIGKILL:
        assert (serving.process.returncode, "Nothing that was written is lost" in said) == (130, True)
    with Serving(directory, sqlite_uri, small_demo=True) as serving:
        serving.ready(25)  # a dead holder's lease is not waited for
    assert sum(store.counts().values()) == SMALL_DEMO
    store.close()
    assert versions(sqlite_uri) == SMALL_DEMO


@pytest.mark.slow
def test_each_worker_sees_what_the_other_wrote(sqlite_uri: str, directory: Path) -> None:
    with Serving(directory, sqlite_uri) as serving:
        serving.ready()
        for number in range(30):
            # Without keep-alive, requests reach either worker.
            path = f"{serving.base}/Patient/p{number}"
            httpx.put(path, json={"resourceType": "Patient", "id": f"p{number}"}).raise_for_status()
            assert httpx.get(path).status_code == 200
        assert httpx.get(f"{serving.base}/Patient?_summary=count").json()["total"] == 30


def test_port_in_use_is_said_before_anything_is_loaded(sqlite_uri: str, directory: Path) -> None:
    with Serving(directory, sqlite_uri, workers=1) as first:
        first.ready()
        second = start(
            ["serve", "--port", str(first.port), "--store", f"sqlite:///{directory / 'other.db'}"], directory
        )
        said, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert said.startswith(f"Error: Port {first.port} on 127.0.0.1 is in use")
    assert said.count("\n") == 1
    assert not (directory / "other.db").exists()


def test_address_that_is_not_ours_is_refused() -> None:
    output = run("serve", "--host", "192.0.2.1", "--port", str(free_port()), status=1).output
    assert "Cannot listen on 192.0.2.1" in output


def test_lease_of_a_dead_process_is_taken_over_and_of_a_living_one_is_not(store_uri: str) -> None:
    store = connect(store_uri)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with Lease(store, "work"):
        other = Lease(store, "work")
        assert not other._take()
        store.update_meta("lease/work", lambda old: {**(old or {}), "pid": ended.pid})
        assert other._take()
    assert store.get_meta("lease/work")["holder"] == other._holder  # type: ignore[index]
    store.update_meta("lease/work", lambda old: {**(old or {}), "host": "elsewhere", "pid": ended.pid})
    third = Lease(store, "work")
    assert not third._take()
    store.update_meta("lease/work", lambda old: {**(old or {}), "until_s": 0.0})
    assert third._take()
    store.close()


def test_base_url_that_changed_stays_an_alias(sqlite_uri: str) -> None:
    for port in ("8080", "8090"):
        settings = load_settings({"store": sqlite_uri, "port": port}, {})
        with opened(settings, decide=True):
            pass
        store = connect(sqlite_uri)
        serve.identify(store, settings)
        identity = store.get_meta("identity")
        store.close()
    assert identity is not None
    assert (identity["base_url"], identity["aliases"]) == ("http://127.0.0.1:8090/fhir", ["http://127.0.0.1:8080/fhir"])
    with opened(load_settings({"store": sqlite_uri}, {})) as server:
        assert server.settings.base_url == "http://127.0.0.1:8090/fhir"
        repository = Repository(server, RequestContext(EVERYTHING))
        assert repository.server.extractor.settings.base_urls == (
            "http://127.0.0.1:8090/fhir", "http://127.0.0.1:8080/fhir",
        )  # fmt: skip


def test_standalone_mongod_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from fhir_server.storage.mongo import connection, store

    def standalone(hello: object, build: object) -> None:
        connection.check_server({"isWritablePrimary": True}, {"versionArray": [7, 0, 0, 0]})

    monkeypatch.setattr(store, "check_server", standalone)
    uri = mongodb.server().uri
    output = run("serve", "--store", uri, "--port", str(free_port()), status=1).output
    assert output.startswith("Error: This MongoDB server is a standalone")
    assert "rs.initiate" in output
    assert output.count("\n") == 1


@pytest.mark.slow
def test_a_server_that_stops_records_what_it_counted(directory: Path, store_uri: str) -> None:
    """Refusals of somebody without a token: one event of each worker, and one with their number when it ends."""
    with Serving(directory, store_uri, auth="on") as serving:
        serving.ready()
        for number in range(40):
            assert httpx.get(f"{serving.base}/Patient/{number}").status_code == 401
        serving.signal(signal.SIGTERM, group=False)
        assert "Stopped." in serving.ended()
    run("export", "events", "--type", "AuditEvent", "--store", store_uri)
    lines = (directory / "events" / "AuditEvent.ndjson").read_text(encoding="utf-8").splitlines()
    said = [event["outcomeDesc"] for event in map(json.loads, lines) if event["subtype"][0]["code"] == "request"]
    assert 2 <= len(said) <= 4
    assert sum(int(one.split()[2]) if "more" in one else 1 for one in said) == 40
    assert "is whole" in run("audit", "verify", "--store", store_uri).output
