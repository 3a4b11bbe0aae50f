"""From settings to a running server: opens the store, checks what it records about itself, builds the core.

The store records schema, extraction version, time zone, base URL and whether it has a word index. `serve` and `reindex`
decide these by the settings; every other command takes what is recorded, so that a forgotten variable in another shell
changes nothing. What does not fit is migrated forward, or refused with a message that says what to do; a newer schema
is always refused.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from fhir_server.app import create_server, open_store
from fhir_server.context import OAuth, Server
from fhir_server.context import Settings as CoreSettings
from fhir_server.sealing import RESIDENT_ID, Sealer, check_key
from fhir_server.search.extract import EXTRACTION_VERSION
from fhir_server.storage.protocol import Store
from hestia import __version__
from hestia.masterkey import master_keys
from hestia.notifier import notifier
from hestia.policies import Policies, PolicyAdmin
from hestia.settings import Settings, SettingsError, sqlite_path
from smart_auth import discovery
from smart_auth.accounts import Accounts
from smart_auth.context import Auth, AuthEvent, AuthSettings
from smart_auth.keys import Keys
from smart_auth.store.protocol import AuthStore
from smart_auth.tokens import Tokens
from smart_auth.vault import KeyVault
from terminology import Local, ucum

SCHEMA = 1
"""Form of the store's own records; stores of a higher one are refused."""

IDENTITY = "identity"
OFFICIAL_NUMBERS = {
    "Patient": (
        RESIDENT_ID,
        "urn:oid:2.16.156.10011.1.19",  # health card
        "urn:oid:2.16.156.10011.1.2",  # health record
        "urn:oid:2.16.156.10011.1.11",  # outpatient number: the chart
    ),
    "Person": (RESIDENT_ID,),
    "Practitioner": (RESIDENT_ID, "urn:oid:2.16.156.10011.1.4"),  # licence
}
"""Identifiers that one human has, and so one current resource of a type (kernel K3): a second one is 409."""
UNIQUE = 1
"""Changes with OFFICIAL_NUMBERS: a store that was filled by another one is reindexed."""

COPY_OF = "copy-of"
"""Names the source of a copy that is not finished."""


def core_settings(settings: Settings) -> CoreSettings:
    """The part of the settings that the FHIR core knows."""
    origins = tuple(part.strip() for part in settings.cors_origins.split(",") if part.strip())
    return CoreSettings(
        base_url=settings.base_url,
        base_aliases=settings.base_aliases,
        timezone=settings.timezone,
        validation=settings.validation,
        integrity=settings.integrity,
        max_body=settings.max_body,
        chain_limit=settings.chain_limit,
        fulltext=settings.fulltext,
        cors_origins=origins,
        access_log=settings.log == "access",
        software_version=__version__,
        oauth=oauth_urls(settings) if settings.auth == "on" else None,
        treatment_days=settings.treatment_days,
        unique_identifiers=OFFICIAL_NUMBERS,
    )


def oauth_urls(settings: Settings) -> OAuth:
    """Where the authorization server is, for the CapabilityStatement."""
    root = settings.issuer
    return OAuth(
        authorize=root + discovery.AUTHORIZE,
        token=root + discovery.TOKEN,
        register=root + discovery.REGISTER,
        introspect=root + discovery.INTROSPECT,
        revoke=root + discovery.REVOKE,
        manage=root + discovery.MANAGE,
    )


def connect(uri: str, *, create: bool = True) -> Store:
    """The store that a HESTIA_STORE value names; a missing directory of an embedded store is made.

    Raises: SettingsError without `create` when there is no such file.
    """
    path = sqlite_path(uri)
    if path is not None:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise SettingsError(f"There is no database at {path}.")
    return open_store(uri)


def refuse_unusable(store: Store) -> dict[str, Any] | None:
    """What the store records about itself; None when it is new.

    Raises: SettingsError for a store of a newer version, and for one that holds half a copy.
    """
    recorded: dict[str, Any] | None = store.get_meta(IDENTITY)
    if recorded is not None and (recorded["schema"] > SCHEMA or recorded["extraction"] > EXTRACTION_VERSION):
        raise SettingsError("This store was written by a newer version of Hestia. Run that version, or a later one.")
    if store.get_meta(COPY_OF) is not None:
        raise SettingsError("This store holds an unfinished copy. Repeat the `hestia copy` or `restore` that began it.")
    return recorded


