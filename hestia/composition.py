"""From settings to a running server: opens the store, checks what it records about itself, builds the core.

The store records schema, extraction version, time zone and base URL. What does not fit is migrated forward, or refused with a message
that says what to do; a newer schema is always refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fhir_server.app import create_server, open_store
from fhir_server.context import Server
from fhir_server.context import Settings as CoreSettings
from fhir_server.search.extract import EXTRACTION_VERSION
from fhir_server.storage.protocol import Store
from hestia import __version__
from hestia.settings import Settings, SettingsError, sqlite_path
from terminology import ucum
from terminology import Local, ucum

SCHEMA = 1
"""Form of the store's own records; stores of a higher one are refused."""


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
    )


def connect(uri: str, *, create: bool = True) -> Store:
    """The store that a HESTIA_STORE value names; a missing directory of an embedded store is made."""
    path = sqlite_path(uri)
    if path is not None:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.is_file():
            raise SettingsError(f"There is no database at {path}.")
    return open_store(uri)


def identify(store: Store, settings: Settings) -> list[str]:
    """Records what this store is at its first use, and checks it later. Returns what has to be told to the operator.

    Raises SettingsError when the store was written by a newer version.
    """
    wanted = {"base_url": settings.base_url, "timezone": settings.timezone, "fulltext": settings.fulltext}
    notes: list[str] = []

    def change(old: Any | None) -> Any:
        notes.clear()
        if old is None:
            return {
                "id": str(uuid.uuid4()),
                "schema": SCHEMA,
                "extraction": EXTRACTION_VERSION,
                "aliases": list(settings.base_aliases),
                "reindex": False,
                **wanted,
            }
        if old["schema"] > SCHEMA or old["extraction"] > EXTRACTION_VERSION:
            raise SettingsError("This store was written by a newer version of Hestia. Run that version, or a later one.")
        new = {**old, "schema": SCHEMA}
        if old["base_url"] != settings.base_url:
            aliases = [alias for alias in (*old["aliases"], old["base_url"]) if alias != settings.base_url]
            new["aliases"] = sorted({*aliases, *settings.base_aliases})
            new["base_url"] = settings.base_url
            notes.append("HESTIA_BASE_URL changed; the old base stays an alias. References by the new base that were stored "
                         "before need `hestia reindex`.")  # fmt: skip
        else:
            new["aliases"] = sorted({*old["aliases"], *settings.base_aliases})
        differs = [name for name in ("timezone", "fulltext") if old[name] != wanted[name]]
        if old["extraction"] < EXTRACTION_VERSION:
            differs.append("extraction")
        if differs and not (differs == ["fulltext"] and not settings.fulltext):
            new["reindex"] = True
        new.update(timezone=settings.timezone, fulltext=settings.fulltext, extraction=EXTRACTION_VERSION)
        if new["reindex"]:
            notes.append("The index was made with other settings or by an older version; it is made anew now.")
        return new

    store.update_meta("identity", change)
    return notes


def make_server(settings: Settings, store: Store | None = None) -> Server:
    """The core over its store, for this process and thread."""
    store = store or connect(settings.store)
    identity = store.get_meta("identity")
    core = core_settings(settings)
    if identity is not None:
        aliases = tuple(sorted({*core.base_aliases, *identity["aliases"]}))
        core = CoreSettings(**{**{name: getattr(core, name) for name in core.__dataclass_fields__}, "base_aliases": aliases})
    return create_server(core, store, terminology=Local, units=ucum.canonical)


@contextmanager
def opened(settings: Settings) -> Iterator[Server]:
    """A server for a command: identified, and closed at the end."""
    store = connect(settings.store)
    try:
        for note in identify(store, settings):
            print(note)
        yield make_server(settings, store)
    finally:
        store.close()


class Lease:
    """A lock kept in the store, so that only one process on any machine does a thing; it runs out when its holder dies.

    Shape: the record ``lease/<name>`` holds `holder` and `until_s` (seconds since 1970). `renew` is called by the work as it goes on.
    """

    LIFETIME_S = 30.0

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._key, self._holder = store, f"lease/{name}", str(uuid.uuid4())
        self._renewed_s = 0.0

    def __enter__(self) -> Lease:
        while not self._take():
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
            if old is not None and old["holder"] != self._holder and old["until_s"] > now:
                return old
            return {"holder": self._holder, "until_s": now + self.LIFETIME_S}

        self._renewed_s = time.monotonic()
        return bool(self._store.update_meta(self._key, change)["holder"] == self._holder)
