"""Compartments in terms of the search tree and of index entries. R4 compartmentdefinition.html."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.resources import compartments
from fhir_server.search.ast import Compare, Exists, Field, Node, Or
from fhir_server.search.documents import Document
from fhir_server.search.registry import Registry


def node(registry: Registry, name: str, id: str, types: Iterable[str]) -> Node:
    """The predicate "is in the compartment `name`/`id`" for resources of `types`."""
    address = f"{name}/{id}"
    numbers: dict[int, None] = {}
    own = False
    for type_ in types:
        own = own or type_ == name
        for code in compartments.member_params(name, type_):
            param = registry.param(type_, code)
            if param is not None:
                numbers.update(dict.fromkeys(param.numbers))
    parts: list[Node] = []
    if numbers:
        parts.append(Exists(tuple(numbers), "key", Compare("key", "=", address)))
    if own:
        parts.append(Field("address", "=", address))
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def memberships(registry: Registry, document: Document) -> set[tuple[str, str]]:
    """The compartments, (type, id), that the resource of an extracted document is in."""
    found: set[tuple[str, str]] = set()
    own, _, id_ = document.address.partition("/")
    for name in compartments.names():
        if document.type == name:
            found.add((own, id_))
        if document.type not in compartments.member_types(name):
            continue
        wanted = {
            number
            for code in compartments.member_params(name, document.type)
            if (param := registry.param(document.type, code)) is not None
            for number in param.numbers
        }
        prefix = f"{name}/"
        found.update(
            (name, key[len(prefix) :])
            for number, key in document.keys
            if number in wanted and key.startswith(prefix) and "#" not in key
        )
    return found