def adopt(settings: Settings, recorded: dict[str, Any]) -> Settings:
    """The settings with what the store records, where nobody said otherwise.

    Raises: SettingsError when another zone or word index was asked for than the store's entries are made with.
    """
    changes: dict[str, Any] = {}
    for name, label in (("timezone", "HESTIA_TIMEZONE"), ("fulltext", "HESTIA_FULLTEXT")):
        if settings.source[name] == "default":
            changes[name] = recorded[name]
        elif getattr(settings, name) != recorded[name]:
            raise SettingsError(
                f"The store is indexed with another {label}. `hestia reindex` (or the next `hestia serve`) changes it."
            )
    if settings.source["base_url"] == "default":
        changes["base_url"] = recorded["base_url"]
    return dataclasses.replace(settings, **changes)


def identify(store: Store, settings: Settings) -> list[str]:
    """Records what this store is at its first use, and checks it later. Returns what has to be told to the operator.

    Raises: SettingsError, see `refuse_unusable`.
    """
    refuse_unusable(store)
    wanted = {"base_url": settings.base_url, "timezone": settings.timezone, "fulltext": settings.fulltext}
    notes: list[str] = []

    def change(old: Any | None) -> Any:
        notes.clear()
        if old is None:
            return {
                "id": str(uuid.uuid4()),
                "schema": SCHEMA,
                "extraction": EXTRACTION_VERSION,
                "unique": UNIQUE,
                "aliases": list(settings.base_aliases),
                "reindex": False,
                **wanted,
            }
        new = {**old, **wanted, "schema": SCHEMA, "extraction": EXTRACTION_VERSION, "unique": UNIQUE}
        aliases = {*old["aliases"], *settings.base_aliases}
        if old["base_url"] != settings.base_url:
            aliases.add(old["base_url"])
            notes.append(
                "HESTIA_BASE_URL changed; the old base stays an alias. Absolute references to the new base that were"
                " stored before are found after `hestia reindex`."
            )
        new["aliases"] = sorted(aliases - {settings.base_url})
        if any(old.get(name) != new[name] for name in ("timezone", "fulltext", "extraction", "unique")):
            new["reindex"] = True
        if new["reindex"]:
            notes.append("The index was made with other settings or by an older version; it has to be made anew.")
        return new

    if store.get_meta(IDENTITY) != change(store.get_meta(IDENTITY)):
        store.update_meta(IDENTITY, change)
    return notes


def make_sealer(settings: Settings, store: Store, *, create: bool = True, source: bool = False) -> Sealer | None:
    """What seals resident numbers in this store. Without `create` no key is made: None where there is no key, which
    only reads a store without sealed numbers. `source`: the store is only copied from, see `check_key`.

    Raises: SettingsError for a missing or another key than the store was sealed with.
    """
    try:
        sealer: Sealer | None = Sealer(master_keys(settings, create=create))
    except SettingsError:
        if create:
            raise
        sealer = None
    try:
        check_key(store, sealer, record=create, source=source)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return sealer


def make_server(settings: Settings, store: Store | None = None, *, create: bool = True, source: bool = False) -> Server:
    """The core over its store, for this process and thread. `create`, `source`: see `make_sealer`."""
    store = store or connect(settings.store)
    recorded = store.get_meta(IDENTITY)
    core = core_settings(settings)
    if recorded is not None:
        aliases = {*core.base_aliases, *recorded["aliases"], recorded["base_url"]} - {core.base_url}
        core = dataclasses.replace(core, base_aliases=tuple(sorted(aliases)))
    sealer = make_sealer(settings, store, create=create, source=source)
    return create_server(core, store, terminology=Local, units=ucum.canonical, sealer=sealer)


def open_records(uri: str) -> AuthStore:
    """The store of accounts, clients and grants in the database that a HESTIA_STORE value names."""
    path = sqlite_path(uri)
    if path is not None:
        from smart_auth.store import sqlite

        return sqlite.open_store(path)
    from smart_auth.store import mongo

    return mongo.open_store(uri)


