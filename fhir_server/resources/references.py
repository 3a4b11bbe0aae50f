"""References in resources: walk them, rewrite them, tell literal, logical, local and conditional ones apart.

R4 references.html, http.html#trules (what a transaction rewrites), bundle.html#references. The walk follows R4's
definitions: an `Identifier.value` that looks like a urn is text and stays; an element of type uri, url, oid, uuid or
canonical, a Reference.reference and a link of a narrative are rewritten, in extensions and contained resources, too.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from typing import Any, Final

from fhir_server import definitions

_LEAF: Final = "leaf"
_TEXT: Final = "div"
_RESOURCE: Final = "resource"
_URIS: Final = frozenset({"uri", "url", "oid", "uuid", "canonical"})
_LINK: Final = re.compile(r"""(\b(?:href|src)\s*=\s*)(["'])(.*?)\2""", re.IGNORECASE | re.DOTALL)
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?[^#]+")
_LITERAL: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?", re.ASCII)

Table = dict[str, Any]
"""JSON member -> _LEAF, _TEXT, _RESOURCE or the Table of its type; members that lead to no reference are absent."""


def _table(type_name: str) -> Table:
    """The table of a type. Types refer to themselves, so it is filled after it is known. Call it through `_of`."""
    known = _TABLES.get(type_name)
    if known is not None:
        return known
    table: Table = {}
    _TABLES[type_name] = table
    structures = definitions.structures()
    for name, element in structures[type_name]["elements"].items():
        for type_ in [element["ref"]] if "ref" in element else element["types"]:
            key = name + type_[0].upper() + type_[1:] if element.get("choice") else name
            kind = structures.get(type_, {}).get("kind")
            if type_ in _URIS or (type_name == "Reference" and name == "reference"):
                table[key] = _LEAF
            elif type_ == "xhtml":
                table[key] = _TEXT
            elif type_ == "Resource":
                table[key] = _RESOURCE
            elif kind in ("complex", "backbone", "profile"):
                table[key] = _table(type_)
            if kind == "primitive":
                # Extensions of a primitive are in its sibling with an underscore.
                table["_" + key] = _table("Element")
    return table


_TABLES: dict[str, Table] = {}
_COMPLETE: dict[str, Table] = {}
"""Tables that are filled with all that they lead to; others are seen by the thread alone that fills them."""
_FILLING: Final = threading.Lock()


def rewrite(resource: MutableMapping[str, Any], mapping: Mapping[str, str]) -> bool:
    """Replaces, in place, every reference, uri and narrative link that `mapping` names. Whether there was one.

    `mapping`: what entries of a Bundle are known by (fullUrl, or a conditional reference) to what they are now, such as
    ``{"urn:uuid:6f…": "Patient/7"}``; its keys that are urns are in lower case, and urns are found in any case.
    ``#local`` references stay as they are.
    """
    return _rewrite(resource, _of(resource), mapping, mapping.get)


def rewritten(resource: dict[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """`rewrite` on a copy: for what depends on stored state, and so may be done again."""
    result = copy.deepcopy(resource)
    rewrite(result, mapping)
    return result


def _of(resource: Mapping[str, Any]) -> Table:
    name = resource.get("resourceType")
    if not isinstance(name, str) or name not in definitions.structures():
        return {}
    found = _COMPLETE.get(name)
    if found is None:
        with _FILLING:
            found = _COMPLETE[name] = _table(name)
    return found


def _rewrite(
    element: MutableMapping[str, Any], table: Table, mapping: Mapping[str, str], get: Callable[[str], str | None]
) -> bool:
    changed = False
    for key, value in element.items():
        what = table.get(key)
        if what is None:
            continue
        kind = type(value)
        if what is _LEAF:
            if kind is str:
                new = get(value)
                if new is None and value[:4] in _URN:
                    new = get(value.lower())
                if new is not None:
                    element[key] = new
                    changed = True
            elif kind is list:
                for index, item in enumerate(value):
                    if type(item) is str:
                        new = get(item) or (get(item.lower()) if item[:4] in _URN else None)
                        if new is not None:
                            value[index] = new
                            changed = True
        elif what is _TEXT:
            if kind is str:
                text = _rewrite_links(value, mapping)
                if text is not value:
                    element[key] = text
                    changed = True
        elif kind is dict:
            if _rewrite(value, _of(value) if what is _RESOURCE else what, mapping, get):
                changed = True
        elif kind is list:
            for item in value:
                if type(item) is dict and _rewrite(item, _of(item) if what is _RESOURCE else what, mapping, get):
                    changed = True
    return changed


_URN: Final = frozenset(a + b + c + ":" for a in "uU" for b in "rR" for c in "nN")


def _lookup(text: str, mapping: Mapping[str, str]) -> str | None:
    found = mapping.get(text)
    if found is None and text[:4] in _URN:
        found = mapping.get(text.lower())
    return found


def _rewrite_links(div: str, mapping: Mapping[str, str]) -> str:
    if "href" not in div and "src" not in div and "HREF" not in div and "SRC" not in div:
        return div
    changed = False

    def replace(match: re.Match[str]) -> str:
        nonlocal changed
        new = _lookup(match[3], mapping)
        if new is None:
            return match[0]
        changed = True
        return f"{match[1]}{match[2]}{new}{match[2]}"

    text = _LINK.sub(replace, div)
    return text if changed else div


def walk(resource: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every Reference of a resource that has a `reference`, contained resources included: (the Reference, its
    FHIRPath).
    """
    yield from _walk(resource, _of(resource), str(resource.get("resourceType", "")))


def _walk(element: Mapping[str, Any], table: Table, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for key, value in element.items():
        what = table.get(key)
        if what is None or what is _LEAF or what is _TEXT:
            continue
        items = value if isinstance(value, list) else (value,)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                continue
            of = _of(item) if what is _RESOURCE else what
            here = f"{path}.{key}[{index}]" if isinstance(value, list) else f"{path}.{key}"
            if of is _TABLES.get("Reference") and isinstance(item.get("reference"), str):
                yield item, here
            yield from _walk(item, of, here)


def urns(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(FHIRPath, urn) of each Reference to a ``urn:uuid:`` or ``urn:oid:``: what is left after `rewrite` is
    dangling.
    """
    return [
        (f"{path}.reference", item["reference"])
        for item, path in walk(resource)
        if item["reference"][:9].lower() in ("urn:uuid:", "urn:oid:2", "urn:oid:1", "urn:oid:0")
    ]


def conditional_references(resource: Mapping[str, Any]) -> list[str]:
    """The conditional references (``Patient?identifier=s|v``) of a resource, each once. R4 http.html#trules."""
    found: dict[str, None] = {}
    for item, _ in walk(resource):
        text = item["reference"]
        if "?" in text and _CONDITIONAL.fullmatch(text):
            found[text] = None
    return list(found)


def split_conditional(text: str) -> tuple[str, str]:
    """(type, query) of a conditional reference."""
    type_name, _, query = text.partition("?")
    return type_name, query


def literal(text: str, base_urls: Iterable[str] = ()) -> tuple[str, str, str | None] | None:
    """(type, id, version or None) of a literal reference to this server: relative, or absolute under one of its bases.

    None for anything else: other servers, urns, local and conditional references.
    """
    for base in base_urls:
        if text.startswith(base) and text[len(base) : len(base) + 1] == "/":
            text = text[len(base) + 1 :]
            break
    match = _LITERAL.fullmatch(text)
    if match is None or match[1] not in _types():
        return None
    return match[1], match[2], match[3]


@cache
def _types() -> frozenset[str]:
    return frozenset(definitions.resource_types())


def literal_targets(resource: Mapping[str, Any], base_urls: Iterable[str] = ()) -> list[tuple[str, str]]:
    """(``Type/id``, FHIRPath) of each literal reference to this server: what referential integrity asks about."""
    found = []
    bases = tuple(base_urls)
    for item, path in walk(resource):
        named = literal(item["reference"], bases)
        if named is not None:
            found.append((f"{named[0]}/{named[1]}", f"{path}.reference"))
    return found
