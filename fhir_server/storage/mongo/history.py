"""History of an instance, a type and the system: the current versions and the superseded ones as one ordered list.

R4 http.html#history. The watermark makes pages stable: a write carries a time from before its commit, so a page that
showed everything could later gain an entry in its middle. Every write leaves a marker in `open_writes` before it takes
its time, and removes it with its commit; a page ends below the oldest marker.

Order of the reads, each on the newest majority: markers, then current versions, then superseded ones. A version that is
superseded meanwhile is found at least once; one that is found twice is dropped.
"""

from __future__ import annotations

from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from fhir_server.storage.mongo import indexes, layout
from fhir_server.storage.mongo.compile import at_least, at_most
from fhir_server.storage.mongo.layout import Raw
from fhir_server.storage.protocol import HistoryPage, HistoryQuery

Position = tuple[int, str, str, int]


def read_history(database: Database[Raw], query: HistoryQuery, lease_s: float) -> HistoryPage:
    """One page. Two commands, and one for the total."""
    # One causal session: what made a marker disappear is in the majority that the page reads.
    with database.client.start_session(causal_consistency=True) as session:
        watermark = read_watermark(database, session, lease_s)
        until = watermark if query.until is None else query.until
        if query.id is not None:
            current, old = _instance(query)
        else:
            current, old = _ordered(query, until)
        page = HistoryPage(watermark=until)
        if query.total:
            page.total = _count(database, session, current, old)
        if query.count <= 0:
            return page
        size = query.count + 1
        current, old = _before(query, current, old)
        order = {"updated": -1, "_id": -1}
        stages: list[dict[str, Any]] = [{"$sort": order}, {"$limit": size}, {"$project": layout.STORED}]
        pipeline = [
            {"$match": current},
            *stages,
            {"$unionWith": {"coll": indexes.HISTORY, "pipeline": [{"$match": old}, *stages]}},
        ]
        raws = list(database[indexes.RESOURCES].aggregate(pipeline, session=session, batchSize=2 * size + 1))
    found = {(raw["updated"], raw["type"], raw["id"], raw["version"]): raw for raw in raws}
    order_of = sorted(found, reverse=True)
    page.entries = [layout.stored(found[position]) for position in order_of[: query.count]]
    if len(order_of) > query.count:
        page.next = order_of[query.count - 1]
    if query.id is not None and page.entries and query.until is None:
        # All versions of one resource are in the order of their commits: none can appear below another.
        page.watermark = max(page.watermark, page.entries[0].updated)
    return page


def read_watermark(database: Database[Raw], session: ClientSession | None, lease_s: float) -> int:
    """The time at or below which nothing can be committed any more, in microseconds.

    The database reads its clock before the markers, and a write takes its time after its marker is there: a write whose
    marker is not seen has a later time.
    """
    markers = database.get_collection(indexes.STORE, read_concern=ReadConcern("local"))
    pipeline: list[dict[str, Any]] = [
        {"$match": {"_id": "store"}},
        {"$lookup": {"from": indexes.OPEN_WRITES, "pipeline": [{"$match": {}}], "as": "open"}},
        {"$project": {"now": {"$toLong": "$$NOW"}, "open": 1}},
    ]
    answer = next(iter(markers.aggregate(pipeline, session=session)))
    now_ms: int = answer["now"]
    oldest = now_ms
    for marker in answer["open"]:
        if marker["opened"] < now_ms - lease_s * 1000:
            # Its writer is gone. Removing the marker first makes sure: a writer that lives after all cannot commit
            # without it.
            database[indexes.OPEN_WRITES].delete_one({"_id": marker["_id"]}, session=session)
        else:
            oldest = min(oldest, marker["opened"])
    return oldest * 1000 - 1


def _instance(query: HistoryQuery) -> tuple[dict[str, Any], dict[str, Any]]:
    address = f"{query.type}/{query.id}"
    bounds = {"$gte": address + layout.VERSION_SEPARATOR, "$lt": address + " "}  # the blank follows U+001F
    times = _times(query, query.until)
    current: dict[str, Any] = {"_id": address, "version": {"$exists": True}, **times}
    return current, _superseded(query, {"_id": bounds, **times})


def _ordered(query: HistoryQuery, until: int) -> tuple[dict[str, Any], dict[str, Any]]:
    times = _times(query, until)
    scope: dict[str, Any] = times if query.type is None else {"type": query.type, **times}
    return dict(scope), _superseded(query, dict(scope))


def _times(query: HistoryQuery, until: int | None) -> dict[str, Any]:
    updated: dict[str, Any] = {}
    if until is not None:
        updated.update(at_most(until))
    if query.since is not None:
        updated.update(at_least(query.since))
    if query.at is not None:
        updated["$lt"] = min(query.at[1], updated.get("$lt", query.at[1]))
    return {"updated": updated} if updated else {}


def _superseded(query: HistoryQuery, condition: dict[str, Any]) -> dict[str, Any]:
    if query.at is not None:
        condition["until"] = {"$gt": query.at[0]}
    return condition


def _before(query: HistoryQuery, current: dict[str, Any], old: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both conditions, below the position `query.before`."""
    if query.before is None:
        return current, old
    updated, type, id, version = query.before
    address = f"{type}/{id}"
    earlier = {"updated": {"$lt": updated}}
    bound = {"updated": at_most(updated)}
    above = {"$or": [earlier, {"_id": {"$lt": address}}, {"_id": address, "version": {"$lt": version}}]}
    below = {"$or": [earlier, {"_id": {"$lt": layout.version_id(address, version)}}]}
    return {"$and": [current, bound, above]}, {"$and": [old, bound, below]}


def _count(database: Database[Raw], session: ClientSession, current: dict[str, Any], old: dict[str, Any]) -> int:
    pipeline = [
        {"$match": current},
        {"$group": {"_id": None, "n": {"$sum": 1}}},
        {
            "$unionWith": {
                "coll": indexes.HISTORY,
                "pipeline": [{"$match": old}, {"$group": {"_id": None, "n": {"$sum": 1}}}],
            }
        },
    ]
    return sum(int(one["n"]) for one in database[indexes.RESOURCES].aggregate(pipeline, session=session))
