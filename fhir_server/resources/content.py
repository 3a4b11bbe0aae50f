"""Where a resource points at content: which Binaries of this server its attachments and references name.

R4 datatypes.html#Attachment, references.html, binary.html#security. Where pointers can be follows from the definitions
of the elements: every `Attachment.url`, and the `reference` of every Reference that may lead to a Binary, at any depth,
in extensions (of primitives as well) and in contained resources, which are part of their container.

No pointers are, although their elements allow it, mentions in records about other records: those of `MENTIONS`. The
access of an owner's readers follows from a pointer (fhir_server/owned.py), and what is said *about* content is often
seen by others than the content: the AuditEvent of a refused look, the Provenance of everything that came with one
message, a Consent that withholds a scan. Neither are copies of other resources (`Bundle.entry.resource`,
`Parameters.parameter.resource`), whose relative URLs may be those of another server, links in narratives, and plain
elements of type uri, url or canonical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from fhir_server import definitions
from fhir_server.resources.references import literal

MENTIONS: Final[Mapping[str, frozenset[str] | None]] = {
    "AuditEvent": None,
    "Binary": None,  # its securityContext is its owner, and nothing that it has
    "Consent.provision.data": frozenset({"reference"}),
    "Linkage.item": frozenset({"resource"}),
    "MeasureReport": frozenset({"evaluatedResource"}),
    "Provenance": None,
    "VerificationResult": frozenset({"target"}),
}
"""Type, or path of a backbone element, to its elements that are no pointers; None: nothing in it is one."""

_POINTER: Final = "pointer"
_CONTAINED: Final = "contained"
Table = dict[str, Any]
"""JSON member -> _POINTER, _CONTAINED or the Table of its type; members that lead to no pointer are absent."""


@cache
def _tables() -> Mapping[str, Table]:
    """The tables of all resource types, complete before anybody sees one of them."""
    made: dict[tuple[str, bool], Table] = {}
    return {name: _table(name, True, made) for name in definitions.resource_types()}


def _table(type_name: str, leads: bool, made: dict[tuple[str, bool], Table]) -> Table:
    """The table of a type or backbone path. `leads`: of a Reference, whether it may be one to a Binary. Types refer to
    themselves, so a table is filled after it is in `made`.
    """
    known = made.get((type_name, leads))
    if known is not None:
        return known
    table = made[type_name, leads] = {}
    mentions = MENTIONS.get(type_name, frozenset())
    if mentions is None:
        return table
    pointer = {"Attachment": "url", "Reference": "reference" if leads else ""}.get(type_name, "")
    structures = definitions.structures()
    for name, element in structures[type_name]["elements"].items():
        if name in mentions:
            continue
        targets = element.get("targets")
        for type_ in [element["ref"]] if "ref" in element else element["types"]:
            key = name + type_[0].upper() + type_[1:] if element.get("choice") else name
            kind = structures.get(type_, {}).get("kind")
            if key == pointer:
                table[key] = _POINTER
            elif type_ == "Resource" and name == "contained":
                table[key] = _CONTAINED
            elif kind in ("complex", "backbone", "profile"):
                table[key] = _table(type_, type_ != "Reference" or targets is None or "Binary" in targets, made)
            if kind == "primitive":
                # Extensions of a primitive are in its sibling with an underscore.
                table["_" + key] = _table("Element", True, made)
    return table


def _of(resource: Mapping[str, Any]) -> Table:
    return _tables().get(resource.get("resourceType", ""), {})


def _find(element: Mapping[str, Any], table: Table, urls: dict[str, None]) -> None:
    for key, value in element.items():
        what = table.get(key)
        if what is None:
            continue
        if what is _POINTER:
            if type(value) is str and "Binary/" in value:
                urls[value] = None
        elif type(value) is dict and what is not _CONTAINED:
            _find(value, what, urls)
        elif type(value) is list:
            for item in value:
                if type(item) is dict:
                    _find(item, _of(item) if what is _CONTAINED else what, urls)


def binaries(resource: Mapping[str, Any], base_urls: Iterable[str] = ()) -> list[str]:
    """The addresses (``Binary/id``) that a resource points at, each once, whatever the form of the URL: relative,
    absolute under one of our bases, with or without a version.
    """
    urls: dict[str, None] = {}
    _find(resource, _of(resource), urls)
    if not urls:
        return []
    bases = tuple(base_urls)
    named = (literal(url, bases) for url in urls)
    return list(dict.fromkeys(f"Binary/{one[1]}" for one in named if one is not None and one[0] == "Binary"))
