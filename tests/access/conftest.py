"""A small hospital over a store of the test's own, with a clock that stands, and grants of the people in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.compile import compile_policy
from fhir_server.access.grant import Grant
from fhir_server.access.policies import RolePolicy, default_policy
from fhir_server.access.relations import Relations
from fhir_server.app import create_app, create_server
from fhir_server.authorize import EVERYTHING, Action, Policy
from fhir_server.context import RequestContext, Server, Settings
from fhir_server.errors import Forbidden, NotFound, Unauthorized
from fhir_server.repository import Repository, Write
from fhir_server.storage.protocol import Store
from fhir_server.storage.sqlite import store as sqlite_store
from terminology import ucum
from terminology.local import Local
from tests.support.http import BASE, Answer, Client, Clock
from tests.support.stores import Opener, opener

JSON = dict[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_stores: runs on the embedded store and on MongoDB")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_stores") is not None
        metafunc.parametrize("store_name", ["sqlite", "mongo"] if both else ["sqlite"], scope="function")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(store_name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens one more Store on the database of the test, as another worker does."""
    monkeypatch.setattr(sqlite_store, "clock", clock)
    with opener(store_name, tmp_path) as made:
        yield made


@pytest.fixture
def store(open_store: Opener) -> Store:
    """An empty store."""
    return open_store()


class Seconds:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Hospital:
    """A server, what was put into it, and what somebody with a grant sees of it."""

    def __init__(self, server: Server, clock: Clock, policies: Callable[[str], RolePolicy] = default_policy) -> None:
        self.server = server
        self.clock = clock
        self.policies = policies
        self.seconds = Seconds()
        self.server.cache["relations"] = Relations(server, monotonic=self.seconds)

    def put(self, *resources: JSON) -> None:
        """Stores resources at their own ids, seen by nobody in particular."""
        repository = Repository(self.server, RequestContext(EVERYTHING))
        repository.execute([Write("update", one["resourceType"], one["id"], resource=one) for one in resources])

    def delete(self, address: str) -> None:
        """Deletes one resource."""
        resource_type, _, resource_id = address.partition("/")
        Repository(self.server, RequestContext(EVERYTHING)).execute([Write("delete", resource_type, resource_id)])

    def policy(self, grant: Grant, *, fresh: bool = False) -> Policy:
        """The policy of a grant now."""
        return compile_policy(self.server, grant, self.policies, self.clock.now, fresh=fresh)

    def sees(self, grant: Grant, *types: str) -> set[str]:
        """Addresses of what a search over these types finds; it is what is visible one by one, decided in memory."""
        repository = Repository(self.server, RequestContext(self.policy(grant)))
        found = set()
        for name in types:
            if repository.context.policy.grants(name, "s"):
                resolved = repository.resolve([("_count", "1000")], types=(name,))
                found |= {stored.address for stored in repository.search(resolved.search).matches}
        stored = self.server.store.scan(types=types, limit=1000)
        assert found == {one.address for one in stored if repository.visible(one, "s")}
        return found

    def reads(self, grant: Grant, address: str) -> bool:
        """Whether a read answers."""
        repository = Repository(self.server, RequestContext(self.policy(grant)))
        try:
            repository.read(*address.split("/"))
        except (Forbidden, NotFound):
            return False
        return True

    def may(self, grant: Grant, action: Action, resource: JSON) -> bool:
        """Whether the policy permits an action on this content."""
        repository = Repository(self.server, RequestContext(self.policy(grant)))
        if not repository.context.policy.grants(resource["resourceType"], action):
            return False
        address = f"{resource['resourceType']}/{resource.get('id', 'new')}"
        return repository.permits(self.server.extractor.documents(resource, address), action)


def serve(store: Store, clock: Clock) -> Server:
    """A server over a store."""
    return create_server(
        Settings(base_url=BASE, timezone="Asia/Shanghai", registry_check_s=0.0),
        store,
        terminology=Local,
        units=ucum.canonical,
        clock=lambda: clock.now,
    )


class Named:
    """A gate whose tokens are the names of grants."""

    def __init__(self, hospital: Hospital, grants: Mapping[str, Grant]) -> None:
        self._hospital, self._grants = hospital, grants

    def enter(self, server: Server, token: str, address: str) -> Caller:
        grant = self._grants.get(token)
        if grant is None:
            raise Unauthorized("Not a token.", token_error="invalid_token")
        return Caller(self._hospital.policy(grant), grant, lambda: self._hospital.policy(grant, fresh=True))


class Person:
    """Somebody with a token, at the HTTP interface."""

    def __init__(self, hospital: Hospital, grant: Grant) -> None:
        self._client = Client(create_app(hospital.server, gate=Named(hospital, {"token": grant})), hospital.server)

    def __call__(self, method: str, path: str, body: Any = None, **headers: Any) -> Answer:
        """Sends a request."""
        return self._client.request(method, path, body, authorization="Bearer token", **headers)


@pytest.fixture
def hospital(store: Store, clock: Clock) -> Hospital:
    """An empty hospital."""
    return Hospital(serve(store, clock), clock)


# --- grants -----------------------------------------------------------------------------------------------------------


def granted(role: str, *scopes: str, **more: Any) -> Grant:
    """A grant of a role; without scopes everything that the role may do."""
    if not scopes:
        scopes = ("system/*.cruds",) if role == "system" else ("user/*.cruds",)
    return Grant(id="g", client_id="app", client_name="App", role=role, scopes=scopes, **more)


def patient_grant(person: str, *scopes: str, **more: Any) -> Grant:
    """Of somebody with the role patient: Person/x."""
    return granted("patient", *scopes, person=f"Person/{person}", **more)


def staff_grant(role: str, practitioner: str, *scopes: str, **more: Any) -> Grant:
    """Of a member of staff: Practitioner/x."""
    return granted(role, *scopes, fhir_user=f"Practitioner/{practitioner}", **more)
