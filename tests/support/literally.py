"""JSON compared as it is written: number literals digit for digit, members in their order."""

from __future__ import annotations

import json
from typing import Any


class Literal(str):
    """A number as it is written, different from a string of the same text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and str.__eq__(self, other)

    __hash__ = str.__hash__


def literally(text: bytes) -> Any:
    """The value with every number as its literal, and every object as the list of its members."""
    return json.loads(text, parse_float=Literal, parse_int=Literal, object_pairs_hook=list)


def unordered(text: bytes) -> Any:
    """The value with every number as its literal; members in any order are equal. meta without what the server sets."""
    value = json.loads(text, parse_float=Literal, parse_int=Literal)
    meta = {name: one for name, one in value.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**{name: one for name, one in value.items() if name != "meta"}, **({"meta": meta} if meta else {})}


def without_version(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """A resource as `literally` has it, without what the server sets: meta.versionId and meta.lastUpdated."""
    found = []
    for name, value in members:
        if name == "meta":
            value = [member for member in value if member[0] not in ("versionId", "lastUpdated")]
            if not value:
                continue
        found.append((name, value))
    return found
