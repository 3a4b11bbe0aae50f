"""Connecting: which servers are accepted, and what the driver's errors become.

Transactions need a replica set (or a sharded cluster); a standalone server would answer writes without atomicity, so it
is refused at start and nothing degrades.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from fhir_server import errors

MINIMUM_VERSION = (6, 0)

WRITE_CONFLICT = 112
NO_SUCH_TRANSACTION = 251
DUPLICATE_KEY = 11000
TRANSIENT = frozenset({24, 112, 225, 244, 246, 251, 263})
"""LockTimeout, WriteConflict, TransactionTooOld, TransactionAborted, SnapshotUnavailable, NoSuchTransaction, and an
operation in a transaction while a collection is being made: the transaction is run again. mongod labels them
TransientTransactionError; a bulk's own report, and other servers that speak the protocol, do not always."""
TOO_LARGE = frozenset({10334, 17280, 10003})
POSITION_LOST = frozenset({9, 14, 40, 50811, 260, 280, 286, 40576, 40585, 40647, 50792})
"""Resume tokens that are malformed, of another cluster, or fell out of the oplog. 136 is a capped position, below."""

STANDALONE = (
    "This MongoDB server is a standalone, which has no transactions. Make it a replica set of one node: start mongod"
    " with --replSet rs0 (or replication.replSetName: rs0 in mongod.conf), run once in mongosh:"
    " rs.initiate({_id: 'rs0', members: [{_id: 0, host: 'localhost:27017'}]})"
    ", and connect with mongodb://localhost:27017/?replicaSet=rs0"
)


class UnsuitableServer(Exception):
    """The server at the URI cannot hold a store; the message says what to do."""


def check_server(hello: Mapping[str, Any], build: Mapping[str, Any]) -> None:
    """Accepts a replica set or a sharded cluster of version 6.0 or later, from its `hello` and `buildInfo`.

    Raises: UnsuitableServer.
    """
    if not hello.get("setName") and hello.get("msg") != "isdbgrid":
        raise UnsuitableServer(STANDALONE)
    version = tuple(int(part) for part in build.get("versionArray", (0, 0))[:2])
    if version < MINIMUM_VERSION:
        raise UnsuitableServer(
            f"MongoDB {build.get('version', 'of an unknown version')} is too old: 6.0 or later is needed."
        )


def make_client(
    uri: str, *, timeout_s: float, listeners: list[Any] | None = None
) -> pymongo.MongoClient[dict[str, Any]]:
    """A client of this process. Everything that decides durability is said here and wins over the URI."""
    options: dict[str, Any] = {
        "appname": "hestia",
        "retryWrites": True,
        "retryReads": True,
        "w": "majority",
        "journal": True,
        "readConcernLevel": "majority",
        "readPreference": "primary",
        "tz_aware": False,
        "serverSelectionTimeoutMS": int(timeout_s * 1000),
        "maxPoolSize": 8,
    }
    if listeners:
        options["event_listeners"] = listeners
    return pymongo.MongoClient(uri, **options)


def is_transient(error: PyMongoError) -> bool:
    """True when the same transaction may succeed on another attempt."""
    if error.has_error_label("TransientTransactionError"):
        return True
    if isinstance(error, BulkWriteError):
        return bool(set(write_codes(error)) & TRANSIENT)
    return isinstance(error, OperationFailure) and error.code in TRANSIENT


def write_codes(error: BulkWriteError) -> list[int]:
    """Codes of the refused writes of a bulk."""
    return [int(one.get("code", 0)) for one in (error.details or {}).get("writeErrors", ())]


def is_duplicate(error: PyMongoError) -> bool:
    """True when a key that must be unique is taken."""
    if isinstance(error, BulkWriteError):
        return DUPLICATE_KEY in write_codes(error)
    return isinstance(error, OperationFailure) and error.code in (DUPLICATE_KEY, 11001, 12582)


@contextmanager
def edge() -> Iterator[None]:
    """Driver errors become ours here; what is neither load nor a conflict passes, and is logged as a fault."""
    try:
        yield
    except PyMongoError as error:
        ours = translated(error)
        if ours is None:
            raise
        raise ours from error


def translated(error: PyMongoError) -> errors.FhirError | None:
    """What `error` is called in ours; None when it is a fault."""
    if isinstance(error, DocumentTooLarge) or (isinstance(error, OperationFailure) and error.code in TOO_LARGE):
        return errors.TooLarge("The resource with its index entries is larger than the database holds.")
    if isinstance(error, BulkWriteError) and set(write_codes(error)) & TOO_LARGE:
        return errors.TooLarge("The resource with its index entries is larger than the database holds.")
    if isinstance(error, (ConnectionFailure, ServerSelectionTimeoutError)) or is_transient(error):
        return errors.Busy()
    if isinstance(error, OperationFailure) and error.code in (50, 89, 91, 189, 262, 10107, 11600, 11602, 13435, 13436):
        return errors.Busy()  # time limits, shutdown, change of primary
    return None
