"""Binary by its owner: content is in no compartment and says nothing that a search could ask for, so it is seen by
those who see what it belongs to. R4 binary.html#security, #security-context.

The owner is what `securityContext` names. Without one, a Binary belongs to all the resources that point at it
(resources/content.py says what points), and is seen by those who see any of them. Since pointing at content shows it,
whoever does not see everything may only point at what they see already (writing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fhir_server.gzipped import inflate
from fhir_server.resources import jsonformat
from fhir_server.resources.references import literal
from fhir_server.resources.types import TYPE_SET
from fhir_server.search import ast
from fhir_server.search.documents import Document
from fhir_server.search.registry import content_number
from fhir_server.storage.protocol import Reader, Store
from fhir_server.storage.writes import Stored, Version


def owner(binary: Mapping[str, Any], base_urls: Iterable[str]) -> str | None:
    """``Type/id`` of the resource that `securityContext` names; "" when it names none here, None when it is absent."""
    context = binary.get("securityContext")
    if context is None:
        return None
    text = context.get("reference") if isinstance(context, dict) else None
    named = literal(text, tuple(base_urls)) if isinstance(text, str) else None
    if named is None or named[0] not in TYPE_SET or named[0] == "Binary":
        return ""
    return f"{named[0]}/{named[1]}"


def owner_of(
    binary: Mapping[str, Any], version: Stored | Version, reader: Reader, store: Store, base_urls: Iterable[str]
) -> str | None:
    """The `owner` of a version of a Binary; `binary` is its content. One without a securityContext belongs to what the
    Binary belongs to now, or did when it was deleted.
    """
    found = owner(binary, base_urls)
    if found is not None:
        return found
    current: Stored | None = reader.read("Binary", version.id)
    if current is not None and current.body is None:
        current = store.read_version("Binary", version.id, current.version - 1)
    if current is None or current.body is None or current.version == version.version:
        return None
    return owner(jsonformat.parse(inflate(current.body)), base_urls)


def pointing(types: Iterable[str], address: str) -> ast.Node:
    """What resources of these types satisfy that point at the Binary ``Binary/id``."""
    numbers = tuple(content_number(name) for name in types)
    return ast.Exists(numbers, "key", ast.Compare("key", "=", address))


def pointed_at(documents: Sequence[Document]) -> set[str]:
    """Addresses of the Binaries of this server that a resource, given by its documents, points at."""
    number = content_number(documents[0].type)
    return {key for param, key in documents[0].keys if param == number}
