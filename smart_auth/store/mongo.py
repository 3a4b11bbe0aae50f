"""Records on MongoDB, by mongoengine, in the database of the FHIR resources.

An atomic change is a compare-and-set on the revision of the document, so it needs no transaction; one that takes turns
with changes of other records counts up the revision of the turn as well, both in one transaction. What expires is
removed by TTL indexes, up to a minute late; until then it is skipped when read.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from mongoengine import NotUniqueError, QuerySet
from mongoengine.connection import disconnect, get_db, register_connection
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
)
from pymongo.uri_parser import parse_uri

from smart_auth.context import now
from smart_auth.records import KINDS, Record
from smart_auth.store.documents import DOCUMENTS, HitDocument, LayoutDocument
from smart_auth.store.protocol import StoreBusy, Taken
from smart_auth.store.rows import R, Remembered, check_fields, columns, decode, encode, expired, table

DEFAULT_DATABASE: Final = "hestia"
EPOCH: Final = datetime(1970, 1, 1)
CONFLICTS: Final = frozenset({24, 112, 225, 244, 246, 251, 263})
"""LockTimeout, WriteConflict and the like: the transaction is run again. mongod labels them TransientTransactionError;
other servers that speak the protocol do not always."""

_aliases = itertools.count()
_connecting = threading.Lock()
"""mongoengine keeps its connections in plain dicts."""


class UnusableStore(Exception):
    """The URI cannot be read; for operators, never for the wire."""


def open_store(
    uri: str,
    *,
    database: str | None = None,
    clock: Callable[[], int] = now,
    busy_timeout_s: float = 10.0,
    timeout_s: float = 10.0,
) -> MongoAuthStore:
    """The records in a MongoDB database; makes collections and indexes.

    `database`: its name; else the one in the URI, else "hestia". `busy_timeout_s`: how long a change is tried again.
    `timeout_s`: how long a server is looked for.

    Raises: UnusableStore, StoreBusy (no server answers).
    """
    try:
        named = parse_uri(uri).get("database")
    except (ConfigurationError, InvalidURI):  # its text may repeat the password
        raise UnusableStore("The URI of the MongoDB store cannot be read.") from None
    store = MongoAuthStore(uri, database or named or DEFAULT_DATABASE, clock, busy_timeout_s, timeout_s)
    try:
        store.prepare()
    except BaseException:
        store.close()
        raise
    return store


class MongoAuthStore:
    """See store/protocol.AuthStore. It connects again by itself in a process that was forked."""

    def __init__(
        self, uri: str, database: str, clock: Callable[[], int], busy_timeout_s: float, timeout_s: float
    ) -> None:
        self._uri = uri
        self._name = database
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._timeout_s = timeout_s
        self._alias: str | None = None
        self._pid = 0
        self._collections: dict[str, Any] = {}
        self._together = Remembered()

    def _open(self) -> None:
        """Connects this process: a connection made before a fork is left to the parent."""
        self._pid = os.getpid()
        alias = f"hestia-accounts-{self._pid}-{next(_aliases)}"
        with _connecting:
            register_connection(
                alias,
                host=self._uri,
                uuidRepresentation="standard",
                # The process id keeps a forked child from sharing the connection of its parent.
                appname=f"hestia accounts {self._pid}",
                w="majority",
                journal=True,
                readConcernLevel="majority",
                retryWrites=True,
                serverSelectionTimeoutMS=int(self._timeout_s * 1000),
                maxPoolSize=8,
            )
            database = get_db(alias).client[self._name]
        self._alias = alias
        names = [*(table(kind) for kind in KINDS), "auth_hit", "auth_layout", "auth_turn"]
        self._collections = {name: database[name] for name in names}

    def _objects(self, kind: type[Record], **equal: Any) -> QuerySet:
        if self._pid != os.getpid():
            self._open()
        return QuerySet(DOCUMENTS[kind], self._collections[table(kind)])(**equal)

    def prepare(self) -> None:
        """Makes the indexes that the documents declare. Raises StoreBusy."""
        if self._pid != os.getpid():
            self._open()
        with _edge():
            documents: list[Any] = [*DOCUMENTS.values(), HitDocument]
            for document in documents:
                collection = self._collections[document._meta["collection"]]
                for specification in document._meta["index_specs"]:
                    options = {name: value for name, value in specification.items() if name not in ("fields", "cls")}
                    collection.create_index(specification["fields"], **options)
        for kind in KINDS:
            self._fill(kind)

    def _fill(self, kind: type[Record]) -> None:
        """Writes the fields beside the text again, where a version did that searched for others."""
        with _edge():
            layouts = QuerySet(LayoutDocument, self._collections["auth_layout"])(id=kind.KIND)
            layout = layouts.first()
            names = list(columns(kind))
            if layout is not None and layout.fields_beside == names:
                return
            if layout is not None:
                for document in self._objects(kind).only("id"):
                    self.change(kind, document.id, lambda found: found)
            layouts.update_one(upsert=True, set__fields_beside=names)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, kind: type[R], id: str) -> R | None:
        """See AuthStore.get."""
        found = self._read(kind, id)
        return None if found is None else found[0]

    def together(self, *wanted: tuple[type[Record], str]) -> tuple[Record | None, ...]:
        """See AuthStore.together. One command; what it gives is read only when it is other than before."""
        if self._pid != os.getpid():
            self._open()
        first, *others = [
            [{"$match": {"_id": id}}, {"$project": {"body": 1, "place": {"$literal": place}}}]
            for place, (_, id) in enumerate(wanted)
        ]
        names = [table(kind) for kind, _ in wanted]
        unions = [{"$unionWith": {"coll": name, "pipeline": one}} for name, one in zip(names[1:], others, strict=True)]
        bodies: list[bytes | None] = [None] * len(wanted)
        with _edge():
            for raw in self._collections[names[0]].aggregate([*first, *unions]):
                bodies[raw["place"]] = raw["body"]
        return self._together.read(wanted, tuple(bodies)).at(self._clock())

    def _read(self, kind: type[R], id: str) -> tuple[R, int] | None:
        if self._pid != os.getpid():
            self._open()
        with _edge():
            # Without a document object: this is on the path of every request that brings a token.
            raw = self._collections[table(kind)].find_one({"_id": id}, {"body": 1, "revision": 1})
        if raw is None:
            return None
        record = decode(kind, raw["body"])
        return None if expired(record, self._clock()) else (record, raw["revision"])

    def _alive(self, kind: type[R], document: Any) -> R | None:
        if document is None:
            return None
        record = decode(kind, document.body)
        return None if expired(record, self._clock()) else record

    def find(self, kind: type[R], **equal: Any) -> list[R]:
        """See AuthStore.find."""
        check_fields(kind, equal)
        return self._list(kind, self._objects(kind, **equal).order_by("created_at", "id"))

    def count(self, kind: type[R], **equal: Any) -> int:
        """See AuthStore.count."""
        check_fields(kind, equal)
        with _edge():
            objects = self._objects(kind, **equal)
            total: int = objects.count()
            late: int = objects.filter(expires_at__lte=_date(self._clock())).count()
        return total - late

    def page(self, kind: type[R], *, after: str = "", limit: int = 100) -> list[R]:
        """See AuthStore.page."""
        found: list[R] = []
        while len(found) < limit:
            with _edge():
                documents = list(self._objects(kind, id__gt=after).order_by("id").limit(limit))
            if not documents:
                break
            found += [one for one in (self._alive(kind, document) for document in documents) if one is not None]
            after = documents[-1].id
        return found[:limit]

    def _list(self, kind: type[R], objects: QuerySet) -> list[R]:
        with _edge():
            return [one for one in (self._alive(kind, document) for document in objects) if one is not None]

    # -- writing -------------------------------------------------------------------------------------------------------

    def insert(self, record: Record) -> None:
        """See AuthStore.insert."""
        kind = type(record)
        document = DOCUMENTS[kind](
            id=record.id,
            body=encode(record).decode(),
            created_at=record.created_at,
            expires_at=_date(record.expires_at),
            **{name: getattr(record, name) for name in columns(kind)},
        )
        self._write(record, lambda: self._objects(kind).insert(document, load_bulk=False))

    def put(self, record: Record) -> None:
        """See AuthStore.put."""
        update = _update(record)
        self._write(
            record,
            lambda: self._objects(type(record), id=record.id).update_one(upsert=True, inc__revision=1, **update),
        )

    def change(self, kind: type[R], id: str, change: Callable[[R], R | None], *, turn: str = "") -> R | None:
        """See AuthStore.change. A turn is taken when its revision is still what it was before `change` read."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            taken = self._turn(turn) if turn else 0
            found = self._read(kind, id)
            if found is None:
                return None
            changed = change(found[0])
            if changed is None:
                return None
            assert changed.id == id, "A change keeps the id."
            objects, update = self._objects(kind, id=id, revision=found[1]), _update(changed)
            if turn:
                stored = self._write(changed, lambda: self._take_turn(turn, taken, changed, found[1]))  # noqa: B023
            else:
                stored = self._write(changed, lambda: objects.update_one(inc__revision=1, **update))  # noqa: B023
            if stored:
                return changed
            if time.monotonic() > deadline:
                raise StoreBusy("The record changes too fast.")
            time.sleep(random.uniform(0, 0.005))  # noqa: S311 - a pause, no secret

    def _turn(self, turn: str) -> int:
        """The revision of a turn, which is made when it is absent: inside the transaction that would be a conflict."""
        if self._pid != os.getpid():
            self._open()
        turns = self._collections["auth_turn"]
        with _edge():
            while True:
                found = turns.find_one({"_id": turn})
                if found is not None:
                    revision: int = found["revision"]
                    return revision
                try:
                    turns.insert_one({"_id": turn, "revision": 1})
                except DuplicateKeyError:
                    pass  # another was faster; it is there now

    def _take_turn(self, turn: str, taken: int, record: Record, revision: int) -> bool:
        """Counts up a turn and writes a record over its document in one transaction; False when another did either
        since the revisions were read, or is just doing it.
        """
        turns, records = self._collections["auth_turn"], self._collections[table(type(record))]
        with turns.database.client.start_session() as session:
            try:
                with session.start_transaction():
                    if (
                        turns.update_one({"_id": turn, "revision": taken}, _COUNT, session=session).matched_count
                        and records.update_one(
                            {"_id": record.id, "revision": revision}, _raw_update(record) | _COUNT, session=session
                        ).matched_count
                    ):
                        return True  # commits
                    session.abort_transaction()
                    return False
            except OperationFailure as error:
                if error.has_error_label("TransientTransactionError") or error.code in CONFLICTS:
                    return False
                raise

    def take(self, kind: type[R], id: str) -> R | None:
        """See AuthStore.take."""
        with _edge():
            return self._alive(kind, self._objects(kind, id=id).modify(remove=True))

    def delete(self, kind: type[Record], id: str) -> bool:
        """See AuthStore.delete."""
        return self.take(kind, id) is not None

    def hit(self, key: str, window_s: int) -> int:
        """See AuthStore.hit."""
        if self._pid != os.getpid():
            self._open()
        moment = self._clock()
        start = moment - moment % window_s
        id, collection = f"{window_s}|{start}|{key}", self._collections["auth_hit"]
        first = HitDocument(id=id, count=1, expires_at=_date(start + window_s))
        with _edge():
            while True:
                counted = QuerySet(HitDocument, collection)(id=id).modify(new=True, inc__count=1)
                if counted is not None:
                    count: int = counted.count
                    return count
                try:
                    QuerySet(HitDocument, collection).insert(first, load_bulk=False)
                    return 1
                except NotUniqueError:
                    pass  # another was faster; it is there now

    def _write(self, record: Record, write: Callable[[], Any]) -> Any:
        """Raises Taken for a value that another record holds. One that has expired holds nothing: it only has not been
        removed yet.
        """
        with _edge():
            try:
                return write()
            except (NotUniqueError, DuplicateKeyError):
                self._objects(type(record), expires_at__lte=_date(self._clock())).delete()
            try:
                return write()
            except (NotUniqueError, DuplicateKeyError) as error:
                raise Taken(self._held(record)) from error

    def _held(self, record: Record) -> str:
        kind = type(record)
        for name in kind.UNIQUE:
            value = getattr(record, name)
            if value is not None and self._objects(kind, id__ne=record.id, **{name: value}).count():
                return name
        return "id"

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def purge(self) -> int:
        """See AuthStore.purge. The TTL indexes do the same, later."""
        late = {"expires_at__lte": _date(self._clock())}
        with _edge():
            removed: int = sum(self._objects(kind, **late).delete() for kind in KINDS)
            removed += QuerySet(HitDocument, self._collections["auth_hit"])(**late).delete()
        return removed

    def restore(self, records: Iterable[Record]) -> int:
        """See AuthStore.restore. One by one: run again, it completes what was interrupted."""
        count = 0
        for record in records:
            self.put(record)
            count += 1
        return count

    def close(self) -> None:
        """See AuthStore.close."""
        if self._alias is not None and self._pid == os.getpid():
            with _connecting:
                disconnect(self._alias)
        self._alias = None
        self._pid = 0


