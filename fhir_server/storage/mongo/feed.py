"""The change feed: a change stream on `resources`, in the order of commits.

A position is the identity of this database and the stream's resume token. The identity is drawn when a database is made
or restored, so that a position from elsewhere is known as such before the server is asked.
"""

from __future__ import annotations

import time
from typing import Any

from pymongo.change_stream import CollectionChangeStream
from pymongo.database import Database
from pymongo.errors import OperationFailure

from fhir_server.errors import PositionLost
from fhir_server.storage.mongo import indexes
from fhir_server.storage.mongo.compile import INSIDE
from fhir_server.storage.mongo.connection import POSITION_LOST
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.protocol import Change

_WANTED = ("type", "id", "version", "updated", "method")

_PIPELINE: list[dict[str, Any]] = [
    # Reindexing sets members, which is an "update"; a new version inserts or replaces.
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}, "fullDocument.state": {"$ne": INSIDE}},
                {"operationType": {"$in": ["drop", "rename", "dropDatabase", "invalidate"]}},
            ]
        }
    },
    {"$project": {"operationType": 1, **{f"fullDocument.{name}": 1 for name in _WANTED}}},
]


class Feed:
    """The stream of one store, kept open between calls that continue each other."""

    def __init__(self, database: Database[Raw], identity: str) -> None:
        self._resources = database[indexes.RESOURCES]
        self._identity = identity
        self._stream: CollectionChangeStream[Raw] | None = None
        self._position = ""

    def position(self) -> str:
        """See Store.feed_position."""
        with self._resources.watch(_PIPELINE, max_await_time_ms=1) as stream:
            token = stream.resume_token
            while token is None:
                stream.try_next()
                token = stream.resume_token
            return self._name(token)

    def read(self, after: str, limit: int, wait_s: float) -> list[Change]:
        """See Store.feed."""
        token = self._token(after)
        changes: list[Change] = []
        deadline = time.monotonic() + wait_s
        try:
            if self._stream is None or self._position != after:
                self.close()
                self._stream = self._resources.watch(
                    _PIPELINE, resume_after=token, batch_size=min(max(limit, 1), 1000), max_await_time_ms=50
                )
                self._position = after
            while len(changes) < limit:
                event = self._stream.try_next()
                if event is None:
                    if changes or time.monotonic() >= deadline:
                        break
                    continue
                if "fullDocument" not in event:
                    raise PositionLost("The collection of resources was dropped or renamed.")
                self._position = self._name(event["_id"])
                changes.append(Change(self._position, *(event["fullDocument"][name] for name in _WANTED)))
        except OperationFailure as error:
            self.close()
            if error.code in POSITION_LOST or error.has_error_label("NonResumableChangeStreamError"):
                raise PositionLost("The change stream cannot be continued from this position.") from error
            raise
        except BaseException:
            self.close()
            raise
        return changes

    def close(self) -> None:
        """Closes the stream; the next call opens another."""
        stream, self._stream, self._position = self._stream, None, ""
        if stream is not None:
            stream.close()

    def _name(self, token: Any) -> str:
        return f"{self._identity}.{token['_data']}"

    def _token(self, position: str) -> dict[str, str]:
        identity, dot, data = position.partition(".")
        if not dot or identity != self._identity or not data:
            raise PositionLost("This position belongs to another database.")
        return {"_data": data}
