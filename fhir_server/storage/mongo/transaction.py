"""One transaction: a reader of its own snapshot, and the writes that are committed with it, each kind in one
command."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from fhir_server.errors import Conflict, Duplicate
from fhir_server.storage.mongo import indexes, layout
from fhir_server.storage.mongo.connection import is_duplicate
from fhir_server.storage.mongo.documents import Claim
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.mongo.reader import Reader
from fhir_server.storage.writes import Stored, Version

NOT_SUCCESSOR = "The version to be written is not the successor of the current one."


class Again(Exception):
    """Somebody else was faster: the transaction is run again on a newer snapshot."""


class MarkerLost(Again):
    """The open-write marker was reaped: the transaction took longer than its lease, and may not commit."""


@dataclass(slots=True)
class Marker:
    """The open-write marker of a transaction: below `opened_ms`, by the database's clock, it commits nothing.

    `sent` and `acknowledged` are of the local monotonic clock, in seconds, around the command that wrote it. The
    database read its clock between the two, so that `opened_ms` plus what passed since `sent` is never behind the
    database's clock.
    """

    token: str
    opened_ms: int
    sent: float
    acknowledged: float

    def now_ms(self) -> int:
        """The database's clock or a little later, in milliseconds."""
        return self.opened_ms + int((time.monotonic() - self.sent) * 1000) + 1

    def surely_ms(self) -> float:
        """The database's clock or a little earlier."""
        return self.opened_ms + (time.monotonic() - self.acknowledged) * 1000


