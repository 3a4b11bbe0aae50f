"""The authorization server over a store of the test's own, with a clock that stands, a notifier and an audit that
remember, and a hospital in memory.

Every test runs on the embedded store; those marked `both_stores` on MongoDB too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from smart_auth import passwords
from smart_auth.accounts import Accounts
from smart_auth.context import Auth, AuthSettings
from smart_auth.store.protocol import AuthStore
from smart_auth.vault import KeyVault
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier
from tests.support.certificate import Certified, make_certificate
from tests.support.directory import MemoryDirectory
from tests.support.records import NAMES, Opener, stores

MASTER_KEY = bytes(range(32))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_stores: runs on the embedded store and on MongoDB")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_stores") is not None
        metafunc.parametrize("store_name", NAMES if both else NAMES[:1], scope="function")


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2id with the least parameters: the right ones take 64 MiB and a tenth of a second each time."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher.from_parameters(CHEAPEST))


@pytest.fixture
def clock() -> AuthClock:
    return AuthClock()


@pytest.fixture
def open_it(store_name: str, tmp_path: Path, clock: AuthClock) -> Iterator[Opener]:
    """Opens one more store object on the database of the test, as another worker would."""
    with stores(store_name, tmp_path, clock) as opener:
        yield opener


@pytest.fixture
def auth_store(open_it: Opener) -> AuthStore:
    """An empty store of records."""
    return open_it()


@pytest.fixture
def notifier() -> RecordingNotifier:
    return RecordingNotifier()


@pytest.fixture
def audit() -> RecordingAudit:
    return RecordingAudit()


@pytest.fixture
def directory() -> MemoryDirectory:
    return MemoryDirectory()


@pytest.fixture
def vault() -> KeyVault:
    return KeyVault([MASTER_KEY])


@pytest.fixture
def auth_settings() -> AuthSettings:
    """Override it in a module for other settings."""
    return AuthSettings(issuer="https://example.org", base_url="https://example.org/fhir")


@pytest.fixture
def auth(
    auth_settings: AuthSettings,
    auth_store: AuthStore,
    vault: KeyVault,
    notifier: RecordingNotifier,
    directory: MemoryDirectory,
    audit: RecordingAudit,
    clock: AuthClock,
) -> Auth:
    """One authorization server. `auth.accounts` is set; the app, keys and tokens are for `create_auth(auth)` to set."""
    made = Auth(auth_settings, auth_store, vault, notifier, directory, audit, clock)
    made.accounts = Accounts(made)
    return made


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """A certificate for keys.example, for servers of this machine."""
    return make_certificate(tmp_path)
