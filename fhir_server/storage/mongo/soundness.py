"""`check`: whether a database is whole, read in order and compared while reading."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pymongo.database import Database

from fhir_server.storage.mongo import indexes
from fhir_server.storage.mongo.compile import CURRENT, INSIDE
from fhir_server.storage.mongo.layout import VERSION_SEPARATOR, Raw


def findings(database: Database[Raw]) -> Iterator[str]:
    """A sentence per finding. Addresses are named, contents are not."""
    yield from indexes.missing(database)
    yield from _versions(database)
    yield from _inner(database)
    yield from _claims(database)


def _versions(database: Database[Raw]) -> Iterator[str]:
    """Versions of each resource are 1, 2, ... up to the current one, each later than the one before."""
    old = _grouped(database)
    pending = next(old, None)
    wanted = {"version": 1, "updated": 1, "state": 1, "body": {"$binarySize": {"$ifNull": ["$body", b""]}}}
    for raw in database[indexes.RESOURCES].find({"version": {"$exists": True}}, wanted).sort("_id", 1):
        address = raw["_id"]
        while pending is not None and pending[0] < address:
            yield f"{pending[0]} has superseded versions and no current one."
            pending = next(old, None)
        history: list[tuple[int, int, int]] = []
        if pending is not None and pending[0] == address:
            history = pending[1]
            pending = next(old, None)
        first = history[0][0] if history else raw["version"]
        numbers = [version for version, _, _ in history] + [raw["version"]]
        if numbers != list(range(first, first + len(numbers))) or first != 1:
            yield f"The versions of {address} have gaps."
        times = [updated for _, updated, _ in history] + [raw["updated"]]
        if any(later <= earlier for earlier, later in pairwise(times)):
            yield f"A version of {address} is not later than the one before."
        if any(until != later for (_, _, until), later in zip(history, times[1:], strict=True)):
            yield f"A version of {address} does not end where the next begins."
        if (raw["state"] == CURRENT) != (raw["body"] > 0):
            yield f"{address} has a state that does not fit its body."
    while pending is not None:
        yield f"{pending[0]} has superseded versions and no current one."
        pending = next(old, None)


def _grouped(database: Database[Raw]) -> Iterator[tuple[str, list[tuple[int, int, int]]]]:
    """(address, [(version, updated, until), ...]) of the history, by address."""
    address = ""
    group: list[tuple[int, int, int]] = []
    for raw in database[indexes.HISTORY].find({}, {"version": 1, "updated": 1, "until": 1}).sort("_id", 1):
        mine = raw["_id"].partition(VERSION_SEPARATOR)[0]
        if mine != address:
            if group:
                yield address, group
            address, group = mine, []
        group.append((raw["version"], raw["updated"], raw["until"]))
    if group:
        yield address, group


def _inner(database: Database[Raw]) -> Iterator[str]:
    """Contained documents and their containers name each other."""
    resources = database[indexes.RESOURCES]
    named: dict[str, Any] = {}
    for raw in resources.find({"state": CURRENT, "inside": {"$exists": True}}, {"inside": 1}):
        named.update(dict.fromkeys(raw["inside"], raw["_id"]))
    for raw in resources.find({"state": INSIDE}, {"container": 1}):
        if named.pop(raw["_id"], None) != raw["container"]:
            yield f"{raw['container']} does not name a contained document that is stored for it."
    for container in sorted(set(named.values())):
        yield f"A contained document of {container} is not stored."


def _claims(database: Database[Raw]) -> Iterator[str]:
    """Every claim belongs to the resource that holds it, and the other way round."""
    held = {raw["_id"]: raw["address"] for raw in database[indexes.CLAIMS].find({})}
    for raw in database[indexes.RESOURCES].find({"state": CURRENT, "claims": {"$exists": True}}, {"claims": 1}):
        for claim in raw["claims"]:
            if held.pop(claim, None) != raw["_id"]:
                yield f"A unique key of {raw['_id']} is not recorded for it."
    for address in sorted(set(held.values())):
        yield f"A unique key is recorded for {address}, which does not hold it."
