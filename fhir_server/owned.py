"""Binary by its owner: content is in no compartment and says nothing that a search could ask for, so it is seen by
those who see what it belongs to. R4 binary.html#security, #security-context.

The owner is what `securityContext` names. Without one, a Binary belongs to the documents whose attachments point at
it; the one search parameter for such pointers is DocumentReference's `location`. Since pointing at content shows it,
whoever does not see everything may only point at what they see already (writing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fhir_server.resources.references import literal
from fhir_server.resources.types import TYPE_SET
from fhir_server.search import ast
from fhir_server.search.documents import Document
from fhir_server.search.registry import Registry

POINTERS: Final = (("DocumentReference", "location"),)
"""Search parameters whose values are URLs of content."""


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


def pointing(registry: Registry, address: str, base_urls: Sequence[str]) -> list[tuple[str, ast.Node]]:
    """Per type: what its resources satisfy that point at the Binary ``Binary/id``."""
    urls = (address, *(f"{base}/{address}" for base in base_urls))
    found: list[tuple[str, ast.Node]] = []
    for name, code in POINTERS:
        param = registry.param(name, code)
        assert param is not None
        found.append((name, ast.Exists(param.numbers, "key", ast.Compare("key", "in", urls))))
    return found


def pointed_at(registry: Registry, documents: Sequence[Document], base_urls: Sequence[str]) -> set[str]:
    """Addresses of the Binaries of this server that a resource, given by its documents, points at."""
    numbers = {
        number
        for name, code in POINTERS
        if name == documents[0].type and (param := registry.param(name, code)) is not None
        for number in param.numbers
    }
    if not numbers:
        return set()
    bases = tuple(base_urls)
    named = (literal(key, bases) for number, key in documents[0].keys if number in numbers)
    return {f"Binary/{one[1]}" for one in named if one is not None and one[0] == "Binary"}
