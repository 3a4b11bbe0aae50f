"""A shelf of resources to search in memory, for tables of cases.

``shelf(patients)`` extracts and holds resources; ``found(shelf, "Patient?name=eve")`` is the set of ids of
what matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from fhir_server.search import match
from fhir_server.search.extract import Extractor
from fhir_server.search.parse import parse_query
from fhir_server.search.registry import Registry, builtin
from fhir_server.search.resolve import Resolved, resolve
from fhir_server.search.settings import Settings
from terminology import ucum
from terminology.local import Local

BASE = "https://hestia.example/fhir"
NOW = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
TERMINOLOGY = Local()


def settings(**more: Any) -> Settings:
    """The settings of these tests: fixed clock, own terminology."""
    values: dict[str, Any] = {
        "base_urls": (BASE, "http://localhost:8080/fhir"),
        "now": lambda: NOW,
        "terminology": TERMINOLOGY,
        "units": ucum.canonical,
    }
    return Settings(**{**values, **more})


DEFAULT = settings()


def parsed(text: str | bytes) -> Any:
    """JSON with exact decimals."""
    return _DECODER.decode(text)


class Shelf:
    """Resources and their documents."""

    def __init__(self, with_settings: Settings = DEFAULT, registry: Registry | None = None) -> None:
        self.settings = with_settings
        self.registry = registry or builtin()
        self.extractor = Extractor(self.registry, with_settings)
        self.corpus = match.MemoryCorpus()

    def put(self, resource: Mapping[str, Any] | str, updated: int = 0) -> None:
        if isinstance(resource, str):
            resource = parsed(resource)
        address = f"{resource['resourceType']}/{resource['id']}"
        self.corpus.put(self.extractor.documents(resource, address), updated)

    def resolved(self, url: str, handling: str = "lenient", **more: Any) -> Resolved:
        type_name, _, query = url.partition("?")
        types = (type_name,) if type_name else None
        return resolve(
            parse_query(query), types=types, registry=self.registry, settings=self.settings, handling=handling, **more
        )

    def addresses(self, url: str, **more: Any) -> list[str]:
        """Addresses of the matches, in order."""
        return match.search(self.resolved(url, **more).search, self.corpus)

    def included(self, url: str) -> set[str]:
        """Addresses of what `_include` and `_revinclude` add."""
        search = self.resolved(url).search
        return set(match.includes(search, match.search(search, self.corpus), self.corpus))


def shelf(resources: Iterable[Mapping[str, Any]], **more: Any) -> Shelf:
    """A Shelf with these resources; keyword arguments are settings."""
    result = Shelf(settings(**more) if more else DEFAULT)
    for resource in resources:
        result.put(resource)
    return result


def found(on: Shelf, url: str, **more: Any) -> set[str]:
    """Logical ids of the matches."""
    return {address.partition("/")[2] for address in on.addresses(url, **more)}
