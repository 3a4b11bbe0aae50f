"""Versions as MongoDB documents, and back. `docs/storage-mongodb.md` draws them."""

from __future__ import annotations

from typing import Any

from fhir_server import errors
from fhir_server.search.ast import Scalar
from fhir_server.storage.mongo.compile import CURRENT, DELETED, INSIDE, SEPARATOR, base36, prefix_of, sort_text
from fhir_server.storage.writes import MAX_STORED, Document, RangeEntry, Stored, Version

Raw = dict[str, Any]

VERSION_SEPARATOR = "\x1f"
"""Between address and version in `history._id`: below every character of an id, so that versions sort beside their
address."""

STORED: dict[str, Any] = {"type": 1, "id": 1, "version": 1, "updated": 1, "method": 1, "body": 1, "registry": 1}
"""Projection of what `stored` needs."""
KEPT: dict[str, Any] = {**STORED, "s": 1, "claims": 1, "inside": 1}
"""Projection of what an update of a resource needs to know of its predecessor."""

INDEX_MEMBERS = ("k", "r", "o", "inside", "claims")
"""What `index_members` may set."""

# s: 42 bits of milliseconds since 1970, 13 bits of place in the transaction, 8 bits of chance between transactions.
_PLACE_BITS, _CHANCE_BITS = 13, 8


def creation_key(milliseconds: int, place: int, chance: int) -> int:
    """`s`: the order of creation. Two of them may be equal; then `_id` decides."""
    return (milliseconds << (_PLACE_BITS + _CHANCE_BITS)) + (place << _CHANCE_BITS) + (chance & 0xFF)


def version_id(address: str, version: int) -> str:
    """`_id` of a superseded version."""
    return f"{address}{VERSION_SEPARATOR}{version:010d}"


def stored(raw: Raw) -> Stored:
    """A document of `resources` or `history` as the protocol gives it."""
    # BSON's 64-bit integers are a class of their own, which search/match.py would not compare with ours.
    updated = int(raw["updated"])
    return Stored(
        raw["type"], raw["id"], raw["version"], updated, raw["method"], raw.get("body"), raw.get("registry", 0)
    )


def check_size(version: Version) -> None:
    """Raises: TooLarge when the stored form is above what both stores hold."""
    if version.body is not None and len(version.body) > MAX_STORED:
        raise errors.TooLarge("The resource is too large to be stored.")


def resource_document(version: Version, s: int) -> Raw:
    """The document of a current version, a deletion included."""
    raw: Raw = {
        "_id": f"{version.type}/{version.id}",
        "type": version.type,
        "id": version.id,
        "state": CURRENT,
        "version": version.version,
        "updated": version.updated,
        "method": version.method,
        "registry": version.registry,
        "s": s,
    }
    if version.body is None:
        raw["state"] = DELETED
        return raw
    raw["body"] = version.body
    raw.update(index_members(version, s))
    return raw


def index_members(version: Version, s: int) -> Raw:
    """What is replaced when a resource is extracted again: entries, claims, names of contained documents."""
    members: Raw = {}
    if version.documents:
        _add_entries(members, version.documents[0], s, sortable=True)
        if len(version.documents) > 1:
            members["inside"] = [document.address for document in version.documents[1:]]
    if version.claims:
        members["claims"] = list(dict.fromkeys(version.claims))
    return members


def inner_documents(version: Version, s: int) -> list[Raw]:
    """The documents of contained resources: entries and no body."""
    found = []
    for document in version.documents[1:] if version.body is not None else ():
        raw: Raw = {
            "_id": document.address,
            "type": document.type,
            "state": INSIDE,
            "container": version.address,
            "s": s,
        }
        _add_entries(raw, document, s, sortable=False)
        found.append(raw)
    return found


def superseded(raw: Raw, until: int) -> Raw:
    """The document of `history` that the current one `raw` becomes; `until` is the successor's `updated`."""
    old: Raw = {"_id": version_id(raw["_id"], raw["version"]), "until": until}
    for name in ("type", "id", "version", "updated", "method", "registry", "body"):
        if name in raw:
            old[name] = raw[name]
    return old


def entries_of(raw: Raw) -> tuple[list[tuple[int, str]], list[RangeEntry]]:
    """The entries that a document holds."""
    keys = []
    for text in raw.get("k", ()):
        param, _, key = text.partition(SEPARATOR)
        keys.append((int(param, 36), key))
    ranges: list[RangeEntry] = []
    for one in raw.get("r", ()):
        param, _, key = one["k"].partition(SEPARATOR)
        ranges.append((int(param, 36), key, one["l"], one["h"], one["u"]))
    return keys, ranges


def _add_entries(raw: Raw, document: Document, s: int, *, sortable: bool) -> None:
    if document.keys:
        raw["k"] = sorted({prefix_of(param) + key for param, key in document.keys})
    if document.ranges:
        raw["r"] = [
            {"k": prefix_of(param) + key, "l": low, "h": high, "u": unit}
            for param, key, low, high, unit in sorted(set(document.ranges), key=range_order)
        ]
        if sortable:
            extremes = _extremes(document.ranges)
            if extremes:
                raw["o"] = {
                    base36(param): {
                        "a": sort_text(low, s, descending=False),
                        "d": sort_text(high, s, descending=True),
                    }
                    for param, (low, high) in extremes.items()
                }


def range_order(entry: RangeEntry) -> tuple[Any, ...]:
    """Sorts range entries whose bounds may be of two types."""
    param, key, low, high, unit = entry
    return (param, key, isinstance(low, str), low, isinstance(high, str), high, unit)


def _extremes(ranges: list[RangeEntry]) -> dict[int, tuple[Scalar, Scalar]]:
    """(lowest low, highest high) of each param that a `_sort` may name: not of composites and positions."""
    found: dict[int, tuple[Scalar, Scalar]] = {}
    for param, key, low, high, _ in ranges:
        if not key or SEPARATOR in key or type(low) is not type(high):
            continue
        known = found.get(param)
        if known is None:
            found[param] = (low, high)
        elif type(known[0]) is type(low):
            found[param] = (min(known[0], low), max(known[1], high))
    return found