def _date(moment: int | None) -> datetime | None:
    return None if moment is None else EPOCH + timedelta(seconds=moment)


_COUNT: Final = {"$inc": {"revision": 1}}


def _values(record: Record) -> dict[str, Any]:
    return {
        "body": encode(record).decode(),
        "created_at": record.created_at,
        "expires_at": _date(record.expires_at),
        **{name: getattr(record, name) for name in columns(type(record))},
    }


def _update(record: Record) -> dict[str, Any]:
    """The update that writes a record over its document; a field without a value is removed, so that it is not in a
    unique index.
    """
    return {
        (f"unset__{name}" if value is None else f"set__{name}"): 1 if value is None else value
        for name, value in _values(record).items()
    }


def _raw_update(record: Record) -> dict[str, Any]:
    """The same in the words of the database."""
    values = _values(record)
    update = {
        "$set": {name: value for name, value in values.items() if value is not None},
        "$unset": {name: "" for name, value in values.items() if value is None},
    }
    return {operator: fields for operator, fields in update.items() if fields}


@contextmanager
def _edge() -> Iterator[None]:
    """Trouble with the server becomes StoreBusy here."""
    try:
        yield
    except (AutoReconnect, ConnectionFailure) as error:
        raise StoreBusy("The database does not answer.") from error
