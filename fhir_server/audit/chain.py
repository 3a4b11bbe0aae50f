"""Hash chains of AuditEvents: each says which one is before it, under a key that is not in the database.

One chain per writing process, so that writers do not wait for each other. The hash is HMAC-SHA256 (RFC 2104) over the
previous hash and the event's canonical JSON. Anchors tie the heads of all chains together, in the store and in a file.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fhir_server.appendonly import EXTENSION
from fhir_server.storage.protocol import Store

JSON = dict[str, Any]

HEADS: Final = "audit/chain/"
"""Records of the store: chain id -> where it ends."""
ANCHORS: Final = "audit/anchor/"
LAST_ANCHOR: Final = "audit/last-anchor"
ANCHORS_FILE: Final = "anchors.ndjson"
START: Final = ""
"""What the first event of a chain has before it."""

_PURPOSE: Final = b"hestia audit chain 1"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of chains. `id` is a fingerprint that tells keys apart and tells nothing about them."""

    id: str
    secret: bytes

    @classmethod
    def derive(cls, master: bytes) -> Key:
        """The chain key of a master key (32 bytes)."""
        secret = HKDF(hashes.SHA256(), 32, None, _PURPOSE).derive(master)
        return cls(sha256(b"id" + secret).hexdigest()[:8], secret)

    def sign(self, previous: str, value: Any) -> str:
        """The hash of a JSON value that follows `previous`, as hex."""
        data = previous.encode() + b"\n" + msgspec.json.encode(value, order="sorted")
        return hmac.new(self.secret, data, sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends. `key` is the id of its key, `at` when that was written (microseconds)."""

    sequence: int
    hash: str
    key: str
    at: int = 0

    def as_json(self) -> JSON:
        return {"sequence": self.sequence, "hash": self.hash, "key": self.key, "at": self.at}

    @classmethod
    def of(cls, record: JSON) -> Head:
        return cls(record["sequence"], record["hash"], record["key"], record.get("at", 0))


@dataclass(frozen=True, slots=True)
class Place:
    """What an AuditEvent says about its place in a chain."""

    chain: str
    sequence: int
    previous: str
    hash: str


def event_id(chain: str, sequence: int) -> str:
    """The logical id of an event of a chain: sorts as the chain goes."""
    return f"{chain}-{sequence:010d}"


def linked(event: JSON, chain: str, sequence: int, previous: str, key: Key) -> tuple[JSON, str]:
    """The event with its id and its place in the chain, and its hash."""
    parts: list[JSON] = [
        {"url": "chain", "valueString": chain},
        {"url": "sequence", "valueInteger": sequence},
        {"url": "previous", "valueString": previous or "-"},
    ]
    extension: JSON = {"url": EXTENSION, "extension": parts}
    resource = {**event, "id": event_id(chain, sequence), "extension": [extension]}
    found = key.sign(previous, signed(resource))
    parts.append({"url": "hash", "valueString": found})
    return resource, found


def signed(resource: JSON) -> JSON:
    """What the hash is of: everything but itself, and the version and time that the store gives."""
    result = {name: value for name, value in resource.items() if name not in ("meta", "extension")}
    meta = {
        name: value for name, value in (resource.get("meta") or {}).items() if name not in ("versionId", "lastUpdated")
    }
    if meta:
        result["meta"] = meta
    result["extension"] = [_unsigned(one) for one in resource.get("extension") or ()]
    return result


def _unsigned(extension: Any) -> Any:
    if not isinstance(extension, dict) or extension.get("url") != EXTENSION:
        return extension
    parts = [one for one in extension.get("extension") or () if one.get("url") != "hash"]
    return {**extension, "extension": parts}


def place(resource: JSON) -> Place | None:
    """The place that an event claims; None for one that is in no chain. Raises ValueError for an unreadable claim."""
    for extension in resource.get("extension") or ():
        if isinstance(extension, dict) and extension.get("url") == EXTENSION:
            break
    else:
        return None
    try:
        parts = {one["url"]: one for one in extension["extension"]}
        previous = str(parts["previous"]["valueString"])
        return Place(
            str(parts["chain"]["valueString"]),
            int(parts["sequence"]["valueInteger"]),
            START if previous == "-" else previous,
            str(parts["hash"]["valueString"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("The place in the chain cannot be read.") from error


def anchor(number: int, at: int, previous: str, heads: dict[str, Head], key: Key) -> JSON:
    """An anchor: the heads that moved since the one before, tied to it."""
    record: JSON = {
        "number": number,
        "at": at,
        "previous": previous,
        "key": key.id,
        "heads": {chain: head.as_json() for chain, head in sorted(heads.items())},
    }
    record["hash"] = key.sign(previous, record)
    return record


def is_genuine(record: JSON, keys: dict[str, Key]) -> bool:
    """Whether an anchor was made with one of the keys, and not changed since."""
    key = keys.get(record.get("key", ""))
    unsigned = {name: value for name, value in record.items() if name != "hash"}
    return key is not None and hmac.compare_digest(
        key.sign(str(record.get("previous")), unsigned), str(record.get("hash"))
    )


def anchor_key(number: int) -> str:
    """The record of an anchor."""
    return f"{ANCHORS}{number:010d}"


def anchors(store: Store) -> Iterator[tuple[str, JSON]]:
    """The anchors of a store by their records, in order; a thousand at a time."""
    last = store.get_meta(LAST_ANCHOR)
    expected = last["number"] if last is not None else 0
    page = 0
    while True:
        found = store.meta_items(f"{ANCHORS}{page:07d}")
        yield from found.items()
        if not found and page * 1000 > expected:
            return
        page += 1
