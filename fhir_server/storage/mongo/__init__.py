"""Storage in MongoDB."""

from fhir_server.storage.mongo.connection import UnsuitableServer
from fhir_server.storage.mongo.indexes import WrongIndexes
from fhir_server.storage.mongo.store import MongoStore, open_store

__all__ = ["MongoStore", "UnsuitableServer", "WrongIndexes", "open_store"]
