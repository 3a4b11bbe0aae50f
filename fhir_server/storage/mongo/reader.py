"""Reading: what a store answers outside a transaction and a transaction inside.

Outside, reads are majority reads of the primary: what was acknowledged is seen, by every process. Inside, they belong
to the transaction's snapshot and see its own writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from fhir_server.search.ast import Search
from fhir_server.storage.mongo import indexes, layout
from fhir_server.storage.mongo.connection import edge
from fhir_server.storage.mongo.documents import MetaRecord
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.mongo.search import Searcher
from fhir_server.storage.protocol import SearchPage
from fhir_server.storage.writes import Stored


class Reader:
    """The Reader half of the protocol; `_session` is None outside transactions."""

    _session: ClientSession | None = None

    @property
    def _database(self) -> Database[Raw]:
        raise NotImplementedError

    def _edge(self) -> AbstractContextManager[None]:
        """Around every command: outside a transaction driver errors become ours at once."""
        return edge()

    def _before(self) -> None:
        """Called before every command; a transaction sends what it put off."""

    def _collection(self, name: str) -> Collection[Raw]:
        return self._database[name]

    def read(self, type: str, id: str) -> Stored | None:
        """See Reader.read."""
        with self._edge():
            self._before()
            raw = self._read_one(f"{type}/{id}")
        return None if raw is None or "version" not in raw else layout.stored(raw)

    def _read_one(self, address: str) -> Raw | None:
        return self._collection(indexes.RESOURCES).find_one({"_id": address}, layout.STORED, session=self._session)

    def read_many(self, addresses: Sequence[str]) -> dict[str, Stored]:
        """See Reader.read_many."""
        wanted = list(dict.fromkeys(addresses))
        if not wanted:
            return {}
        with self._edge():
            self._before()
            return {raw["_id"]: layout.stored(raw) for raw in self._read_all(wanted) if "version" in raw}

    def _read_all(self, addresses: Sequence[str]) -> list[Raw]:
        found = self._collection(indexes.RESOURCES).find(
            {"_id": {"$in": list(addresses)}}, layout.STORED, session=self._session, batch_size=len(addresses) + 1
        )
        return list(found)

    def search(self, search: Search) -> SearchPage:
        """See Reader.search."""
        with self._edge():
            self._before()
            return Searcher(self._collection(indexes.RESOURCES), self._session).run(search)

    def explain(self, search: Search) -> list[dict[str, Any]]:
        """See Reader.explain: each command of the search with the plan that the database chose."""
        with self._edge():
            self._before()
            commands = Searcher(self._collection(indexes.RESOURCES), self._session).commands(search)
            plans = []
            for command in commands:
                # A plan is asked outside the transaction, where explain is allowed.
                answer: Mapping[str, Any] = self._database.command("explain", command, verbosity="queryPlanner")
                plans.append({"command": command, "plan": _plan(answer)})
            return plans

    def get_meta(self, key: str) -> Any | None:
        """See Store.get_meta."""
        with self._edge():
            self._before()
            raw = self._collection(indexes.META).find_one({"_id": key}, session=self._session)
        return None if raw is None else json.loads(MetaRecord.load(raw).value)


def _plan(answer: Mapping[str, Any]) -> Any:
    """The chosen plan out of an answer to `explain`, whatever the shape of the server."""
    if "queryPlanner" in answer:
        return answer["queryPlanner"].get("winningPlan", answer["queryPlanner"])
    if "stages" in answer:
        return [
            {name: value["queryPlanner"].get("winningPlan")} if name == "$cursor" else {name: value}
            for stage in answer["stages"]
            for name, value in stage.items()
            if name in ("$cursor", "$unionWith", "$sort", "$group")
        ]
    return {name: value for name, value in answer.items() if name in ("shards", "ok")}
