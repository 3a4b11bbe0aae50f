"""Storage in MongoDB."""

from fhir_server.storage.mongo.store import MongoStore, open_store

__all__ = ["MongoStore", "open_store"]
