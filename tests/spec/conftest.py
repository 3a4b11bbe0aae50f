"""The server as clients see it: the WSGI application in process, over a store of the test's own, with fixed clock
and ids.

Every test runs on the embedded store; those marked `both_stores` on MongoDB too. Each answer is checked for what all
answers must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.context import Server, Settings
from fhir_server.storage.sqlite import store as sqlite_store
from terminology import ucum
from terminology.local import Local
from tests.support.http import BASE, Client, Clock
from tests.support.stores import Opener, opener


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
def open_store_again(
    store_name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opener]:
    """Opens one more Store on the test's database, as another worker would."""
    monkeypatch.setattr(sqlite_store, "clock", clock)
    with opener(store_name, tmp_path) as made:
        yield made


@pytest.fixture
def ids() -> Iterator[int]:
    return iter(range(1, 1_000_000))


Build = Callable[..., Client]


@pytest.fixture
def build(open_store_again: Opener, clock: Clock, ids: Iterator[int]) -> Build:
    """Makes a client of a server with other settings or another policy, on the same database."""

    def make(policy: Policy | Callable[[Server], Policy] = EVERYTHING, **changes: Any) -> Client:
        wanted = Settings(base_url=BASE, registry_check_s=0.0, **changes)
        server = create_server(
            wanted,
            open_store_again(),
            terminology=Local,
            units=ucum.canonical,
            clock=clock,
            new_id=lambda: f"id-{next(ids)}",
        )
        found = policy if isinstance(policy, Policy) else policy(server)
        return Client(create_app(server, policy=found), server)

    return make


@pytest.fixture
def client(build: Build) -> Client:
    """The server with default settings."""
    return build()