class MongoTransaction(Reader):
    """See protocol.Transaction. Made and committed by `MongoStore.transact`."""

    def __init__(self, database: Database[Raw], session: ClientSession, marker: Marker | None, chance: int) -> None:
        self._db = database
        self._session = session
        self._marker = marker
        self._chance = chance
        self._place = 0
        self._now = marker.now_ms() if marker else int(time.time() * 1000)
        self._known: dict[str, Raw | None] = {}
        self._locks: dict[str, None] = {}
        self._sent_locks: set[str] = set()
        self.latest = 0
        """The greatest `updated` appended, in microseconds."""
        self.broken: Exception | None = None
        """An error after which the database has given the transaction up, whatever `work` makes of it."""

    @property
    def _database(self) -> Database[Raw]:
        return self._db

    # -- reading -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _edge(self) -> Iterator[None]:
        """Driver errors reach `MongoStore.transact` as they are: it decides whether to run again."""
        try:
            yield
        except PyMongoError as error:
            self.broken = error
            raise

    def _before(self) -> None:
        if self._locks:
            self._send_locks()

    def _read_one(self, address: str) -> Raw | None:
        raw = self._collection(indexes.RESOURCES).find_one({"_id": address}, layout.KEPT, session=self._session)
        self._known[address] = raw
        return raw

    def _read_all(self, addresses: Sequence[str]) -> list[Raw]:
        raws = list(
            self._collection(indexes.RESOURCES).find(
                {"_id": {"$in": list(addresses)}}, layout.KEPT, session=self._session, batch_size=len(addresses) + 1
            )
        )
        self._known.update(dict.fromkeys(addresses))
        self._known.update((raw["_id"], raw) for raw in raws)
        return raws

    def read(self, type: str, id: str) -> Stored | None:
        """See Reader.read; what this transaction read or wrote itself is answered without a command."""
        address = f"{type}/{id}"
        if address in self._known:
            raw = self._known[address]
            return None if raw is None else layout.stored(raw)
        return super().read(type, id)

    def read_many(self, addresses: Sequence[str]) -> dict[str, Stored]:
        """See Reader.read_many; only what is not known yet is asked."""
        unknown = [address for address in addresses if address not in self._known]
        if unknown:
            super().read_many(unknown)
        found = {}
        for address in addresses:
            raw = self._known.get(address)
            if raw is not None and "version" in raw:
                found[address] = layout.stored(raw)
        return found

    # -- writing -------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """See Transaction.now."""
        return self._now * 1000

    def lock(self, criteria: str) -> None:
        """See Transaction.lock. Locks are sent together, before the next command."""
        token = hashlib.sha256(criteria.encode(errors="surrogatepass")).hexdigest()
        if token not in self._sent_locks:
            self._locks[token] = None

    def _send_locks(self) -> None:
        tokens = sorted(self._locks)
        self._locks.clear()
        self._sent_locks.update(tokens)
        touched = {"$inc": {"n": 1}, "$currentDate": {"at": True}}
        updates = [UpdateOne({"_id": token}, touched, upsert=True) for token in tokens]
        self._write_or_again(lambda: self._collection(indexes.LOCKS).bulk_write(updates, session=self._session))

    def append(self, versions: Sequence[Version]) -> None:
        """See Transaction.append."""
        pending: dict[str, Version] = {}
        for version in versions:
            if version.address in pending:  # its predecessor has to be stored first
                self._append(list(pending.values()))
                pending.clear()
            pending[version.address] = version
        if pending:
            self._append(list(pending.values()))

    def _append(self, versions: list[Version]) -> None:
        for version in versions:
            layout.check_size(version)
            if version.body is None and version.claims:
                raise ValueError("A deletion holds no claims.")
        self._before()
        unread = [one.address for one in versions if one.version != 1 and one.address not in self._known]
        if unread:
            self._read_all(unread)
        history: list[Raw] = []
        for version in versions:
            known = self._known.get(version.address)
            if version.version != (known["version"] if known else 0) + 1:
                raise Conflict(NOT_SUCCESSOR)
            if known is not None:
                if version.updated <= known["updated"]:
                    raise ValueError("A version's time must be greater than its predecessor's.")
                history.append(layout.superseded(known, version.updated))
            self.latest = max(self.latest, version.updated)
        self._put(versions, history)

    def _put(self, versions: list[Version], history: list[Raw]) -> None:
        """Makes `versions` current: one per address, what is there already is known. `history` is what they
        supersede."""
        created: list[Raw] = []
        replaced: list[tuple[int, Raw]] = []
        inner_gone: list[str] = []
        inner_new: list[Raw] = []
        released: list[str] = []
        held: dict[str, str] = {}
        claimed: dict[str, str] = {}
        for version in versions:
            known = self._known.get(version.address)
            if known is None:
                s = self._next_s()
                raw = layout.resource_document(version, s)
                created.append(raw)
            else:
                s = known["s"]
                raw = layout.resource_document(version, s)
                replaced.append((known["version"], raw))
                inner_gone.extend(known.get("inside", ()))
                released.extend(known.get("claims", ()))
                held.update(dict.fromkeys(known.get("claims", ()), version.address))
            inner_new.extend(layout.inner_documents(version, s))
            for claim in raw.get("claims", ()):
                if claimed.setdefault(claim, version.address) != version.address:
                    raise self._break(Duplicate("Two resources of this write hold the same unique key."))
        self._write_resources(created, replaced, history, inner_gone, inner_new)
        self._write_claims(
            [claim for claim in released if claimed.get(claim) != held[claim]],
            {claim: address for claim, address in claimed.items() if held.get(claim) != address},
        )
        for raw in created:
            self._known[raw["_id"]] = raw
        for _, raw in replaced:
            self._known[raw["_id"]] = raw

    def _next_s(self) -> int:
        s = layout.creation_key(self._now, self._place, self._chance)
        self._place += 1
        return s

    def _write_resources(
        self,
        created: list[Raw],
        replaced: list[tuple[int, Raw]],
        history: list[Raw],
        inner_gone: list[str],
        inner_new: list[Raw],
    ) -> None:
        resources = self._collection(indexes.RESOURCES)
        if replaced:
            updates = [ReplaceOne({"_id": raw["_id"], "version": number}, raw) for number, raw in replaced]
            result = self._write(lambda: resources.bulk_write(updates, session=self._session))
            if result.matched_count != len(updates):
                raise Conflict(NOT_SUCCESSOR)
        if history:
            self._write_or_again(lambda: self._collection(indexes.HISTORY).insert_many(history, session=self._session))
        if inner_gone:
            self._write(lambda: resources.delete_many({"_id": {"$in": inner_gone}}, session=self._session))
        if created or inner_new:
            try:
                self._write(lambda: resources.insert_many([*created, *inner_new], session=self._session))
            except PyMongoError as error:
                if is_duplicate(error):
                    if all(raw["_id"] in self._known for raw in created):
                        raise Again from error  # it was absent in this snapshot: somebody created it meanwhile
                    raise Conflict(NOT_SUCCESSOR) from error
                raise

    def _write_claims(self, released: list[str], claimed: dict[str, str]) -> None:
        claims = self._collection(indexes.CLAIMS)
        if released:
            self._write(lambda: claims.delete_many({"_id": {"$in": released}}, session=self._session))
        if claimed:
            documents = [Claim(claim=claim, address=address).dump() for claim, address in claimed.items()]
            try:
                self._write(lambda: claims.insert_many(documents, session=self._session))
            except PyMongoError as error:
                if is_duplicate(error):
                    raise self._break(
                        Duplicate("A unique key of this resource is already held by another resource.")
                    ) from error
                raise

    def reindex(self, versions: Sequence[Version]) -> int:
        """See Store.reindex."""
        self._read_all([one.address for one in versions])
        still: list[tuple[Version, Raw]] = []
        for version in versions:
            known = self._known.get(version.address)
            if known is not None and known["version"] == version.version and "body" in known:
                still.append((version, known))
        if not still:
            return 0
        updates: list[UpdateOne] = []
        gone: list[str] = []
        new: list[Raw] = []
        released: list[str] = []
        claimed: dict[str, str] = {}
        held: dict[str, str] = {}
        for version, known in still:
            members = layout.index_members(version, known["s"])
            absent = {name: "" for name in layout.INDEX_MEMBERS if name not in members}
            change: dict[str, Any] = {"$set": {"registry": version.registry, **members}}
            if absent:
                change["$unset"] = absent
            updates.append(UpdateOne({"_id": version.address, "version": version.version}, change))
            gone.extend(known.get("inside", ()))
            new.extend(layout.inner_documents(version, known["s"]))
            released.extend(known.get("claims", ()))
            held.update(dict.fromkeys(known.get("claims", ()), version.address))
            for claim in members.get("claims", ()):
                if claimed.setdefault(claim, version.address) != version.address:
                    raise Duplicate("Two resources hold the same unique key.")
            known.update(members)
        resources = self._collection(indexes.RESOURCES)
        self._write(lambda: resources.bulk_write(updates, session=self._session))
        if gone:
            self._write(lambda: resources.delete_many({"_id": {"$in": gone}}, session=self._session))
        if new:
            self._write_or_again(lambda: resources.insert_many(new, session=self._session))
        self._write_claims(
            [claim for claim in released if claimed.get(claim) != held[claim]],
            {claim: address for claim, address in claimed.items() if held.get(claim) != address},
        )
        return len(still)

    def import_versions(self, versions: Sequence[Version]) -> None:
        """See Store.import_versions. Versions that are not above the current one are here already and are passed
        over."""
        runs: dict[str, list[Version]] = {}
        for version in versions:
            layout.check_size(version)
            runs.setdefault(version.address, []).append(version)
        if not runs:
            return
        self._read_all(list(runs))
        history: list[Raw] = []
        latest: list[Version] = []
        for address, run in runs.items():
            known = self._known.get(address)
            run = [one for one in run if known is None or one.version > known["version"]]
            new = sorted(run, key=lambda one: one.version)
            if not new:
                continue
            if known is not None:
                history.append(layout.superseded(known, new[0].updated))
            history.extend(
                layout.superseded(layout.resource_document(one, 0), successor.updated)
                for one, successor in pairwise(new)
            )
            latest.append(new[-1])
        if history:
            self._write_or_again(lambda: self._collection(indexes.HISTORY).insert_many(history, session=self._session))
        self._put(latest, [])

    def put_meta(self, key: str, value: Any) -> None:
        """See Transaction.put_meta."""
        self._before()
        self._write(
            lambda: self._collection(indexes.META).update_one(
                {"_id": key},
                {"$set": {"value": json.dumps(value)}, "$inc": {"revision": 1}},
                upsert=True,
                session=self._session,
            )
        )

    def remove_meta(self, keys: Sequence[str]) -> int:
        """See Transaction.remove_meta."""
        if not keys:
            return 0
        self._before()
        removed = self._write(
            lambda: self._collection(indexes.META).delete_many({"_id": {"$in": list(keys)}}, session=self._session)
        )
        return int(removed.deleted_count)

    # -- the end -------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What is sent before the commit. Raises: MarkerLost, and what had broken the transaction."""
        if self.broken is not None:
            raise self.broken
        self._before()
        if self._marker is not None:
            gone = self._collection(indexes.OPEN_WRITES).delete_one({"_id": self._marker.token}, session=self._session)
            if gone.deleted_count != 1:
                raise MarkerLost

    def _write(self, command: Any) -> Any:
        try:
            return command()
        except PyMongoError as error:
            self.broken = error
            raise

    def _write_or_again(self, command: Any) -> None:
        """For documents that only a concurrent transaction can have written before."""
        try:
            self._write(command)
        except PyMongoError as error:
            if is_duplicate(error):
                raise Again from error
            raise

    def _break(self, error: Exception) -> Exception:
        self.broken = error
        return error
