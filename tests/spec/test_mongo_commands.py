"""How many MongoDB commands a request sends, without getMore: few, and none more for more entries, matches or
clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.storage.mongo import open_store
from terminology.local import Local
from tests.support import mongodb
from tests.support.commands import CommandLog
from tests.support.http import BASE, Client
from tests.support.resources import bundle, entry, identified, named, observation

PATIENT = "urn:uuid:0aa91c3b-3b4b-4ed8-b3a9-b7f3a2f9e0b4"


@pytest.fixture
def log() -> CommandLog:
    return CommandLog()


@pytest.fixture
def client(log: CommandLog) -> Iterator[Client]:
    running = mongodb.server()
    database = mongodb.fresh_name()
    store = open_store(running.uri, database=database, listeners=[log])
    server = create_server(Settings(base_url=BASE, registry_check_s=3600.0), store, terminology=Local)
    client = Client(create_app(server), server)
    client.store(
        identified("1", "a", name=[{"family": "One"}]),
        named("Two", "b"),
        observation("o", "Patient/a"),
    )
    client.get("/metadata")
    yield client
    store.close()
    mongodb.drop(running.uri, database)


def _transaction(*more: dict[str, Any]) -> dict[str, Any]:
    """100 writes, of which 98 are creates, one an update and one a deletion; and `more`."""
    entries = [entry("POST", "Patient", named("New"), PATIENT)]
    entries += [entry("POST", "Observation", observation(subject=PATIENT)) for _ in range(97)]
    entries += [entry("PUT", "Patient/b", named("Changed", "b")), entry("DELETE", "Observation/o")]
    return bundle(*entries, *more)


CONDITIONAL = entry("POST", "Patient", identified("7"), ifNoneExist="identifier=7")
REFERRING = entry("POST", "Observation", observation(subject="Patient?identifier=1"))
READING = entry("GET", "Patient/a")
SEARCHING = entry("GET", "Patient?family=one")

CASES: dict[str, tuple[int, str, str, Any]] = {
    "read": (1, "GET", "/Patient/a", None),
    "read with a condition": (1, "GET", "/Patient/a?_summary=true", None),
    "vread": (1, "GET", "/Patient/a/_history/1", None),
    "a page of a search": (1, "GET", "/Patient?family=one", None),
    "a page of a search with a chain": (2, "GET", "/Observation?subject.family=one", None),
    "a page of a search with an include": (2, "GET", "/Observation?_include=Observation:subject", None),
    "a page of a search with an accurate total": (2, "GET", "/Patient?_count=1&_total=accurate", None),
    "a transaction of 100 writes": (12, "POST", "", _transaction()),
    "a transaction with a conditional create": (13, "POST", "", _transaction(CONDITIONAL)),
    "a transaction with a conditional reference": (13, "POST", "", _transaction(REFERRING)),
    "a transaction with two GET entries": (14, "POST", "", _transaction(READING, SEARCHING)),
}


@pytest.mark.parametrize("name", CASES)
def test_commands_of_a_request(client: Client, log: CommandLog, name: str) -> None:
    most, method, path, body = CASES[name]
    log.sent.clear()
    answer = client.request(method, path, body)
    sent = [f"{command} {target}" for command, target in log.sent]
    assert answer.status == 200, answer.body
    assert len(sent) <= most, sent
