"""Collections and indexes: what they are, what each serves, and the check at start that they are there.

`docs/storage-mongodb.md` draws the layout. Field names inside arrays are one letter, since they repeat in every entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import IndexModel
from pymongo.database import Database
from pymongo.errors import CollectionInvalid

LAYOUT = 1
"""Number of the layout below; a database with a higher one is refused."""

RESOURCES = "resources"
HISTORY = "history"
CLAIMS = "claims"
LOCKS = "locks"
META = "meta"
OPEN_WRITES = "open_writes"
STORE = "store"

LOCK_LIFETIME_S = 3600


class WrongIndexes(Exception):
    """The database holds an index of ours with other keys; it is not touched."""


@dataclass(frozen=True, slots=True)
class Index:
    """One declared index. `serves` is a sentence for the documentation."""

    name: str
    keys: tuple[tuple[str, int], ...]
    serves: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> IndexModel:
        return IndexModel(list(self.keys), name=self.name, **self.options)


INDEXES: dict[str, tuple[Index, ...]] = {
    RESOURCES: (
        Index("key", (("k", 1), ("type", 1), ("s", 1)), "tokens, strings, references, uris; in order of creation"),
        Index("range", (("r.k", 1), ("r.l", 1), ("r.h", 1)), "dates, numbers, quantities, composites, positions"),
        Index("listing", (("state", 1), ("type", 1), ("s", 1)), "all resources of a type in order of creation, counts"),
        Index("type_updated", (("type", 1), ("updated", -1), ("s", 1)), "`_lastUpdated`, `_sort=-_lastUpdated`"),
        Index("type_history", (("type", 1), ("updated", -1), ("_id", -1)), "history of a type"),
        Index("system_history", (("updated", -1), ("_id", -1)), "history of the system"),
        Index("registry", (("registry", 1), ("_id", 1)), "reindexing: what was extracted with an older registry"),
        Index("sort", (("o.$**", 1),), "`_sort` by a date"),
    ),
    HISTORY: (
        Index("type_history", (("type", 1), ("updated", -1), ("_id", -1)), "history of a type"),
        Index("system_history", (("updated", -1), ("_id", -1)), "history of the system"),
    ),
    CLAIMS: (),
    LOCKS: (
        Index("expiry", (("at", 1),), "criteria locks that nobody used go", {"expireAfterSeconds": LOCK_LIFETIME_S}),
    ),
    META: (),
    OPEN_WRITES: (),
    STORE: (),
}
"""`_id` is indexed everywhere: reads, versions of an instance (`history._id` starts with the address), claims."""


def leading(collection: str) -> dict[str, str]:
    """First field of each index of a collection -> a name of such an index."""
    found = {"_id": "_id_"}
    for index in INDEXES[collection]:
        found.setdefault(index.keys[0][0], index.name)
    return found


def ensure(database: Database[dict[str, Any]]) -> None:
    """Creates what is missing and checks what is there.

    Raises: WrongIndexes when an index of the same name has other keys.
    """
    present = set(database.list_collection_names())
    for collection, indexes in INDEXES.items():
        if collection not in present:
            try:
                # Explicitly, and not by the first write: a transaction would wait for the catalogue.
                database.create_collection(collection)
            except CollectionInvalid:
                pass  # another process was faster
        _refuse_others(database, collection, indexes)
        if indexes:
            database[collection].create_indexes([index.model() for index in indexes])
    problems = list(missing(database))
    if problems:
        raise WrongIndexes(" ".join(problems))


def missing(database: Database[dict[str, Any]]) -> list[str]:
    """A sentence for each declared index that the database does not hold as declared."""
    problems = []
    for collection, indexes in INDEXES.items():
        held = _held(database, collection)
        for index in indexes:
            if held.get(index.name) != list(index.keys):
                problems.append(f"Index {collection}.{index.name} is missing or has other keys.")
    return problems


def _refuse_others(database: Database[dict[str, Any]], collection: str, indexes: Sequence[Index]) -> None:
    held = _held(database, collection)
    for index in indexes:
        if held.get(index.name, list(index.keys)) != list(index.keys):
            raise WrongIndexes(
                f"Index {index.name} of collection {collection} has other keys than this version of Hestia needs;"
                " drop it, and it is built anew at the next start."
            )


def _held(database: Database[dict[str, Any]], collection: str) -> dict[str, list[tuple[str, int]]]:
    return {
        one["name"]: [(name, int(direction)) for name, direction in one["key"].items()]
        for one in database[collection].list_indexes()
    }
