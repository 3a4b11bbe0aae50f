"""A server that keeps an audit, on every store, with a drainer that the test calls when it wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.app import create_app, create_server
from fhir_server.audit.chain import Key
from fhir_server.audit.drain import Drainer
from fhir_server.audit.recorder import DurableRecorder
from fhir_server.audit.verify import Report, verify
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.context import Server, Settings
from fhir_server.errors import Unauthorized
from fhir_server.gzipped import inflate
from fhir_server.storage.protocol import Store
from terminology.local import Local
from tests.support.http import BASE, Answer, Client
from tests.support.stores import Opener, opener

JSON = dict[str, Any]

MASTER = bytes(range(32))
KEY = Key.derive(MASTER)
GRANT = Grant(
    id="grant-1",
    client_id="app-1",
    client_name="Ward app",
    role="doctor",
    scopes=("user/*.cruds",),
    account="account-1",
    name="He Doctor",
    fhir_user="Practitioner/he",
    purpose="TREAT",
)


@pytest.fixture(params=["sqlite", "mongo"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one more Store on the database of the test."""
    with opener(request.param, tmp_path) as made:
        yield made


def make_server(store: Store) -> Server:
    """A core over a store."""
    return create_server(Settings(base_url=BASE, registry_check_s=0.0), store, terminology=Local)


class OneGate:
    """Lets the token `good` in, with a policy and a grant."""

    def __init__(self, policy: Policy, grant: Grant | None) -> None:
        self.policy, self.grant = policy, grant

    def enter(self, server: Server, token: str, address: str) -> Caller:
        if token != "good":
            raise Unauthorized("The token is not valid.", token_error="invalid_token")
        return Caller(self.policy, self.grant)


@dataclass
class World:
    """A server with its audit."""

    server: Server
    recorder: DurableRecorder
    drainer: Drainer
    directory: Path
    open_store: Opener
    clients: list[Client] = field(default_factory=list)

    def client(self, policy: Policy = EVERYTHING, grant: Grant | None = GRANT) -> Client:
        """A client of the server whose token is `good`."""
        made = Authorized(create_app(self.server, gate=OneGate(policy, grant)), self.server)
        self.clients.append(made)
        return made

    def another_drainer(self) -> Drainer:
        """That of another process."""
        return Drainer(make_server(self.open_store()), KEY, self.directory)

    def events(self) -> list[JSON]:
        """Every AuditEvent after draining, in the order of the chains."""
        self.drainer.drain()
        return self.stored()

    def stored(self) -> list[JSON]:
        """Every AuditEvent that is in the store."""
        found = self.server.store.scan(types=["AuditEvent"], limit=10_000)
        return [json.loads(inflate(one.body or b"")) for one in found]

    def verify(self) -> Report:
        return verify(self.server.store, [KEY], self.directory / "anchors.ndjson")


class Authorized(Client):
    """A client that presents its token."""

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        more.setdefault("authorization", "Bearer good")
        return super().request(method, path, body, **more)


@pytest.fixture
def world(open_store: Opener, tmp_path: Path) -> Iterator[World]:
    """A server that keeps an audit; `drainer` is on a connection of its own."""
    directory = tmp_path / "audit"
    server = make_server(open_store())
    recorder = DurableRecorder(directory)
    server.recorder = recorder
    yield World(server, recorder, Drainer(make_server(open_store()), KEY, directory, recorder), directory, open_store)
    recorder.close()


def reference(event: JSON) -> list[str]:
    """References of the entities of an AuditEvent."""
    return [one["what"]["reference"] for one in event.get("entity", ()) if "reference" in one.get("what", {})]


def subtypes(event: JSON) -> list[str]:
    return [one["code"] for one in event["subtype"]]


def request_of(event: JSON) -> str:
    """The X-Request-Id of an AuditEvent."""
    return next(one["what"]["identifier"]["value"] for one in event["entity"] if one["type"]["code"] == "XrequestId")
