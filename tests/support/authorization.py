"""Fixtures of an authorization server over a store of the test's own, with a clock that stands, a notifier and an audit
that remember. A conftest imports them, and has `open_it` and `directory` of its own. Their names are in the decorators,
so that an import does not clash with what uses them.
"""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from smart_auth import passwords
from smart_auth.accounts import Accounts
from smart_auth.context import Auth, AuthSettings
from smart_auth.store.protocol import AuthStore
from smart_auth.vault import KeyVault
from tests.support.accounts import AuthClock, RecordingAudit, RecordingNotifier
from tests.support.directory import MemoryDirectory
from tests.support.records import Opener

MASTER_KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2id with the least parameters: the right ones take 64 MiB and a tenth of a second each time."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher.from_parameters(CHEAPEST))


@pytest.fixture(name="clock")
def clock_fixture() -> AuthClock:
    return AuthClock()


@pytest.fixture(name="notifier")
def notifier_fixture() -> RecordingNotifier:
    return RecordingNotifier()


@pytest.fixture(name="audit")
def audit_fixture() -> RecordingAudit:
    return RecordingAudit()


@pytest.fixture(name="vault")
def vault_fixture() -> KeyVault:
    return KeyVault([MASTER_KEY])


@pytest.fixture(name="auth_settings")
def auth_settings_fixture() -> AuthSettings:
    """Override it in a module for other settings."""
    return AuthSettings(issuer="https://example.org", base_url="https://example.org/fhir")


@pytest.fixture(name="auth_store")
def auth_store_fixture(open_it: Opener) -> AuthStore:
    """An empty store of records."""
    return open_it()


@pytest.fixture(name="auth")
def auth_fixture(
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