def auth_settings(settings: Settings) -> AuthSettings:
    """The part of the settings that the authorization server knows."""
    origins = tuple(part.strip() for part in settings.cors_origins.split(",") if part.strip())
    return AuthSettings(
        issuer=settings.issuer,
        base_url=settings.base_url,
        production=settings.production,
        access_token_lifetime_s=settings.token_lifetime,
        registration=settings.client_registration,
        self_registration=settings.sign_up,
        staff_second_factor=settings.staff_second_factor,
        fetch_allow=settings.fetch_allow,
        cors_origins=origins,
        tenant=settings.tenant,
        software_version=__version__,
    )


def make_auth(settings: Settings, server: Server, audit: Callable[[AuthEvent], None] | None = None) -> Auth:
    """The authorization server beside a core, for this process and thread. Close its `store` at the end."""
    from hestia import demo_access
    from hestia.accesslog import AccessLog
    from hestia.directory import FhirDirectory

    store = open_records(settings.store)
    vault = KeyVault(master_keys(settings))
    policies = Policies(store)
    auth = Auth(
        settings=auth_settings(settings),
        store=store,
        vault=vault,
        notifier=notifier(settings, store, vault),
        directory=FhirDirectory(server, policies),
        audit=audit or (lambda event: None),
    )
    auth.accounts = Accounts(auth)
    auth.keys = Keys(auth)
    auth.tokens = Tokens(auth)
    auth.policies = PolicyAdmin(server, store, policies, auth.clock)
    auth.access_log = AccessLog(server, auth.directory)
    if not settings.production:
        auth.demo = lambda: demo_access.people(auth)
    return auth


@contextmanager
def opened(
    settings: Settings, *, create: bool = True, must_exist: bool = False, decide: bool = False
) -> Iterator[Server]:
    """A server for a command, closed at the end.

    `create`: a new store is made and recorded; without it the store must exist, and nothing is written to it.
    `must_exist`: it must exist, and is written to. `decide`: the settings win over what the store records, see
    `identify`; else they are adopted from it.
    """
    store = connect(settings.store, create=create and not must_exist)
    try:
        recorded = refuse_unusable(store)
        if recorded is not None and not decide:
            settings = adopt(settings, recorded)
        elif recorded is not None and settings.source["base_url"] == "default":
            settings = dataclasses.replace(settings, base_url=recorded["base_url"])
        if create:
            for note in identify(store, settings):
                click.echo(note, err=True)
        yield make_server(settings, store, create=create)
    finally:
        store.close()


class Lease:
    """A lock kept in the store, so that only one process on any machine does a thing; it runs out when its holder dies.

    Shape: the record ``lease/<name>`` holds `holder`, `until_s` (seconds since 1970), `host` and `pid`. `renew` is
    called by the work as it goes on. A holder on this machine that is no longer alive is not waited for.
    """

    LIFETIME_S = 30.0

    def __init__(self, store: Store, name: str, *, waiting: Callable[[], None] = lambda: None) -> None:
        """`waiting` is called once when another process holds it."""
        self._store, self._key, self._holder = store, f"lease/{name}", str(uuid.uuid4())
        self._waiting = waiting
        self._renewed_s = 0.0

    def __enter__(self) -> Lease:
        told = False
        while not self._take():
            if not told:
                told = True
                self._waiting()
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.update_meta(self._key, lambda old: None if old and old["holder"] == self._holder else old)

    def renew(self) -> None:
        """Prolongs the lease; cheap when it was done a moment ago. Raises SettingsError when it was lost."""
        if time.monotonic() - self._renewed_s > self.LIFETIME_S / 3 and not self._take():
            raise SettingsError("Another process took over; this one stops.")

    def _take(self) -> bool:
        def change(old: Any | None) -> Any:
            now = time.time()
            if old is not None and old["holder"] != self._holder and old["until_s"] > now and not _is_dead(old):
                return old
            return {
                "holder": self._holder,
                "until_s": now + self.LIFETIME_S,
                "host": socket.gethostname(),
                "pid": os.getpid(),
            }

        self._renewed_s = time.monotonic()
        return bool(self._store.update_meta(self._key, change)["holder"] == self._holder)


def _is_dead(record: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended. The work itself bears two holders (ledger)."""
    if record.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(record["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError):
        return False
    return False
