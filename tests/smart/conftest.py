"""The authorization server over a store of the test's own, with a clock that stands, a notifier and an audit that
remember, and a hospital in memory.

Every test runs on the embedded store; those marked `both_stores` on MongoDB too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import AuthClock
from tests.support.authorization import (  # noqa: F401 - fixtures
    audit_fixture,
    auth_fixture,
    auth_settings_fixture,
    auth_store_fixture,
    cheap_hashes,
    clock_fixture,
    notifier_fixture,
    vault_fixture,
)
from tests.support.certificate import Certified, make_certificate
from tests.support.directory import MemoryDirectory
from tests.support.records import NAMES, Opener, stores


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_stores: runs on the embedded store and on MongoDB")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_stores") is not None
        metafunc.parametrize("store_name", NAMES if both else NAMES[:1], scope="function")


@pytest.fixture
def open_it(store_name: str, tmp_path: Path, clock: AuthClock) -> Iterator[Opener]:
    """Opens one more store object on the database of the test, as another worker would."""
    with stores(store_name, tmp_path, clock) as opener:
        yield opener


@pytest.fixture
def directory() -> MemoryDirectory:
    return MemoryDirectory()


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """A certificate for keys.example, for servers of this machine."""
    return make_certificate(tmp_path)
