"""The composition of the FHIR core: the one module that names concrete stores.

store = open_store("sqlite:///var/hestia.db")
server = create_server(Settings(base_url=...), store, terminology=Local, units=ucum.canonical)
application = create_app(server)                                      # WSGI
"""

from __future__ import annotations

import base64
import dataclasses
import gc
from collections.abc import Callable
from typing import Any, TextIO

from fhir_server import registries
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.context import Server, Settings, clock, new_id
from fhir_server.interceptors import Interceptors
from fhir_server.rest.bearer import Gate
from fhir_server.rest.wsgi import FhirApplication, Wsgi
from fhir_server.sealing import Sealer
from fhir_server.search import cursor
from fhir_server.search.extract import Extractor
from fhir_server.search.registry import builtin
from fhir_server.search.settings import CanonicalUnit
from fhir_server.search.settings import Settings as SearchSettings
from fhir_server.storage.protocol import Store
from fhir_server.stored_terminology import StoredTerminology
from fhir_server.unique import unique_identifiers

_SQLITE = "sqlite:///"
_SECRETS = "secrets"


def open_store(uri: str) -> Store:
    """The store that a URI names: ``sqlite:///relative``, ``sqlite:////absolute`` or ``mongodb://...``. Raises
    ValueError.
    """
    if uri.startswith(_SQLITE):
        from fhir_server.storage import sqlite

        return sqlite.open_store(uri.removeprefix(_SQLITE))
    if uri.startswith(("mongodb://", "mongodb+srv://")):
        from fhir_server.storage import mongo

        return mongo.open_store(uri)
    raise ValueError("A store is sqlite:///relative, sqlite:////absolute or a mongodb:// URI.")


def create_server(
    settings: Settings,
    store: Store,
    *,
    terminology: Callable[[StoredTerminology], Any] | None = None,
    units: Callable[[str], CanonicalUnit | None] | None = None,
    interceptors: Interceptors | None = None,
    sealer: Sealer | None = None,
    clock: Callable[[], int] = clock,
    new_id: Callable[[], str] = new_id,
) -> Server:
    """The core over a store, for one process and thread.

    `terminology` makes a terminology from the code systems, value sets and concept maps that are stored; without it
    codes of no system are known. `units`: UCUM code to its canonical form. `sealer` encrypts resident numbers; compare
    its keys with the store's first (`sealing.check_key`). `clock` (microseconds since 1970) and
    `new_id` are fixed in tests.
    """
    stored = StoredTerminology()
    search = SearchSettings(
        base_urls=(settings.base_url, *settings.base_aliases),
        timezone=settings.timezone,
        now=clock,
        terminology=terminology(stored) if terminology is not None else None,
        units=units,
        sealing=sealer,
        fulltext=settings.fulltext,
        chain_limit=settings.chain_limit,
        default_count=settings.default_count,
        max_count=settings.max_count,
    )
    registry = builtin()
    hooks = interceptors or Interceptors(claims=unique_identifiers(settings.unique_identifiers))
    if sealer is not None:
        hooks = dataclasses.replace(hooks, claims=sealer.spread_claims(hooks.claims))
    server = Server(
        settings=settings,
        store=store,
        registry=registry,
        extractor=Extractor(registry, search),
        interceptors=hooks,
        cursor_key=_cursor_key(store),
        sealer=sealer,
        clock=clock,
        new_id=new_id,
        started=clock(),
    )
    stored.server = server
    registries.load(server)
    return server


def _cursor_key(store: Store) -> bytes:
    """The key of page tokens, made once per store and kept in it, so that all workers share it."""
    secrets = store.get_meta(_SECRETS)
    if secrets is None or "cursor" not in secrets:

        def add(old: Any) -> Any:
            made = dict(old or {})
            made.setdefault("cursor", base64.b64encode(cursor.new_key()).decode("ascii"))
            return made

        secrets = store.update_meta(_SECRETS, add)
    return base64.b64decode(secrets["cursor"])


_collector_tuned = False


def _tune_collector() -> None:
    """Lets the garbage collector look less often: parsed resources are many containers without cycles.

    With the default thresholds a load spends a fifth of its time looking at them. What was made at start (definitions,
    registry) is never looked at again. Once per process.
    """
    global _collector_tuned
    if not _collector_tuned:
        _collector_tuned = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)


def create_app(
    server: Server | Callable[[], Server],
    fallback: Wsgi | None = None,
    *,
    gate: Gate | None = None,
    policy: Policy = EVERYTHING,
    auth_off: bool = False,
    log: TextIO | None = None,
) -> FhirApplication:
    """The WSGI application: FHIR under /fhir, the pages that people look at (or `fallback`) everywhere else.

    `gate` asks every request for an access token; without it `policy` holds for all. `auth_off`: say so in every
    answer.
    """
    _tune_collector()
    if fallback is None:
        from fhir_server.rest.pages import create_pages

        fallback = create_pages(server if callable(server) else (lambda: server)).wsgi_app
    return FhirApplication(server, fallback, gate=gate, policy=policy, auth_off=auth_off, log=log)
