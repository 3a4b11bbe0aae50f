"""What goes into a store and what comes out: versions of resources as bytes, with their index entries."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.search.documents import Document as Document
from fhir_server.search.documents import KeyEntry as KeyEntry
from fhir_server.search.documents import RangeEntry as RangeEntry


@dataclass(slots=True)
class Version:
    """One version of one resource, to be appended.

    Shape: `body` is a gzip member (RFC 1952) holding the UTF-8 JSON of the resource, None for a deletion; at most
    `MAX_STORED` bytes. `updated` is microseconds since 1970, a multiple of 1000 (wire precision is milliseconds).
    `method` is POST, PUT, PATCH or DELETE, as Bundle.entry.request of a history has it. `documents[0]` is the resource
    itself;
    empty for a deletion. `claims` are unique keys: text, each held by at most one current resource.
    """

    type: str
    id: str
    version: int
    updated: int
    method: str
    body: bytes | None
    documents: tuple[Document, ...] = ()
    claims: tuple[str, ...] = ()
    registry: int = 0

    @property
    def address(self) -> str:
        return f"{self.type}/{self.id}"

    @property
    def deleted(self) -> bool:
        return self.body is None


@dataclass(slots=True, unsafe_hash=True)
class Stored:
    """One version as a store gives it back. `body` is the gzip member as it was written; None for a deletion.

    Nobody changes one; it is not frozen because that would triple the time to make it, and pages are made of them.
    """

    type: str
    id: str
    version: int
    updated: int
    method: str
    body: bytes | None
    registry: int = 0

    @property
    def address(self) -> str:
        return f"{self.type}/{self.id}"

    @property
    def deleted(self) -> bool:
        return self.body is None


MAX_STORED = 15_000_000
"""Bytes of one stored body, compressed: BSON documents end at 16 MiB. Above it a write is 413 on both stores."""
