"""The embedded store: SQLite in WAL mode. `open_store` is the door; the rest is its own."""

from fhir_server.storage.sqlite.connection import UnusableStore
from fhir_server.storage.sqlite.store import FEED_LENGTH, SqliteStore, open_store

__all__ = ["FEED_LENGTH", "SqliteStore", "UnusableStore", "open_store"]
