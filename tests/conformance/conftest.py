"""The whole server, as clients see it, with all official examples in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.storage.sqlite import open_store
from terminology import ucum
from terminology.local import Local
from tests.spec.conftest import (  # the fixtures of tests that begin with an empty server
    build,
    client,
    clock,
    ids,
    open_store_again,
    pytest_configure,
    pytest_generate_tests,
)
from tests.support import examples
from tests.support.http import BASE, Client

__all__ = ["build", "client", "clock", "full", "ids", "open_store_again", "pytest_configure", "pytest_generate_tests"]


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The embedded store with every official example that R4 allows, each by a PUT of its own. Tests only read."""
    store = open_store(tmp_path_factory.mktemp("examples") / "hestia.db")
    server = create_server(Settings(base_url=BASE), store, terminology=Local, units=ucum.canonical)
    found = Client(create_app(server), server)
    for file, text in examples.texts():
        if file != examples.REFUSED:
            answer = found.put(f"/{examples.address(text)}", text, prefer="return=minimal")
            # ImplementationGuide-fhir.json and ig-r4.json are versions of one resource.
            assert answer.status == (200 if file == "ig-r4.json" else 201), (file, answer.body[:2000])
    yield found
    store.close()
